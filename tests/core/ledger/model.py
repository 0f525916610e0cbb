"""The rules of an account once more, told as plainly as possible, to judge `core.ledger.decide` by.

An oracle must not import what it judges: this one shares the commands with the ledger and nothing else. It keeps piles
of tokens in a list, moves them in place, and writes no rows; it only counts them, because a pile is named by its row.

`told_by` is a second witness: it knows no rules at all and adds up what the rows say.
"""

from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from tokentill.core.ledger.commands import (
    Command,
    Deduct,
    Drip,
    Grant,
    PlaceHold,
    RenewHold,
    Spend,
    Sweep,
    VoidHold,
)  # fmt: skip
from tokentill.core.ledger.journal import DripRow, Row, Transaction, UsageRow

FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass
class Pile:
    """What is left of one grant."""

    name: int
    left: int
    since: datetime
    dies: datetime  # FAR: never.
    priority: int = 50
    is_paid: bool = False
    subscription: str | None = None  # Of a drip; None: of anything else.


@dataclass
class Stash:
    """Tokens set aside."""

    tokens: int
    until: datetime
    fate: str = ""  # What became of it by request.


@dataclass
class Model:
    """One account. `ask` answers with the account as it becomes, or None: refused."""

    overdraft: int = 0
    now: datetime = datetime(1, 1, 1, tzinfo=UTC)
    rows: int = 0
    debt: int = 0
    piles: list[Pile] = field(default_factory=list)
    stashes: dict[UUID, Stash] = field(default_factory=dict)
    given: int = 0
    spent: int = 0
    deducted: int = 0
    expired: int = 0

    @property
    def balance(self) -> int:
        return sum(pile.left for pile in self.piles) - self.debt

    @property
    def left(self) -> dict[int, int]:
        return {pile.name: pile.left for pile in self.piles if pile.left}

    @property
    def reach(self) -> int:
        """What a spend that asks first gets at: not what is set aside, but what is lent."""
        aside = sum(stash.tokens for stash in self.stashes.values() if not stash.fate and stash.until > self.now)
        return self.balance - aside + self.overdraft

    def ask(self, command: Command, *, at: datetime) -> "Model | None":
        after = deepcopy(self)
        return after if after.do(command, at) else None

    def do(self, command: Command, at: datetime) -> bool:
        """Change this account, and say whether the command was carried out; if not, throw this account away."""
        before, self.now = self.now, max(self.now, at)
        if isinstance(command, PlaceHold | RenewHold | VoidHold):
            return self._set_aside(command, before)
        died = self.expired
        for pile in self.in_order_of_death():
            if pile.left and pile.dies <= self.now:
                self._lose(pile, pile.left)

        if isinstance(command, Sweep):
            if self.expired == died:
                self.now = before  # It found nothing, so nothing is written, not even when it looked.
            return True
        if isinstance(command, Spend):
            tokens = command.charge.tokens
            if command.hold_id is not None:
                stash = self.stashes.get(command.hold_id)
                if stash is None or stash.fate:
                    return False
                stash.fate = "captured"
                tokens = stash.tokens if tokens is None else tokens
            assert tokens is not None
            if command.on_insufficient == "refuse" and tokens > max(self.reach, 0):
                return False
            self.spent += tokens
            return self._take(tokens)
        if isinstance(command, Deduct):
            if not command.is_forced and command.tokens > self.reach - self.overdraft:
                return False
            self.deducted += command.tokens
            return self._take(command.tokens)

        assert isinstance(command, Grant | Drip), command
        dies = command.expires_at or FAR
        if isinstance(command, Grant):
            since = min(command.effective_at or self.now, self.now)
            if dies <= since:
                return False
            pile = Pile(0, command.tokens, since, dies, command.priority)
        else:
            self._cap(command)
            since = min(command.period_start, self.now)
            pile = Pile(0, command.tokens, since, dies, subscription=command.subscription_id)
        pile.is_paid = command.paid is not None and command.paid.amount_cents > 0
        return self._give(pile)

    def _set_aside(self, command: PlaceHold | RenewHold | VoidHold, before: datetime) -> bool:
        """Tokens that are due have gone for whoever asks, though no row says so yet: that changes no balance."""
        due = sum(pile.left for pile in self.piles if pile.dies <= self.now)
        stash = self.stashes.get(command.hold_id)
        if isinstance(command, PlaceHold):
            if stash is not None:
                self.now = before  # The same again, in these histories: it is answered, and nothing is written.
                return True
            if command.tokens > self.reach - due:
                return False
            self.stashes[command.hold_id] = Stash(command.tokens, self.now + command.ttl)
            return True
        if stash is None or stash.fate == "captured":
            return False
        lives = not stash.fate and stash.until > self.now
        if isinstance(command, RenewHold):
            if not lives:
                return False
            if self.now + command.ttl <= stash.until:
                self.now = before
            else:
                stash.until = self.now + command.ttl
            return True
        if lives:
            stash.fate = "voided"
        else:
            self.now = before
        return True

    def _give(self, pile: Pile) -> bool:
        self.rows += 1
        pile.name = self.rows
        self.given += pile.left
        repaid = min(self.debt, pile.left)
        self.debt -= repaid
        pile.left -= repaid
        self.piles.append(pile)
        return True

    def _take(self, tokens: int) -> bool:
        self.rows += 1
        for pile in self.in_burn_order():
            taken = min(pile.left, tokens)
            pile.left -= taken
            tokens -= taken
        self.debt += tokens
        return True

    def in_burn_order(self) -> list[Pile]:
        """Sort by the last criterion first and by the first one last; a stable sort then leaves the right order."""
        piles = [pile for pile in self.piles if pile.left and pile.since <= self.now < pile.dies]
        piles.sort(key=lambda pile: pile.name)
        piles.sort(key=lambda pile: pile.since)
        piles.sort(key=lambda pile: pile.is_paid)
        piles.sort(key=lambda pile: pile.dies)
        piles.sort(key=lambda pile: pile.priority)
        return piles

    def in_order_of_death(self) -> list[Pile]:
        return sorted(self.piles, key=lambda pile: (pile.dies, pile.name))

    def _cap(self, drip: Drip) -> None:
        """Let the soonest to die go until no more rolls over than may."""
        if drip.rollover_cap_tokens is None:
            return
        rolls = [
            pile
            for pile in self.in_order_of_death()
            if pile.subscription == drip.subscription_id and pile.since < drip.period_start < pile.dies and pile.left
        ]
        excess = sum(pile.left for pile in rolls) - drip.rollover_cap_tokens
        for pile in rolls:
            if excess > 0:
                lost = min(pile.left, excess)
                self._lose(pile, lost)
                excess -= lost

    def _lose(self, pile: Pile, tokens: int) -> None:
        self.rows += 1
        pile.left -= tokens
        self.expired += tokens


@dataclass
class Told:
    """What an account's rows say when they are only added up."""

    given: int = 0
    spent: int = 0
    deducted: int = 0
    expired: int = 0
    debt: int = 0
    left: Counter[int] = field(default_factory=Counter)

    @property
    def balance(self) -> int:
        return self.given - self.spent - self.deducted - self.expired


def told_by(rows: Iterable[Row]) -> Told:
    """Add up the rows."""
    told = Told()
    for row in rows:
        match row:
            case UsageRow():
                told.spent += row.tokens_used
            case DripRow():
                told.given += row.drip_amount
            case Transaction(transaction_type="deduction"):
                told.deducted -= row.token_amount
            case Transaction(transaction_type="expiration"):
                told.expired -= row.token_amount
            case Transaction():
                told.given += row.token_amount
        told.debt += row.debt_change
        for lot, tokens in row.lot_moves:
            told.left[lot] += tokens
    return told


def rolled_over(rows: list[Row], drip: DripRow) -> tuple[int, int, int]:
    """What a drip must report, from the rows before it: rolled over, from how many cycles, lost so far in all.

    A row that says when tokens died tells what was alive at the boundary, even if it was written before this drip. For
    drips without a cap.
    """
    earlier = [row for row in rows if row.seq < drip.seq]
    lots = {
        row.lot: row.cycle_number
        for row in earlier
        if isinstance(row, DripRow)
        and row.subscription_id == drip.subscription_id
        and row.billing_period_start < drip.billing_period_start
    }
    alive: Counter[int] = Counter()
    lost = 0
    for row in earlier:
        died_at = row.effective_at if isinstance(row, Transaction) and row.transaction_type == "expiration" else None
        for lot, tokens in row.lot_moves:
            if lot in lots and (died_at is None or died_at <= drip.billing_period_start):
                alive[lots[lot]] += tokens
                lost -= tokens if died_at is not None else 0
    return sum(alive.values()), sum(1 for tokens in alive.values() if tokens), lost
