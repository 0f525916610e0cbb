"""Writes the rows that accompany a command. None of them holds a balance, and each may be written twice."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never
from uuid import UUID

from psycopg.types.json import Jsonb

from tokentill.core.companions import (
    Audited,
    Companion,
    CustomerSeen,
    CycleGranted,
    EventHandled,
    Found,
    MoneySettled,
    PaymentSeen,
    ProfileSeen,
)
from tokentill.store import packing, payments
from tokentill.store.db import Conn

# Companions of a command, about a user; with the journal row that answered it, if it wrote one.
Beside = tuple[UUID, Sequence[Companion], int | None]


def write(conn: Conn, user_id: UUID, companions: Sequence[Companion], *, seq: int | None, now: datetime) -> None:
    """Write companions of a command about `user_id`; `seq` is the journal row that answered it, if it wrote one."""
    write_all(conn, [(user_id, companions, seq)], now=now)


def write_all(conn: Conn, beside: Sequence[Beside], *, now: datetime) -> None:
    """Write the companions of a batch. Those that come by the hundred, with each sale, have one statement for all."""
    events: list[tuple[UUID, EventHandled, int | None]] = []
    customers: dict[str, UUID] = {}
    profiles: dict[UUID, ProfileSeen] = {}
    seen: list[tuple[UUID, PaymentSeen]] = []
    settled: list[tuple[str, int]] = []
    for user_id, companions, seq in beside:
        for companion in companions:
            match companion:
                case EventHandled():
                    events.append((user_id, companion, seq))
                case PaymentSeen():
                    seen.append((user_id, companion))
                case MoneySettled():
                    settled += companion.revisions
                    if seq is not None:
                        names = [name for name, _ in companion.revisions]
                        payments.reopen_repaid(conn, user_id, names, now=now)
                case CustomerSeen():
                    customers.setdefault(companion.customer_id, user_id)
                case CycleGranted():
                    _write_cycle(conn, user_id, companion, now)
                case ProfileSeen():
                    before = profiles.get(user_id, ProfileSeen())
                    profiles[user_id] = ProfileSeen(
                        email=companion.email or before.email,
                        display_name=companion.display_name or before.display_name,
                    )
                case Found():
                    _write_finding(conn, user_id, companion, now)
                case Audited():
                    write_audit(conn, user_id, companion, seq, now)
                case _:  # pragma: no cover
                    assert_never(companion)
    if seen:
        payments.write_seen(conn, seen, now=now)
    if settled:
        payments.write_settled(conn, settled)
    if customers:
        _write_customers(conn, customers, now)
    if profiles:
        _write_profiles(conn, profiles)
    if events:
        _write_events(conn, events, now)


# In these, rows are sorted: two batches that write the same ones in another order would deadlock.


def _write_events(conn: Conn, events: Sequence[tuple[UUID, EventHandled, int | None]], now: datetime) -> None:
    sql = """
        UPDATE stripe_events e
           SET state = 'handled', attempts = attempts + 1, detail = n.detail, user_id = n.user_id, seq = n.seq,
               handled_at = %s, next_attempt_at = NULL
          FROM unnest(%s::text[], %s::text[], %s::uuid[], %s::bigint[]) AS n (event_id, detail, user_id, seq)
         WHERE e.event_id = n.event_id
    """
    ordered = sorted(events, key=lambda one: one[1].event_id)
    columns = [
        packing.texts(event.event_id for _, event, _ in ordered),
        packing.texts(event.detail for _, event, _ in ordered),
        packing.uuids([user_id.bytes for user_id, _, _ in ordered]),
        packing.bigints_or_nulls([seq for _, _, seq in ordered]),
    ]
    conn.execute(sql, [now, *columns])


def _write_customers(conn: Conn, customers: Mapping[str, UUID], now: datetime) -> None:
    sql = """
        INSERT INTO stripe_customers (customer_id, user_id, created_at)
        SELECT n.customer_id, n.user_id, %s
          FROM unnest(%s::text[], %s::uuid[]) AS n (customer_id, user_id)
            ON CONFLICT ON CONSTRAINT stripe_customers_pkey DO NOTHING
    """
    ordered = sorted(customers.items())
    columns = [
        packing.texts(customer_id for customer_id, _ in ordered),
        packing.uuids([user_id.bytes for _, user_id in ordered]),
    ]
    conn.execute(sql, [now, *columns])


def _write_profiles(conn: Conn, profiles: Mapping[UUID, ProfileSeen]) -> None:
    """Where an e-mail or name is new: mostly it is not."""
    sql = """
        UPDATE token_accounts a
           SET email = coalesce(n.email, a.email), display_name = coalesce(n.display_name, a.display_name)
          FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS n (user_id, email, display_name)
         WHERE a.user_id = n.user_id AND a.user_id = ANY(%s::uuid[])
           AND (coalesce(n.email, a.email), coalesce(n.display_name, a.display_name))
               IS DISTINCT FROM (a.email, a.display_name)
    """
    ordered = sorted(profiles.items(), key=lambda one: one[0].bytes)
    users = packing.uuids([user_id.bytes for user_id, _ in ordered])
    columns = [
        packing.texts(profile.email for _, profile in ordered),
        packing.texts(profile.display_name for _, profile in ordered),
    ]
    conn.execute(sql, [users, *columns, users])


def _write_cycle(conn: Conn, user_id: UUID, granted: CycleGranted, now: datetime) -> None:
    sql = """
        UPDATE token_subscriptions
           SET cycle_number = greatest(cycle_number, %s), next_drip_at = least(next_drip_at, %s),
               revision = revision + (%s::timestamptz IS NOT NULL)::integer, updated_at = %s
         WHERE user_id = %s AND subscription_id = %s
    """
    next_drip_at = granted.next_drip_at
    conn.execute(
        sql, [granted.cycle_number, next_drip_at, next_drip_at, now, user_id, granted.subscription_id]
    )  # fmt: skip


def _write_finding(conn: Conn, user_id: UUID, finding: Found, now: datetime) -> None:
    sql = """
        INSERT INTO findings (id, kind, subject, user_id, expected, found, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT findings_once DO NOTHING
    """
    conn.execute(sql, [finding.id, finding.kind, finding.subject, user_id, finding.expected, finding.found, now])


def write_audit(conn: Conn, user_id: UUID | None, audited: Audited, seq: int | None, now: datetime) -> None:
    sql = """
        INSERT INTO audit_log (id, user_id, actor, act, seq, detail, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT audit_log_pkey DO NOTHING
    """
    conn.execute(sql, [audited.id, user_id, audited.actor, audited.act, seq, Jsonb(dict(audited.detail)), now])
