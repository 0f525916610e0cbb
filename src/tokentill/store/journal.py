"""Appends to the three journals, and reads single rows back to answer a repeated request."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from tokentill.core.journal import (
    DripRow,
    LotMoves,
    Row,
    RowKind,
    Transaction,
    UsageRow,
)
from tokentill.store.db import Conn


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a committed journal row says: the answer to the request that caused it.

    It holds recorded facts only, so a repeated request gets an equal one. `tokens` is signed: positive when the
    account gained.
    """

    user_id: UUID
    seq: int
    kind: RowKind
    type: str  # transaction_type, "drip" or the action's name
    tokens: int
    balance_before: int
    balance_after: int
    effective_at: datetime
    created_at: datetime
    is_replay: bool = field(default=False, compare=False)  # Whether this request had been carried out before.

    @property
    def id(self) -> str:
        """The row's address, as the API gives it out."""
        return f"{self.user_id.hex}-{self.seq}"

    @classmethod
    def of(cls, row: Row, *, created_at: datetime) -> "Receipt":
        match row:
            case UsageRow():
                tokens, row_type, effective_at = -row.tokens_used, row.action_type, row.occurred_at
            case DripRow():
                tokens, row_type, effective_at = row.drip_amount, "drip", row.effective_at
            case Transaction():
                tokens, row_type, effective_at = row.token_amount, row.transaction_type, row.effective_at
        return cls(
            user_id=row.user_id,
            seq=row.seq,
            kind=row.kind,
            type=row_type,
            tokens=tokens,
            balance_before=row.balance_before,
            balance_after=row.balance_after,
            effective_at=effective_at,
            created_at=created_at,
        )


_TRANSACTION_COLUMNS = (
    "user_id", "seq", "id", "transaction_type", "source", "token_amount", "balance_before", "balance_after",
    "amount_paid_cents", "currency", "stripe_payment_intent_id", "stripe_session_id", "stripe_invoice_id",
    "subscription_id", "token_pack_id", "lot", "lot_moves", "debt_change", "reason", "metadata", "created_by",
    "idempotency_key", "effective_at", "created_at",
)  # fmt: skip

_DRIP_COLUMNS = (
    "user_id", "seq", "id", "subscription_id", "drip_date", "drip_amount", "cycle_number", "rollover_from_previous",
    "rollover_cycles_count", "expired_tokens", "balance_before", "balance_after", "billing_period_start",
    "billing_period_end", "lot", "lot_moves", "debt_change", "metadata", "idempotency_key", "effective_at",
    "created_at",
)  # fmt: skip

_INSERT_TRANSACTION = (
    f"INSERT INTO token_transactions ({', '.join(_TRANSACTION_COLUMNS)})"
    f" VALUES ({', '.join(['%s'] * len(_TRANSACTION_COLUMNS))})"
)
_INSERT_DRIP = f"INSERT INTO token_drips ({', '.join(_DRIP_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_DRIP_COLUMNS))})"

_USAGE_COLUMNS = {
    "user_id": "uuid", "seq": "int8", "action_type": "text", "model_used": "text", "tokens_used": "int8",
    "input_tokens": "int8", "output_tokens": "int8", "pools": "jsonb", "cost_estimate": "numeric", "success": "bool",
    "error_message": "text", "estimated": "bool", "balance_before": "int8", "balance_after": "int8",
    "lot_moves": "int8[]", "debt_change": "int8", "provider_request_id": "text", "idempotency_key": "uuid",
    "metadata": "jsonb", "occurred_at": "timestamptz", "created_at": "timestamptz",
}  # fmt: skip
_COPY_USAGE = f"COPY token_usage ({', '.join(_USAGE_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


def append(conn: Conn, rows: Sequence[tuple[Row, UUID]], *, created_at: datetime) -> None:
    """Append journal rows; each comes with a fresh id."""
    financial = [_transaction_params(row, row_id, created_at) for row, row_id in rows if isinstance(row, Transaction)]
    drips = [_drip_params(row, row_id, created_at) for row, row_id in rows if isinstance(row, DripRow)]
    usage = [row for row, _ in rows if isinstance(row, UsageRow)]
    with conn.cursor() as cursor:
        if financial:
            cursor.executemany(_INSERT_TRANSACTION, financial)
        if drips:
            cursor.executemany(_INSERT_DRIP, drips)
        if usage:
            with cursor.copy(_COPY_USAGE) as copy:
                copy.set_types(list(_USAGE_COLUMNS.values()))
                for row in usage:
                    copy.write_row(_usage_params(row, created_at))


def _transaction_params(row: Transaction, row_id: UUID, created_at: datetime) -> list[object]:
    return [
        row.user_id, row.seq, row_id, row.transaction_type, row.source, row.token_amount, row.balance_before,
        row.balance_after, row.amount_paid_cents, row.currency, row.stripe_payment_intent_id, row.stripe_session_id,
        row.stripe_invoice_id, row.subscription_id, row.token_pack_id, row.lot, _flat(row.lot_moves), row.debt_change,
        row.reason, Jsonb(dict(row.metadata)), row.created_by, row.idempotency_key, row.effective_at, created_at,
    ]  # fmt: skip


def _drip_params(row: DripRow, row_id: UUID, created_at: datetime) -> list[object]:
    return [
        row.user_id, row.seq, row_id, row.subscription_id, row.drip_date, row.drip_amount, row.cycle_number,
        row.rollover_from_previous, row.rollover_cycles_count, row.expired_tokens, row.balance_before,
        row.balance_after, row.billing_period_start, row.billing_period_end, row.lot, _flat(row.lot_moves),
        row.debt_change, Jsonb(dict(row.metadata)), row.idempotency_key, row.effective_at, created_at,
    ]  # fmt: skip


def _usage_params(row: UsageRow, created_at: datetime) -> list[object]:
    pools = None if row.pools is None else Jsonb(dict(row.pools), _compact)
    return [
        row.user_id, row.seq, row.action_type, row.model_used, row.tokens_used, row.input_tokens, row.output_tokens,
        pools, row.cost_estimate, row.success, row.error_message, row.estimated, row.balance_before, row.balance_after,
        _flat(row.lot_moves), row.debt_change, row.provider_request_id, row.idempotency_key,
        Jsonb(dict(row.metadata), _compact), row.occurred_at, created_at,
    ]  # fmt: skip


_compact = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def _flat(moves: LotMoves) -> list[int]:
    return [number for move in moves for number in move]


def ensure_month(conn: Conn, day: datetime) -> None:
    """Make sure that usage of this moment's month has a partition to go to. Commits nothing."""
    conn.execute("SELECT till_make_usage_partition(%s::date)", [day.date()])


@dataclass(frozen=True, slots=True)
class RowRef:
    """Where a journal row is: enough to find it without a search."""

    user_id: UUID
    kind: RowKind
    seq: int
    created_at: datetime


_READ: dict[RowKind, str] = {
    "transaction": """
        SELECT t.user_id, t.seq, t.transaction_type, t.token_amount, t.balance_before, t.balance_after,
               t.effective_at, t.created_at
          FROM token_transactions t
          JOIN unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS n (user_id, seq, created_at) USING (user_id, seq)
         WHERE t.user_id = ANY(%s::uuid[])
    """,
    "drip": """
        SELECT t.user_id, t.seq, 'drip', t.drip_amount, t.balance_before, t.balance_after, t.effective_at, t.created_at
          FROM token_drips t
          JOIN unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS n (user_id, seq, created_at) USING (user_id, seq)
         WHERE t.user_id = ANY(%s::uuid[])
    """,
    "usage": """
        SELECT t.user_id, t.seq, t.action_type, -t.tokens_used, t.balance_before, t.balance_after,
               t.occurred_at, t.created_at
          FROM token_usage t
          JOIN unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS n (user_id, seq, created_at)
         USING (user_id, seq, created_at)
         WHERE t.user_id = ANY(%s::uuid[])
    """,
}


def read(conn: Conn, refs: Iterable[RowRef]) -> dict[tuple[UUID, int], Receipt]:
    """Return the receipts of these rows, each marked as a replay."""
    by_kind: dict[RowKind, list[RowRef]] = {}
    for ref in refs:
        by_kind.setdefault(ref.kind, []).append(ref)
    receipts = {}
    for kind, wanted in by_kind.items():
        ids = [ref.user_id for ref in wanted]
        params = [ids, [ref.seq for ref in wanted], [ref.created_at for ref in wanted], ids]
        for user_id, seq, row_type, tokens, before, after, effective_at, created_at in conn.execute(
            _READ[kind].encode(), params
        ):
            receipts[user_id, seq] = Receipt(
                user_id=user_id, seq=seq, kind=kind, type=row_type, tokens=tokens, balance_before=before,
                balance_after=after, effective_at=effective_at, created_at=created_at, is_replay=True,
            )  # fmt: skip
    return receipts
