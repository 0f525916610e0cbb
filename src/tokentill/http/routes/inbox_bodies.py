"""What the routes about the inbox and the findings take and answer, as pydantic models."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StrictStr

from tokentill.http.bodies import Body, EntryView, UtcMoment
from tokentill.store.findings import OpenFinding
from tokentill.store.inbox import InboxEvent

State = Literal["received", "handled", "ignored", "failed"]


class StripeEventView(BaseModel):
    """An event of the inbox, and what became of it."""

    event_id: str
    type: str
    state: State
    attempts: int = Field(description="How often it was acted on.")
    detail: str | None = Field(description="What it did, or why it did nothing.")
    user_id: str | None = Field(description="Whom it was about, once it was handled.")
    seq: int | None = Field(description="The journal row that it caused.")
    customer_id: str | None
    livemode: bool
    api_version: str | None
    occurred_at: UtcMoment
    received_at: UtcMoment
    handled_at: UtcMoment | None
    next_attempt_at: UtcMoment | None = Field(description="When a failed one is tried again; null: only by hand.")

    @classmethod
    def of(cls, event: InboxEvent) -> "StripeEventView":
        return cls(**_fields(event))


class StripeEventDetailView(StripeEventView):
    """The same, with all that Stripe said and what the till takes it to mean."""

    meaning: str
    row: EntryView | None = Field(description="The journal row that it caused.")
    payload: dict[str, Any]


def detail_of(event: InboxEvent, *, meaning: str, row: EntryView | None) -> StripeEventDetailView:
    return StripeEventDetailView(**_fields(event), meaning=meaning, row=row, payload=dict(event.payload))


def _fields(event: InboxEvent) -> dict[str, Any]:
    names = StripeEventView.model_fields.keys() - {"user_id"}
    return {name: getattr(event, name) for name in names} | {"user_id": event.user_name}


class StripeEventsView(BaseModel):
    """One page of the inbox, latest received first."""

    events: list[StripeEventView]
    next_cursor: str | None = Field(description="Pass it as cursor to go on; null at the end.")

    @classmethod
    def of(cls, events: Sequence[InboxEvent], *, next_cursor: str | None) -> "StripeEventsView":
        return cls(events=[StripeEventView.of(event) for event in events], next_cursor=next_cursor)


class LinkBody(Body):
    user_id: StrictStr


class LinkView(BaseModel):
    """A customer that is linked, and the events that had failed for want of it."""

    customer_id: str
    user_id: str
    events: list[StripeEventView]


class FindingView(BaseModel):
    """Something that does not fit, with both sides."""

    id: UUID
    kind: str
    subject: str = Field(description="The object in Stripe that it is about.")
    user_id: str | None = Field(description="Whom it is about, where that is known.")
    expected: str
    found: str
    created_at: UtcMoment
    closed_at: UtcMoment | None
    closed_by: str | None

    @classmethod
    def of(cls, finding: OpenFinding) -> "FindingView":
        names = cls.model_fields.keys() - {"user_id"}
        return cls(**{name: getattr(finding, name) for name in names}, user_id=finding.user_name)


class FindingsView(BaseModel):
    """One page of findings, newest first."""

    findings: list[FindingView]
    next_cursor: str | None = Field(description="Pass it as cursor to go on; null at the end.")
