"""Charges: what an action takes for a call, and never 0 by mistake."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.prices.actions import EXAMPLE_ACTIONS, AiAction, is_cost_missing, tokens_to_charge
from tokentill.errors import InvalidAmount

counts = st.integers(0, 10**6)

# -- Charge ------------------------------------------------------------------------------------------------------

METERED = AiAction(key="chat")
DEAR = AiAction(key="essay", multiplier=Decimal("1.5"))
IMAGE = AiAction(key="image", charge="fixed", fixed_tokens=25, multiplier=Decimal(3))


def charge(
    action: AiAction,
    given: int | None = None,
    made: int | None = None,
    used: int | None = None,
    *,
    success: bool = True,
) -> int:
    return tokens_to_charge(action, input_tokens=given, output_tokens=made, tokens_used=used, success=success)


def test_the_example_actions_are_the_twelve() -> None:
    fixed = {key: action.fixed_tokens for key, action in EXAMPLE_ACTIONS.items() if action.charge == "fixed"}

    assert list(EXAMPLE_ACTIONS) == [
        "assessment_scoring",
        "vision_generation",
        "vision_refinement",
        "blueprint_generation",
        "chat_conversation",
        "audio_generation",
        "image_generation",
        "transcription",
        "life_vision_category_summary",
        "life_vision_master_assembly",
        "prompt_suggestions",
        "frequency_flip",
    ]
    assert fixed == {"image_generation": 25, "audio_generation": 1, "transcription": 60}
    assert all(action.key == key and action.is_active for key, action in EXAMPLE_ACTIONS.items())
    assert all(action.multiplier == 1 for action in EXAMPLE_ACTIONS.values())


def test_metered_charges_input_and_output() -> None:
    assert charge(METERED, 500, 250) == 750
    assert charge(METERED, 500) == 500
    assert charge(METERED, None, 250) == 250
    assert charge(METERED, 0, 0, 99) == 0


def test_counts_outrank_tokens_used() -> None:
    assert charge(METERED, 500, 250, 99) == 750
    assert charge(METERED, None, None, 99) == 99


def test_a_metered_call_must_say_its_size() -> None:
    with pytest.raises(InvalidAmount, match="input_tokens and output_tokens, or tokens_used"):
        charge(METERED)
    with pytest.raises(InvalidAmount):
        charge(AiAction(key="once_fixed", fixed_tokens=25))


@pytest.mark.parametrize(("tokens", "charged"), [(0, 0), (1, 2), (2, 3), (3, 5), (1000, 1500)])
def test_a_multiplier_rounds_up(tokens: int, charged: int) -> None:
    assert charge(DEAR, tokens) == charged
    assert charge(DEAR, None, None, tokens) == charged


def test_a_fixed_charge_outranks_the_text_tokens_of_the_call() -> None:
    assert charge(IMAGE) == 25
    assert charge(IMAGE, 60, 1056) == 25
    assert charge(IMAGE, 0, None) == 25
    assert charge(IMAGE, 60, 1056, 99) == 25


def test_tokens_used_alone_is_kept_as_given() -> None:
    assert charge(IMAGE, None, None, 180) == 180
    assert charge(IMAGE, None, None, 0) == 0


def test_a_failed_call_is_free() -> None:
    for action in (METERED, DEAR, IMAGE):
        assert charge(action, success=False) == 0
        assert charge(action, 500, 250, 750, success=False) == 0


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", 2**53])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "tokens_used"])
@pytest.mark.parametrize("success", [True, False])
def test_counts_are_whole_numbers(name: str, value: Any, success: bool) -> None:
    given: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "tokens_used": None, name: value}

    with pytest.raises(InvalidAmount, match=name):
        tokens_to_charge(IMAGE, **given, success=success)


def test_the_largest_counts_are_charged_exactly() -> None:
    thrice_and_a_bit = AiAction(key="x", multiplier=Decimal("3.0000000000000000000000000001"))

    assert charge(METERED, 2**53 - 1, 2**53 - 1) == 2**54 - 2
    assert charge(METERED, 2**53 - 1) == 2**53 - 1
    assert charge(thrice_and_a_bit, 2**53 - 1) == 3 * (2**53 - 1) + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"charge": "fixed"},
        {"charge": "fixed", "fixed_tokens": -1},
        {"fixed_tokens": 2.5},
        {"multiplier": Decimal(-1)},
        {"multiplier": Decimal("NaN")},
    ],
)
def test_an_action_that_cannot_be_charged_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmount):
        AiAction(key="broken", **wrong)


@given(given=counts, made=counts, more=counts, multiplier=st.decimals(0, 100, places=6))
def test_more_tokens_never_charge_less(given: int, made: int, more: int, multiplier: Decimal) -> None:
    action = AiAction(key="x", multiplier=multiplier)
    exact = Fraction(multiplier) * (given + made)

    charged = charge(action, given, made)

    assert 0 <= charged <= charge(action, given + more, made)
    assert charged == charge(action, made, given) == charge(action, None, None, given + made)
    assert exact <= charged < exact + 1


# -- By cost and by model ----------------------------------------------------------------------------------------

BY_COST = AiAction(
    key="essay", charge="cost_plus", markup=Decimal("1.5"), cents_per_million_tokens=Decimal(5000),
    multiplier=Decimal(2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("cents", "tokens"),
    [
        ("0", 0),
        ("0.000001", 1),
        ("0.003333", 1),
        ("0.003334", 2),
        ("1", 300),
        ("12.345678", 3_704),
        ("5000", 1_500_000),
    ],
)
def test_a_call_charged_by_cost_takes_its_cost_with_the_markup(cents: str, tokens: int) -> None:
    """At $50 a million tokens one of them is worth 0.005 cents; marked up, a cent buys 300."""
    for counts in ((500, 250, None), (None, None, 99), (None, None, None)):
        charged = tokens_to_charge(
            BY_COST, input_tokens=counts[0], output_tokens=counts[1], tokens_used=counts[2], success=True,
            cost_cents=Decimal(cents),
        )  # fmt: skip
        assert charged == tokens


def test_where_the_cost_is_not_known_the_counts_are_charged_and_it_shows() -> None:
    assert charge(BY_COST, 500, 250) == 1_500
    assert charge(BY_COST, None, None, 99) == 99
    with pytest.raises(InvalidAmount, match="usage whose price is known"):
        charge(BY_COST)
    assert is_cost_missing(BY_COST, None, success=True)
    assert not is_cost_missing(BY_COST, Decimal(0), success=True)
    assert not is_cost_missing(BY_COST, None, success=False)
    assert not is_cost_missing(METERED, None, success=True)


def test_a_failed_call_is_free_whatever_it_cost_and_the_cost_decides_nothing_else() -> None:
    for action, success, tokens in ((BY_COST, False, 0), (METERED, True, 30), (IMAGE, True, 25)):
        charged = tokens_to_charge(
            action, input_tokens=10, output_tokens=20, tokens_used=None, success=success, cost_cents=Decimal(7)
        )
        assert charged == tokens


@given(
    cents=st.decimals(0, 10**12, places=6), more=st.decimals(0, 10**6, places=6),
    markup=st.decimals("0.000001", 1000, places=6), worth=st.decimals("0.000001", 10**9, places=6),
)  # fmt: skip
def test_a_charge_by_cost_is_exact_and_never_0_for_a_cost(
    cents: Decimal, more: Decimal, markup: Decimal, worth: Decimal
) -> None:
    action = AiAction(key="x", charge="cost_plus", markup=markup, cents_per_million_tokens=worth)
    exact = Fraction(cents) * Fraction(markup) / (Fraction(worth) / 10**6)

    charged, dearer = (
        tokens_to_charge(action, input_tokens=1, output_tokens=1, tokens_used=None, success=True, cost_cents=each)
        for each in (cents, cents + more)
    )

    assert exact <= charged < exact + 1
    assert (charged == 0) == (cents == 0)
    assert charged <= dearer


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        (None, 200), ("gpt-4o", 200), ("gpt-5", 300), ("openai/gpt-5", 300), ("gpt-5-2025-08-07", 300),
        ("openai/gpt-5-2025-08-07", 300), ("gpt-5-mini", 200), ("gpt-5-mini-2025-08-07", 200), ("o3", 0),
        ("claude-opus-4@20250514", 500), ("claude-opus-4-latest", 500), ("azure/o3", 900),
    ],
)  # fmt: skip
def test_a_dearer_model_costs_its_users_more(model: str | None, tokens: int) -> None:
    multipliers = {"gpt-5": Decimal(3), "o3": Decimal(0), "azure/o3": Decimal(9), "claude-opus-4": Decimal(5)}
    action = AiAction(key="chat", multiplier=Decimal(2), model_multipliers=multipliers)

    charged = tokens_to_charge(
        action, input_tokens=60, output_tokens=40, tokens_used=None, success=True, model=model
    )  # fmt: skip

    assert charged == tokens
    assert model or charge(replace(action, model="gpt-5"), 60, 40) == 300, "the action's own model, where none is named"


@pytest.mark.parametrize(
    "wrong",
    [
        {"markup": None}, {"markup": Decimal(0)}, {"markup": Decimal("NaN")}, {"cents_per_million_tokens": None},
        {"cents_per_million_tokens": Decimal(-1)}, {"model_multipliers": {"o3": Decimal(-1)}},
    ],
)  # fmt: skip
def test_an_action_charged_by_cost_needs_its_factors(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"charge": "cost_plus", "markup": Decimal(1), "cents_per_million_tokens": Decimal(1)}

    with pytest.raises(InvalidAmount):
        AiAction(key="broken", **right | wrong)
