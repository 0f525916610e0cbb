"""What can be asked of an account.

A command is a value: who, what, and the key under which it happens once. It has passed the edge's checks
(`core.checks`); the ledger asserts what those promise. Times are aware UTC, tokens whole.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from tokentill.core.calls import Call, OnInsufficient
from tokentill.core.companions import Found
from tokentill.core.keys import Key
from tokentill.core.ledger.journal import Metadata, Source, TransactionType
from tokentill.core.ledger.lots import PRIORITY_DEFAULT, LotKind
from tokentill.core.ledger.reversals import Policies
from tokentill.core.users import User
from tokentill.core.values import Value
from tokentill.errors import TillError


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """The money behind a grant: what was paid and the objects in Stripe that say so."""

    amount_cents: int
    currency: str
    payment_id: str | None = None  # A payment intent, else the session or invoice that stands for it.
    session_id: str | None = None
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Give tokens; opens the account if need be, and a lot."""

    user: User
    key: Key
    aliases: tuple[Key, ...] = ()  # Other names of the same fact: whichever was used before, it has happened.
    tokens: int
    kind: LotKind
    source: Source
    transaction_type: TransactionType = "grant"
    effective_at: datetime | None = None  # None: now. Never in the future.
    expires_at: datetime | None = None
    priority: int = PRIORITY_DEFAULT
    paid: Paid | None = None
    subscription_id: str | None = None
    cycle_number: int | None = None
    token_pack_id: str | None = None
    reason: str | None = None
    created_by: str | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Give one cycle's tokens of a subscription; opens the account if need be, and a lot."""

    user: User
    key: Key
    subscription_id: str
    cycle_number: int
    tokens: int
    period_start: datetime
    period_end: datetime
    expires_at: datetime
    rollover_cap_tokens: int | None = None
    paid: Paid | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduct:
    """Take tokens away. Refused when the account has too few, unless forced into debt."""

    user: User
    key: Key
    tokens: int
    is_forced: bool = False
    source: Source = "admin"
    reason: str | None = None
    created_by: str | None = None
    metadata: Metadata = field(default_factory=dict)


class Charge(Value, frozen=True):
    """What was worked out of a call before it is decided on."""

    tokens: int | None  # To take. Of a capture None: as many as were held.
    price_id: int | None = None  # The entry of the price book that the call's cost comes from.
    found: tuple[Found, ...] = ()  # What does not fit about the call; written with its row.
    # By a rule that may have been edited since it was asked for the first time: only a repeat is answered.
    refused: TillError | None = None


class Spend(Value, frozen=True):
    """Take an AI operation's tokens. `record`: it has happened, so it is written even into debt.

    With a `hold_id` it captures that hold; only then may the call's action and the charge's tokens be None.
    """

    user: User
    key: Key
    call: Call
    charge: Charge
    on_insufficient: OnInsufficient = "refuse"
    hold_id: UUID | None = None
    aliases: tuple[Key, ...] = ()
    corrects_seq: int | None = None  # It is no call, but the difference to what an earlier row said of one.


@lru_cache(maxsize=4096)
def _hold_id(key: bytes) -> UUID:
    """Remembered: a hold is asked for its name several times on its way."""
    return UUID(bytes=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    """Set tokens aside for a spend whose size is not known yet. Refused when they cannot be reached."""

    user: User
    key: Key
    tokens: int
    action_type: str
    ttl: timedelta  # From the moment it is decided for.
    model: str | None = None
    provider: str | None = None
    metadata: Metadata = field(default_factory=dict)

    @property
    def hold_id(self) -> UUID:
        """The key names the hold: the holds themselves know what was placed before."""
        return _hold_id(self.key.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewHold:
    """Let an open hold live for `ttl` more. Asking again changes little or nothing, so it needs no key."""

    user: User
    hold_id: UUID
    ttl: timedelta
    key: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidHold:
    """Free a hold's tokens. Asking again finds nothing left to do, so it needs no key."""

    user: User
    hold_id: UUID
    key: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Take out the lots that are due. Asking again finds nothing left to do, so it needs no key."""

    user: User
    key: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redate:
    """Set when a subscription's cycle ends, now that its period is known. Moves no tokens and writes no row."""

    user: User
    subscription_id: str
    cycle_number: int
    expires_at: datetime
    kind: LotKind | None = None  # None: whatever the cycle's lot is.
    key: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverse:
    """Let the tokens of a payment follow its money, as it stands. Asking again finds nothing left to do: no key."""

    user: User
    payment_id: str  # Any of its names.
    policies: Policies = field(default_factory=Policies)
    key: None = None


HoldCommand = PlaceHold | RenewHold | VoidHold  # Answered with the hold; the others with a journal row or nothing.
RowCommand = Grant | Drip | Deduct | Spend | Sweep | Redate | Reverse
Command = RowCommand | HoldCommand
