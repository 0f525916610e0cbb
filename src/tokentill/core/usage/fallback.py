"""What is charged for a call whose usage contradicts itself, and what of it is kept for whoever looks into it.

The call has happened and the provider will bill it, so it is charged; but a cache's discount or a modality's price is
not granted on numbers that do not fit together. The fallback is stated, never negative, and never 0 by mistake:

* input: the largest that the block claims went in, be it a total or a sum of parts;
* output: the same; and where a grand total exceeds both sides together, what it exceeds them by is output, too (the
  dearer side, and what providers leave out: hidden reasoning);
* a side about which the block says nothing (or 0) is the caller's estimate;
* a negative, endless or oversized number is no claim at all.
"""

import math
import re
from collections.abc import Iterator, Mapping

from tokentill.core.usage.pools import COUNT_MAX, INPUT_POOLS, OUTPUT_POOLS, Pools

# Which side a count is on, by the words in its name and in the names of what it stands in. The first that fits.
_OUTPUT_WORDS = (
    "output",
    "completion",
    "candidates",
    "responsetoken",
    "generation",
    "thought",
    "thinking",
    "reasoning",
)
_INPUT_WORDS = ("input", "prompt", "cache", "citation", "tooluse", "tool_use", "connector")
_TOTALS = frozenset({"total_tokens", "totalTokens", "totalTokenCount", "total_token_count"})
_COUNT = re.compile("(?i)token(?!.*(cost|price|per_))|eval_count")
_LENGTHS = frozenset({"seconds", "duration", "prompt_audio_seconds"})

# Counts that stand side by side, so that their sum is a claim as well.
_SUMS = (
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ("promptTokenCount", "toolUsePromptTokenCount"),
    ("prompt_token_count", "tool_use_prompt_token_count"),
    ("total_input_tokens", "total_tool_use_tokens"),
    ("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
    ("cached_tokens", "cache_write_tokens"),
    ("text_tokens", "audio_tokens", "image_tokens"),
    ("candidatesTokenCount", "thoughtsTokenCount"),
    ("candidates_token_count", "thoughts_token_count"),
    ("total_output_tokens", "total_thought_tokens"),
)

# What of a response is about usage. The rest (what was said) is nobody's business here.
_ABOUT_USAGE = (
    *("usage", "usageMetadata", "usage_metadata", "usage_info", "meta", "tool_usage", "x_groq", "duration"),
    *("inputTextTokenCount", "totalOutputTextTokenCount", "prompt_token_count", "generation_token_count"),
    *("prompt_eval_count", "eval_count", "amazon-bedrock-invocationMetrics"),
    *("native_tokens_prompt", "native_tokens_completion", "native_tokens_cached", "native_tokens_reasoning"),
)
_HOLDERS = (
    "response",
    "body",
    "result",
    "message",
    "interaction",
    "data",
    "metadata",
    "ResponseMetadata",
    "HTTPHeaders",
)
_DEPTH_MAX, _ENTRIES_MAX, _TEXT_LENGTH_MAX = 6, 100, 60


def fallback_pools(raw: object, *, estimate: Pools | None) -> Pools | None:
    """Return what to charge for a usage that cannot be read, by the rule above; None where nothing is known at all.

    `raw` is `UnreadableUsage.raw`, or the response itself. `estimate` is what the caller took the call for before it
    was made. Everything counted is plain input and output (and seconds), whatever it claims to be a part of.

    Raises: nothing.
    """
    given = made = total = seconds = 0
    for name, path, number in _claims(raw, "", 0):
        if name in _LENGTHS:
            seconds = max(seconds, number)
        elif name in _TOTALS:
            total = max(total, number)
        elif any(word in path for word in _OUTPUT_WORDS) or name == "eval_count":
            made = max(made, number)
        elif any(word in path for word in _INPUT_WORDS):
            given = max(given, number)

    if estimate is not None:
        given = given or sum(getattr(estimate, pool) for pool in INPUT_POOLS)
        made = made or max(0, total - given) or sum(getattr(estimate, pool) for pool in OUTPUT_POOLS)
        seconds = seconds or estimate.seconds
    made = max(made, total - given)
    said = Pools(
        input_uncached=min(given, COUNT_MAX), output_text=min(made, COUNT_MAX), seconds=min(seconds, COUNT_MAX)
    )
    return said if said != Pools() else estimate if estimate != Pools() else None


def _claims(node: object, path: str, depth: int) -> Iterator[tuple[str, str, int]]:
    """Yield (name, lower-case path, number) of each count in a block, and of each sum of counts."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(node, list):
        for entry in node:
            yield from _claims(entry, path, depth + 1)
    elif isinstance(node, Mapping):
        numbers = {key: _number(value) for key, value in node.items() if isinstance(key, str)}
        for name, number in numbers.items():
            if number and (_COUNT.search(name) or name in _LENGTHS):
                yield name, f"{path}.{name}".lower(), number
        for together in _SUMS:
            if "prompt_tokens" in numbers and "input_tokens" in together:
                continue  # There the prompt includes its cached part.
            if number := sum(numbers.get(name) or 0 for name in together):
                yield "", f"{path}.{together[0]}".lower(), number
        for name, value in node.items():
            yield from _claims(value, f"{path}.{name}".lower(), depth + 1)


def _number(value: object) -> int | None:
    """Return a count that may be believed, rounded up; else None."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdecimal() and len(value) < 16 else None
    if isinstance(value, float):
        value = math.ceil(value) if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= COUNT_MAX else None


def kept(response: object) -> object:
    """Return what a response says about its usage, fit for a usage row's metadata: bounded, plain JSON, no content.

    None where it says nothing. Raises: nothing.
    """
    if not isinstance(response, Mapping):
        return None
    room = [_ENTRIES_MAX]
    about: dict[str, object] = {}
    for _ in range(3):
        about |= {key: _fit(response[key], room, 0) for key in _ABOUT_USAGE if response.get(key) is not None}
        if about:
            return about
        inner = next((response[key] for key in _HOLDERS if isinstance(response.get(key), Mapping)), None)
        if not isinstance(inner, Mapping):
            break
        response = inner
    return None


def _fit(value: object, room: list[int], depth: int) -> object:
    room[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 10**20 else "a number too large to keep"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _plain(value)
    if depth >= _DEPTH_MAX or not isinstance(value, Mapping | list):
        return "…"
    if isinstance(value, list):
        return [_fit(entry, room, depth + 1) for entry in value if room[0] > 0]
    return {_plain(str(key)): _fit(entry, room, depth + 1) for key, entry in value.items() if room[0] > 0}


def _plain(text: str) -> str:
    """Short, and nothing that PostgreSQL cannot store."""
    return text[:_TEXT_LENGTH_MAX].encode("ascii", "replace").decode().replace("\x00", "?")
