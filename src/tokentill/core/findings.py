"""Findings: what reconciliation says when two facts that must agree do not."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Law = Literal[1, 2, 3, 7]

CHECKS: dict[str, tuple[Law | None, str]] = {
    "chain": (1, "a journal row does not continue the one before it"),
    "end": (1, "the account is not where its last journal row left it"),
    "orphan": (1, "journal rows of a user without an account"),
    "row": (2, "a journal row's lot moves and debt do not explain its change of the balance"),
    "lot": (2, "a lot's remaining tokens are not the sum of its moves"),
    "sum": (2, "what the lots hold, less the debt, is not the balance"),
    "debt": (2, "an account owes tokens while it has an open lot, or its debt is not what its rows say"),
    "hold": (3, "a hold was captured by no row or not by just one, or a row captured no such hold"),
    "clock": (None, "a drip is not where 28 days of 86,400 seconds put it: it begins or ends by another clock"),
    "profile": (None, "the host's own table of profiles shows another balance than the account has"),
    "shown": (7, "tokens are shown as spendable that are due, or the other way round"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement, with both sides."""

    check: str
    user_id: UUID
    seq: int | None  # Of the journal row, or the lot, where there is one.
    expected: str
    found: str

    @property
    def law(self) -> Law | None:
        return CHECKS[self.check][0]

    @property
    def meaning(self) -> str:
        return CHECKS[self.check][1]
