"""What people look at: balances, lots, histories. Reads only; edges may call these without a service.

Each report takes `at`: tokens that are due at that moment are not shown, whether or not a sweep has written them off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tokentill.core.ledger.journal import RowKind, is_late
from tokentill.core.ledger.lots import Lot, burn_order
from tokentill.store.accounts import lot_of
from tokentill.store.db import Conn
from tokentill.store.journal import USAGE_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReport:
    """What an account holds at a moment. `available` = balance − held; a negative balance is debt."""

    user_id: UUID
    external_id: str | None
    email: str | None
    balance: int
    held: int
    available: int
    debt: int
    next_expiry_at: datetime | None
    next_expiry_tokens: int
    lifetime_tokens_granted: int
    lifetime_tokens_used: int
    lifetime_cost: object  # Decimal cents
    seq: int

    @property
    def name(self) -> str:
        return self.external_id if self.external_id is not None else str(self.user_id)


def balance(conn: Conn, user_id: UUID, *, at: datetime) -> BalanceReport | None:
    """Return the account's balance at `at`; None: no account. One statement, so balance, lots and holds agree."""
    sql = """
        SELECT a.user_id, a.external_id, a.email, a.balance - due.tokens AS balance, held.tokens AS held,
               a.balance - due.tokens - held.tokens AS available, a.debt, next.at AS next_expiry_at,
               coalesce(next.tokens, 0)::bigint AS next_expiry_tokens, a.lifetime_tokens_granted,
               a.lifetime_tokens_used, a.lifetime_cost, a.seq
          FROM token_accounts a
         CROSS JOIN (SELECT coalesce(sum(remaining), 0)::bigint AS tokens
                       FROM token_lots
                      WHERE user_id = %(user)s AND expires_at <= %(at)s) due
         CROSS JOIN (SELECT coalesce(sum(tokens), 0)::bigint AS tokens
                       FROM token_holds
                      WHERE user_id = %(user)s AND expires_at > %(at)s AND state = 'placed') held
          LEFT JOIN (SELECT expires_at AS at, sum(remaining) AS tokens
                       FROM token_lots
                      WHERE user_id = %(user)s AND expires_at > %(at)s AND remaining > 0
                      GROUP BY expires_at
                      ORDER BY expires_at
                      LIMIT 1) next ON true
         WHERE a.user_id = %(user)s
    """
    with conn.cursor(row_factory=class_row(BalanceReport)) as cursor:
        return cursor.execute(sql, {"user": user_id, "at": at}).fetchone()


def held(conn: Conn, user_id: UUID, *, at: datetime) -> int:
    """Return how many tokens the holds that were open at `at` set aside."""
    sql = """
        SELECT coalesce(sum(tokens), 0)::bigint
          FROM token_holds
         WHERE user_id = %(user)s AND expires_at > %(at)s AND placed_at <= %(at)s
           AND (closed_at IS NULL OR closed_at > %(at)s)
    """
    row = conn.execute(sql, {"user": user_id, "at": at}).fetchone()
    assert row is not None
    tokens: int = row[0]
    return tokens


def open_lots(conn: Conn, user_id: UUID, *, at: datetime) -> list[Lot]:
    """Return the lots that have anything left at `at`, first to burn first."""
    sql = """
        SELECT lot, kind, granted, remaining, priority, effective_at, expires_at, paid_cents, currency, payment_id,
               subscription_id, cycle_number
          FROM token_lots
         WHERE user_id = %s AND remaining > 0 AND (expires_at IS NULL OR expires_at > %s)
    """
    return sorted((lot_of(row) for row in conn.execute(sql, [user_id, at])), key=burn_order)


def lot_expiries(conn: Conn, user_id: UUID) -> dict[int, datetime | None]:
    """Return when each lot of the account expires, used up or not."""
    return dict(conn.execute("SELECT lot, expires_at FROM token_lots WHERE user_id = %s", [user_id]).fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One journal row, whichever of the three journals it is in. `tokens` is signed.

    The `detail` of usage that was written long after it occurred says `late`.
    """

    seq: int
    kind: RowKind
    type: str
    tokens: int
    balance_before: int
    balance_after: int
    effective_at: datetime
    created_at: datetime
    lot_moves: tuple[tuple[int, int], ...] = ()
    debt_change: int = 0
    detail: Mapping[str, object] = field(default_factory=dict)


def history(conn: Conn, user_id: UUID, *, limit: int = 50, before_seq: int | None = None) -> list[Entry]:
    """Return the account's latest journal rows, newest first; `before_seq` continues a page."""
    sql = f"""
        (SELECT seq, 'transaction', transaction_type, token_amount, balance_before, balance_after, effective_at,
                created_at, lot_moves, debt_change,
                jsonb_strip_nulls(jsonb_build_object(
                    'source', source, 'reason', reason, 'created_by', created_by, 'token_pack_id', token_pack_id,
                    'subscription_id', subscription_id, 'amount_paid_cents', amount_paid_cents, 'currency', currency,
                    'stripe_payment_intent_id', stripe_payment_intent_id, 'stripe_session_id', stripe_session_id,
                    'stripe_invoice_id', stripe_invoice_id, 'reverses_seq', reverses_seq,
                    'metadata', nullif(metadata, '{{}}'))) AS detail
           FROM token_transactions
          WHERE user_id = %(user)s AND seq < %(before)s
          ORDER BY seq DESC LIMIT %(limit)s)
        UNION ALL
        (SELECT seq, 'drip', 'drip', drip_amount, balance_before, balance_after, effective_at, created_at, lot_moves,
                debt_change,
                jsonb_strip_nulls(jsonb_build_object(
                    'subscription_id', subscription_id, 'cycle_number', cycle_number,
                    'rollover_from_previous', rollover_from_previous, 'rollover_cycles_count', rollover_cycles_count,
                    'expired_tokens', expired_tokens, 'billing_period_start', billing_period_start,
                    'billing_period_end', billing_period_end, 'metadata', nullif(metadata, '{{}}')))
           FROM token_drips
          WHERE user_id = %(user)s AND seq < %(before)s
          ORDER BY seq DESC LIMIT %(limit)s)
        UNION ALL
        (SELECT seq, 'usage', action_type, -tokens_used, balance_before, balance_after, occurred_at, created_at,
                lot_moves, debt_change,
                jsonb_strip_nulls(jsonb_build_object({USAGE_DETAIL}))
           FROM token_usage
          WHERE user_id = %(user)s AND seq < %(before)s
          ORDER BY seq DESC LIMIT %(limit)s)
        ORDER BY seq DESC
        LIMIT %(limit)s
    """
    params = {"user": user_id, "before": before_seq if before_seq is not None else 2**62, "limit": limit}
    return [_entry(row) for row in conn.execute(sql.encode(), params)]


def whole_history(conn: Conn, user_id: UUID) -> list[Entry]:
    """Return every journal row of the account, oldest first."""
    return history(conn, user_id, limit=2**31)[::-1]


def _entry(row: tuple[object, ...]) -> Entry:
    names = ("seq", "kind", "type", "tokens", "balance_before", "balance_after", "effective_at", "created_at",
             "lot_moves", "debt_change", "detail")  # fmt: skip
    fields = dict(zip(names, row, strict=True))
    flat = fields["lot_moves"]
    assert isinstance(flat, list)
    fields["lot_moves"] = tuple(zip(flat[::2], flat[1::2], strict=True))
    entry = Entry(**fields)  # type: ignore[arg-type]  # the columns' types are the fields'
    # What corrects a row has that row's time, and is no usage that came late.
    if entry.kind == "usage" and "corrects_seq" not in entry.detail and is_late(entry.effective_at, entry.created_at):
        return replace(entry, detail={**entry.detail, "late": True})
    return entry
