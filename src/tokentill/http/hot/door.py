"""The hot routes: what every AI call of an app asks, answered before the framework has begun.

`POST /v1/usage`, its batch, `POST /v1/events` and those about holds are taken at the door of the app, by path and
method: the key is checked, the body read, the till asked, the answer sent; no router, middleware or dependency in
between. Nothing here makes the loop wait for the database: what must be read first is read in a thread.

Stripe's webhook comes in here as well: a shop's busiest minute is many events a second. It has a signature instead of
the key.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from starlette.types import Receive, Scope, Send

from tokentill.errors import TillError
from tokentill.http import problems
from tokentill.http.auth import AdminKey, presented_in
from tokentill.http.hot import batches, events, holds, usage
from tokentill.http.hot.answered import EventAnswer, encode
from tokentill.http.hot.asked import Answered, Asked, send_answer, send_problem
from tokentill.http.hot.sent import NOT_AN_OBJECT, key_complaints, wrong
from tokentill.http.reading import BODY_BYTES_MAX, drop_body, is_json, read_body
from tokentill.stripe.webhook import verify
from tokentill.till import Till

WEBHOOK = "/api/stripe/webhook"
USAGE, BATCH, HOLDS = "/v1/usage", "/v1/usage/batch", "/v1/holds"

log = logging.getLogger("tokentill.http")


async def _spend_many(till: Till, asked: Asked, body: bytes) -> Answered:
    if not is_json(asked.content_type):
        raise wrong(("body", NOT_AN_OBJECT))
    if complaints := key_complaints(asked.key, is_needed=False):
        raise wrong(*complaints)
    written, is_replay = await batches.answer(till, body, asked.key)
    return Answered(200, written, is_replay)


async def _receive(till: Till, asked: Asked, body: bytes) -> Answered:
    """Store a Stripe event and act on it, if one of the secrets signed it."""
    event = verify(body, asked.signature, secrets=asked.webhook_secrets, at=till.clock())
    return Answered(200, encode(EventAnswer.of(await till.submit_stripe_event(event))))


class Route(NamedTuple):
    """`ask` answers. Raises: what is wrong with the request."""

    ask: Callable[[Till, Asked, bytes], Awaitable[Answered]]
    bytes_max: int = BODY_BYTES_MAX
    has_key: bool = True  # Whether the admin key opens it.


_ROUTES = {
    USAGE: Route(usage.spend),
    BATCH: Route(_spend_many, batches.BATCH_BYTES_MAX),
    events.EVENTS: Route(events.take, batches.BATCH_BYTES_MAX),
    events.TRACES_PATH: Route(events.take_traces, batches.BATCH_BYTES_MAX),
    events.LOGS_PATH: Route(events.take_logs, batches.BATCH_BYTES_MAX),
    HOLDS: Route(holds.place),
    WEBHOOK: Route(_receive, has_key=False),
}
_OF_A_HOLD = {
    "renew": Route(holds.renew),
    "capture": Route(holds.capture),
    "void": Route(holds.void),
}
# Whose paths no route of the framework has; the webhook's has one, which a host may mount by itself.
PATHS = (*(path for path in _ROUTES if path != WEBHOOK), *(f"{HOLDS}/{{hold_id}}/{act}" for act in _OF_A_HOLD))


def route_of(path: str) -> tuple[Route, str] | None:
    """Return the hot route that a POST to this path takes, and the hold that the path names."""
    route = _ROUTES.get(path)
    if route is not None:
        return route, ""
    if path.startswith("/v1/holds/"):
        hold_id, _, act = path[10:].partition("/")
        route = _OF_A_HOLD.get(act)
        if route is not None and hold_id:
            return route, hold_id
    return None


class HotRoutes:
    """Answers on the hot routes."""

    def __init__(
        self, till: Till, *, admin_key: AdminKey, webhook_secrets: Sequence[str], new_id: Callable[[], UUID],
        body_seconds: float,
    ) -> None:  # fmt: skip
        self._till = till
        self._admin_key = admin_key
        self._webhook_secrets = webhook_secrets
        self._new_id = new_id
        self._body_seconds = body_seconds

    async def answer(self, route: Route, hold_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST that `route_of` knows."""
        asked = Asked(scope, b"req_%032x" % self._new_id().int, hold_id, self._webhook_secrets)
        try:
            try:
                if route.has_key:
                    self._admin_key.check(presented_in(asked.authorization))
            except TillError:
                await drop_body(scope, receive, seconds=self._body_seconds)
                raise
            messages = await read_body(scope, receive, bytes_max=route.bytes_max, seconds=self._body_seconds)
            if messages[-1]["type"] != "http.request":
                return  # The sender has gone, in the middle of the body perhaps.
            body = messages[0]["body"] if len(messages) == 1 else b"".join(each["body"] for each in messages)
            await send_answer(send, asked, await route.ask(self._till, asked, body))
        except TillError as error:
            await send_problem(problems.of_error(error, asked.request_id.decode()), asked, receive, send)
        except Exception:
            request_id = asked.request_id.decode()
            log.exception("POST %s failed (request %s)", ascii(scope["path"]), request_id)
            await send_problem(problems.of_bug(request_id), asked, receive, send)
