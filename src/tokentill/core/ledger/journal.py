"""The journal: one row for every change of a balance, in three append-only tables with one seq per account.

`Transaction` rows are financial, `DripRow`s are subscription drips, `UsageRow`s are AI operations. Each row says
what the balance was and became, which lots it moved and how the debt changed:

    balance_after − balance_before = sum of lot_moves − debt_change

`created_at` is not here: the engine stamps it when it writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tokentill.core.calls import Call
from tokentill.core.ledger.lots import LotMoves
from tokentill.core.values import Value

TransactionType = Literal["grant", "purchase", "deduction", "refund", "transfer", "expiration", "opening"]
Source = Literal["admin", "subscription", "trial", "token_pack", "stripe", "refund", "transfer", "usage", "legacy"]
RowKind = Literal["transaction", "drip", "usage"]

Metadata = Mapping[str, object]

# Usage that is written so long after it occurred is late: by then the account may hold other lots than it did.
LATE_AFTER = timedelta(hours=1)


def is_late(occurred_at: datetime, created_at: datetime) -> bool:
    """Whether usage was written late: priced for when it occurred, paid from the lots of when it was written."""
    return created_at - occurred_at > LATE_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A financial row. `token_amount` is signed: balance_after = balance_before + token_amount."""

    user_id: UUID
    seq: int
    transaction_type: TransactionType
    source: Source
    token_amount: int
    balance_before: int
    balance_after: int
    lot: int | None = None  # The lot that this row opened: its own seq.
    lot_moves: LotMoves = ()
    debt_change: int = 0
    amount_paid_cents: int | None = None
    currency: str | None = None
    stripe_payment_intent_id: str | None = None
    stripe_session_id: str | None = None
    stripe_invoice_id: str | None = None
    subscription_id: str | None = None
    token_pack_id: str | None = None
    reverses_seq: int | None = None  # Of a refund: the row whose lot it takes back (or gives back).
    reason: str | None = None
    created_by: str | None = None
    metadata: Metadata = field(default_factory=dict)
    idempotency_key: bytes | None = None
    effective_at: datetime

    @property
    def kind(self) -> RowKind:
        return "transaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class DripRow:
    """A subscription's drip: balance_after = balance_before + drip_amount."""

    user_id: UUID
    seq: int
    subscription_id: str
    drip_date: datetime
    drip_amount: int
    cycle_number: int
    rollover_from_previous: int
    rollover_cycles_count: int
    expired_tokens: int
    balance_before: int
    balance_after: int
    billing_period_start: datetime
    billing_period_end: datetime
    lot: int
    lot_moves: LotMoves
    debt_change: int
    metadata: Metadata = field(default_factory=dict)
    idempotency_key: bytes | None = None
    effective_at: datetime

    @property
    def kind(self) -> RowKind:
        return "drip"


class UsageRow(Value, frozen=True):
    """An AI operation: balance_after = balance_before − tokens_used. A failed one used 0 tokens."""

    user_id: UUID
    seq: int
    call: Call  # As it was read; it has an action. What it says of `tokens` is `tokens_used`'s to say.
    tokens_used: int
    balance_before: int
    balance_after: int
    lot_moves: LotMoves
    debt_change: int
    idempotency_key: bytes
    occurred_at: datetime
    hold_id: UUID | None = None  # The hold that it captured.
    price_id: int | None = None  # The entry of the price book that the call's cost comes from; None: from elsewhere.
    corrects_seq: int | None = None  # The row whose cost this one puts right; then it is no call of its own.

    @property
    def kind(self) -> RowKind:
        return "usage"


Row = Transaction | DripRow | UsageRow
