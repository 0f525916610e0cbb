"""Following: a subscription stands as Stripe says it does, whatever order the news comes in.

What was told is kept, also of a subscription that nobody knows yet; how it stands follows from all of it
(`core.plans.clocks`). Subscriptions that are ours alone are paused, resumed and canceled here, by the same means.
"""

from datetime import datetime, timedelta
from typing import Literal

from tokentill.core.companions import Audited, EventHandled
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Grant, Redate
from tokentill.core.plans.catalog import Catalog
from tokentill.core.plans.clocks import TRIAL_CYCLE, History, State, standing, trial_begins_at
from tokentill.core.plans.subscriptions import Subscription, SubscriptionStatus
from tokentill.core.retries import next_attempt_at
from tokentill.core.stripe.events import describe
from tokentill.core.stripe.meanings import SubscriptionSeen
from tokentill.core.users import User
from tokentill.errors import Conflict, SubscriptionNotFound
from tokentill.services.context import Context
from tokentill.services.plans.dripping import project
from tokentill.services.stripe import granting
from tokentill.store import companions, inbox, subscriptions
from tokentill.store.db import Conn
from tokentill.store.inbox import InboxEvent

NOT_OURS = "no plan of the catalog fits, and the subscription is not known; how it stands is kept"
NOBODY = "Nobody knows whose this is: no user id, no known customer. How the subscription stands is kept."


def follow(context: Context, event: InboxEvent, user: User | None, seen: SubscriptionSeen) -> None:
    """Write down how the subscription stands, and give its trial's tokens, once.

    Of a subscription that nobody knows, only the state is kept, and the event has failed: to be tried again.
    """
    catalog, now = context.catalog, context.clock()  # Before a connection is taken: the catalog may take one, too.
    with context.connection() as conn:
        subscriptions.lock(conn, seen.subscription_id)
        subscriptions.add_state(conn, seen.subscription_id, _state(event, seen), user_id=None, now=now)
        owner = subscriptions.known_user(conn, subscription_id=seen.subscription_id, customer_id=None)
        if seen.plan_key is None and owner is None:
            inbox.settle(conn, event.event_id, state="ignored", detail=NOT_OURS, now=now)
            return
        if user is None:
            again_at = next_attempt_at(event.attempts + 1, at=now)
            inbox.settle(conn, event.event_id, state="failed", detail=NOBODY, now=now, next_attempt_at=again_at)
            return
        _begin(catalog, conn, user, seen, now)
        stub = Subscription(
            user_id=user.user_id, subscription_id=seen.subscription_id, plan_key="", billed_by="stripe", anchor=now
        )
        trial = _trial(catalog, user, event, seen, subscriptions.history(conn, stub))
        handled = granting.handled(event, seen)
        is_given = trial is not None and subscriptions.is_trial_given(conn, user.user_id, seen.subscription_id)
        if trial is not None and trial.expires_at is not None and trial.expires_at <= now and not is_given:
            over = f"{describe(seen)}; its trial was over by {trial.expires_at:%Y-%m-%d %H:%M} UTC: nothing to grant"
            trial, handled = None, EventHandled(event_id=event.event_id, detail=over)
        beside = (*granting.seen(seen.who), handled)
        if trial is None:
            companions.write(conn, user.user_id, beside, seq=None, now=now)
            return
    receipt = None if is_given else context.engine.submit(trial, at=now, companions=beside).result()
    if receipt is None or receipt.is_replay:
        _correct_trial(context, event, user, trial)
        with context.connection() as conn:
            companions.write(conn, user.user_id, beside, seq=receipt.seq if receipt else None, now=now)


def _state(event: InboxEvent, seen: SubscriptionSeen) -> State:
    return State(
        at=seen.seen_at,
        told_by=event.event_id,
        status=seen.status,
        stripe_status=seen.stripe_status,
        plan_key=seen.plan_key,
        is_trial=seen.is_trial,
        trial_starts_at=seen.trial_starts_at,
        trial_ends_at=seen.trial_ends_at,
        cancel_at=seen.cancel_at,
        occurred_at=seen.occurred_at,
    )


def _begin(catalog: Catalog, conn: Conn, user: User, seen: SubscriptionSeen, now: datetime) -> None:
    """Make the subscription known unless it is, so that its invoices know whose they are, and let it follow."""
    subscription = subscriptions.find(conn, user.user_id, seen.subscription_id)
    if subscription is None:
        if seen.plan_key is None or seen.plan_key not in catalog.plans:
            return  # Whatever makes it known will find this state.
        begins = Subscription(
            user_id=user.user_id,
            external_id=user.external_id,
            subscription_id=seen.subscription_id,
            plan_key=seen.plan_key,
            billed_by="stripe",
            anchor=seen.period_start or seen.occurred_at,
            is_anchor_known=False,
            stripe_customer_id=seen.who.customer_id,
        )
        subscription = subscriptions.establish(conn, begins, now=now)
    project(catalog, conn, subscription, now=now)


def _trial(catalog: Catalog, user: User, event: InboxEvent, seen: SubscriptionSeen, history: History) -> Grant | None:
    """Return the grant of the subscription's trial, by all that is known of it; None: it has none."""
    begins_at = trial_begins_at(history)
    if begins_at is None:
        return None
    # The call `grant_trial_tokens(…, subscription_id=…)` has this key, too: one subscription has one trial.
    return Grant(
        user=user, key=Key.of_fact("trial", seen.subscription_id), tokens=catalog.trial_tokens, kind="trial",
        source="trial", effective_at=begins_at, expires_at=begins_at + timedelta(days=catalog.trial_days),
        subscription_id=seen.subscription_id, cycle_number=TRIAL_CYCLE, metadata={"stripe_event_id": event.event_id},
    )  # fmt: skip


def _correct_trial(context: Context, event: InboxEvent, user: User, trial: Grant) -> None:
    """Let the trial's lot end when its exact beginning says. One that the app gave by itself stays as it is."""
    assert trial.subscription_id is not None and trial.expires_at is not None
    redate = Redate(
        user=user, subscription_id=trial.subscription_id, cycle_number=TRIAL_CYCLE, expires_at=trial.expires_at,
        kind="trial",
    )  # fmt: skip
    granting.redate(context, event, user, redate)


# -- subscriptions that are ours alone ---------------------------------------------------------------------------------

Act = Literal["pause", "resume", "cancel"]
_BECOMES: dict[Act, SubscriptionStatus] = {"pause": "paused", "resume": "active", "cancel": "canceled"}


def steer(
    context: Context, user: User, subscription_id: str, act: Act, *, actor: str, reason: str | None
) -> Subscription:
    """Pause, resume or cancel a subscription of our own clock, from now on; in the audit log. Safe to repeat.

    Lots that it gave live on. A cycle that begins while it is paused is left out for good. What was canceled stays so.

    Raises: SubscriptionNotFound, Conflict when it is Stripe's or has ended; nothing was written.
    """
    catalog, now = context.catalog, context.clock()
    with context.connection() as conn:
        subscriptions.lock(conn, subscription_id)
        subscription = subscriptions.find(conn, user.user_id, subscription_id)
        if subscription is None:
            raise not_found(user, subscription_id)
        history = subscriptions.history(conn, subscription)
        _require_ours(subscription, history)
        status = standing(history).status
        if status == _BECOMES[act]:
            return subscription
        if status == "canceled":
            raise Conflict(f"Subscription {subscription_id} is canceled, and that is final: begin another one.")
        # Not before what was said last: the newest state counts, and the clock may have been set back.
        at = max([now, *(state.at + timedelta(microseconds=1) for state in history.states)])
        act_id = context.new_id()
        state = State(at=at, told_by=f"till:{act_id}", status=_BECOMES[act])
        subscriptions.add_state(conn, subscription_id, state, user_id=user.user_id, now=now)
        detail = {"subscription_id": subscription_id, "reason": reason}
        audited = Audited(id=act_id, actor=actor, act=f"{act}_subscription", detail=detail)
        companions.write(conn, user.user_id, (audited,), seq=None, now=now)
        return project(catalog, conn, subscription, now=now)


def _require_ours(subscription: Subscription, history: History) -> None:
    is_told_by_stripe = history.periods or not all(state.told_by.startswith("till:") for state in history.states)
    if subscription.stripe_customer_id is not None or is_told_by_stripe:
        raise Conflict(
            f"Subscription {subscription.subscription_id} is Stripe's: change it there, and the till follows."
        )
    if subscription.billed_by != "clock":
        raise Conflict(
            f"Subscription {subscription.subscription_id} has no clock: it gets a cycle when its payment or the app "
            "says so, so there is nothing to pause, resume or cancel."
        )


def not_found(user: User, subscription_id: str) -> SubscriptionNotFound:
    return SubscriptionNotFound(
        f"{user.name} has no subscription {subscription_id[:100]!r}.", subscription_id=subscription_id[:100]
    )
