"""`job_runs`: when each job ran last, for readiness and the doctor; and where procrastinate finds its tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tokentill.store.db import Conn, pool_arguments
from tokentill.store.sessions import has_session

SCHEMA = "till_jobs"  # Of procrastinate's tables: the host may have its own, of another version, elsewhere.

_CLAIMS = 0x7111_0002  # Of jobs, among this database's advisory locks.


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """How a job's last run went. `done_at` is the latest moment for which it did all there was to do."""

    job: str
    started_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]
    error: str | None
    done_at: datetime | None


def queue_arguments(url: str) -> dict[str, Any]:
    """Return how procrastinate connects: to the till's database, as its role, with the schema of its own tables."""
    return pool_arguments(url, schema=SCHEMA)


@contextmanager
def claimed(conn: Conn, job: str) -> Iterator[bool]:
    """Claim a job for as long as this connection lives; False: somebody else is at it.

    It saves work and no more: the jobs are right without it, and behind a pooler that keeps no sessions there is none.
    Whoever dies, however he dies, claims nothing any more.
    """
    if not has_session(conn):
        yield True
        return
    row = conn.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_CLAIMS, job]).fetchone()
    conn.commit()  # No transaction stays open meanwhile: it would keep VACUUM waiting.
    if row != (True,):
        yield False
        return
    try:
        yield True
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [_CLAIMS, job])


def record(conn: Conn, run: LastRun) -> None:
    """Write down how a run went, unless a later one is known."""
    sql = """
        INSERT INTO job_runs (job, started_at, finished_at, counts, error, done_at)
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT job_runs_pkey DO UPDATE
           SET started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at, counts = EXCLUDED.counts,
               error = EXCLUDED.error, done_at = coalesce(EXCLUDED.done_at, job_runs.done_at)
         WHERE job_runs.started_at <= EXCLUDED.started_at
    """
    conn.execute(sql, [run.job, run.started_at, run.finished_at, Jsonb(dict(run.counts)), run.error, run.done_at])


def last_runs(conn: Conn) -> dict[str, LastRun]:
    """Return each job's last run, by its name; one that never ran is not there."""
    sql = "SELECT job, started_at, finished_at, counts, error, done_at FROM job_runs ORDER BY job"
    with conn.cursor(row_factory=class_row(LastRun)) as cursor:
        return {run.job: run for run in cursor.execute(sql)}
