"""The checks that every edge makes of what the world sends, before a command is built.

Each returns the value it was given, checked, or raises an InvalidRequest that says what is wrong.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tokentill.errors import InvalidAmount, InvalidText, InvalidTime

TOKENS_MAX = 2**53 - 1  # The largest whole number that every JSON reader still tells from its neighbours.
TEXT_LENGTH_MAX = 2_000
METADATA_BYTES_MAX = 16_384
_NOTHING, _COST_MAX = Decimal(0), Decimal(10**12)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
METADATA_DEPTH_MAX = 50  # Deeper, and some reader of a history page gives up.


_SIGN_AND_WHOLE = r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:_[0-9]{3})+|[0-9]+)"
_NUMBER = re.compile(rf"{_SIGN_AND_WHOLE}(?:\.[0-9]+)?|[+-]?\.[0-9]+")


def ungrouped(text: str) -> str | None:
    """Return a decimal number's text without the separators of its thousands; None: it is no such number.

    1,000 and 1_000 are a thousand. 1,00 is no number: it might be meant as 1.00 or as 100.
    """
    return text.replace(",", "").replace("_", "") if _NUMBER.fullmatch(text) else None


def decimal_of(text: str) -> Decimal:
    """Return a number as a program writes it: no separators. Raises: InvalidOperation."""
    if "_" in text:  # Which Decimal would skip: 1_00 is a slip rather than a hundred.
        raise InvalidOperation
    return Decimal(text)


def whole(value: object, name: str = "tokens", *, minimum: int = 1, maximum: int = TOKENS_MAX) -> int:
    """Return a whole number from `minimum` to `maximum`. Raises: InvalidAmount."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidAmount(f"{name} must be a whole number, not {_shown(value)}.", field=name)
    if not minimum <= value <= maximum:
        raise InvalidAmount(f"{name} must be from {minimum:,} to {maximum:,}, not {_shown(value)}.", field=name)
    return value


def whole_or_none(value: object, name: str, *, minimum: int = 0, maximum: int = TOKENS_MAX) -> int | None:
    """The same where nothing may be given. Raises: InvalidAmount."""
    if value is None or (type(value) is int and minimum <= value <= maximum):
        return value
    return whole(value, name, minimum=minimum, maximum=maximum)


def text_or_none(value: object, name: str, *, length_max: int = TEXT_LENGTH_MAX) -> str | None:
    """Return a text that PostgreSQL can hold, or None. Raises: InvalidText."""
    if value is None or (type(value) is str and len(value) <= length_max and value.isascii() and "\x00" not in value):
        return value
    if not isinstance(value, str):
        raise InvalidText(f"{name} must be a text, not {_shown(value)}.", field=name)
    if len(value) > length_max:
        raise InvalidText(f"{name} has {len(value):,} characters; at most {length_max:,} are kept.", field=name)
    if not is_storable(value):
        raise InvalidText(f"{name} holds a NUL or half of a surrogate pair.", field=name)
    return value


def text(value: object, name: str, *, length_max: int = TEXT_LENGTH_MAX) -> str:
    """Return a text with something in it. Raises: InvalidText."""
    checked = text_or_none(value, name, length_max=length_max)
    if checked is None or not checked.strip():
        raise InvalidText(f"{name} is missing.", field=name)
    return checked


def is_storable(value: str) -> bool:
    """Whether PostgreSQL's text can hold it."""
    return _UNSTORABLE.search(value) is None


def storable(value: str, length_max: int) -> str:
    """Return as much of a text as can be kept: for what only describes a call, and is no reason to lose it."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value[:length_max])


def metadata(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata as plain JSON. Raises: InvalidText when it is no JSON object or too large."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidText("metadata must be a JSON object.", field="metadata")
    try:
        dumped = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        size = len(dumped.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidText(f"metadata is not JSON: {error}.", field="metadata") from None
    if size > METADATA_BYTES_MAX:
        raise InvalidText(f"metadata has {size:,} bytes; at most {METADATA_BYTES_MAX:,} are kept.", field="metadata")
    if "\\u0000" in dumped.replace("\\\\", ""):  # An escaped backslash before it makes it plain text.
        raise InvalidText("metadata holds a NUL.", field="metadata")
    plain: dict[str, Any] = json.loads(dumped)
    if depth_of(plain) > METADATA_DEPTH_MAX:
        raise InvalidText(f"metadata is nested deeper than {METADATA_DEPTH_MAX} levels.", field="metadata")
    return plain


def depth_of(value: object) -> int:
    """Return how deeply a JSON value is nested: a scalar is 1."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            below
            for found in level
            if isinstance(found, dict | list)
            for below in (found.values() if isinstance(found, dict) else found)
        ]
    return depth


def moment_or_none(value: object, name: str) -> datetime | None:
    """Return an aware time, or None. Raises: InvalidTime."""
    return None if value is None else moment(value, name)


def moment(value: object, name: str) -> datetime:
    """Return an aware time, in UTC. Raises: InvalidTime."""
    if not isinstance(value, datetime):
        raise InvalidTime(f"{name} must be a time, not {_shown(value)}.", field=name)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidTime(f"{name} has no time zone.", field=name)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidTime(f"{name} does not exist in UTC.", field=name) from None


def cost_or_none(value: object, name: str = "cost_estimate") -> Decimal | None:
    """Return a cost in cents, with fractions, never negative, or None. Raises: InvalidAmount."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise InvalidAmount(f"{name} must be a number of cents, not {_shown(value)}.", field=name)
    try:
        cost = Decimal(value) if isinstance(value, int | Decimal) else decimal_of(str(value))
    except InvalidOperation:
        raise InvalidAmount(f"{name} must be a number of cents, not {_shown(value)}.", field=name) from None
    if not cost.is_finite() or not _NOTHING <= cost <= _COST_MAX:
        raise InvalidAmount(f"{name} must be from 0 to 10^12 cents, not {_shown(value)}.", field=name)
    return round(cost, 6)


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "a number of over 30 digits"
    if isinstance(value, Decimal):  # A number as it was written; what is none (NaN) was written as a text.
        value = value if value.is_finite() else str(value)
    shown = str(value) if isinstance(value, Decimal) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
