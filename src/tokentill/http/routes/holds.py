"""`/v1/holds`: tokens set aside for calls whose size is not known yet.

A hold's id in the API names its account, too (`HoldReceipt.id`), so that a path says all.
"""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response
from starlette.concurrency import run_in_threadpool

from tokentill.core.ledger.holds import address_of
from tokentill.core.users import User
from tokentill.errors import HoldNotFound
from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import CaptureBody, CaptureView, HoldBody, HoldView, RenewBody
from tokentill.http.deps import REPLAYED, IdempotencyKey, OptionalIdempotencyKey, TillDep
from tokentill.http.problems import problems

router = APIRouter(prefix="/v1/holds", tags=["holds"], dependencies=[AdminOnly])

HoldId = Annotated[str, Path(description="The id that placing the hold answered.")]


@router.post(
    "", status_code=201, responses=problems(400, 401, 402, 404, 408, 409, 413, 422, 500, 503),
    summary="Set tokens aside for a call",
)  # fmt: skip
async def place_hold(body: HoldBody, key: IdempotencyKey, till: TillDep, response: Response) -> HoldView:
    """Refused with 402 when they cannot be reached. Repeated with its key, the hold is answered as it stands."""
    ask = partial(
        till.asking.hold, body.user_id, body.tokens, body.action_type, ttl=body.ttl_seconds, model=body.model,
        provider=body.provider, metadata=body.metadata, idempotency_key=key,
    )  # fmt: skip
    # An action that is not known yet is looked up in the database, and the loop must not wait for that.
    command = ask() if till.asking.knows(body.action_type) else await run_in_threadpool(ask)
    hold = await till.submit(command)
    if hold.is_replay:
        response.headers[REPLAYED] = "true"
    return HoldView.of(hold)


@router.get("/{hold_id}", responses=problems(401, 404, 408, 413, 422, 500, 503), summary="A hold as it stands now")
def read_hold(hold_id: HoldId, till: TillDep) -> HoldView:
    """Whether it is open or not."""
    return HoldView.of(till.find_hold(*_address(hold_id)))


@router.post(
    "/{hold_id}/renew", responses=problems(400, 401, 404, 408, 409, 413, 422, 500, 503),
    summary="Give an open hold more time",
)  # fmt: skip
async def renew_hold(hold_id: HoldId, till: TillDep, body: RenewBody | None = None) -> HoldView:
    """Safe to repeat: it never lives shorter than it would have."""
    body = body or RenewBody.model_validate({})
    return HoldView.of(await till.submit(till.asking.renew(*_address(hold_id), ttl=body.ttl_seconds)))


@router.post(
    "/{hold_id}/capture", responses=problems(400, 401, 402, 404, 408, 409, 413, 422, 500, 503),
    summary="Spend what the call took, and free the rest", response_model_exclude_defaults=True,
)  # fmt: skip
async def capture_hold(
    hold_id: HoldId, till: TillDep, response: Response, body: CaptureBody | None = None,
    key: OptionalIdempotencyKey = None,
) -> CaptureView:  # fmt: skip
    """Safe to repeat, with a key or without: a hold is captured once, and asked again, it answers that."""
    body = body or CaptureBody.model_validate({})
    user, held = _address(hold_id)
    details = body.model_dump(exclude={"tokens"})
    ask = partial(till.asking.capture, user, held, body.tokens, idempotency_key=key, **details)
    # What must be read for it, the loop must not wait for; a capture is rarely asked here.
    command = await run_in_threadpool(ask)
    receipt = await till.submit(command)
    assert receipt is not None, command
    if receipt.is_replay:
        response.headers[REPLAYED] = "true"
    return CaptureView.of(receipt, hold_id)


@router.post(
    "/{hold_id}/void", responses=problems(401, 404, 408, 409, 413, 422, 500, 503), summary="Free a hold's tokens"
)
async def void_hold(hold_id: HoldId, till: TillDep) -> HoldView:
    """Safe to repeat. One that has expired is free already."""
    return HoldView.of(await till.submit(till.asking.void(*_address(hold_id))))


def _address(hold_id: str) -> tuple[User, UUID]:
    """Raises: HoldNotFound."""
    address = address_of(hold_id)
    if address is None:
        raise HoldNotFound("This is no id of a hold: pass on the one that placing it answered.", hold_id=hold_id[:100])
    user_id, held = address
    return User(user_id), held
