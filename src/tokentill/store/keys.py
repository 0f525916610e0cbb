"""`token_keys` and `usage_keys`: which requests were carried out, and which journal row answers each."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from tokentill.core.ledger.journal import RowKind
from tokentill.core.values import Value
from tokentill.store import packing
from tokentill.store.db import Conn
from tokentill.store.journal import RowRef

KeyRef = tuple[bool, int, bytes]  # Is it usage's (two kinds, two tables), user_id.int, key.


class UsedKey(Value, frozen=True):
    """A key that was used: the request it was used for, and the row that answers it."""

    user_id: UUID
    key: bytes
    request_hash: bytes
    kind: RowKind
    seq: int
    created_at: datetime

    @property
    def row(self) -> RowRef:
        return RowRef(self.user_id, self.kind, self.seq, self.created_at)


def append(conn: Conn, used: Sequence[UsedKey], *, created_at: datetime) -> None:
    """Record keys as used. A key that was used before fails the transaction (UniqueViolation): that is the point."""
    usage = [key for key in used if key.kind == "usage"]
    financial = [key for key in used if key.kind != "usage"]
    if usage:
        conn.execute(INSERT_USAGE_KEYS, usage_columns(usage))
    if financial:
        sql = """
            INSERT INTO token_keys (user_id, key, request_hash, seq, kind, created_at)
            SELECT n.*, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[]) AS n
        """
        columns = [
            packing.uuids([key.user_id.bytes for key in financial]),
            packing.uuids([key.key for key in financial]),
            packing.uuids([key.request_hash for key in financial]),
            packing.bigints([key.seq for key in financial]),
            [key.kind for key in financial],
        ]
        conn.execute(sql, [created_at, *columns])


INSERT_USAGE_KEYS = """
    INSERT INTO usage_keys (user_id, key, request_hash, seq, created_at)
    SELECT n.* FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::timestamptz[]) AS n
"""


def usage_columns(used: Sequence[UsedKey]) -> list[packing.Packed]:
    """Return what INSERT_USAGE_KEYS takes. Each key has the time of its row: without it, the row is not found."""
    return [
        packing.uuids([key.user_id.bytes for key in used]),
        packing.uuids([key.key for key in used]),
        packing.uuids([key.request_hash for key in used]),
        packing.bigints([key.seq for key in used]),
        packing.moments([key.created_at for key in used]),
    ]


def find(conn: Conn, refs: Iterable[KeyRef]) -> dict[KeyRef, UsedKey]:
    """Return those of the keys that were used."""
    wanted = set(refs)
    found: dict[KeyRef, UsedKey] = {}
    for is_usage, sql in ((True, _FIND_USAGE), (False, _FIND_FINANCIAL)):
        pairs = [(user, key) for of_usage, user, key in wanted if of_usage == is_usage]
        if pairs:
            keys, users = packing.uuids([key for _, key in pairs]), {user for user, _ in pairs}
            for user_id, key, request_hash, kind, seq, created_at in conn.execute(sql, [keys, _uuids(users)]):
                ref = (is_usage, user_id.int, key.bytes)
                if ref in wanted:  # And not another user's, of the same key.
                    found[ref] = UsedKey(user_id, key.bytes, request_hash.bytes, kind, seq, created_at)
    return found


_FIND_USAGE = """
    SELECT user_id, key, request_hash, 'usage', seq, created_at
      FROM usage_keys
     WHERE key = ANY(%s::uuid[]) AND user_id = ANY(%s::uuid[])
"""
_FIND_FINANCIAL = """
    SELECT user_id, key, request_hash, kind, seq, created_at
      FROM token_keys
     WHERE key = ANY(%s::uuid[]) AND user_id = ANY(%s::uuid[])
"""


def old_usage_keys(conn: Conn, *, before: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Return up to `limit` keys (and their users) that usage was written under before that moment, in no order."""
    sql = "SELECT key, user_id FROM usage_keys WHERE created_at < %s LIMIT %s"
    return [(key, user_id) for key, user_id in conn.execute(sql, [before, limit])]


def forget_usage_keys(conn: Conn, old: Sequence[tuple[UUID, UUID]], *, before: datetime) -> int:
    """Delete these keys, as far as they are older than that moment; return how many there were."""
    sql = """
        DELETE FROM usage_keys k
         USING unnest(%s::uuid[], %s::uuid[]) AS old (key, user_id)
         WHERE k.key = old.key AND k.user_id = old.user_id AND k.user_id = ANY(%s::uuid[]) AND k.created_at < %s
    """
    users = [user_id for _, user_id in old]
    return conn.execute(sql, [[key for key, _ in old], users, users, before]).rowcount


def _uuids(users: Iterable[int]) -> packing.Uuids:
    return packing.uuids([user.to_bytes(16) for user in users])
