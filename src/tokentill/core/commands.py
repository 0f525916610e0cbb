"""What can be asked of an account.

A command is a value: who, what, and the key under which it happens once. It has passed the edge's checks
(`core.checks`); the ledger asserts what those promise. Times are aware UTC, tokens whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tokentill.core.journal import Metadata, Source, TransactionType
from tokentill.core.keys import Key
from tokentill.core.lots import PRIORITY_DEFAULT, LotKind
from tokentill.core.users import User

OnInsufficient = Literal["refuse", "record"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Take an AI operation's tokens. `record`: it has happened, so it is written even into debt."""

    user: User
    key: Key
    tokens: int
    action_type: str
    on_insufficient: OnInsufficient = "refuse"
    model_used: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    pools: Mapping[str, int] | None = None
    cost_estimate: Decimal | None = None
    success: bool = True
    error_message: str | None = None
    estimated: bool = False
    provider_request_id: str | None = None
    metadata: Metadata = field(default_factory=dict)
    occurred_at: datetime | None = None  # None: now.


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
    key: None = None


Command = Grant | Drip | Deduct | Spend | Sweep | Redate
