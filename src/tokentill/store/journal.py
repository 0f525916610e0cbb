"""Appends to the three journals, and reads single rows back to answer a repeated request."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec.json import encode as encode_counts
from psycopg.types.json import Jsonb

from tokentill.core.ledger.journal import (
    DripRow,
    Row,
    RowKind,
    Transaction,
    UsageRow,
    is_late,
)
from tokentill.core.ledger.lots import LotMoves
from tokentill.core.values import Value, astuple
from tokentill.store import packing
from tokentill.store.db import Conn


class Receipt(Value, frozen=True):
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
    is_replay: bool = False  # Whether this request had been carried out before. Two are equal without it.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and astuple(self)[:-1] == astuple(other)[:-1]

    def __hash__(self) -> int:
        return hash((self.user_id, self.seq))

    @property
    def id(self) -> str:
        """The row's address, as the API gives it out."""
        return f"{self.user_id.hex}-{self.seq}"

    @property
    def is_late(self) -> bool:
        """Whether it is usage that was written long after it occurred."""
        return self.kind == "usage" and is_late(self.effective_at, self.created_at)

    @classmethod
    def of(cls, row: Row, *, created_at: datetime) -> "Receipt":
        if isinstance(row, UsageRow):  # First and by position: every spend comes by.
            return cls(
                row.user_id, row.seq, "usage", row.action_type, -row.tokens_used, row.balance_before,
                row.balance_after, row.occurred_at, created_at,
            )  # fmt: skip
        if isinstance(row, DripRow):
            tokens, row_type = row.drip_amount, "drip"
        else:
            tokens, row_type = row.token_amount, row.transaction_type
        return cls(
            row.user_id, row.seq, row.kind, row_type, tokens, row.balance_before, row.balance_after, row.effective_at,
            created_at,
        )  # fmt: skip


_UUID, _BIGINT, _TEXT, _MOMENT, _JSON, _INT = "uuid", "bigint", "text", "timestamptz", "jsonb", "integer"

# Each column's type; lot_moves come as an array's text, for arrays of arrays must all be of one length.
_TRANSACTION = {
    "user_id": _UUID, "seq": _BIGINT, "id": _UUID, "transaction_type": _TEXT, "source": _TEXT, "token_amount": _BIGINT,
    "balance_before": _BIGINT, "balance_after": _BIGINT, "amount_paid_cents": _BIGINT, "currency": _TEXT,
    "stripe_payment_intent_id": _TEXT, "stripe_session_id": _TEXT, "stripe_invoice_id": _TEXT,
    "subscription_id": _TEXT, "token_pack_id": _TEXT, "lot": _BIGINT, "lot_moves": _TEXT, "debt_change": _BIGINT,
    "reverses_seq": _BIGINT, "reason": _TEXT, "metadata": _JSON, "created_by": _TEXT, "idempotency_key": _UUID,
    "effective_at": _MOMENT, "created_at": _MOMENT,
}  # fmt: skip
_DRIP = {
    "user_id": _UUID, "seq": _BIGINT, "id": _UUID, "subscription_id": _TEXT, "drip_date": _MOMENT,
    "drip_amount": _BIGINT, "cycle_number": _INT, "rollover_from_previous": _BIGINT, "rollover_cycles_count": _INT,
    "expired_tokens": _BIGINT, "balance_before": _BIGINT, "balance_after": _BIGINT, "billing_period_start": _MOMENT,
    "billing_period_end": _MOMENT, "lot": _BIGINT, "lot_moves": _TEXT, "debt_change": _BIGINT, "metadata": _JSON,
    "idempotency_key": _UUID, "effective_at": _MOMENT, "created_at": _MOMENT,
}  # fmt: skip


def _insert(table: str, columns: Mapping[str, str]) -> bytes:
    """Return the statement that inserts many rows at once, from one array for each column."""
    taken = ", ".join("n.lot_moves::bigint[]" if name == "lot_moves" else f"n.{name}" for name in columns)
    arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT {taken} FROM unnest({arrays}) AS n ({names})".encode()


_INSERT_TRANSACTIONS = _insert("token_transactions", _TRANSACTION)
_INSERT_DRIPS = _insert("token_drips", _DRIP)

# Rows of usage come a thousand at a time, as one array for each column. Nearly all of them draw on one lot: its number
# and tokens are columns, and only the others bring their lot_moves, as an array's text.
INSERT_USAGE = """
    INSERT INTO token_usage (
           user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, pools, cost_estimate,
           success, error_message, estimated, balance_before, balance_after, lot_moves, debt_change,
           provider_request_id, idempotency_key, metadata, occurred_at, hold_id, price_id, provider, service_tier,
           corrects_seq, created_at)
    SELECT n.user_id, n.seq, n.action_type, n.model_used, n.tokens_used, n.input_tokens, n.output_tokens, n.pools,
           n.cost_estimate, n.success, n.error_message, n.estimated, n.balance_before, n.balance_after,
           CASE WHEN n.lot_moves IS NULL THEN ARRAY[n.lot, n.moved] ELSE n.lot_moves::bigint[] END, n.debt_change,
           n.provider_request_id, n.idempotency_key, n.metadata, n.occurred_at, n.hold_id, n.price_id, n.provider,
           n.service_tier, n.corrects_seq, n.created_at
      FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
                  %s::jsonb[], %s::numeric[], %s::boolean[], %s::text[], %s::boolean[], %s::bigint[], %s::bigint[],
                  %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::uuid[], %s::jsonb[],
                  %s::timestamptz[], %s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[])
        AS n (user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, pools, cost_estimate,
              success, error_message, estimated, balance_before, balance_after, lot, moved, lot_moves, debt_change,
              provider_request_id, idempotency_key, metadata, occurred_at, hold_id, price_id, provider, service_tier,
              corrects_seq, created_at)
"""


def usage_columns(rows: Sequence[UsageRow], created_at: datetime) -> list[packing.Packed]:
    """Return what INSERT_USAGE takes. Raises: OverflowError when a number is out of range, UnicodeEncodeError."""
    single = [row.lot_moves[0] if len(row.lot_moves) == 1 else (0, 0) for row in rows]
    or_none, names, texts = packing.or_none, packing.names, packing.texts
    return [
        packing.uuids([row.user_id.bytes for row in rows]),
        packing.bigints([row.seq for row in rows]),
        names([row.action_type for row in rows]),
        or_none(names, [row.model_used for row in rows]),
        packing.bigints([row.tokens_used for row in rows]),
        or_none(packing.bigints_or_nulls, [row.input_tokens for row in rows]),
        or_none(packing.bigints_or_nulls, [row.output_tokens for row in rows]),
        or_none(packing.jsons, [None if row.pools is None else encode_counts(row.pools) for row in rows]),
        or_none(packing.numerics, [row.cost_estimate for row in rows]),
        packing.flags([row.success for row in rows]),
        or_none(texts, [row.error_message for row in rows]),
        packing.flags([row.estimated for row in rows]),
        packing.bigints([row.balance_before for row in rows]),
        packing.bigints([row.balance_after for row in rows]),
        packing.bigints([lot for lot, _ in single]),
        packing.bigints([tokens for _, tokens in single]),
        or_none(texts, [None if len(row.lot_moves) == 1 else _moves(row.lot_moves) for row in rows]),
        packing.bigints([row.debt_change for row in rows]),
        or_none(texts, [row.provider_request_id for row in rows]),
        packing.uuids([row.idempotency_key for row in rows]),
        packing.jsons([compact_json(row.metadata).encode() if row.metadata else b"{}" for row in rows]),
        packing.moments([row.occurred_at for row in rows]),
        or_none(packing.uuids_or_nulls, [None if row.hold_id is None else row.hold_id.bytes for row in rows]),
        or_none(packing.bigints_or_nulls, [row.price_id for row in rows]),
        or_none(names, [row.provider for row in rows]),
        or_none(names, [row.service_tier for row in rows]),
        or_none(packing.bigints_or_nulls, [row.corrects_seq for row in rows]),
        packing.moments([created_at] * len(rows)),
    ]


def append(conn: Conn, rows: Sequence[Row], *, new_id: Callable[[], UUID], created_at: datetime) -> None:
    """Append journal rows; the financial ones get an id of their own."""
    usage = [row for row in rows if isinstance(row, UsageRow)]
    if len(usage) < len(rows):
        financial = [_transaction_params(row, new_id(), created_at) for row in rows if isinstance(row, Transaction)]
        if financial:
            conn.execute(_INSERT_TRANSACTIONS, [list(column) for column in zip(*financial, strict=True)])
        drips = [_drip_params(row, new_id(), created_at) for row in rows if isinstance(row, DripRow)]
        if drips:
            conn.execute(_INSERT_DRIPS, [list(column) for column in zip(*drips, strict=True)])
    if usage:
        conn.execute(INSERT_USAGE, usage_columns(usage, created_at))


def _transaction_params(row: Transaction, row_id: UUID, created_at: datetime) -> list[object]:
    return [
        row.user_id, row.seq, row_id, row.transaction_type, row.source, row.token_amount, row.balance_before,
        row.balance_after, row.amount_paid_cents, row.currency, row.stripe_payment_intent_id, row.stripe_session_id,
        row.stripe_invoice_id, row.subscription_id, row.token_pack_id, row.lot, _moves(row.lot_moves), row.debt_change,
        row.reverses_seq, row.reason, Jsonb(dict(row.metadata)), row.created_by, _uuid(row.idempotency_key),
        row.effective_at, created_at,
    ]  # fmt: skip


def _drip_params(row: DripRow, row_id: UUID, created_at: datetime) -> list[object]:
    return [
        row.user_id, row.seq, row_id, row.subscription_id, row.drip_date, row.drip_amount, row.cycle_number,
        row.rollover_from_previous, row.rollover_cycles_count, row.expired_tokens, row.balance_before,
        row.balance_after, row.billing_period_start, row.billing_period_end, row.lot, _moves(row.lot_moves),
        row.debt_change, Jsonb(dict(row.metadata)), _uuid(row.idempotency_key), row.effective_at, created_at,
    ]  # fmt: skip


def _moves(moves: LotMoves) -> str:
    return "{" + ",".join([f"{lot},{tokens}" for lot, tokens in moves]) + "}"


_compact = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def compact_json(value: Mapping[str, object]) -> str:
    return _compact(dict(value)) if value else "{}"


def _uuid(value: bytes | None) -> UUID | None:
    return None if value is None else UUID(bytes=value)


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
