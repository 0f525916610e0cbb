"""Lots, and the order in which spending draws them down.

A lot is what is left of one grant: so many tokens, spendable from `effective_at` until `expires_at`. This module only
decides; `core.ledger.decide` asks it what to take, and the engine writes the answer down.

Units: `granted`, `remaining` and `tokens` are whole tokens, never negative.
Times: aware UTC. `expires_at` is exclusive: at that very instant the lot is dead.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from tokentill.core.values import Value

NEVER = datetime.max.replace(tzinfo=UTC)
PRIORITY_DEFAULT = 50

LotMoves = tuple[tuple[int, int], ...]  # (lot, signed tokens), …
LotKind = Literal["purchase", "subscription", "drip", "trial", "admin", "transfer", "refund", "opening"]


class Lot(Value, frozen=True):
    """The unspent remainder of one grant."""

    lot: int  # Seq of the journal row that opened it: its name within the account.
    kind: LotKind
    granted: int
    remaining: int
    effective_at: datetime
    priority: int = PRIORITY_DEFAULT  # Lower burns first.
    expires_at: datetime | None = None  # None: never.
    paid_cents: int | None = None
    currency: str | None = None
    payment_id: str | None = None
    subscription_id: str | None = None
    cycle_number: int | None = None

    @property
    def is_paid(self) -> bool:
        return bool(self.paid_cents)

    def holding(self, remaining: int) -> "Lot":
        """Return the lot with so much left. By position: every spend comes by, and names cost three times as much."""
        return Lot(
            self.lot, self.kind, self.granted, remaining, self.effective_at, self.priority, self.expires_at,
            self.paid_cents, self.currency, self.payment_id, self.subscription_id, self.cycle_number,
        )  # fmt: skip

    def is_due(self, at: datetime) -> bool:
        """Whether its time is over at `at`."""
        return self.expires_at is not None and self.expires_at <= at

    def is_spendable(self, at: datetime) -> bool:
        return self.remaining > 0 and self.effective_at <= at and not self.is_due(at)


class Drawdown(Value, frozen=True):
    """Which lots pay, first to burn first, what all of them hold afterwards, and what none of them could cover."""

    moves: LotMoves
    left: tuple[Lot, ...]
    shortfall_tokens: int


def burn_order(lot: Lot) -> tuple[int, datetime, bool, datetime, int]:
    """Sort key: lowest priority number, then soonest to expire, then gifts before what was paid for.

    The seq comes last to break ties for good: the same lots must always burn in the same order, or a balance could
    not be recomputed from its history.
    """
    return (lot.priority, lot.expires_at or NEVER, lot.is_paid, lot.effective_at, lot.lot)


def plan_drawdown(lots: Sequence[Lot], tokens: int, *, at: datetime) -> Drawdown:
    """Decide how to take `tokens` from `lots` as they stand at `at`. A lot that is used up is not left.

    Too little is an answer, not an error: the caller reads `shortfall_tokens` and chooses between refusing and lending.
    """
    assert tokens >= 0, tokens
    moves: LotMoves = ()
    left: list[Lot] = []
    missing = tokens
    for lot in lots if len(lots) == 1 else sorted(lots, key=burn_order):
        if missing == 0 or not lot.is_spendable(at):
            left.append(lot)
        elif missing < lot.remaining:
            moves += ((lot.lot, -missing),)
            left.append(lot.holding(lot.remaining - missing))
            missing = 0
        else:
            moves += ((lot.lot, -lot.remaining),)
            missing -= lot.remaining
    return Drawdown(moves, tuple(left), missing)
