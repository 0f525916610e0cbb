"""Dripping: gives a subscription's cycles, each once, whoever says that it has come.

A cycle's key is the business fact (subscription, cycle number), so a paid invoice, a checkout, our own clock and a
caller of `drip_tokens_28day` can all ask for the same one and it is given once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tokentill.core.catalog import Plan
from tokentill.core.commands import Drip, Grant, Paid, Sweep
from tokentill.core.companions import Companion, CycleGranted
from tokentill.core.drips import (
    Cycle,
    Subscription,
    cycle_at,
    cycles_due,
    lot_expires_at,
)
from tokentill.core.keys import Key
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.errors import InvalidTime, SubscriptionNotFound
from tokentill.services.context import Context
from tokentill.store import subscriptions
from tokentill.store.journal import Receipt


def establish(context: Context, subscription: Subscription) -> Subscription:
    """Make the subscription known unless it is, and return it as it is known."""
    with context.connection() as conn:
        return subscriptions.establish(conn, subscription, now=context.clock())


def submit_cycle(
    context: Context,
    user: User,
    subscription: Subscription,
    plan: Plan,
    cycle: Cycle,
    *,
    at: datetime,
    paid: Paid | None = None,
    metadata: Mapping[str, Any] | None = None,
    companions: tuple[Companion, ...] = (),
) -> Answer:
    """Ask for one cycle's tokens: a drip, or an annual plan's whole year."""
    key = Key.of_fact("subscription", subscription.subscription_id, str(cycle.number))
    command: Drip | Grant
    if plan.kind == "drip":
        command = Drip(
            user=user, key=key, subscription_id=subscription.subscription_id, cycle_number=cycle.number,
            tokens=plan.tokens, period_start=cycle.starts_at, period_end=cycle.ends_at,
            expires_at=lot_expires_at(cycle, plan), rollover_cap_tokens=plan.rollover_cap_tokens, paid=paid,
            metadata=metadata or {},
        )  # fmt: skip
    else:
        command = Grant(
            user=user, key=key, tokens=plan.tokens, kind="subscription", source="subscription",
            effective_at=cycle.starts_at, expires_at=lot_expires_at(cycle, plan), paid=paid,
            subscription_id=subscription.subscription_id, cycle_number=cycle.number, metadata=metadata or {},
        )  # fmt: skip
    granted = CycleGranted(
        subscription_id=subscription.subscription_id,
        cycle_number=cycle.number,
        next_drip_at=cycle.ends_at if subscription.billed_by == "clock" else None,
    )
    return context.engine.submit(command, at=at, companions=(granted, *companions))


def give_cycle(
    context: Context, user: User, subscription: Subscription, plan: Plan, *, cycle_number: int | None, at: datetime
) -> Receipt:
    """Give one cycle, by default the one that `at` lies in; asked again, it answers the first time's receipt.

    Raises: InvalidTime when that cycle has not begun.
    """
    if cycle_number is None:
        elapsed = (at - subscription.anchor) // plan.cycle
        cycle_number = subscription.anchor_cycle + max(elapsed, 0)
    cycle = cycle_at(subscription, cycle_number, plan.cycle)
    if cycle.starts_at > at:
        raise InvalidTime(
            f"Cycle {cycle_number} begins at {cycle.starts_at:%Y-%m-%d %H:%M} UTC; its tokens wait for that."
        )
    receipt = submit_cycle(context, user, subscription, plan, cycle, at=at).result()
    assert receipt is not None
    return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class DripRun:
    """What a run over all due subscriptions did."""

    receipts: tuple[Receipt, ...]

    @property
    def tokens(self) -> int:
        return sum(receipt.tokens for receipt in self.receipts)


def drip_due(context: Context, *, at: datetime) -> DripRun:
    """Give every cycle that our own clock owes by `at`, oldest first, each at its own time.

    Safe to run at any time, twice, or in two processes at once: what was given is not given again. Running late by some
    cycles equals running on time, for what was not spent meanwhile.
    """
    receipts: list[Receipt] = []
    while True:
        with context.connection() as conn:
            due = list(subscriptions.due(conn, at=at))
        given = [receipt for subscription in due for receipt in _catch_up(context, subscription, at)]
        receipts += given
        if not given:
            return DripRun(receipts=tuple(receipts))


def _catch_up(context: Context, subscription: Subscription, at: datetime) -> list[Receipt]:
    plan = context.catalog.plan(subscription.plan_key)
    user = User(subscription.user_id)
    # In order: each cycle reports what the one before it left.
    answers = [
        submit_cycle(context, user, subscription, plan, cycle, at=cycle.starts_at)
        for cycle in cycles_due(subscription, at=at)
    ]
    return [receipt for answer in answers if (receipt := answer.result()) is not None]


def sweep(context: Context, user: User, *, at: datetime) -> Receipt | None:
    """Write off what is due in one account; None: nothing was."""
    return context.engine.submit(Sweep(user=user), at=at).result()


def subscription_of(context: Context, user: User, subscription_id: str) -> Subscription:
    """Return a subscription that is known. Raises: SubscriptionNotFound."""
    with context.connection() as conn:
        found = subscriptions.find(conn, user.user_id, subscription_id)
    if found is None:
        raise SubscriptionNotFound(f"{user.name} has no subscription {subscription_id!r}.")
    return found


def correct_anchor(context: Context, subscription: Subscription, cycle: Cycle) -> Subscription:
    """Replace a provisional anchor by a paid period's start."""
    known = replace(subscription, anchor=cycle.starts_at, anchor_cycle=cycle.number, is_anchor_known=True)
    with context.connection() as conn:
        if subscriptions.correct_anchor(conn, known, now=context.clock()):
            return known
        return subscriptions.find(conn, subscription.user_id, subscription.subscription_id) or known
