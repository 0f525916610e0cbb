"""Idempotency keys: what is asked twice happens once.

A key is 128 bits: SHA-256 over a namespace and the caller's text, so that a caller's key can never meet one that
we derive from a business fact (a Stripe checkout, a subscription's cycle). A caller's UUIDv7 is taken as it is:
keys that grow with time append at the right edge of the key table's index.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

from tokentill.core.users import digest
from tokentill.core.values import Value
from tokentill.errors import IdempotencyConflict, InvalidText

KEY_LENGTH_MAX = 255
_UUID7 = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")


class Key(Value, frozen=True):
    """`value` names the request; `request_hash` tells whether it is the same request again. Each is 16 bytes."""

    value: bytes
    request_hash: bytes

    @classmethod
    def of_caller(cls, text: str, request: Mapping[str, object] | tuple[object, ...]) -> Self:
        """The key a caller chose, for this request. The same key with another request is a conflict.

        A request is told by its fields' names and values or, ten times as fast, by their values in a fixed order.

        Raises: InvalidText when the key is empty, too long or holds what no text may.
        """
        if not isinstance(text, str) or not 1 <= len(text) <= KEY_LENGTH_MAX:
            raise InvalidText(f"An idempotency key is a text of 1 to {KEY_LENGTH_MAX} characters.")
        value = _as_uuid7(text) or _digest("caller\x1f" + text)
        return cls(value, _digest(ascii(request) if isinstance(request, tuple) else canonical(request)))

    @classmethod
    def of_fact(cls, *fact: str) -> Self:
        """The key of a business fact: two messages about one fact are one request, however they differ."""
        value = _digest("fact\x1f" + "\x1f".join(fact))
        return cls(value, value)

    @classmethod
    def fresh(cls, value: UUID) -> Self:
        """The key of a request that nobody will repeat; `value` is a new UUIDv7."""
        raw = value.bytes
        return cls(raw, raw)


def used_for_another() -> IdempotencyConflict:
    """The key was used before, and not for this request."""
    return IdempotencyConflict(
        "This idempotency key was used before for another request. Use a new key for a new request; repeat the old one "
        "unchanged to get its answer again."
    )


class EventKeys:
    """Names the events of a batch that have no key of their own: by the batch's key and each one's place.

    A UUIDv7 gives UUIDv7s of the same time, which are as good for the index as it is.
    """

    def __init__(self, text: str) -> None:
        batch = _as_uuid7(text)
        text = text if batch is None else text.lower()
        self._time = None if batch is None else text[:13]
        self._seed = hashlib.sha256(f"event\x1f{text}\x1f".encode("utf-8", "surrogatepass"))

    def of(self, number: int) -> str:
        """Return the key of the event at this place."""
        hashing = self._seed.copy()
        hashing.update(b"%d" % number)
        hashed = hashing.hexdigest()
        if self._time is None:
            return f"batch:{hashed}"
        # Version 7, variant 8; all else after the time is from the hash.
        return f"{self._time}-7{hashed[:3]}-8{hashed[3:6]}-{hashed[6:18]}"


def canonical(request: Mapping[str, object]) -> str:
    """Return the request as one text, equal for equal requests whatever the order of their fields."""
    return json.dumps(request, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | UUID | Decimal):
        return str(value)
    raise InvalidText(f"A {type(value).__name__} cannot be part of a request.")


def _digest(text: str) -> bytes:
    return digest(text.encode("utf-8", "surrogatepass"))


def _as_uuid7(text: str) -> bytes | None:
    return bytes.fromhex(text.replace("-", "")) if _UUID7.fullmatch(text) else None
