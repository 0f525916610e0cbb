"""Pools: what an AI call used, every unit of it counted in exactly one place.

Pools never overlap: a token that was read from a cache is not also an uncached one, a reasoning token is not also
text. Providers do count them twice (OpenAI's `prompt_tokens` holds the cached ones, Anthropic's `input_tokens` does
not), so adding up what they report is how usage gets billed twice or not at all.

Units: whole model tokens, or seconds, characters, images, searches as the pools say. Counts reach from 0 to 2**53 − 1,
the largest whole number that every JSON parser still tells from its neighbours.
"""

from dataclasses import dataclass, field

from tokentill.core.values import Value, astuple
from tokentill.errors import InvalidAmount

COUNT_MAX = 2**53 - 1

INPUT_POOLS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
OUTPUT_POOLS = ("output_text", "reasoning", "audio_out", "image_out")
POOLS = (*INPUT_POOLS, *OUTPUT_POOLS, "seconds", "characters", "images", "web_searches")


def check_count(name: str, value: object) -> None:
    """Raises: InvalidAmount for what is not a whole number from 0 to 2**53 − 1."""
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise InvalidAmount(f"{name} must be a whole number from 0 to 2**53 − 1, not {value!r}.", field=name)


_ONLY_INTEGERS = {int}


class Pools(Value, frozen=True, kw_only=True):
    """The usage of one AI call, every unit of it in exactly one pool. Raises: InvalidAmount."""

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0  # Also what was written for half an hour, or without a stated lifetime.
    cache_write_1h: int = 0  # Also what was written for longer.
    audio_in: int = 0
    image_in: int = 0  # Also the frames of a video and the pages of a document, where a provider tells them apart.
    output_text: int = 0
    reasoning: int = 0
    audio_out: int = 0
    image_out: int = 0
    seconds: int = 0
    characters: int = 0
    images: int = 0  # Only where images are priced by the piece; otherwise their tokens are counted.
    web_searches: int = 0  # Run by the provider and billed by the search, beside the tokens they bring in.

    def __post_init__(self) -> None:
        counts = astuple(self)
        if set(map(type, counts)) == _ONLY_INTEGERS and min(counts) >= 0 and max(counts) <= COUNT_MAX:
            return
        for pool, count in zip(POOLS, counts, strict=True):
            check_count(pool, count)

    @property
    def input_tokens(self) -> int:
        return (
            self.input_uncached
            + self.cache_read
            + self.cache_write_5m
            + self.cache_write_1h
            + self.audio_in
            + self.image_in
        )

    @property
    def output_tokens(self) -> int:
        return self.output_text + self.reasoning + self.audio_out + self.image_out

    @classmethod
    def of_counts(cls, input_tokens: int | None, output_tokens: int | None) -> "Pools":
        """The pools of a call of which nothing else is known: nothing cached, all text. Raises: InvalidAmount."""
        return cls(input_uncached=input_tokens or 0, output_text=output_tokens or 0)

    def as_json(self) -> dict[str, int]:
        """Return the pools that were used, as a usage row keeps them: `Pools(**row)` gives them back."""
        return {pool: count for pool, count in zip(POOLS, astuple(self), strict=True) if count}


@dataclass(frozen=True, slots=True)
class UnreadableUsage:
    """A response whose usage is missing or contradicts itself. An answer, not an error: the call has happened.

    `core.usage.fallback` says what is charged for it.
    """

    reason: str
    raw: object = field(default=None, compare=False)  # What the provider sent as usage, fit to be kept in a row.
