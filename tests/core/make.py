"""Short ways to make the values that the core decides on, and a book that keeps what it decided."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tokentill.core.calls import FIELDS, Call
from tokentill.core.keys import Key
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import (
    Charge,
    Command,
    Deduct,
    Drip,
    Grant,
    Paid,
    PlaceHold,
    Redate,
    RenewHold,
    Spend,
    Sweep,
    VoidHold,
)  # fmt: skip
from tokentill.core.ledger.decide import Decided, Decision, Refused, decide
from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.journal import Row, Transaction
from tokentill.core.ledger.lots import Lot
from tokentill.core.ledger.reversals import Bought, BoughtLot, MoneyBack
from tokentill.core.plans.catalog import CYCLE
from tokentill.core.users import User
from tokentill.core.values import replace
from tokentill.errors import TillError

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)  # The shortest time that PostgreSQL can tell from none.
ALICE = User.of("alice")

_numbers = itertools.count(1)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def fresh_key() -> Key:
    return Key.of_fact("test", str(next(_numbers)))


def make_lot(lot: int, remaining: int, **rest: Any) -> Lot:
    return Lot(**{"lot": lot, "kind": "admin", "granted": max(remaining, 1), "remaining": remaining,
                  "effective_at": NOW, **rest})  # fmt: skip


def grant(tokens: int, **rest: Any) -> Grant:
    return Grant(**{"user": ALICE, "key": fresh_key(), "tokens": tokens, "kind": "admin", "source": "admin", **rest})


def pack(tokens: int, *, cents: int = 9_900, payment_id: str | None = None, **rest: Any) -> Grant:
    paid = Paid(amount_cents=cents, currency="usd", payment_id=payment_id)
    bought = {"kind": "purchase", "source": "token_pack", "transaction_type": "purchase", "paid": paid}
    return grant(tokens, **{**bought, **rest})


def annual(tokens: int, *, expires_at: datetime, **rest: Any) -> Grant:
    return grant(tokens, kind="subscription", source="subscription", expires_at=expires_at, **rest)


def drip(
    cycle: int,
    tokens: int = 100,
    *,
    subscription_id: str = "monthly",
    anchor: datetime = NOW,
    rollover_cycles: int = 3,
    cap: int | None = None,
    **rest: Any,
) -> Drip:
    """The drip of one cycle, 28 days each; cycle 1 starts at `anchor`."""
    starts_at = boundary(cycle, anchor=anchor)
    return Drip(
        user=ALICE, key=fresh_key(), subscription_id=subscription_id, cycle_number=cycle, tokens=tokens,
        period_start=starts_at, period_end=starts_at + CYCLE, expires_at=starts_at + CYCLE * (1 + rollover_cycles),
        rollover_cap_tokens=cap, **rest,
    )  # fmt: skip


def boundary(cycle: int, *, anchor: datetime = NOW) -> datetime:
    """Where this cycle starts."""
    return anchor + timedelta(days=28) * (cycle - 1)


def spend(tokens: int, **rest: Any) -> Spend:
    """A spend that is refused when there are too few tokens."""
    return spend_from({"tokens": tokens, "action_type": "chat_conversation", **rest})


def spend_from(said: dict[str, Any]) -> Spend:
    """A spend of these fields, whether they are its own, its call's or its charge's."""
    said = {"user": ALICE, "key": fresh_key(), **said}
    call = {name: said.pop(name) for name in FIELDS if name in said and name != "tokens"}
    charge = {name: said.pop(name) for name in Charge.__struct_fields__ if name in said}
    return Spend(call=Call(**call), charge=Charge(**charge), **said)


def record(tokens: int, **rest: Any) -> Spend:
    """A spend that has happened: it is written even into debt."""
    return spend(tokens, on_insufficient="record", **rest)


def deduct(tokens: int, **rest: Any) -> Deduct:
    return Deduct(**{"user": ALICE, "key": fresh_key(), "tokens": tokens, **rest})


def place(tokens: int, *, key: Key | None = None, ttl: timedelta = timedelta(minutes=10), **rest: Any) -> PlaceHold:
    asked = {"user": ALICE, "key": key or fresh_key(), "tokens": tokens, "action_type": "chat_conversation", "ttl": ttl}
    return PlaceHold(**{**asked, **rest})


def capture(hold_id: UUID, tokens: int | None = None, **rest: Any) -> Spend:
    """A capture that is recorded even into debt: what the hold was placed for has happened."""
    spent = {"tokens": tokens, "action_type": None, "hold_id": hold_id, "on_insufficient": "record"}
    return spend_from({**spent, **rest})


def renew(hold_id: UUID, *, ttl: timedelta = timedelta(minutes=10)) -> RenewHold:
    return RenewHold(user=ALICE, hold_id=hold_id, ttl=ttl)


def void(hold_id: UUID) -> VoidHold:
    return VoidHold(user=ALICE, hold_id=hold_id)


def sweep() -> Sweep:
    return Sweep(user=ALICE)


def redate(cycle: int, expires_at: datetime, *, subscription_id: str = "monthly") -> Redate:
    return Redate(user=ALICE, subscription_id=subscription_id, cycle_number=cycle, expires_at=expires_at)


@dataclass
class Book:
    """One account in a test: asks the ledger, and keeps the account and every row."""

    account: Account = field(default_factory=lambda: Account.opened(ALICE))
    rows: list[Row] = field(default_factory=list)
    holds: dict[UUID, Hold] = field(default_factory=dict)  # As they were last written.

    @classmethod
    def of(cls, *commands: Command, at: datetime = NOW, **account: Any) -> "Book":
        book = cls(replace(Account.opened(ALICE), **account))
        for command in commands:
            book.do(command, at=at)
        return book

    def ask(self, command: Command, *, at: datetime = NOW) -> Decision:
        hold = self.holds.get(getattr(command, "hold_id", None))  # type: ignore[arg-type]  # None is never in it
        decision = decide(self.account, command, at=at, hold=hold)
        if isinstance(decision, Decided):
            self.account = decision.account
            self.rows += decision.rows
            if decision.hold is not None and decision.is_hold_changed:
                self.holds[decision.hold.hold_id] = decision.hold
        return decision

    def do(self, command: Command, *, at: datetime = NOW) -> Any:
        """Ask, which must succeed, and return the row that answers (None: the command had nothing to write)."""
        decision = self.ask(command, at=at)
        assert isinstance(decision, Decided), decision
        return decision.rows[-1] if decision.rows else None

    def place(self, tokens: int, *, at: datetime = NOW, **rest: Any) -> UUID:
        """Place a hold, which must succeed, and return its id."""
        command = place(tokens, **rest)
        self.do(command, at=at)
        return command.hold_id

    def available(self, at: datetime = NOW) -> int:
        return self.account.available(at)

    def refusal(self, command: Command, *, at: datetime = NOW) -> TillError:
        """Ask, which must be refused, and return why."""
        decision = self.ask(command, at=at)
        assert isinstance(decision, Refused), decision
        return decision.error

    @property
    def balance(self) -> int:
        return self.account.balance

    @property
    def left(self) -> dict[int, int]:
        """What is left in each open lot."""
        return {lot.lot: lot.remaining for lot in self.account.lots}


def refund_lots(
    rows: Iterable[Row],
    lots: Mapping[int, Lot],
    payment_id: str,
    back: MoneyBack,
    *,
    has_open_dispute: bool = False,
    frozen_for: str | None = None,
) -> Bought:
    """What the books know of a payment: read from the rows of a test, as the store reads it from the journal."""
    found = []
    for number, lot in lots.items():
        if lot.payment_id != payment_id:
            continue
        expired, from_lot, forgiven, owed = 0, 0, 0, dict[int | None, int]()
        for row in rows:
            if not isinstance(row, Transaction):
                continue
            if row.transaction_type == "expiration" and row.lot_moves[0][0] == number:
                expired -= row.token_amount
            if row.transaction_type == "refund" and row.reverses_seq == number:
                said: Any = row.metadata
                from_lot += said["from_lot_tokens"]
                forgiven = said["forgiven_tokens"]
                for source, tokens in said["owed"]:
                    owed[source] = owed.get(source, 0) + tokens
        found.append(
            BoughtLot(
                lot=lot, expired_tokens=expired, from_lot_tokens=from_lot, forgiven_tokens=forgiven,
                owed=tuple((source, tokens) for source, tokens in owed.items() if tokens),
            )
        )  # fmt: skip
    return Bought(
        payment_id=payment_id, paid_cents=sum(one.lot.paid_cents or 0 for one in found), lots=tuple(found), back=back,
        others=lots, has_open_dispute=has_open_dispute, frozen_for=frozen_for,
    )  # fmt: skip
