"""Explaining: why an account's balance is what it is, from its journal alone."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tokentill.store import reports
from tokentill.store.db import Conn
from tokentill.store.reports import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class LotStory:
    """One lot: the row that opened it, and every row that moved it, (seq, signed tokens)."""

    lot: int
    opened_by: Entry
    expires_at: datetime | None
    moves: tuple[tuple[int, int], ...]

    @property
    def remaining(self) -> int:
        return sum(tokens for _, tokens in self.moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The balance as the sum of what the lots have left, less the debt: it adds up, or reconciliation finds it.

    `due_tokens` have expired by `at` and wait for their row; they are in no balance. `held` are in holds that were
    open at `at`, as long as they were renewed to live.
    """

    at: datetime
    balance: int
    debt: int
    due_tokens: int
    held: int
    lots: tuple[LotStory, ...]
    entries_count: int

    @property
    def adds_up(self) -> bool:
        return sum(lot.remaining for lot in self.lots) - self.due_tokens - self.debt == self.balance


def explain(conn: Conn, user_id: UUID, *, at: datetime | None, now: datetime) -> Explanation:
    """Explain the balance, now or as the rows written by `at` left it."""
    entries = reports.whole_history(conn, user_id)
    if at is not None:
        # Up to the last row written by then: two processes' clocks may differ, the seq does not.
        written = [number for number, entry in enumerate(entries, start=1) if entry.created_at <= at]
        entries = entries[: written[-1] if written else 0]
    at = at or now
    moves: dict[int, list[tuple[int, int]]] = {}
    for entry in entries:
        for lot, tokens in entry.lot_moves:
            moves.setdefault(lot, []).append((entry.seq, tokens))
    by_seq = {entry.seq: entry for entry in entries}
    expiries = reports.lot_expiries(conn, user_id)
    lots = tuple(
        LotStory(lot=lot, opened_by=by_seq[lot], expires_at=expiries.get(lot), moves=tuple(moves[lot]))
        for lot in sorted(moves)
    )
    due_tokens = sum(lot.remaining for lot in lots if lot.expires_at is not None and lot.expires_at <= at)
    return Explanation(
        at=at,
        balance=(entries[-1].balance_after if entries else 0) - due_tokens,
        debt=sum(entry.debt_change for entry in entries),
        due_tokens=due_tokens,
        held=reports.held(conn, user_id, at=at),
        lots=lots,
        entries_count=len(entries),
    )
