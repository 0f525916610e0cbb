"""Reading Stripe events in tests: events as the demo builds them, and what they mean."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from tokentill.core.plans.catalog import EXAMPLE, Catalog, Pack, Plan
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import MoneySeen, PackPaid, PeriodPaid, SubscriptionSeen, SubscriptionStarted
from tokentill.core.stripe.payloads import Ignored, Unclear
from tokentill.samples.stripe import NEW, OLD, Payload, checkout_pack, checkout_subscription, invoice_paid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CYCLE = timedelta(days=28)

Meaning = TypeVar("Meaning")
both_versions = pytest.mark.parametrize("version", [OLD, NEW])


def pack_sale(**changes: Any) -> Payload:
    return checkout_pack(**{"session_id": "cs_test_1", "at": NOW, "user_id": "user-1", **changes})


def start(**changes: Any) -> Payload:
    defaults = {"session_id": "cs_test_1", "subscription_id": "sub_1", "at": NOW, "user_id": "user-1"}
    return checkout_subscription(**{**defaults, **changes})


def invoice(**changes: Any) -> Payload:
    defaults = {
        "invoice_id": "in_1",
        "subscription_id": "sub_1",
        "at": NOW,
        "period_start": NOW,
        "period_end": NOW + CYCLE,
        "user_id": "user-1",
    }
    return invoice_paid(**{**defaults, **changes})


def payload(event: Payload) -> Payload:
    found: Payload = event["data"]["object"]
    return found


def line(event: Payload) -> Payload:
    found: Payload = payload(event)["lines"]["data"][0]
    return found


def with_cart(event: Payload, *lines: Payload, has_more: bool = False) -> Payload:
    payload(event)["line_items"] = {"object": "list", "data": list(lines), "has_more": has_more}
    return event


def cart_line(price_id: str = "price_x", *, unit: int = 100, quantity: int | None = 1, **price: Any) -> Payload:
    return {
        "object": "item",
        "amount_subtotal": unit * (quantity or 1),
        "currency": "usd",
        "quantity": quantity,
        "price": {"id": price_id, "unit_amount": unit, **price},
    }


def read_as(kind: type[Meaning], event: Payload, catalog: Catalog) -> Meaning:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, kind), meaning
    return meaning


def pack_paid(event: Payload, catalog: Catalog = EXAMPLE) -> PackPaid:
    return read_as(PackPaid, event, catalog)


def started(event: Payload, catalog: Catalog = EXAMPLE) -> SubscriptionStarted:
    return read_as(SubscriptionStarted, event, catalog)


def period_paid(event: Payload, catalog: Catalog = EXAMPLE) -> PeriodPaid:
    return read_as(PeriodPaid, event, catalog)


def subscription_seen(event: Payload, catalog: Catalog = EXAMPLE) -> SubscriptionSeen:
    return read_as(SubscriptionSeen, event, catalog)


def money_seen(event: Payload, catalog: Catalog = EXAMPLE) -> MoneySeen:
    return read_as(MoneySeen, event, catalog)


def ignored(event: Payload, catalog: Catalog = EXAMPLE) -> str:
    return read_as(Ignored, event, catalog).reason


def unclear(event: Payload, catalog: Catalog = EXAMPLE) -> str:
    return read_as(Unclear, event, catalog).reason


def selling(*, plans: tuple[Plan, ...] = (), packs: tuple[Pack, ...] = ()) -> Catalog:
    """The example catalog with some offers replaced or added."""
    return replace(
        EXAMPLE,
        plans={**EXAMPLE.plans, **{plan.key: plan for plan in plans}},
        packs={**EXAMPLE.packs, **{pack.key: pack for pack in packs}},
    )
