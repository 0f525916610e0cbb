"""Comparing: whether our books hold what Stripe's do, payment by payment. Changes nothing.

Stripe is asked first, then the books are read as of one moment, and what only they know is looked up in Stripe: never
is a transaction open while the network is.
"""

from collections.abc import Callable
from datetime import datetime

from tokentill.core.stripe.comparison.compare import Comparison
from tokentill.core.stripe.comparison.compare import compare as compare_sides
from tokentill.core.stripe.comparison.sides import Booked, StripeSide, Told
from tokentill.services.context import Context
from tokentill.store import books, stripe_books

LOOKED_UP = stripe_books.PREFIXES


def compare(
    context: Context,
    side: StripeSide,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    customer_id: str | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Compare what `side` tells with the payments of [since, until), with their refunds and disputes, both ways.

    `on_progress` hears what is being done. Raises: what `side` raises.
    """
    on_progress("Asking Stripe")
    told = side.listed()
    on_progress("Reading the books")
    booked = _read(context, told, since, until, customer_id)
    if side.is_complete and (missing := _missing(told, booked)):
        on_progress(f"Asking Stripe for {len(missing):,} more")
        told = told.with_more(side.look_up(missing))
        booked = _read(context, told, since, until, customer_id)
    on_progress("Comparing")
    return compare_sides(told, booked, policies=context.policies, is_complete=side.is_complete)


def _read(
    context: Context, told: Told, since: datetime | None, until: datetime | None, customer_id: str | None
) -> Booked:
    customers = {one.customer_id for one in told.payments or () if one.customer_id is not None}
    with context.connection() as conn:
        books.begin_snapshot(conn)
        try:
            return stripe_books.read(
                conn, names=told.names, since=since, until=until, customer_id=customer_id, customers=sorted(customers)
            )
        finally:
            conn.rollback()


def _missing(told: Told, booked: Booked) -> list[str]:
    """What the books know and Stripe has not told of: it may lie outside of the time that was asked for."""
    told_refunds = {one.refund_id for one in told.refunds or ()}
    told_disputes = {one.dispute_id for one in told.disputes or ()}
    payments = {one.payment_id for one in booked.payments} | {name for lot in booked.lots for name in lot.names}
    missing = {name for name in payments - told.names if name.startswith(LOOKED_UP)}
    missing |= {one.refund_id for one in booked.refunds} - told_refunds
    missing |= {one.dispute_id for one in booked.disputes} - told_disputes
    return sorted(missing)
