"""Reads and writes `token_subscriptions`, and finds whose a Stripe customer or subscription is."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tokentill.core.drips import Subscription
from tokentill.store.db import Conn

_COLUMNS = """user_id, external_id, subscription_id, plan_key, status, billed_by, anchor, anchor_cycle, is_anchor_known,
              cycle_number, stripe_customer_id"""


def establish(conn: Conn, subscription: Subscription, *, now: datetime) -> Subscription:
    """Write the subscription unless it is known, and return it as it is known.

    Whoever comes first sets the anchor, so that two events of one subscription, handled at the same moment by two
    processes, count its cycles alike.
    """
    sql = """
        INSERT INTO token_subscriptions (user_id, external_id, subscription_id, plan_key, status, billed_by, anchor,
                                         anchor_cycle, is_anchor_known, next_drip_at, stripe_customer_id, created_at,
                                         updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT token_subscriptions_pkey DO NOTHING
    """
    s = subscription
    conn.execute(
        sql,
        [s.user_id, s.external_id, s.subscription_id, s.plan_key, s.status, s.billed_by, s.anchor, s.anchor_cycle,
         s.is_anchor_known, s.anchor if s.billed_by == "clock" else None, s.stripe_customer_id, now, now],
    )  # fmt: skip
    found = find(conn, s.user_id, s.subscription_id)
    assert found is not None, subscription
    return found


def correct_anchor(conn: Conn, subscription: Subscription, *, now: datetime) -> bool:
    """Replace a provisional anchor by a known one; False when another event has done so already."""
    sql = """
        UPDATE token_subscriptions
           SET anchor = %s, anchor_cycle = %s, is_anchor_known = true, updated_at = %s
         WHERE user_id = %s AND subscription_id = %s AND NOT is_anchor_known
    """
    s = subscription
    return conn.execute(sql, [s.anchor, s.anchor_cycle, now, s.user_id, s.subscription_id]).rowcount == 1


def find(conn: Conn, user_id: UUID, subscription_id: str) -> Subscription | None:
    """Return one subscription of one user."""
    sql = f"SELECT {_COLUMNS} FROM token_subscriptions WHERE user_id = %s AND subscription_id = %s"
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [user_id, subscription_id]).fetchone()


def of_user(conn: Conn, user_id: UUID) -> list[Subscription]:
    """Return a user's subscriptions, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM token_subscriptions WHERE user_id = %s ORDER BY created_at, subscription_id"
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [user_id]).fetchall()


def begin_anew(conn: Conn, before: Subscription, after: Subscription, *, now: datetime) -> bool:
    """Set plan and anchor after a change of either; False when another event has changed them meanwhile."""
    sql = """
        UPDATE token_subscriptions
           SET plan_key = %s, anchor = %s, anchor_cycle = %s, is_anchor_known = true, updated_at = %s
         WHERE user_id = %s AND subscription_id = %s AND plan_key = %s AND anchor = %s AND anchor_cycle = %s
    """
    params = [after.plan_key, after.anchor, after.anchor_cycle, now, before.user_id, before.subscription_id,
              before.plan_key, before.anchor, before.anchor_cycle]  # fmt: skip
    return conn.execute(sql, params).rowcount == 1


def due(conn: Conn, *, at: datetime, after: Subscription | None, limit: int = 1000) -> list[Subscription]:
    """Return the subscriptions that our clock owes a cycle by `at`, in order of user; `after` goes on from there."""
    sql = f"""
        SELECT {_COLUMNS}
          FROM token_subscriptions
         WHERE billed_by = 'clock' AND status = 'active' AND next_drip_at <= %s
           AND (%s::uuid IS NULL OR (user_id, subscription_id) > (%s, %s))
         ORDER BY user_id, subscription_id
         LIMIT %s
    """
    last = (after.user_id, after.user_id, after.subscription_id) if after else (None, None, None)
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(sql.encode(), [at, *last, limit]).fetchall()


def is_invoice_known(conn: Conn, user_id: UUID, invoice_id: str) -> bool:
    """Whether the payment of this invoice is in the books: then what it paid for is, too."""
    sql = "SELECT EXISTS (SELECT FROM payments WHERE user_id = %s AND invoice_id = %s AND session_id IS NULL)"
    return conn.execute(sql, [user_id, invoice_id]).fetchone() == (True,)


def known_user(conn: Conn, *, subscription_id: str | None, customer_id: str | None) -> UUID | None:
    """Return whose subscription, else whose customer this is."""
    if subscription_id is not None:
        sql = "SELECT user_id FROM token_subscriptions WHERE subscription_id = %s ORDER BY created_at LIMIT 1"
        if row := conn.execute(sql, [subscription_id]).fetchone():
            return UUID(str(row[0]))
    if customer_id is not None:
        sql = "SELECT user_id FROM stripe_customers WHERE customer_id = %s"
        if row := conn.execute(sql, [customer_id]).fetchone():
            return UUID(str(row[0]))
    return None
