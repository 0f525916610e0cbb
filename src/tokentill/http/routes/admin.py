"""`/api/admin/…`: what the admin's page calls."""

from fastapi import APIRouter, Response

from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import AdjustBody, ReceiptView
from tokentill.http.deps import REPLAYED, Actor, OptionalIdempotencyKey, TillDep
from tokentill.http.problems import problems

router = APIRouter(prefix="/api/admin", tags=["admin"], dependencies=[AdminOnly])


@router.post(
    "/users/adjust-tokens", responses=problems(400, 401, 402, 404, 408, 409, 413, 422, 500, 503),
    summary="Add or deduct tokens by hand",
)  # fmt: skip
def adjust_tokens(
    body: AdjustBody,
    till: TillDep,
    response: Response,
    key: OptionalIdempotencyKey = None,
    actor: Actor = None,
) -> ReceiptView:
    """Adding opens the account if need be. Deducting more than there is is refused with 402, unless forced."""
    receipt = till.adjust_tokens(
        body.user_id, body.tokens, reason=body.reason, created_by=actor or "admin", idempotency_key=key,
        force=body.force,
    )  # fmt: skip
    if receipt.is_replay:
        response.headers[REPLAYED] = "true"
    return ReceiptView.of(receipt, body.user_id)
