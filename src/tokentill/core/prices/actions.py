"""AI actions: what the app uses AI for, and what a call of one takes from its user.

`core.usage.reading` reads what a call used, `core.prices.book` says what that cost us; `tokens_to_charge` turns both
into the tokens that the account pays, which is all that `core.ledger.decide` is given.

Units: tokens are whole; costs are cents (US) with six decimals.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from tokentill.core.usage.pools import check_count
from tokentill.errors import InvalidAmount

OUTPUT_TOKENS_USUAL = 4_096  # Of an answer whose length nobody has limited. A guess: only holds are measured by it.

_ONE = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AiAction:
    """A feature of the app that uses AI: what the app needs to make the call, and how its users pay for it.

    Raises: InvalidAmount for a `fixed` action without its tokens, a `cost_plus` one without its markup and the price of
    tokens, or a negative number.
    """

    key: str
    model: str | None = None  # None: the caller names the model with each call.
    provider: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None  # Of the answer: output tokens of the model.
    system_prompt: str | None = None
    charge: Literal["metered", "fixed", "cost_plus"] = "metered"
    fixed_tokens: int | None = None  # Per call; used when `charge` is "fixed".
    multiplier: Decimal = Decimal(1)  # On metered tokens: what a dearer model costs its users.
    model_multipliers: Mapping[str, Decimal] = field(default_factory=dict)  # By model; `multiplier` is for the others.
    markup: Decimal | None = None  # Of "cost_plus": 1.5 charges one and a half times the cost.
    cents_per_million_tokens: Decimal | None = None  # Of "cost_plus": what the account's tokens are worth.
    is_active: bool = True
    # When and by whom it was changed last, and by which edit (`ai_edits`): facts about it, no part of it.
    revision: int = field(default=1, compare=False)
    updated_at: datetime | None = field(default=None, compare=False)
    updated_by: str | None = field(default=None, compare=False)
    # Worked out once, since every spend asks for them.
    is_plain: bool = field(init=False, repr=False, compare=False)  # Counts are charged as they are.
    tokens_per_cent: tuple[int, int] | None = field(init=False, repr=False, compare=False)  # Marked up; a ratio.

    def __post_init__(self) -> None:
        if self.fixed_tokens is not None:
            check_count("fixed_tokens", self.fixed_tokens)
        elif self.charge == "fixed":
            raise InvalidAmount(
                f"The action {self.key!r} has a fixed charge but no fixed_tokens.", field="fixed_tokens"
            )
        for multiplier in (self.multiplier, *self.model_multipliers.values()):
            if not (multiplier.is_finite() and multiplier >= 0):
                raise InvalidAmount(f"multiplier must be 0 or more, not {multiplier}.", field="multiplier")
        per_cent = None
        if self.charge == "cost_plus":
            markup = self._positive("markup", self.markup)
            worth = self._positive("cents_per_million_tokens", self.cents_per_million_tokens)
            ratio = Fraction(markup) * 1_000_000 / Fraction(worth)
            per_cent = ratio.as_integer_ratio()
        object.__setattr__(self, "tokens_per_cent", per_cent)
        is_plain = self.charge == "metered" and self.multiplier == _ONE and not self.model_multipliers
        object.__setattr__(self, "is_plain", is_plain)

    def _positive(self, name: str, value: Decimal | None) -> Decimal:
        if value is None:
            raise InvalidAmount(f"The action {self.key!r} is charged by cost and has no {name}.", field=name)
        if not (value.is_finite() and value > 0):
            raise InvalidAmount(f"{name} must be more than 0, not {value}.", field=name)
        return value

    def multiplier_of(self, model: str | None) -> Decimal:
        """Return what this model's tokens are multiplied by; None: the model that serves the action.

        A name with a provider before it or a date after it (`openai/gpt-5-2025-08-07`) is the model's name, too, unless
        the longer one has a multiplier of its own.
        """
        for name in _names_of(model or self.model or "") if self.model_multipliers else ():
            if name in self.model_multipliers:
                return self.model_multipliers[name]
        return self.multiplier


# What providers put behind a model's name for one and the same model: gpt-5-2025-08-07, claude-…-20250929, …-latest.
_DATED = re.compile(r"[-@](\d{4}-\d\d-\d\d|\d{8}|latest)$")


def _names_of(model: str) -> Iterator[str]:
    """Yield the names that a model goes by, from the one given to the barest."""
    bare = model.rpartition("/")[2]
    for name in (model, bare):
        yield name
        yield _DATED.sub("", name)


EXAMPLE_ACTIONS: Mapping[str, AiAction] = {
    action.key: action
    for action in (
        AiAction(key="assessment_scoring"),
        AiAction(key="vision_generation"),
        AiAction(key="vision_refinement"),
        AiAction(key="blueprint_generation"),
        AiAction(key="chat_conversation"),
        AiAction(key="audio_generation", charge="fixed", fixed_tokens=1),
        AiAction(key="image_generation", charge="fixed", fixed_tokens=25),
        AiAction(key="transcription", charge="fixed", fixed_tokens=60),
        AiAction(key="life_vision_category_summary"),
        AiAction(key="life_vision_master_assembly"),
        AiAction(key="prompt_suggestions"),
        AiAction(key="frequency_flip"),
    )
}


def tokens_to_charge(
    action: AiAction,
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    tokens_used: int | None,
    success: bool,
    model: str | None = None,
    cost_cents: Decimal | None = None,
) -> int:
    """Return how many tokens the account pays for one call of this action.

    | the call | metered | fixed | cost_plus |
    | --- | --- | --- | --- |
    | failed | 0 | 0 | 0 |
    | has a cost | as below | as below | ceil(cost × markup ÷ price of a token) |
    | has input_tokens or output_tokens | ceil((input + output) × multiplier) | fixed_tokens | as metered |
    | has only tokens_used | ceil(tokens_used × multiplier) | tokens_used | tokens_used |
    | has none of them | InvalidAmount | fixed_tokens | InvalidAmount |

    Given means not None: a 0 is a count. One of input and output alone counts the other as 0. Counts outrank
    `tokens_used`, since they are what the provider said. A fixed charge outranks counts, because an image call
    reports text tokens, too; but a caller who names `tokens_used` and nothing else has decided the charge
    (three minutes of transcription, say). Whether the action is active is for the caller to ask.

    `model` picks the multiplier, where the action has several. `cost_cents` is what the call cost us, None where that
    is not known: a `cost_plus` call is charged by its counts then and never 0 for it, and `is_cost_missing` says so.
    Asked with the counts and the cost of the worst case, it returns the worst charge.

    Units: integers throughout and exact at any size; only the product is rounded, up: a cost above 0 takes a token.
    Raises: InvalidAmount for a count that is not a whole number from 0 to 2**53 − 1 (also of a failed call: the counts
    are recorded), or for a metered call that succeeded and says nothing about its size.
    """
    if input_tokens is not None:
        check_count("input_tokens", input_tokens)
    if output_tokens is not None:
        check_count("output_tokens", output_tokens)
    if tokens_used is not None:
        check_count("tokens_used", tokens_used)
    if not success:
        return 0

    if cost_cents is not None and action.tokens_per_cent is not None:
        return _marked_up(cost_cents, action.tokens_per_cent)
    has_counts = input_tokens is not None or output_tokens is not None
    if not has_counts and action.charge != "metered" and tokens_used is not None:
        return tokens_used
    if action.charge == "fixed":
        assert action.fixed_tokens is not None, action
        return action.fixed_tokens

    if has_counts:
        effective_tokens = (input_tokens or 0) + (output_tokens or 0)
    elif tokens_used is not None:
        effective_tokens = tokens_used
    else:
        raise _sizeless(action)
    if action.is_plain:
        return effective_tokens
    # A ratio of integers: Decimal's own product is rounded to the context's digits before it could be rounded up.
    numerator, denominator = action.multiplier_of(model).as_integer_ratio()
    return -(-effective_tokens * numerator // denominator)


def is_cost_missing(action: AiAction, cost_cents: Decimal | None, *, success: bool) -> bool:
    """Whether a call that is charged by its cost has to be charged otherwise, because nobody knows the cost."""
    return success and cost_cents is None and action.charge == "cost_plus"


def _marked_up(cost_cents: Decimal, tokens_per_cent: tuple[int, int]) -> int:
    assert cost_cents >= 0, cost_cents
    cents, parts = cost_cents.as_integer_ratio()
    tokens, per_cents = tokens_per_cent
    return -(-cents * tokens // (parts * per_cents))


def _sizeless(action: AiAction) -> InvalidAmount:
    if action.charge == "cost_plus":
        asked = "is charged by cost: give a usage whose price is known or cost_estimate"
    else:
        asked = "is metered: give input_tokens and output_tokens"
    return InvalidAmount(f"The action {action.key!r} {asked}, or tokens_used.", action_type=action.key)
