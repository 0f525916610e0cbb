"""Subscriptions, and the events that tell how one stands."""

from collections.abc import Mapping
from datetime import datetime

from tokentill.samples.stripe.envelopes import NEW, ApiVersion, Payload, sibling, whole_event
from tokentill.samples.stripe.invoices import Interval


def subscription(
    *,
    subscription_id: str,
    at: datetime,
    period_start: datetime,
    period_end: datetime,
    user_id: str | None,
    status: str = "active",
    price_id: str = "price_28day",
    interval: Interval = ("day", 28),
    unit_cents: int = 9_900,
    currency: str = "usd",
    began_at: datetime | None = None,
    trial_start: datetime | None = None,
    trial_end: datetime | None = None,
    cancel_at: datetime | None = None,
    cancel_at_period_end: bool = False,
    canceled_at: datetime | None = None,
    ended_at: datetime | None = None,
    pause_behavior: str | None = None,
    customer_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "customer.subscription.updated",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a subscription as it stands, with one item.

    `began_at` None: with its current period, or its trial. `pause_behavior` ("void", "keep_as_draft",
    "mark_uncollectible") says that its collection is paused, which leaves the status as it was.
    """
    began = began_at or trial_start or period_start
    every, count = interval
    periods = {
        "current_period_start": int(period_start.timestamp()),
        "current_period_end": int(period_end.timestamp()),
    }
    plan = {
        "id": price_id,
        "object": "plan",
        "active": True,
        "amount": unit_cents,
        "currency": currency,
        "interval": every,
        "interval_count": count,
        "metadata": {},
        "product": sibling("prod", price_id),
        "usage_type": "licensed",
    }
    item: Payload = {
        "id": sibling("si", subscription_id),
        "object": "subscription_item",
        "created": int(began.timestamp()),
        "metadata": {},
        "plan": dict(plan),
        "price": {
            "id": price_id,
            "object": "price",
            "active": True,
            "billing_scheme": "per_unit",
            "currency": currency,
            "lookup_key": None,
            "metadata": {},
            "product": sibling("prod", price_id),
            "recurring": {"interval": every, "interval_count": count, "usage_type": "licensed"},
            "type": "recurring",
            "unit_amount": unit_cents,
            "unit_amount_decimal": str(unit_cents),
        },
        "quantity": 1,
        "subscription": subscription_id,
        "tax_rates": [],
    }
    told: Payload = {
        "id": subscription_id,
        "object": "subscription",
        "application": None,
        "automatic_tax": {"enabled": False},
        "billing_cycle_anchor": int((trial_end or period_start).timestamp()),
        "cancel_at": _seconds(period_end if cancel_at_period_end else cancel_at),
        "cancel_at_period_end": cancel_at_period_end,
        "canceled_at": _seconds(canceled_at),
        "collection_method": "charge_automatically",
        "created": int(began.timestamp()),
        "currency": currency,
        "customer": customer_id,
        "default_payment_method": None,
        "ended_at": _seconds(ended_at),
        "items": {"object": "list", "data": [item], "has_more": False, "total_count": 1},
        "latest_invoice": sibling("in", subscription_id),
        "livemode": False,
        "metadata": ({} if user_id is None else {"user_id": user_id}) | dict(metadata or {}),
        "pause_collection": {"behavior": pause_behavior, "resumes_at": None} if pause_behavior else None,
        "pending_update": None,
        "schedule": None,
        "start_date": int(began.timestamp()),
        "status": status,
        "test_clock": None,
        "trial_end": _seconds(trial_end),
        "trial_start": _seconds(trial_start),
    }
    if api_version == NEW:
        item |= periods
        told["billing_mode"] = {"type": "classic"}
    else:
        told |= {**periods, "plan": plan, "quantity": 1}
    snapshot = f"{status}_{int(at.timestamp())}"
    return whole_event(event_type, told, at=at, event_id=event_id, api_version=api_version, snapshot=snapshot)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
