"""Lots, and the order in which spending draws them down.

A lot is what is left of one grant: so many tokens, spendable from `effective_at` until `expires_at`. This module only
decides; `core.ledger` asks it what to take, and the engine writes the answer down.

Units: `granted`, `remaining` and `tokens` are whole tokens, never negative.
Times: aware UTC. `expires_at` is exclusive: at that very instant the lot is dead.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

NEVER = datetime.max.replace(tzinfo=UTC)
PRIORITY_DEFAULT = 50

LotKind = Literal["purchase", "subscription", "drip", "trial", "admin", "transfer", "refund", "opening"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """The unspent remainder of one grant."""

    lot: int  # Seq of the journal row that opened it: its name within the account.
    kind: LotKind
    granted: int
    remaining: int
    priority: int = PRIORITY_DEFAULT  # Lower burns first.
    effective_at: datetime
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
        """Return the lot with so much left. Spelled out: every spend comes by, and `replace` is twice as slow."""
        return Lot(
            lot=self.lot,
            kind=self.kind,
            granted=self.granted,
            remaining=remaining,
            priority=self.priority,
            effective_at=self.effective_at,
            expires_at=self.expires_at,
            paid_cents=self.paid_cents,
            currency=self.currency,
            payment_id=self.payment_id,
            subscription_id=self.subscription_id,
            cycle_number=self.cycle_number,
        )

    def is_due(self, at: datetime) -> bool:
        """Whether its time is over at `at`."""
        return self.expires_at is not None and self.expires_at <= at

    def is_spendable(self, at: datetime) -> bool:
        return self.remaining > 0 and self.effective_at <= at and not self.is_due(at)


@dataclass(frozen=True, slots=True)
class Draw:
    """Take this many tokens from this lot."""

    lot: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Drawdown:
    """Which lots pay, first to burn first, and what none of them could cover."""

    draws: tuple[Draw, ...]
    shortfall_tokens: int


def burn_order(lot: Lot) -> tuple[int, datetime, bool, datetime, int]:
    """Sort key: lowest priority number, then soonest to expire, then gifts before what was paid for.

    The seq comes last to break ties for good: the same lots must always burn in the same order, or a balance could
    not be recomputed from its history.
    """
    return (lot.priority, lot.expires_at or NEVER, lot.is_paid, lot.effective_at, lot.lot)


def plan_drawdown(lots: Iterable[Lot], tokens: int, *, at: datetime) -> Drawdown:
    """Decide how to take `tokens` from `lots` as they stand at `at`.

    Too little is an answer, not an error: the caller reads `shortfall_tokens` and chooses between refusing and lending.
    """
    assert tokens >= 0, tokens
    draws: list[Draw] = []
    missing = tokens
    spendable = [lot for lot in lots if lot.is_spendable(at)]
    if len(spendable) > 1:
        spendable.sort(key=burn_order)
    for lot in spendable:
        if missing == 0:
            break
        taken = min(lot.remaining, missing)
        draws.append(Draw(lot.lot, taken))
        missing -= taken

    assert sum(draw.tokens for draw in draws) + missing == tokens
    return Drawdown(tuple(draws), shortfall_tokens=missing)
