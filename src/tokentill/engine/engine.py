"""The engine: where all writes to accounts go through.

`submit` returns at once with a future; lanes, each a thread with a connection, carry out what has arrived, batch by
batch. A lone caller does not wait for company: a batch is what arrived while the last one was committing. Any number
of engines, in any number of processes, may run against one database.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from tokentill.core.companions import Companion
from tokentill.core.ledger.commands import Command, HoldCommand, RowCommand
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.engine.answers import Answer, settle
from tokentill.engine.draft import Request
from tokentill.engine.inbox import Inbox
from tokentill.engine.lane import Lane
from tokentill.engine.memory import Memory
from tokentill.errors import Overloaded, Unavailable
from tokentill.store.db import Conn
from tokentill.store.journal import Receipt

LANES = 2  # While one lane waits for PostgreSQL, another decides. More would only halve the batches again.
WAITING_MAX = 16_384
ACCOUNTS_MAX = 100_000
KEYS_MAX = 400_000


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine has done since it was opened."""

    commands: int
    batches: int
    sizes: Mapping[int, int]  # How many batches there were of each size.


class Engine:
    """Lanes over one inbox. `clock` says the moment a batch is decided for and written; `new_id` makes UUIDv7s."""

    def __init__(
        self,
        connect: Callable[[], Conn],
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        lanes: int = LANES,
        waiting_max: int = WAITING_MAX,
        accounts_max: int = ACCOUNTS_MAX,
    ) -> None:
        self._waiting_max = waiting_max
        self._closed: str | None = None  # Why nothing is taken any more.
        self._inbox = Inbox(lanes=lanes)
        memory = Memory(accounts_max=accounts_max, keys_max=KEYS_MAX)
        self._lanes = [Lane(connect, clock=clock, new_id=new_id, pause=time.sleep, memory=memory) for _ in range(lanes)]
        self._threads = [
            threading.Thread(target=self._run, args=[number], name=f"till-lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        self._running = lanes
        self._ending = threading.Lock()
        for thread in self._threads:
            thread.start()
        _open_engines.add(self)

    @overload
    def submit(
        self, command: RowCommand, *, at: datetime | None = None, companions: tuple[Companion, ...] = ()
    ) -> Answer[Receipt | None]: ...

    @overload
    def submit(
        self, command: HoldCommand, *, at: datetime | None = None, companions: tuple[Companion, ...] = ()
    ) -> Answer[HoldReceipt]: ...

    def submit(
        self, command: Command, *, at: datetime | None = None, companions: tuple[Companion, ...] = ()
    ) -> Answer[Any]:
        """Ask for `command`, decided for the moment `at` (None: when its turn comes). The answer comes after COMMIT.

        Raises: Overloaded when too many commands wait already (nothing was written), Unavailable when the engine was
        closed. The answer raises what the ledger refuses.
        """
        if self._closed is not None:
            raise Unavailable(self._closed)
        if len(self._inbox) >= self._waiting_max:
            raise overloaded(self._waiting_max)
        request = Request(command, at, companions)
        self._inbox.put(request)
        if self._closed is not None and not self._running:  # It ended meanwhile, and nobody would look.
            self._turn_away()
        return request

    def submit_many(self, commands: Sequence[Command], *, at: datetime | None = None) -> list[Answer[Any]]:
        """Ask for several commands at once; each gets an answer of its own, also when there is no room for it."""
        answers: list[Answer[Any]] = []
        for command in commands:
            try:
                answers.append(self.submit(command, at=at))
            except Unavailable as error:
                refused = Request(command, at, ())
                settle([(refused, None, error)])
                answers.append(refused)
        return answers

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is the engine itself, in a callback of an answer: it must not wait for another answer."""
        return threading.current_thread() in self._threads

    def stats(self) -> EngineStats:
        sizes = dict(self._inbox.sizes)
        commands = sum(size * count for size, count in sizes.items())
        return EngineStats(commands=commands, batches=sum(sizes.values()), sizes=sizes)

    def close(self) -> None:
        """Carry out what waits, then stop. Idempotent."""
        self._closed = self._closed or "The till is closed."
        self._inbox.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _run(self, number: int) -> None:
        lane, batch = self._lanes[number], list[Request]()
        try:
            while batch := self._inbox.next_batch(number, batch):
                lane.carry_out(batch)
                time.sleep(0)  # Whoever was answered asks again first: the next batch should not be one of leftovers.
        finally:
            # Nobody must wait for ever, whatever ended this thread.
            self._closed = self._closed or "The till's engine has ended."
            settle((request, None, Unavailable(self._closed)) for request in batch)
            self._inbox.close()
            with self._ending:
                self._running -= 1
            if not self._running:
                self._turn_away()
            lane.close()

    def _turn_away(self) -> None:
        settle((request, None, Unavailable(self._closed or "")) for request in self._inbox.drain())

    def forked(self) -> None:
        """Say in a forked child that nothing works here: threads do not survive a fork."""
        self._closed = "This till was opened before a fork; open a till of the child's own."


def overloaded(waiting_max: int) -> Overloaded:
    """Nothing was written: too many commands wait already."""
    return Overloaded(f"{waiting_max:,} commands wait already; try again in a second.", retry_after=1)


_open_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _tell_the_child() -> None:
    for engine in _open_engines:
        engine.forked()


os.register_at_fork(after_in_child=_tell_the_child)
