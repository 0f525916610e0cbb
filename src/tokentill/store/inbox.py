"""Reads and writes `stripe_events`, the inbox: every event as received, once; and the mode that Stripe is used in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import class_row

from tokentill.store import packing
from tokentill.store.db import Conn

State = Literal["received", "handled", "ignored", "failed"]
STATES: tuple[State, ...] = ("received", "handled", "ignored", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEvent:
    """One event and what became of it."""

    event_id: str
    type: str
    api_version: str | None
    livemode: bool
    payload: Mapping[str, object]
    customer_id: str | None = None
    state: str
    attempts: int
    detail: str | None
    user_id: UUID | None = None
    external_id: str | None = None  # Of that user.
    seq: int | None = None  # The journal row that it caused.
    occurred_at: datetime
    received_at: datetime
    handled_at: datetime | None = None
    next_attempt_at: datetime | None = None  # Of a failed one. None: nobody tries by itself.

    @property
    def user_name(self) -> str | None:
        """The id that the caller knows the user by."""
        return self.external_id or (None if self.user_id is None else str(self.user_id))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of an event that moved no tokens."""

    event_id: str
    state: State
    detail: str
    next_attempt_at: datetime | None = None


# What changes of an event once it is stored.
_FATE = ("state", "attempts", "detail", "user_id", "seq", "handled_at", "next_attempt_at", "external_id")
_FATE_COLUMNS = f"""{", ".join(_FATE[:-1])},
              (SELECT a.external_id FROM token_accounts a WHERE a.user_id = stripe_events.user_id) AS external_id"""
_COLUMNS = f"""event_id, type, api_version, livemode, payload, customer_id, occurred_at, received_at,
              {_FATE_COLUMNS}"""


def store(conn: Conn, events: Sequence[InboxEvent], documents: Sequence[bytes]) -> dict[str, InboxEvent]:
    """Store those events that are not there yet, and return all of them as they are there. `documents`: their JSON.

    What is there already is returned as it was stored first.
    """
    # Sorted by id: two batches that hold the same events in another order would deadlock.
    order = sorted(range(len(events)), key=lambda number: events[number].event_id)
    sorted_events = [events[number] for number in order]
    sql = """
        INSERT INTO stripe_events (event_id, type, api_version, livemode, payload, customer_id, state, attempts, detail,
                                   occurred_at, received_at, handled_at)
        SELECT n.event_id, n.type, n.api_version, n.livemode, n.payload, n.customer_id, n.state, n.attempts, n.detail,
               n.occurred_at, n.received_at, CASE WHEN n.attempts > 0 THEN n.received_at END
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::boolean[], %s::jsonb[], %s::text[], %s::text[],
                      %s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[])
            AS n (event_id, type, api_version, livemode, payload, customer_id, state, attempts, detail, occurred_at,
                  received_at)
            ON CONFLICT ON CONSTRAINT stripe_events_pkey DO NOTHING
        RETURNING event_id
    """
    columns = [
        packing.texts(event.event_id for event in sorted_events),
        packing.names(event.type for event in sorted_events),
        packing.names(event.api_version for event in sorted_events),
        packing.flags([event.livemode for event in sorted_events]),
        packing.jsons(documents[number] for number in order),
        packing.texts(event.customer_id for event in sorted_events),
        packing.names(event.state for event in sorted_events),
        packing.bigints([event.attempts for event in sorted_events]),
        packing.texts(event.detail for event in sorted_events),
        packing.moments([event.occurred_at for event in sorted_events]),
        packing.moments([event.received_at for event in sorted_events]),
    ]
    stored = {event_id for (event_id,) in conn.execute(sql, columns)}
    found = {event.event_id: event for event in reversed(events) if event.event_id in stored}
    known = [event.event_id for event in sorted_events if event.event_id not in stored]
    return found | (find_all(conn, known) if known else {})


def find(conn: Conn, event_id: str) -> InboxEvent | None:
    """Return one event."""
    return find_all(conn, [event_id]).get(event_id)


def find_all(conn: Conn, event_ids: Collection[str]) -> dict[str, InboxEvent]:
    """Return those of these events that are there."""
    sql = f"SELECT {_COLUMNS} FROM stripe_events WHERE event_id = ANY(%s)"
    return {event.event_id: event for event in _read(conn, sql, [list(event_ids)])}


def fates(conn: Conn, event_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what has become of these events, without their payloads: the fields of InboxEvent that change."""
    sql = f"SELECT event_id, {_FATE_COLUMNS} FROM stripe_events WHERE event_id = ANY(%s)"
    rows = conn.execute(sql.encode(), [list(event_ids)]).fetchall()
    return {row[0]: dict(zip(_FATE, row[1:], strict=True)) for row in rows}


def listed(
    conn: Conn,
    *,
    state: str | None = None,
    event_type: str | None = None,
    user_id: UUID | None = None,
    customer_id: str | None = None,
    since: datetime | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[InboxEvent]:
    """Return events, latest received first; `before` (received_at, event_id) goes on after the last one of a page."""
    conditions = {
        "state = %s": state,
        "type = %s": event_type,
        "user_id = %s": user_id,
        "customer_id = %s": customer_id,
        "received_at >= %s": since,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    where, params = list(given), list[object](given.values())
    if before is not None:
        where.append("(received_at, event_id) < (%s, %s)")
        params += before
    sql = f"""
        SELECT {_COLUMNS}
          FROM stripe_events
         WHERE {" AND ".join(where) or "true"}
         ORDER BY received_at DESC, event_id DESC
         LIMIT %s
    """
    return _read(conn, sql, [*params, limit])


def failed_ids(conn: Conn) -> list[str]:
    """Return the ids of failed events, oldest first."""
    sql = "SELECT event_id FROM stripe_events WHERE state = 'failed' ORDER BY occurred_at, event_id"
    return [event_id for (event_id,) in conn.execute(sql)]


def failed_of_customers(conn: Conn, customer_ids: Collection[str], *, limit: int = 100) -> list[InboxEvent]:
    """Return the failed events of Stripe customers, oldest first."""
    sql = f"""
        SELECT {_COLUMNS}
          FROM stripe_events
         WHERE state = 'failed' AND customer_id = ANY(%s)
         ORDER BY occurred_at, event_id
         LIMIT %s
    """
    return _read(conn, sql, [list(customer_ids), limit])


def claim_due(conn: Conn, *, at: datetime, left_since: datetime, until: datetime, limit: int) -> list[InboxEvent]:
    """Take events whose turn has come, oldest first, and keep other workers off them until `until`.

    Due are failed ones by their `next_attempt_at`, and those that were left in state received since `left_since`:
    whoever was about to act on them has died, or met an outage. The claim only saves work: whatever two workers do at
    once happens once by its key.
    """
    sql = f"""
        UPDATE stripe_events
           SET next_attempt_at = %s
         WHERE event_id IN (SELECT event_id
                              FROM stripe_events
                             WHERE (state = 'failed' AND next_attempt_at <= %s)
                                OR (state = 'received' AND received_at <= %s
                                    AND (next_attempt_at IS NULL OR next_attempt_at <= %s))
                             ORDER BY occurred_at, event_id
                             LIMIT %s
                               FOR UPDATE SKIP LOCKED)
        RETURNING {_COLUMNS}
    """
    claimed = _read(conn, sql, [until, at, left_since, at, limit])
    return sorted(claimed, key=lambda event: (event.occurred_at, event.event_id))


def settle(
    conn: Conn, event_id: str, *, state: State, detail: str, now: datetime, next_attempt_at: datetime | None = None
) -> None:
    """Write what became of the event; one that was handled stays so, whoever else tries."""
    settle_all(conn, [Settlement(event_id, state, detail, next_attempt_at)], now=now)


def settle_all(conn: Conn, settlements: Sequence[Settlement], *, now: datetime) -> None:
    """Write what became of these events; those that were handled stay so."""
    sql = """
        UPDATE stripe_events e
           SET state = n.state, attempts = e.attempts + 1, detail = n.detail, handled_at = %s,
               next_attempt_at = n.next_attempt_at
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
            AS n (event_id, state, detail, next_attempt_at)
         WHERE e.event_id = n.event_id AND e.state <> 'handled'
    """
    ordered = sorted(settlements, key=lambda one: one.event_id)
    columns: list[list[Any]] = [
        [one.event_id for one in ordered],
        [one.state for one in ordered],
        [one.detail for one in ordered],
        [one.next_attempt_at for one in ordered],
    ]
    conn.execute(sql, [now, *columns])


def counts(conn: Conn) -> dict[str, int]:
    """Return how many events are in each state."""
    return dict(conn.execute("SELECT state, count(*) FROM stripe_events GROUP BY state").fetchall())


def oldest_open(conn: Conn) -> datetime | None:
    """Return when the oldest event was received that is neither handled nor ignored."""
    row = conn.execute("SELECT min(received_at) FROM stripe_events WHERE state IN ('received', 'failed')").fetchone()
    oldest: datetime | None = row[0] if row else None
    return oldest


def livemode(conn: Conn) -> bool | None:
    """Return the mode that the first event that was acted on decided. None: none was."""
    row = conn.execute("SELECT livemode FROM stripe_mode").fetchone()
    decided: bool | None = row[0] if row else None
    return decided


def decide_livemode(conn: Conn, wanted: bool, *, now: datetime) -> bool:
    """Let this mode be the one, unless one is decided already; return which it is."""
    sql = """
        INSERT INTO stripe_mode (is_only, livemode, decided_at)
        VALUES (true, %s, %s)
        ON CONFLICT ON CONSTRAINT stripe_mode_pkey DO NOTHING
    """
    conn.execute(sql, [wanted, now])
    decided = livemode(conn)
    assert decided is not None
    return decided


def _read(conn: Conn, sql: str, params: Sequence[object]) -> list[InboxEvent]:
    with conn.cursor(row_factory=class_row(InboxEvent)) as cursor:
        return cursor.execute(sql.encode(), params).fetchall()
