"""Reading a request's body: so much, for so long, and JSON or not."""

import asyncio
from collections.abc import Awaitable, Generator
from email.message import Message as Headers

from starlette.types import Message, Receive, Scope

from tokentill.errors import BodyTooLarge, BodyTooSlow

BODY_BYTES_MAX = 1_048_576
# What is too large is read on so far beyond, and dropped: who is cut off while sending never hears why.
DRAIN_BYTES = 15 * BODY_BYTES_MAX
# Enough for the largest body over a poor line; who needs longer keeps a connection busy for nothing.
BODY_SECONDS = 30.0


async def read_body(
    scope: Scope, receive: Receive, *, bytes_max: int = BODY_BYTES_MAX, seconds: float = BODY_SECONDS
) -> list[Message]:
    """Return the messages that make up the body; the last one says so when the sender has gone.

    Raises: BodyTooLarge, BodyTooSlow.
    """
    # The body of a small request has mostly arrived with its head: only who has to wait pays for an alarm.
    first = _Begun(receive())
    if first.is_done and not first.value.get("more_body", False) and len(first.value.get("body", b"")) <= bytes_max:
        return [first.value]
    messages, size = [], 0
    receiving: Awaitable[Message] = first
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receiving
                size += len(message.get("body", b""))
                if size <= bytes_max:
                    messages.append(message)
                if not message.get("more_body", False):
                    break
                if max(size, _declared_bytes(scope)) > bytes_max + DRAIN_BYTES:
                    raise _too_large(bytes_max)
                receiving = receive()
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {seconds:g} seconds.") from None
    if size > bytes_max:
        raise _too_large(bytes_max)
    return messages


class _Begun:
    """What `receive` returned, carried on as far as it goes without waiting; `value` is there if it `is_done`.

    Awaited, it goes on where it stopped. Between the two its task must not have been suspended.
    """

    __slots__ = ("_steps", "_waits_for", "is_done", "value")

    def __init__(self, receiving: Awaitable[Message]) -> None:
        self._steps = receiving.__await__()
        self.value: Message
        try:
            self._waits_for: object = next(self._steps)
            self.is_done = False
        except StopIteration as end:
            self.value, self.is_done = end.value, True

    def __await__(self) -> Generator[object, None, Message]:
        while not self.is_done:
            try:
                try:
                    yield self._waits_for
                except BaseException as error:  # noqa: BLE001  # whatever it is, it is for who waits inside
                    self._waits_for = self._steps.throw(error)
                else:
                    self._waits_for = next(self._steps)
            except StopIteration as end:
                self.value, self.is_done = end.value, True
        return self.value


async def drop_body(scope: Scope, receive: Receive, *, seconds: float = BODY_SECONDS) -> None:
    """Read the body and keep nothing of it: the sender is refused whatever it says, and should hear why."""
    try:
        await read_body(scope, receive, bytes_max=0, seconds=seconds)
    except (BodyTooLarge, BodyTooSlow):
        return


def replayed(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that tells these messages first, and then what comes."""
    left = iter(messages)

    async def replay() -> Message:
        for message in left:
            return message
        return await receive()

    return replay


def is_json(content_type: bytes | None) -> bool:
    """Whether a body says that it is JSON, by the rule that FastAPI has for the other routes."""
    if content_type is None:
        return False
    if content_type == b"application/json":
        return True
    headers = Headers()
    headers["content-type"] = content_type.decode("latin-1")
    subtype = headers.get_content_subtype()
    return headers.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _declared_bytes(scope: Scope) -> int:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared) if declared.isdigit() and len(declared) < 20 else 0


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {bytes_max:,} bytes.", bytes_max=bytes_max)
