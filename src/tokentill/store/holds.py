"""Reads and writes `token_holds`. Every write goes with the compare-and-set on its account, in one transaction."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from tokentill.core.ledger.holds import Hold, HoldReceipt
from tokentill.core.users import User
from tokentill.store import packing
from tokentill.store.db import Conn
from tokentill.store.journal import compact_json

HoldRef = tuple[UUID, UUID]  # user_id, hold_id
WrittenHold = tuple[UUID, Hold]  # user_id, the hold as it is by now


def load_open(conn: Conn, user_ids: Iterable[UUID]) -> dict[UUID, tuple[Hold, ...]]:
    """Return these accounts' holds that are open at their `last_at`, or later: no other can ever be open again.

    Read after the accounts. What changes in between moves the account's version, and whoever decides on it finds out.
    """
    sql = """
        SELECT h.user_id, h.hold_id, h.request_hash, h.tokens, h.action_type, h.model, h.metadata, h.placed_at,
               h.expires_at, h.state, h.closed_at, h.captured_seq, h.provider
          FROM token_holds h
          JOIN token_accounts a USING (user_id)
         WHERE h.user_id = ANY(%s) AND h.state = 'placed' AND h.expires_at > a.last_at
         ORDER BY h.user_id, h.placed_at, h.hold_id
    """
    found: dict[UUID, list[Hold]] = {}
    for row in conn.execute(sql, [list(user_ids)]):
        found.setdefault(row[0], []).append(_hold(row[1:]))
    return {user_id: tuple(holds) for user_id, holds in found.items()}


def find(conn: Conn, refs: Iterable[HoldRef]) -> dict[HoldRef, Hold]:
    """Return those of the holds that exist, whatever became of them."""
    wanted = set(refs)
    if not wanted:
        return {}
    sql = """
        SELECT h.user_id, h.hold_id, h.request_hash, h.tokens, h.action_type, h.model, h.metadata, h.placed_at,
               h.expires_at, h.state, h.closed_at, h.captured_seq, h.provider
          FROM token_holds h
         WHERE h.hold_id = ANY(%s::uuid[]) AND h.user_id = ANY(%s::uuid[])
    """
    users, ids = {user_id.bytes for user_id, _ in wanted}, {hold_id.bytes for _, hold_id in wanted}
    rows = conn.execute(sql, [packing.uuids([*ids]), packing.uuids([*users])])
    return {(row[0], row[1]): _hold(row[1:]) for row in rows if (row[0], row[1]) in wanted}


INSERT_HOLDS = """
    INSERT INTO token_holds (
           user_id, hold_id, request_hash, tokens, action_type, model, metadata, placed_at, expires_at, state,
           closed_at, captured_seq, created_at, provider)
    SELECT n.*
      FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::jsonb[],
                  %s::timestamptz[], %s::timestamptz[], %s::text[], %s::timestamptz[], %s::bigint[],
                  %s::timestamptz[], %s::text[]) AS n
"""
UPDATE_HOLDS = """
    UPDATE token_holds AS h
       SET state = n.state, expires_at = n.expires_at, closed_at = n.closed_at, captured_seq = n.captured_seq
      FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[])
        AS n (user_id, hold_id, state, expires_at, closed_at, captured_seq)
     WHERE h.user_id = n.user_id AND h.hold_id = n.hold_id AND h.state = 'placed'
"""


def write(conn: Conn, placed: Sequence[WrittenHold], changed: Sequence[WrittenHold], *, now: datetime) -> None:
    """Add the holds that were placed, as they are by now, and update those that changed.

    A hold that was placed before fails the transaction (UniqueViolation): that is the point.
    """
    if placed:
        conn.execute(INSERT_HOLDS, placed_columns(placed, now))
    if changed:
        written = conn.execute(UPDATE_HOLDS, changed_columns(changed)).rowcount
        assert written == len(changed), (written, changed)


def placed_columns(placed: Sequence[WrittenHold], created_at: datetime) -> list[packing.Packed]:
    """Return what INSERT_HOLDS takes."""
    return [
        packing.uuids([user_id.bytes for user_id, _ in placed]),
        packing.uuids([hold.hold_id.bytes for _, hold in placed]),
        packing.uuids([hold.request_hash for _, hold in placed]),
        packing.bigints([hold.tokens for _, hold in placed]),
        packing.names([hold.action_type for _, hold in placed]),
        packing.names([hold.model for _, hold in placed]),
        packing.jsons([compact_json(hold.metadata).encode() for _, hold in placed]),
        packing.moments([hold.placed_at for _, hold in placed]),
        packing.moments([hold.expires_at for _, hold in placed]),
        *_ended(placed),
        packing.moments([created_at] * len(placed)),
        packing.or_none(packing.names, [hold.provider for _, hold in placed]),
    ]


def changed_columns(changed: Sequence[WrittenHold]) -> list[packing.Packed]:
    """Return what UPDATE_HOLDS takes."""
    state, closed_at, captured_seq = _ended(changed)
    return [
        packing.uuids([user_id.bytes for user_id, _ in changed]),
        packing.uuids([hold.hold_id.bytes for _, hold in changed]),
        state,
        packing.moments([hold.expires_at for _, hold in changed]),
        closed_at,
        captured_seq,
    ]


def _ended(holds: Sequence[WrittenHold]) -> tuple[packing.Packed, packing.Packed, packing.Packed]:
    return (
        packing.names([hold.state for _, hold in holds]),
        packing.moments_or_nulls([hold.closed_at for _, hold in holds]),
        packing.bigints_or_nulls([hold.captured_seq for _, hold in holds]),
    )


def listed(conn: Conn, user: User, *, at: datetime, include_closed: bool) -> list[HoldReceipt]:
    """Return the account's holds as they are at `at`, oldest first: the open ones, or all of them."""
    sql = """
        SELECT hold_id, request_hash, tokens, action_type, model, metadata, placed_at, expires_at, state, closed_at,
               captured_seq, provider
          FROM token_holds
         WHERE user_id = %(user)s AND (%(all)s OR (state = 'placed' AND expires_at > %(at)s))
         ORDER BY placed_at, hold_id
    """
    rows = conn.execute(sql, {"user": user.user_id, "at": at, "all": include_closed})
    return [HoldReceipt.of(_hold(row), user, at=at) for row in rows]


def one(conn: Conn, user_id: UUID, hold_id: UUID, *, at: datetime) -> HoldReceipt | None:
    """Return one hold as it is at `at`; None: this account has no such hold."""
    found = find(conn, [(user_id, hold_id)]).get((user_id, hold_id))
    if found is None:
        return None
    row = conn.execute("SELECT external_id FROM token_accounts WHERE user_id = %s", [user_id]).fetchone()
    assert row is not None, user_id
    return HoldReceipt.of(found, User(user_id, row[0]), at=at)


def _hold(row: Sequence[Any]) -> Hold:
    """Return the hold of a row (hold_id, request_hash, tokens, action_type, model, metadata, …, provider)."""
    hold_id, request_hash, tokens, action_type, model, metadata, placed_at, expires_at, *end = row
    return Hold(hold_id, request_hash.bytes, tokens, action_type, placed_at, expires_at, model, metadata, *end)
