"""What a subscription's own events mean: how it stands now."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.stripe.reading import CYCLE, NOW, both_versions, payload, selling, subscription_seen, unclear
from tokentill.core.plans.catalog import EXAMPLE, Plan
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import SubscriptionSeen, Who
from tokentill.samples.stripe import NEW, OLD, ApiVersion, Payload, subscription

SEEN_AT = NOW + timedelta(days=3, seconds=5)
EVERY_TYPE = [
    f"customer.subscription.{what}"
    for what in ("created", "updated", "deleted", "paused", "resumed", "trial_will_end")
]  # fmt: skip


def seen(**changes: Any) -> Payload:
    defaults = {
        "subscription_id": "sub_1",
        "at": NOW + timedelta(days=3),
        "period_start": NOW,
        "period_end": NOW + CYCLE,
        "user_id": "user-1",
    }
    return subscription(**{**defaults, **changes})


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


@both_versions
def test_a_subscription_tells_plan_state_and_period(version: ApiVersion) -> None:
    assert interpret(seen(customer_id="cus_1", api_version=version), EXAMPLE) == SubscriptionSeen(
        who=Who(metadata_user_id="user-1", customer_id="cus_1"),
        subscription_id="sub_1",
        plan_key="vision_pro_28day",
        status="active",
        stripe_status="active",
        seen_at=SEEN_AT,
        period_start=NOW,
        period_end=NOW + CYCLE,
        occurred_at=NOW,
    )


@both_versions
@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_every_event_of_a_subscription_tells_the_whole_of_it(event_type: str, version: ApiVersion) -> None:
    """Whoever keeps the newest one knows the truth, whatever was missed before."""
    told = subscription_seen(seen(status="canceled", event_type=event_type, api_version=version))

    assert told == subscription_seen(seen(status="canceled", api_version=version))


@pytest.mark.parametrize(
    ("stripe_status", "status"),
    [
        ("trialing", "active"),
        ("active", "active"),
        ("past_due", "past_due"),
        ("unpaid", "past_due"),
        ("incomplete", "past_due"),
        ("paused", "paused"),
        ("canceled", "canceled"),
        ("incomplete_expired", "canceled"),
    ],
)
def test_each_status_of_stripe_has_one_of_ours(stripe_status: str, status: str) -> None:
    told = subscription_seen(seen(status=stripe_status))

    assert (told.status, told.stripe_status) == (status, stripe_status)


@pytest.mark.parametrize("behavior", ["void", "keep_as_draft", "mark_uncollectible"])
def test_a_pause_of_the_collection_pauses_though_stripe_calls_it_active(behavior: str) -> None:
    assert subscription_seen(seen(pause_behavior=behavior)).status == "paused"
    assert subscription_seen(seen(pause_behavior=behavior, status="past_due")).status == "paused"
    assert subscription_seen(seen(pause_behavior=behavior, status="canceled")).status == "canceled"


def test_what_is_deleted_is_canceled_whatever_its_status_says() -> None:
    deleted = seen(status="active", event_type="customer.subscription.deleted")
    payload(deleted)["status"] = None

    assert subscription_seen(deleted).status == "canceled"


@pytest.mark.parametrize("wrong", [None, "", "new_word", ["active"], 1])
def test_a_status_that_nobody_knows_is_unclear(wrong: Any) -> None:
    event = seen()
    payload(event)["status"] = wrong

    assert "status is" in unclear(event)


# --- Trials ---


@both_versions
def test_a_trial_tells_its_beginning_and_its_end(version: ApiVersion) -> None:
    end = NOW + timedelta(days=14)
    running = {"trial_start": NOW, "trial_end": end, "api_version": version}
    told = subscription_seen(seen(status="trialing", period_end=end, **running))

    assert (told.is_trial, told.trial_starts_at, told.trial_ends_at) == (True, NOW, end)
    later = subscription_seen(seen(period_start=end, period_end=end + CYCLE, **running))
    assert (later.is_trial, later.status, later.occurred_at) == (True, "active", NOW)
    added = subscription_seen(seen(began_at=NOW - CYCLE, **running))
    assert added.occurred_at == NOW


def test_a_trial_may_be_told_by_its_status_alone() -> None:
    assert subscription_seen(seen(status="trialing")).is_trial


def test_what_costs_nothing_needs_no_trial() -> None:
    free = Plan(key="basic", name="Basic", kind="drip", price_cents=0, tokens=1)
    trial = {"status": "trialing", "trial_start": NOW, "trial_end": NOW + CYCLE}

    by_plan = subscription_seen(seen(metadata={"plan": "basic"}, unit_cents=0, **trial), selling(plans=(free,)))
    by_price = subscription_seen(seen(metadata={"plan": "28day"}, unit_cents=0, **trial))

    assert (by_plan.plan_key, by_plan.is_trial) == ("basic", False)
    assert (by_price.plan_key, by_price.is_trial) == ("vision_pro_28day", False)


# --- Its end ---


def test_a_subscription_that_ends_with_its_period_says_when() -> None:
    told = subscription_seen(seen(cancel_at_period_end=True))
    bare = seen(cancel_at_period_end=True)
    payload(bare)["cancel_at"] = None

    assert (told.status, told.cancel_at) == ("active", NOW + CYCLE)
    assert subscription_seen(bare).cancel_at == NOW + CYCLE


def test_an_end_that_has_come_outranks_one_that_was_planned() -> None:
    ended, planned, asked = NOW + timedelta(days=9), NOW + CYCLE, NOW + timedelta(days=2)
    told = seen(status="canceled", cancel_at=planned, ended_at=ended, canceled_at=asked)

    assert subscription_seen(told).cancel_at == ended
    assert subscription_seen(seen(cancel_at=planned, canceled_at=asked)).cancel_at == planned
    assert subscription_seen(seen(status="canceled", canceled_at=asked)).cancel_at == asked


def test_an_end_before_the_beginning_is_no_end() -> None:
    event = seen()
    payload(event)["cancel_at"] = seconds(NOW) - 1

    assert subscription_seen(event).cancel_at is None
    del payload(event)["start_date"], payload(event)["created"]
    assert subscription_seen(event).cancel_at == NOW - timedelta(seconds=1)


# --- Which plan, which period, whose ---


@both_versions
def test_what_no_plan_of_the_catalog_fits_is_somebody_elses(version: ApiVersion) -> None:
    """Or it was ours, and has moved: so how it stands is told all the same."""
    foreign = subscription_seen(seen(unit_cents=1_500, interval=("month", 1), status="canceled", api_version=version))
    assert (foreign.plan_key, foreign.status, foreign.is_trial) == (None, "canceled", False)
    cut_off = seen(unit_cents=1_500, api_version=version)
    payload(cut_off)["items"]["has_more"] = True
    assert "more lines" in unclear(cut_off)


def test_a_plan_is_told_by_name_though_its_price_is_another() -> None:
    assert subscription_seen(seen(metadata={"plan": "28day"}, unit_cents=1)).plan_key == "vision_pro_28day"


def test_the_currency_of_a_price_serves_where_the_subscription_says_none() -> None:
    event = seen(api_version=OLD)
    del payload(event)["currency"]

    assert subscription_seen(event).plan_key == "vision_pro_28day"
    foreign = seen(api_version=OLD, currency="eur")
    assert subscription_seen(foreign).plan_key is None
    for price in (payload(event)["items"]["data"][0]["price"], payload(event)["items"]["data"][0]["plan"]):
        del price["currency"]
    assert subscription_seen(event).plan_key is None


def test_a_subscription_without_items_is_told_by_its_own_plan() -> None:
    event = seen(api_version=OLD)
    del payload(event)["items"]

    assert subscription_seen(event).period_end == NOW + CYCLE


def test_the_period_is_that_of_the_plans_item() -> None:
    event = seen()
    item = payload(event)["items"]["data"][0]
    addon = {
        "price": {"id": "price_addon", "unit_amount": 500, "currency": "usd"},
        "current_period_start": 0,
        "current_period_end": 86_400,
    }
    payload(event)["items"]["data"] = [addon, item]

    assert subscription_seen(event).period_start == NOW
    payload(event).update({"current_period_start": 0, "current_period_end": 86_400})
    assert subscription_seen(event).period_start == NOW


@pytest.mark.parametrize("end", [None, "soon", 0, seconds(NOW)])
def test_a_period_that_is_none_is_not_told(end: Any) -> None:
    event = seen()
    payload(event)["items"]["data"][0]["current_period_end"] = end
    told = subscription_seen(event)

    assert (told.period_start, told.period_end) == (None, None)


def test_a_buyer_is_found_in_the_subscription_or_its_expanded_customer() -> None:
    event = seen(user_id=None)
    payload(event)["customer"] = {"id": "cus_1", "email": "a@example.com", "metadata": {"user_id": "user-2"}}

    assert subscription_seen(event).who == Who(metadata_user_id="user-2", customer_id="cus_1", email="a@example.com")


def test_the_beginning_is_taken_from_the_next_best_place() -> None:
    event = seen(began_at=NOW - timedelta(days=56))
    payload(event)["start_date"] = None

    assert subscription_seen(event).occurred_at == NOW - timedelta(days=56)
    payload(event)["created"] = None
    assert subscription_seen(event).occurred_at == SEEN_AT


def test_a_subscription_without_id_or_moment_is_unclear() -> None:
    nameless, undated = seen(), seen(api_version=NEW)
    del payload(nameless)["id"], undated["created"]

    assert "no id" in unclear(nameless)
    assert unclear(undated) == "the event does not say when it was made"
