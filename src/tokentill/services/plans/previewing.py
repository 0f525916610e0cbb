"""Previewing: a user's subscriptions, and their coming cycles as they will be given. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal

from tokentill.core.ledger.account import Account
from tokentill.core.ledger.decide import Decided, decide
from tokentill.core.ledger.journal import DripRow
from tokentill.core.plans.catalog import Catalog, Plan
from tokentill.core.plans.clocks import cycles_coming, cycles_expected
from tokentill.core.plans.subscriptions import Cycle, Subscription, lot_expires_at
from tokentill.core.users import User
from tokentill.services.context import Context
from tokentill.services.plans.dripping import cycle_command
from tokentill.services.stripe.following import not_found
from tokentill.store import accounts, subscriptions
from tokentill.store.db import Conn

_Coming = tuple[datetime, Cycle, Plan, Literal["time", "payment"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComingCycle:
    """A cycle that has not been given yet, and what will be in the books with it if nothing is spent until then."""

    subscription_id: str
    plan_key: str
    cycle_number: int
    waits_for: Literal["time", "payment"]  # payment: of the invoice, or for the app to say that it has come.
    owed_at: datetime
    starts_at: datetime
    ends_at: datetime
    expires_at: datetime  # When its lot dies.
    tokens: int
    rollover_from_previous: int
    rollover_cycles_count: int
    expired_tokens: int
    balance_after: int


def of_user(context: Context, user: User, subscription_id: str | None = None) -> list[Subscription]:
    """Return the user's subscriptions, oldest first, or the one of that id. Raises: SubscriptionNotFound."""
    with context.connection() as conn:
        return _found(conn, user, subscription_id)


def _found(conn: Conn, user: User, subscription_id: str | None) -> list[Subscription]:
    if subscription_id is None:
        return subscriptions.of_user(conn, user.user_id)
    found = subscriptions.find(conn, user.user_id, subscription_id)
    if found is None:
        raise not_found(user, subscription_id)
    return [found]


def preview(
    context: Context, user: User, subscription_id: str | None, *, cycles: int, at: datetime
) -> list[ComingCycle]:
    """Return the next so many cycles of each subscription (or of one), in the order in which they will be given.

    Decided by the ledger itself on the account as it is now, one after the other. Raises: SubscriptionNotFound.
    """
    coming: list[tuple[_Coming, Subscription]] = []
    catalog = context.catalog
    with context.connection() as conn:
        for subscription in _found(conn, user, subscription_id):
            coming += [(one, subscription) for one in islice(_coming(catalog, conn, subscription), cycles)]
        account = accounts.load(conn, [user.user_id]).get(user.user_id) or Account.opened(user)
    coming.sort(key=lambda one: (one[0][0], one[1].subscription_id, one[0][1].starts_at))
    previews: list[ComingCycle] = []
    for (owed_at, cycle, plan, waits_for), subscription in coming:
        command = cycle_command(user, subscription.subscription_id, plan, cycle)
        decided = decide(account, command, at=max(owed_at, at))
        if not isinstance(decided, Decided):
            break  # More than an account can hold.
        account, row = decided.account, decided.rows[-1]
        drip = row if isinstance(row, DripRow) else None
        previews.append(
            ComingCycle(
                subscription_id=subscription.subscription_id,
                plan_key=plan.key,
                cycle_number=cycle.number,
                waits_for=waits_for,
                owed_at=owed_at,
                starts_at=cycle.starts_at,
                ends_at=cycle.ends_at,
                expires_at=lot_expires_at(cycle, plan),
                tokens=plan.tokens,
                rollover_from_previous=drip.rollover_from_previous if drip else 0,
                rollover_cycles_count=drip.rollover_cycles_count if drip else 0,
                expired_tokens=drip.expired_tokens if drip else 0,
                balance_after=row.balance_after,
            )
        )
    return previews


def _coming(catalog: Catalog, conn: Conn, subscription: Subscription) -> Iterator[_Coming]:
    history = subscriptions.history(conn, subscription)
    plan = catalog.plan(subscription.plan_key)
    for owed in cycles_coming(subscription, history, plan.cycle):
        yield owed.owed_at, owed.cycle, catalog.plan(owed.plan_key), "time"
    announced = subscription.announced_plan_key
    plan = catalog.plans.get(announced, plan) if announced else plan
    for cycle in cycles_expected(subscription, history, plan):
        yield cycle.starts_at, cycle, plan, "payment"
