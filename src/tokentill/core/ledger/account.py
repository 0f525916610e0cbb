"""An account: one user's tokens as a value, and the few ways it can change.

`core.ledger.decide` decides with it and returns a new one; the engine caches it and writes it. Nothing here reads a
clock: every question about time takes `at`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.lots import Lot
from tokentill.core.users import User
from tokentill.core.values import Value

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Tokens of a drip that expired, kept until that subscription's next drip reports them."""

    subscription_id: str
    cycle_number: int
    tokens: int
    expired_at: datetime


class Account(Value, frozen=True):
    """One user's tokens. `balance` = what the open lots hold − `debt`; while there is debt no lot is open."""

    user_id: UUID
    external_id: str | None = None
    balance: int = 0
    debt: int = 0
    seq: int = 0  # Of its last journal row, over all three journals.
    version: int = 0  # Grows with every decision; 0: the account is not written yet.
    last_at: datetime = BEGINNING  # The moment its last decision was made for.
    lots: tuple[Lot, ...] = ()  # Those with anything left.
    losses: tuple[Loss, ...] = ()
    overdraft_limit: int = 0
    frozen_at: datetime | None = None
    holds: tuple[Hold, ...] = ()  # Those open at `last_at`: no other can ever be open again.

    @classmethod
    def opened(cls, user: User) -> "Account":
        return cls(user_id=user.user_id, external_id=user.external_id)

    @property
    def user(self) -> User:
        return User(self.user_id, self.external_id)

    def available(self, at: datetime) -> int:
        """Tokens a spend that may be refused can reach at `at`: neither due nor held (negative: none, and why)."""
        return self.balance - sum(lot.remaining for lot in self.lots if lot.is_due(at)) - self.held(at)

    def held(self, at: datetime) -> int:
        """Tokens in holds that are open at `at`."""
        return sum(hold.tokens for hold in self.holds if hold.is_open(at)) if self.holds else 0

    def hold(self, hold_id: UUID) -> Hold | None:
        return next((hold for hold in self.holds if hold.hold_id == hold_id), None)

    def with_hold(self, hold: Hold, at: datetime) -> "Account":
        """Return the account with this hold as it is now: placed anew, changed, or gone because it is not open."""
        others = tuple([other for other in self.holds if other.is_open(at) and other.hold_id != hold.hold_id])
        return Account(
            self.user_id, self.external_id, self.balance, self.debt, self.seq, self.version + 1, at, self.lots,
            self.losses, self.overdraft_limit, self.frozen_at, (*others, hold) if hold.is_open(at) else others,
        )  # fmt: skip

    def lot(self, seq: int) -> Lot | None:
        return next((lot for lot in self.lots if lot.lot == seq), None)

    def less(self, lot: int, tokens: int) -> tuple[Lot, ...]:
        """Return the lots when one of them has so many tokens less; one that is used up leaves."""
        lots = (each.holding(each.remaining - tokens) if each.lot == lot else each for each in self.lots)
        return tuple(each for each in lots if each.remaining)

    def moved(self, seq: int, balance: int, debt: int, lots: tuple[Lot, ...], at: datetime) -> "Account":
        """Return the account after a journal row. By position: every spend comes by, and names cost three times."""
        return Account(
            self.user_id, self.external_id, balance, debt, seq, self.version + 1, at, lots, self.losses,
            self.overdraft_limit, self.frozen_at, open_holds(self.holds, at) if self.holds else self.holds,
        )  # fmt: skip


def open_holds(holds: tuple[Hold, ...], at: datetime) -> tuple[Hold, ...]:
    return tuple([hold for hold in holds if hold.is_open(at)]) if holds else holds
