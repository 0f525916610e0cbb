"""Running: the worker as a thread of its own, with its own event loop, beside whatever else the process does.

It never takes the process down. When the database is away, or procrastinate gives up, it says so, in the log and in
`state`, and begins anew after a growing pause.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass

from tokentill.services.context import Context

log = logging.getLogger("tokentill.worker")

PAUSE_MAX = 30.0  # Seconds.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """`error`: why it is not running; it tries again by itself."""

    is_running: bool
    error: str | None = None


class Worker:
    """Runs the jobs of one till from `start` until `stop`."""

    def __init__(self, context: Context, url: str) -> None:
        self._context = context
        self._url = url
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._error: str | None = None
        self._is_at_work = False
        self._thread = threading.Thread(target=self._run, name="till-worker", daemon=True)

    @property
    def state(self) -> WorkerState:
        return WorkerState(is_running=self._is_at_work and self._thread.is_alive(), error=self._error)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the job that is running, then stop. Idempotent."""
        self._ending.set()
        with self._lock:
            if self._running is not None:
                loop, task = self._running
                with suppress(RuntimeError):  # It has just ended by itself.
                    loop.call_soon_threadsafe(task.cancel)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = 1.0
        while not self._ending.is_set():
            try:
                asyncio.run(self._work())
                self._error = "It ended by itself."
            except asyncio.CancelledError:
                return
            except Exception as error:  # Whatever it is, the process has other work to do.
                cause = error.__cause__ or error  # procrastinate's own errors say no more than that there was one.
                self._error = " ".join(f"{type(cause).__name__}: {cause}".split())
                log.exception("the worker ended; it begins anew in %.0f s", pause)
            finally:
                pause = 1.0 if self._is_at_work else min(2 * pause, PAUSE_MAX)
                self._is_at_work = False
            self._ending.wait(pause)

    async def _work(self) -> None:
        from tokentill.worker import queue  # Here: whoever serves without a worker need not load it.

        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._ending.is_set():
                return
            self._running = asyncio.get_running_loop(), task
        try:
            app = queue.make(self._context, self._url)
            async with app.open_async():
                await queue.put_all(app)
                self._is_at_work, self._error = True, None
                await queue.work(app)
        finally:
            with self._lock:
                self._running = None
