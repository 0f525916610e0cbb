"""The envelope of each request: its id, the limits of its body, and the answer when something of ours breaks.

Plain ASGI and outermost, so that it holds for every route, also for those that do not exist. The hot routes
(`http.hot.door`) have an envelope of their own, which keeps to the same rules.
"""

import logging
from collections.abc import Callable
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokentill.errors import BodyTooLarge, BodyTooSlow
from tokentill.http import problems
from tokentill.http.reading import read_body, replayed

log = logging.getLogger("tokentill.http")


class Envelope:
    """Give each request an id (`X-Request-Id` in its answer), refuse large and slow bodies, and answer for our bugs."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], UUID], body_seconds: float) -> None:
        self._app = app
        self._new_id = new_id
        self._body_seconds = body_seconds

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
            body = await read_body(scope, receive, seconds=self._body_seconds)
            await self._app(scope, replayed(body, receive), send_with_id)
        except (BodyTooLarge, BodyTooSlow) as error:
            await problems.of_error(error, request_id)(scope, receive, send_with_id)
        except Exception:
            log.exception("%s %s failed (request %s)", scope["method"], ascii(scope["path"]), request_id)
            if has_started:
                raise
            await problems.of_bug(request_id)(scope, receive, send_with_id)
