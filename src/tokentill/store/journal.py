"""Appends to the three journals, and reads single rows back to answer a repeated request."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any
from uuid import UUID

from msgspec.json import encode as encode_json
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
                row.user_id, row.seq, "usage", row.call.action_type or "", -row.tokens_used, row.balance_before,
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


# Rows of usage come a thousand at a time, as one array for each column, packed here.
_Pack = Callable[[list[Any]], packing.Packed]
_Kind = tuple[str, _Pack]  # The column's type, and what packs its values.


def _sparse(pack: _Pack) -> _Pack:
    """Most rows say nothing here."""
    return partial(packing.or_none, pack)


_NAMES: _Kind = "text", _sparse(packing.names)  # Texts that come again and again.
_TEXTS: _Kind = "text", _sparse(packing.texts)
_NUMBERS: _Kind = "bigint", packing.bigints
_NUMBERS_OR_NOT: _Kind = "bigint", _sparse(packing.bigints_or_nulls)
_MOMENTS: _Kind = "timestamptz", packing.moments
_KEYS: _Kind = "uuid", packing.uuids
_COSTS: _Kind = "numeric", _sparse(packing.numerics)
_FLAGS: _Kind = "boolean", packing.flags
_COUNTS: _Kind = (
    "jsonb",
    _sparse(lambda rows: packing.jsons([None if row is None else encode_json(row) for row in rows])),
)
_OBJECTS: _Kind = "jsonb", lambda rows: packing.jsons([compact_json(row).encode() if row else b"{}" for row in rows])
_IDS_OR_NOT: _Kind = "uuid", _sparse(lambda ids: packing.uuids_or_nulls([each and each.bytes for each in ids]))

# What a row keeps of its call: a column for each of these fields, and of its name.
_CALL: dict[str, _Kind] = {
    "action_type": ("text", packing.names), "model_used": _NAMES, "input_tokens": _NUMBERS_OR_NOT,
    "output_tokens": _NUMBERS_OR_NOT, "pools": _COUNTS, "cost_estimate": _COSTS, "success": _FLAGS,
    "error_message": _TEXTS, "estimated": _FLAGS, "provider_request_id": _TEXTS, "metadata": _OBJECTS,
    "provider": _NAMES, "service_tier": _NAMES,
}  # fmt: skip
# The rest of the row. Nearly all rows draw on one lot: its number and tokens are columns, and only the others bring
# their lot_moves, as an array's text.
_LOT, _MOVED, _LOT_MOVES = "lot", "moved", "lot_moves"
_ROW: dict[str, _Kind] = {
    "user_id": _KEYS, "seq": _NUMBERS, "tokens_used": _NUMBERS, "balance_before": _NUMBERS, "balance_after": _NUMBERS,
    "debt_change": _NUMBERS, "idempotency_key": _KEYS, "occurred_at": _MOMENTS, "hold_id": _IDS_OR_NOT,
    "price_id": _NUMBERS_OR_NOT, "corrects_seq": _NUMBERS_OR_NOT, "created_at": _MOMENTS, _LOT: _NUMBERS,
    _MOVED: _NUMBERS, _LOT_MOVES: _TEXTS,
}  # fmt: skip
_USAGE = {**_CALL, **_ROW}


def _insert_usage() -> str:
    written = [name for name in _USAGE if name not in (_LOT, _MOVED, _LOT_MOVES)]
    arrays = ", ".join(f"%s::{kind}[]" for kind, _ in _USAGE.values())
    return f"""
        INSERT INTO token_usage ({", ".join(written)}, lot_moves)
        SELECT {", ".join(f"n.{name}" for name in written)},
               CASE WHEN n.lot_moves IS NULL THEN ARRAY[n.lot, n.moved] ELSE n.lot_moves::bigint[] END
          FROM unnest({arrays}) AS n ({", ".join(_USAGE)})
    """


INSERT_USAGE = _insert_usage()


def usage_columns(rows: Sequence[UsageRow], created_at: datetime) -> list[packing.Packed]:
    """Return what INSERT_USAGE takes. Raises: OverflowError when a number is out of range, UnicodeEncodeError."""
    single = [row.lot_moves[0] if len(row.lot_moves) == 1 else (0, 0) for row in rows]
    made: dict[str, list[Any]] = {
        "user_id": [row.user_id.bytes for row in rows],
        "created_at": [created_at] * len(rows),
        _LOT: [lot for lot, _ in single],
        _MOVED: [tokens for _, tokens in single],
        _LOT_MOVES: [None if len(row.lot_moves) == 1 else _moves(row.lot_moves) for row in rows],
    }
    calls = [row.call for row in rows]
    columns = [pack([*map(attrgetter(name), calls)]) for name, (_, pack) in _CALL.items()]
    columns += [
        pack(made[name] if name in made else [*map(attrgetter(name), rows)]) for name, (_, pack) in _ROW.items()
    ]
    return columns


# What a history shows of a row of usage, as pairs for jsonb_build_object: all that it keeps of its call, but for what
# an entry says itself, and what came of it.
_SHOWN = {"cost_estimate": "cost_estimate::text", "estimated": "nullif(estimated, false)",
          "metadata": "nullif(metadata, '{}')"}  # fmt: skip
USAGE_DETAIL = ", ".join(
    f"'{name}', {_SHOWN.get(name, name)}"
    for name in (*_CALL, "hold_id", "price_id", "corrects_seq")
    if name != "action_type"
)


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
