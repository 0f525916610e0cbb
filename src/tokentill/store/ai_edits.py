"""The numbers of edits of models, prices and actions, one after the other over all three."""

from datetime import datetime

from tokentill.store.db import Conn


def revision(conn: Conn) -> int:
    """Return the number of the latest edit: one step in an index, so asking each time costs next to nothing."""
    row = conn.execute("SELECT max(revision) FROM ai_edits").fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def begin(conn: Conn, after: int, *, created_by: str, now: datetime) -> int | None:
    """Take the number after `after` for an edit; None: another edit has taken it."""
    sql = """
        INSERT INTO ai_edits (revision, created_at, created_by)
        VALUES (%s, %s, %s)
        ON CONFLICT ON CONSTRAINT ai_edits_pkey DO NOTHING
    """
    taken = conn.execute(sql, [after + 1, now, created_by]).rowcount == 1
    return after + 1 if taken else None
