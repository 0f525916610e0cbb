"""Price matches: which of Stripe's prices is the offer's, and which only looks like it."""

from dataclasses import replace
from typing import Any

import pytest

from tokentill.core.plans.catalog import EXAMPLE
from tokentill.core.stripe.offers import price_for, price_params, product_for

MEGA, MONTHLY, ANNUAL = EXAMPLE.pack("mega"), EXAMPLE.plan("vision_pro_28day"), EXAMPLE.plan("vision_pro_annual")


def price(price_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": price_id, "active": True, "unit_amount": 19_900, "currency": "usd", "recurring": None,
        "product": "prod_1", "metadata": {}, "lookup_key": None, "billing_scheme": "per_unit", "created": 1, **fields,
    }  # fmt: skip


def product(product_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": product_id, "active": True, "metadata": {}, "created": 1, **fields}


def test_a_price_is_the_offers_when_something_says_so() -> None:
    named = {"product_key": "mega"}
    unclaimed = price("price_0")

    for claimed, products in (
        (price("price_1", lookup_key="mega"), []),
        (price("price_1", metadata=named), []),
        (price("price_1"), [product("prod_1", metadata=named)]),
    ):
        assert price_for(MEGA, products, [unclaimed | {"product": "prod_0"}, claimed]) == claimed
    assert price_for(MEGA, [], [unclaimed]) is None
    assert price_for(replace(MEGA, price_ids=("price_0",)), [], [unclaimed]) == unclaimed


@pytest.mark.parametrize(
    "fields",
    [
        {"active": False},
        {"unit_amount": 9_900},
        {"unit_amount": None},
        {"currency": "eur"},
        {"billing_scheme": "tiered"},
        {"recurring": {"interval": "year", "interval_count": 1}},
    ],
)
def test_a_price_that_charges_something_else_is_none(fields: dict[str, Any]) -> None:
    found = price("price_1", lookup_key="mega", **fields)

    assert price_for(MEGA, [], [found]) is None


@pytest.mark.parametrize(
    ("offer", "recurring", "fits"),
    [
        (MONTHLY, {"interval": "day", "interval_count": 28}, True),
        (MONTHLY, {"interval": "week", "interval_count": 4}, True),
        (MONTHLY, {"interval": "month", "interval_count": 1}, False),
        (MONTHLY, {"interval": "day", "interval_count": 28, "usage_type": "metered"}, False),
        (MONTHLY, None, False),
        (ANNUAL, {"interval": "year", "interval_count": 1}, True),
        (ANNUAL, {"interval": "month", "interval_count": 12}, True),
        (ANNUAL, {"interval": "year", "interval_count": 2}, False),
    ],
)
def test_a_plans_price_has_its_rhythm(offer: Any, recurring: dict[str, Any] | None, fits: bool) -> None:
    found = price("price_1", lookup_key=offer.key, unit_amount=offer.price_cents, recurring=recurring)

    assert (price_for(offer, [], [found]) == found) is fits


def test_what_sells_it_already_comes_first_then_the_oldest() -> None:
    prices = [price("price_b", lookup_key="mega"), price("price_c", created=2), price("price_a", created=3)]
    products = [product("prod_1", metadata={"product_key": "mega"})]

    def chosen(**fields: Any) -> str:
        found = price_for(replace(MEGA, **fields), products, prices)
        assert found is not None
        return str(found["id"])

    assert chosen() == "price_b"
    assert chosen(price_ids=("price_c", "price_a")) == "price_c"
    assert chosen(price_ids=("price_c", "price_a"), stripe_price_id="price_a") == "price_a"


def test_an_offers_product_is_that_of_a_price_it_had_else_the_one_that_names_it() -> None:
    products = [product("prod_1", metadata={"product_key": "mega"}), product("prod_2"), product("prod_3", active=False)]
    old = price("price_old", product="prod_2", active=False)

    def chosen(offer: Any) -> Any:
        found = product_for(offer, products, [old])
        return found and found["id"]

    assert chosen(MEGA) == "prod_1"
    assert chosen(replace(MEGA, price_ids=("price_old",))) == "prod_2"
    assert chosen(EXAMPLE.pack("ultra")) is None


def test_a_new_price_takes_the_lookup_key_with_it() -> None:
    made = price_params(MONTHLY, "prod_1")

    assert (made["lookup_key"], made["transfer_lookup_key"]) == ("vision_pro_28day", True)
    assert made["recurring"] == {"interval": "day", "interval_count": 28}
    assert "recurring" not in price_params(MEGA, "prod_1")
