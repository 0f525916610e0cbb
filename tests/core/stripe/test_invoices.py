"""What a subscription's invoices mean: each trap as an example."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.core.stripe.reading import (
    CYCLE,
    NOW,
    both_versions,
    ignored,
    invoice,
    line,
    money_seen,
    payload,
    period_paid,
    selling,
    subscription_seen,
    unclear,
)
from tokentill.core.plans.catalog import EXAMPLE, Plan
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import Doubt, MoneySeen, PeriodPaid, SubscriptionSeen, Who
from tokentill.samples.stripe import NEW, OLD, ApiVersion, Payload, invoice_failed, invoice_payment

# --- Invoices ---


@both_versions
def test_a_paid_invoice_pays_the_period_of_its_line(version: ApiVersion) -> None:
    event = invoice(api_version=version, customer_id="cus_1", email="a@example.com", at=NOW + CYCLE)

    # The invoice's own period is the one before: believing it would pay the last cycle twice.
    assert payload(event)["period_end"] == int((NOW + CYCLE).timestamp())
    assert interpret(event, EXAMPLE) == PeriodPaid(
        who=Who(metadata_user_id="user-1", customer_id="cus_1", email="a@example.com"),
        invoice_id="in_1",
        subscription_id="sub_1",
        plan_key="vision_pro_28day",
        is_first=False,
        period_start=NOW,
        period_end=NOW + CYCLE,
        amount_paid_cents=9_900,
        currency="usd",
        payment_id="pi_in_1",
        occurred_at=NOW + CYCLE + timedelta(seconds=2),
        names=("pi_in_1", "ch_in_1") if version == OLD else ("pi_in_1",),
    )


@both_versions
def test_the_first_invoice_is_told_from_the_later_ones(version: ApiVersion) -> None:
    assert period_paid(invoice(billing_reason="subscription_create", api_version=version)).is_first


def test_two_events_of_one_payment_mean_the_same() -> None:
    assert interpret(invoice(event_type="invoice.payment_succeeded"), EXAMPLE) == interpret(invoice(), EXAMPLE)


@both_versions
def test_a_year_is_told_by_its_interval_or_its_length(version: ApiVersion) -> None:
    year = {"unit_cents": 99_900, "interval": ("year", 1), "period_end": NOW + timedelta(days=365)}

    assert period_paid(invoice(api_version=version, **year)).plan_key == "vision_pro_annual"
    months = period_paid(invoice(api_version=version, **{**year, "interval": ("month", 12)}))
    assert months.plan_key == "vision_pro_annual"


@both_versions
def test_an_amount_in_another_rhythm_is_not_the_plan(version: ApiVersion) -> None:
    yearly = {"interval": ("year", 1), "period_end": NOW + timedelta(days=365)}

    assert "no plan" in ignored(invoice(api_version=version, **yearly))


def test_a_monthly_price_is_the_plan_only_if_someone_says_so() -> None:
    monthly = {"api_version": OLD, "interval": ("month", 1), "period_end": NOW + timedelta(days=31)}

    assert "no plan" in ignored(invoice(**monthly))
    assert period_paid(invoice(**monthly, metadata={"plan": "vision_pro_28day"})).plan_key == "vision_pro_28day"


def test_four_weeks_are_28_days() -> None:
    assert period_paid(invoice(api_version=OLD, interval=("week", 4))).plan_key == "vision_pro_28day"


def test_an_amount_alone_tells_the_plan_when_the_period_tells_no_rhythm() -> None:
    shifted = invoice(period_end=NOW + timedelta(days=30))

    assert period_paid(shifted).plan_key == "vision_pro_28day"


@both_versions
def test_the_price_outranks_metadata_that_a_change_of_plan_left_behind(version: ApiVersion) -> None:
    annual = replace(EXAMPLE.plans["vision_pro_annual"], price_ids=("price_annual",))
    changed: dict[str, Any] = {
        "api_version": version,
        "metadata": {"plan": "vision_pro_28day"},
        "interval": ("year", 1),
        "unit_cents": 99_900,
        "period_end": NOW + timedelta(days=365),
    }

    assert period_paid(invoice(**changed)).plan_key == "vision_pro_annual"
    by_price = invoice(**{**changed, "unit_cents": 80_000}, price_id="price_annual")
    assert period_paid(by_price, selling(plans=(annual,))).plan_key == "vision_pro_annual"


def test_a_price_tells_the_plan_by_id_lookup_key_or_metadata() -> None:
    by_id = invoice(price_id="vision_pro_28day", unit_cents=1)
    by_lookup = invoice(api_version=OLD, unit_cents=1)
    line(by_lookup)["price"]["lookup_key"] = "vision_pro_28day"
    by_metadata = invoice(api_version=OLD, unit_cents=1)
    line(by_metadata)["price"]["metadata"] = {"plan": "28day"}
    expanded = invoice(unit_cents=1)
    line(expanded)["pricing"]["price_details"]["price"] = {"id": "price_1", "lookup_key": "vision_pro_28day"}

    for event in (by_id, by_lookup, by_metadata, expanded):
        assert period_paid(event).plan_key == "vision_pro_28day"


def test_metadata_of_the_line_tells_the_plan() -> None:
    event = invoice(unit_cents=1)
    line(event)["metadata"] = {"plan_key": "28day"}

    assert period_paid(event).plan_key == "vision_pro_28day"


@pytest.mark.parametrize("reason", ["manual", "subscription_threshold", "upcoming", "quote_accept"])
def test_invoices_for_other_things_pay_no_period(reason: str) -> None:
    assert reason in ignored(invoice(billing_reason=reason))


def set_proration(event: Payload, version: ApiVersion) -> Payload:
    if version == OLD:
        line(event)["proration"] = True
    else:
        line(event)["parent"]["subscription_item_details"]["proration"] = True
    return event


@both_versions
def test_prorations_grant_nothing(version: ApiVersion) -> None:
    event = set_proration(invoice(billing_reason="subscription_update", api_version=version), version)
    pending = invoice(billing_reason="subscription_update", api_version=version)
    line(pending)["parent"] = {"type": "invoice_item_details", "invoice_item_details": {"proration": True}}

    assert "prorations" in ignored(event)
    assert "prorations" in ignored(pending)


@both_versions
def test_an_update_that_bills_a_whole_period_at_once_pays_it(version: ApiVersion) -> None:
    """From 28 days to a year: a credit for unused time, and the year, in one invoice that nothing else repeats."""
    event = invoice(
        billing_reason="subscription_update",
        api_version=version,
        unit_cents=99_900,
        interval=("year", 1),
        period_end=NOW + timedelta(days=365),
    )
    credit = set_proration(invoice(amount_cents=-4_950, api_version=version), version)
    payload(event)["lines"]["data"].insert(0, line(credit))

    meaning = period_paid(event)

    assert (meaning.plan_key, meaning.is_first) == ("vision_pro_annual", False)
    assert meaning.period_end == NOW + timedelta(days=365)


def test_an_update_that_bills_a_part_of_a_period_grants_nothing() -> None:
    event = invoice(billing_reason="subscription_update", period_end=NOW + timedelta(days=9))

    assert "part of a period" in ignored(event)


def test_a_renewal_pays_its_period_however_short() -> None:
    assert period_paid(invoice(period_end=NOW + timedelta(days=9))).period_end == NOW + timedelta(days=9)


@both_versions
def test_a_trials_invoice_pays_no_period(version: ApiVersion) -> None:
    trial = {"amount_cents": 0, "billing_reason": "subscription_create", "period_end": NOW + timedelta(days=14)}
    with_fee = invoice(api_version=version, metadata={"plan": "28day"}, **trial)
    payload(with_fee)["amount_paid"] = 5_000
    payload(with_fee)["lines"]["data"].append({"type": "invoiceitem", "amount": 5_000, "proration": False})

    begun = subscription_seen(invoice(api_version=version, metadata={"plan": "28day"}, customer_id="cus_1", **trial))

    assert begun == SubscriptionSeen(
        who=Who(metadata_user_id="user-1", customer_id="cus_1"),
        subscription_id="sub_1",
        plan_key="vision_pro_28day",
        status="active",
        stripe_status="trialing",
        seen_at=NOW + timedelta(seconds=5),
        is_trial=True,
        trial_starts_at=NOW,
        trial_ends_at=NOW + timedelta(days=14),
        period_start=NOW,
        period_end=NOW + timedelta(days=14),
        occurred_at=NOW,
    )
    assert subscription_seen(with_fee).is_trial


@both_versions
def test_an_invoice_of_nothing_that_is_no_first_one_begins_no_trial(version: ApiVersion) -> None:
    renewed = invoice(amount_cents=0, metadata={"plan": "28day"}, api_version=version)
    changed = invoice(
        amount_cents=0, billing_reason="subscription_update", metadata={"plan": "28day"}, api_version=version
    )

    assert "nothing is charged" in ignored(renewed)
    assert "nothing is charged" in ignored(changed)


def test_a_plan_or_a_price_of_nothing_needs_no_trial() -> None:
    free = Plan(key="basic", name="Basic", kind="drip", price_cents=0, tokens=1)
    first: dict[str, Any] = {"unit_cents": 0, "billing_reason": "subscription_create"}

    for version in (OLD, NEW):
        free_plan = invoice(metadata={"plan": "basic"}, api_version=version, **first)
        assert "nothing is charged" in ignored(free_plan, selling(plans=(free,)))
    assert "nothing is charged" in ignored(invoice(metadata={"plan": "28day"}, api_version=OLD, **first))


def test_a_first_period_that_is_charged_and_not_covered_is_no_trial() -> None:
    event = invoice(billing_reason="subscription_create")
    payload(event).update({"amount_paid": 0, "total": 0})

    assert "nothing is charged" in ignored(event)


def test_a_trial_whose_line_says_no_unit_price_is_a_trial() -> None:
    """Since 2025-03-31 the line of a trial may say "0" where its price is not shown."""
    event = invoice(
        amount_cents=0, unit_cents=0, billing_reason="subscription_create", metadata={"plan": "28day"}, api_version=NEW
    )

    assert subscription_seen(event).is_trial
    line(event)["period"] = None
    assert "no period" in unclear(event)


@both_versions
def test_a_period_is_paid_by_a_full_discount(version: ApiVersion) -> None:
    event = invoice(discount_cents=9_900, api_version=version)
    whole_line = invoice(amount_cents=0, api_version=version)
    payload(whole_line)["total_discount_amounts"] = [{"amount": 9_900}]

    assert (period_paid(event).amount_paid_cents, period_paid(event).payment_id) == (0, None)
    assert period_paid(whole_line).amount_paid_cents == 0


def test_a_period_is_paid_by_credit() -> None:
    by_balance = invoice()
    payload(by_balance)["amount_paid"] = 0
    by_unused_time = invoice()
    payload(by_unused_time).update({"amount_paid": 0, "total": -100})
    payload(by_unused_time)["lines"]["data"].append({"type": "invoiceitem", "amount": -10_000, "proration": True})
    by_nothing = invoice()
    payload(by_nothing).update({"amount_paid": 0, "total": 0})

    assert period_paid(by_balance).amount_paid_cents == 0
    assert period_paid(by_unused_time).amount_paid_cents == 0
    assert "nothing is charged" in ignored(by_nothing)


def test_a_line_without_an_amount_charges_its_price_or_what_was_paid() -> None:
    priced = invoice()
    del line(priced)["amount"]
    bare = invoice(metadata={"plan": "28day"})
    del line(bare)["amount"], line(bare)["pricing"]

    assert period_paid(priced).plan_key == "vision_pro_28day"
    assert period_paid(bare).plan_key == "vision_pro_28day"
    payload(bare)["amount_paid"] = 0
    assert "nothing is charged" in ignored(bare)


def test_of_several_lines_the_one_of_a_plan_counts() -> None:
    event = invoice()
    other = copy.deepcopy(line(event))
    other |= {"amount": 500, "period": {"start": 0, "end": 86_400}}
    other["pricing"] = {"unit_amount_decimal": "500", "price_details": {"price": "price_addon"}}
    payload(event)["lines"]["data"].insert(0, other)

    assert period_paid(event).period_start == NOW
    payload(event)["parent"]["subscription_details"]["metadata"]["plan"] = "28day"
    assert period_paid(event).period_start == NOW


def test_several_plans_in_one_invoice_are_unclear() -> None:
    event = invoice()
    other = line(invoice(unit_cents=99_900, period_end=NOW + timedelta(days=365)))
    payload(event)["lines"]["data"].append(other)

    assert "several plans" in unclear(event)


def test_a_plan_that_is_not_in_the_catalog_is_ignored_unless_lines_are_missing() -> None:
    event = invoice(unit_cents=7_700)

    assert "no plan" in ignored(event)
    payload(event)["lines"]["has_more"] = True
    assert "more lines" in unclear(event)
    payload(event)["lines"]["data"] = [{"type": "invoiceitem", "proration": True}]
    assert "no line" in unclear(event)


@pytest.mark.parametrize("status", ["draft", "open", "uncollectible", "void"])
def test_an_invoice_that_is_not_paid_waits(status: str) -> None:
    event = invoice()
    payload(event)["status"] = status

    assert "waits until it is paid" in ignored(event)


@both_versions
def test_an_invoice_is_read_from_expanded_objects(version: ApiVersion) -> None:
    event = invoice(user_id=None, api_version=version)
    subscription = {"id": "sub_7", "metadata": {"user_id": "user-7"}}
    intent = {"id": "pi_7", "metadata": {"user_id": "not this one"}}
    payload(event)["customer"] = {"id": "cus_7", "email": "c@example.com"}
    if version == OLD:
        payload(event).update({"subscription": subscription, "payment_intent": intent})
    else:
        payload(event)["parent"]["subscription_details"]["subscription"] = subscription
        payload(event)["payments"]["data"][0]["payment"]["payment_intent"] = intent

    meaning = period_paid(event)

    assert (meaning.subscription_id, meaning.payment_id) == ("sub_7", "pi_7")
    assert meaning.who == Who(metadata_user_id="user-7", customer_id="cus_7", email="c@example.com")


@both_versions
def test_the_line_names_the_subscription_if_the_invoice_does_not(version: ApiVersion) -> None:
    event = invoice(api_version=version)
    payload(event).pop("subscription", None)
    payload(event).pop("parent", None)

    assert period_paid(event).subscription_id == "sub_1"


def test_a_line_that_says_no_type_is_judged_by_its_subscription() -> None:
    event = invoice(api_version=OLD)
    del line(event)["type"]

    assert period_paid(event).plan_key == "vision_pro_28day"
    del line(event)["subscription"]
    assert "no line" in unclear(event)


def test_the_payment_is_the_intent_that_went_through_else_the_charge() -> None:
    event = invoice()
    failed = {"status": "canceled", "payment": {"type": "payment_intent", "payment_intent": "pi_failed"}}
    payload(event)["payments"]["data"].insert(0, failed)
    by_charge = invoice(api_version=OLD)
    payload(by_charge)["payment_intent"] = None
    new_charge = invoice()
    payload(new_charge)["payments"]["data"][0]["payment"] = {"type": "charge", "charge": "ch_new"}

    assert period_paid(event).payment_id == "pi_in_1"
    assert period_paid(by_charge).payment_id == "ch_in_1"
    assert period_paid(new_charge).payment_id == "ch_new"
    assert period_paid(event).names == ("pi_in_1", "pi_failed")
    assert period_paid(by_charge).names == ("ch_in_1",)
    assert period_paid(new_charge).names == ("ch_new",)


def test_an_expanded_payment_tells_its_charge() -> None:
    event = invoice()
    expanded = {"id": "pi_in_1", "latest_charge": {"id": "ch_7"}}
    payload(event)["payments"]["data"][0]["payment"]["payment_intent"] = expanded

    assert period_paid(event).names == ("pi_in_1", "ch_7")


# --- Payments that failed ---


@both_versions
@pytest.mark.parametrize("reason", ["subscription_create", "subscription_cycle"])
def test_a_payment_that_failed_makes_the_subscription_past_due(reason: str, version: ApiVersion) -> None:
    event = invoice_failed(
        invoice(billing_reason=reason, customer_id="cus_1", api_version=version), at=NOW + timedelta(days=3)
    )

    assert interpret(event, EXAMPLE) == SubscriptionSeen(
        who=Who(metadata_user_id="user-1", customer_id="cus_1"),
        subscription_id="sub_1",
        plan_key="vision_pro_28day",
        status="past_due",
        seen_at=NOW + timedelta(days=3, seconds=5),
        occurred_at=NOW,
    )


def test_a_payment_that_failed_for_anything_else_stops_nothing() -> None:
    foreign = invoice_failed(invoice(unit_cents=7_700))
    closed = invoice_failed(invoice())
    payload(closed)["status"] = "paid"

    assert "manual" in ignored(invoice_failed(invoice(billing_reason="manual")))
    assert "subscription_update" in ignored(invoice_failed(invoice(billing_reason="subscription_update")))
    assert "no plan" in ignored(foreign)
    assert "nothing is due" in ignored(closed)


def test_a_failure_without_what_it_needs_is_unclear() -> None:
    undated, nameless, coinless = invoice_failed(invoice()), invoice_failed(invoice()), invoice_failed(invoice())
    del undated["created"], payload(nameless)["lines"], payload(coinless)["currency"]

    assert unclear(undated) == "the event does not say when it was made"
    assert "no line" in unclear(nameless)
    assert "no currency" in unclear(coinless)
    unborn = invoice_failed(invoice())
    del payload(unborn)["created"]
    assert subscription_seen(unborn).occurred_at == NOW + timedelta(seconds=5)


@both_versions
def test_a_voided_invoice_grants_nothing_and_takes_nothing(version: ApiVersion) -> None:
    event = invoice_failed(invoice(api_version=version), status="void", event_type="invoice.voided")

    assert "voided" in ignored(event)


# --- Invoice payments ---


def test_an_invoice_payment_links_the_intent_to_its_invoice() -> None:
    event = invoice_payment(invoice_id="in_1", payment_intent_id="pi_in_1", at=NOW)

    assert interpret(event, EXAMPLE) == MoneySeen(
        payment_id="pi_in_1", names=("pi_in_1", "in_1"), who=Who(), seen_at=NOW + timedelta(seconds=5)
    )


def test_an_invoice_may_be_paid_by_a_charge_or_outside_stripe() -> None:
    event = invoice_payment(invoice_id="in_1", payment_intent_id="pi_in_1", at=NOW)
    payload(event)["payment"] = {"type": "charge", "charge": {"id": "ch_1"}}

    assert money_seen(event).names == ("ch_1", "in_1")
    payload(event)["payment"] = {"type": "payment_record", "payment_record": "pr_1"}
    assert "outside Stripe" in ignored(event)
    payload(event)["payment"] = None
    assert "neither" in unclear(event)
    payload(event)["invoice"] = None
    assert "no invoice" in unclear(event)


# --- Doubts ---


@both_versions
def test_a_plan_at_another_price_is_granted_and_doubted(version: ApiVersion) -> None:
    event = invoice(unit_cents=7_700, metadata={"plan": "28day"}, api_version=version)
    foreign = invoice(currency="eur", metadata={"plan": "28day"}, api_version=version)

    assert period_paid(event).doubts == (Doubt(expected="9,900 usd for vision_pro_28day", found="7,700 usd"),)
    assert period_paid(foreign).doubts == (Doubt(expected="9,900 usd for vision_pro_28day", found="9,900 eur"),)


def test_several_of_one_plan_are_granted_once_and_doubted() -> None:
    event = invoice(amount_cents=19_800)
    line(event)["quantity"] = 2

    assert period_paid(event).doubts == (Doubt(expected="9,900 usd for vision_pro_28day", found="2 x 9,900 usd"),)


def test_prorations_credit_and_discounts_are_no_doubt() -> None:
    shortened = invoice(amount_cents=4_000)
    by_credit = invoice()
    payload(by_credit)["amount_paid"] = 0

    for event in (shortened, by_credit, invoice(discount_cents=9_900)):
        assert period_paid(event).doubts == ()


# --- Drips that are paid in another rhythm ---


YEARLY: dict[str, Any] = {
    "interval": ("year", 1),
    "unit_cents": 109_900,
    "period_end": NOW + timedelta(days=365),
    "price_id": "price_year",
}


@both_versions
def test_a_drip_plan_may_be_sold_by_the_year_at_its_prices_own_amount(version: ApiVersion) -> None:
    yearly = replace(EXAMPLE.plans["vision_pro_28day"], price_ids=("price_28day", "price_year"))

    period = period_paid(invoice(api_version=version, **YEARLY), selling(plans=(yearly,)))

    assert (period.plan_key, period.doubts) == ("vision_pro_28day", ())
    assert period.period_end == NOW + timedelta(days=365)


def test_the_metadata_of_a_yearly_price_may_name_the_drip_plan() -> None:
    event = invoice(api_version=OLD, **YEARLY)
    line(event)["price"]["metadata"] = {"plan": "28day"}

    assert (period_paid(event).plan_key, period_paid(event).doubts) == ("vision_pro_28day", ())


def test_the_metadata_of_a_subscription_does_not_make_a_year_a_drip() -> None:
    """It may be left from before a change of plan."""
    assert "no plan" in ignored(invoice(metadata={"plan": "28day"}, api_version=OLD, **YEARLY))


def test_a_monthly_price_of_its_own_amount_is_no_doubt() -> None:
    monthly = invoice(
        api_version=OLD,
        interval=("month", 1),
        unit_cents=11_000,
        period_end=NOW + timedelta(days=31),
        metadata={"plan": "vision_pro_28day"},
    )

    assert (period_paid(monthly).plan_key, period_paid(monthly).doubts) == ("vision_pro_28day", ())
