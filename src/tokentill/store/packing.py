"""PostgreSQL's binary arrays, for what is written a thousand at a time.

The driver adapts value by value, which costs more than deciding does. Here texts that come again are packed once,
numbers are packed together, and columns of fixed width are laid out by striding over the whole batch.

Source: an array's and each type's binary format is what PostgreSQL's own `*_recv` function reads (`array_recv`,
`numeric_recv`, `timestamptz_recv`: microseconds since 2000-01-01 UTC).
"""

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import lru_cache
from struct import Struct
from typing import TypeVar

from psycopg import Connection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

NULL = b"\xff\xff\xff\xff"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_DAY, _SECOND = 86_400_000_000, 1_000_000  # Microseconds.
_EXACT = Context(prec=60)  # Its own, because a host's may be set to a few digits.
_COST_PLACES = 8
_COST_UNITS = 10**_COST_PLACES

_FEW = 16  # Values; more are laid out a byte of all at a time.

_length = Struct("!i").pack
_json_head = Struct("!ib").pack
_bigint = Struct("!iq").pack
_array_head = Struct("!iiiii").pack
_numeric_head = Struct("!ihhhh").pack
_numeric_3 = Struct("!ihhhhhhh").pack


# -- One value, with its length before it ----------------------------------------------------------------------------


def field(value: bytes) -> bytes:
    return _length(len(value)) + value


def text(value: str | None) -> bytes:
    return NULL if value is None else field(value.encode())


name = lru_cache(maxsize=1024)(text)
"""`text`, for what comes again and again: an action's name, a model's."""


def jsonb(content: bytes) -> bytes:
    return _json_head(len(content) + 1, 1) + content  # Version 1 of its format.


NO_JSON = jsonb(b"{}")


def bigint(value: int | None) -> bytes:
    """A whole number. Raises: OverflowError."""
    try:
        return NULL if value is None else _bigint(8, value)
    except struct.error as error:
        raise OverflowError(f"a number is out of range: {error}") from error


def microseconds(value: datetime) -> int:
    """Return a time as PostgreSQL counts it."""
    since = value - _EPOCH
    return since.days * _DAY + since.seconds * _SECOND + since.microseconds


def moment(value: datetime) -> bytes:
    return _bigint(8, microseconds(value))


def numeric(value: Decimal | None) -> bytes:
    """A cost: PostgreSQL keeps it in digits to the base of 10,000. More than eight decimals are a bug of ours."""
    if value is None:
        return NULL
    scaled = _EXACT.scaleb(value, _COST_PLACES)
    units = int(scaled)
    assert units == scaled, value
    whole, fraction = divmod(abs(units), _COST_UNITS)
    scale = 6 if fraction % 100 == 0 else _COST_PLACES
    sign = 0 if units >= 0 else 0x4000
    if whole < 10_000:
        return _numeric_3(14, 3, 0, sign, scale, whole, fraction // 10_000, fraction % 10_000)
    digits = [fraction // 10_000, fraction % 10_000]
    while whole:
        whole, digit = divmod(whole, 10_000)
        digits.insert(0, digit)
    count = len(digits)
    return _numeric_head(8 + 2 * count, count, count - 3, sign, scale) + Struct(f"!{count}h").pack(*digits)


# -- One array, for a parameter ----------------------------------------------------------------------------------------


class Packed(bytes):
    """An array, ready to be sent."""


T = TypeVar("T")
P = TypeVar("P", bound=Packed)


class Texts(Packed):
    """A text[]."""


class Jsons(Packed):
    """A jsonb[]."""


class Flags(Packed):
    """A boolean[]."""


class Uuids(Packed):
    """A uuid[]."""


class Bigints(Packed):
    """A bigint[]."""


class Moments(Packed):
    """A timestamptz[]."""


class Numerics(Packed):
    """A numeric[]."""


_OIDS: dict[type[Packed], tuple[int, int]] = {  # Of the element, of the array.
    Texts: (25, 1009), Jsons: (3802, 3807), Flags: (16, 1000), Uuids: (2950, 2951), Bigints: (20, 1016),
    Moments: (1184, 1185), Numerics: (1700, 1231),
}  # fmt: skip


def register(conn: Connection[object]) -> None:
    """Let a connection take these arrays as parameters."""
    for kind, (_, oid) in _OIDS.items():
        dumper = type(f"{kind.__name__}Dumper", (_AsItIs,), {"oid": oid})
        conn.adapters.register_dumper(kind, dumper)


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Buffer) -> Buffer:
        return obj


def or_none(pack: Callable[[list[T | None]], P], values: list[T | None]) -> P:
    """Return a column that may be empty: an array of nothing where all are null.

    `unnest` of several arrays goes on to the end of the longest, with nulls for the shorter: what no row says need not
    be packed, sent and read.
    """
    return pack([] if values.count(None) == len(values) else values)


def uuids(values: Sequence[bytes]) -> Uuids:
    return Uuids(_head(Uuids, len(values)) + strided(16, b"".join(values), len(values)))


def bigints(values: Sequence[int]) -> Bigints:
    return Bigints(_head(Bigints, len(values)) + strided(8, big_endian(values), len(values)))


def moments(values: Sequence[datetime]) -> Moments:
    """Most of a batch has one moment, which is then reckoned once."""
    first = values[0]
    first_us = microseconds(first)
    counted = [first_us if value is first else microseconds(value) for value in values]
    return Moments(_head(Moments, len(values)) + strided(8, big_endian(counted), len(values)))


def numerics(values: Iterable[Decimal | None]) -> Numerics:
    return Numerics(_of_any(Numerics, [numeric(value) for value in values]))


def texts(values: Iterable[str | None]) -> Texts:
    return Texts(_of_any(Texts, [text(value) for value in values]))


def names(values: Iterable[str | None]) -> Texts:
    """Texts that come again and again."""
    return Texts(_of_any(Texts, [name(value) for value in values]))


def jsons(values: Iterable[bytes | None]) -> Jsons:
    """JSON that is written already."""
    return Jsons(_of_any(Jsons, [NULL if value is None else jsonb(value) for value in values]))


def flags(values: Sequence[bool]) -> Flags:
    return Flags(_head(Flags, len(values)) + strided(1, bytes(values), len(values)))


def uuids_or_nulls(values: Iterable[bytes | None]) -> Uuids:
    return Uuids(_of_any(Uuids, [NULL if value is None else field(value) for value in values]))


def bigints_or_nulls(values: Iterable[int | None]) -> Bigints:
    return Bigints(_of_any(Bigints, [bigint(value) for value in values]))


def moments_or_nulls(values: Iterable[datetime | None]) -> Moments:
    return Moments(_of_any(Moments, [NULL if value is None else moment(value) for value in values]))


def _of_any(kind: type[Packed], fields: Sequence[bytes]) -> bytes:
    return _head(kind, len(fields), has_nulls=NULL in fields) + b"".join(fields)


def _head(kind: type[Packed], count: int, *, has_nulls: bool = False) -> bytes:
    return _array_head(1, has_nulls, _OIDS[kind][0], count, 1)  # One dimension, counted from 1.


def big_endian(values: Sequence[int]) -> bytes:
    """Return the numbers, eight bytes each. Raises: OverflowError."""
    numbers = array("q", values)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def strided(width: int, data: bytes, count: int) -> bytes | bytearray:
    """Return `count` values of `width` bytes, each with its length before it: a column of an array."""
    if count < _FEW:
        head = _length(width)
        return b"".join([head + data[at : at + width] for at in range(0, width * count, width)])
    stride = 4 + width
    laid_out = bytearray(stride * count)
    laid_out[3::stride] = bytes((width,)) * count
    for byte in range(width):
        laid_out[4 + byte :: stride] = data[byte::width]
    return laid_out
