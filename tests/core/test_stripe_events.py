"""What Stripe's events mean: each trap as an example, and any JSON whatever as a property."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentill.core.catalog import EXAMPLE, Catalog, Pack, Plan
from tokentill.core.stripe_events import (
    Intention,
    PackPaid,
    PeriodPaid,
    SubscriptionStarted,
    Who,
    describe,
    interpret,
)
from tokentill.core.stripe_payloads import Ignored, Unclear
from tokentill.demo.stripe_shapes import (
    NEW,
    OLD,
    ApiVersion,
    Payload,
    checkout_pack,
    checkout_subscription,
    invoice_paid,
    sign,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CYCLE = timedelta(days=28)
SAMPLES = Path(__file__).parents[2] / "../shared/samples/stripe"

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


def pack_paid(event: Payload, catalog: Catalog = EXAMPLE) -> PackPaid:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, PackPaid), meaning
    return meaning


def started(event: Payload, catalog: Catalog = EXAMPLE) -> SubscriptionStarted:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, SubscriptionStarted), meaning
    return meaning


def period_paid(event: Payload, catalog: Catalog = EXAMPLE) -> PeriodPaid:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, PeriodPaid), meaning
    return meaning


def ignored(event: Payload, catalog: Catalog = EXAMPLE) -> str:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, Ignored), meaning
    return meaning.reason


def unclear(event: Payload, catalog: Catalog = EXAMPLE) -> str:
    meaning = interpret(event, catalog)
    assert isinstance(meaning, Unclear), meaning
    return meaning.reason


def selling(*, plans: tuple[Plan, ...] = (), packs: tuple[Pack, ...] = ()) -> Catalog:
    """The example catalog with some offers replaced or added."""
    return replace(
        EXAMPLE,
        plans={**EXAMPLE.plans, **{plan.key: plan for plan in plans}},
        packs={**EXAMPLE.packs, **{pack.key: pack for pack in packs}},
    )


# --- Packs ---


@both_versions
def test_a_paid_checkout_buys_a_pack(version: ApiVersion) -> None:
    event = pack_sale(customer_id="cus_1", email="a@example.com", api_version=version)

    assert interpret(event, EXAMPLE) == PackPaid(
        who=Who(client_reference_id="user-1", metadata_user_id="user-1", customer_id="cus_1", email="a@example.com"),
        session_id="cs_test_1",
        payment_id="pi_1",
        items=(("power", 1),),
        amount_paid_cents=9_900,
        currency="usd",
        occurred_at=NOW + timedelta(seconds=5),
    )


def test_an_unpaid_checkout_waits_and_its_late_payment_buys_the_same() -> None:
    paid_at_once = pack_paid(pack_sale())

    assert "async_payment_succeeded" in ignored(pack_sale(payment_status="unpaid"))
    assert pack_paid(pack_sale(event_type="checkout.session.async_payment_succeeded")) == paid_at_once


def test_a_checkout_that_cost_nothing_is_named_by_its_session() -> None:
    sale = pack_paid(pack_sale(discount_cents=9_900, payment_status="no_payment_required"))

    assert (sale.payment_id, sale.amount_paid_cents, sale.items) == ("cs_test_1", 0, (("power", 1),))


def test_the_tokens_and_quantity_that_metadata_claims_are_not_believed() -> None:
    assert pack_paid(pack_sale(metadata={"tokens": "99999999999", "quantity": "50"})) == pack_paid(pack_sale())


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("power", "power"),
        ("POWER", "power"),
        ("power_pack", "power"),
        ("Power Pack", "power"),
        ("powerpack", "power"),
        ("token-pack-mega", "mega"),
        ("price_ultra", "ultra"),
    ],
)
def test_a_pack_goes_by_many_names(name: str, pack: str) -> None:
    catalog = selling(packs=(replace(EXAMPLE.packs["ultra"], price_ids=("price_ultra",)),))

    for field in ("pack", "pack_id", "pack_key", "token_pack", "token_pack_id", "product_key", "price_key", "type"):
        event = pack_sale(pack_key=None, amount_cents=1_234, metadata={field: name})
        assert pack_paid(event, catalog).items == ((pack, 1),)


def test_without_a_name_the_amount_tells_the_pack() -> None:
    assert pack_paid(pack_sale(pack_key=None, amount_cents=39_900)).items == (("ultra", 1),)
    assert pack_paid(pack_sale(pack_key=None, amount_cents=19_900, discount_cents=5_000)).items == (("mega", 1),)
    assert "no pack" in ignored(pack_sale(pack_key=None, amount_cents=19_800))
    assert "no pack" in ignored(pack_sale(pack_key=None, amount_cents=9_900, currency="eur"))


def test_an_amount_that_two_packs_share_tells_nothing() -> None:
    twin = Pack(key="starter", name="Starter", price_cents=9_900, tokens=1)

    assert "more than one" in ignored(pack_sale(pack_key=None), selling(packs=(twin,)))


def test_a_free_pack_is_not_told_by_its_amount() -> None:
    gift = Pack(key="gift", name="Gift", price_cents=0, tokens=1)

    assert "no pack" in ignored(pack_sale(pack_key=None, amount_cents=0), selling(packs=(gift,)))
    assert pack_paid(pack_sale(pack_key="gift", amount_cents=0), selling(packs=(gift,))).items == (("gift", 1),)


def test_a_pack_that_is_not_ours_is_not_guessed_from_its_amount() -> None:
    assert ignored(pack_sale(pack_key="retreat_ticket")) == "the catalog has no pack retreat_ticket"


def test_a_plan_paid_for_once_is_no_pack() -> None:
    assert "no pack" in ignored(pack_sale(pack_key=None, amount_cents=99_900, metadata={"plan": "vision_pro_annual"}))
    assert pack_paid(pack_sale(pack_key=None, metadata={"plan": "mega"})).items == (("power", 1),)


def test_the_subtotal_proves_how_many() -> None:
    assert pack_paid(pack_sale(amount_cents=29_700)).items == (("power", 3),)
    assert pack_paid(pack_sale(amount_cents=29_700, discount_cents=9_900)).items == (("power", 3),)
    assert pack_paid(pack_sale(amount_cents=29_701)).items == (("power", 1),)
    assert pack_paid(pack_sale(amount_cents=29_700, currency="eur")).items == (("power", 1),)


def test_a_cart_that_was_expanded_tells_packs_and_quantities() -> None:
    mega = replace(EXAMPLE.packs["mega"], price_ids=("price_mega",))
    cart = (
        cart_line("price_mega", quantity=2),
        cart_line("price_shirt", unit=9_900),
        cart_line(quantity=None, lookup_key="ultra"),
        cart_line("price_mega", quantity=1),
    )

    event = with_cart(pack_sale(), *cart)

    # The shirt costs what the power pack costs; the others say what they are, so nothing is guessed.
    assert pack_paid(event, selling(packs=(mega,))).items == (("mega", 3), ("ultra", 1))


def test_a_cart_says_what_it_is_in_the_metadata_of_price_or_product() -> None:
    by_price = with_cart(pack_sale(pack_key=None), cart_line(metadata={"pack_id": "mega"}))
    by_product = with_cart(pack_sale(pack_key=None), cart_line(product={"metadata": {"pack": "ultra"}}))

    assert pack_paid(by_price).items == (("mega", 1),)
    assert pack_paid(by_product).items == (("ultra", 1),)


def test_a_cart_of_nameless_prices_is_told_by_name_or_amount() -> None:
    unnamed = pack_sale(pack_key=None)

    assert pack_paid(with_cart(pack_sale(), cart_line(quantity=4))).items == (("power", 4),)
    assert pack_paid(with_cart(pack_sale(amount_cents=29_700), cart_line(), cart_line())).items == (("power", 1),)
    assert pack_paid(with_cart(unnamed, cart_line(unit=9_900, quantity=2), cart_line())).items == (("power", 2),)


def test_a_cart_line_without_a_unit_price_is_told_by_its_share() -> None:
    shared = cart_line(quantity=2) | {"price": None, "amount_subtotal": 39_800}

    assert pack_paid(with_cart(pack_sale(pack_key=None), shared)).items == (("mega", 2),)


@pytest.mark.parametrize("quantity", [0, -1, 10**7, 10**30, "2", True, 1.5])
def test_an_impossible_quantity_is_unclear(quantity: Any) -> None:
    assert "quantity" in unclear(
        with_cart(pack_sale(), cart_line(lookup_key="power", quantity=1) | {"quantity": quantity})
    )


def test_a_cart_that_is_cut_off_is_unclear() -> None:
    assert "more line items" in unclear(with_cart(pack_sale(), cart_line(lookup_key="power"), has_more=True))


# --- Subscriptions ---


@both_versions
def test_a_paid_checkout_starts_a_plan(version: ApiVersion) -> None:
    event = start(plan_key="vision_pro_28day", customer_id="cus_1", api_version=version)

    assert interpret(event, EXAMPLE) == SubscriptionStarted(
        who=Who(client_reference_id="user-1", metadata_user_id="user-1", customer_id="cus_1"),
        session_id="cs_test_1",
        subscription_id="sub_1",
        invoice_id="in_1",
        plan_key="vision_pro_28day",
        amount_paid_cents=9_900,
        currency="usd",
        occurred_at=NOW,
    )


def test_a_pack_in_the_metadata_of_a_subscription_means_nothing() -> None:
    assert started(start(metadata={"pack_id": "power", "tokens": "2000000"})).plan_key == "vision_pro_28day"
    assert started(start(metadata={"pack_id": "annual"})).plan_key == "vision_pro_28day"


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("vision_pro_annual", "vision_pro_annual"),
        ("annual", "vision_pro_annual"),
        ("annual_plan", "vision_pro_annual"),
        ("pro-annual", "vision_pro_annual"),
        ("28day", "vision_pro_28day"),
        ("vision_pro_28day", "vision_pro_28day"),
        ("Vision Pro 28-Day", "vision_pro_28day"),
    ],
)
def test_a_plan_goes_by_many_names(name: str, plan: str) -> None:
    for field in ("plan", "plan_key", "plan_id", "product_key", "price_key", "type", "purchase_type"):
        assert started(start(amount_cents=1_234, metadata={field: name})).plan_key == plan


@pytest.mark.parametrize("name", ["vision", "pro", "plan", "ual", "!!!", " "])
def test_a_name_that_is_not_the_end_of_one_key_names_nothing(name: str) -> None:
    assert "no plan" in ignored(start(amount_cents=1_234, plan_key=name))


def test_a_short_form_that_two_keys_share_names_nothing() -> None:
    lite = Plan(key="lite_annual", name="Lite", kind="annual", price_cents=100, tokens=1)

    assert "no plan" in ignored(start(amount_cents=1_234, plan_key="annual"), selling(plans=(lite,)))
    assert started(start(amount_cents=1_234, plan_key="lite_annual"), selling(plans=(lite,))).plan_key == "lite_annual"


def test_a_plan_without_a_latin_name_is_not_what_everything_is_called() -> None:
    light = Plan(key="light_plan", name="光", kind="drip", price_cents=100, tokens=1)
    signs = Plan(key="signs_plan", name="***", kind="drip", price_cents=200, tokens=1)
    catalog = selling(plans=(light, signs))

    assert "no plan" in ignored(start(amount_cents=1_234, plan_key="!"), catalog)
    assert started(start(amount_cents=1_234, plan_key="光"), catalog).plan_key == "light_plan"


def test_without_a_name_the_amount_tells_the_plan() -> None:
    assert started(start(amount_cents=99_900)).plan_key == "vision_pro_annual"
    assert started(start(amount_cents=99_900, discount_cents=50_000)).plan_key == "vision_pro_annual"
    assert "no plan" in ignored(start(amount_cents=5_000))


def test_a_trial_pays_no_period_and_a_full_discount_does() -> None:
    free = {"plan_key": "annual", "payment_status": "no_payment_required"}
    discounted = started(start(amount_cents=99_900, discount_cents=99_900, **free))
    no_subtotal = start(amount_cents=0, **free)
    del payload(no_subtotal)["amount_subtotal"]

    assert discounted.amount_paid_cents == 0
    assert "trial" in ignored(start(amount_cents=0, **free))
    assert "trial" in ignored(no_subtotal)


def test_a_trial_is_told_by_the_subtotal_though_the_subscription_names_its_price() -> None:
    event = start(amount_cents=0, payment_status="no_payment_required")
    payload(event)["subscription"] = {"id": "sub_1", "items": {"data": [{"price": {"id": "vision_pro_annual"}}]}}

    assert "trial" in ignored(event)


def test_a_trial_with_a_fee_for_setting_up_pays_no_period() -> None:
    fee, plan = cart_line("price_fee", unit=5_000), cart_line("price_p", lookup_key="vision_pro_annual", unit=99_900)
    expanded = start(amount_cents=5_000, plan_key="annual")
    payload(expanded)["subscription"] = {"id": "sub_1", "status": "trialing"}

    assert "trial" in ignored(with_cart(start(amount_cents=5_000), fee, plan | {"amount_subtotal": 0}))
    assert "trial" in ignored(expanded)


def test_a_checkout_is_read_from_expanded_objects() -> None:
    event = start(user_id=None, amount_cents=1_234)
    payload(event).update(
        {
            "id": {"id": "cs_test_1"},
            "customer": {"id": "cus_1", "email": "c@example.com", "metadata": {"user_id": "by-customer"}},
            "subscription": {
                "id": "sub_1",
                "status": "active",
                "metadata": {"user_id": "user-2"},
                "items": {
                    "data": [{"price": {"id": "price_1", "recurring": {"interval": "year", "interval_count": 1}}}]
                },
            },
            "invoice": {"id": "in_9", "payment_intent": {"id": "pi_9"}},
        }
    )
    payload(event)["subscription"]["items"]["data"][0]["price"]["unit_amount"] = 99_900

    meaning = started(event)

    assert (meaning.subscription_id, meaning.invoice_id, meaning.payment_id) == ("sub_1", "in_9", "pi_9")
    assert meaning.plan_key == "vision_pro_annual"
    assert meaning.who == Who(metadata_user_id="user-2", customer_id="cus_1", email="c@example.com")
    assert meaning.who.user_id == "user-2"


def test_a_buyer_is_whom_the_reference_names_then_the_metadata_then_nobody() -> None:
    assert Who(client_reference_id="a", metadata_user_id="b").user_id == "a"
    assert Who(metadata_user_id="b").user_id == "b"
    assert Who(customer_id="cus_1", email="a@example.com").user_id is None


@pytest.mark.parametrize(
    "place",
    [
        {"metadata": {"user_id": "found"}},
        {"metadata": {"userId": "found"}},
        {"payment_intent": {"id": "pi_1", "metadata": {"user_id": "found"}}},
        {"invoice": {"id": "in_1", "metadata": {"user_id": "found"}}},
        {"customer": {"id": "cus_1", "metadata": {"user_id": "found"}}},
    ],
)
def test_a_buyer_is_found_in_whichever_object_names_it(place: Payload) -> None:
    event = pack_sale(user_id=None)
    payload(event)["metadata"] = {"pack_id": "power"}
    for key, value in place.items():
        payload(event)[key] = {"pack_id": "power", **value} if key == "metadata" else value

    assert pack_paid(event).who.user_id == "found"


def test_an_email_is_found_where_the_version_keeps_it() -> None:
    event = pack_sale()
    payload(event)["customer_email"] = "typed@example.com"

    assert pack_paid(event).who.email == "typed@example.com"


def test_a_name_that_the_database_cannot_hold_is_no_name() -> None:
    for unfit in ("a\x00b", "a\ud800", "", "   ", "x" * 256, 42, ["user-1"]):
        event = pack_sale()
        payload(event)["client_reference_id"] = unfit
        assert pack_paid(event).who.client_reference_id is None


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

    assert "trial" in ignored(invoice(api_version=version, metadata={"plan": "28day"}, **trial))
    assert "trial" in ignored(with_fee)


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


# --- What cannot be read ---


@pytest.mark.parametrize(
    "event_type",
    [
        "charge.refunded",
        "charge.dispute.created",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "checkout.session.async_payment_failed",
        "invoice.payment_failed",
        "v2.core.event_destination.ping",
    ],
)
def test_other_events_are_stored_and_not_acted_on(event_type: str) -> None:
    assert ignored({"type": event_type}) == f"{event_type} is stored, and not acted on"


def test_a_reason_can_always_be_stored() -> None:
    assert ignored({"type": "a\x00\ud800"}) == "unreadable is stored, and not acted on"
    assert ignored({"type": "é" * 100}).isascii()
    assert len(ignored({"type": "x" * 200})) < 120


def test_a_checkout_in_mode_setup_sells_nothing() -> None:
    event = pack_sale(payment_status="no_payment_required")
    payload(event)["mode"] = "setup"

    assert "setup" in ignored(event)


@pytest.mark.parametrize("wrong", [None, "", True, [], {}, 10**30, -1, 1.5, float("nan"), "\x00"])
@pytest.mark.parametrize("field", ["mode", "payment_status", "id", "currency", "amount_total"])
def test_a_session_without_what_a_purchase_needs_is_unclear(field: str, wrong: Any) -> None:
    for event in (pack_sale(), start()):
        payload(event)[field] = wrong
        assert unclear(event)


@pytest.mark.parametrize("field", ["billing_reason", "id", "currency", "amount_paid", "lines"])
def test_an_invoice_without_what_a_period_needs_is_unclear(field: str) -> None:
    nothings: tuple[Any, ...] = (None, "", 10**30, True, [], {})
    for wrong in nothings:
        event = invoice()
        payload(event)[field] = wrong
        assert unclear(event)


def test_a_status_that_is_no_status_is_unclear() -> None:
    event = invoice()
    payload(event)["status"] = ["paid"]

    assert "status is unreadable" in unclear(event)


def test_a_subscription_without_an_id_is_unclear() -> None:
    checkout, paid = start(), invoice()
    payload(checkout)["subscription"] = None
    payload(paid)["parent"] = None
    line(paid)["parent"]["subscription_item_details"]["subscription"] = {"object": "subscription"}

    assert "no subscription" in unclear(checkout)
    assert "no subscription" in unclear(paid)


@pytest.mark.parametrize(
    "period",
    [
        None,
        "2026",
        {},
        {"start": 1, "end": None},
        {"start": 2, "end": 1},
        {"start": 1, "end": 1},
        {"start": 1, "end": 10**12},
        {"start": -1, "end": 10},
        {"start": True, "end": 10},
    ],
)
def test_a_line_without_a_period_is_unclear(period: Any) -> None:
    event = invoice()
    line(event)["period"] = period

    assert unclear(event) == "the line of the plan has no period"


def test_an_event_without_an_object_or_a_type_is_unclear() -> None:
    assert unclear({}) == unclear({"type": None}) == "the event has no type"
    assert unclear({"type": "invoice.paid"}) == "the event has no data.object"
    assert unclear({"type": "invoice.paid", "data": {"object": []}}) == "the event has no data.object"


def test_a_moment_is_taken_from_the_next_best_place() -> None:
    sale, subscription, paid = pack_sale(), start(), invoice()
    del sale["created"], payload(subscription)["created"], payload(paid)["status_transitions"]

    assert pack_paid(sale).occurred_at == NOW
    assert started(subscription).occurred_at == NOW + timedelta(seconds=5)
    assert period_paid(paid).occurred_at == NOW + timedelta(seconds=5)
    del paid["created"]
    assert period_paid(paid).occurred_at == NOW
    del payload(sale)["created"], subscription["created"], payload(paid)["created"]
    for event in (sale, subscription, paid):
        assert "neither" in unclear(event)


# --- Anything whatever ---

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**30)
    | st.floats(allow_nan=True)
    | st.text(max_size=5)
    | st.sampled_from(["paid", "payment", "subscription", "power", "usd", "9900", "\x00", "\ud800", "year"])
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "data", "object", "price", "metadata", "plan", "amount"]), inner)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into nested JSON."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, inner in steps for found in [(*path, step), *places(inner, (*path, step))]]


EXPANDED = {"id": "x_1", "metadata": {"user_id": "u", "plan": "28day"}, "status": "active", "items": {"data": [{}]}}


def expanded_sale() -> Payload:
    event = with_cart(pack_sale(), cart_line(quantity=2), cart_line(lookup_key="mega"))
    payload(event).update({key: copy.deepcopy(EXPANDED) for key in ("customer", "payment_intent", "invoice")})
    return event


def expanded_start() -> Payload:
    event = start()
    payload(event).update({"subscription": copy.deepcopy(EXPANDED), "invoice": payload(invoice())})
    return event


SHAPES: list[Callable[[], Payload]] = [
    pack_sale,
    expanded_sale,
    start,
    expanded_start,
    lambda: invoice(api_version=OLD),
    lambda: invoice(discount_cents=9_900),
]


@settings(max_examples=500)
@given(data=st.data())
def test_whatever_stands_anywhere_there_is_an_answer(data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(SHAPES))()
    for _ in range(data.draw(st.integers(1, 4))):
        *path, last = data.draw(st.sampled_from(places(event) or [("type",)]))
        parent: Any = event
        for step in path:
            parent = parent[step]
        if data.draw(st.booleans()):
            parent[last] = data.draw(anything)
        elif isinstance(parent, dict):
            parent.pop(last, None)

    assert_sound(interpret(event, EXAMPLE))


@given(event=st.dictionaries(st.sampled_from(["type", "data", "created", "id"]), anything))
def test_any_json_object_has_an_answer(event: dict[str, Any]) -> None:
    assert_sound(interpret(event, EXAMPLE))


@pytest.mark.parametrize("wrong", [None, "text", 10**30, True, 1.5, float("nan"), float("inf"), [], {}, [[]], [{}]])
@pytest.mark.parametrize("make", SHAPES)
def test_each_place_may_hold_the_wrong_thing_or_nothing(make: Callable[[], Payload], wrong: Any) -> None:
    for *path, last in places(make()):
        event = make()
        parent: Any = event
        for step in path:
            parent = parent[step]
        parent[last] = copy.deepcopy(wrong)
        assert_sound(interpret(event, EXAMPLE))
        del parent[last]
        assert_sound(interpret(event, EXAMPLE))


def assert_sound(meaning: Intention | Ignored | Unclear) -> None:
    """What every answer promises to the service and to the database."""
    assert describe(meaning)
    match meaning:
        case Ignored() | Unclear():
            assert meaning.reason.isascii() and len(meaning.reason) < 200
        case PackPaid():
            assert meaning.items and all(key in EXAMPLE.packs and 0 < count <= 10**6 for key, count in meaning.items)
        case SubscriptionStarted():
            assert meaning.plan_key in EXAMPLE.plans
        case PeriodPaid():
            assert meaning.plan_key in EXAMPLE.plans and meaning.period_start < meaning.period_end
    if isinstance(meaning, PackPaid | SubscriptionStarted | PeriodPaid):
        assert 0 <= meaning.amount_paid_cents < 2**63 and type(meaning.amount_paid_cents) is int
        assert meaning.occurred_at.tzinfo is UTC
        assert meaning.currency.islower() and len(meaning.currency) == 3


# --- Describing, signing, samples ---


def test_a_line_for_the_log() -> None:
    cart = replace(pack_paid(pack_sale()), items=(("power", 2), ("mega", 1)), amount_paid_cents=1_234_567)
    nobody = replace(cart, who=Who(email="secret@example.com"), currency="eur")
    yen = replace(cart, who=Who(customer_id="cus_1"), currency="jpy")

    assert describe(pack_paid(pack_sale())) == "pack power for user-1, $99.00"
    assert describe(cart) == "pack 2 x power + mega for user-1, $12,345.67"
    assert describe(nobody) == "pack 2 x power + mega for an unknown user, 12,345.67 EUR"
    assert describe(yen) == "pack 2 x power + mega for cus_1, 1,234,567 JPY"
    assert describe(started(start())) == "start of plan vision_pro_28day for user-1, $99.00"
    assert describe(period_paid(invoice())) == (
        "period of plan vision_pro_28day for user-1, 2026-01-01 to 2026-01-29, $99.00"
    )
    assert describe(period_paid(invoice(billing_reason="subscription_create"))).startswith("first period of plan")
    assert describe(pack_paid(pack_sale(user_id="a\nb"))) == "pack power for a\\nb, $99.00"
    assert describe(Ignored(reason="of no interest")) == "ignored: of no interest"
    assert describe(Unclear(reason="odd")) == "unclear: odd"


def test_a_signature_satisfies_stripes_own_verifier() -> None:
    stripe = pytest.importorskip("stripe")
    body = json.dumps(pack_sale()).encode()
    header = sign(body, "whsec_test", NOW)

    assert stripe.WebhookSignature.verify_header(body.decode(), header, "whsec_test", tolerance=None)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body.decode() + " ", header, "whsec_test", tolerance=None)


def test_events_of_one_object_have_ids_of_their_own() -> None:
    first, second = invoice(), invoice(event_type="invoice.payment_succeeded")

    assert first["id"] != second["id"]
    assert first["data"] == second["data"]
    assert pack_sale(event_id="evt_mine")["id"] == "evt_mine"


SAMPLE_MEANINGS = {
    "2024-04-10__charge_refunded_partial_50pct": "ignored: charge.refunded is stored, and not acted on",
    "2024-04-10__checkout_completed_payment_paid": "pack power for user-0001, $99.00",
    "2024-04-10__checkout_completed_subscription": "start of plan vision_pro_28day for user-0001, $99.00",
    "2024-04-10__dispute_created_needs_response": "ignored: charge.dispute.created is stored, and not acted on",
    "2024-04-10__invoice_paid_subscription_create": (
        "first period of plan vision_pro_28day for user-0001, 2026-01-01 to 2026-01-29, $99.00"
    ),
    "2024-04-10__invoice_paid_subscription_cycle_1": (
        "period of plan vision_pro_28day for user-0001, 2026-01-29 to 2026-02-26, $99.00"
    ),
    "2024-04-10__subscription_created": "ignored: customer.subscription.created is stored, and not acted on",
    "2026-06-24.dahlia__checkout_completed_payment_paid": "pack power for user-0001, $99.00",
    "2026-06-24.dahlia__checkout_completed_subscription": "start of plan vision_pro_28day for user-0001, $99.00",
    "2026-06-24.dahlia__invoice_paid_subscription_create": (
        "first period of plan vision_pro_28day for user-0001, 2026-01-01 to 2026-01-29, $99.00"
    ),
    "2026-06-24.dahlia__invoice_paid_subscription_cycle_1": (
        "period of plan vision_pro_28day for user-0001, 2026-01-29 to 2026-02-26, $99.00"
    ),
    "charge.refunded__2020-08-27__rubymock__5086bc34": "ignored: charge.refunded is stored, and not acted on",
    "checkout.session.completed__2020-08-27__djstripe__bfeea3c5": (
        "ignored: payment_status is unpaid; waits for checkout.session.async_payment_succeeded"
    ),
    "customer.subscription.created__2020-08-27__rubymock__a961ff23": (
        "ignored: customer.subscription.created is stored, and not acted on"
    ),
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample events are not at hand")
@pytest.mark.parametrize("name", SAMPLE_MEANINGS)
def test_a_recorded_event_means_what_it_meant(name: str) -> None:
    event = json.loads((SAMPLES / f"{name}.json").read_text())

    assert describe(interpret(event, EXAMPLE)) == SAMPLE_MEANINGS[name]
