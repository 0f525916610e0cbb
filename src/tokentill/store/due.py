"""Finds whose lots are over and still hold tokens. Reads only: writing them off is the engine's."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tokentill.store.db import Conn


@dataclass(frozen=True, slots=True, kw_only=True)
class DueLot:
    """A lot that is over, with tokens left in it."""

    user_id: UUID
    expires_at: datetime


def lots(conn: Conn, *, at: datetime, after: DueLot | None, limit: int) -> list[DueLot]:
    """Return up to `limit` lots that are over at `at`, in the order in which they ended; `after` goes on from there.

    Served by token_lots_expires_at_idx, which says nothing of what is left: each lot that ever ended is looked at.
    """
    sql = """
        SELECT user_id, expires_at
          FROM token_lots
         WHERE expires_at <= %s AND (expires_at, user_id) > (%s, %s) AND remaining > 0
         ORDER BY expires_at, user_id
         LIMIT %s
    """
    last = (after.expires_at, after.user_id) if after else ("-infinity", UUID(int=0))
    with conn.cursor(row_factory=class_row(DueLot)) as cursor:
        return cursor.execute(sql, [at, *last, limit]).fetchall()
