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
from tokentill.core.drips import Cycle, Subscription, cycle_at, cycles_due, fits, lot_expires_at
from tokentill.core.keys import Key
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.errors import Conflict, InvalidTime, TillError, Unavailable
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
) -> Answer[Receipt | None]:
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
    context: Context, user: User, wanted: Subscription, plan: Plan, *, cycle_number: int | None, at: datetime
) -> Receipt:
    """Give one cycle, by default the one that `at` lies in; asked again, it answers the first time's receipt.

    `wanted` is how the subscription begins if it is not known. What our own clock drives is caught up first, so that no
    cycle is left out.

    Raises: InvalidTime when that cycle has not begun (and nothing was written), Conflict when the subscription is known
    and driven another way.
    """
    subscription = known(context, user, wanted.subscription_id) or wanted
    if cycle_number is None:
        elapsed = (at - subscription.anchor) // plan.cycle
        cycle_number = subscription.anchor_cycle + max(elapsed, 0)
    cycle = cycle_at(subscription, cycle_number, plan.cycle)
    if cycle.starts_at > at:
        begins = f"{cycle.starts_at:%Y-%m-%d %H:%M} UTC"
        raise InvalidTime(f"Cycle {cycle_number} begins at {begins}; its tokens wait for that.")
    if (subscription.billed_by, subscription.plan_key) != (wanted.billed_by, wanted.plan_key):
        raise Conflict(
            f"Subscription {subscription.subscription_id} is known as plan {subscription.plan_key}, driven by "
            f"{subscription.billed_by}; it cannot be {wanted.plan_key}, driven by {wanted.billed_by}, as well."
        )
    subscription = establish(context, wanted)
    if subscription.billed_by == "clock":
        for given in _catch_up(context, subscription, at):
            if given.effective_at == cycle.starts_at:
                return given
    receipt = submit_cycle(context, user, subscription, plan, cycle, at=at).result()
    assert receipt is not None
    return receipt


def known(context: Context, user: User, subscription_id: str) -> Subscription | None:
    """Return a subscription as it is known."""
    with context.connection() as conn:
        return subscriptions.find(conn, user.user_id, subscription_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DripRun:
    """What a run over all due subscriptions gave, and which subscriptions it could not serve, and why."""

    receipts: tuple[Receipt, ...]
    failures: tuple[tuple[Subscription, TillError], ...] = ()

    @property
    def tokens(self) -> int:
        return sum(receipt.tokens for receipt in self.receipts)


def drip_due(context: Context, *, at: datetime) -> DripRun:
    """Give every cycle that our own clock owes by `at`, oldest first, each at its own time.

    Safe to run at any time, twice, or in two processes at once: what was given is not given again, nor counted. Running
    late by some cycles equals running on time, for what was not spent meanwhile. A subscription that cannot be served
    is named in the answer and keeps nobody else waiting.
    """
    receipts: list[Receipt] = []
    failures: list[tuple[Subscription, TillError]] = []
    last: Subscription | None = None
    while True:
        with context.connection() as conn:
            due = subscriptions.due(conn, at=at, after=last)
        if not due:
            return DripRun(receipts=tuple(receipts), failures=tuple(failures))
        for subscription in due:
            try:
                receipts += _catch_up(context, subscription, at)
            except Unavailable:
                raise
            except TillError as error:
                failures.append((subscription, error))
        last = due[-1]


def _catch_up(context: Context, subscription: Subscription, at: datetime) -> list[Receipt]:
    plan = context.catalog.plan(subscription.plan_key)
    user = User(subscription.user_id, subscription.external_id)
    # In order: each cycle reports what the one before it left.
    answers = [
        submit_cycle(context, user, subscription, plan, cycle, at=cycle.starts_at)
        for cycle in cycles_due(subscription, at=at, length=plan.cycle)
    ]
    receipts = [answer.result() for answer in answers]
    return [receipt for receipt in receipts if receipt is not None and not receipt.is_replay]


def sweep(context: Context, user: User, *, at: datetime) -> Receipt | None:
    """Write off what is due in one account; None: nothing was."""
    return context.engine.submit(Sweep(user=user), at=at).result()


def correct_anchor(context: Context, subscription: Subscription, cycle: Cycle) -> Subscription:
    """Replace a provisional anchor by a paid period's start."""
    known = replace(subscription, anchor=cycle.starts_at, anchor_cycle=cycle.number, is_anchor_known=True)
    with context.connection() as conn:
        if subscriptions.correct_anchor(conn, known, now=context.clock()):
            return known
        return subscriptions.find(conn, subscription.user_id, subscription.subscription_id) or known


def begin_anew(context: Context, subscription: Subscription, plan: Plan, period_start: datetime) -> Subscription:
    """Count on from a paid period that is no cycle of the subscription so far: its plan or billing day has changed.

    The lots it gave before stay as they are. If another event changes it at the same moment, that one is reckoned with.
    """
    while not fits(subscription, plan, period_start):
        latest = max(subscription.cycle_number or subscription.anchor_cycle, subscription.anchor_cycle)
        after = replace(
            subscription, plan_key=plan.key, anchor=period_start, anchor_cycle=latest + 1, is_anchor_known=True
        )
        with context.connection() as conn:
            if subscriptions.begin_anew(conn, subscription, after, now=context.clock()):
                return after
            subscription = subscriptions.find(conn, subscription.user_id, subscription.subscription_id) or after
    return subscription
