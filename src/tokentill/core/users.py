"""Who an account belongs to: a UUID inside, the caller's own id outside.

A caller's id that is not a UUID (`auth0|42`) maps to one by SHA-256, the same way in Python and in SQL
(`till_user_id(text)`), so any process finds the account without asking a table.
"""

import hashlib
import re
from functools import lru_cache
from uuid import UUID

from tokentill.core.values import Value
from tokentill.errors import InvalidUserId

USER_ID_LENGTH_MAX = 255
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CANONICAL_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


class User(Value, frozen=True):
    """One user: `user_id` as the tables know it, `external_id` as the caller wrote it (None: the UUID itself)."""

    user_id: UUID
    external_id: str | None = None

    @classmethod
    def of(cls, who: "str | UUID | User") -> "User":
        """Return the user that `who` names: a UUID, or any text of 1 to 255 characters.

        Raises: InvalidUserId.
        """
        if isinstance(who, str):
            return _named(who)
        if isinstance(who, User):
            return who
        if isinstance(who, UUID):
            return cls(who)
        raise InvalidUserId(f"A user id is a text or a UUID, not {type(who).__name__}.")

    @property
    def name(self) -> str:
        """The id that the caller knows this user by."""
        return self.external_id if self.external_id is not None else str(self.user_id)


@lru_cache(maxsize=16_384)
def _named(who: str) -> User:
    """Remembered, because working it out costs as much as deciding a spend does."""
    _require_nameable(who)
    return User(UUID(who)) if _CANONICAL_UUID.fullmatch(who) else User(hashed_user_id(who), who)


def hashed_user_id(text: str) -> UUID:
    """Return the UUID of a caller's own id: the first 128 bits of its SHA-256, marked as version 8.

    Source: RFC 9562 section 5.8 (version 8 is for vendors' own contents).
    """
    return UUID(bytes=digest(text.encode()))


def digest(content: bytes) -> bytes:
    """Return the first 128 bits of a SHA-256, marked as a UUID of version 8: it is never taken for another kind."""
    number = int.from_bytes(hashlib.sha256(content).digest()[:16])
    return (number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62).to_bytes(16)


def _require_nameable(who: str) -> None:
    if not 1 <= len(who) <= USER_ID_LENGTH_MAX:
        raise InvalidUserId(f"A user id has 1 to {USER_ID_LENGTH_MAX} characters; this one has {len(who)}.")
    if _UNSTORABLE.search(who):
        raise InvalidUserId("A user id cannot hold a NUL or half of a surrogate pair.")
