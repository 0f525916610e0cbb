"""Supervising: the parent of several workers. It starts them, starts those anew that died, and stops them all.

It serves nothing itself. The workers share its listening socket, so that whoever of them is free takes the next
connection; and they meet in a folder that it makes for them (`engine.routing`).
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_WORK = "import sys; from tokentill.cli.working import main; sys.exit(main(sys.argv[1:]))"

log = logging.getLogger("tokentill.serve")

# Seconds.
STOP_SECONDS = 20.0  # What a worker has to finish what it was asked; uvicorn allows its requests 10 of them.
BACKOFF_MAX = 10.0
SETTLED_SECONDS = 60.0  # Who has lived so long is started anew at once.


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that has it."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    voice: int = -1  # Where the process says that it listens; ends with it.
    started_at: float = 0.0  # These three on the monotonic clock.
    due_at: float = 0.0  # When to start it, while there is none.
    deaths: int = 0
    is_ready: bool = False


def supervise(listener: socket.socket, count: int, *, on_listening: Callable[[], None], has_jobs: bool) -> int:
    """Keep `count` workers serving until interrupted. Return the exit status: 1 when they could not start at all.

    `has_jobs`: the first of them runs the jobs as well.
    """
    with tempfile.TemporaryDirectory(prefix="till-workers-") as folder:  # Closed to all other users.
        crew = _Crew(listener, Path(folder), [_Worker(number) for number in range(count)], has_jobs)
        try:
            return crew.work(on_listening)
        except KeyboardInterrupt:
            return 0
        finally:
            crew.stop()


@dataclass(slots=True)
class _Crew:
    listener: socket.socket
    folder: Path
    workers: list[_Worker]
    has_jobs: bool
    _voices: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _lifeline: tuple[int, int] = field(default_factory=os.pipe)

    def work(self, on_listening: Callable[[], None]) -> int:
        has_announced = False
        while True:
            now = time.monotonic()
            for worker in self.workers:
                if worker.process is None and worker.due_at <= now:
                    self._start(worker, now)
            waits = [worker.due_at - now for worker in self.workers if worker.process is None]
            for key, _ in self._voices.select(max(min(waits), 0) if waits else None):
                worker = key.data
                if os.read(worker.voice, 1):
                    worker.is_ready = True
                    continue
                status = self._bury(worker)
                if not has_announced and not worker.is_ready:
                    return 1  # It has said why.
                log.error("worker %d ended with status %d; it is started anew", worker.number + 1, status)
                self._schedule(worker)
            if not has_announced and all(worker.is_ready for worker in self.workers):
                has_announced = True
                on_listening()

    def stop(self) -> None:
        """End the workers: in peace, if they take no longer than that."""
        living = [worker.process for worker in self.workers if worker.process is not None]
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for process in living:
                process.send_signal(signal.SIGTERM)
            for process in living:
                process.wait(max(deadline - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # Told to stop once more: now.
            for process in living:
                process.kill()
            for process in living:
                process.wait()
        for worker in self.workers:
            if worker.process is not None:
                os.close(worker.voice)
        for descriptor in self._lifeline:
            os.close(descriptor)
        self._voices.close()

    def _start(self, worker: _Worker, now: float) -> None:
        heard, said = os.pipe()
        inherited = (self.listener.fileno(), said, self._lifeline[0])
        jobs = int(self.has_jobs and worker.number == 0)
        arguments = [worker.number, len(self.workers), self.folder, *inherited, jobs]
        # -P: a file in the current folder that has the name of a module is not meant.
        command = [sys.executable, "-P", "-c", _WORK, *map(str, arguments)]
        # A group of its own: Ctrl-C on the terminal is for the supervisor, which then stops its workers.
        worker.process = subprocess.Popen(command, pass_fds=inherited, process_group=0, stdin=subprocess.DEVNULL)
        os.close(said)
        worker.voice, worker.started_at, worker.is_ready = heard, now, False
        self._voices.register(heard, selectors.EVENT_READ, worker)

    def _bury(self, worker: _Worker) -> int:
        assert worker.process is not None
        self._voices.unregister(worker.voice)
        os.close(worker.voice)
        status = worker.process.wait()
        worker.process = None
        return status

    def _schedule(self, worker: _Worker) -> None:
        now = time.monotonic()
        if now - worker.started_at > SETTLED_SECONDS:
            worker.deaths = 0
        pause = 0.0 if worker.deaths == 0 else min(0.1 * 2**worker.deaths, BACKOFF_MAX)
        worker.deaths += 1
        worker.due_at = now + pause
