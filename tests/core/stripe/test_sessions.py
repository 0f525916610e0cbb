"""What a Checkout Session means: each trap as an example."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.core.stripe.reading import (
    NOW,
    both_versions,
    cart_line,
    ignored,
    pack_paid,
    pack_sale,
    payload,
    selling,
    start,
    started,
    subscription_seen,
    unclear,
    with_cart,
)
from tokentill.core.plans.catalog import EXAMPLE, Pack, Plan
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import Doubt, PackPaid, SubscriptionSeen, SubscriptionStarted, Who
from tokentill.samples.stripe import ApiVersion, Payload

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
    assert subscription_seen(start(amount_cents=0, **free)) == SubscriptionSeen(
        who=Who(client_reference_id="user-1", metadata_user_id="user-1"),
        subscription_id="sub_1",
        plan_key="vision_pro_annual",
        status="active",
        stripe_status="trialing",
        seen_at=NOW + timedelta(seconds=5),
        is_trial=True,
        occurred_at=NOW,
    )
    assert subscription_seen(no_subtotal).is_trial


def test_a_trial_is_told_by_the_subtotal_though_the_subscription_names_its_price() -> None:
    event = start(amount_cents=0, payment_status="no_payment_required")
    payload(event)["subscription"] = {
        "id": "sub_1",
        "items": {"data": [{"price": {"id": "vision_pro_annual"}}]},
        "trial_start": int(NOW.timestamp()),
        "trial_end": int(NOW.timestamp()) + 86_400,
    }

    seen = subscription_seen(event)

    assert (seen.plan_key, seen.is_trial) == ("vision_pro_annual", True)
    assert (seen.trial_starts_at, seen.trial_ends_at) == (NOW, NOW + timedelta(days=1))


def test_a_trial_with_a_fee_for_setting_up_pays_no_period() -> None:
    fee, plan = cart_line("price_fee", unit=5_000), cart_line("price_p", lookup_key="vision_pro_annual", unit=99_900)
    expanded = start(amount_cents=5_000, plan_key="annual")
    payload(expanded)["subscription"] = {"id": "sub_1", "status": "trialing"}

    assert subscription_seen(with_cart(start(amount_cents=5_000), fee, plan | {"amount_subtotal": 0})).is_trial
    assert subscription_seen(expanded).is_trial


def test_what_is_sold_for_nothing_is_no_trial() -> None:
    event = start(amount_cents=0, plan_key="annual", payment_status="no_payment_required")
    free = Plan(key="basic", name="Basic", kind="drip", price_cents=0, tokens=1)
    by_price = with_cart(start(amount_cents=0), cart_line("price_0", lookup_key="vision_pro_annual", unit=0))
    running = start(amount_cents=0, plan_key="annual")
    payload(running)["subscription"] = {"id": "sub_1", "status": "active", "trial_end": None}

    assert "sold for nothing" in ignored(start(amount_cents=0, plan_key="basic"), selling(plans=(free,)))
    assert "sold for nothing" in ignored(by_price)
    assert "sold for nothing" in ignored(running)
    payload(running)["subscription"]["trial_end"] = int(NOW.timestamp()) + 86_400
    assert subscription_seen(running).is_trial
    payload(event)["metadata"] = {}
    assert "no plan of the catalog" in ignored(event)


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


# --- What does not succeed ---


@both_versions
@pytest.mark.parametrize("event_type", ["checkout.session.async_payment_failed", "checkout.session.expired"])
def test_a_checkout_that_failed_grants_nothing_and_takes_nothing(event_type: str, version: ApiVersion) -> None:
    """However late it comes: what a success has granted stays."""
    for event in (
        pack_sale(payment_status="unpaid", event_type=event_type, api_version=version),
        start(payment_status="unpaid", event_type=event_type, api_version=version),
    ):
        assert "grants nothing and takes nothing; a later success still counts" in ignored(event)


# --- Doubts ---


def test_what_was_sold_decides_and_a_wrong_amount_is_a_doubt() -> None:
    cheap = pack_paid(pack_sale(pack_key="mega", amount_cents=9_900))

    assert cheap.items == (("mega", 1),)
    assert cheap.doubts == (Doubt(expected="19,900 usd for mega", found="9,900 usd"),)


def test_a_foreign_currency_is_a_doubt() -> None:
    assert pack_paid(pack_sale(currency="eur")).doubts == (Doubt(expected="9,900 usd for power", found="9,900 eur"),)
    assert started(start(plan_key="28day", currency="eur")).doubts == (
        Doubt(expected="9,900 usd for vision_pro_28day", found="eur"),
    )


def test_discounts_and_tax_are_no_doubt() -> None:
    taxed = pack_sale()
    payload(taxed)["amount_total"] = 11_800

    assert pack_paid(pack_sale(discount_cents=5_000)).doubts == ()
    assert pack_paid(taxed).doubts == ()
    assert pack_paid(pack_sale(amount_cents=29_700)).doubts == ()
    assert started(start(discount_cents=5_000)).doubts == ()


def test_an_amount_that_is_not_told_is_no_doubt() -> None:
    event, foreign = pack_sale(), pack_sale(currency="eur")
    del payload(event)["amount_subtotal"], payload(foreign)["amount_subtotal"]

    assert pack_paid(event).doubts == ()
    assert pack_paid(foreign).doubts == (Doubt(expected="9,900 usd for power", found="eur"),)


def test_each_line_of_a_cart_is_held_against_its_pack() -> None:
    event = with_cart(
        pack_sale(),
        cart_line("price_1", lookup_key="mega", unit=15_000, quantity=2),
        cart_line("price_2", lookup_key="power", unit=9_900),
        cart_line("price_shirt", unit=2_500),
    )

    assert pack_paid(event).doubts == (Doubt(expected="39,800 usd for 2 x mega", found="30,000 usd"),)


def test_a_named_pack_is_the_line_that_costs_what_it_costs() -> None:
    event = with_cart(pack_sale(amount_cents=22_300), cart_line(unit=2_500), cart_line(unit=9_900, quantity=2))

    assert (pack_paid(event).items, pack_paid(event).doubts) == ((("power", 2),), ())


def test_a_currency_that_stripe_itself_converted_is_no_doubt() -> None:
    """Adaptive pricing: the catalog's price was asked, and the buyer saw it in another currency."""
    event = pack_sale(amount_cents=17_900, currency="eur")
    payload(event)["currency_conversion"] = {
        "amount_subtotal": 19_800,
        "amount_total": 19_800,
        "fx_rate": "0.904",
        "source_currency": "usd",
    }

    assert (pack_paid(event).items, pack_paid(event).doubts) == ((("power", 2),), ())
    payload(event)["currency_conversion"]["source_currency"] = "eur"
    assert pack_paid(event).doubts[0].found == "17,900 eur"


def test_a_plan_whose_price_is_another_is_a_doubt() -> None:
    line = cart_line("price_1", lookup_key="vision_pro_28day", unit=8_000)

    assert started(with_cart(start(), line)).doubts == (
        Doubt(expected="9,900 usd for vision_pro_28day", found="8,000 usd"),
    )


def test_an_expanded_payment_intent_tells_the_charge() -> None:
    event = pack_sale()
    payload(event)["payment_intent"] = {"id": "pi_1", "latest_charge": "ch_1"}

    assert pack_paid(event).charge_id == "ch_1"
