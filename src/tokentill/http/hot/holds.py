"""The hot routes about holds: tokens set aside for calls whose size is not known yet.

A hold's id in the API names its account, too (`HoldReceipt.id`), so that a path says all.
"""

from functools import partial
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from tokentill.core.ledger.holds import address_of
from tokentill.core.users import User
from tokentill.errors import HoldNotFound
from tokentill.http.hot.answered import CaptureView, HoldView, encode
from tokentill.http.hot.asked import Answered, Asked
from tokentill.http.hot.sent import CAPTURE, HOLD, RENEW, CaptureBody, RenewBody, read_request
from tokentill.till import Till


async def place(till: Till, asked: Asked, body: bytes) -> Answered:
    """Refused with 402 when they cannot be reached. Repeated with its key, the hold is answered as it stands."""
    wanted = read_request(asked, body, HOLD, key="needed")
    ask = partial(
        till.asking.hold, wanted.user_id, wanted.tokens, wanted.action_type, ttl=wanted.ttl_seconds, model=wanted.model,
        provider=wanted.provider, metadata=wanted.metadata, idempotency_key=asked.key,
    )  # fmt: skip
    # An action that is not known yet is looked up in the database, and the loop must not wait for that.
    is_known = till.asking.knows(wanted.action_type)
    hold = await till.submit(ask(may_ask=False) if is_known else await run_in_threadpool(ask))
    return Answered(201, encode(HoldView.of(hold)), hold.is_replay)


async def renew(till: Till, asked: Asked, body: bytes) -> Answered:
    """Safe to repeat: it never lives shorter than it would have."""
    wanted = read_request(asked, body, RENEW, key="ignored", default=_RENEW)
    hold = await till.submit(till.asking.renew(*address(asked.hold_id), ttl=wanted.ttl_seconds))
    return Answered(200, encode(HoldView.of(hold)))


async def capture(till: Till, asked: Asked, body: bytes) -> Answered:
    """Safe to repeat, with a key or without: a hold is captured once, and asked again, it answers that."""
    call = read_request(asked, body, CAPTURE, key="taken", default=_CAPTURE)
    ask = partial(
        till.asking.capture_of, *address(asked.hold_id), call, on_insufficient=call.on_insufficient,
        idempotency_key=asked.key,
    )  # fmt: skip
    must_read = till.asking.must_read(call, is_captured=True)
    command = await run_in_threadpool(ask) if must_read else ask(may_ask=False)
    receipt = await till.submit(command)
    assert receipt is not None, command
    return Answered(200, encode(CaptureView.of(receipt, asked.hold_id)), receipt.is_replay)


async def void(till: Till, asked: Asked, _: bytes) -> Answered:
    """Safe to repeat. One that has expired is free already."""
    hold = await till.submit(till.asking.void(*address(asked.hold_id)))
    return Answered(200, encode(HoldView.of(hold)))


def address(hold_id: str) -> tuple[User, UUID]:
    """Return the account and the hold that an id names. Raises: HoldNotFound."""
    found = address_of(hold_id)
    if found is None:
        raise HoldNotFound("This is no id of a hold: pass on the one that placing it answered.", hold_id=hold_id[:100])
    user_id, held = found
    return User(user_id), held


_RENEW, _CAPTURE = RenewBody(), CaptureBody()
