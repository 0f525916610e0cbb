"""`/v1/users/…/subscriptions` and `/preview`: how subscriptions stand, what comes, and what of them is ours to change.

A subscription of Stripe's is changed in Stripe, and the till follows.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import PreviewView, SteerBody, SubscriptionsView, SubscriptionView
from tokentill.http.deps import Actor, TillDep, UserId
from tokentill.http.problems import problems
from tokentill.http.routes.users import PREFIX

router = APIRouter(prefix=PREFIX, tags=["subscriptions"], dependencies=[AdminOnly])

READS = problems(401, 404, 408, 413, 422, 500, 503)
STEERS = problems(400, 401, 404, 408, 409, 413, 422, 500, 503)
SubscriptionId = Annotated[str, Path(description="The subscription's id, percent-encoded.")]
ONE = "/subscriptions/{subscription_id:any_text}"


@router.get("/subscriptions", responses=READS, summary="The user's subscriptions")
def read_subscriptions(user_id: UserId, till: TillDep) -> SubscriptionsView:
    """Oldest first; of somebody without any, or without an account, there are none."""
    return SubscriptionsView.of(till.subscriptions(user_id), user_id)


@router.get("/preview", responses=READS, summary="The coming cycles")
def read_preview(
    user_id: UserId,
    till: TillDep,
    subscription_id: Annotated[str | None, Query(description="Of this subscription only.")] = None,
    cycles: Annotated[int, Query(ge=1, le=1000, description="How many of each subscription.")] = 3,
) -> PreviewView:
    """As they will be given if nothing is spent until then; made by the functions that will give them."""
    return PreviewView.of(till.preview(user_id, subscription_id, cycles=cycles), user_id)


@router.post(ONE + "/pause", responses=STEERS, summary="Pause a subscription of our own clock")
def pause_subscription(
    user_id: UserId, subscription_id: SubscriptionId, till: TillDep, body: SteerBody | None = None, actor: Actor = None
) -> SubscriptionView:
    """Cycles that begin meanwhile are left out for good. Safe to repeat."""
    reason = body.reason if body else None
    return SubscriptionView.of(till.pause_subscription(user_id, subscription_id, actor=actor or "admin", reason=reason))


@router.post(ONE + "/resume", responses=STEERS, summary="Let a paused subscription go on")
def resume_subscription(
    user_id: UserId, subscription_id: SubscriptionId, till: TillDep, body: SteerBody | None = None, actor: Actor = None
) -> SubscriptionView:
    """It goes on with its next cycle. Safe to repeat."""
    reason = body.reason if body else None
    return SubscriptionView.of(
        till.resume_subscription(user_id, subscription_id, actor=actor or "admin", reason=reason)
    )


@router.post(ONE + "/cancel", responses=STEERS, summary="End a subscription of our own clock")
def cancel_subscription(
    user_id: UserId, subscription_id: SubscriptionId, till: TillDep, body: SteerBody | None = None, actor: Actor = None
) -> SubscriptionView:
    """For good; what it gave lives on. Safe to repeat."""
    reason = body.reason if body else None
    return SubscriptionView.of(
        till.cancel_subscription(user_id, subscription_id, actor=actor or "admin", reason=reason)
    )
