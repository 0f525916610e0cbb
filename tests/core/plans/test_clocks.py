"""Clocks: how a subscription stands by its history, which cycles are owed, and how paid periods are numbered."""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import ALICE, MOMENT, NOW, boundary, days
from tokentill.core.plans.catalog import CYCLE, EXAMPLE, YEAR, Plan
from tokentill.core.plans.clocks import (
    History,
    PaidPeriod,
    State,
    cycles_coming,
    cycles_due,
    cycles_in,
    fits,
    known_period,
    place,
    standing,
    trial_begins_at,
)
from tokentill.core.plans.subscriptions import Subscription, SubscriptionStatus

MONTHLY = Subscription(
    user_id=ALICE.user_id, subscription_id="monthly", plan_key="vision_pro_28day", billed_by="clock", anchor=NOW
)
DRIP, ANNUAL = EXAMPLE.only_plan("drip"), EXAMPLE.only_plan("annual")
NOTHING = History()


def state(at: datetime, status: SubscriptionStatus | None, told_by: str = "evt", **rest: Any) -> State:
    return State(at=at, told_by=told_by, status=status, **rest)


def states(*told: State, given: Iterable[int] = ()) -> History:
    return History(states=told, given=frozenset(given))


def period(first_cycle: int, starts_at: datetime, length: timedelta = YEAR, **rest: Any) -> PaidPeriod:
    cycles_count = cycles_in(DRIP, starts_at, starts_at + length)
    made = {"plan_key": DRIP.key, "cycles_count": cycles_count, "invoice_id": f"in_{first_cycle}", "payment_id": "pi",
            "amount_paid_cents": 99_900, "currency": "usd", "paid_at": starts_at}  # fmt: skip
    return PaidPeriod(first_cycle=first_cycle, starts_at=starts_at, ends_at=starts_at + length, **{**made, **rest})


def due(history: History, at: datetime, subscription: Subscription = MONTHLY) -> list[int]:
    return [owed.cycle.number for owed in cycles_due(subscription, history, at=at)]


# -- our own clock ----------------------------------------------------------------------------------------------------


def test_a_cycle_is_due_from_the_very_instant_it_starts() -> None:
    assert due(NOTHING, NOW - MOMENT) == []
    assert due(NOTHING, NOW) == [1]


def test_every_missed_cycle_is_due_oldest_first() -> None:
    assert due(states(given=[1, 2]), boundary(5)) == [3, 4, 5]


def test_a_cycle_that_was_given_is_not_due_again_and_one_that_was_left_out_is() -> None:
    assert due(states(given=[1, 2, 3, 4, 5]), boundary(5)) == []
    assert due(states(given=[1, 2, 4, 5]), boundary(5)) == [3]


def test_a_cycle_is_due_when_its_plans_length_is_over() -> None:
    yearly = replace(MONTHLY, plan_key=ANNUAL.key)
    found = cycles_due(yearly, states(given=[1]), at=NOW + days(800), length=YEAR)

    assert [owed.cycle.number for owed in found] == [2, 3]


def test_what_stripe_bills_every_cycle_is_never_due_by_our_clock() -> None:
    stripes = replace(MONTHLY, billed_by="stripe")
    paid = History(periods=(period(1, NOW, CYCLE), period(2, boundary(2), CYCLE)), given=frozenset({1, 2}))

    assert due(NOTHING, boundary(5), stripes) == []
    assert due(paid, boundary(5), stripes) == []


# -- status -----------------------------------------------------------------------------------------------------------


def test_nothing_is_due_that_begins_at_or_after_the_cancellation() -> None:
    canceled = states(state(boundary(3), "canceled"))

    assert due(canceled, boundary(9)) == [1, 2]
    assert due(states(state(boundary(3) + MOMENT, "canceled")), boundary(9)) == [1, 2, 3]


def test_what_begins_while_past_due_waits_and_is_given_when_it_is_active_again() -> None:
    late = state(boundary(2) - days(1), "past_due", "a")
    paid = state(boundary(4) + days(1), "active", "b")

    assert due(states(late), boundary(4)) == [1]
    assert due(states(late, paid), boundary(4) + days(1) - MOMENT) == [1]
    assert due(states(late, paid), boundary(4) + days(1)) == [1, 2, 3, 4]


def test_what_waited_when_it_was_canceled_is_never_given() -> None:
    told = (state(boundary(2) - days(1), "past_due"), state(boundary(3), "canceled"))

    assert due(states(*told), boundary(9)) == [1]


def test_what_was_owed_before_the_cancellation_is_given_however_late_somebody_asks() -> None:
    told = (
        state(boundary(2) - days(1), "past_due", "a"),
        state(boundary(2) + days(1), "active", "b"),
        state(boundary(2) + days(2), "canceled", "c"),
    )

    assert due(states(*told), boundary(9)) == [1, 2]


def test_what_begins_while_paused_is_left_out_for_good() -> None:
    told = (state(boundary(2) - days(1), "paused", "a"), state(boundary(3) + days(1), "active", "b"))

    assert due(states(*told), boundary(5)) == [1, 4, 5]


def test_what_waited_before_a_pause_is_given_after_it() -> None:
    told = (
        state(boundary(2) - days(1), "past_due", "a"),
        state(boundary(3) - days(1), "paused", "b"),
        state(boundary(4) - days(1), "active", "c"),
    )

    assert due(states(*told), boundary(4)) == [1, 2, 4]


def test_an_announced_end_ends_it_then_unless_newer_news_takes_it_back() -> None:
    ending = state(boundary(2), "active", "a", cancel_at=boundary(4))
    staying = state(boundary(3), "active", "b")

    assert due(states(ending), boundary(9)) == [1, 2, 3]
    assert due(states(ending, staying), boundary(5)) == [1, 2, 3, 4, 5]


def test_it_ended_when_it_ended_though_the_news_was_made_some_seconds_later() -> None:
    ended = state(boundary(3) + timedelta(seconds=5), "canceled", cancel_at=boundary(3))

    assert due(states(ended), boundary(9)) == [1, 2]
    assert due(states(replace(ended, cancel_at=boundary(7))), boundary(9)) == [1, 2, 3]


def test_of_several_states_with_one_time_the_gravest_of_the_fixed_order_counts() -> None:
    order: list[SubscriptionStatus] = ["past_due", "paused", "active", "canceled"]
    for worse, better in itertools.pairwise(order):
        for told_by in ("ab", "ba"):
            told = (state(NOW, worse, told_by[0]), state(NOW, better, told_by[1]))
            assert standing(states(*told)).status == better


def test_a_paid_invoice_ends_past_due_and_wakes_nothing_that_was_paused_or_canceled() -> None:
    paid = period(1, NOW, CYCLE, paid_at=NOW + days(3))
    for before, after in (("past_due", "active"), ("paused", "paused"), ("canceled", "canceled")):
        told = state(NOW + days(2), before, stripe_status=before)  # type: ignore[arg-type]
        found = standing(History(states=(told,), periods=(paid,)))
        assert (found.status, found.stripe_status) == (after, after)


def test_an_older_payment_does_not_end_what_came_after_it() -> None:
    told = state(NOW + days(4), "past_due")

    assert standing(History(states=(told,), periods=(period(1, NOW, paid_at=NOW + days(3)),))).status == "past_due"


def test_a_state_that_says_nothing_of_the_status_leaves_it() -> None:
    told = (state(NOW, "paused", plan_key="a"), state(NOW + days(1), None, plan_key="b", is_trial=True))

    assert standing(states(*told)).status == "paused"
    assert standing(states(*told)).announced_plan_key == "a"


def test_a_trial_begins_when_it_is_said_exactly_else_when_the_earliest_news_of_it_was() -> None:
    provisional = state(NOW + days(2), None, "a", is_trial=True, occurred_at=NOW + days(2))
    earlier = state(NOW + days(3), "active", "b", is_trial=True, occurred_at=NOW + days(1))
    exact = state(NOW + days(1), "active", "c", trial_starts_at=NOW)

    assert trial_begins_at(states(exact)) is None
    assert trial_begins_at(states(provisional, earlier)) == NOW + days(1)
    assert trial_begins_at(states(exact, provisional, earlier)) == NOW


# -- paid periods that are longer than a cycle -------------------------------------------------------------------------


def test_a_paid_year_owes_the_thirteen_cycles_that_lie_wholly_within_it() -> None:
    year = History(periods=(period(1, NOW),), given=frozenset({1}))

    assert due(year, NOW + days(900)) == list(range(2, 14))


def test_the_first_cycle_of_a_period_is_its_invoices_to_give_and_the_clock_waits_for_it() -> None:
    assert due(History(periods=(period(1, NOW),)), NOW + days(900)) == []


def test_the_next_year_counts_from_its_own_beginning() -> None:
    second = period(14, NOW + days(365))
    found = cycles_due(MONTHLY, History(periods=(period(1, NOW), second), given=frozenset({1, 14})), at=NOW + days(800))
    starts = {owed.cycle.number: owed.cycle.starts_at for owed in found}

    assert list(starts) == [*range(2, 14), *range(15, 27)]
    assert starts[15] == NOW + days(365) + CYCLE


def test_a_period_ends_where_the_next_one_begins() -> None:
    upgraded = period(14, NOW + days(60), YEAR, plan_key=ANNUAL.key, cycles_count=1)
    history = History(periods=(period(1, NOW), upgraded), given=frozenset({1, 14}))

    assert due(history, NOW + days(900)) == [2, 3]


def test_what_was_paid_is_shared_by_cycle_without_losing_a_cent() -> None:
    year = period(1, NOW)

    assert sum(year.cents_of(number) for number in range(1, 14)) == 99_900
    assert year.cents_of(2) == 7_684


@pytest.mark.parametrize(
    ("length", "cycles_count"), [(26, 1), (28, 1), (31, 1), (56, 2), (91, 3), (364, 13), (365, 13), (366, 13)]
)
def test_a_period_holds_the_cycles_that_lie_wholly_within_it(length: int, cycles_count: int) -> None:
    assert cycles_in(DRIP, NOW, NOW + days(length)) == cycles_count
    assert cycles_in(ANNUAL, NOW, NOW + days(length)) == 1


def test_a_period_that_holds_one_cycle_is_that_cycle_to_the_second() -> None:
    month = period(4, NOW, days(31))

    assert month.cycle(4).ends_at == NOW + days(31)


# -- numbers ----------------------------------------------------------------------------------------------------------


def placed(
    subscription: Subscription, starts: list[datetime], *, plan: Plan = DRIP, length: timedelta = CYCLE
) -> tuple[Subscription, History]:
    """Place these periods one after the other, as their invoices would come."""
    history = NOTHING
    for start in starts:
        if known_period(history, plan, start):
            continue
        cycles_count = cycles_in(plan, start, start + length)
        subscription, number = place(
            subscription, plan, history, start, cycles_count=cycles_count, is_first=start == min(starts)
        )
        one = period(number, start, length, plan_key=plan.key, cycles_count=cycles_count)
        history = History(periods=(*history.periods, one))
    return subscription, history


FRESH = replace(MONTHLY, billed_by="stripe", is_anchor_known=False)


@pytest.mark.parametrize("beside", [timedelta(0), timedelta(days=-2), timedelta(days=2)])
def test_a_paid_period_fits_where_a_cycle_begins_or_nearly(beside: timedelta) -> None:
    assert fits(MONTHLY, DRIP, boundary(4) + beside)


def test_a_period_of_another_billing_day_or_plan_does_not_fit() -> None:
    assert not fits(MONTHLY, DRIP, boundary(4) + days(3))
    assert not fits(MONTHLY, DRIP, boundary(4) - days(3))
    assert not fits(MONTHLY, ANNUAL, boundary(1))


def test_the_first_paid_period_is_cycle_1_whatever_anchor_stood_there() -> None:
    subscription, number = place(
        replace(FRESH, anchor=NOW - days(56)), DRIP, NOTHING, NOW, cycles_count=1, is_first=True
    )

    assert (number, subscription.anchor, subscription.anchor_cycle, subscription.is_anchor_known) == (1, NOW, 1, True)


def test_so_is_the_first_after_a_trial_though_stripe_calls_it_a_renewal() -> None:
    trial = states(state(NOW - days(56), "active", trial_starts_at=NOW - days(56), trial_ends_at=NOW))

    _, number = place(replace(FRESH, anchor=NOW - days(56)), DRIP, trial, NOW, cycles_count=1, is_first=False)

    assert number == 1


def test_of_a_renewal_it_is_not_known_how_many_there_were_before() -> None:
    assert place(FRESH, DRIP, NOTHING, NOW, cycles_count=1, is_first=False)[1] == 2
    assert place(FRESH, DRIP, NOTHING, NOW, cycles_count=13, is_first=False)[1] == 14


@given(order=st.permutations(range(5)), length=st.sampled_from([28, 30, 31, 56, 91, 365]))
def test_periods_have_numbers_of_their_own_in_whatever_order_they_are_told(order: list[int], length: int) -> None:
    starts = [NOW + days(length) * number for number in order]
    _, history = placed(FRESH, starts, length=days(length))

    numbers = [number for one in history.periods for number in range(one.first_cycle, one.last_cycle + 1)]
    assert len(history.periods) == 5
    assert len(set(numbers)) == len(numbers)


def test_a_period_that_is_told_twice_or_by_another_invoice_is_one_period() -> None:
    _, history = placed(FRESH, [NOW, NOW, NOW + timedelta(hours=5), boundary(2)])

    assert [one.first_cycle for one in history.periods] == [1, 2]


def test_a_new_plan_counts_on_from_its_own_period_and_late_news_of_the_old_one_changes_nothing() -> None:
    subscription, history = placed(FRESH, [NOW, boundary(2)])
    upgrade = NOW + days(40)
    subscription, number = place(subscription, ANNUAL, history, upgrade, cycles_count=1, is_first=False)
    assert (number, subscription.plan_key, subscription.anchor) == (3, ANNUAL.key, upgrade)

    after = History(periods=(history.periods[0], period(3, upgrade, YEAR, plan_key=ANNUAL.key, cycles_count=1)))
    late, number = place(subscription, DRIP, after, boundary(2), cycles_count=1, is_first=False)

    assert (late, number) == (subscription, 2)


# -- laws -------------------------------------------------------------------------------------------------------------

moments = st.integers(0, 400).map(lambda day: NOW + days(day))
told_states = st.builds(
    State,
    at=moments,
    told_by=st.text("abcdefgh", min_size=8, max_size=8),
    status=st.sampled_from(["active", "past_due", "paused", "canceled", None]),
    cancel_at=st.none() | moments,
)
histories = st.builds(
    lambda told, is_paid: History(
        states=tuple({(one.at, one.told_by): one for one in told}.values()),
        periods=(period(1, NOW), period(14, NOW + days(365))) if is_paid else (),
        given=frozenset({1, 14}) if is_paid else frozenset(),
    ),
    st.lists(told_states, max_size=6),
    st.booleans(),
)


@given(history=histories, seed=st.randoms(), at=moments)
def test_the_order_in_which_states_are_learnt_does_not_matter(history: History, seed: Any, at: datetime) -> None:
    shuffled, periods = list(history.states), list(history.periods)
    seed.shuffle(shuffled)
    seed.shuffle(periods)
    again = replace(history, states=tuple(shuffled), periods=tuple(periods))

    assert standing(again) == standing(history)
    assert list(cycles_due(MONTHLY, again, at=at)) == list(cycles_due(MONTHLY, history, at=at))


@given(history=histories, stops=st.lists(moments, max_size=5), end=moments)
def test_running_late_gives_what_running_on_time_gives(history: History, stops: list[datetime], end: datetime) -> None:
    """Somebody who runs at each stop, with what was told by then, has given the same in the end as who runs at once.

    An end that was announced and taken back later is left out: before it was taken back, it was the truth.
    """
    history = replace(history, states=tuple(replace(one, cancel_at=None) for one in history.states))
    given_so_far = history.given
    for stop in [*sorted(stop for stop in stops if stop < end), end]:
        known = replace(
            history,
            states=tuple(one for one in history.states if one.at <= stop),
            given=given_so_far,
        )
        given_so_far |= {owed.cycle.number for owed in cycles_due(MONTHLY, known, at=stop)}

    assert given_so_far == history.given | {owed.cycle.number for owed in cycles_due(MONTHLY, history, at=end)}


@given(history=histories, at=moments)
def test_cycles_are_owed_in_the_order_in_which_they_begin(history: History, at: datetime) -> None:
    coming = list(itertools.islice(cycles_coming(MONTHLY, history), 40))

    assert coming == sorted(coming, key=lambda owed: owed.cycle.starts_at)
    assert coming == sorted(coming, key=lambda owed: owed.owed_at)
    assert all(owed.owed_at >= owed.cycle.starts_at for owed in coming)


def test_what_is_active_and_canceled_at_one_moment_was_never_active_then() -> None:
    later = NOW + timedelta(days=1)
    history = History(states=(state(NOW, "past_due"), state(later, "active", "a"), state(later, "canceled", "b")))

    assert due(history, later) == []


@given(history=histories, at=moments)
def test_by_an_independent_count_what_begins_while_active_is_due(history: History, at: datetime) -> None:
    """Told again in the plainest words, for subscriptions that nobody pays for and that have no announced end."""
    plain = History(states=tuple(replace(one, cancel_at=None) for one in history.states))
    rank = ["past_due", "paused", "active", "canceled"]
    told = sorted((one.at, rank.index(one.status), one.status) for one in plain.states if one.status)

    def status_at(when: datetime) -> str:
        return next((status for since, _, status in reversed(told) if since <= when), "active")

    expected = []
    for number in range(1, 40):
        start = NOW + timedelta(days=28) * (number - 1)
        if start > at:
            break
        if status_at(start) == "active":
            expected.append(number)
        elif status_at(start) == "past_due":
            after = [status_at(since) for since, _, _ in told if start < since <= at]
            deciding = next((status for status in after if status in ("active", "canceled")), None)
            expected += [number] if deciding == "active" else []

    assert due(plain, at) == expected
