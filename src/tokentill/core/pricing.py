"""What an AI call used, what it costs us, and what it costs the user in tokens.

Three questions, three functions, nothing between them but values: `read_usage` turns a provider's response into
`Pools`, `cost_cents` turns pools and a price into money, `tokens_to_charge` turns an action and the counts into the
tokens that the account pays. `services.metering` finds the price; `core.ledger` is given the tokens.

Pools never overlap: a token that was read from a cache is not also an uncached one, a reasoning token is not also
text. Providers do count them twice (OpenAI's `prompt_tokens` holds the cached ones, Anthropic's `input_tokens` does
not), so adding up what they report is how usage gets billed twice or not at all.

Units: pools are whole model tokens, or seconds, characters, images, searches as they say; prices are cents (US) per
million of the pool's unit; costs are cents with six decimals. Counts reach from 0 to 2**53 − 1, the largest whole
number that every JSON parser still tells from its neighbours.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Literal

from tokentill.errors import InvalidAmount

Provider = Literal["openai", "anthropic"]

COUNT_MAX = 2**53 - 1
MICRO = Decimal("0.000001")
_ONE = Decimal(1)

# Its own context, because a host's `decimal.getcontext()` may be set to a few digits. 60 digits hold any count times
# any price of up to 40 digits, so the only rounding is the last one.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

INPUT_POOLS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
OUTPUT_POOLS = ("output_text", "reasoning", "audio_out", "image_out")
POOLS = (*INPUT_POOLS, *OUTPUT_POOLS, "seconds", "characters", "images", "web_searches")


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise InvalidAmount(f"{name} must be a whole number from 0 to 2**53 − 1, not {value!r}.", field=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The usage of one AI call, every unit of it in exactly one pool. Raises: InvalidAmount."""

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0  # Also what was written to a cache without a stated lifetime.
    cache_write_1h: int = 0
    audio_in: int = 0
    image_in: int = 0
    output_text: int = 0
    reasoning: int = 0
    audio_out: int = 0
    image_out: int = 0
    seconds: int = 0
    characters: int = 0
    images: int = 0  # Only where images are priced by the piece; otherwise their tokens are counted.
    web_searches: int = 0  # Run by the provider and billed by the search, beside the tokens they bring in.

    def __post_init__(self) -> None:
        for pool in POOLS:
            _check_count(pool, getattr(self, pool))

    @property
    def input_tokens(self) -> int:
        return sum(getattr(self, pool) for pool in INPUT_POOLS)

    @property
    def output_tokens(self) -> int:
        return sum(getattr(self, pool) for pool in OUTPUT_POOLS)

    def as_json(self) -> dict[str, int]:
        """Return the pools that were used, as a usage row keeps them: `Pools(**row)` gives them back."""
        return {pool: count for pool in POOLS if (count := getattr(self, pool))}


@dataclass(frozen=True, slots=True)
class UnreadableUsage:
    """A response whose usage is missing or contradicts itself. An answer, not an error: the call has happened."""

    reason: str


# -- Reading a response ------------------------------------------------------------------------------------------


def read_usage(response: Mapping[str, object], *, provider: Provider) -> Pools | UnreadableUsage:
    """Read what a call used from the whole response body, or say why that cannot be known.

    The pools add up to what the provider reports: `input_tokens` is all that went in, cached or not, `output_tokens`
    all that came out, reasoning included. Absent or null details count as none. Never a guess: a missing usage
    block, a part larger than its whole, totals that do not add up, a negative or fractional count are unreadable.

    `openai`: chat completions, responses, embeddings, images and transcriptions, and whoever speaks these shapes.
    Tool calls that OpenAI bills apart (web and file searches) are not in its usage and so not in the pools.
    `anthropic`: messages.

    Source: https://platform.openai.com/docs/api-reference and https://docs.anthropic.com/en/api/messages
    Raises: nothing.
    """
    reader = _READERS.get(provider)
    if reader is None:
        return UnreadableUsage(f"responses of provider {provider!r} cannot be read")
    try:
        return reader(response)
    except _Unreadable as unreadable:
        return UnreadableUsage(str(unreadable))


def read_stream_usage(events: Iterable[object], *, provider: Provider) -> Pools | UnreadableUsage:
    """Read what a streamed call used from its server-sent events, decoded, in the order in which they came.

    OpenAI sends usage once, in the last chunk, and for chat completions only when asked with
    `stream_options.include_usage`. Anthropic sends it with `message_start` and overwrites parts of it with each
    `message_delta`; until the first of those the output count is a placeholder, so a stream that broke off before
    one is unreadable. What is no event (`[DONE]`) is passed over.

    Raises: nothing.
    """
    decoded = [event for event in events if isinstance(event, Mapping)]
    response = _anthropic_stream_end(decoded) if provider == "anthropic" else _openai_stream_end(decoded)
    if response is None:
        return UnreadableUsage("the stream ended without its final usage")
    return read_usage(response, provider=provider)


class _Unreadable(Exception):
    """Carries a reason up to `read_usage`; nobody else sees it."""


def _read_openai(response: Mapping[str, object]) -> Pools:
    usage = _usage_block(response)
    if usage.get("type") == "duration":
        return Pools(seconds=_required(usage, "seconds"))

    is_chat = usage.get("prompt_tokens") is not None
    if is_chat and usage.get("input_tokens") not in (None, usage["prompt_tokens"]):
        raise _Unreadable("prompt_tokens and input_tokens disagree")
    if not is_chat and ("cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage):
        # Anthropic's input_tokens leave cached tokens out: read as OpenAI's, they would go unbilled.
        raise _Unreadable("the usage block is Anthropic's, not OpenAI's")
    input_key, output_key = ("prompt_tokens", "completion_tokens") if is_chat else ("input_tokens", "output_tokens")

    total_in = _required(usage, input_key)
    if usage.get(output_key) is None and (response.get("object") == "list" or usage.get("total_tokens") == total_in):
        total_out = 0  # Embeddings have no output; anything else must say that it had none.
    else:
        total_out = _required(usage, output_key)
    if usage.get("total_tokens") is not None and _required(usage, "total_tokens") != total_in + total_out:
        # Seen where reasoning is billed but left out of the output count: what it cost cannot be told from here.
        raise _Unreadable(f"total_tokens is not the sum of {input_key} and {output_key}")

    # Transcriptions and realtime say "token_details" where all others say "tokens_details".
    given = _details(usage, f"{input_key}_details", "input_token_details")
    cached = _details(given, "cached_tokens_details")
    cache_read = _count(given, "cached_tokens")
    cached_audio, cached_image = _count(cached, "audio_tokens"), _count(cached, "image_tokens")
    _rest("cached_tokens", cache_read, cached_audio, cached_image)
    cache_write = _count(given, "cache_write_tokens")
    audio_in = _rest("audio_tokens", _count(given, "audio_tokens"), cached_audio)
    image_in = _rest("image_tokens", _count(given, "image_tokens"), cached_image)

    made = _details(usage, f"{output_key}_details", "output_token_details")
    reasoning = _count(made, "reasoning_tokens")
    audio_out, image_out = _count(made, "audio_tokens"), _count(made, "image_tokens")
    if not made and isinstance(response.get("data"), list):
        image_out = total_out  # The images API: what came out are the images (of embeddings, nothing did).

    return Pools(
        input_uncached=_rest(input_key, total_in, cache_read, cache_write, audio_in, image_in),
        cache_read=cache_read,
        cache_write_5m=cache_write,
        audio_in=audio_in,
        image_in=image_in,
        output_text=_rest(output_key, total_out, reasoning, audio_out, image_out),
        reasoning=reasoning,
        audio_out=audio_out,
        image_out=image_out,
    )


def _read_anthropic(response: Mapping[str, object]) -> Pools:
    usage = _usage_block(response)
    if "input_tokens_details" in usage:
        raise _Unreadable("the usage block is OpenAI's, not Anthropic's")

    split = _details(usage, "cache_creation")
    written_5m, written_1h = _count(split, "ephemeral_5m_input_tokens"), _count(split, "ephemeral_1h_input_tokens")
    unsplit = 0
    if usage.get("cache_creation_input_tokens") is not None:
        # A stream may raise the sum at its end without a new split. 5 minutes is the lifetime nobody has to ask for.
        written = _required(usage, "cache_creation_input_tokens")
        unsplit = _rest("cache_creation_input_tokens", written, written_5m, written_1h)

    total_out = _required(usage, "output_tokens")
    thinking = _count(_details(usage, "output_tokens_details"), "thinking_tokens")
    return Pools(
        input_uncached=_required(usage, "input_tokens"),
        cache_read=_count(usage, "cache_read_input_tokens"),
        cache_write_5m=written_5m + unsplit,
        cache_write_1h=written_1h,
        output_text=_rest("output_tokens", total_out, thinking),
        reasoning=thinking,
        web_searches=_count(_details(usage, "server_tool_use"), "web_search_requests"),
    )


_READERS: Mapping[str, Callable[[Mapping[str, object]], Pools]] = {
    "openai": _read_openai,
    "anthropic": _read_anthropic,
}


def _openai_stream_end(events: Iterable[Mapping[str, object]]) -> Mapping[str, object] | None:
    """Return the last event that carries usage: a chat chunk itself, or the response inside a responses event."""
    last: Mapping[str, object] | None = None
    for event in events:
        inner = event.get("response")
        for holder in (event, inner):
            if isinstance(holder, Mapping) and holder.get("usage") is not None:
                last = holder
    return last


def _anthropic_stream_end(events: Iterable[Mapping[str, object]]) -> Mapping[str, object] | None:
    """Return a response with the usage as it stood at the end; None if the stream broke off before its first sum."""
    usage: dict[str, object] = {}
    is_final = False
    for event in events:
        kind = event.get("type")
        holder = event.get("message") if kind == "message_start" else event if kind == "message_delta" else None
        update = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(update, Mapping):
            usage |= {key: value for key, value in update.items() if value is not None}
            is_final = is_final or kind == "message_delta"
    return {"usage": usage} if is_final else None


def _usage_block(response: Mapping[str, object]) -> Mapping[str, object]:
    if response.get("usage") is None:
        raise _Unreadable("the response has no usage")
    return _details(response, "usage")


def _details(block: Mapping[str, object], *keys: str) -> Mapping[str, object]:
    """Return the first of these sub-blocks that is there, or an empty one."""
    for key in keys:
        details = block.get(key)
        if isinstance(details, Mapping):
            return details
        if details is not None:
            raise _Unreadable(f"{key} is not an object")
    return {}


def _required(block: Mapping[str, object], key: str) -> int:
    if block.get(key) is None:
        raise _Unreadable(f"{key} is missing")
    return _count(block, key)


def _count(block: Mapping[str, object], key: str) -> int:
    value = block.get(key)
    if value is None:
        return 0
    # By type and not by isinstance: `true` is no count, though Python's bool is an int.
    if type(value) is not int:
        raise _Unreadable(f"{key} is not a whole number")
    if not 0 <= value <= COUNT_MAX:
        raise _Unreadable(f"{key} is out of range")
    return value


def _rest(name: str, whole: int, *parts: int) -> int:
    """Return what the parts leave of the whole."""
    if sum(parts) > whole:
        raise _Unreadable(f"the parts of {name} exceed it")
    return whole - sum(parts)


# -- Cost --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a model costs us: cents per million of each pool's unit. None: not known, which is not free.

    Raises: InvalidAmount for a price that is negative or no number.
    """

    input_uncached: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_in: Decimal | None = None
    image_in: Decimal | None = None
    output_text: Decimal | None = None
    reasoning: Decimal | None = None
    audio_out: Decimal | None = None
    image_out: Decimal | None = None
    seconds: Decimal | None = None
    characters: Decimal | None = None
    images: Decimal | None = None
    web_searches: Decimal | None = None

    def __post_init__(self) -> None:
        for pool in POOLS:
            cents: Decimal | None = getattr(self, pool)
            if cents is not None and not (cents.is_finite() and cents >= 0):
                raise InvalidAmount(f"The price of {pool} must be 0 or more cents, not {cents}.", pool=pool)


def cost_cents(pools: Pools, price: ModelPrice) -> Decimal | None:
    """Return what this usage costs, in cents, exact to the sixth decimal (a half goes to the even one).

    None when a pool that was used has no price: a sum that leaves something out would look like a cost. Rounded
    once, over the sum; a call too small for a millionth of a cent costs 0.

    Raises: nothing.
    """
    with localcontext(EXACT):
        total = Decimal(0)
        for pool, count in pools.as_json().items():
            cents: Decimal | None = getattr(price, pool)
            if cents is None:
                return None
            total += cents * count
        return (total / 1_000_000).quantize(MICRO)


# -- Charge ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AiAction:
    """A feature of the app that uses AI: which model serves it, and how its users pay for it.

    Raises: InvalidAmount for a `fixed` action without its tokens, or a negative number.
    """

    key: str
    model: str | None = None  # None: the caller names the model with each call.
    charge: Literal["metered", "fixed"] = "metered"
    fixed_tokens: int | None = None  # Per call; used when `charge` is "fixed".
    multiplier: Decimal = Decimal(1)  # On metered tokens: what a dearer model costs its users.
    is_active: bool = True

    def __post_init__(self) -> None:
        if self.fixed_tokens is not None:
            _check_count("fixed_tokens", self.fixed_tokens)
        elif self.charge == "fixed":
            raise InvalidAmount(
                f"The action {self.key!r} has a fixed charge but no fixed_tokens.", field="fixed_tokens"
            )
        if not (self.multiplier.is_finite() and self.multiplier >= 0):
            raise InvalidAmount(f"multiplier must be 0 or more, not {self.multiplier}.", field="multiplier")


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
) -> int:
    """Return how many tokens the account pays for one call of this action.

    | the call | metered | fixed |
    | --- | --- | --- |
    | failed | 0 | 0 |
    | has input_tokens or output_tokens | ceil((input + output) × multiplier) | fixed_tokens |
    | has only tokens_used | ceil(tokens_used × multiplier) | tokens_used |
    | has none of them | InvalidAmount | fixed_tokens |

    Given means not None: a 0 is a count. One of input and output alone counts the other as 0. Counts outrank
    `tokens_used`, since they are what the provider said. A fixed charge outranks counts, because an image call
    reports text tokens, too; but a caller who names `tokens_used` and nothing else has decided the charge
    (three minutes of transcription, say). Whether the action is active is for the caller to ask.

    Units: integers throughout and exact at any size; only the product with the multiplier is rounded, up.
    Raises: InvalidAmount for a count that is not a whole number from 0 to 2**53 − 1 (also of a failed call: the counts
    are recorded), or for a metered call that succeeded and says nothing about its size.
    """
    if input_tokens is not None:
        _check_count("input_tokens", input_tokens)
    if output_tokens is not None:
        _check_count("output_tokens", output_tokens)
    if tokens_used is not None:
        _check_count("tokens_used", tokens_used)
    if not success:
        return 0

    has_counts = input_tokens is not None or output_tokens is not None
    if action.charge == "fixed":
        if tokens_used is not None and not has_counts:
            return tokens_used
        assert action.fixed_tokens is not None, action
        return action.fixed_tokens

    if has_counts:
        effective_tokens = (input_tokens or 0) + (output_tokens or 0)
    elif tokens_used is not None:
        effective_tokens = tokens_used
    else:
        raise InvalidAmount(
            f"The action {action.key!r} is metered: give input_tokens and output_tokens, or tokens_used.",
            action_type=action.key,
        )
    if action.multiplier == _ONE:
        return effective_tokens
    # A ratio of integers: Decimal's own product is rounded to the context's digits before it could be rounded up.
    numerator, denominator = action.multiplier.as_integer_ratio()
    return -(-effective_tokens * numerator // denominator)
