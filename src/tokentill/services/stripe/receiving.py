"""Receiving: what Stripe says happened becomes tokens, once.

An event is stored first, whatever it is; then it is interpreted (`core.stripe.events`), and what it asks for goes to
the engine with the event's new state as a companion: the inbox says "handled" exactly when the tokens are in the books.
The key of a grant is the business fact (this session's pack, this subscription's cycle), never the event's id, so
a duplicate, a checkout beside its first invoice, or two events about one payment grant once.

Stripe promises no order. Whoever comes first grants; who comes later corrects what the first could not know.

Events come in batches, of one or of many (`services.stripe.batching`), because many commit for the price of one; what
is done about each is `services.stripe.handling`'s.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.json import encode as encode_json

from tokentill.core.companions import Audited
from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.payloads import Ignored, dig, id_of
from tokentill.core.users import User
from tokentill.errors import MalformedBody, Unavailable
from tokentill.services.context import Context
from tokentill.services.stripe.handling import handle
from tokentill.services.stripe.inquiring import Meaning, interpreted, meaning_of, wants_cart
from tokentill.store import companions, customers, inbox
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import compact_json

# Who stored an event acts on it within moments; what is older and still received was left behind.
LEFT_AFTER = timedelta(minutes=5)
CLAIMED_FOR = timedelta(minutes=5)

log = logging.getLogger("tokentill.receiving")


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that has come in, not stored yet: as it will be, what it means, and its JSON."""

    event: InboxEvent
    meaning: Meaning  # As far as it tells by itself.
    document: bytes
    wants_cart: bool  # Whether Stripe has to be asked what was sold, which takes its time.


def arrival_of(context: Context, catalog: Catalog, payload: Mapping[str, object]) -> Arrival:
    """Read an event. What is to be ignored will be stored as such.

    Raises: MalformedBody when it is no Stripe event.
    """
    event_id, event_type = names_of(payload)
    api_version, now = payload.get("api_version"), context.clock()
    meaning = interpreted(catalog, payload)
    asks = wants_cart(context.stripe, catalog, payload)
    is_ignored = isinstance(meaning, Ignored) and not asks
    event = InboxEvent(
        event_id=event_id,
        type=event_type[:255],
        api_version=api_version if isinstance(api_version, str) else None,
        # Stripe always says it. A payload that does not was made by hand, for a test.
        livemode=payload.get("livemode") is True,
        payload=payload,
        customer_id=_customer_of(payload),
        state="ignored" if is_ignored else "received",
        attempts=1 if is_ignored else 0,
        detail=meaning.reason if isinstance(meaning, Ignored) and is_ignored else None,
        occurred_at=_moment(payload.get("created")) or now,
        received_at=now,
        handled_at=now if is_ignored else None,
    )
    try:
        return Arrival(event, meaning, _document(payload), asks)
    except ValueError:
        raise MalformedBody("A text in the event holds half of a surrogate pair: it cannot be stored.") from None


def _document(payload: Mapping[str, object]) -> bytes:
    try:
        return encode_json(payload)
    except OverflowError:  # A whole number of more than 64 bits.
        return compact_json(payload).encode()


def names_of(payload: Mapping[str, object]) -> tuple[str, str]:
    """Return the id and the type of an event. Raises: MalformedBody when it is no Stripe event."""
    event_id, event_type = payload.get("id"), payload.get("type")
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255 and isinstance(event_type, str)):
        raise MalformedBody("This is no Stripe event: it has no id or no type.")
    return event_id, event_type


def receive(context: Context, payload: Mapping[str, object]) -> InboxEvent:
    """Store an event and act on it; return it with what became of it. A known event is acted on once.

    Raises: MalformedBody when it is no Stripe event (nothing was stored); Unavailable when it could not be stored (safe
    to send again). An outage after that leaves it received, for `retry_due`.
    """
    arrivals = [arrival_of(context, context.catalog, payload)]
    [event] = act_on(context, arrivals, store_all(context, arrivals))
    return event


def store_all(context: Context, arrivals: Sequence[Arrival]) -> dict[str, InboxEvent]:
    """Store what is not there yet, and return all as it is there. Raises: InvalidRequest, Unavailable."""
    with context.connection() as conn:
        return inbox.store(conn, [arrival.event for arrival in arrivals], [arrival.document for arrival in arrivals])


def act_on(context: Context, arrivals: Sequence[Arrival], stored: Mapping[str, InboxEvent]) -> list[InboxEvent]:
    """Act on those that nobody has acted on, in this order; return each with what became of it.

    Raises: nothing. They are stored: whatever happens now, whoever sent them need not send them again.
    """
    found: dict[str, tuple[InboxEvent, Meaning]] = {}
    acted_on: Mapping[str, InboxEvent] = {}
    try:
        for arrival in arrivals:
            event = stored[arrival.event.event_id]
            if event.event_id not in found and event.state in ("received", "failed"):
                # What came first counts, should the two differ.
                is_told = event is arrival.event and not arrival.wants_cart
                meaning = arrival.meaning if is_told else meaning_of(context.stripe, context.catalog, event.payload)
                found[event.event_id] = event, meaning
        acted_on = handle(context, list(found.values()))
    except Unavailable as error:
        log.warning("%d events are stored and wait to be acted on: %s", len(found), error.detail)
    except Exception:
        log.exception("%d events are stored and wait to be acted on", len(found))
    return [acted_on.get(arrival.event.event_id, stored[arrival.event.event_id]) for arrival in arrivals]


def retry(context: Context, events: Sequence[InboxEvent]) -> list[InboxEvent]:
    """Act on stored events again, whatever became of them before; those that were handled stay as they are.

    Raises: Unavailable.
    """
    catalog = context.catalog
    again = [event for event in events if event.state != "handled"]
    acted_on = handle(context, [(event, meaning_of(context.stripe, catalog, event.payload)) for event in again])
    return [acted_on.get(event.event_id, event) for event in events]


def ignore(context: Context, events: Sequence[InboxEvent], *, reason: str, actor: str) -> list[InboxEvent]:
    """Let these events rest; those that were handled stay as they are. Return them as they are now."""
    now = context.clock()
    with context.connection() as conn:
        for event in events:
            if event.state != "handled":
                inbox.settle(conn, event.event_id, state="ignored", detail=f"given up by {actor}: {reason}", now=now)
                detail = {"event_id": event.event_id, "reason": reason}
                audited = Audited(id=context.new_id(), actor=actor, act="ignore_event", detail=detail)
                companions.write_audit(conn, event.user_id, audited, None, now)
        found = inbox.find_all(conn, [event.event_id for event in events])
    return [found[event.event_id] for event in events]


def retry_due(context: Context, *, at: datetime, limit: int = 100) -> list[InboxEvent]:
    """Act on the events whose turn has come by `at`; return them with what became of them.

    Safe to run at any time, and in two processes at once: each takes other events; and whatever is done twice all the
    same happens once. Raises: Unavailable; what was taken is then taken up again after CLAIMED_FOR.
    """
    with context.connection() as conn:
        due = inbox.claim_due(conn, at=at, left_since=at - LEFT_AFTER, until=at + CLAIMED_FOR, limit=limit)
    return retry(context, due)


def link_customer(context: Context, customer_id: str, user: User, *, actor: str) -> list[InboxEvent]:
    """Let a Stripe customer be this user from now on, and act on what it paid for while nobody knew; return that.

    Replaces who it was before: an admin knows better than a first event. Lots that were granted stay where they are.

    Raises: Unavailable.
    """
    now = context.clock()
    with context.connection() as conn:
        before = customers.link(conn, customer_id, user, now=now)
        detail = {"customer_id": customer_id, "user": user.name, "before": None if before is None else str(before)}
        audited = Audited(id=context.new_id(), actor=actor, act="link_customer", detail=detail)
        companions.write(conn, user.user_id, (audited,), seq=None, now=now)
    with context.connection() as conn:
        waiting = inbox.failed_of_customers(conn, [customer_id])
    return retry(context, waiting)


def _customer_of(payload: Mapping[str, object]) -> str | None:
    about = dig(payload, "data", "object")
    return id_of(dig(about, "id")) if dig(about, "object") == "customer" else id_of(dig(about, "customer"))


def _moment(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 2**34:
        return None
    return datetime.fromtimestamp(seconds, UTC)
