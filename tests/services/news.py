"""News of subscriptions for tests: events whose meaning is said outright, beside real payloads of invoices.

What a payload of Stripe's means is `core.stripe.events`' to say, and tested there; here it is what follows from it.
"""

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.conftest import START
from tokentill.core.plans.catalog import CYCLE, Catalog
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import SubscriptionSeen, Who
from tokentill.core.stripe.payloads import Ignored, Unclear
from tokentill.samples.stripe import invoice_paid
from tokentill.services.stripe import inquiring

Event = Mapping[str, Any]
PLAN = "vision_pro_28day"

_numbers = itertools.count(1)
_meanings: dict[str, SubscriptionSeen] = {}


def understand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the till read events made by `seen`."""

    def read(event: Mapping[str, object], catalog: Catalog) -> object | Ignored | Unclear:
        return _meanings.get(str(event["id"])) or interpret(event, catalog)

    monkeypatch.setattr(inquiring, "interpret", read)


def seen(
    status: str | None,
    at: datetime,
    *,
    subscription_id: str = "sub_1",
    user_id: str | None = "ann",
    customer_id: str | None = "cus_1",
    **said: Any,
) -> Event:
    """An event that tells how a subscription stood at `at`."""
    event_id = f"evt_seen_{next(_numbers)}"
    given = {"plan_key": PLAN, "stripe_status": status, "occurred_at": at, **said}
    _meanings[event_id] = SubscriptionSeen(
        who=Who(metadata_user_id=user_id, customer_id=customer_id), subscription_id=subscription_id,
        status=status, seen_at=at, **given,  # type: ignore[arg-type]
    )  # fmt: skip
    return {
        "id": event_id, "type": "customer.subscription.updated", "created": int(at.timestamp()), "livemode": False,
        "data": {"object": {"object": "subscription", "id": subscription_id, "customer": customer_id}},
    }  # fmt: skip


def invoice(start: datetime, length: timedelta = CYCLE, *, is_first: bool = False, **more: Any) -> Event:
    """A paid invoice for a period of the 28-day plan, an hour after it began."""
    given: dict[str, Any] = {
        "invoice_id": f"in_{more.get('subscription_id', 'sub_1')}_{start:%Y%m%d}", "subscription_id": "sub_1",
        "user_id": "ann", "customer_id": "cus_1", "period_start": start, "period_end": start + length,
        "at": start + timedelta(hours=1),
        "billing_reason": "subscription_create" if is_first else "subscription_cycle",
    }  # fmt: skip
    return invoice_paid(**{**given, **more})


def a_year(start: datetime, *, is_first: bool = False, **more: Any) -> Event:
    """A paid invoice for a whole year of the plan that drips."""
    price: dict[str, Any] = {"interval": ("year", 1), "unit_cents": 99_900, "price_id": PLAN}
    return invoice(start, timedelta(days=365), is_first=is_first, **{**price, **more})


__all__ = ["PLAN", "START", "Event", "a_year", "invoice", "seen", "understand"]
