"""An account: one user's tokens as a value, and the few ways it can change.

`core.ledger` decides with it and returns a new one; the engine caches it and writes it. Nothing here reads a clock:
every question about time takes `at`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tokentill.core.lots import Draw, Lot
from tokentill.core.users import User

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Tokens of a drip that expired, kept until that subscription's next drip reports them."""

    subscription_id: str
    cycle_number: int
    tokens: int
    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One user's tokens. `balance` = what the open lots hold − `debt`; while there is debt no lot is open."""

    user_id: UUID
    external_id: str | None = None
    balance: int = 0
    debt: int = 0
    seq: int = 0  # Of its last journal row, over all three journals.
    version: int = 0  # As the database has it; 0: not written yet.
    last_at: datetime = BEGINNING  # The moment its last decision was made for.
    lots: tuple[Lot, ...] = ()  # Those with anything left.
    losses: tuple[Loss, ...] = ()
    overdraft_limit: int = 0
    frozen_at: datetime | None = None

    @classmethod
    def opened(cls, user: User) -> "Account":
        return cls(user_id=user.user_id, external_id=user.external_id)

    @property
    def user(self) -> User:
        return User(self.user_id, self.external_id)

    def available(self, at: datetime) -> int:
        """Tokens a spend that may be refused can reach at `at`: what is due has gone already (negative: debt)."""
        return self.balance - sum(lot.remaining for lot in self.lots if lot.is_due(at))

    def lot(self, seq: int) -> Lot | None:
        return next((lot for lot in self.lots if lot.lot == seq), None)

    def drawn(self, draws: tuple[Draw, ...]) -> tuple[Lot, ...]:
        """Return the lots after `draws`; a lot that is used up leaves."""
        taken = {draw.lot: draw.tokens for draw in draws}
        lots = []
        for lot in self.lots:
            left = lot.remaining - taken.get(lot.lot, 0)
            if left == lot.remaining:
                lots.append(lot)
            elif left > 0:
                lots.append(lot.holding(left))
        return tuple(lots)

    def moved(self, *, seq: int, balance: int, debt: int, lots: tuple[Lot, ...], at: datetime) -> "Account":
        """Return the account after a journal row. Spelled out: every spend comes by, and `replace` is twice as slow."""
        return Account(
            user_id=self.user_id,
            external_id=self.external_id,
            balance=balance,
            debt=debt,
            seq=seq,
            version=self.version,
            last_at=at,
            lots=lots,
            losses=self.losses,
            overdraft_limit=self.overdraft_limit,
            frozen_at=self.frozen_at,
        )
