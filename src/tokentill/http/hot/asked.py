"""A request at the door, and how it is answered there: what the hot routes share."""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokentill.http.deps import REPLAYED

_CONTENT_TYPE = (b"content-type", b"application/json")
_REPLAYED = (REPLAYED.lower().encode(), b"true")


class Asked:
    """A request: the headers that matter, its id, and the hold that its path names ("" where it names none)."""

    __slots__ = ("authorization", "content_type", "hold_id", "key", "request_id", "scope", "signature",
                 "webhook_secrets")  # fmt: skip

    def __init__(self, scope: Scope, request_id: bytes, hold_id: str, webhook_secrets: Sequence[str] = ()) -> None:
        self.scope = scope
        self.request_id = request_id
        self.hold_id = hold_id
        self.webhook_secrets = webhook_secrets  # With one of which its sender must have signed it, on the webhook.
        self.authorization: bytes | None = None
        self.key: str | None = None
        self.content_type: bytes | None = None
        self.signature: str | None = None
        for name, value in scope["headers"]:  # Of several with one name, the first counts.
            if name == b"authorization":
                if self.authorization is None:
                    self.authorization = value
            elif name == b"idempotency-key":
                if self.key is None:
                    self.key = value.decode("latin-1")
            elif name == b"content-type":
                if self.content_type is None:
                    self.content_type = value
            elif name == b"stripe-signature" and self.signature is None:
                self.signature = value.decode("latin-1")


class Answered(NamedTuple):
    """What is answered to it when all is well."""

    status: int
    body: bytes
    is_replay: bool = False


async def send_answer(send: Send, asked: Asked, answered: Answered) -> None:
    status, body, is_replay = answered
    headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body)), (b"x-request-id", asked.request_id)]
    if is_replay:
        headers.append(_REPLAYED)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(problem: Response, asked: Asked, receive: Receive, send: Send) -> None:
    problem.headers["X-Request-Id"] = asked.request_id.decode()
    await problem(asked.scope, receive, send)
