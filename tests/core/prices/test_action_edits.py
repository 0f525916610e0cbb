"""Edits of AI actions: what is left out stays, what makes no sense is refused, and a round trip changes nothing."""

from decimal import Decimal, localcontext
from typing import Any

import pytest

from tokentill.core.prices.action_edits import FIELDS, as_json, changes, factor, read
from tokentill.core.prices.actions import EXAMPLE_ACTIONS, AiAction
from tokentill.errors import InvalidRequest

CHAT = EXAMPLE_ACTIONS["chat_conversation"]
WHOLE = {
    "model": "gpt-5", "provider": "openai", "temperature": 0.7, "max_tokens": 2_000, "system_prompt": "Be kind. ✓",
    "charge": "cost_plus", "fixed_tokens": None, "multiplier": "0.5", "model_multipliers": {"gpt-5": "2.5", "o3": "0"},
    "markup": "1.5", "cents_per_million_tokens": "5000", "is_active": False,
}  # fmt: skip


def test_every_field_comes_back_as_it_was_said() -> None:
    action = read("essay", WHOLE, None)

    assert as_json(action) == WHOLE
    assert tuple(WHOLE) == FIELDS
    assert (action.markup, action.model_multipliers) == (Decimal("1.5"), {"gpt-5": Decimal("2.5"), "o3": Decimal(0)})
    assert changes(action, read("essay", as_json(action), action)) == []


def test_what_is_left_out_stays_and_none_empties() -> None:
    before = read("essay", WHOLE, None)

    after = read("essay", {"temperature": None, "markup": 2}, before)

    assert [(each.field, each.before, each.after) for each in changes(before, after)] == [
        ("temperature", 0.7, None), ("markup", "1.5", "2"),
    ]  # fmt: skip
    assert read("essay", {}, before) == before
    assert read("essay", {}, None) == AiAction(key="essay")


def test_another_kind_of_charge_drops_the_numbers_of_the_old_one() -> None:
    image = EXAMPLE_ACTIONS["image_generation"]

    by_cost = read("image_generation", {"charge": "cost_plus", "markup": "3", "cents_per_million_tokens": 4950}, image)
    metered = read("image_generation", {"charge": "metered"}, by_cost)

    assert (by_cost.fixed_tokens, by_cost.markup) == (None, Decimal(3))
    assert (metered.markup, metered.cents_per_million_tokens) == (None, None)
    assert read("image_generation", {"charge": "fixed", "fixed_tokens": 25}, metered) == image


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"colour": "red"}, "'colour' is not known"),
        ({"model": ""}, "model is missing"),
        ({"model": "x" * 256}, "model has 256 characters"),
        ({"provider": "x" * 64}, "provider has 64"),
        ({"temperature": 2.1}, "temperature must be a number from 0 to 2"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens must be from 1"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number"),
        ({"system_prompt": "é" * 50_001}, "system_prompt has 100,002 bytes"),
        ({"system_prompt": "\x00"}, "system_prompt holds a NUL"),
        ({"charge": "free"}, "charge is metered, fixed or cost_plus"),
        ({"charge": "fixed"}, "needs fixed_tokens, as many"),
        ({"charge": "fixed", "fixed_tokens": 0}, "fixed_tokens must be from 1"),
        ({"fixed_tokens": 5}, "fixed_tokens is for actions that are charged fixed, not metered"),
        ({"charge": "cost_plus"}, "needs markup: 1.5 charges"),
        ({"charge": "cost_plus", "markup": 2}, "needs cents_per_million_tokens: 5000"),
        ({"markup": 2}, "markup is for actions that are charged cost_plus"),
        ({"charge": "cost_plus", "markup": 0, "cents_per_million_tokens": 1}, "markup must be a number above 0"),
        ({"charge": "cost_plus", "markup": 1, "cents_per_million_tokens": 0}, "cents_per_million_tokens must be"),
        ({"multiplier": -1}, "multiplier must be a number from 0 to 1,000,000, not '-1'"),
        ({"multiplier": "Infinity"}, "multiplier"),
        ({"multiplier": "dear"}, "multiplier"),
        ({"multiplier": True}, "multiplier"),
        ({"multiplier": "1e-13"}, "more than 12 decimals"),
        ({"multiplier": "1e-999999"}, "more than 12 decimals"),
        ({"multiplier": "1e999999"}, "multiplier must be"),
        ({"model_multipliers": {"gpt-5": -1}}, "model_multipliers.gpt-5 must be"),
        ({"model_multipliers": {"": 1}}, "a model of model_multipliers is missing"),
        ({"model_multipliers": [1]}, "model_multipliers must be an object"),
        ({"is_active": None}, "is_active must be true or false"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read("chat_conversation", raw, CHAT)
    assert words in refused.value.detail


@pytest.mark.parametrize("key", ["", "Essay", "1st", "a-b", "a" * 64, "admin_grant", "token_pack_purchase", 7, None])
def test_a_new_action_has_a_name_that_the_journal_can_show(key: Any) -> None:
    with pytest.raises(InvalidRequest):
        read(key, {}, None)


def test_numbers_keep_their_digits_in_a_coarse_context() -> None:
    with localcontext(prec=3):
        assert str(factor("123456.123456789012", "markup")) == "123456.123456789012"
        assert str(factor(Decimal("1E+3"), "markup")) == "1000"
    assert factor(0.1, "markup") == Decimal("0.1")
