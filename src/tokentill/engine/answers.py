"""What a caller of the engine holds while the command is on its way.

Like `concurrent.futures.Future`, and awaitable; but made for tens of thousands a second. The library's own future
brings a lock and a condition of its own, which cost more than deciding a spend does; here one lock serves all answers
of the process, and a batch takes it once.
"""

import asyncio
import logging
import os
import threading
from asyncio import AbstractEventLoop
from asyncio import Future as LoopFuture
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError
from typing import Any, Generic, Literal, TypeVar

T_co = TypeVar("T_co", covariant=True)

log = logging.getLogger("tokentill.engine")

_lock = threading.Lock()

State = Literal[
    "waiting",  # In the queue: may still be cancelled.
    "taken",  # waiting → taken: in a batch; it will be carried out or refused, whoever waits for it.
    "done",  # taken → done: committed, or refused.
    "cancelled",  # waiting → cancelled: nothing was written, and nothing will be.
]


class Answer(Generic[T_co]):
    """The answer to one command. `.result()` blocks a thread, `await` suspends a coroutine.

    It comes only after COMMIT: a `HoldReceipt` answers a command about a hold, a `Receipt` any other; None is the
    answer of a command that had nothing to write. A command whose `await` is cancelled before its turn has come is not
    carried out at all.
    """

    __slots__ = ("callbacks", "error", "receipt", "sleepers", "state")

    def __init__(self) -> None:
        self.state: State = "waiting"
        self.receipt: Any = None
        self.error: Exception | None = None
        self.callbacks: list[Callable[[Answer[T_co]], object]] | None = None
        self.sleepers: list[LoopFuture[None]] | None = None

    def done(self) -> bool:
        return self.state == "done" or self.state == "cancelled"  # noqa: PLR1714  # a set is built at each call

    def cancelled(self) -> bool:
        return self.state == "cancelled"

    def cancel(self) -> bool:
        """Withdraw the command, if its turn has not come yet. Return whether it is withdrawn."""
        with _lock:
            if self.state != "waiting":
                return self.state == "cancelled"
            self.state = "cancelled"
            callbacks, sleepers = self.callbacks, self.sleepers
        _wake(((self, callbacks, sleepers),))
        return True

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Block until it is done; return what the command was refused with. Raises as `result`, but for that."""
        self._wait(timeout)
        if self.state == "cancelled":
            raise CancelledError
        return self.error

    def result(self, timeout: float | None = None) -> T_co:
        """Block until it is done, at most `timeout` seconds.

        Raises: what the command was refused with, TimeoutError, CancelledError.
        """
        self._wait(timeout)
        return self._outcome()

    def add_done_callback(self, callback: "Callable[[Answer[T_co]], object]") -> None:
        """Have `callback(answer)` called when it is done: at once, or by the engine, which waits for it meanwhile."""
        with _lock:
            if not self.done():
                self.callbacks = [*(self.callbacks or ()), callback]
                return
        _call(callback, self)

    def __await__(self) -> Generator[object, None, T_co]:
        sleeper: LoopFuture[None] | None = None
        with _lock:
            if self.state == "waiting" or self.state == "taken":  # noqa: PLR1714  # a set is built at each call
                sleeper = asyncio.get_running_loop().create_future()
                self.sleepers = [sleeper] if self.sleepers is None else [*self.sleepers, sleeper]
        if sleeper is not None:
            try:
                yield from sleeper
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self.state == "cancelled":
            raise asyncio.CancelledError
        return self._outcome()

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        bell = threading.Lock()
        bell.acquire()
        self.add_done_callback(lambda _: bell.release())
        if not bell.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise TimeoutError

    def _outcome(self) -> T_co:
        if self.error is not None:
            raise self.error
        if self.state == "cancelled":
            raise CancelledError
        outcome: T_co = self.receipt
        return outcome


def take(answers: Iterable[Answer[Any]]) -> list[bool]:
    """Take each out of its caller's hands; False for those that were withdrawn before."""
    taken = []
    with _lock:
        for answer in answers:
            is_waiting = answer.state == "waiting"
            if is_waiting:
                answer.state = "taken"
            taken.append(is_waiting)
    return taken


# What is answered: a Receipt, a HoldReceipt, or what another queue of the till answers.
Settled = tuple[Answer[Any], object, Exception | None]


def settle(settled: Iterable[Settled]) -> None:
    """Give each its receipt, or its error, and wake who waits for it. What is done or withdrawn stays so."""
    woken = []
    with _lock:
        for answer, receipt, error in settled:
            if answer.state == "done" or answer.state == "cancelled":  # noqa: PLR1714  # a set is built at each call
                continue
            answer.receipt, answer.error = receipt, error
            answer.state = "done"
            if answer.callbacks is not None or answer.sleepers is not None:
                woken.append((answer, answer.callbacks, answer.sleepers))
                answer.callbacks = answer.sleepers = None
    _wake(woken)


_Woken = tuple[Answer[Any], list[Callable[[Answer[Any]], object]] | None, list[LoopFuture[None]] | None]


def _wake(woken: Iterable[_Woken]) -> None:
    """Each loop is woken once, however many of its coroutines wait for the batch."""
    by_loop: dict[AbstractEventLoop, list[LoopFuture[None]]] = {}
    for answer, callbacks, sleepers in woken:
        for callback in callbacks or ():
            _call(callback, answer)
        for sleeper in sleepers or ():
            loop = sleeper.get_loop()
            if loop in by_loop:
                by_loop[loop].append(sleeper)
            else:
                by_loop[loop] = [sleeper]
    for loop, sleepers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_rouse, sleepers)
        except RuntimeError:  # The loop is closed: nobody waits any more.
            log.debug("a loop was closed before its answers came")


def _rouse(sleepers: list[LoopFuture[None]]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():
            sleeper.set_result(None)


def _call(callback: Callable[[Answer[Any]], object], answer: Answer[Any]) -> None:
    try:
        callback(answer)
    except Exception:
        log.exception("a callback of an answer failed")


def _unlock_in_a_child() -> None:
    """A forked child has no threads but its own: whoever held the lock at that moment will never let go of it there."""
    global _lock  # noqa: PLW0603  # one lock for all answers of the process
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_a_child)
