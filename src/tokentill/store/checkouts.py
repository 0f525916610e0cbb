"""Reads and writes `checkouts`, and finds which of Stripe's customers a user is."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tokentill.core.stripe.checkouts import Checkout
from tokentill.store.db import Conn

_COLUMNS = """user_id, checkout_id, request_hash, offer_key, quantity, params, attempt, state, session_id, url,
              expires_at, created_at"""


def find(conn: Conn, user_id: UUID, checkout_id: UUID) -> Checkout | None:
    """Return one checkout of one user."""
    sql = f"SELECT {_COLUMNS} FROM checkouts WHERE checkout_id = %s AND user_id = %s"
    with conn.cursor(row_factory=class_row(Checkout)) as cursor:
        return cursor.execute(sql.encode(), [checkout_id, user_id]).fetchone()


def ask(conn: Conn, checkout: Checkout, *, now: datetime) -> Checkout:
    """Write a checkout before Stripe is asked, and return it as it stands: whoever came first decides.

    One that was refused is asked anew, as this one says, with the next attempt's key.
    """
    sql = """
        INSERT INTO checkouts AS c (user_id, checkout_id, request_hash, offer_key, quantity, params, attempt, state,
                                    created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, 'asked', %s, %s)
        ON CONFLICT ON CONSTRAINT checkouts_pkey DO UPDATE
           SET request_hash = excluded.request_hash, offer_key = excluded.offer_key, quantity = excluded.quantity,
               params = excluded.params, attempt = c.attempt + 1, state = 'asked', detail = NULL,
               updated_at = excluded.updated_at
         WHERE c.state = 'refused'
    """
    c = checkout
    conn.execute(
        sql,
        [c.user_id, c.checkout_id, c.request_hash, c.offer_key, c.quantity, Jsonb(dict(c.params)), c.attempt, now, now],
    )
    found = find(conn, c.user_id, c.checkout_id)
    assert found is not None, checkout
    return found


def opened(
    conn: Conn, checkout: Checkout, *, session_id: str, url: str, expires_at: datetime | None, now: datetime
) -> Checkout:
    """Write the session that Stripe made, unless another process has, and return the checkout as it stands."""
    sql = """
        UPDATE checkouts
           SET state = 'open', session_id = %s, url = %s, expires_at = %s, updated_at = %s
         WHERE checkout_id = %s AND user_id = %s AND attempt = %s AND state = 'asked'
    """
    conn.execute(
        sql, [session_id, url, expires_at, now, checkout.checkout_id, checkout.user_id, checkout.attempt]
    )  # fmt: skip
    found = find(conn, checkout.user_id, checkout.checkout_id)
    assert found is not None, checkout
    return found if found.state == "open" else replace(checkout, session_id=session_id, url=url, expires_at=expires_at)


def refused(conn: Conn, checkout: Checkout, detail: str, *, now: datetime) -> None:
    """Write that Stripe will not make it, unless it has been asked anew meanwhile."""
    sql = """
        UPDATE checkouts
           SET state = 'refused', detail = %s, updated_at = %s
         WHERE checkout_id = %s AND user_id = %s AND attempt = %s AND state = 'asked'
    """
    conn.execute(sql, [detail, now, checkout.checkout_id, checkout.user_id, checkout.attempt])


def customer_of(conn: Conn, user_id: UUID) -> str | None:
    """Return the customer that this user is in Stripe, the latest one where there are several."""
    sql = """
        SELECT customer_id
          FROM stripe_customers
         WHERE user_id = %s
         ORDER BY created_at DESC, customer_id DESC
         LIMIT 1
    """
    row = conn.execute(sql, [user_id]).fetchone()
    return None if row is None else str(row[0])
