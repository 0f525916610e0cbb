"""`token_keys` and `usage_keys`: which requests were carried out, and which journal row answers each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tokentill.store.db import Conn, array
from tokentill.store.journal import RowRef


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A key that was used: the request it was used for, and the row that answers it."""

    user_id: UUID
    key: UUID
    request_hash: UUID
    row: RowRef


def append(conn: Conn, used: Sequence[UsedKey], *, created_at: datetime) -> None:
    """Record keys as used. A key that was used before fails the transaction (UniqueViolation): that is the point."""
    usage = [key for key in used if key.row.kind == "usage"]
    financial = [key for key in used if key.row.kind != "usage"]
    if usage:
        sql = """
            INSERT INTO usage_keys (user_id, key, request_hash, seq, created_at)
            SELECT n.*, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[]) AS n
        """
        conn.execute(sql, [created_at, *_columns(usage)])
    if financial:
        sql = """
            INSERT INTO token_keys (user_id, key, request_hash, seq, kind, created_at)
            SELECT n.*, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[]) AS n
        """
        conn.execute(sql, [created_at, *_columns(financial), [key.row.kind for key in financial]])


def _columns(keys: Sequence[UsedKey]) -> list[str]:
    rows = [(key.user_id, key.key, key.request_hash, key.row.seq) for key in keys]
    return [array(column) for column in zip(*rows, strict=True)]


def find(conn: Conn, refs: Iterable[tuple[bool, UUID, UUID]]) -> dict[tuple[bool, UUID, UUID], UsedKey]:
    """Return those of the keys that were used. A reference is (is it usage's, user_id, key): two kinds, two tables."""
    found = {}
    usage: list[tuple[UUID, UUID]] = []
    financial: list[tuple[UUID, UUID]] = []
    for is_usage, user_id, key in refs:
        (usage if is_usage else financial).append((user_id, key))
    if usage:
        sql = """
            SELECT k.user_id, k.key, k.request_hash, k.seq, k.created_at
              FROM usage_keys k
              JOIN unnest(%s::uuid[], %s::uuid[]) AS n (user_id, key) USING (user_id, key)
             WHERE k.key = ANY(%s::uuid[]) AND k.user_id = ANY(%s::uuid[])
        """
        for user_id, key, request_hash, seq, created_at in conn.execute(sql, _pairs(usage)):
            found[True, user_id, key] = UsedKey(user_id, key, request_hash, RowRef(user_id, "usage", seq, created_at))
    if financial:
        sql = """
            SELECT k.user_id, k.key, k.request_hash, k.seq, k.created_at, k.kind
              FROM token_keys k
              JOIN unnest(%s::uuid[], %s::uuid[]) AS n (user_id, key) USING (user_id, key)
             WHERE k.key = ANY(%s::uuid[]) AND k.user_id = ANY(%s::uuid[])
        """
        for user_id, key, request_hash, seq, created_at, kind in conn.execute(sql, _pairs(financial)):
            found[False, user_id, key] = UsedKey(user_id, key, request_hash, RowRef(user_id, kind, seq, created_at))
    return found


def _pairs(pairs: list[tuple[UUID, UUID]]) -> list[list[UUID]]:
    users, keys = [user for user, _ in pairs], [key for _, key in pairs]
    return [users, keys, keys, users]
