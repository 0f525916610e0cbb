"""Reconciling: proves the books of the whole database, and says where they do not hold. Changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokentill.core.findings import Finding
from tokentill.store import books
from tokentill.store.db import Conn

SLICES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was looked at, and what disagreed: the books are proved when `findings` is empty."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_proved(self) -> bool:
        return not self.findings


def reconcile(conn: Conn, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Proof:
    """Prove laws 1, 2 and 7 over all accounts, and 3 for holds, as of one moment.

    `on_progress` hears (slices done, slices).
    """
    books.begin_snapshot(conn)
    try:
        counts = books.counts(conn)
        slices = books.slices(SLICES if counts["accounts"] >= 1000 else 1)
        findings: list[Finding] = []
        for done, (first, last) in enumerate(slices, start=1):
            findings += books.check(conn, first, last)
            on_progress(done, len(slices))
    finally:
        conn.rollback()
    return Proof(counts=counts, findings=tuple(findings))
