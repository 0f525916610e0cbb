"""Dripping: gives a subscription's cycles, each once, whoever says that it has come.

A cycle's key is the business fact (subscription, cycle number), so a paid invoice, a checkout, our own clock and a
caller of `drip_tokens_28day` can all ask for the same one and it is given once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tokentill.core.companions import Companion, CycleGranted, PaymentSeen, cycle_name
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Drip, Grant, Paid, Sweep
from tokentill.core.plans.catalog import CYCLE, Catalog, Plan
from tokentill.core.plans.clocks import (
    Owed,
    PaidPeriod,
    cycles_coming,
    cycles_due,
    cycles_in,
    known_period,
    place,
    standing,
)
from tokentill.core.plans.subscriptions import Cycle, Subscription, cycle_at, lot_expires_at
from tokentill.core.stripe.meanings import PeriodPaid
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.errors import Conflict, InvalidTime, TillError, Unavailable
from tokentill.services.context import Context
from tokentill.services.stripe.reversing import settle_known
from tokentill.store import subscriptions
from tokentill.store.db import Conn
from tokentill.store.journal import Receipt


def establish(context: Context, subscription: Subscription) -> Subscription:
    """Make the subscription known unless it is, and return it as it is known."""
    catalog = context.catalog  # Before a connection is taken: reading it may take one, too.
    with context.connection() as conn:
        subscriptions.lock(conn, subscription.subscription_id)
        known = subscriptions.establish(conn, subscription, now=context.clock())
        # Stripe may have told how it stands before anybody knew whose it was.
        if known.revision == 0 and subscriptions.states(conn, known.subscription_id, known.user_id):
            known = project(catalog, conn, known, now=context.clock())
        return known


def project(catalog: Catalog, conn: Conn, subscription: Subscription, *, now: datetime) -> Subscription:
    """Write how it counts, stands and goes on by all that is known now; the caller holds its lock."""
    history = subscriptions.history(conn, subscription)
    following = next(cycles_coming(subscription, history, _length(catalog, subscription)), None)
    subscriptions.project(
        conn,
        subscription,
        standing(history),
        next_drip_at=following.owed_at if following else None,
        now=now,
    )
    projected = subscriptions.find(conn, subscription.user_id, subscription.subscription_id)
    assert projected is not None, subscription
    return projected


def _length(catalog: Catalog, subscription: Subscription) -> timedelta:
    plan = catalog.plans.get(subscription.plan_key)  # Perhaps it is not sold any more.
    return plan.cycle if plan else CYCLE


def place_period(
    context: Context, wanted: Subscription, plan: Plan, paid: PeriodPaid
) -> tuple[Subscription, PaidPeriod]:
    """Keep a paid period, number its cycles, and let the subscription follow it; told again, it is as it was.

    Gives no tokens. `wanted` is how the subscription begins if it is not known.
    """
    catalog, now = context.catalog, context.clock()
    with context.connection() as conn:
        subscriptions.lock(conn, wanted.subscription_id)
        subscription = subscriptions.establish(conn, wanted, now=now)
        history = subscriptions.history(conn, subscription)
        if known := known_period(history, plan, paid.period_start):
            return subscription, known
        cycles_count = cycles_in(plan, paid.period_start, paid.period_end)
        subscription, number = place(
            subscription, plan, history, paid.period_start, cycles_count=cycles_count, is_first=paid.is_first
        )
        period = PaidPeriod(
            starts_at=paid.period_start,
            ends_at=paid.period_end,
            plan_key=plan.key,
            first_cycle=number,
            cycles_count=cycles_count,
            invoice_id=paid.invoice_id,
            payment_id=paid.payment_id or paid.invoice_id,
            amount_paid_cents=paid.amount_paid_cents,
            currency=paid.currency,
            paid_at=paid.occurred_at,
        )
        subscriptions.add_period(conn, subscription, period, now=now)
        if all(other.starts_at < period.starts_at for other in history.periods):
            subscription = replace(subscription, billed_by="clock" if cycles_count > 1 else "stripe")
        return project(catalog, conn, subscription, now=now), period


def cycle_command(
    user: User,
    subscription_id: str,
    plan: Plan,
    cycle: Cycle,
    *,
    paid: Paid | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Drip | Grant:
    """Return the command that gives one cycle's tokens: a drip, or an annual plan's whole year."""
    key = Key.of_fact("subscription", subscription_id, str(cycle.number))
    if plan.kind == "drip":
        return Drip(
            user=user, key=key, subscription_id=subscription_id, cycle_number=cycle.number,
            tokens=plan.tokens, period_start=cycle.starts_at, period_end=cycle.ends_at,
            expires_at=lot_expires_at(cycle, plan), rollover_cap_tokens=plan.rollover_cap_tokens, paid=paid,
            metadata=metadata or {},
        )  # fmt: skip
    return Grant(
        user=user, key=key, tokens=plan.tokens, kind="subscription", source="subscription",
        effective_at=cycle.starts_at, expires_at=lot_expires_at(cycle, plan), paid=paid,
        subscription_id=subscription_id, cycle_number=cycle.number, metadata=metadata or {},
    )  # fmt: skip


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
    next_drip_at: datetime | None = None,
    companions: tuple[Companion, ...] = (),
) -> Answer[Receipt | None]:
    """Ask for one cycle's tokens. `next_drip_at`: our clock gives more of the same paid period, and the next then."""
    command = cycle_command(user, subscription.subscription_id, plan, cycle, paid=paid, metadata=metadata)
    granted = CycleGranted(
        subscription_id=subscription.subscription_id, cycle_number=cycle.number, next_drip_at=next_drip_at
    )
    return context.engine.submit(command, at=at, companions=(granted, *companions))


def give_cycle(
    context: Context, user: User, wanted: Subscription, plan: Plan, *, cycle_number: int | None, at: datetime
) -> Receipt:
    """Give one cycle, by default the one that `at` lies in; asked again, it answers the first time's receipt.

    `wanted` is how the subscription begins if it is not known. What our own clock drives is caught up first, so that no
    cycle is left out.

    Raises: InvalidTime when that cycle has not begun (and nothing was written), Conflict when the subscription is known
    and driven another way, or is not owed that cycle: paused, past due or canceled.
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
        if not _is_given(context, subscription, cycle_number):
            raise Conflict(
                f"Subscription {subscription.subscription_id} is not owed cycle {cycle_number}: by now it is "
                f"{subscription.status}."
            )
    receipt = submit_cycle(context, user, subscription, plan, cycle, at=at).result()
    assert receipt is not None
    return receipt


def known(context: Context, user: User, subscription_id: str) -> Subscription | None:
    """Return a subscription as it is known."""
    with context.connection() as conn:
        return subscriptions.find(conn, user.user_id, subscription_id)


def _is_given(context: Context, subscription: Subscription, cycle_number: int) -> bool:
    with context.connection() as conn:
        return cycle_number in subscriptions.history(conn, subscription).given


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
    with context.connection() as conn:
        # Read before its history: news that comes in between is then news to `wait_until` as well.
        subscription = subscriptions.find(conn, subscription.user_id, subscription.subscription_id) or subscription
        history = subscriptions.history(conn, subscription)
    catalog = context.catalog
    length, user = _length(catalog, subscription), User(subscription.user_id, subscription.external_id)
    due = list(cycles_due(subscription, history, at=at, length=length))
    # In order: each cycle reports what the one before it left.
    answers = [
        submit_cycle(
            context, user, subscription, catalog.plan(owed.plan_key), owed.cycle, at=owed.cycle.starts_at,
            paid=_paid_for(owed), companions=_payment_of(subscription, owed),
        )
        for owed in due
    ]  # fmt: skip
    receipts = [answer.result() for answer in answers]
    # Part of what paid for them may have been refunded before these cycles came.
    settle_known(context, *{owed.period.payment_id for owed in due if owed.period is not None})
    given = replace(history, given=history.given | {owed.cycle.number for owed in due})
    following = next(cycles_coming(subscription, given, length), None)
    with context.connection() as conn:
        subscriptions.wait_until(conn, subscription, following.owed_at if following else None)
    return [receipt for receipt in receipts if receipt is not None and not receipt.is_replay]


def _paid_for(owed: Owed) -> Paid | None:
    period = owed.period
    if period is None:
        return None
    return Paid(
        amount_cents=period.cents_of(owed.cycle.number),
        currency=period.currency,
        payment_id=period.payment_id,
        invoice_id=period.invoice_id,
    )


def _payment_of(subscription: Subscription, owed: Owed) -> tuple[Companion, ...]:
    """What the money side must know of a cycle that was paid long before it came, so that a refund finds it."""
    if owed.period is None:
        return ()
    name = cycle_name(subscription.subscription_id, owed.cycle.number)
    return (PaymentSeen(payment_id=owed.period.payment_id, names=(name,), paid_at=owed.period.paid_at),)


def sweep(context: Context, user: User, *, at: datetime) -> Receipt | None:
    """Write off what is due in one account; None: nothing was."""
    return context.engine.submit(Sweep(user=user), at=at).result()
