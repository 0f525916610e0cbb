"""Checkouts: what Stripe is asked for, and what a caller may not ask."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tokentill.core.plans.catalog import EXAMPLE
from tokentill.core.stripe.checkouts import CheckoutAsked, checkout_id_of, session_params
from tokentill.core.users import User
from tokentill.errors import InvalidAmount, InvalidRequest, InvalidText

ANN = User.of("auth0|ann")
ID = UUID(int=7)
THANKS = "https://app.example/thanks"


def asked(**given: Any) -> CheckoutAsked:
    defaults: dict[str, Any] = {
        "pack": None, "plan": None, "quantity": 1, "success_url": THANKS, "cancel_url": None, "email": None,
        "metadata": None, "trial_days": None, "allow_promotion_codes": False,
    }  # fmt: skip
    return CheckoutAsked.of(given.pop("user", ANN), **(defaults | given))


def params(what: CheckoutAsked, customer_id: str | None = None, **changes: Any) -> dict[str, Any]:
    offer = EXAMPLE.plan(what.plan) if what.plan else EXAMPLE.pack(str(what.pack))
    return session_params(what, replace(offer, **changes), checkout_id=ID, customer_id=customer_id)


def test_a_pack_is_sold_in_a_payment_that_says_whose_it_is() -> None:
    assert params(asked(pack="mega", quantity=3, cancel_url="https://app.example/shop")) == {
        "mode": "payment",
        "line_items": [
            {
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 19_900,
                    "product_data": {"name": "Mega Pack", "metadata": {"product_key": "mega"}},
                },
                "quantity": 3,
            }
        ],
        "success_url": THANKS,
        "cancel_url": "https://app.example/shop",
        "client_reference_id": "auth0|ann",
        "metadata": {"user_id": "auth0|ann", "pack_id": "mega", "quantity": "3", "till_checkout": str(ID)},
        "payment_intent_data": {"metadata": {"user_id": "auth0|ann", "till_checkout": str(ID)}},
        "customer_creation": "always",
    }


def test_a_payment_intent_never_names_its_pack_or_it_would_grant_beside_the_session() -> None:
    made = params(asked(pack="mega", metadata={"campaign": "may"}))

    assert set(made["payment_intent_data"]["metadata"]) == {"user_id", "till_checkout"}
    assert made["metadata"]["campaign"] == "may"


def test_a_plan_is_sold_in_a_subscription_whose_invoices_say_the_same() -> None:
    made = params(asked(plan="vision_pro_28day", trial_days=14, metadata={"campaign": "may"}))

    assert made["mode"] == "subscription"
    assert made["line_items"][0]["price_data"]["recurring"] == {"interval": "day", "interval_count": 28}
    assert made["metadata"] == {
        "user_id": "auth0|ann", "plan_id": "vision_pro_28day", "quantity": "1", "till_checkout": str(ID),
        "campaign": "may",
    }  # fmt: skip
    assert made["subscription_data"] == {"metadata": made["metadata"], "trial_period_days": 14}
    assert "payment_intent_data" not in made and "customer_creation" not in made
    yearly = params(asked(plan="vision_pro_annual"))
    assert yearly["line_items"][0]["price_data"]["recurring"] == {"interval": "year"}
    assert "trial_period_days" not in yearly["subscription_data"]


def test_the_price_that_sells_the_offer_is_named_where_there_is_one() -> None:
    made = params(asked(pack="mega"), stripe_price_id="price_2", price_ids=("price_1", "price_2"))

    assert made["line_items"] == [{"price": "price_2", "quantity": 1}]


def test_a_known_customer_outranks_an_email() -> None:
    known, new = (
        params(asked(pack="mega", email="a@b.example"), "cus_1"),
        params(asked(pack="mega", email="a@b.example")),
    )

    assert known["customer"] == "cus_1" and not {"customer_email", "customer_creation"} & known.keys()
    assert new["customer_email"] == "a@b.example" and "customer" not in new


def test_an_id_that_is_too_long_for_stripes_reference_is_told_by_metadata_alone() -> None:
    made = params(asked(pack="mega", user=User.of("x" * 201)))

    assert "client_reference_id" not in made
    assert made["metadata"]["user_id"] == "x" * 201


def test_a_checkouts_id_comes_of_user_and_key() -> None:
    one = checkout_id_of(ANN, "k")

    assert one == checkout_id_of(User.of("auth0|ann"), "k")
    assert len({one, checkout_id_of(ANN, "l"), checkout_id_of(User.of("bob"), "k")}) == 3
    with pytest.raises(InvalidText):
        checkout_id_of(ANN, "x" * 256)


def test_the_same_request_has_the_same_hash_and_another_one_another() -> None:
    same = asked(pack="mega", metadata={"a": "1", "b": "2"}).request_hash

    assert same == asked(pack="mega", metadata={"b": "2", "a": "1"}).request_hash
    others = [
        asked(pack="power", metadata={"a": "1", "b": "2"}), asked(pack="mega", metadata={"a": "1"}),
        asked(pack="mega", metadata={"a": "1", "b": "2"}, quantity=2),
        asked(pack="mega", metadata={"a": "1", "b": "2"}, success_url=THANKS + "?x"),
    ]  # fmt: skip
    assert same not in {each.request_hash for each in others}


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({}, InvalidRequest, "name a pack or a plan"),
        ({"pack": "mega", "plan": "p"}, InvalidRequest, "sells one thing"),
        ({"plan": "p", "quantity": 2}, InvalidRequest, "sold once"),
        ({"pack": "mega", "quantity": 0}, InvalidAmount, "quantity must be from 1"),
        ({"pack": "mega", "quantity": 1_001}, InvalidAmount, "quantity must be from 1 to 1,000"),
        ({"pack": "mega", "trial_days": 3}, InvalidRequest, "Only a plan"),
        ({"plan": "p", "trial_days": 731}, InvalidAmount, "trial_days must be from 1 to 730"),
        ({"pack": "mega", "success_url": "javascript:alert(1)"}, InvalidText, "success_url must be a web address"),
        ({"pack": "mega", "cancel_url": "https://a.example/ b"}, InvalidText, "cancel_url must be a web address"),
        ({"pack": "mega", "email": "nobody"}, InvalidText, "email must be"),
        ({"pack": "mega", "metadata": {"pack": "ultra"}}, InvalidText, "metadata.pack is for the till to set"),
        ({"pack": "mega", "metadata": {"userId": "bob"}}, InvalidText, "metadata.userId is for the till"),
        ({"pack": "mega", "metadata": {"till_x": "1"}}, InvalidText, "metadata.till_x is for the till"),
        ({"pack": "mega", "metadata": {"a": "x" * 501}}, InvalidText, "at most 500"),
        ({"pack": "mega", "metadata": {"x" * 41: "a"}}, InvalidText, "1 to 40 characters"),
        ({"pack": "mega", "metadata": {"a[b]": "a"}}, InvalidText, "no brackets"),
        ({"pack": "mega", "metadata": {str(n): "a" for n in range(41)}}, InvalidText, "at most 40 texts"),
        ({"pack": "mega", "metadata": {"a": "\x00"}}, InvalidText, "NUL"),
        ({"pack": "mega", "metadata": {"a": 1}}, InvalidText, "must be a text"),
    ],
)
def test_what_cannot_be_asked_is_refused(given: dict[str, Any], kind: type[InvalidRequest], words: str) -> None:
    with pytest.raises(kind, match=words):
        asked(**given)
