"""Holds: tokens set aside for a spend whose size is not known yet.

A hold belongs to the account and not to particular lots, and prolongs no lot. While it is open, its tokens are out of
reach for every spend that may be refused. It ends by being captured (the actual tokens are spent, the rest is free
again), by being voided, or by the clock alone.

Units: `tokens` is a whole number, positive.
Times: aware UTC. `expires_at` is exclusive: at that very instant the hold is open no more.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tokentill.core.users import User
from tokentill.core.values import Value, astuple, field

TTL_DEFAULT = timedelta(minutes=10)
TTL_MIN = timedelta(seconds=1)
TTL_MAX = timedelta(hours=24)

HoldState = Literal["placed", "captured", "voided"]  # As it is written.
HoldStateShown = Literal["placed", "captured", "voided", "expired"]  # As it is at a moment.

_ADDRESS = re.compile(r"hold_([0-9a-f]{32})([0-9a-f]{32})")


class Hold(Value, frozen=True):
    """One hold as it was last written. That its time is over is never written: `state_at` says so."""

    hold_id: UUID  # Also the idempotency key of placing it.
    request_hash: bytes
    tokens: int
    action_type: str
    placed_at: datetime
    expires_at: datetime
    model: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    state: HoldState = "placed"
    closed_at: datetime | None = None
    captured_seq: int | None = None  # Of the usage row that captured it.
    provider: str | None = None  # Who serves the model.

    def is_open(self, at: datetime) -> bool:
        """Whether its tokens are out of others' reach at `at`."""
        return self.state == "placed" and at < self.expires_at

    def ended(self, state: HoldState, at: datetime, captured_seq: int | None = None) -> "Hold":
        """Return the hold after its end. By position: every capture comes by, and names cost three times as much."""
        return Hold(
            self.hold_id, self.request_hash, self.tokens, self.action_type, self.placed_at, self.expires_at, self.model,
            self.metadata, state, at, captured_seq, self.provider,
        )  # fmt: skip

    def state_at(self, at: datetime) -> HoldStateShown:
        return "expired" if self.state == "placed" and self.expires_at <= at else self.state


class HoldReceipt(Value, frozen=True):
    """What is recorded of a hold: the answer to whoever places, renews, voids or lists it."""

    user_id: UUID
    external_id: str | None
    hold_id: UUID
    state: HoldStateShown
    tokens: int
    action_type: str
    model: str | None
    metadata: Mapping[str, object]
    placed_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    captured_seq: int | None
    provider: str | None = None
    is_replay: bool = False  # Whether it had been so before: nothing was written now. Two are equal without it.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HoldReceipt) and astuple(self)[:-1] == astuple(other)[:-1]

    def __hash__(self) -> int:
        return hash((self.user_id, self.hold_id))

    @classmethod
    def of(cls, hold: Hold, user: User, *, at: datetime, is_replay: bool = False) -> "HoldReceipt":
        return cls(
            user.user_id, user.external_id, hold.hold_id, hold.state_at(at), hold.tokens, hold.action_type, hold.model,
            hold.metadata, hold.placed_at, hold.expires_at, hold.closed_at, hold.captured_seq, hold.provider,
            is_replay,
        )  # fmt: skip

    @property
    def id(self) -> str:
        """The hold's address, as the API gives it out: it names the account, too."""
        return f"hold_{self.user_id.hex}{self.hold_id.hex}"

    @property
    def name(self) -> str:
        """The id that the caller knows the user by."""
        return User(self.user_id, self.external_id).name


def address_of(text: str) -> tuple[UUID, UUID] | None:
    """Return the account and the hold that a `HoldReceipt.id` names; None: it names none."""
    found = _ADDRESS.fullmatch(text)
    return (UUID(found[1]), UUID(found[2])) if found else None
