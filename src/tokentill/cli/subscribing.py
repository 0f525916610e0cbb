"""Commands about subscriptions: how they stand, what comes, and what of them is ours to change."""

from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import By, UserArg, actor
from tokentill.cli.show import AsJson
from tokentill.core.plans.subscriptions import Subscription
from tokentill.core.users import User
from tokentill.services.plans.previewing import ComingCycle
from tokentill.till import Till

SubscriptionArg = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Which of the user's subscriptions.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why: kept in the audit log.")]


def listed(user: UserArg, json: AsJson = False) -> None:
    """Show a user's subscriptions as they stand, oldest first."""
    with Till.connect() as till:
        found = till.subscriptions(user)
    name = User.of(user).name
    if json:
        from tokentill.http.bodies import SubscriptionsView

        show.as_json(show.view(SubscriptionsView.of(found, user)))
        return
    columns = {"subscription": "left", "plan": "left", "status": "left", "since": "left", "cycles": "left",
               "given": "right"}  # fmt: skip
    empty = f"{name} has no subscription: one begins with `till drip USER SUBSCRIPTION`, or when Stripe tells of it."
    show.table(name, columns, [_row(one) for one in found], empty=empty)


def show_one(user: UserArg, subscription: SubscriptionArg, json: AsJson = False) -> None:
    """Show one subscription as it stands."""
    with Till.connect() as till:
        found = till.find_subscription(user, subscription)
    _answer(found, json)


def pause(
    user: UserArg, subscription: SubscriptionArg, reason: Why = None, by: By = None, json: AsJson = False
) -> None:
    """Pause a subscription of our own clock: cycles that begin meanwhile are left out."""
    with Till.connect() as till:
        found = till.pause_subscription(user, subscription, actor=actor(by), reason=reason)
    _answer(found, json)


def resume(
    user: UserArg, subscription: SubscriptionArg, reason: Why = None, by: By = None, json: AsJson = False
) -> None:
    """Let a paused subscription go on with its next cycle."""
    with Till.connect() as till:
        found = till.resume_subscription(user, subscription, actor=actor(by), reason=reason)
    _answer(found, json)


def cancel(
    user: UserArg, subscription: SubscriptionArg, reason: Why = None, by: By = None, json: AsJson = False
) -> None:
    """End a subscription of our own clock for good; what it gave lives on."""
    with Till.connect() as till:
        found = till.cancel_subscription(user, subscription, actor=actor(by), reason=reason)
    _answer(found, json)


def preview(
    user: UserArg,
    subscription: Annotated[
        str | None, typer.Argument(metavar="SUBSCRIPTION", help="Which one. [default: all of them]")
    ] = None,
    cycles: Annotated[int, typer.Option("--cycles", help="How many cycles of each.")] = 3,
    json: AsJson = False,
) -> None:
    """Show the coming cycles as they will be given if nothing is spent until then. Changes nothing."""
    with Till.connect() as till:
        coming = till.preview(user, subscription, cycles=cycles)
    name = User.of(user).name
    if json:
        from tokentill.http.bodies import PreviewView

        show.as_json(show.view(PreviewView.of(coming, user)))
        return
    columns = {"subscription": "left", "cycle": "right", "owed": "left", "tokens": "right", "until": "left",
               "rolls over": "right", "expires": "right", "balance": "right"}  # fmt: skip
    empty = f"No cycle of {name} is coming: `till subscription list USER` says how the subscriptions stand."
    show.table(name, columns, [_coming(one) for one in coming], empty=empty)


def _answer(found: Subscription, json: bool) -> None:
    user = User(found.user_id, found.external_id).name
    if json:
        from tokentill.http.bodies import SubscriptionView

        show.as_json({"user_id": user, **show.view(SubscriptionView.of(found))})
        return
    rows: dict[str, object] = {
        "plan": found.plan_key,
        "status": found.status + (f" ({found.stripe_status} in Stripe)" if found.stripe_status else ""),
        "since": show.moment(found.status_at, otherwise="it began"),
        "cycles": _given_by(found),
        "latest given": "none" if found.cycle_number is None else found.cycle_number,
    }
    times = {"paid until": found.paid_until, "trial ends": found.trial_ends_at, "will end": found.cancel_at}
    rows |= {name: show.moment(at) for name, at in times.items() if at is not None}
    if found.announced_plan_key not in (None, found.plan_key):
        rows["next plan"] = found.announced_plan_key
    show.facts(f"{user}, {found.subscription_id}", rows)


def _row(found: Subscription) -> list[object]:
    since = show.moment(found.status_at, otherwise="it began")
    given = "none" if found.cycle_number is None else found.cycle_number
    return [found.subscription_id, found.plan_key, found.status, since, _given_by(found), given]


def _given_by(found: Subscription) -> str:
    return "by our clock" if found.billed_by == "clock" else "when paid"


def _coming(one: ComingCycle) -> list[object]:
    owed = show.moment(one.owed_at) + (" if paid" if one.waits_for == "payment" else "")
    return [
        one.subscription_id, one.cycle_number, owed, show.tokens(one.tokens), show.moment(one.expires_at),
        show.tokens(one.rollover_from_previous), show.tokens(one.expired_tokens), show.tokens(one.balance_after),
    ]  # fmt: skip
