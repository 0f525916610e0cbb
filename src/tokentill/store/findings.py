"""Reads and closes `findings`: what does not fit and somebody should look at, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tokentill.store.db import Conn


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFinding:
    """Something that does not fit, with both sides. Closed: somebody has looked at it."""

    id: UUID
    kind: str
    subject: str  # The object in Stripe, or the event.
    user_id: UUID | None
    expected: str
    found: str
    created_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    external_id: str | None = None  # Of that user.

    @property
    def user_name(self) -> str | None:
        """The id that the caller knows the user by."""
        return self.external_id or (None if self.user_id is None else str(self.user_id))


_COLUMNS = """id, kind, subject, user_id, expected, found, created_at, closed_at, closed_by,
              (SELECT a.external_id FROM token_accounts a WHERE a.user_id = findings.user_id) AS external_id"""


def listed(
    conn: Conn, *, include_closed: bool, limit: int, before: tuple[datetime, UUID] | None = None
) -> list[OpenFinding]:
    """Return findings, newest first; `before` (created_at, id) goes on after the last one of a page."""
    sql = f"""
        SELECT {_COLUMNS}
          FROM findings
         WHERE (%s OR closed_at IS NULL) AND (%s::uuid IS NULL OR (created_at, id) < (%s, %s))
         ORDER BY created_at DESC, id DESC
         LIMIT %s
    """
    at, last = before or (None, None)
    return _read(conn, sql, [include_closed, last, at, last, limit])


def find(conn: Conn, finding_id: UUID) -> OpenFinding | None:
    """Return one finding."""
    return next(iter(_read(conn, f"SELECT {_COLUMNS} FROM findings WHERE id = %s", [finding_id])), None)


def close(conn: Conn, finding_id: UUID, *, actor: str, now: datetime) -> bool:
    """Close a finding; False when it was closed before (and stays as it was), or is not there."""
    sql = "UPDATE findings SET closed_at = %s, closed_by = %s WHERE id = %s AND closed_at IS NULL"
    return conn.execute(sql, [now, actor, finding_id]).rowcount == 1


def open_count(conn: Conn) -> int:
    """Return how many findings nobody has closed."""
    row = conn.execute("SELECT count(*) FROM findings WHERE closed_at IS NULL").fetchone()
    assert row is not None
    count: int = row[0]
    return count


def _read(conn: Conn, sql: str, params: Sequence[object]) -> list[OpenFinding]:
    with conn.cursor(row_factory=class_row(OpenFinding)) as cursor:
        return cursor.execute(sql.encode(), params).fetchall()
