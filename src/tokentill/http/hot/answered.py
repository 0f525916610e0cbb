"""What the hot routes answer, written by msgspec: the same as the views in `bodies`, many times as fast."""

from datetime import UTC, datetime
from typing import Self

import msgspec

from tokentill.core.ledger.holds import HoldReceipt
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt


class UsageAnswer(msgspec.Struct, omit_defaults=True):
    """A spend that was written."""

    id: str
    user_id: str
    seq: int
    tokens_used: int
    balance_before: int
    balance_after: int
    occurred_at: datetime
    created_at: datetime
    late: bool = False  # Told only where it is true.

    @classmethod
    def of(cls, receipt: Receipt, name: str) -> Self:
        return cls(
            receipt.id, name, receipt.seq, -receipt.tokens, receipt.balance_before, receipt.balance_after,
            receipt.effective_at.astimezone(UTC), receipt.created_at.astimezone(UTC), receipt.is_late,
        )  # fmt: skip


class AcceptedAnswer(UsageAnswer, tag_field="status", tag=201):
    """The same as one answer of many."""


class BatchAnswer(msgspec.Struct):
    results: list[AcceptedAnswer | msgspec.Raw]  # Raw: a problem, written already.
    accepted: int
    refused: int


class EventAnswer(msgspec.Struct):
    """A Stripe event, and what became of it: `bodies.EventView`."""

    event_id: str
    state: str
    detail: str | None

    @classmethod
    def of(cls, event: InboxEvent) -> "EventAnswer":
        return cls(event.event_id, event.state, event.detail)


class HoldAnswer(msgspec.Struct):
    """A hold as it stands: `bodies.HoldView`."""

    id: str
    user_id: str
    state: str
    tokens: int
    action_type: str
    model: str | None
    provider: str | None
    metadata: dict[str, object]
    placed_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    captured_seq: int | None

    @classmethod
    def of(cls, hold: HoldReceipt) -> "HoldAnswer":
        closed_at = hold.closed_at
        return cls(
            hold.id, hold.name, hold.state, hold.tokens, hold.action_type, hold.model, hold.provider,
            dict(hold.metadata),
            hold.placed_at.astimezone(UTC), hold.expires_at.astimezone(UTC),
            None if closed_at is None else closed_at.astimezone(UTC), hold.captured_seq,
        )  # fmt: skip


class CaptureAnswer(msgspec.Struct, omit_defaults=True):
    """The spend that captured a hold: `bodies.CaptureView`."""

    id: str
    hold_id: str
    seq: int
    tokens_used: int
    balance_before: int
    balance_after: int
    occurred_at: datetime
    created_at: datetime
    late: bool = False  # Told only where it is true.

    @classmethod
    def of(cls, receipt: Receipt, hold_id: str) -> "CaptureAnswer":
        return cls(
            receipt.id, hold_id, receipt.seq, -receipt.tokens, receipt.balance_before, receipt.balance_after,
            receipt.effective_at.astimezone(UTC), receipt.created_at.astimezone(UTC), receipt.is_late,
        )  # fmt: skip
