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
    moves: tuple[tuple[int, int], ...]

    @property
    def remaining(self) -> int:
        return sum(tokens for _, tokens in self.moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The balance as the sum of what the lots have left, less the debt: it adds up, or reconciliation finds it."""

    at: datetime
    balance: int
    debt: int
    lots: tuple[LotStory, ...]
    entries_count: int

    @property
    def adds_up(self) -> bool:
        return sum(lot.remaining for lot in self.lots) - self.debt == self.balance


def explain(conn: Conn, user_id: UUID, *, at: datetime) -> Explanation:
    """Explain the balance as the journal rows written by `at` leave it."""
    entries = [entry for entry in reports.whole_history(conn, user_id) if entry.created_at <= at]
    moves: dict[int, list[tuple[int, int]]] = {}
    for entry in entries:
        for lot, tokens in entry.lot_moves:
            moves.setdefault(lot, []).append((entry.seq, tokens))
    by_seq = {entry.seq: entry for entry in entries}
    return Explanation(
        at=at,
        balance=entries[-1].balance_after if entries else 0,
        debt=sum(entry.debt_change for entry in entries),
        lots=tuple(LotStory(lot=lot, opened_by=by_seq[lot], moves=tuple(moves[lot])) for lot in sorted(moves)),
        entries_count=len(entries),
    )
