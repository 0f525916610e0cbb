"""`Value`: the base of the values that every spend makes.

    class Key(Value, frozen=True):
        value: bytes
        request_hash: bytes

Like a frozen dataclass with slots, and made in C: a spend makes a dozen of them, and a dataclass takes eight times as
long for each. The garbage collector leaves them alone (`gc=False`): a value never leads back to itself, so counting
references frees it. What is made more rarely is a dataclass.

This is the one thing in the core that is neither the standard library's nor ours.
"""

import dataclasses
from typing import TypeVar

from msgspec import Meta, Struct, field, structs

__all__ = ["Meta", "Value", "asdict", "astuple", "field", "replace"]

astuple = structs.astuple

T = TypeVar("T")


class Value(Struct, frozen=True, gc=False):
    """Equal to another of its class with equal fields; hashed by them; never written to."""


def replace(value: T, /, **changes: object) -> T:
    """Return a copy with these fields changed, of a `Value` or a dataclass."""
    if isinstance(value, Struct):
        return structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def asdict(value: object) -> dict[str, object]:
    """Return the fields of a `Value` or a dataclass by their names; what they hold stays as it is."""
    if isinstance(value, Struct):
        return structs.asdict(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]
