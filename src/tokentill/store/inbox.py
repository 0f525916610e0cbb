"""Reads and writes `stripe_events`, the inbox: every event as received, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tokentill.store.db import Conn


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEvent:
    """One event and what became of it."""

    event_id: str
    type: str
    api_version: str | None
    livemode: bool
    payload: Mapping[str, object]
    state: str
    attempts: int
    detail: str | None
    user_id: UUID | None
    seq: int | None
    occurred_at: datetime
    received_at: datetime


_COLUMNS = """event_id, type, api_version, livemode, payload, state, attempts, detail, user_id, seq, occurred_at,
              received_at"""


def receive(
    conn: Conn,
    payload: Mapping[str, object],
    *,
    event_id: str,
    event_type: str,
    api_version: str | None,
    livemode: bool,
    occurred_at: datetime,
    now: datetime,
) -> InboxEvent:
    """Store the event unless it is there, and return it as it is there."""
    sql = """
        INSERT INTO stripe_events (event_id, type, api_version, livemode, payload, state, attempts, occurred_at,
                                   received_at)
        VALUES (%s, %s, %s, %s, %s, 'received', 0, %s, %s)
        ON CONFLICT ON CONSTRAINT stripe_events_pkey DO NOTHING
    """
    conn.execute(sql, [event_id, event_type, api_version, livemode, Jsonb(dict(payload)), occurred_at, now])
    event = find(conn, event_id)
    assert event is not None, event_id
    return event


def find(conn: Conn, event_id: str) -> InboxEvent | None:
    """Return one event."""
    sql = f"SELECT {_COLUMNS} FROM stripe_events WHERE event_id = %s"
    with conn.cursor(row_factory=class_row(InboxEvent)) as cursor:
        return cursor.execute(sql.encode(), [event_id]).fetchone()


def failed_of_customer(conn: Conn, customer_id: str, *, limit: int = 100) -> list[InboxEvent]:
    """Return the failed events of a Stripe customer, oldest first."""
    sql = f"""
        SELECT {_COLUMNS}
          FROM stripe_events
         WHERE state = 'failed' AND payload #>> '{{data,object,customer}}' = %s
         ORDER BY occurred_at, event_id
         LIMIT %s
    """
    with conn.cursor(row_factory=class_row(InboxEvent)) as cursor:
        return cursor.execute(sql.encode(), [customer_id, limit]).fetchall()


def settle(conn: Conn, event_id: str, *, state: str, detail: str, now: datetime) -> None:
    """Write what became of the event; one that was handled stays so, whoever else tries."""
    sql = """
        UPDATE stripe_events
           SET state = %s, attempts = attempts + 1, detail = %s, handled_at = %s
         WHERE event_id = %s AND state <> 'handled'
    """
    conn.execute(sql, [state, detail, now, event_id])


def counts(conn: Conn) -> dict[str, int]:
    """Return how many events are in each state."""
    return dict(conn.execute("SELECT state, count(*) FROM stripe_events GROUP BY state").fetchall())
