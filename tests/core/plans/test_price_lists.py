"""Price lists: what a catalog is written as, how a wrong one is refused, and what an edit leaves alone."""

from dataclasses import replace
from typing import Any

import pytest

from tokentill.core.edits import Change
from tokentill.core.plans.catalog import EXAMPLE, Catalog, Pack
from tokentill.core.plans.price_lists import as_json, changed_offers, changes, read, with_price
from tokentill.errors import InvalidCatalog, UnknownPack, UnknownPlan

POWER: dict[str, Any] = {"name": "Power Pack", "price_cents": 9_900, "tokens": 2_000_000}
MONTHLY: dict[str, Any] = {"name": "Monthly", "kind": "drip", "price_cents": 900, "tokens": 10}


def listed(**packs: Any) -> dict[str, Any]:
    return {"packs": packs}


def selling(**fields: Any) -> Catalog:
    return Catalog(packs={"power": Pack(key="power", **POWER, **fields)})


def test_the_example_written_out_and_read_again_is_the_example() -> None:
    written = as_json(EXAMPLE)

    assert read(written, Catalog()) == EXAMPLE
    assert read(written, EXAMPLE) == EXAMPLE
    assert changes(EXAMPLE, EXAMPLE) == []


def test_what_a_list_leaves_out_is_retired_and_stays_known() -> None:
    after = read({"plans": {}, "packs": {"power": POWER}}, EXAMPLE)

    assert after.packs["power"] == EXAMPLE.packs["power"]
    assert after.pack("mega") == replace(EXAMPLE.packs["mega"], is_active=False)
    with pytest.raises(UnknownPack, match="'mega' is not sold any more"):
        after.pack_for_sale("mega")
    with pytest.raises(UnknownPlan, match="'vision_pro_annual' is not sold any more"):
        after.plan_for_sale("vision_pro_annual")
    with pytest.raises(UnknownPlan, match="The catalog has 0 drip plans"):
        after.only_plan("drip")
    assert {change.field for change in changes(EXAMPLE, after)} == {"is_active"}
    assert [offer.key for offer in changed_offers(EXAMPLE, after)] == [
        "vision_pro_28day", "vision_pro_annual", "mega", "ultra"
    ]  # fmt: skip


def test_what_was_retired_can_be_sold_again() -> None:
    retired = read({}, EXAMPLE)

    assert not any(offer.is_active for offer in retired.offers())
    assert read(as_json(EXAMPLE), retired) == EXAMPLE


def test_a_trial_that_is_not_mentioned_stays() -> None:
    before = Catalog(trial_tokens=5, trial_days=7)

    assert read({}, before) == before
    after = read({"trial": {"days": 14}}, before)
    assert (after.trial_tokens, after.trial_days) == (5, 14)
    assert changes(before, after) == [Change("trial", "days", 7, 14)]


def test_changes_say_both_sides() -> None:
    after = read(listed(power={**POWER, "price_cents": 10_900}), selling())

    assert changes(selling(), after) == [Change("pack power", "price_cents", 9_900, 10_900)]


# --- Stripe's prices ---


def test_known_prices_stay_known_when_a_list_does_not_name_them() -> None:
    before = selling(price_ids=("price_2", "price_1"), stripe_price_id="price_2")

    assert read(listed(power=POWER), before) == before
    named = read(listed(power={**POWER, "price_ids": ["price_3"]}), before).packs["power"]
    assert (named.price_ids, named.stripe_price_id) == (("price_3", "price_2", "price_1"), "price_2")


@pytest.mark.parametrize("change", [{"price_cents": 10_900}, {"currency": "eur"}])
def test_a_price_that_charges_something_else_sells_no_more_and_stays_known(change: dict[str, Any]) -> None:
    before = selling(price_ids=("price_1",), stripe_price_id="price_1")

    for repeated in ({}, {"stripe_price_id": "price_1"}):  # A whole catalog that was read, edited and sent back.
        after = read(listed(power={**POWER, **change, **repeated}), before).packs["power"]
        assert (after.price_ids, after.stripe_price_id) == (("price_1",), None)


def test_a_new_price_sells_from_now_on() -> None:
    before = selling(price_ids=("price_1",), stripe_price_id="price_1")

    after = read(listed(power={**POWER, "price_cents": 5, "stripe_price_id": "price_2"}), before).packs["power"]
    assert (after.price_ids, after.stripe_price_id) == (("price_2", "price_1"), "price_2")
    assert with_price(before, "power", "price_2").packs["power"].price_ids == ("price_2", "price_1")
    assert with_price(before, "power", "price_1") == before


def test_a_price_leaves_the_offer_that_had_it_for_the_one_that_names_it() -> None:
    before = selling(price_ids=("price_1",), stripe_price_id="price_1")

    after = read(listed(mega={**POWER, "price_ids": ["price_1"]}), before)
    assert (after.packs["mega"].price_ids, after.packs["power"].price_ids) == (("price_1",), ())
    assert after.packs["power"].stripe_price_id is None


# --- Refusals ---


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"pakcs": {}}, "A catalog has trial, plans and packs; 'pakcs' is not known"),
        ({"packs": []}, "packs must be a table"),
        ({"packs": {"power": 7}}, "packs.power must be a table"),
        ({"trial": {"token": 1}}, "trial: 'token' is not known"),
        ({"trial": {"tokens": 0}}, "trial.tokens must be from 1"),
        ({"trial": {"days": True}}, "trial.days must be a whole number"),
        (listed(**{"Po wer": POWER}), "packs.Po wer: a key is of a-z"),
        (listed(power={**POWER, "prize_cents": 1}), "packs.power: 'prize_cents' is not known; it has currency"),
        (listed(power={**POWER, "kind": "drip"}), "packs.power: 'kind' is not known"),
        (listed(power={**POWER, "name": ""}), "packs.power.name is missing"),
        (listed(power={"name": "Power", "tokens": 1}), "packs.power.price_cents is missing"),
        (listed(power={**POWER, "price_cents": 99.0}), "packs.power.price_cents must be a whole number"),
        (listed(power={**POWER, "price_cents": -1}), "packs.power.price_cents must be from 0"),
        (listed(power={**POWER, "tokens": 0}), "packs.power.tokens must be from 1"),
        (listed(power={**POWER, "currency": "dollars"}), "packs.power.currency must be three letters"),
        (listed(power={**POWER, "is_active": 1}), "packs.power.is_active must be true or false"),
        (listed(power={**POWER, "price_ids": "price_1"}), "packs.power.price_ids must be a list"),
        (listed(power={**POWER, "price_ids": [1]}), "packs.power.price_ids must be a text"),
        ({"plans": {"monthly": {**MONTHLY, "kind": "weekly"}}}, "plans.monthly.kind is 'annual' or 'drip'"),
        ({"plans": {"monthly": {**MONTHLY, "rollover_cycles": -1}}}, "rollover_cycles must be from 0"),
        ({"plans": {"monthly": {**MONTHLY, "rollover_cap_tokens": 0}}}, "rollover_cap_tokens must be from 1"),
        ({"plans": {"power": MONTHLY}, "packs": {"power": POWER}}, "'power' is a plan and a pack"),
        (
            listed(a={**POWER, "price_ids": ["price_1"]}, b={**POWER, "price_ids": ["price_1"]}),
            "The price price_1 is named by a and by b",
        ),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_with_what_and_where(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidCatalog) as caught:
        read(raw, Catalog())

    assert words in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_plan_keeps_its_kind_because_its_subscriptions_count_their_cycles_by_it() -> None:
    annual = as_json(EXAMPLE)["plans"]
    assert isinstance(annual, dict)
    annual["vision_pro_annual"]["kind"] = "drip"

    with pytest.raises(InvalidCatalog, match="vision_pro_annual is of kind annual and stays so"):
        read({"plans": annual}, EXAMPLE)
