"""Writes the rows that accompany a command. None of them holds a balance, and each may be written twice."""

from collections.abc import Sequence
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
    PaymentSeen,
    ProfileSeen,
)
from tokentill.store.db import Conn


def write(conn: Conn, user_id: UUID, companions: Sequence[Companion], *, seq: int | None, now: datetime) -> None:
    """Write companions of a command about `user_id`; `seq` is the journal row that answered it, if it wrote one."""
    for companion in companions:
        match companion:
            case EventHandled():
                _write_event(conn, user_id, companion, seq, now)
            case PaymentSeen():
                _write_payment(conn, user_id, companion, now)
            case CustomerSeen():
                _write_customer(conn, user_id, companion, now)
            case CycleGranted():
                _write_cycle(conn, user_id, companion, now)
            case ProfileSeen():
                _write_profile(conn, user_id, companion)
            case Audited():
                _write_audit(conn, user_id, companion, seq, now)
            case _:  # pragma: no cover
                assert_never(companion)


def _write_event(conn: Conn, user_id: UUID, event: EventHandled, seq: int | None, now: datetime) -> None:
    sql = """
        UPDATE stripe_events
           SET state = 'handled', attempts = attempts + 1, detail = %s, user_id = %s, seq = %s, handled_at = %s
         WHERE event_id = %s
    """
    conn.execute(sql, [event.detail, user_id, seq, now, event.event_id])


def _write_payment(conn: Conn, user_id: UUID, payment: PaymentSeen, now: datetime) -> None:
    # Session and invoice arrive by different events; neither may blank what the other told.
    sql = """
        INSERT INTO payments AS p
               (user_id, payment_id, amount_cents, currency, customer_id, session_id, invoice_id, paid_at, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT payments_pkey DO UPDATE
           SET customer_id = coalesce(p.customer_id, excluded.customer_id),
               session_id = coalesce(p.session_id, excluded.session_id),
               invoice_id = coalesce(p.invoice_id, excluded.invoice_id)
    """
    conn.execute(
        sql,
        [user_id, payment.payment_id, payment.amount_cents, payment.currency, payment.customer_id,
         payment.session_id, payment.invoice_id, payment.paid_at, now],
    )  # fmt: skip


def _write_customer(conn: Conn, user_id: UUID, customer: CustomerSeen, now: datetime) -> None:
    sql = """
        INSERT INTO stripe_customers (customer_id, user_id, created_at)
        VALUES (%s, %s, %s)
        ON CONFLICT ON CONSTRAINT stripe_customers_pkey DO NOTHING
    """
    conn.execute(sql, [customer.customer_id, user_id, now])


def _write_cycle(conn: Conn, user_id: UUID, granted: CycleGranted, now: datetime) -> None:
    sql = """
        UPDATE token_subscriptions
           SET cycle_number = greatest(cycle_number, %s), next_drip_at = greatest(next_drip_at, %s), updated_at = %s
         WHERE user_id = %s AND subscription_id = %s
    """
    conn.execute(sql, [granted.cycle_number, granted.next_drip_at, now, user_id, granted.subscription_id])


def _write_profile(conn: Conn, user_id: UUID, profile: ProfileSeen) -> None:
    sql = """
        UPDATE token_accounts
           SET email = coalesce(%s, email), display_name = coalesce(%s, display_name)
         WHERE user_id = %s
    """
    conn.execute(sql, [profile.email, profile.display_name, user_id])


def _write_audit(conn: Conn, user_id: UUID, audited: Audited, seq: int | None, now: datetime) -> None:
    sql = """
        INSERT INTO audit_log (id, user_id, actor, act, seq, detail, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT audit_log_pkey DO NOTHING
    """
    conn.execute(sql, [audited.id, user_id, audited.actor, audited.act, seq, Jsonb(dict(audited.detail)), now])
