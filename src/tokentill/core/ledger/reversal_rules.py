"""Taking back and giving back: what a reversal does to an account.

`core.ledger.decide` comes here. `core.ledger.reversals` says what should be gone; this posts the difference to what was
posted so far, as one row of type `refund` for each lot of the payment that it touches:

* taken from the lot itself: what is left of it;
* owed: from the account's other lots in burn order, as any debt is paid, and only the rest becomes debt;
* given back: to where it was taken from. A lot that lives gets its tokens, after what the account owes by now; a dead
  one gets them and loses them at once, by an expiration row, as if they had been there when it died; what was debt
  lessens today's debt, and what later grants have paid of it comes back as a lot without expiry.

Reversals ask no hold: money that is gone cannot wait for a call to end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import Reverse
from tokentill.core.ledger.decisions import Decided, Decision
from tokentill.core.ledger.expiry import expire
from tokentill.core.ledger.journal import Row, Transaction
from tokentill.core.ledger.lots import Lot, burn_order, plan_drawdown
from tokentill.core.ledger.reversals import Bought, BoughtLot, Policies, Source, Target, target
from tokentill.core.values import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is posted against one lot: the target, less what was posted before. Negative: given back."""

    bought: BoughtLot
    target: Target
    from_lot_tokens: int
    owed_tokens: int

    @property
    def is_needed(self) -> bool:
        return bool(
            self.from_lot_tokens or self.owed_tokens or self.target.forgiven_tokens != self.bought.forgiven_tokens
        )


def plan(account: Account, reverse: Reverse, bought: Bought, at: datetime) -> list[Step]:
    """Return what a reversal would post, lot by lot. Changes nothing: for whoever wants to know before."""
    account, deaths = expire(account, at=at)
    posting = _Posting(account, bought, _dead_of(deaths), at)
    posting.carry_out(reverse.policies)
    return [entry.step for entry in posting.entries]


def reverse(account: Account, command: Reverse, bought: Bought | None, at: datetime) -> Decision:
    """Post what the payment's state asks for. `bought` is what is known of it; None: it bought nothing."""
    if bought is None:
        return Decided(account)
    before = account
    account, deaths = expire(account, at=at)
    posting = _Posting(account, bought, _dead_of(deaths), at)
    posting.carry_out(command.policies)
    rows: list[Row] = []
    opened: tuple[Lot, ...] = ()
    if posting.is_needed:
        account, reversals, opened = posting.done()
        account, late_deaths = expire(account, at=at)  # What came back to the dead.
        rows += [*deaths, *reversals, *late_deaths]
    else:
        account = before  # What has expired can wait for a change.
    frozen = _frozen_at(account, command, bought, at)
    if frozen != account.frozen_at:
        account = replace(account, frozen_at=frozen, version=account.version + (account is before))
    return Decided(account, tuple(rows), opened)


def _dead_of(deaths: Sequence[Transaction]) -> dict[int, int]:
    return {row.lot_moves[0][0]: -row.token_amount for row in deaths}


def _frozen_at(account: Account, command: Reverse, bought: Bought, at: datetime) -> datetime | None:
    """While a dispute is open the account is frozen, if the policy says so.

    What an admin froze is none of our business.
    """
    if command.policies.freezes and bought.has_open_dispute:
        return account.frozen_at or at
    return None if bought.frozen_for == "dispute" else account.frozen_at


@dataclass(slots=True)
class _Entry:
    """One row in the making."""

    bought: BoughtLot
    step: Step = field(init=False)
    moves: dict[int, int] = field(default_factory=dict)
    debt_change: int = 0
    owed: dict[Source, int] = field(default_factory=dict)  # Taken (negative: given back) elsewhere.
    sunk: dict[Source, int] = field(default_factory=dict)  # Owed tokens that nothing alive would get back.
    opened_tokens: int = 0

    @property
    def is_empty(self) -> bool:
        return not any(self.moves.values()) and not self.debt_change and not any(self.owed.values())


class _Posting:
    """The rows of one reversal.

    All that its lots owe is undone first and taken anew last, so that it rests where it would if the money had moved
    at once: what one lot owes is not taken from what another one gives by itself, and what comes back pays no debt that
    is about to be undone.
    """

    def __init__(self, account: Account, bought: Bought, just_expired: Mapping[int, int], at: datetime) -> None:
        self._before = account
        self._bought = bought
        self._just_expired = just_expired
        self._at = at
        self._lots: dict[int, Lot] = {lot.lot: lot for lot in account.lots}
        self._debt = account.debt
        self.entries = [_Entry(one) for one in bought.lots]

    @property
    def is_needed(self) -> bool:
        """Whether anything is to be posted. If not, what is owed stays where it rests."""
        return any(entry.step.is_needed for entry in self.entries)

    def carry_out(self, policies: Policies) -> None:
        for entry in self.entries:
            self._undo_debt(entry)
        for entry in self.entries:
            self._undo_owed(entry)
        for entry in self.entries:
            entry.step = self._step(entry.bought, policies)
        for entry in self.entries:
            if entry.step.from_lot_tokens < 0:
                self._give(entry, entry.bought.lot, -entry.step.from_lot_tokens)
        for entry in self.entries:
            if entry.step.from_lot_tokens > 0:
                self._move(entry, entry.bought.lot, -entry.step.from_lot_tokens)
        for entry in self.entries:
            self._take_owed(entry)
        for entry in self.entries:  # What would come back as a lot pays what is owed by now.
            repaid = min(self._debt, entry.opened_tokens)
            self._owe(entry, -repaid)
            entry.opened_tokens -= repaid

    def _step(self, one: BoughtLot, policies: Policies) -> Step:
        """Compare what should be gone with what was posted, while nothing of what is owed is posted."""
        alive = self._lots[one.lot.lot].remaining if one.lot.lot in self._lots else 0
        expired = one.expired_tokens + self._just_expired.get(one.lot.lot, 0)
        unspent = alive + one.from_lot_tokens + expired
        aim = target(one.lot.granted, unspent, self._bought.paid_cents, self._bought.back, policies)
        taken = max(aim.from_lot_tokens - expired, 0)
        if one.lot.is_due(self._at):
            # Of the dead it makes no difference whether they were taken back or expired: what was posted may stay.
            taken = min(max(taken, one.from_lot_tokens), aim.from_lot_tokens)
        return Step(
            bought=one,
            target=aim,
            from_lot_tokens=taken - one.from_lot_tokens,
            owed_tokens=aim.owed_tokens - one.owed_tokens,
        )

    def _undo_debt(self, entry: _Entry) -> None:
        """First of all: what lots get back must not pay a debt that is only there because of this payment."""
        if tokens := sum(tokens for source, tokens in entry.bought.owed if source is None):
            repaid = min(self._debt, tokens)
            self._owe(entry, -repaid)
            entry.owed[None] = -tokens
            entry.sunk[None] = tokens - repaid

    def _undo_owed(self, entry: _Entry) -> None:
        for source, tokens in entry.bought.owed:
            if source is None:
                continue
            entry.owed[source] = -tokens
            lot = self._lots.get(source) or self._bought.others[source]
            if lot.is_due(self._at):
                entry.sunk[source] = tokens
            else:
                self._give(entry, lot, tokens)

    def _take_owed(self, entry: _Entry) -> None:
        missing = entry.step.target.owed_tokens
        for source, tokens in entry.sunk.items():
            kept = min(missing, tokens)
            missing -= kept
            entry.owed[source] += kept
            if source is None:
                entry.opened_tokens = tokens - kept
            elif tokens > kept:
                self._move(entry, self._bought.others[source], tokens - kept)
        drawn = plan_drawdown(tuple(self._lots.values()), missing, at=self._at)
        for lot, moved in drawn.moves:
            self._move(entry, self._lots[lot], moved)
            entry.owed[lot] = entry.owed.get(lot, 0) - moved
        if drawn.shortfall_tokens:
            self._owe(entry, drawn.shortfall_tokens)
            entry.owed[None] = entry.owed.get(None, 0) + drawn.shortfall_tokens

    def _give(self, entry: _Entry, lot: Lot, tokens: int) -> None:
        repaid = 0 if lot.is_due(self._at) else min(self._debt, tokens)  # The dead pay no debts.
        self._owe(entry, -repaid)
        if tokens > repaid:
            self._move(entry, lot, tokens - repaid)

    def _owe(self, entry: _Entry, tokens: int) -> None:
        self._debt += tokens
        entry.debt_change += tokens

    def _move(self, entry: _Entry, lot: Lot, tokens: int) -> None:
        entry.moves[lot.lot] = entry.moves.get(lot.lot, 0) + tokens
        left = tokens + (self._lots[lot.lot].remaining if lot.lot in self._lots else 0)
        if left:
            self._lots[lot.lot] = lot.holding(left)
        else:
            del self._lots[lot.lot]

    def done(self) -> tuple[Account, list[Transaction], tuple[Lot, ...]]:
        """Return the account as it becomes, its rows, and the lots they opened."""
        written = [entry for entry in self.entries if entry.step.is_needed or not entry.is_empty]
        rows: list[Transaction] = []
        opened: list[Lot] = []
        seq, balance = self._before.seq, self._before.balance
        for seq, entry in enumerate(written, start=self._before.seq + 1):
            if entry.opened_tokens:
                opened.append(self._opened(entry, seq))
            rows.append(self._row(entry, seq, balance))
            balance = rows[-1].balance_after
        lots = tuple(sorted((*self._lots.values(), *opened), key=burn_order))
        return self._before.moved(seq, balance, self._debt, lots, self._at), rows, tuple(opened)

    def _opened(self, entry: _Entry, seq: int) -> Lot:
        """What was debt, and later grants have paid."""
        tokens = entry.opened_tokens
        return Lot(lot=seq, kind="refund", granted=tokens, remaining=tokens, effective_at=self._at)

    def _row(self, entry: _Entry, seq: int, balance: int) -> Transaction:
        step, back = entry.step, self._bought.back
        lot, amount = step.bought.lot, -(step.from_lot_tokens + step.owed_tokens)
        moves = entry.moves | ({seq: entry.opened_tokens} if entry.opened_tokens else {})
        return Transaction(
            user_id=self._before.user_id,
            seq=seq,
            transaction_type="refund",
            source="stripe",
            token_amount=amount,
            balance_before=balance,
            balance_after=balance + amount,
            lot=seq if entry.opened_tokens else None,
            lot_moves=tuple((number, tokens) for number, tokens in moves.items() if tokens),
            debt_change=entry.debt_change,
            stripe_payment_intent_id=_intent(self._bought.payment_id, lot.payment_id),
            subscription_id=lot.subscription_id,
            reverses_seq=lot.lot,
            metadata={
                "payment_id": self._bought.payment_id,
                "refunded_cents": back.refunded_cents,
                "lost_cents": back.lost_cents,
                "disputed_cents": back.disputed_cents,
                "target_tokens": step.target.tokens,
                "from_lot_tokens": step.from_lot_tokens,
                "owed": [[source, tokens] for source, tokens in entry.owed.items() if tokens],
                "forgiven_tokens": step.target.forgiven_tokens,
                "pending_tokens": step.target.pending_tokens,
            },
            effective_at=self._at,
        )


def _intent(*payment_ids: str | None) -> str | None:
    return next((one for one in payment_ids if one is not None and one.startswith("pi_")), None)
