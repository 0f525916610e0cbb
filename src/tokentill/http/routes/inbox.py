"""`/v1/stripe/…` and `/v1/findings`: what Stripe sent and what became of it, and what somebody should look at."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from tokentill.core.stripe.events import describe, interpret
from tokentill.core.users import User
from tokentill.errors import InvalidRequest
from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import EntryView, HistoryView, Moment
from tokentill.http.deps import Actor, TillDep
from tokentill.http.problems import problems
from tokentill.http.routes.inbox_bodies import (
    FindingsView,
    FindingView,
    LinkBody,
    LinkView,
    State,
    StripeEventDetailView,
    StripeEventsView,
    StripeEventView,
    detail_of,
)
from tokentill.till import Till

router = APIRouter(prefix="/v1", dependencies=[AdminOnly], responses=problems(401, 408, 413, 422, 500, 503))

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="The next_cursor of the page before.")]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@router.get("/stripe/events", tags=["stripe"], summary="The inbox, latest received first")
def read_events(
    till: TillDep,
    state: State | None = None,
    event_type: Annotated[str | None, Query(alias="type")] = None,
    user_id: str | None = None,
    customer_id: str | None = None,
    since: Moment | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> StripeEventsView:
    """Page by page: what arrives meanwhile does not move the pages that follow."""
    events = till.stripe_events(
        state=state, event_type=event_type, user=user_id, customer_id=customer_id, since=since,
        before=_place(cursor), limit=limit,
    )  # fmt: skip
    goes_on = len(events) == limit
    return StripeEventsView.of(
        events, next_cursor=_cursor(events[-1].received_at, events[-1].event_id) if goes_on else None
    )


@router.get("/stripe/events/{event_id}", tags=["stripe"], responses=problems(404), summary="One event of the inbox")
def read_event(event_id: str, till: TillDep) -> StripeEventDetailView:
    """With all that Stripe said, what the till takes it to mean, and the journal row it caused."""
    return _detail(till, event_id)


@router.post(
    "/stripe/events/{event_id}/retry", tags=["stripe"], responses=problems(404), summary="Act on an event again"
)
def retry_event(event_id: str, till: TillDep) -> StripeEventView:
    """Also on one that was ignored. What was handled stays as it is."""
    [event] = till.retry_stripe_events([event_id])
    return StripeEventView.of(event)


@router.post(
    "/stripe/customers/{customer_id}/link", tags=["stripe"], responses=problems(400),
    summary="Say which user a Stripe customer is",
)  # fmt: skip
def link_customer(customer_id: str, body: LinkBody, till: TillDep, actor: Actor = None) -> LinkView:
    """Replaces who it was before, and grants what the customer paid for while nobody knew."""
    events = till.link_stripe_customer(customer_id, body.user_id, linked_by=actor or "admin")
    return LinkView(
        customer_id=customer_id, user_id=User.of(body.user_id).name, events=[StripeEventView.of(one) for one in events]
    )


@router.get("/findings", tags=["findings"], summary="What does not fit, newest first")
def read_findings(
    till: TillDep, include_closed: bool = False, limit: Limit = 50, cursor: Cursor = None
) -> FindingsView:
    """Those that nobody has closed."""
    before = _place(cursor)
    found = till.findings(
        include_closed=include_closed, before=None if before is None else (before[0], _uuid(before[1])), limit=limit
    )
    goes_on = len(found) == limit
    return FindingsView(
        findings=[FindingView.of(each) for each in found],
        next_cursor=_cursor(found[-1].created_at, str(found[-1].id)) if goes_on else None,
    )


@router.post("/findings/{finding_id}/close", tags=["findings"], responses=problems(404), summary="Close a finding")
def close_finding(finding_id: UUID, till: TillDep, actor: Actor = None) -> FindingView:
    """Somebody has looked at it; kept in the audit log. Closed before, it stays as it was."""
    return FindingView.of(till.close_finding(finding_id, closed_by=actor or "admin"))


def _detail(till: Till, event_id: str) -> StripeEventDetailView:
    event = till.stripe_event(event_id)
    name, seq = event.user_name, event.seq
    rows: list[EntryView] = []
    if name is not None and seq is not None:
        rows = HistoryView.of(till.history(name, limit=1, before_seq=seq + 1), name, next_cursor=None).entries
    meaning = describe(interpret(event.payload, till.catalog))
    return detail_of(event, meaning=meaning, row=rows[0] if rows else None)


def _cursor(at: datetime, name: str) -> str:
    return f"at_{(at - _EPOCH) // timedelta(microseconds=1)}_{name}"


def _place(cursor: str | None) -> tuple[datetime, str] | None:
    """Return what a cursor stands for. Raises: InvalidRequest."""
    if cursor is None:
        return None
    found = re.fullmatch(r"at_([0-9]{1,17})_([^\x00]{1,255})", cursor)
    if found is None:
        raise _no_cursor()
    return _EPOCH + timedelta(microseconds=int(found[1])), found[2]


def _uuid(name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError:
        raise _no_cursor() from None


def _no_cursor() -> InvalidRequest:
    return InvalidRequest("This is no cursor of ours: pass on the next_cursor of the page before.", field="cursor")
