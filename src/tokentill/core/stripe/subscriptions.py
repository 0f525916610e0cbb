"""What a subscription's own events mean: how it stands now.

Each tells the whole subscription, so all of them are read alike: who keeps the newest knows the truth, whatever was
missed before. That goes for `trial_will_end` too, which says nothing else of its own.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from tokentill.core.plans.catalog import Catalog, Plan
from tokentill.core.plans.subscriptions import SubscriptionStatus
from tokentill.core.stripe.meanings import SubscriptionSeen
from tokentill.core.stripe.payloads import (
    Ignored,
    Json,
    Settled,
    currency_of,
    dig,
    give_up,
    id_of,
    mappings,
    require,
    seen_at,
    shown,
    text_of,
    time_of,
)
from tokentill.core.stripe.sales import Line, buyer, plan_sold, read_line

_STATUSES: Mapping[str | None, SubscriptionStatus] = {
    "trialing": "active",
    "active": "active",
    "past_due": "past_due",
    "unpaid": "past_due",
    "incomplete": "past_due",
    "paused": "paused",
    "canceled": "canceled",
    "incomplete_expired": "canceled",
}


def read_subscription(event: Json, subscription: Json, catalog: Catalog) -> SubscriptionSeen:
    """Read how a subscription stands.

    Without a plan (`plan_key` None) it is somebody else's, or one of ours that has moved to a price outside the
    catalog: only whoever knows the subscription can tell.
    """
    subscription_id = require(id_of(subscription.get("id")), "the subscription has no id")
    at = seen_at(event)
    stripe_status = text_of(subscription.get("status"))
    status = _status(event, subscription, stripe_status)
    currency = currency_of(subscription.get("currency"))
    items = mappings(dig(subscription, "items", "data"))
    lines = [read_line(raw, currency) for raw in items or [subscription]]
    line, plan = _plan_of(subscription, lines, catalog)
    trial_starts_at = time_of(subscription.get("trial_start"))
    has_trial = trial_starts_at is not None or stripe_status == "trialing"
    period_start, period_end = _period(line.raw) or _period(subscription) or (None, None)
    began_at = time_of(subscription.get("start_date")) or time_of(subscription.get("created"))
    return SubscriptionSeen(
        who=buyer((subscription.get("metadata"),), customer=subscription.get("customer")),
        subscription_id=subscription_id,
        plan_key=plan.key if plan is not None else None,
        status=status,
        stripe_status=stripe_status,
        seen_at=at,
        # What costs nothing needs no trial.
        is_trial=has_trial and plan is not None and plan.price_cents > 0 and not line.is_free,
        trial_starts_at=trial_starts_at,
        trial_ends_at=time_of(subscription.get("trial_end")),
        period_start=period_start,
        period_end=period_end,
        cancel_at=_cancel_at(subscription, status, began_at, period_end),
        occurred_at=trial_starts_at or began_at or at,
    )


def _plan_of(subscription: Json, lines: Sequence[Line], catalog: Catalog) -> tuple[Line, Plan | None]:
    try:
        return plan_sold(
            lines,
            (subscription.get("metadata"),),
            catalog,
            is_cut_off=dig(subscription, "items", "has_more") is True,
        )
    except Settled as settled:
        if isinstance(settled.answer, Ignored):
            return lines[0], None
        raise


def _status(event: Json, subscription: Json, stripe_status: str | None) -> SubscriptionStatus:
    """Return our word for its status. Stripe may pause only the collection, and still calls it active."""
    if event.get("type") == "customer.subscription.deleted":
        return "canceled"
    status = _STATUSES.get(stripe_status)
    if status is None:
        give_up(f"the subscription's status is {shown(subscription.get('status'))}")
    is_paused = isinstance(subscription.get("pause_collection"), Mapping)
    return "paused" if is_paused and status != "canceled" else status


def _period(raw: Json) -> tuple[datetime, datetime] | None:
    """Return the current period: of an item since 2025-03-31, of the whole subscription before."""
    start, end = time_of(raw.get("current_period_start")), time_of(raw.get("current_period_end"))
    return (start, end) if start and end and start < end else None


def _cancel_at(
    subscription: Json, status: SubscriptionStatus, began_at: datetime | None, period_end: datetime | None
) -> datetime | None:
    """Return when it ended, or will. Without an end of its own, what is canceled ended when that was asked for."""
    ended_at = time_of(subscription.get("ended_at"))
    if ended_at is None and status == "canceled":
        ended_at = time_of(subscription.get("canceled_at"))
    if ended_at is not None:
        return ended_at
    cancel_at = time_of(subscription.get("cancel_at"))
    if cancel_at is not None and (began_at is None or cancel_at > began_at):
        return cancel_at
    return period_end if subscription.get("cancel_at_period_end") is True else None
