"""The engine: where all writes to accounts go through.

`submit` returns at once with a future; a thread carries out what has arrived, batch by batch. A lone caller does not
wait for company: a batch is what arrived while the last one was committing. Any number of engines, in any number of
processes, may run against one database.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from tokentill.core.commands import Command
from tokentill.core.companions import Companion
from tokentill.engine.answers import Answer
from tokentill.engine.draft import Request
from tokentill.engine.lane import Lane
from tokentill.engine.memory import Memory
from tokentill.errors import Overloaded, Unavailable
from tokentill.store.db import Conn

BATCH_MAX = 1024
WAITING_MAX = 16_384
ACCOUNTS_MAX = 100_000
KEYS_MAX = 200_000


class Engine:
    """One lane, one thread, one connection. `clock` stamps `created_at`; `new_id` makes UUIDv7s."""

    def __init__(
        self,
        connect: Callable[[], Conn],
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        waiting_max: int = WAITING_MAX,
        accounts_max: int = ACCOUNTS_MAX,
    ) -> None:
        self._waiting: deque[Request] = deque()
        self._waiting_max = waiting_max
        self._wake = threading.Condition()
        self._is_closing = False
        memory = Memory(accounts_max=accounts_max, keys_max=KEYS_MAX)
        self._lane = Lane(connect, clock=clock, new_id=new_id, pause=time.sleep, memory=memory)
        self._thread = threading.Thread(target=self._run, name="till-engine", daemon=True)
        self._thread.start()

    def submit(self, command: Command, *, at: datetime, companions: tuple[Companion, ...] = ()) -> Answer:
        """Ask for `command`, decided for the moment `at`. The answer comes after COMMIT.

        Raises: Overloaded when too many commands wait already (nothing was written), Unavailable when the engine was
        closed. The answer raises what the ledger refuses.
        """
        answer = Answer()
        with self._wake:
            if self._is_closing:
                raise Unavailable("The till is closed.")
            if not self._thread.is_alive():
                raise Unavailable("This till's engine has ended; after a fork, open a till of the child's own.")
            if len(self._waiting) >= self._waiting_max:
                raise Overloaded(f"{self._waiting_max:,} commands wait already; try again in a second.", retry_after=1)
            self._waiting.append(Request(command, at, companions, answer))
            self._wake.notify()
        return answer

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is the engine itself, in a callback of an answer: it must not wait for another answer."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Carry out what waits, then stop. Idempotent."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        batch: list[Request] = []
        try:
            while batch := self._next_batch():
                self._lane.carry_out(batch)
        finally:
            # Nobody must wait for ever, whatever ended this thread.
            with self._wake:
                self._is_closing = True
                left = [*batch, *self._waiting]
                self._waiting.clear()
            for request in left:
                if not request.answer.done():
                    request.answer.set_exception(Unavailable("The till's engine has ended."))
            self._lane.close()

    def _next_batch(self) -> list[Request]:
        """Wait for work and take what there is; nothing: the engine is closing.

        A caller who has given up by now (a cancelled `await`) is left out; once taken, a command cannot be cancelled.
        """
        with self._wake:
            while True:
                while not self._waiting and not self._is_closing:
                    self._wake.wait()
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
                batch = [request for request in taken if request.answer.set_running_or_notify_cancel()]
                if batch or (self._is_closing and not self._waiting):
                    return batch
