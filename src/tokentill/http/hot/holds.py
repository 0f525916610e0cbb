"""The hot routes about holds: what `http.routes.holds` does, for requests that are surely right.

Each returns None when it is not sure, or when something would have to be read first: then nothing was done, and
`http.routes.holds` answers.
"""

import msgspec

from tokentill.core.calls import call_of
from tokentill.core.keys import KEY_LENGTH_MAX
from tokentill.core.ledger.holds import address_of
from tokentill.core.users import User
from tokentill.http.hot.answered import CaptureAnswer, HoldAnswer
from tokentill.http.hot.asked import Answered, Asked
from tokentill.http.hot.sent import UNREADABLE, CaptureSent, HoldSent, RenewSent, capture_of, hold_of
from tokentill.till import Till

_hold_sent = msgspec.json.Decoder(HoldSent)
_renew_sent = msgspec.json.Decoder(RenewSent)
_capture_sent = msgspec.json.Decoder(CaptureSent)
_encoder = msgspec.json.Encoder()


async def place(till: Till, asked: Asked, body: bytes) -> Answered | None:
    key = asked.key
    if asked.content_type != b"application/json" or key is None or not 1 <= len(key) <= KEY_LENGTH_MAX:
        return None
    try:
        wanted = hold_of(_hold_sent.decode(body))
    except UNREADABLE:
        return None
    if wanted is None or not till.asking.knows(wanted["action_type"]):
        return None
    hold = await till.submit(till.asking.hold(idempotency_key=key, may_ask=False, **wanted))
    return Answered(201, _encoder.encode(HoldAnswer.of(hold)), hold.is_replay)


async def renew(till: Till, asked: Asked, body: bytes) -> Answered | None:
    address = address_of(asked.hold_id)
    if address is None or (body and asked.content_type != b"application/json"):
        return None
    try:
        sent = _renew_sent.decode(body or b"{}")
    except UNREADABLE:
        return None
    user_id, held = address
    hold = await till.submit(till.asking.renew(User(user_id), held, ttl=sent.ttl_seconds))
    return Answered(200, _encoder.encode(HoldAnswer.of(hold)))


async def capture(till: Till, asked: Asked, body: bytes) -> Answered | None:
    address, key = address_of(asked.hold_id), asked.key
    if address is None or (body and asked.content_type != b"application/json"):
        return None
    if key is not None and not 1 <= len(key) <= KEY_LENGTH_MAX:
        return None
    try:
        sent = _capture_sent.decode(body or b"{}")
        wanted = capture_of(sent)
    except UNREADABLE:
        return None
    if wanted is None:
        return None
    on_insufficient = wanted.pop("on_insufficient")
    call = call_of(
        {name: said for name, said in wanted.items() if name not in ("tokens", "action_type")},
        tokens=wanted.get("tokens"), action_type=wanted.get("action_type"),
    )  # fmt: skip
    if till.asking.must_read(call, is_captured=True):
        return None
    user_id, held = address
    command = till.asking.capture_of(
        User(user_id), held, call, on_insufficient=on_insufficient, idempotency_key=key, may_ask=False
    )
    receipt = await till.submit(command)
    assert receipt is not None, command
    return Answered(200, _encoder.encode(CaptureAnswer.of(receipt, asked.hold_id)), receipt.is_replay)


async def void(till: Till, asked: Asked, _: bytes) -> Answered | None:
    address = address_of(asked.hold_id)
    if address is None:
        return None
    user_id, held = address
    hold = await till.submit(till.asking.void(User(user_id), held))
    return Answered(200, _encoder.encode(HoldAnswer.of(hold)))
