"""Work that goes on beside the calls: renewing holds, and telling the till what it could not be told at once.

One thread for all of a process's calls. It is a daemon, and all it does may be lost with the process: a hold that is
not renewed frees itself by time.
"""

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger("tokentill.meter")

Job = Callable[[], float | None]  # Does some work, and says in how many seconds to call it again. None: never.


class Background:
    """Calls jobs when they are due, one after the other."""

    def __init__(self) -> None:
        self.start_afresh()

    def start_afresh(self) -> None:
        self._ready = threading.Condition()
        self._due: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, job: Job) -> None:
        """Call `job` in so many seconds, and again as it says."""
        with self._ready:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tokentill-meter", daemon=True)
                self._thread.start()
            elif self._due[0][2] is job:
                self._ready.notify()

    def wait(self, seconds: float) -> bool:
        """Wait until all that is due by now is done, and no longer than so. Returns whether it is."""
        if self._thread is None:
            return True
        done = threading.Event()
        self.later(0, lambda: done.set())  # noqa: PLW0108 - one of its own, which is told from others
        return done.wait(seconds)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._due or (wait := self._due[0][0] - time.monotonic()) > 0:
                    self._ready.wait(wait if self._due else None)
                _, _, job = heapq.heappop(self._due)
            try:
                again = job()
            except Exception:
                log.exception("Work in the background failed.")
                again = None
            if again is not None:
                self.later(again, job)
            del job  # Or the last one would live until the next is due.


background = Background()
# A child has none of its parent's threads, and must not renew its parent's holds.
os.register_at_fork(after_in_child=background.start_afresh)
