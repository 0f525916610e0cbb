"""The catalog: what is sold, and how an ambiguous or unknown name is refused."""

from datetime import timedelta

import pytest

from tokentill.core.plans.catalog import EXAMPLE, Catalog, Pack, Plan
from tokentill.errors import UnknownPack, UnknownPlan


def test_the_example_sells_what_its_price_list_says() -> None:
    annual, monthly = EXAMPLE.only_plan("annual"), EXAMPLE.only_plan("drip")

    assert (annual.key, annual.price_cents, annual.tokens) == ("vision_pro_annual", 99_900, 5_000_000)
    assert (monthly.key, monthly.price_cents, monthly.tokens) == ("vision_pro_28day", 9_900, 375_000)
    assert (monthly.rollover_cycles, monthly.rollover_cap_tokens) == (3, None)
    assert {pack.key: (pack.price_cents, pack.tokens) for pack in EXAMPLE.packs.values()} == {
        "power": (9_900, 2_000_000),
        "mega": (19_900, 5_000_000),
        "ultra": (39_900, 12_000_000),
    }
    assert (EXAMPLE.trial_tokens, EXAMPLE.trial_days) == (1_000_000, 56)


def test_a_cycle_is_28_days_and_a_year_365() -> None:
    assert EXAMPLE.only_plan("drip").cycle == timedelta(seconds=28 * 86_400)
    assert EXAMPLE.only_plan("annual").cycle == timedelta(days=365)


def test_what_is_sold_is_found_by_its_key() -> None:
    assert EXAMPLE.plan("vision_pro_28day") is EXAMPLE.only_plan("drip")
    assert EXAMPLE.pack("mega").name == "Mega Pack"


def test_what_is_not_sold_is_refused_with_what_is() -> None:
    with pytest.raises(UnknownPlan, match=r"No plan 'gold'; the catalog has vision_pro_28day, vision_pro_annual\."):
        EXAMPLE.plan("gold")
    with pytest.raises(UnknownPack, match=r"No pack 'tiny'; the catalog has mega, power, ultra\."):
        EXAMPLE.pack("tiny")
    with pytest.raises(UnknownPack, match=r"the catalog has none\."):
        Catalog().pack("tiny")


def test_with_two_plans_of_a_kind_the_caller_must_name_one() -> None:
    plans = {key: Plan(key=key, name=key, kind="drip", price_cents=1, tokens=1) for key in ("gold", "silver")}

    with pytest.raises(UnknownPlan, match="The catalog has 2 drip plans; name the one you mean"):
        Catalog(plans=plans).only_plan("drip")
    with pytest.raises(UnknownPlan, match="The catalog has 0 annual plans"):
        Catalog(plans=plans).only_plan("annual")


def test_a_pack_is_sold_in_dollars_unless_it_says_otherwise() -> None:
    assert Pack(key="p", name="P", price_cents=1, tokens=1).currency == "usd"
