"""Reading what may be anything: a Stripe payload, in which every place may hold what it should not.

Each reader returns a value that the till can use and store, or None; `require`, `ignore` and `give_up` end the
interpretation with its answer. `core.stripe.events` catches that, so nothing here raises beyond it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

from tokentill.core.users import USER_ID_LENGTH_MAX

# The largest that a bigint column holds.
CENTS_MAX = 2**63 - 1
# Stripe itself sells fewer of one price in one session; beyond it, a count is a mistake in the payload.
QUANTITY_MAX = 1_000_000
# The year 3000: what lies beyond is no time, and adding a few cycles to it must not overflow a datetime.
TIMESTAMP_MAX = 32_503_680_000

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Understood, and nothing for the till to do."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """Of a type the till acts on, but not to be understood: someone must look."""

    reason: str


class Settled(Exception):
    """How a reader stops early: `interpret` returns the answer."""

    def __init__(self, answer: Ignored | Unclear) -> None:
        self.answer = answer


def ignore(reason: str) -> NoReturn:
    raise Settled(Ignored(reason=reason))


def give_up(reason: str) -> NoReturn:
    raise Settled(Unclear(reason=reason))


T = TypeVar("T")


def require(value: T | None, otherwise: str) -> T:
    if value is None:
        give_up(otherwise)
    return value


def dig(value: object, *path: str) -> object:
    """Return what lies at the path, or None where the path ends early."""
    for step in path:
        if type(value) is dict or isinstance(value, Mapping):  # The first is quicker, and what it mostly is.
            value = value.get(step)
        else:
            return None
    return value


def mappings(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def text_of(value: object) -> str | None:
    """Return a text that the till can store as an id; None for anything else."""
    if not isinstance(value, str) or not value.strip() or len(value) > USER_ID_LENGTH_MAX:
        return None
    if value.isascii() and "\0" not in value:  # What nearly all of them are.
        return value
    # PostgreSQL holds neither a NUL nor half of a surrogate pair.
    return None if re.search("[\x00\ud800-\udfff]", value) else value


def first_text(metadata: Iterable[object], fields: Sequence[str]) -> str | None:
    texts = (text_of(dig(values, field_name)) for values in metadata for field_name in fields)
    return next((text for text in texts if text is not None), None)


def id_of(value: object) -> str | None:
    """Return an id, given itself or the expanded object."""
    return text_of(value) or text_of(dig(value, "id"))


def whole_of(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -CENTS_MAX <= value <= CENTS_MAX else None


def cents_of(value: object) -> int | None:
    cents = whole_of(value)
    return None if cents is None or cents < 0 else cents


def decimal_of(value: object) -> int | None:
    """Return a decimal of whole cents ("9900", "9900.00"). None: a fraction, or no number."""
    return int(value.split(".")[0]) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}(\.0*)?", value) else None


def currency_of(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and re.fullmatch(r"[a-zA-Z]{3}", value) else None


def time_of(value: object) -> datetime | None:
    seconds = cents_of(value)
    return None if seconds is None or seconds > TIMESTAMP_MAX else datetime.fromtimestamp(seconds, UTC)


def seen_at(event: Json) -> datetime:
    """Return when Stripe made the event: among snapshots of one object the newest counts, so it must say."""
    return require(time_of(event.get("created")), "the event does not say when it was made")


def each_once(*names: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def shown(value: object) -> str:
    """Return a value as a reason may quote it: short, and storable whatever it is."""
    text = text_of(value)
    return ascii(text[:80])[1:-1] if text else "missing" if value is None else "unreadable"
