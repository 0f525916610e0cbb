"""What the hot routes answer, written and documented by msgspec."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from tokentill.core.ledger.holds import HoldReceipt
from tokentill.core.users import User
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt

encode = msgspec.json.Encoder().encode

Moment = Annotated[datetime, Meta(tz=True)]
Late = Annotated[bool, Meta(description="Written long after it occurred: only told where it is true.")]


class UsageView(msgspec.Struct, omit_defaults=True):
    """A spend, just written or, on a repeated request, written then."""

    id: str
    user_id: str
    seq: int
    tokens_used: int
    balance_before: int
    balance_after: int
    occurred_at: Moment
    created_at: Moment
    late: Late = False

    @classmethod
    def of(cls, receipt: Receipt, name: str) -> Self:
        return cls(
            receipt.id, name, receipt.seq, -receipt.tokens, receipt.balance_before, receipt.balance_after,
            receipt.effective_at.astimezone(UTC), receipt.created_at.astimezone(UTC), receipt.is_late,
        )  # fmt: skip


class AcceptedView(UsageView, tag_field="status", tag=201):
    """The answer to one event of a batch that was written, now or on a request before."""


class BatchView(msgspec.Struct):
    """One answer to each event, in the order of the events."""

    results: Annotated[
        list[AcceptedView | msgspec.Raw],  # Raw: a problem, written already.
        Meta(description="What POST /v1/usage would have answered: `status` is 201, or that of the problem beside it."),
    ]
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


class HoldView(msgspec.Struct):
    """A hold as it stands."""

    id: str
    user_id: str
    state: Literal["placed", "captured", "voided", "expired"]
    tokens: int
    action_type: str
    model: str | None
    provider: Annotated[str | None, Meta(description="Who serves the model.")]
    metadata: dict[str, Any]
    placed_at: Moment
    expires_at: Annotated[datetime, Meta(tz=True, description="Exclusive: from then on it holds nothing.")]
    closed_at: Moment | None
    captured_seq: Annotated[int | None, Meta(description="Of the journal row that captured it.")]

    @classmethod
    def of(cls, hold: HoldReceipt) -> "HoldView":
        closed_at = hold.closed_at
        return cls(
            hold.id, hold.name, hold.state, hold.tokens, hold.action_type, hold.model, hold.provider,
            dict(hold.metadata),
            hold.placed_at.astimezone(UTC), hold.expires_at.astimezone(UTC),
            None if closed_at is None else closed_at.astimezone(UTC), hold.captured_seq,
        )  # fmt: skip


class HoldsView(msgspec.Struct):
    """An account's holds, oldest first."""

    user_id: str
    holds: list[HoldView]

    @classmethod
    def of(cls, holds: Sequence[HoldReceipt], user_id: str) -> "HoldsView":
        return cls(User.of(user_id).name, [HoldView.of(hold) for hold in holds])


class CaptureView(msgspec.Struct, omit_defaults=True):
    """The spend that captured a hold, just written or written then."""

    id: str
    hold_id: str
    seq: int
    tokens_used: int
    balance_before: int
    balance_after: int
    occurred_at: Moment
    created_at: Moment
    late: Late = False

    @classmethod
    def of(cls, receipt: Receipt, hold_id: str) -> "CaptureView":
        return cls(
            receipt.id, hold_id, receipt.seq, -receipt.tokens, receipt.balance_before, receipt.balance_after,
            receipt.effective_at.astimezone(UTC), receipt.created_at.astimezone(UTC), receipt.is_late,
        )  # fmt: skip
