"""The inbox: what has arrived, and which lane gets it.

A lane takes what has arrived while its last batch was committing, up to `BATCH_MAX`; no timer makes anybody wait. While
a lane works on an account, that account is its own: what arrives for it meanwhile is kept for that lane, so lanes of
one process never race each other, and whatever lane is free takes the rest. The first lane is always there; the others
join in while at least `BUSY` commands wait, because two half batches cost more than a whole one.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from tokentill.engine.answers import take
from tokentill.engine.draft import Request

BATCH_MAX = 1024
BUSY = 256


class Inbox:
    """Hands batches to lanes 0, 1, …; each lane calls `next_batch` from a thread of its own."""

    def __init__(self, *, lanes: int) -> None:
        self._arrived: SimpleQueue[Request | None] = SimpleQueue()  # None: look up, there is something to do.
        self._lock = threading.Lock()
        self._at_work: dict[int, int] = {}  # user_id.int → the lane that works on the account.
        self._kept: list[deque[Request]] = [deque() for _ in range(lanes)]  # What waits for a lane's own accounts.
        self._kept_count = 0
        self._bells = [threading.Event() for _ in range(lanes)]
        self._is_closing = False
        self.sizes: Counter[int] = Counter()  # How many batches of which size were taken.
        self.put = self._arrived.put

    def __len__(self) -> int:
        """How many commands wait."""
        return self._arrived.qsize() + self._kept_count

    def close(self) -> None:
        """Let the lanes go once nothing waits. Idempotent."""
        self._is_closing = True
        self._arrived.put(None)
        for bell in self._bells:
            bell.set()

    def drain(self) -> list[Request]:
        """Take out all that waits, for whom no lane is left."""
        with self._lock:
            left = [request for kept in self._kept for request in kept]
            for kept in self._kept:
                kept.clear()
            self._kept_count = 0
            while not self._arrived.empty():
                request = self._arrived.get_nowait()
                if request is not None:
                    left.append(request)
        return left

    def next_batch(self, lane: int, done: Sequence[Request]) -> list[Request]:
        """Let go of the accounts of the batch that is done, wait for work and take it; nothing: we are closing.

        A caller who has given up by now (a cancelled `await`) is left out; once taken, a command cannot be cancelled.
        """
        first: list[Request] = []
        while True:
            with self._lock:
                batch = self._fill(lane, first, done)
                is_over = self._is_closing and not batch and self._arrived.empty()
            done = ()
            taken = [request for request, is_taken in zip(batch, take(batch), strict=True) if is_taken]
            if taken:
                self.sizes[len(taken)] += 1
                return taken
            if batch:
                first, done = [], batch  # All of them were cancelled.
            elif is_over:
                self._arrived.put(None)  # For the next lane to see.
                return []
            elif lane == 0:
                request = self._arrived.get()
                first = [] if request is None else [request]
            else:
                self._bells[lane].wait()
                self._bells[lane].clear()

    def _fill(self, lane: int, first: list[Request], done: Sequence[Request]) -> list[Request]:
        at_work, kept = self._at_work, self._kept[lane]
        for finished in done:
            at_work.pop(finished.user_id.int, None)
        for waiting in kept:
            at_work[waiting.user_id.int] = lane
        batch = [kept.popleft() for _ in range(min(len(kept), BATCH_MAX))]
        self._kept_count -= len(batch)

        room = BATCH_MAX - len(batch)
        arrived = [*first]
        if lane == 0 or self._arrived.qsize() >= BUSY or self._is_closing:
            try:
                for _ in range(room - len(first)):
                    if (request := self._arrived.get_nowait()) is not None:
                        arrived.append(request)
            except Empty:
                pass
        for request in arrived:
            owner = at_work.setdefault(request.user_id.int, lane)
            if owner == lane:
                batch.append(request)
            else:
                self._kept[owner].append(request)
                self._kept_count += 1
        if self._arrived.qsize() >= BUSY and lane + 1 < len(self._bells):
            self._bells[lane + 1].set()
        return batch
