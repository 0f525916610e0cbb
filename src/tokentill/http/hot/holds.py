"""The hot routes about holds: what `http.routes.holds` does, for requests that are surely right.

Each returns None when it is not sure, or when something would have to be read first: then nothing was done, and
`http.routes.holds` answers.
"""

import msgspec

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
    hold = await till.submit(till.asking.from_memory().hold(idempotency_key=key, **wanted))
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
    if sent.action_type is not None and not till.asking.knows(sent.action_type):
        return None
    if not wanted.keys().isdisjoint(("input_tokens", "output_tokens", "pools", "response")):
        # Charged by the rule of the hold's action, and priced by the model that the hold names: both in the database.
        if sent.action_type is None and wanted.get("tokens") is None:
            return None
        if "model_used" not in wanted and "cost_estimate" not in wanted:
            return None
        if not till.asking.is_fresh:
            return None
    user_id, held = address
    command = till.asking.from_memory().capture(User(user_id), held, idempotency_key=key, **wanted)
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
