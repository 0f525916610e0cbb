"""Drips: the cycles of a subscription, what rolls over from one to the next, and what is due.

Cycle n covers `[anchor + 28 d × (n − anchor_cycle), … + 28 d)`, where 28 d is 2,419,200 seconds whatever the time zone.
The lot of drip n dies at the start of cycle n + 1 + `rollover_cycles`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tokentill.core.account import Account, Loss
from tokentill.core.catalog import CYCLE, Plan
from tokentill.core.lots import Lot

SubscriptionStatus = Literal["active", "past_due", "paused", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What the till knows of one subscription. `anchor` is where cycle `anchor_cycle` starts.

    `is_anchor_known` is false while only a checkout has been seen: its time stands in for the period's start.
    `cycle_number` is the latest cycle that was granted; None: none yet.
    """

    user_id: UUID
    subscription_id: str
    plan_key: str
    status: SubscriptionStatus = "active"
    billed_by: Literal["stripe", "clock"]  # Who says that a cycle has come: paid invoices, or our own clock.
    anchor: datetime
    anchor_cycle: int = 1
    is_anchor_known: bool = True
    cycle_number: int | None = None
    stripe_customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of a subscription, half-open."""

    number: int
    starts_at: datetime
    ends_at: datetime


def cycle_at(subscription: Subscription, number: int, length: timedelta = CYCLE) -> Cycle:
    """Return cycle `number`."""
    starts_at = subscription.anchor + length * (number - subscription.anchor_cycle)
    return Cycle(number, starts_at, starts_at + length)


def cycle_of(subscription: Subscription, period_start: datetime, length: timedelta = CYCLE) -> int:
    """Return the number of the cycle that a paid period beginning at `period_start` is.

    The nearest one: a paid period may start some seconds or, in a year of 366 days, a day beside our own count.
    """
    return subscription.anchor_cycle + round((period_start - subscription.anchor) / length)


def lot_expires_at(cycle: Cycle, plan: Plan) -> datetime:
    """Return when the tokens of this cycle die: its end, and as many cycles later as the plan rolls over."""
    return cycle.ends_at + CYCLE * plan.rollover_cycles if plan.kind == "drip" else cycle.ends_at


def cycles_due(subscription: Subscription, *, at: datetime) -> Iterator[Cycle]:
    """Yield the cycles that have begun by `at` and were not granted yet, oldest first.

    Ask as often as you like: a cycle that was granted is not yielded again. Only a subscription that our own clock
    drives has any, and only while it is active.
    """
    if subscription.billed_by != "clock" or subscription.status != "active":
        return
    number = subscription.anchor_cycle if subscription.cycle_number is None else subscription.cycle_number + 1
    while (cycle := cycle_at(subscription, number)).starts_at <= at:
        yield cycle
        number += 1


@dataclass(frozen=True, slots=True)
class Rollover:
    """What a drip reports about the cycles before it."""

    tokens: int  # What earlier drips of this subscription left, alive at the boundary.
    cycles_count: int  # From how many cycles.
    expired_tokens: int  # What this subscription lost up to the boundary and no drip has reported.
    losses_left: tuple[Loss, ...]  # What the account keeps for later drips.


def rollover(account: Account, subscription_id: str, *, boundary: datetime) -> Rollover:
    """Return what `subscription_id` carries over `boundary`, as the boundary saw it.

    A drip that is caught up late may find that tokens which rolled over its boundary have died since; they were alive
    then, so they count here, and the drip at whose boundary they died reports the loss.
    """
    mine = [loss for loss in account.losses if loss.subscription_id == subscription_id]
    later = [loss for loss in mine if loss.expired_at > boundary]
    alive = [(lot.cycle_number, lot.remaining) for lot in rolled_lots(account, subscription_id, boundary=boundary)]
    alive += [(loss.cycle_number, loss.tokens) for loss in later]
    return Rollover(
        tokens=sum(tokens for _, tokens in alive),
        cycles_count=len({cycle for cycle, _ in alive}),
        expired_tokens=sum(loss.tokens for loss in mine if loss.expired_at <= boundary),
        losses_left=tuple(loss for loss in account.losses if loss.subscription_id != subscription_id or loss in later),
    )


def rolled_lots(account: Account, subscription_id: str, *, boundary: datetime) -> list[Lot]:
    """Return this subscription's lots that are alive at `boundary`, soonest to expire first."""
    lots = (lot for lot in account.lots if lot.kind == "drip" and lot.subscription_id == subscription_id)
    alive = (lot for lot in lots if lot.effective_at < boundary and not lot.is_due(boundary))
    return sorted(alive, key=lambda lot: (lot.expires_at, lot.lot))


def trim_to_cap(
    account: Account, subscription_id: str, *, boundary: datetime, cap_tokens: int
) -> Iterator[tuple[Lot, int]]:
    """Yield which lots lose how many tokens so that at most `cap_tokens` roll over, soonest to expire first."""
    lots = rolled_lots(account, subscription_id, boundary=boundary)
    excess = sum(lot.remaining for lot in lots) - cap_tokens
    for lot in lots:
        if excess <= 0:
            return
        trimmed = min(lot.remaining, excess)
        yield lot, trimmed
        excess -= trimmed
