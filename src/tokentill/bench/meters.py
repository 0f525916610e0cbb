"""Meters: what a load costs. Read before and after; the difference, per operation, is the report.

CPU is read from /proc: of a process, of all that descend from it, and of those that it has waited for. The server's
backends are children of the postmaster, so ended ones are counted too. Where /proc or the server is elsewhere, CPU is
None.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, Self

import psycopg

from tokentill.ids import utc_now
from tokentill.till import Till

_TICKS = os.sysconf("SC_CLK_TCK")
_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_UPDATES = """
    SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname IN ('token_accounts', 'token_lots')
"""
_BATCHES = """
    SELECT size, count(*)
      FROM (SELECT count(*) AS size
              FROM token_usage
             WHERE created_at >= %s AND created_at < %s
             GROUP BY created_at) sizes
     GROUP BY size
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything since some beginning; only differences mean anything."""

    at: float  # Seconds, of a clock that is never set.
    on: datetime
    wal_bytes: int
    python_cpu_us: float | None
    postgres_cpu_us: float | None
    batches: Counter[int]  # Of this process's till: how many there were of each size.


class Meter:
    """Reads what the server at `url` and the given processes (and their children) have used so far.

    `till` is the one of this process that is measured, if it is one of this process.
    """

    def __init__(self, url: str, pids: Iterable[int] = (), *, till: Till | None = None) -> None:
        self._conn = psycopg.connect(url, autocommit=True)
        self._postmaster = postmaster_of(self._conn)
        self._pids = list(pids) or [os.getpid()]
        self._till = till

    def close(self) -> None:
        self._conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> Reading:
        (wal,) = self._conn.execute(_WAL).fetchone() or (0,)
        python = [cpu_us(pid) for pid in self._pids]
        return Reading(
            at=time.perf_counter(),
            on=utc_now(),
            wal_bytes=wal,
            python_cpu_us=sum(used for used in python if used is not None),
            postgres_cpu_us=cpu_us(self._postmaster) if self._postmaster else None,
            batches=batches_of(self._till) if self._till else Counter(),
        )


def per_op(before: Reading, after: Reading, operations: int) -> dict[str, Any]:
    """Return what one operation cost between two readings."""

    def share(first: float | None, last: float | None) -> float | None:
        return None if first is None or last is None else round((last - first) / max(operations, 1), 2)

    return {
        "cpu_us_per_op": {
            "python": share(before.python_cpu_us, after.python_cpu_us),
            "postgres": share(before.postgres_cpu_us, after.postgres_cpu_us),
        },
        "wal_bytes_per_op": share(before.wal_bytes, after.wal_bytes),
    }


def cores(before: Reading, after: Reading) -> dict[str, float | None]:
    """Return how many cores were busy with the server, and with us and the children that we have waited for."""
    seconds = after.at - before.at

    def share(first: float | None, last: float | None) -> float | None:
        return None if first is None or last is None else round((last - first) / 1e6 / seconds, 2)

    return {
        "server": share(before.postgres_cpu_us, after.postgres_cpu_us),
        "clients": share(before.python_cpu_us, after.python_cpu_us),
    }


def percentiles(waits: Iterable[float]) -> dict[str, float]:
    """Return p50 and p99 of waits in seconds, as milliseconds."""
    ordered = sorted(waits)
    assert ordered, "nothing was answered within the time"
    return {
        f"p{part}_ms": round(ordered[min(len(ordered) * part // 100, len(ordered) - 1)] * 1e3, 3) for part in (50, 99)
    }


def batches_of(till: Till) -> Counter[int]:
    """Return how many batches of each size a till has carried out so far."""
    return Counter(till.context.engine.stats().sizes)


def batches_in(url: str, since: datetime, until: datetime) -> Counter[int]:
    """Return the same of tills that cannot be asked, from the rows: those of one batch have one `created_at`."""
    with psycopg.connect(url, autocommit=True) as conn:
        return Counter(dict(conn.execute(_BATCHES, [since, until]).fetchall()))


def batch_sizes(batches: Counter[int]) -> dict[str, Any]:
    """Return how many batches there were, and how many commands were carried out together."""
    count = batches.total()
    if not count:
        return {"count": 0, "mean": None, "p50": None, "max": None}
    reached = dict(zip(sorted(batches), accumulate(batches[size] for size in sorted(batches)), strict=True))
    return {
        "count": count,
        "mean": round(sum(size * number for size, number in batches.items()) / count, 1),
        "p50": next(size for size, so_far in reached.items() if 2 * so_far >= count),
        "max": max(batches),
    }


def updates(url: str) -> dict[str, tuple[int, int]]:
    """Return (updates, HOT updates) by table, once all other connections are gone: a backend reports as it ends."""
    with psycopg.connect(url, autocommit=True) as conn:
        deadline = time.monotonic() + 10
        while conn.execute(_OTHERS).fetchone() != (0,) and time.monotonic() < deadline:
            time.sleep(0.01)
        return {name: (updated, hot) for name, updated, hot in conn.execute(_UPDATES)}


def hot_share(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> dict[str, float | None]:
    """Return which part of each table's updates touched no index; None: there were none."""
    shares: dict[str, float | None] = {}
    for name, (updated, hot) in after.items():
        updated_before, hot_before = before.get(name, (0, 0))
        count = updated - updated_before
        shares[name] = round((hot - hot_before) / count, 4) if count else None
    return shares


def middle(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over the runs, down through what is nested."""
    merged: dict[str, Any] = {}
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        if isinstance(values[0], dict):
            merged[name] = middle(values)
        elif all(isinstance(value, int | float) for value in values):
            merged[name] = round(median(values), 4)
        else:
            merged[name] = values[0]
    return merged


# -- processes ---------------------------------------------------------------------------------------------------------


def postmaster_of(conn: psycopg.Connection) -> int | None:
    """Return the process that our backend descends from; None: the server is on another machine."""
    pid = conn.info.backend_pid
    try:
        if "postgres" not in Path(f"/proc/{pid}/cmdline").read_text():
            return None
        return int(_stat(pid)[1])
    except OSError:
        return None


def descendants(root: int) -> list[int]:
    """Return the processes that live and descend from this one, itself left out."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children[int(_stat(int(entry.name))[1])].append(int(entry.name))
    found, waiting = [], list(children[root])
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children[pid]
    return found


def cpu_us(root: int) -> float | None:
    """Return the CPU time of a process, its living descendants, and those of them that ended and were waited for."""
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    if not Path("/proc/self/stat").exists():
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # It ended as we looked.
                fields = _stat(int(entry.name))
                children[int(fields[1])].append(int(entry.name))
                used[int(entry.name)] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0)
        waiting += children[pid]
    return total / _TICKS * 1e6


def _stat(pid: int) -> list[str]:
    """Return /proc's fields of a process from its state on; its name before them may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
