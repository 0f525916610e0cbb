"""Clocks: how a subscription stands by all that was told of it, and which cycles our own clock owes it.

Everything here follows from a `History`, a set: in whatever order its parts were learnt, and however late somebody
asks, the answers are the same.

* The newest state counts, by the time at which it was so. Of several with one time: canceled, active, paused, past due.
* A paid invoice ends "past due". It does not wake what was paused, nor what was canceled.
* A cycle that begins while the subscription is active is owed then. One that begins while it is past due is owed once
  it is active again, unless it is canceled first. One that begins while it is paused, or after it was canceled, never.
* A paid period that is longer than two cycles owes every cycle that lies wholly within it, up to where the next paid
  period begins. Its first cycle is given by its invoice, and before that the clock gives none of it.
* Without any paid period a subscription of our own clock goes on from its anchor for ever.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise, takewhile
from typing import Literal

from tokentill.core.plans.catalog import CYCLE, Plan
from tokentill.core.plans.subscriptions import Cycle, Subscription, SubscriptionStatus, cycle_at, cycle_of
from tokentill.core.values import replace

# How far a paid period may begin beside our own count: a year of 366 days, seconds of a checkout, a retried payment.
BESIDE_MAX = timedelta(days=2)

TRIAL_CYCLE = 0  # What a trial's lot bears: it comes before the first cycle.

_RANKS: dict[SubscriptionStatus | None, int] = {None: 0, "past_due": 1, "paused": 2, "active": 3, "canceled": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a subscription stood at one moment, as an event or an act of ours told it. None: it did not say."""

    at: datetime
    told_by: str  # The event, or till:… for an act of ours.
    status: SubscriptionStatus | None = None
    stripe_status: str | None = None
    plan_key: str | None = None
    is_trial: bool = False
    trial_starts_at: datetime | None = None
    trial_ends_at: datetime | None = None
    cancel_at: datetime | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidPeriod:
    """A period of a plan that an invoice paid, and which cycles it holds: `cycles_count` of them, numbered on."""

    starts_at: datetime
    ends_at: datetime  # Exclusive.
    plan_key: str
    first_cycle: int
    cycles_count: int
    invoice_id: str
    payment_id: str
    amount_paid_cents: int
    currency: str
    paid_at: datetime

    @property
    def last_cycle(self) -> int:
        return self.first_cycle + self.cycles_count - 1

    def cycle(self, number: int) -> Cycle:
        """Return a cycle of it: 28 days, or all of it if it holds only one."""
        if self.cycles_count == 1:
            return Cycle(self.first_cycle, self.starts_at, self.ends_at)
        starts_at = self.starts_at.astimezone(UTC) + CYCLE * (number - self.first_cycle)
        return Cycle(number, starts_at, starts_at + CYCLE)

    def cents_of(self, number: int) -> int:
        """Return this cycle's part of what was paid; the first one takes what rounding leaves."""
        share = self.amount_paid_cents // self.cycles_count
        return share if number != self.first_cycle else self.amount_paid_cents - share * (self.cycles_count - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is known of one subscription."""

    states: tuple[State, ...] = ()
    periods: tuple[PaidPeriod, ...] = ()
    given: frozenset[int] = frozenset()  # The numbers of the cycles that are in the books.


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a subscription stands by its whole history."""

    status: SubscriptionStatus
    status_at: datetime | None  # Since when; None: since it began.
    stripe_status: str | None
    paid_until: datetime | None
    trial_starts_at: datetime | None
    trial_ends_at: datetime | None
    cancel_at: datetime | None
    announced_plan_key: str | None


def standing(history: History) -> Standing:
    """Return how the subscription stands by all that was told, whatever the time is now."""
    told = [state for state in _in_order(history) if state.status is not None]
    newest = told[-1] if told else None
    turns = _turns(history)
    status: SubscriptionStatus = turns[-1][0] if turns else "active"
    stripe_status = newest.stripe_status if newest else None
    if newest and newest.stripe_status and newest.status == "past_due" and status == "active":
        stripe_status = "active"  # Paid since, and the event that says so is still to come.
    return Standing(
        status=status,
        status_at=turns[-1][1] if turns else None,
        stripe_status=stripe_status,
        paid_until=max((period.ends_at for period in history.periods), default=None),
        trial_starts_at=_newest(history, "trial_starts_at"),
        trial_ends_at=_newest(history, "trial_ends_at"),
        cancel_at=newest.cancel_at if newest else None,
        announced_plan_key=next((state.plan_key for state in reversed(told) if state.plan_key), None),
    )


def trial_begins_at(history: History) -> datetime | None:
    """Return when its trial began: exactly, if anything told it, else as far as is known. None: it has none."""
    if not any(state.is_trial for state in history.states):
        return None
    exactly = _newest(history, "trial_starts_at")
    provisional = [state.occurred_at for state in history.states if state.is_trial and state.occurred_at]
    return exactly or min(provisional, default=None)


def _in_order(history: History) -> list[State]:
    return sorted(history.states, key=lambda state: (state.at, _RANKS[state.status], state.told_by))


def _newest(history: History, name: Literal["trial_starts_at", "trial_ends_at"]) -> datetime | None:
    return next((found for state in reversed(_in_order(history)) if (found := getattr(state, name))), None)


_Turn = tuple[SubscriptionStatus, datetime]


def _turns(history: History) -> list[_Turn]:
    """Return every change of the status that was told or paid for, oldest first; before the first it is active."""
    # Of several states at one moment the last in rank is how it stood: the others lasted for no time at all.
    states = {state.at: state.status for state in _in_order(history) if state.status is not None}
    told: list[tuple[datetime, int, bool, SubscriptionStatus]] = [
        (at, _RANKS[status], False, status) for at, status in states.items()
    ]
    told += [(period.paid_at, _RANKS["active"], True, "active") for period in history.periods]
    turns: list[_Turn] = []
    status: SubscriptionStatus = "active"
    for at, _, is_payment, to in sorted(told):
        if to == status or (is_payment and status != "past_due"):
            continue
        status = to
        turns.append((status, at))
    return turns


def _foreseen_turns(history: History) -> list[_Turn]:
    """The same with its end: as announced, or, where the news of it was made some seconds later, as it was."""
    turns, ends_at = _turns(history), standing(history).cancel_at
    if ends_at is None:
        return turns
    if turns and turns[-1][0] == "canceled":
        ends_at = min(ends_at, turns[-1][1])
    return [*(turn for turn in turns if turn[1] < ends_at), ("canceled", ends_at)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A cycle that our clock owes from `owed_at` on."""

    cycle: Cycle
    owed_at: datetime
    plan_key: str
    period: PaidPeriod | None = None  # The paid period that it is a part of.


def cycles_coming(subscription: Subscription, history: History, length: timedelta = CYCLE) -> Iterator[Owed]:
    """Yield the cycles that were not given yet and are or will be owed as things stand, oldest first.

    Without an end for a subscription that nobody is paid for.
    """
    turns = _foreseen_turns(history)
    for cycle, period in _cycles(subscription, history, length):
        status, later = _status_at(turns, cycle.starts_at)
        if status != "active" and not later:
            return  # Only news can change that.
        owed_at = cycle.starts_at if status == "active" else _released_at(status, later)
        if owed_at is not None and cycle.number not in history.given:
            plan_key = period.plan_key if period else subscription.plan_key
            yield Owed(cycle=cycle, owed_at=owed_at, plan_key=plan_key, period=period)


def cycles_due(
    subscription: Subscription, history: History, *, at: datetime, length: timedelta = CYCLE
) -> Iterator[Owed]:
    """Yield the cycles that our clock owes by `at`, oldest first. Ask as often, as early or as late as you like."""
    # In order of when they are owed, too: what waited is owed before whatever begins after the wait.
    return takewhile(lambda owed: owed.owed_at <= at, cycles_coming(subscription, history, length))


def cycles_expected(subscription: Subscription, history: History, plan: Plan) -> Iterator[Cycle]:
    """Yield the cycles that would follow what is paid for so far, if it is paid for as before; they end with it.

    The clock gives none of them: each waits for its payment, or for the app to say that it has come.
    """
    now_is = standing(history)
    if now_is.status in ("paused", "canceled") or (subscription.billed_by == "clock" and not history.periods):
        return
    newest = max(history.periods, key=lambda period: period.ends_at, default=None)
    if newest is not None:
        number, starts_at = newest.last_cycle + 1, newest.ends_at
    else:
        given = subscription.cycle_number
        following = cycle_at(subscription, subscription.anchor_cycle if given is None else given + 1, plan.cycle)
        number, starts_at = following.number, following.starts_at
    while now_is.cancel_at is None or starts_at < now_is.cancel_at:
        yield Cycle(number, starts_at, starts_at + plan.cycle)
        number, starts_at = number + 1, starts_at + plan.cycle


def _cycles(
    subscription: Subscription, history: History, length: timedelta
) -> Iterator[tuple[Cycle, PaidPeriod | None]]:
    """Yield the cycles that the clock would give if the subscription were always active."""
    periods = sorted(history.periods, key=lambda period: period.starts_at)
    for period, following in pairwise([*periods, None]):
        assert period is not None
        for number in range(period.first_cycle + 1, period.last_cycle + 1):
            cycle = period.cycle(number)
            if period.first_cycle not in history.given or (following and cycle.starts_at >= following.starts_at):
                break
            yield cycle, period
    if not periods and subscription.billed_by == "clock":
        for number in count(subscription.anchor_cycle):
            yield cycle_at(subscription, number, length), None


def _status_at(turns: list[_Turn], at: datetime) -> tuple[SubscriptionStatus, list[_Turn]]:
    """Return the status at `at`, and how it goes on after that."""
    status: SubscriptionStatus = "active"
    for number, (to, since) in enumerate(turns):
        if since > at:
            return status, turns[number:]
        status = to
    return status, []


def _released_at(status: SubscriptionStatus, later: list[_Turn]) -> datetime | None:
    if status != "past_due":
        return None
    decisive = next((turn for turn in later if turn[0] in ("active", "canceled")), None)
    return decisive[1] if decisive and decisive[0] == "active" else None


# -- paid periods -----------------------------------------------------------------------------------------------------


def cycles_in(plan: Plan, starts_at: datetime, ends_at: datetime) -> int:
    """Return how many cycles of the plan lie wholly within a paid period; it pays for one at least."""
    return max((ends_at - starts_at) // plan.cycle, 1) if plan.kind == "drip" else 1


def fits(subscription: Subscription, plan: Plan, period_start: datetime) -> bool:
    """Whether a paid period is a cycle of the subscription as it runs: of this plan, and where a cycle begins.

    After a change of plan or of the billing day it is not, and the count begins anew from that period.
    """
    if subscription.plan_key != plan.key:
        return False
    cycle = cycle_at(subscription, cycle_of(subscription, period_start, plan.cycle), plan.cycle)
    return abs(cycle.starts_at - period_start) <= BESIDE_MAX


def known_period(history: History, plan: Plan, period_start: datetime) -> PaidPeriod | None:
    """Return the period that this is, told once more: two invoices for one period pay for one."""
    beside = (
        period
        for period in history.periods
        if period.plan_key == plan.key and abs(period.starts_at - period_start) <= BESIDE_MAX
    )
    return min(beside, key=lambda period: abs(period.starts_at - period_start), default=None)


def number_begun_at(subscription: Subscription, plan: Plan, history: History, at: datetime) -> int:
    """Return the number of the cycle that a checkout at `at` began, whose period it does not tell.

    If invoices came first, the count began with one of them, and may have begun anew since: the checkout's own period
    is then among the paid ones, or lies before the one that the count began with.
    """
    if period := known_period(history, plan, at):
        return period.first_cycle
    return cycle_of(subscription, at, plan.cycle) if subscription.is_anchor_known else 1


def place(
    subscription: Subscription,
    plan: Plan,
    history: History,
    period_start: datetime,
    *,
    cycles_count: int,
    is_first: bool,
) -> tuple[Subscription, int]:
    """Return the number of the first cycle of a period that is told for the first time, and how the count goes on.

    The subscription's anchor and plan follow the newest period. While nothing was given, they follow this one: cycle 1
    is the first period's, or the one after the trial; of any other it is not known how many there were before.
    """
    counts_from_here = replace(subscription, plan_key=plan.key, anchor=period_start, is_anchor_known=True)
    if not subscription.is_anchor_known:
        number = cycle_of(subscription, period_start, plan.cycle)
        if subscription.cycle_number is None:
            trial_ends_at = _newest(history, "trial_ends_at")
            is_first |= trial_ends_at is not None and abs(trial_ends_at - period_start) <= BESIDE_MAX
            number = 1 if is_first else 1 + cycles_count
        return replace(counts_from_here, anchor_cycle=number), number
    number = _next_number(subscription, plan, history, period_start, cycles_count)
    if fits(subscription, plan, period_start) or not _is_newest(subscription, history, period_start):
        return subscription, number
    return replace(counts_from_here, anchor_cycle=number), number


def _next_number(
    subscription: Subscription, plan: Plan, history: History, period_start: datetime, cycles_count: int
) -> int:
    """Return the number by the count as it runs, if the period fits into it, or into that of another paid period.

    Else the next that nobody has: above all others for the newest period, below them for one that is told late.
    """
    counts = [subscription]
    counts += [
        replace(subscription, plan_key=period.plan_key, anchor=period.starts_at, anchor_cycle=period.first_cycle)
        for period in sorted(history.periods, key=lambda period: abs(period.starts_at - period_start))
    ]
    for counted in counts:
        if fits(counted, plan, period_start):
            number = cycle_of(counted, period_start, plan.cycle)
            if not _is_taken(history, number, cycles_count):
                return number
    known = {subscription.anchor_cycle, subscription.cycle_number or subscription.anchor_cycle, *history.given}
    known |= {number for period in history.periods for number in (period.first_cycle, period.last_cycle)}
    if _is_newest(subscription, history, period_start):
        return max(known) + 1
    return min(known) - cycles_count


def _is_newest(subscription: Subscription, history: History, period_start: datetime) -> bool:
    return period_start >= max([subscription.anchor, *(period.starts_at for period in history.periods)])


def _is_taken(history: History, number: int, cycles_count: int) -> bool:
    last = number + cycles_count - 1
    return any(number <= period.last_cycle and period.first_cycle <= last for period in history.periods)
