"""`/v1/usage`: AI operations, paid in tokens."""

from functools import partial

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import UsageBody, UsageView
from tokentill.http.deps import REPLAYED, IdempotencyKey, TillDep
from tokentill.http.problems import problems

router = APIRouter(tags=["usage"], dependencies=[AdminOnly])


@router.post(
    "/v1/usage", status_code=201, responses=problems(400, 401, 402, 404, 408, 409, 413, 422, 500, 503),
    summary="Spend tokens on an AI operation", response_model_exclude_defaults=True,
)  # fmt: skip
async def track_usage(body: UsageBody, key: IdempotencyKey, till: TillDep, response: Response) -> UsageView:
    """Refused with 402 when the account cannot cover it. Safe to repeat with the same Idempotency-Key."""
    details = body.model_dump(exclude={"user_id", "tokens", "action_type"})
    ask = partial(
        till.asking.spend, body.user_id, body.tokens, body.action_type, idempotency_key=key, **details
    )  # fmt: skip
    # An action that is not known yet is looked up in the database, and the loop must not wait for that.
    command = ask() if till.asking.knows(body.action_type) else await run_in_threadpool(ask)
    receipt = await till.submit(command)
    assert receipt is not None, command
    if receipt.is_replay:
        response.headers[REPLAYED] = "true"
    return UsageView.of(receipt, body.user_id)
