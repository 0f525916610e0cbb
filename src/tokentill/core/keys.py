"""Idempotency keys: what is asked twice happens once.

A key is 128 bits: SHA-256 over a namespace and the caller's text, so that a caller's key can never meet one that
we derive from a business fact (a Stripe checkout, a subscription's cycle). A caller's UUIDv7 is taken as it is:
keys that grow with time append at the right edge of the key table's index.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

from tokentill.core.users import digest
from tokentill.errors import InvalidText

KEY_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class Key:
    """`value` names the request; `request_hash` tells whether it is the same request again."""

    value: UUID
    request_hash: UUID

    @classmethod
    def of_caller(cls, text: str, request: Mapping[str, object]) -> Self:
        """The key a caller chose, for this request. The same key with another request is a conflict.

        Raises: InvalidText when the key is empty, too long or holds what no text may.
        """
        if not isinstance(text, str) or not 1 <= len(text) <= KEY_LENGTH_MAX:
            raise InvalidText(f"An idempotency key is a text of 1 to {KEY_LENGTH_MAX} characters.")
        value = _as_uuid7(text) or _digest("caller\x1f" + text)
        return cls(value, _digest(canonical(request)))

    @classmethod
    def of_fact(cls, *fact: str) -> Self:
        """The key of a business fact: two messages about one fact are one request, however they differ."""
        value = _digest("fact\x1f" + "\x1f".join(fact))
        return cls(value, value)

    @classmethod
    def fresh(cls, value: UUID) -> Self:
        """The key of a request that nobody will repeat; `value` is a new UUIDv7."""
        return cls(value, value)


def canonical(request: Mapping[str, object]) -> str:
    """Return the request as one text, equal for equal requests whatever the order of their fields."""
    return json.dumps(request, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | UUID | Decimal):
        return str(value)
    raise InvalidText(f"A {type(value).__name__} cannot be part of a request.")


def _digest(text: str) -> UUID:
    return digest(text.encode("utf-8", "surrogatepass"))


def _as_uuid7(text: str) -> UUID | None:
    if len(text) != 36:
        return None
    try:
        value = UUID(text)
    except ValueError:
        return None
    return value if value.version == 7 and str(value) == text.lower() else None
