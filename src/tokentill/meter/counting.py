"""How large a call may get before it is made, and how large it has been where nobody says.

Guesses, and marked so wherever they are charged (`estimated`). What a provider reports outranks them.

Units: model tokens. A token is about four letters of English and fewer of other languages or of code.
"""

import re
from collections.abc import Mapping
from typing import Any

from tokentill.core.prices.actions import OUTPUT_TOKENS_USUAL
from tokentill.core.usage.reading import Pools

BYTES_PER_PROMPT_TOKEN = 3  # On the safe side of what `core.usage.reading.estimate_tokens` says of a text.
TOKENS_PER_MEDIUM = 1_500  # An image, a page or a file inside a prompt, whatever its bytes.
MAX_OUTPUT = OUTPUT_TOKENS_USUAL  # Where neither the request nor its action sets a limit.
_TEXT_MAX = 20_000  # A longer text in ASCII without a space is no text: an encoded file.
_DATA_URL = re.compile(r"data:[\w.+-]*/[\w.+-]+[;,]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def prompt_tokens(request: object) -> int:
    """Return about how many tokens the texts of a request body come to; never less than 1."""
    size, media = _size(request)
    return max(1, -(-size // BYTES_PER_PROMPT_TOKEN) + media * TOKENS_PER_MEDIUM)


def max_output(request: Mapping[str, Any]) -> int | None:
    """Return how many tokens the answer may have by the request's own limit; None: it says nothing of that."""
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample"):
        limit = request.get(name)
        if isinstance(limit, int) and limit > 0:
            break
    else:
        limit = None
    answers = request.get("n")
    if not isinstance(answers, int) or answers <= 1:
        return limit
    return (limit or MAX_OUTPUT) * answers


def _size(value: object) -> tuple[int, int]:
    """Return the bytes of all texts in `value`, and how many media there are beside them."""
    if isinstance(value, str):
        if _DATA_URL.match(value):
            return 0, 1
        if len(value) > _TEXT_MAX and " " not in (start := value[:_TEXT_MAX]) and start.isascii():
            return 0, 1
        return len(value.encode("utf-8", "surrogatepass")), 0
    if isinstance(value, Mapping):
        parts = [_size(each) for each in value.values()]
        # Names count, too: tools are described by them.
        return sum(map(len, map(str, value))) + sum(size for size, _ in parts), sum(media for _, media in parts)
    if isinstance(value, list | tuple):
        if value and all(type(each) is int for each in value):
            return len(value) * BYTES_PER_PROMPT_TOKEN, 0  # A prompt that is tokens already.
        parts = [_size(each) for each in value]
        return sum(size for size, _ in parts), sum(media for _, media in parts)
    return 0, 0


def texts_of(value: object) -> list[str]:
    """Return the texts inside choices, an output or a content, however they are nested."""
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    if not isinstance(value, Mapping):
        return []
    texts = [text for name in ("text", "content", "thinking", "arguments") if isinstance(text := value.get(name), str)]
    for name in ("message", "content", "function", "tool_calls", "summary"):
        texts += texts_of(value.get(name))
    return texts


def together(one: Pools | None, other: Pools) -> Pools:
    """Return the usage of both."""
    if one is None:
        return other
    counts = one.as_json()
    for pool, count in other.as_json().items():
        counts[pool] = counts.get(pool, 0) + count
    return Pools(**counts)


def fitting(text: str | None, length_max: int) -> str | None:
    """Return as much of a text as a till keeps: no longer, and nothing in it that PostgreSQL cannot store."""
    if text is None or (text.isascii() and len(text) <= length_max and "\0" not in text):
        return text
    return _UNSTORABLE.sub("?", text)[:length_max]
