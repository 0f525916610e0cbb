"""Stripe's events, and the findings that some of them leave."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from tokentill.core import checks
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.errors import EventNotFound
from tokentill.services.accounts import finding
from tokentill.services.calls.calling import Who
from tokentill.services.stripe import receiving
from tokentill.store import findings, inbox
from tokentill.store.findings import OpenFinding
from tokentill.store.inbox import InboxEvent
from tokentill.till.base import Base

RETRIED_AT_ONCE = 100  # Stripe events.


class Inbox(Base):
    """Takes in what Stripe says, and shows it."""

    def receive_stripe_event(self, payload: Mapping[str, object]) -> InboxEvent:
        """Store a Stripe event whose signature was checked, and act on it once; return what became of it.

        Raises: MalformedBody, Unavailable when it could not be stored.
        """
        return receiving.receive(self.context, payload)

    def submit_stripe_event(self, payload: Mapping[str, object]) -> Answer[InboxEvent]:
        """The same, together with what arrives at the same time; the answer can be awaited. Raises as it does."""
        return self._arrivals.receive(payload)

    def retry_stripe_events(self, event_ids: Sequence[str]) -> list[InboxEvent]:
        """Act on stored events again, also on those that were ignored; what was handled stays as it is.

        Raises: EventNotFound, and nothing was done then; Unavailable.
        """
        return receiving.retry(self.context, self._events(event_ids))

    def ignore_stripe_events(
        self, event_ids: Sequence[str], *, reason: str, ignored_by: str = "admin"
    ) -> list[InboxEvent]:
        """Give up on events that failed: they are not tried again, and nobody is reminded of them. In the audit log.

        What was handled stays as it is. `retry_stripe_events` acts on them all the same, should it be needed.

        Raises: EventNotFound, InvalidText, and nothing was done then.
        """
        why, actor = checks.text(reason, "reason"), checks.text(ignored_by, "ignored_by", length_max=255)
        return receiving.ignore(self.context, self._events(event_ids), reason=why, actor=actor)

    def _events(self, event_ids: Sequence[str]) -> list[InboxEvent]:
        event_ids = [_event_id(event_id) for event_id in event_ids]
        with self.context.connection() as conn:
            found = inbox.find_all(conn, event_ids)
        missing = next((event_id for event_id in event_ids if event_id not in found), None)
        if missing is not None:
            raise _no_event(missing)
        return [found[event_id] for event_id in dict.fromkeys(event_ids)]

    def retry_failed_stripe_events(self) -> Iterator[InboxEvent]:
        """Act on all failed events again, oldest first, and yield what became of each."""
        with self.context.connection() as conn:
            failed = inbox.failed_ids(conn)
        for first in range(0, len(failed), RETRIED_AT_ONCE):
            yield from self.retry_stripe_events(failed[first : first + RETRIED_AT_ONCE])

    def retry_due_stripe_events(self, *, at: datetime | None = None, limit: int = 100) -> list[InboxEvent]:
        """Act on failed events whose turn has come, and on what was stored and left. Safe to repeat, and at once."""
        return receiving.retry_due(self.context, at=at or self.clock(), limit=limit)

    def link_stripe_customer(self, customer_id: str, user: Who, *, linked_by: str = "admin") -> list[InboxEvent]:
        """Say which user a Stripe customer is, whoever it was before, and grant what it paid for meanwhile.

        Returns the events that had failed, with what became of them. Raises: InvalidUserId, InvalidText, Unavailable.
        """
        who, checked = User.of(user), checks.text(customer_id, "customer_id", length_max=255)
        return receiving.link_customer(self.context, checked, who, actor=linked_by)

    def close_finding(self, finding_id: UUID, *, closed_by: str = "admin") -> OpenFinding:
        """Note that somebody has looked at a finding. Safe to repeat. Raises: FindingNotFound."""
        return finding.close(self.context, finding_id, actor=closed_by)

    def stripe_event(self, event_id: str) -> InboxEvent:
        """Return one event of the inbox. Raises: EventNotFound."""
        event_id = _event_id(event_id)
        with self.context.connection() as conn:
            event = inbox.find(conn, event_id)
        if event is None:
            raise _no_event(event_id)
        return event

    def stripe_events(
        self,
        *,
        state: str | None = None,
        event_type: str | None = None,
        user: Who | None = None,
        customer_id: str | None = None,
        since: datetime | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[InboxEvent]:
        """Return events of the inbox, latest received first; `before` is the last one's (received_at, event_id)."""
        user_id = None if user is None else User.of(user).user_id
        event_type = checks.text_or_none(event_type, "type", length_max=255)
        customer_id = checks.text_or_none(customer_id, "customer_id", length_max=255)
        limit = checks.whole(limit, "limit", maximum=10_000)
        with self.context.connection() as conn:
            return inbox.listed(
                conn, state=state, event_type=event_type, user_id=user_id, customer_id=customer_id, since=since,
                before=before, limit=limit,
            )  # fmt: skip

    def findings(
        self, *, include_closed: bool = False, before: tuple[datetime, UUID] | None = None, limit: int = 50
    ) -> list[OpenFinding]:
        """Return what does not fit and nobody has closed, newest first; `before` is (created_at, id) of the last."""
        limit = checks.whole(limit, "limit", maximum=10_000)
        with self.context.connection() as conn:
            return findings.listed(conn, include_closed=include_closed, before=before, limit=limit)


def _event_id(given: str) -> str:
    return checks.text_or_none(given, "event_id", length_max=255) or ""


def _no_event(event_id: str) -> EventNotFound:
    return EventNotFound(f"There is no Stripe event {ascii(event_id[:80])[1:-1]} in the inbox.", event_id=event_id)
