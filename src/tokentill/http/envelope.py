"""The envelope of each request: its id, the limit of its body, and the answer when something of ours breaks.

Plain ASGI and outermost, so that it holds for every route, also for those that do not exist.
"""

import logging
from collections.abc import Callable
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokentill.errors import BodyTooLarge
from tokentill.http import problems

BODY_BYTES_MAX = 1_048_576
# What is too large is read on so far, and dropped: who is cut off while sending never hears why.
DRAIN_BYTES_MAX = 16 * BODY_BYTES_MAX

log = logging.getLogger("tokentill.http")


class Envelope:
    """Give each request an id (`X-Request-Id` in its answer), refuse large bodies, and answer for our bugs."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], UUID]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._new_id().hex}"
        scope[problems.REQUEST_ID] = request_id
        has_started = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            body = await _read(scope, receive)
            await self._app(scope, _replayed(body, receive), send_with_id)
        except BodyTooLarge as error:
            await problems.of_error(error, request_id)(scope, receive, send_with_id)
        except Exception:
            log.exception("%s %s failed (request %s)", scope["method"], ascii(scope["path"]), request_id)
            if has_started:
                raise
            await problems.of_bug(request_id)(scope, receive, send_with_id)


async def _read(scope: Scope, receive: Receive) -> list[Message]:
    """Return the messages that make up the body. Raises: BodyTooLarge."""
    if _declared_bytes(scope) > DRAIN_BYTES_MAX:
        raise _too_large()
    messages, size = [], 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if size <= BODY_BYTES_MAX:
            messages.append(message)
        if size > DRAIN_BYTES_MAX or message["type"] != "http.request" or not message.get("more_body", False):
            break
    if size > BODY_BYTES_MAX:
        raise _too_large()
    return messages


def _declared_bytes(scope: Scope) -> int:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared) if declared.isdigit() and len(declared) < 20 else 0


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {BODY_BYTES_MAX:,} bytes.", bytes_max=BODY_BYTES_MAX)


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that tells these messages first, and then what comes."""
    left = iter(messages)

    async def replay() -> Message:
        for message in left:
            return message
        return await receive()

    return replay
