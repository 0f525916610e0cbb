"""Reading a body: who has to wait for it is watched by an alarm, and nobody else."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Message

from tokentill.errors import BodyTooLarge, BodyTooSlow
from tokentill.http.reading import BODY_BYTES_MAX, read_body

SCOPE: dict[str, Any] = {"headers": []}


class Loop(asyncio.SelectorEventLoop):
    """Counts the alarms that are set."""

    alarms = 0

    def call_at(  # type: ignore[override]  # there its arguments are tied to the callback's
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.alarms += 1
        return super().call_at(when, callback, *args, context=context)


def piece(body: bytes, *, is_last: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": not is_last}


def read(*pieces: Message, waits: int, seconds: float = 3_600) -> tuple[bytes, int]:
    """Return the body, and how many alarms were set; each piece is waited for so many times."""
    arriving = list(pieces)

    async def receive() -> Message:
        for _ in range(waits):
            await asyncio.sleep(0)
        return arriving.pop(0)

    return run(lambda: read_body(SCOPE, receive, seconds=seconds))


def run(reading: Callable[[], Coroutine[Any, Any, list[Message]]]) -> tuple[bytes, int]:
    loop = Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        messages = runner.run(reading())
    return b"".join(each["body"] for each in messages), loop.alarms


def test_only_who_waits_for_a_body_sets_an_alarm() -> None:
    assert read(piece(b"{}"), waits=0) == (b"{}", 0)
    for waits in (1, 2):
        assert read(piece(b"{}"), waits=waits) == (b"{}", 1)
    for waits in (0, 1, 2):
        assert read(piece(b"{", is_last=False), piece(b"}"), waits=waits) == (b"{}", 1)


def test_a_body_that_is_too_large_is_refused_whether_it_was_waited_for_or_not() -> None:
    for waits in (0, 1):
        assert len(read(piece(b" " * BODY_BYTES_MAX), waits=waits)[0]) == BODY_BYTES_MAX
        with pytest.raises(BodyTooLarge):
            read(piece(b" " * (BODY_BYTES_MAX + 1)), waits=waits)


def test_who_is_given_up_may_still_tidy_up_and_wait_for_that() -> None:
    tidied = []

    async def receive() -> Message:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(True)
        raise AssertionError

    with pytest.raises(BodyTooSlow):
        run(lambda: read_body(SCOPE, receive, seconds=0))
    assert tidied == [True]


def test_what_breaks_while_it_waits_is_heard_inside_first() -> None:
    async def receive() -> Message:
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(broken.set_exception, ConnectionError("cut"))
        try:
            await broken
        except ConnectionError:
            await asyncio.sleep(0)
            return {"type": "http.disconnect", "body": b"gone"}
        raise AssertionError

    assert run(lambda: read_body(SCOPE, receive))[0] == b"gone"


def test_a_request_that_is_cancelled_from_outside_stays_cancelled() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def asked() -> list[Message]:
        reading = asyncio.create_task(read_body(SCOPE, receive))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return []

    run(asked)
