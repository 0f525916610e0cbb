"""The laws, over histories that nobody thought of.

A history is a list of steps: so much time passes (or, now and then, a request is dated before the last one), then
something is asked. `tests.core.ledger.model` is the judge; it shares no rule with what it judges.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeGuard
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ledger.model import FAR, Model, rolled_over, told_by
from tests.core.make import (
    ALICE,
    NOW,
    Book,
    annual,
    boundary,
    capture,
    days,
    deduct,
    drip,
    fresh_key,
    grant,
    pack,
    place,
    record,
    renew,
    spend,
    sweep,
    void,
)
from tokentill.core.keys import Key
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import Command, Deduct, Grant, Paid, Spend
from tokentill.core.ledger.decide import Decided, Refused, decide
from tokentill.core.ledger.journal import DripRow, Row, Transaction, UsageRow
from tokentill.core.ledger.lots import Lot
from tokentill.core.users import User
from tokentill.core.values import replace

# -- histories ---------------------------------------------------------------------------------------------------------

# A step makes its command when its moment is known, because times in it count from then and cycles go in order.
Ask = Callable[["Story"], Command]


@dataclass
class Story:
    """Where a history stands: the moment, and which cycle each subscription is at."""

    now: datetime
    cycles: dict[str, int]
    holds: dict[int, Key] = field(default_factory=dict)


def given_now(tokens: int, lives: int | None, ago: int | None, priority: int, cents: int | None) -> Ask:
    def make(story: Story) -> Grant:
        return grant(
            tokens,
            expires_at=None if lives is None else story.now + days(lives),
            effective_at=None if ago is None else story.now - days(ago),
            priority=priority,
            paid=None if cents is None else Paid(amount_cents=cents, currency="usd"),
        )

    return make


def dripped_now(subscription_id: str, tokens: int, rollover_cycles: int, cap: int | None) -> Ask:
    def make(story: Story) -> Command:
        cycle = story.cycles.get(subscription_id, 0) + 1
        if boundary(cycle) > story.now:
            return sweep()
        story.cycles[subscription_id] = cycle
        return drip(cycle, tokens, subscription_id=subscription_id, rollover_cycles=rollover_cycles, cap=cap)

    return make


def at_once(make: Callable[..., Command], **given: Any) -> Callable[[int], Ask]:
    return lambda tokens: lambda story: make(tokens, **given)


def held_now(which: int, ask: Callable[[Key], Command]) -> Ask:
    """Something about the hold that this history calls `which`; placed or not, ended or not."""
    return lambda story: ask(story.holds.setdefault(which, fresh_key()))


some = st.integers(1, 100)
grants = st.builds(
    given_now,
    some,
    st.sampled_from([None, 1, 5, 28, 112]),
    st.sampled_from([None, 0, 1, 10]),
    st.sampled_from([50, 10]),
    st.sampled_from([None, 0, 990]),
)
packs = st.builds(at_once(pack), some)
drips = st.builds(dripped_now, st.sampled_from(["a", "b"]), some, st.integers(0, 3), st.none())
capped_drips = st.builds(dripped_now, st.sampled_from(["a", "b"]), some, st.integers(0, 3), st.integers(0, 150))
spends = st.builds(at_once(spend), st.integers(0, 150)) | st.builds(at_once(record), st.integers(0, 150))
deductions = st.builds(at_once(deduct), some) | st.builds(at_once(deduct, is_forced=True), some)
which = st.integers(1, 4)
lifetimes = st.sampled_from([timedelta(minutes=10), timedelta(hours=1), days(1)])
placings = st.builds(
    lambda which, tokens, ttl: held_now(which, lambda key: place(tokens * 10, key=key, ttl=ttl)),
    which,
    which,
    lifetimes,
)
renewals = st.builds(
    lambda which, ttl: held_now(which, lambda key: renew(UUID(bytes=key.value), ttl=ttl)), which, lifetimes
)
captures = st.builds(
    lambda which, tokens, how: held_now(which, lambda key: capture(UUID(bytes=key.value), tokens, on_insufficient=how)),
    which, st.none() | st.integers(0, 150), st.sampled_from(["record", "refuse"]),
)  # fmt: skip
voidings = st.builds(lambda which: held_now(which, lambda key: void(UUID(bytes=key.value))), which)
holdings = placings | placings | renewals | captures | voidings
sweeps = st.just(lambda story: sweep())
givings = grants | packs | drips | capped_drips
anything = givings | spends | deductions | sweeps | holdings

forward = st.sampled_from([days(0), days(1), days(5), days(28), days(60), timedelta(hours=1)])
passing = forward | st.just(-days(3)) | st.just(timedelta(minutes=5))
long = st.sampled_from([days(0), days(5), days(28), days(28), days(60)])  # Long enough for much to die.
overdrafts = st.sampled_from([0, 0, 40])

History = list[tuple[timedelta, Ask]]


def histories(
    of: st.SearchStrategy[Ask] = anything, size: int = 20, passing: st.SearchStrategy[timedelta] = passing
) -> st.SearchStrategy[History]:
    return st.lists(st.tuples(passing, of), max_size=size)


def told(history: History) -> list[tuple[datetime, Command]]:
    """Turn a history into commands, each with the moment it is asked for."""
    story = Story(NOW, {})
    requests = []
    for passed, ask in history:
        # What lies back is this one request's date; the story goes on from where it was.
        at = story.now + passed
        story.now = max(story.now, at)
        requests.append((at, ask(story)))
    return requests


def played(history: History, overdraft: int = 0) -> Book:
    book = Book.of(overdraft_limit=overdraft)
    for at, command in told(history):
        book.ask(command, at=at)
    return book


def is_death(row: Row) -> TypeGuard[Transaction]:
    return isinstance(row, Transaction) and row.transaction_type == "expiration"


# -- the model agrees --------------------------------------------------------------------------------------------------


@settings(max_examples=250)
@given(history=histories(size=30), overdraft=overdrafts)
def test_the_ledger_does_what_the_rules_say(history: History, overdraft: int) -> None:
    """Every refusal, balance, lot and draw is the one that the plainest telling of the rules comes to."""
    book, model = Book.of(overdraft_limit=overdraft), Model(overdraft)
    for at, command in told(history):
        decision, expected = book.ask(command, at=at), model.ask(command, at=at)
        assert isinstance(decision, Refused) == (expected is None)
        model = expected or model
        assert book.left == model.left
        assert (book.balance, book.account.debt, book.account.seq) == (model.balance, model.debt, model.rows)
        assert book.account.last_at == model.now
        assert {hold.hold_id for hold in book.account.holds} == {
            hold_id for hold_id, stash in model.stashes.items() if not stash.fate and stash.until > model.now
        }


@given(history=histories(givings, size=12), tokens=st.integers(0, 800))
def test_a_spend_draws_in_burn_order(history: History, tokens: int) -> None:
    book, model = Book(), Model()
    for at, command in told(history):
        book.ask(command, at=at)
        model = model.ask(command, at=at) or model

    row = book.do(record(tokens), at=book.account.last_at)

    drawn = [lot for lot, _ in row.lot_moves]
    assert drawn == [pile.name for pile in model.in_burn_order()][: len(drawn)]


# -- the books add up --------------------------------------------------------------------------------------------------


@given(history=histories(), overdraft=overdrafts)
def test_no_token_is_made_or_lost(history: History, overdraft: int) -> None:
    """What was given is what is left, spent, deducted and expired, by the rows alone."""
    book = played(history, overdraft)
    told = told_by(book.rows)

    assert told.given == book.balance + told.spent + told.deducted + told.expired
    assert told.debt == book.account.debt
    assert {lot: left for lot, left in told.left.items() if left} == book.left


@given(history=histories(), overdraft=overdrafts)
def test_rows_follow_one_another_without_a_gap(history: History, overdraft: int) -> None:
    book = played(history, overdraft)

    assert [row.seq for row in book.rows] == list(range(1, book.account.seq + 1))
    balance = 0
    for row in book.rows:
        assert row.balance_before == balance
        balance = row.balance_after
    assert balance == book.balance


@given(history=histories(), overdraft=overdrafts)
def test_every_row_explains_its_own_change(history: History, overdraft: int) -> None:
    for row in played(history, overdraft).rows:
        match row:
            case UsageRow():
                change = -row.tokens_used
            case DripRow():
                change = row.drip_amount
            case Transaction():
                change = row.token_amount
        assert row.balance_after - row.balance_before == change
        assert sum(tokens for _, tokens in row.lot_moves) - row.debt_change == change


@given(history=histories(), overdraft=overdrafts)
def test_after_every_step_the_lots_less_the_debt_are_the_balance(history: History, overdraft: int) -> None:
    book = Book.of(overdraft_limit=overdraft)
    for at, command in told(history):
        book.ask(command, at=at)
        account = book.account
        assert sum(lot.remaining for lot in account.lots) - account.debt == account.balance
        assert all(0 < lot.remaining <= lot.granted for lot in account.lots)
        assert account.debt >= 0


@given(history=histories(), overdraft=overdrafts)
def test_nobody_owes_tokens_and_has_some(history: History, overdraft: int) -> None:
    book = Book.of(overdraft_limit=overdraft)
    for at, command in told(history):
        book.ask(command, at=at)
        assert book.account.debt == 0 or book.account.lots == ()


@given(history=histories(), overdraft=overdrafts)
def test_debt_is_paid_before_anything_else(history: History, overdraft: int) -> None:
    """Debt grows only when no lot has anything left, and every lot that arrives pays it first."""
    left: dict[int, int] = {}
    debt = 0
    for row in played(history, overdraft).rows:
        for lot, tokens in row.lot_moves:
            left[lot] = left.get(lot, 0) + tokens
        if row.debt_change > 0:
            assert not any(left.values())
        elif row.balance_after > row.balance_before:
            assert -row.debt_change == min(debt, row.balance_after - row.balance_before)
        debt += row.debt_change
        assert debt >= 0


# -- life and death ----------------------------------------------------------------------------------------------------


@given(history=histories(), overdraft=overdrafts)
def test_nothing_is_drawn_from_a_lot_outside_its_life(history: History, overdraft: int) -> None:
    book = Book.of(overdraft_limit=overdraft)
    lives: dict[int, tuple[datetime, datetime]] = {}
    for at, command in told(history):
        before = book.account.last_at
        decision = book.ask(command, at=at)
        if isinstance(decision, Refused):
            continue
        lives |= {lot.lot: (lot.effective_at, lot.expires_at or FAR) for lot in decision.opened}
        decided_for = max(at, before)
        for row in decision.rows:
            for lot, tokens in row.lot_moves:
                if tokens < 0 and not is_death(row):
                    assert lives[lot][0] <= decided_for < lives[lot][1]


@given(
    history=histories(drips | grants | grants | packs | spends | deductions | sweeps, passing=long),
    overdraft=overdrafts,
)
def test_expiry_takes_only_what_is_due_and_takes_all_of_it(history: History, overdraft: int) -> None:
    """Without caps: every expiration row empties one lot, at its own expiry, in the order of their deaths."""
    book = Book.of(overdraft_limit=overdraft)
    for at, command in told(history):
        lots = {lot.lot: lot for lot in book.account.lots}
        decision = book.ask(command, at=at)
        if isinstance(decision, Refused):
            continue
        deaths = [row for row in decision.rows if is_death(row)]
        due = [lot for lot in lots.values() if lot.expires_at and lot.expires_at <= decision.account.last_at]
        assert sorted(row.lot_moves[0] for row in deaths) == sorted((lot.lot, -lot.remaining) for lot in due)
        times = [(lots[row.lot_moves[0][0]].expires_at, row.lot_moves[0][0]) for row in deaths]
        assert times == sorted(times)
        assert [row.effective_at for row in deaths] == [when for when, _ in times]
        assert decision.rows[: len(deaths)] == tuple(deaths)


@given(history=histories(drips | capped_drips | grants | sweeps, size=30))
def test_a_pack_survives_any_renewal(history: History) -> None:
    """Drips, caps, annual grants and expiries never touch what was bought; there are no spends here."""
    book = Book.of(pack(700), pack(300), annual(50, expires_at=NOW + days(365)))
    for at, command in told(history):
        book.ask(command, at=at)
        assert (book.left[1], book.left[2]) == (700, 300)


@given(history=histories(drips | capped_drips | grants | spends | deductions | sweeps, size=30))
def test_a_pack_shrinks_only_by_what_is_taken(history: History) -> None:
    book = Book.of(pack(700))
    for at, command in told(history):
        before = book.left.get(1, 0)
        book.ask(command, at=at)
        if not isinstance(command, Spend | Deduct):
            assert book.left.get(1, 0) == before


@given(history=histories(), passed=forward)
def test_the_living_are_not_touched_by_a_sweep(history: History, passed: timedelta) -> None:
    book = played(history)
    before = book.account
    book.do(sweep(), at=max(before.last_at, NOW) + passed)

    assert {lot for lot in before.lots if not lot.is_due(book.account.last_at)} == set(book.account.lots)


@given(history=histories(passing=forward), looks=st.lists(st.none() | st.floats(0, 1), min_size=20, max_size=20))
def test_sweeping_means_nothing(history: History, looks: list[float | None]) -> None:
    """Whoever looks in between, and however often, everybody gets the same answers and has the same in the end."""
    unswept, swept = Book(), Book()
    end = NOW
    for (at, command), look in zip(told(history), looks, strict=False):
        if look is not None:
            swept.do(sweep(), at=end + (at - end) * look)
        assert type(swept.ask(command, at=at)) is type(unswept.ask(command, at=at))
        end = at
    for book in (unswept, swept):
        book.do(sweep(), at=end)

    assert swept.balance == unswept.balance
    assert unnamed_lots(swept) == unnamed_lots(unswept)
    assert reports(swept) == reports(unswept)
    assert told_by(swept.rows).expired == told_by(unswept.rows).expired


# -- refusals ----------------------------------------------------------------------------------------------------------


@given(history=histories(), overdraft=overdrafts)
def test_a_refusal_changes_nothing(history: History, overdraft: int) -> None:
    """Asked or not, what is refused leaves the same history behind."""
    book, without = Book.of(overdraft_limit=overdraft), Book.of(overdraft_limit=overdraft)
    for at, command in told(history):
        before = book.account
        if isinstance(book.ask(command, at=at), Refused):
            assert book.account == before
        else:
            without.ask(command, at=at)

    assert (without.account, without.rows) == (book.account, book.rows)


@given(history=histories(), overdraft=overdrafts, tokens=st.integers(0, 400), passed=forward)
def test_a_spend_is_refused_exactly_when_it_asks_for_more_than_is_alive_not_held_and_lent(
    history: History, overdraft: int, tokens: int, passed: timedelta
) -> None:
    account = played(history, overdraft).account
    at = max(account.last_at, NOW) + passed
    alive = sum(lot.remaining for lot in account.lots if lot.expires_at is None or lot.expires_at > at)
    reach = alive - account.debt - sum(hold.tokens for hold in account.holds if hold.expires_at > at)

    decision = decide(account, spend(tokens), at=at)

    assert isinstance(decision, Refused) == (tokens > max(reach + overdraft, 0))
    assert account.available(at) == reach
    if isinstance(decision, Decided):
        assert decision.account.available(at) >= -overdraft or tokens == 0


# -- drips -------------------------------------------------------------------------------------------------------------


@given(history=histories(drips | drips | drips | spends | sweeps, size=30, passing=long))
def test_a_drip_reports_what_its_boundary_saw(history: History) -> None:
    """What rolled over, from how many cycles, and every loss once: all of it can be told from the rows before."""
    rows = played(history).rows
    reported = {"a": 0, "b": 0}
    for row in rows:
        if isinstance(row, DripRow):
            rolled, cycles_count, lost = rolled_over(rows, row)
            assert (row.rollover_from_previous, row.rollover_cycles_count) == (rolled, cycles_count)
            reported[row.subscription_id] += row.expired_tokens
            assert reported[row.subscription_id] == lost


plans = st.fixed_dictionaries({"rollover_cycles": st.integers(0, 3)})
capped_plans = st.fixed_dictionaries({"rollover_cycles": st.integers(0, 3), "cap": st.integers(0, 250)})
amounts = st.lists(some, min_size=1, max_size=8)


@settings(max_examples=300)
@given(amounts=amounts, plan=plans | capped_plans, late=st.integers(0, 150), on_time=st.integers(0, 8))
def test_running_late_equals_running_on_time(amounts: list[int], plan: dict[str, Any], late: int, on_time: int) -> None:
    """The first `on_time` cycles at their boundaries and the others all at once later, or each at its own boundary."""
    prompt, tardy = Book.of(pack(500)), Book.of(pack(500))
    end = boundary(len(amounts)) + days(late)
    for cycle, tokens in enumerate(amounts, start=1):
        prompt.do(drip(cycle, tokens, **plan), at=boundary(cycle))
        tardy.do(drip(cycle, tokens, **plan), at=boundary(cycle) if cycle <= on_time else end)
    for book in (prompt, tardy):
        book.do(sweep(), at=end)

    assert tardy.balance == prompt.balance
    assert unnamed_lots(tardy) == unnamed_lots(prompt)
    assert reports(tardy) == reports(prompt)


@given(amounts=amounts, plan=capped_plans, late=st.integers(0, 150))
def test_no_more_rolls_over_than_the_cap(amounts: list[int], plan: dict[str, Any], late: int) -> None:
    book = Book()
    for cycle, tokens in enumerate(amounts, start=1):
        row = book.do(drip(cycle, tokens, **plan), at=boundary(cycle) + days(late))
        assert row.rollover_from_previous <= plan["cap"]
        assert (row.rollover_cycles_count == 0) == (row.rollover_from_previous == 0)


# -- order and repetition ----------------------------------------------------------------------------------------------


@given(histories=st.lists(histories(size=8), min_size=2, max_size=3), seed=st.randoms())
def test_what_others_do_in_between_does_not_matter(histories: list[History], seed: Random) -> None:
    """However the requests of several accounts are dealt together, each account comes out as if it were alone."""
    users = [User.of(f"user {number}") for number in range(len(histories))]
    waiting = {
        user: [(at, replace(command, user=user)) for at, command in told(history)]
        for user, history in zip(users, histories, strict=True)
    }
    alone = {user: _alone(requests) for user, requests in waiting.items()}

    together: dict[User, Account | None] = dict.fromkeys(users)
    while any(waiting.values()):
        user = seed.choice([user for user in users if waiting[user]])
        at, command = waiting[user].pop(0)
        decision = decide(together[user], command, at=at)
        together[user] = decision.account if isinstance(decision, Decided) else together[user]

    assert together == alone


@given(history=histories(), overdraft=overdrafts)
def test_deciding_again_decides_the_same(history: History, overdraft: int) -> None:
    """The engine may decide twice when another process was faster; nothing may rest on when or how often it does."""
    account: Account | None = Account.opened(ALICE)
    for at, command in told(history):
        decision = decide(account, command, at=at)
        assert decide(account, command, at=at) == decision or isinstance(decision, Refused)
        account = decision.account if isinstance(decision, Decided) else account


def unnamed_lots(book: Book) -> list[Lot]:
    """The open lots in the order in which they were opened, without the numbers that rows in between give them."""
    return [replace(lot, lot=0) for lot in sorted(book.account.lots, key=lambda lot: lot.lot)]


def reports(book: Book) -> list[tuple[int, ...]]:
    """What each drip said: cycle, tokens, rolled over, from how many cycles, expired."""
    return [
        (row.cycle_number, row.drip_amount, row.rollover_from_previous, row.rollover_cycles_count, row.expired_tokens)
        for row in book.rows
        if isinstance(row, DripRow)
    ]


def _alone(requests: list[tuple[datetime, Command]]) -> Account | None:
    account: Account | None = None
    for at, command in requests:
        decision = decide(account, command, at=at)
        account = decision.account if isinstance(decision, Decided) else account
    return account
