"""`/v1/checkout` and `/v1/portal`: where buyers are sent to pay, and to see to what they bought."""

from fastapi import APIRouter, Response

from tokentill.http.auth import AdminOnly
from tokentill.http.deps import REPLAYED, IdempotencyKey, TillDep
from tokentill.http.problems import problems
from tokentill.http.routes.selling_bodies import CheckoutBody, CheckoutView, PortalBody, PortalView

router = APIRouter(prefix="/v1", tags=["selling"], dependencies=[AdminOnly])


@router.post(
    "/checkout", status_code=201, responses=problems(400, 401, 408, 409, 413, 422, 500, 503),
    summary="Make a checkout for a pack or a plan",
)  # fmt: skip
def open_checkout(body: CheckoutBody, key: IdempotencyKey, till: TillDep, response: Response) -> CheckoutView:
    """Send the buyer to its `url`; the webhook grants when it is paid. Repeated with its key: the same session."""
    checkout = till.checkout(
        body.user_id, pack=body.pack, plan=body.plan, quantity=body.quantity, success_url=body.success_url,
        cancel_url=body.cancel_url, email=body.email, metadata=body.metadata, trial_days=body.trial_days,
        allow_promotion_codes=body.allow_promotion_codes, idempotency_key=key,
    )  # fmt: skip
    if checkout.is_replay:
        response.headers[REPLAYED] = "true"
    return CheckoutView.of(checkout)


@router.post(
    "/portal", status_code=201, responses=problems(400, 401, 404, 408, 413, 422, 500, 503),
    summary="Make a session of Stripe's billing portal",
)  # fmt: skip
def open_portal(body: PortalBody, till: TillDep) -> PortalView:
    """Send the user to its `url` at once: it is good for some minutes, and each call makes another."""
    return PortalView(url=till.portal(body.user_id, return_url=body.return_url))
