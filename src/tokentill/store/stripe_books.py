"""What the books hold of Stripe's payments, to compare it with what Stripe tells. Reads only, as of one moment.

A payment is found by any of its names: what hangs together by `payment_links` is one payment.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from tokentill.core.stripe.comparison.sides import (
    Booked,
    BookedDispute,
    BookedLot,
    BookedPayment,
    BookedRefund,
    StuckEvent,
)
from tokentill.store.db import Conn

# What the names of Stripe's payments begin with: intents, charges (two kinds), invoices, checkouts.
PREFIXES = ("pi_", "ch_", "py_", "in_", "cs_")


def read(
    conn: Conn,
    *,
    names: Iterable[str],
    since: datetime | None,
    until: datetime | None,
    customer_id: str | None = None,
    customers: Sequence[str] = (),
) -> Booked:
    """Return all that the books hold of the payments with these names, and of those that were paid in [since, until).

    With `customer_id`, the latter are this customer's alone. `customers` are those that Stripe tells of.
    """
    params: dict[str, Any] = {"since": since, "until": until, "customer": customer_id, "customers": list(customers)}
    seeds = {*names, *_paid(conn, params)}
    links = _links(conn, sorted(seeds))
    params["names"] = sorted(seeds.union(*links))
    return Booked(
        payments=tuple(_payments(conn, params)),
        refunds=tuple(_refunds(conn, params)),
        disputes=tuple(_disputes(conn, params)),
        lots=tuple(_lots(conn, params)),
        events=tuple(_events(conn, params)),
        links=links,
        customers=_customers(conn, params),
    )


def _paid(conn: Conn, params: Mapping[str, Any]) -> list[str]:
    """The payments of the time, and those whose money moved back in it."""
    sql = """
        WITH of_time AS (
            SELECT payment_id FROM payments
             WHERE paid_at >= coalesce(%(since)s, '-infinity'::timestamptz)
               AND paid_at < coalesce(%(until)s, 'infinity'::timestamptz)
            UNION
            SELECT payment_id FROM payment_refunds
             WHERE seen_at >= coalesce(%(since)s, '-infinity'::timestamptz)
               AND seen_at < coalesce(%(until)s, 'infinity'::timestamptz)
            UNION
            SELECT payment_id FROM payment_disputes
             WHERE seen_at >= coalesce(%(since)s, '-infinity'::timestamptz)
               AND seen_at < coalesce(%(until)s, 'infinity'::timestamptz))
        SELECT payment_id
          FROM of_time
         WHERE %(customer)s::text IS NULL
            OR payment_id IN (SELECT payment_id FROM payments WHERE customer_id = %(customer)s::text)
    """
    return [name for (name,) in conn.execute(sql, params)]


def _links(conn: Conn, seeds: list[str]) -> tuple[frozenset[str], ...]:
    sql = """
        WITH RECURSIVE named (name) AS (
            SELECT unnest(%s::text[])
            UNION
            SELECT l.other FROM payment_links l JOIN named USING (name))
        SELECT name, other FROM payment_links JOIN named USING (name) WHERE name < other
    """
    return tuple(frozenset(pair) for pair in conn.execute(sql, [seeds]))


_IN_WINDOW = """
    ({at} >= coalesce(%(since)s, '-infinity'::timestamptz) AND {at} < coalesce(%(until)s, 'infinity'::timestamptz))
    IS TRUE AS is_in_window
"""


def _payments(conn: Conn, params: Mapping[str, Any]) -> list[BookedPayment]:
    sql = f"""
        SELECT payment_id, user_id, amount_cents, currency, refunded_cents, {_IN_WINDOW.format(at="paid_at")}
          FROM payments
         WHERE payment_id = ANY(%(names)s) OR session_id = ANY(%(names)s) OR invoice_id = ANY(%(names)s)
         ORDER BY payment_id
    """
    with conn.cursor(row_factory=class_row(BookedPayment)) as cursor:
        return cursor.execute(sql.encode(), params).fetchall()


def _refunds(conn: Conn, params: Mapping[str, Any]) -> list[BookedRefund]:
    sql = f"""
        SELECT refund_id, payment_id, amount_cents, currency, status, {_IN_WINDOW.format(at="seen_at")}
          FROM payment_refunds
         WHERE payment_id = ANY(%(names)s)
         ORDER BY refund_id
    """
    with conn.cursor(row_factory=class_row(BookedRefund)) as cursor:
        return cursor.execute(sql.encode(), params).fetchall()


def _disputes(conn: Conn, params: Mapping[str, Any]) -> list[BookedDispute]:
    sql = f"""
        SELECT dispute_id, payment_id, amount_cents, currency, status, withdrawn_cents, reinstated_cents,
               {_IN_WINDOW.format(at="seen_at")}
          FROM payment_disputes
         WHERE payment_id = ANY(%(names)s)
         ORDER BY dispute_id
    """
    with conn.cursor(row_factory=class_row(BookedDispute)) as cursor:
        return cursor.execute(sql.encode(), params).fetchall()


def _lots(conn: Conn, params: Mapping[str, Any]) -> list[BookedLot]:
    # A slice that was transferred is not what the payment bought: its origin is, and counts it as spent.
    sql = """
        WITH bought AS (
            SELECT user_id, lot, granted, remaining, paid_cents, currency, payment_id,
                   subscription_id || '#' || cycle_number AS cycle
              FROM token_lots
             WHERE kind <> 'transfer'
               AND (payment_id = ANY(%(names)s) OR subscription_id || '#' || cycle_number = ANY(%(names)s))),
        died AS (
            SELECT t.user_id, t.lot_moves[1] AS lot, sum(-t.lot_moves[2])::bigint AS tokens
              FROM token_transactions t
              JOIN bought b ON b.user_id = t.user_id AND b.lot = t.lot_moves[1]
             WHERE t.transaction_type = 'expiration'
             GROUP BY t.user_id, t.lot_moves[1]),
        posted AS (
            SELECT t.user_id, t.reverses_seq AS lot, sum(-t.token_amount)::bigint AS tokens,
                   sum((t.metadata ->> 'from_lot_tokens')::bigint)::bigint AS from_lot
              FROM token_transactions t
              JOIN bought b ON b.user_id = t.user_id AND b.lot = t.reverses_seq
             WHERE t.transaction_type = 'refund' AND t.source = 'stripe'
             GROUP BY t.user_id, t.reverses_seq)
        SELECT b.user_id, b.lot, b.payment_id, b.cycle, b.granted,
               b.remaining + coalesce(d.tokens, 0) + coalesce(p.from_lot, 0), coalesce(d.tokens, 0), b.paid_cents,
               b.currency, coalesce(p.tokens, 0)
          FROM bought b
          LEFT JOIN died d USING (user_id, lot)
          LEFT JOIN posted p USING (user_id, lot)
         ORDER BY b.user_id, b.lot
    """
    return [
        BookedLot(
            user_id=user_id, lot=lot, names=frozenset(name for name in (payment_id, cycle) if name), granted=granted,
            unspent_tokens=unspent, expired_tokens=expired, paid_cents=paid_cents, currency=currency,
            posted_tokens=posted,
        )
        for user_id, lot, payment_id, cycle, granted, unspent, expired, paid_cents, currency, posted in conn.execute(
            sql, params
        )
    ]  # fmt: skip


def _events(conn: Conn, params: Mapping[str, Any]) -> list[StuckEvent]:
    """Events of the inbox that did nothing, and that name one of these payments."""
    sql = """
        SELECT event_id, type, state, coalesce(detail, ''), named.names
          FROM stripe_events
         CROSS JOIN jsonb_path_query_first(payload, '$.data.object') AS object
         CROSS JOIN (SELECT %(names)s::text[] AS names) known
         CROSS JOIN LATERAL (
               SELECT array_remove(ARRAY[
                          object ->> 'id', object ->> 'payment_intent', object ->> 'charge', object ->> 'invoice',
                          object #>> '{payment,payment_intent}', object #>> '{payment_intent,id}',
                          object #>> '{charge,id}'], NULL) AS names) named
         WHERE state IN ('failed', 'ignored') AND named.names && known.names
           AND (state = 'failed' OR type LIKE 'checkout.session.%%' OR type LIKE 'invoice.%%')
         ORDER BY event_id
    """
    return [
        StuckEvent(event_id=event_id, type=event_type, state=state, detail=detail, names=frozenset(names))
        for event_id, event_type, state, detail, names in conn.execute(sql, params)
    ]


def _customers(conn: Conn, params: Mapping[str, Any]) -> dict[str, UUID]:
    sql = "SELECT customer_id, user_id FROM stripe_customers WHERE customer_id = ANY(%(customers)s)"
    return dict(conn.execute(sql, params).fetchall())
