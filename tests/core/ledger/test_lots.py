"""Lots: when one can be spent, which burns first, and how a spend draws them down."""

from datetime import datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import MOMENT, NOW, days, make_lot
from tokentill.core.ledger.lots import Lot, LotMoves, plan_drawdown
from tokentill.core.values import replace


def burned(*lots: Lot, at: datetime = NOW) -> list[int]:
    """Return the names of the lots in the order in which they burn."""
    everything = sum(lot.remaining for lot in lots)
    return [lot for lot, _ in plan_drawdown(lots, everything, at=at).moves]


# -- alive and dead --------------------------------------------------------------------------------------------------


def test_a_lot_is_dead_at_the_very_instant_it_expires() -> None:
    lot = make_lot(1, 100, expires_at=NOW, effective_at=NOW - days(1))

    assert plan_drawdown([lot], 1, at=NOW - MOMENT).shortfall_tokens == 0
    assert plan_drawdown([lot], 1, at=NOW).shortfall_tokens == 1


def test_a_lot_is_due_from_the_instant_it_expires() -> None:
    lot = make_lot(1, 100, expires_at=NOW)

    assert not lot.is_due(NOW - MOMENT)
    assert lot.is_due(NOW)


def test_a_lot_is_alive_from_the_very_instant_it_begins() -> None:
    lot = make_lot(1, 100, effective_at=NOW)

    assert plan_drawdown([lot], 1, at=NOW).shortfall_tokens == 0
    assert plan_drawdown([lot], 1, at=NOW - MOMENT).shortfall_tokens == 1


def test_a_lot_without_expiry_is_never_due() -> None:
    assert not make_lot(1, 100).is_due(NOW + days(365_000))


def test_an_empty_lot_is_not_spendable() -> None:
    assert not make_lot(1, 0).is_spendable(NOW)


@pytest.mark.parametrize(("paid_cents", "is_paid"), [(None, False), (0, False), (1, True)])
def test_a_lot_is_paid_when_money_was_paid_for_it(paid_cents: int | None, is_paid: bool) -> None:
    assert make_lot(1, 100, paid_cents=paid_cents).is_paid is is_paid


# -- burn order: in each of these the lot that should come second has everything else in its favour --------------------


def test_the_lower_priority_number_burns_first() -> None:
    assert burned(make_lot(1, 10, priority=51), make_lot(2, 10, priority=50)) == [2, 1]


def test_priority_outranks_expiry() -> None:
    soon = make_lot(1, 10, priority=51, expires_at=NOW + days(1))

    assert burned(soon, make_lot(2, 10, priority=50)) == [2, 1]


def test_the_soonest_to_expire_burns_first() -> None:
    later = make_lot(1, 10, expires_at=NOW + days(2))

    assert burned(later, make_lot(2, 10, expires_at=NOW + days(1))) == [2, 1]


def test_what_never_expires_burns_last() -> None:
    assert burned(make_lot(1, 10), make_lot(2, 10, expires_at=NOW + days(36_500))) == [2, 1]


def test_expiry_outranks_who_paid() -> None:
    paid = make_lot(2, 10, expires_at=NOW + days(1), paid_cents=9_900)

    assert burned(make_lot(1, 10, expires_at=NOW + days(2)), paid) == [2, 1]


def test_a_gift_burns_before_what_was_paid_for() -> None:
    paid = make_lot(1, 10, paid_cents=9_900, effective_at=NOW - days(1))

    assert burned(paid, make_lot(2, 10)) == [2, 1]


def test_of_two_alike_the_older_burns_first() -> None:
    younger = make_lot(1, 10, effective_at=NOW)

    assert burned(younger, make_lot(2, 10, effective_at=NOW - days(1))) == [2, 1]


@pytest.mark.parametrize("order", [(3, 7, 12), (12, 7, 3), (7, 12, 3)])
def test_a_tie_goes_to_the_lot_that_was_opened_first_however_they_arrive(order: tuple[int, ...]) -> None:
    assert burned(*(make_lot(number, 10) for number in order)) == [3, 7, 12]


# -- drawdown ----------------------------------------------------------------------------------------------------------


def drawn(lots: list[Lot], tokens: int) -> tuple[LotMoves, int]:
    plan = plan_drawdown(lots, tokens, at=NOW)
    return plan.moves, plan.shortfall_tokens


def test_a_spend_takes_no_more_than_it_needs() -> None:
    assert drawn([make_lot(1, 100)], 60) == (((1, -60),), 0)


def test_a_spend_goes_on_to_the_next_lot_when_the_first_is_used_up() -> None:
    lots = [make_lot(1, 100, expires_at=NOW + days(1)), make_lot(2, 500)]

    assert drawn(lots, 150) == (((1, -100), (2, -50)), 0)


def test_a_spend_that_a_lot_just_covers_leaves_the_next_lot_alone() -> None:
    lots = [make_lot(1, 100, expires_at=NOW + days(1)), make_lot(2, 500)]

    assert drawn(lots, 100) == (((1, -100),), 0)


def test_what_no_lot_covers_is_the_shortfall() -> None:
    assert drawn([make_lot(1, 100)], 130) == (((1, -100),), 30)


def test_without_lots_everything_is_short() -> None:
    assert drawn([], 5) == ((), 5)


def test_nothing_draws_on_nothing() -> None:
    assert drawn([make_lot(1, 100)], 0) == ((), 0)


lots = st.lists(
    st.builds(
        make_lot,
        st.integers(1, 10**6),
        st.integers(0, 100),
        priority=st.sampled_from([10, 50]),
        effective_at=st.sampled_from([NOW - days(2), NOW - days(1), NOW, NOW + days(1)]),
        expires_at=st.sampled_from([None, NOW, NOW + days(3), NOW + days(4)]),
        paid_cents=st.sampled_from([None, 0, 990]),
    ),
    max_size=8,
    unique_by=lambda lot: lot.lot,
)


@given(lots=lots, tokens=st.integers(0, 900), seed=st.randoms())
def test_the_order_in_which_lots_arrive_does_not_matter(lots: list[Lot], tokens: int, seed: Random) -> None:
    shuffled = list(lots)
    seed.shuffle(shuffled)

    assert plan_drawdown(lots, tokens, at=NOW) == plan_drawdown(shuffled, tokens, at=NOW)


@given(lots=lots, first=st.integers(0, 400), second=st.integers(0, 400))
def test_two_spends_draw_what_one_of_both_sizes_draws(lots: list[Lot], first: int, second: int) -> None:
    """Splitting a spend gains nothing and loses nothing."""

    def after(lots: list[Lot], tokens: int) -> list[Lot]:
        taken = {lot: -taken for lot, taken in plan_drawdown(lots, tokens, at=NOW).moves}
        return [replace(lot, remaining=lot.remaining - taken.get(lot.lot, 0)) for lot in lots]

    assert after(after(lots, first), second) == after(lots, first + second)


@given(lots=lots, tokens=st.integers(0, 900))
def test_what_is_left_is_what_no_move_took(lots: list[Lot], tokens: int) -> None:
    plan = plan_drawdown(lots, tokens, at=NOW)
    taken = {lot: -taken for lot, taken in plan.moves}

    assert {lot.lot: lot.remaining for lot in plan.left} == {
        lot.lot: lot.remaining - taken.get(lot.lot, 0) for lot in lots if lot.remaining != taken.get(lot.lot)
    }
    assert sum(taken.values()) + plan.shortfall_tokens == tokens
