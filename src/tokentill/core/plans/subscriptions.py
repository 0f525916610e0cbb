"""Drips: the cycles of a subscription, and what rolls over from one to the next. `plans.clocks` says which are due.

Cycle n covers `[anchor + 28 d × (n − anchor_cycle), … + 28 d)`, where 28 d is 2,419,200 seconds whatever the time zone.
The lot of drip n dies at the start of cycle n + 1 + `rollover_cycles`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tokentill.core.ledger.account import Account, Loss
from tokentill.core.ledger.lots import Lot
from tokentill.core.plans.catalog import CYCLE, Plan
from tokentill.core.values import replace

SubscriptionStatus = Literal["active", "past_due", "paused", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What the till knows of one subscription. `anchor` is where cycle `anchor_cycle` starts.

    `is_anchor_known` is false while only a checkout has been seen: its time stands in for the period's start.
    `cycle_number` is the latest cycle that was granted; None: none yet.
    """

    user_id: UUID
    external_id: str | None = None  # The user's own name, for whoever opens the account later.
    subscription_id: str
    plan_key: str
    status: SubscriptionStatus = "active"
    billed_by: Literal["stripe", "clock"]  # Who says that a cycle has come: paid invoices, or our own clock.
    anchor: datetime
    anchor_cycle: int = 1
    is_anchor_known: bool = True
    cycle_number: int | None = None
    stripe_customer_id: str | None = None
    # What follows is a projection of its history (`core.plans.clocks.standing`).
    stripe_status: str | None = None
    status_at: datetime | None = None
    paid_until: datetime | None = None
    trial_starts_at: datetime | None = None
    trial_ends_at: datetime | None = None
    cancel_at: datetime | None = None
    announced_plan_key: str | None = None  # Of the next paid period, as far as Stripe has told.
    revision: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """What one boundary of a subscription carries over, and what it takes."""

    tokens: int  # What earlier drips of this subscription left, alive at the boundary, within the cap.
    cycles_count: int  # From how many cycles.
    expired_tokens: int  # What was lost up to the boundary and no drip has reported, and what the cap takes.
    trims: tuple[tuple[Lot, int], ...]  # Which lots lose how many tokens to the cap, soonest to expire first.
    losses_left: tuple[Loss, ...]  # What the account keeps for later drips.


@dataclass(frozen=True, slots=True)
class _Carried:
    """Tokens that were alive at a boundary: in a lot that still is, or in one that has died since (a loss)."""

    expires_at: datetime
    tokens: int
    cycle_number: int
    source: Lot | Loss


def rollover(account: Account, subscription_id: str, *, boundary: datetime, cap_tokens: int | None) -> Rollover:
    """Return what `subscription_id` carries over `boundary`, as the boundary saw it.

    A drip that is caught up late may find that tokens which rolled over its boundary have died since; they were alive
    then, so they count here, and the drip at whose boundary they died reports the loss. The cap takes the soonest to
    expire first; of tokens that have died since it can only move the report to here.
    """
    losses = [loss for loss in account.losses if loss.subscription_id == subscription_id]
    expired_tokens = sum(loss.tokens for loss in losses if loss.expired_at <= boundary)
    left = [loss for loss in account.losses if loss.subscription_id != subscription_id]
    carried = _carried(account, losses, subscription_id, boundary)
    excess = 0 if cap_tokens is None else max(sum(item.tokens for item in carried) - cap_tokens, 0)
    tokens = 0
    cycles: set[int] = set()
    trims: list[tuple[Lot, int]] = []
    for item in carried:
        trimmed = min(item.tokens, excess)
        kept = item.tokens - trimmed
        excess -= trimmed
        expired_tokens += trimmed
        tokens += kept
        if kept:
            cycles.add(item.cycle_number)
        if isinstance(item.source, Loss):
            left += [replace(item.source, tokens=kept)] if kept else []
        elif trimmed:
            trims.append((item.source, trimmed))
    return Rollover(
        tokens=tokens,
        cycles_count=len(cycles),
        expired_tokens=expired_tokens,
        trims=tuple(trims),
        losses_left=tuple(left),
    )


def _carried(account: Account, losses: list[Loss], subscription_id: str, boundary: datetime) -> list[_Carried]:
    """Return what was alive at `boundary`, soonest to expire first."""
    carried = [
        _Carried(loss.expired_at, loss.tokens, loss.cycle_number, loss) for loss in losses if loss.expired_at > boundary
    ]
    for lot in account.lots:
        is_ours = lot.kind == "drip" and lot.subscription_id == subscription_id and lot.effective_at < boundary
        if is_ours and lot.expires_at is not None and lot.expires_at > boundary:
            carried.append(_Carried(lot.expires_at, lot.remaining, lot.cycle_number or 0, lot))
    return sorted(carried, key=lambda item: (item.expires_at, item.cycle_number))
