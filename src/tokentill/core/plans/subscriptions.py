"""Subscriptions: what is known of one, and its cycles. `plans.clocks` says which are due.

Cycle n covers `[anchor + 28 d × (n − anchor_cycle), … + 28 d)`, where 28 d is 2,419,200 seconds whatever the time zone.
The lot of drip n dies at the start of cycle n + 1 + `rollover_cycles`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from tokentill.core.plans.catalog import CYCLE, Plan

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
    # In UTC: in a zone whose clocks change, 28 days later is an hour more or less.
    starts_at = subscription.anchor.astimezone(UTC) + length * (number - subscription.anchor_cycle)
    return Cycle(number, starts_at, starts_at + length)


def cycle_of(subscription: Subscription, period_start: datetime, length: timedelta = CYCLE) -> int:
    """Return the number of the cycle that a paid period beginning at `period_start` is.

    The nearest one: a paid period may start some seconds or, in a year of 366 days, a day beside our own count.
    """
    return subscription.anchor_cycle + round((period_start - subscription.anchor) / length)


def lot_expires_at(cycle: Cycle, plan: Plan) -> datetime:
    """Return when the tokens of this cycle die: its end, and as many cycles later as the plan rolls over."""
    return cycle.ends_at.astimezone(UTC) + CYCLE * plan.rollover_cycles if plan.kind == "drip" else cycle.ends_at
