"""Reversals: what is taken back follows from how the money stands, whatever happened on the way there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import ALICE, NOW, Book, days, drip, grant, pack, place, record, refund_lots, spend, sweep
from tokentill.core.ledger.commands import Grant, Reverse
from tokentill.core.ledger.decide import Decided, decide
from tokentill.core.ledger.journal import Transaction
from tokentill.core.ledger.lots import Lot
from tokentill.core.ledger.reversals import Bought, BoughtLot, MoneyBack, Policies, Policy, target
from tokentill.core.values import replace

PAYMENT = "pi_1"
DEBT = Policies(refund="debt", dispute="debt")
FORGIVE = Policies(refund="forgive", dispute="forgive")
MIXED = Policies()


@dataclass
class Shop:
    """A book, and the money of one payment in it."""

    book: Book = field(default_factory=Book)
    policies: Policies = MIXED
    lots: dict[int, Lot] = field(default_factory=dict)  # As they were opened.

    def buy(self, tokens: int, *, cents: int = 1_000, payment_id: str = PAYMENT, **rest: Any) -> int:
        row = self.book.do(pack(tokens, cents=cents, payment_id=payment_id, **rest))
        return self.keep(row.lot)

    def gift(self, tokens: int, **rest: Any) -> int:
        return self.keep(self.book.do(grant(tokens, **rest)).lot)

    def keep(self, number: int) -> int:
        found = self.book.account.lot(number)
        row = self.book.rows[-1]
        assert isinstance(row, Transaction)
        self.lots[number] = found or Lot(
            lot=number, kind="purchase", granted=row.token_amount, remaining=0, effective_at=row.effective_at,
            paid_cents=row.amount_paid_cents, payment_id=row.stripe_payment_intent_id,
        )  # fmt: skip
        return number

    def moved_back(self, refunded: int = 0, lost: int = 0, disputed: int = 0, **rest: Any) -> list[Transaction]:
        """Let the tokens follow the money as it stands now; return the reversal's rows."""
        back = MoneyBack(refunded_cents=refunded, lost_cents=lost, disputed_cents=disputed)
        return self.reverse(back, **rest)

    def reverse(self, back: MoneyBack, *, at: Any = NOW, **rest: Any) -> list[Transaction]:
        bought = refund_lots(self.book.rows, self.lots, PAYMENT, back, **rest)
        command = Reverse(user=ALICE, payment_id=PAYMENT, policies=self.policies)
        decision = decide(self.book.account, command, at=at, bought=bought)
        assert isinstance(decision, Decided)
        self.book.account = decision.account
        self.book.rows += decision.rows
        for lot in decision.opened:
            self.lots[lot.lot] = lot
        return [row for row in decision.rows if isinstance(row, Transaction) and row.transaction_type == "refund"]


def test_a_full_refund_takes_all_that_is_unspent() -> None:
    shop = Shop()
    lot = shop.buy(1_000)
    shop.book.do(spend(300))

    [row] = shop.moved_back(refunded=1_000)

    assert (row.token_amount, row.reverses_seq, row.source) == (-700, lot, "stripe")
    assert row.metadata["forgiven_tokens"] == 300
    assert (shop.book.balance, shop.book.left) == (0, {})


def test_a_partial_refund_takes_its_part_rounded_up() -> None:
    shop = Shop()
    shop.buy(1_000, cents=300)

    [row] = shop.moved_back(refunded=100)

    assert row.token_amount == -334


def test_what_was_spent_is_owed_under_the_debt_policy() -> None:
    shop = Shop(policies=DEBT)
    shop.buy(1_000)
    shop.book.do(spend(1_000))

    [row] = shop.moved_back(refunded=400)

    assert (row.token_amount, row.debt_change, shop.book.balance) == (-400, 400, -400)


def test_what_is_owed_is_paid_from_other_lots_first() -> None:
    shop = Shop(policies=DEBT)
    shop.buy(1_000)
    shop.book.do(spend(1_000))
    other = shop.gift(300)

    [row] = shop.moved_back(refunded=500)

    assert row.lot_moves == ((other, -300),)
    assert (row.debt_change, shop.book.balance) == (200, -200)


def test_a_refund_leaves_other_lots_alone_where_it_is_forgiven() -> None:
    shop = Shop(policies=FORGIVE)
    shop.buy(1_000)
    shop.book.do(spend(1_000))
    other = shop.gift(300)

    [row] = shop.moved_back(refunded=1_000)

    assert (row.token_amount, row.metadata["forgiven_tokens"]) == (0, 1_000)
    assert shop.book.left == {other: 300}


def test_a_lost_dispute_is_owed_even_where_refunds_are_forgiven() -> None:
    shop = Shop(policies=MIXED)
    shop.buy(1_000)
    shop.book.do(spend(1_000))

    [row] = shop.moved_back(refunded=500, lost=300)

    assert (row.token_amount, row.metadata["forgiven_tokens"]) == (-300, 500)


def test_an_open_dispute_takes_only_what_is_unspent() -> None:
    shop = Shop()
    shop.buy(1_000)
    shop.book.do(spend(900))

    [row] = shop.moved_back(disputed=1_000)
    assert (row.token_amount, row.metadata["pending_tokens"], row.metadata["forgiven_tokens"]) == (-100, 900, 0)

    [row] = shop.moved_back(lost=1_000)
    assert (row.token_amount, shop.book.balance) == (-900, -900)


def test_a_won_dispute_gives_back_what_it_took() -> None:
    shop = Shop()
    lot = shop.buy(1_000)
    shop.book.do(spend(100))
    shop.moved_back(disputed=1_000)

    [row] = shop.moved_back()

    assert (row.token_amount, shop.book.left) == (900, {lot: 900})


def test_the_same_state_twice_posts_once() -> None:
    shop = Shop()
    shop.buy(1_000)
    shop.moved_back(refunded=500)
    before = shop.book.account

    assert shop.moved_back(refunded=500) == []
    assert shop.book.account is before


def test_what_was_forgiven_is_recorded_once() -> None:
    shop = Shop()
    shop.buy(1_000)
    shop.book.do(spend(1_000))

    assert len(shop.moved_back(refunded=1_000)) == 1
    assert shop.moved_back(refunded=1_000) == []


def test_expired_tokens_count_as_gone() -> None:
    shop = Shop(policies=DEBT)
    shop.buy(1_000, expires_at=NOW + days(10))
    shop.book.do(spend(400))

    [row] = shop.moved_back(refunded=800, at=NOW + days(11))

    assert row.token_amount == -200  # 600 of the 800 have expired.


def test_what_was_taken_before_the_rest_expired_stays_taken() -> None:
    """Told the same again after the lot's death, there is nothing to do."""
    shop = Shop()
    shop.buy(1_000, expires_at=NOW + days(10))
    shop.moved_back(refunded=500)

    assert shop.moved_back(refunded=500, at=NOW + days(20)) == []
    [row] = shop.moved_back(refunded=200, at=NOW + days(21))

    assert row.token_amount == 300
    assert shop.book.balance == 0


def test_a_dead_lot_gets_its_tokens_back_and_loses_them_at_once() -> None:
    shop = Shop()
    lot = shop.buy(1_000, expires_at=NOW + days(10))
    shop.moved_back(disputed=1_000)

    [row] = shop.moved_back(at=NOW + days(20))

    assert (row.token_amount, row.lot_moves) == (1_000, ((lot, 1_000),))
    death = shop.book.rows[-1]
    assert isinstance(death, Transaction)
    assert (death.transaction_type, death.token_amount, death.effective_at) == ("expiration", -1_000, NOW + days(10))
    assert shop.book.balance == 0
    assert shop.moved_back(at=NOW + days(21)) == []


def test_the_dead_pay_no_debts() -> None:
    shop = Shop()
    shop.buy(1_000, expires_at=NOW + days(10))
    shop.moved_back(disputed=1_000)
    shop.book.do(record(50))

    shop.moved_back(at=NOW + days(20))

    assert (shop.book.balance, shop.book.account.debt) == (-50, 50)


def test_what_comes_back_pays_what_is_owed_first() -> None:
    shop = Shop()
    lot = shop.buy(1_000)
    shop.moved_back(disputed=1_000)
    shop.book.do(record(300))

    [row] = shop.moved_back()

    assert (row.token_amount, row.lot_moves, row.debt_change) == (1_000, ((lot, 700),), -300)


def test_what_was_owed_goes_back_to_where_it_came_from() -> None:
    """A refund that failed: the lot that paid for it gets its tokens back, with its own expiry."""
    shop = Shop(policies=DEBT)
    shop.buy(1_000)
    shop.book.do(spend(1_000))
    other = shop.gift(300, expires_at=NOW + days(30))
    shop.moved_back(refunded=500)

    [row] = shop.moved_back()

    assert (row.token_amount, row.lot_moves, row.debt_change) == (500, ((other, 300),), -200)
    assert shop.book.account.lot(other).expires_at == NOW + days(30)  # type: ignore[union-attr]  # it is there


def test_a_debt_that_a_later_grant_has_paid_comes_back_as_a_lot_without_expiry() -> None:
    shop = Shop(policies=DEBT)
    shop.buy(1_000)
    shop.book.do(spend(1_000))
    shop.moved_back(refunded=500)
    shop.gift(500)
    assert shop.book.left == {}

    [row] = shop.moved_back()

    [lot] = shop.book.account.lots
    assert (lot.lot, lot.kind, lot.remaining, lot.expires_at) == (row.seq, "refund", 500, None)
    assert row.lot == row.seq
    shop.moved_back(refunded=500)
    assert shop.book.balance == 0


def test_each_lot_of_a_payment_loses_the_same_part() -> None:
    shop = Shop()
    power, mega = shop.buy(2_000, cents=100), shop.buy(5_000, cents=200)

    rows = shop.moved_back(refunded=150)

    assert [(row.reverses_seq, row.token_amount) for row in rows] == [(power, -1_000), (mega, -2_500)]


def test_one_lots_debt_leaves_what_the_next_one_gives_by_itself() -> None:
    """Both lots of the payment go; what the first one owes must not be taken from the second one's own share."""
    shop = Shop(policies=Policies(refund="forgive", dispute="debt"))
    first = shop.buy(1_000, cents=500, priority=1)
    second = shop.buy(1_000, cents=500)
    shop.book.do(spend(1_000))
    assert shop.book.left == {second: 1_000}

    rows = shop.moved_back(lost=1_000)

    assert [(row.reverses_seq, row.token_amount, row.debt_change) for row in rows] == [
        (first, -1_000, 1_000),
        (second, -1_000, 0),
    ]
    assert (shop.book.balance, shop.book.left) == (-1_000, {})


def test_a_drip_is_reversed_like_a_pack() -> None:
    book = Book()
    book.do(drip(1, 375_000))
    [lot] = book.account.lots
    shop = Shop(book=book, lots={lot.lot: replace(lot, payment_id=PAYMENT, paid_cents=9_900)})

    [row] = shop.moved_back(refunded=9_900)

    assert (row.token_amount, row.subscription_id) == (-375_000, "monthly")


def test_a_payment_of_nothing_takes_nothing() -> None:
    shop = Shop()
    shop.buy(1_000, cents=0)

    assert shop.moved_back(refunded=100) == []


def test_a_payment_that_bought_nothing_takes_nothing() -> None:
    book = Book.of(grant(100))

    decision = decide(book.account, Reverse(user=ALICE, payment_id="pi_other"), at=NOW, bought=None)

    assert isinstance(decision, Decided)
    assert decision.account is book.account


def test_money_that_is_gone_does_not_wait_for_a_hold() -> None:
    shop = Shop()
    shop.buy(1_000)
    shop.book.do(place(800))

    [row] = shop.moved_back(refunded=1_000)

    assert (row.token_amount, shop.book.available()) == (-1_000, -800)


# --- Freezing ---


def test_an_open_dispute_freezes_the_account_if_the_setting_says_so() -> None:
    shop = Shop(policies=Policies(freezes=True))
    shop.buy(1_000)

    shop.moved_back(disputed=500, has_open_dispute=True)
    assert shop.book.account.frozen_at == NOW
    assert shop.book.refusal(spend(1)).code == "account_frozen"

    shop.moved_back(frozen_for="dispute", at=NOW + days(1))
    assert shop.book.account.frozen_at is None


def test_freezing_alone_is_a_change_that_others_see() -> None:
    shop = Shop(policies=Policies(freezes=True))
    shop.buy(1_000)
    before = shop.book.account

    assert shop.moved_back(has_open_dispute=True) == []
    assert shop.book.account.version == before.version + 1


def test_what_an_admin_froze_stays_frozen() -> None:
    shop = Shop(policies=Policies(freezes=True), book=Book.of(frozen_at=NOW))
    shop.buy(1_000)

    shop.moved_back(has_open_dispute=True, frozen_for="admin")
    shop.moved_back(frozen_for="admin")

    assert shop.book.account.frozen_at == NOW


def test_without_the_setting_nothing_is_frozen() -> None:
    shop = Shop()
    shop.buy(1_000)

    shop.moved_back(disputed=500, has_open_dispute=True)

    assert shop.book.account.frozen_at is None


# --- How the money stands ---


def test_refund_objects_outrank_what_the_charge_says() -> None:
    assert MoneyBack.of([], [], charge_refunded_cents=500).refunded_cents == 500
    assert MoneyBack.of([(300, "succeeded")], [], charge_refunded_cents=200).refunded_cents == 300
    assert MoneyBack.of([(500, "failed")], [], charge_refunded_cents=500).refunded_cents == 0


def test_what_a_charge_says_beyond_the_refunds_that_are_known_was_refunded_too() -> None:
    assert MoneyBack.of([(300, "succeeded")], [], charge_refunded_cents=500).refunded_cents == 500
    assert MoneyBack.of([(300, "failed")], [], charge_refunded_cents=500).refunded_cents == 200
    assert MoneyBack.of([(300, "failed"), (150, "succeeded")], [], charge_refunded_cents=500).refunded_cents == 200


@pytest.mark.parametrize("status", ["pending", "requires_action", "failed", "canceled"])
def test_only_refunds_that_succeeded_count(status: Any) -> None:
    assert MoneyBack.of([(300, status), (200, "succeeded")], []).refunded_cents == 200


def test_disputes_count_by_what_was_withdrawn_and_has_not_come_back() -> None:
    back = MoneyBack.of([], [("open", 100, 0), ("lost", 200, 0), ("won", 300, 300), ("harmless", 0, 0)])

    assert (back.disputed_cents, back.lost_cents) == (100, 200)


# --- Always ---

cents = st.integers(0, 1_200)
backs = st.builds(MoneyBack, refunded_cents=cents, lost_cents=cents, disputed_cents=cents)
policies = st.builds(
    Policies, refund=st.sampled_from(["forgive", "debt"]), dispute=st.sampled_from(["forgive", "debt"])
)


@given(
    granted=st.integers(1, 10**9), part=st.fractions(0, 1), paid=st.integers(0, 1_000), back=backs, policies=policies
)
def test_the_target_is_the_closed_form(
    granted: int, part: Fraction, paid: int, back: MoneyBack, policies: Policies
) -> None:
    """Written down a second time, with fractions, from the rule as it is stated."""
    unspent = int(granted * part)
    withdrawn = back.lost_cents + back.disputed_cents

    def gone(of_cents: int) -> int:
        return 0 if paid == 0 else ceil(Fraction(granted) * min(of_cents, paid) / paid)

    in_all = gone(back.refunded_cents + withdrawn)
    short = in_all - min(in_all, unspent)
    under_disputes = min(short, gone(withdrawn))
    now_owed = min(under_disputes, gone(back.lost_cents))
    expected = 0
    if policies.dispute == "debt":
        expected += now_owed
    if policies.refund == "debt":
        expected += short - under_disputes

    aim = target(granted, unspent, paid, back, policies)

    assert (aim.tokens, aim.from_lot_tokens, aim.owed_tokens) == (in_all, min(in_all, unspent), expected)
    assert aim.from_lot_tokens + aim.owed_tokens + aim.forgiven_tokens + aim.pending_tokens == aim.tokens
    assert min(aim.from_lot_tokens, aim.owed_tokens, aim.forgiven_tokens, aim.pending_tokens) >= 0


@st.composite
def shops(draw: st.DrawFn) -> Any:
    """How to open a shop: lots of one payment, gifts beside them, and what was spent before the money moved."""
    paid = draw(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 400), st.booleans()), min_size=1, max_size=3))
    gifts = draw(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=2))
    spent = draw(st.integers(0, 1_500))
    chosen = draw(policies)

    def opened() -> Shop:
        shop = Shop(policies=chosen)
        for tokens, price, dies in paid:
            shop.buy(tokens, cents=price, expires_at=NOW + days(10) if dies else None)
        for tokens, dies in gifts:
            shop.gift(tokens, expires_at=NOW + days(5) if dies else None)
        shop.book.do(record(spent))
        return shop

    return opened


def summary(shop: Shop) -> Any:
    lots = [(lot.lot if lot.kind != "refund" else 0, lot.remaining, lot.expires_at) for lot in shop.book.account.lots]
    return shop.book.balance, shop.book.account.debt, sorted(lots, key=str)


@given(opened=shops(), on_the_way=st.lists(backs, max_size=4), last=backs)
def test_the_way_there_does_not_matter(opened: Any, on_the_way: Sequence[MoneyBack], last: MoneyBack) -> None:
    """However the money moved to and fro, lots, debt and balance are those of its last state alone."""
    straight, winding = opened(), opened()
    for back in on_the_way:
        winding.reverse(back)

    straight.reverse(last)
    winding.reverse(last)

    assert summary(winding) == summary(straight)


@given(opened=shops(), on_the_way=st.lists(backs, max_size=4))
def test_money_that_returned_leaves_everything_as_it_was(opened: Any, on_the_way: Iterable[MoneyBack]) -> None:
    untouched, reversed_ = opened(), opened()
    for back in [*on_the_way, MoneyBack()]:
        reversed_.reverse(back)

    assert summary(reversed_) == summary(untouched)


steps = st.lists(
    st.one_of(
        backs,
        st.integers(1, 300).map(record),
        st.integers(1, 300).map(grant),
        st.integers(1, 4).map(days),
    ),
    max_size=12,
)


@given(opened=shops(), steps=steps, last=backs)
def test_with_spends_between_the_tokens_gone_are_those_of_the_closed_form(
    opened: Any, steps: Any, last: MoneyBack
) -> None:
    """Spends, gifts and deaths between: each lot has lost what the rule says of its last state, no more and no less."""
    shop: Shop = opened()
    at = NOW
    for step in [*steps, last]:
        if isinstance(step, MoneyBack):
            shop.reverse(step, at=at)
        elif isinstance(step, type(days(1))):
            at += step
        elif isinstance(step, Grant):
            shop.keep(shop.book.do(step, at=at).lot)
        else:
            shop.book.do(step, at=at)
    shop.book.do(sweep(), at=at)
    assert shop.reverse(last, at=at) == []  # Nothing is left to do.

    paid_in_all = sum(lot.paid_cents or 0 for lot in shop.lots.values() if lot.payment_id == PAYMENT)
    for number, lot in shop.lots.items():
        if lot.payment_id != PAYMENT:
            continue
        rows: list[Any] = [row for row in shop.book.rows if _reverses(row, number)]
        posted = -sum(row.token_amount for row in rows)
        taken = sum(row.metadata["from_lot_tokens"] for row in rows)
        expired = -sum(_amount(row) for row in shop.book.rows if _is_death_of(row, number))
        alive = shop.book.left.get(number, 0)
        aim = target(lot.granted, alive + taken + expired, paid_in_all, last, shop.policies)
        least = max(aim.from_lot_tokens - expired, 0)
        # Of a dead lot, what was taken while it lived may stay taken: it would have expired.
        assert taken == least or (lot.is_due(at) and least <= taken <= aim.from_lot_tokens)
        assert posted == taken + aim.owed_tokens
    assert shop.book.balance == sum(_amount(row) for row in shop.book.rows)


def _reverses(row: Any, lot: int) -> bool:
    return isinstance(row, Transaction) and row.transaction_type == "refund" and row.reverses_seq == lot


def _is_death_of(row: Any, lot: int) -> bool:
    return isinstance(row, Transaction) and row.transaction_type == "expiration" and row.lot_moves[0][0] == lot


def _amount(row: Any) -> int:
    return int(row.token_amount if isinstance(row, Transaction) else -row.tokens_used)


def test_policies_are_two() -> None:
    assert set(Policy.__args__) == {"forgive", "debt"}  # type: ignore[attr-defined]  # a Literal's
    assert Policies() == Policies(refund="forgive", dispute="debt", freezes=False)


def test_facts_are_values() -> None:
    lot = BoughtLot(lot=Lot(lot=1, kind="purchase", granted=5, remaining=5, effective_at=NOW), owed=((None, 3), (2, 4)))

    assert lot.owed_tokens == 7
    assert Bought(payment_id="pi", paid_cents=1, lots=(lot,), back=MoneyBack()).others == {}
