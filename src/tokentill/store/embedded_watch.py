"""The watcher: one small process that keeps an embedded PostgreSQL running for as long as anybody uses it.

`tokentill.store.embedded` runs it as a program of its own (standard library only, so that it stays small):

    python -I -S embedded_watch.py '{"command": […], "watcher_lock": …, "server_lock": …, "users_lock": …, …}'

Every user holds a shared flock on `users_lock`, which the kernel frees when the user ends, however it ends. The watcher
waits for the exclusive one: it gets that when the last user is gone, a `kill -9` included, and stops the server. It
holds it until the server is down, so that whoever comes meanwhile waits, and nobody joins a server on its way out.

A server that was killed is started again. One that ended by itself is not: it says why in its log, and the next user
tries again. When the watcher itself is killed, Linux tells the server to stop.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

QUICK_DEATHS_MAX = 5  # In a row: a server that is killed again and again is not cured by starting it.
QUICK_DEATH_SECONDS = 1.0

_LIBC = ctypes.CDLL(None)  # Loaded here: the server's user may not be able to read this Python's files.
_PR_SET_PDEATHSIG = 1  # From linux/prctl.h.


def main() -> NoReturn:
    task = json.loads(sys.argv[1])
    # Waits: a process that only looks whether there is a watcher holds this lock for a moment, too.
    lock = take(task["watcher_lock"])
    if os.fork():
        os._exit(0)  # The starter reaps this process; the watcher is a child of init and leaves no zombie behind.
    os.set_inheritable(lock, False)
    _Watch(task).run()


def take(path: str) -> int:
    """Return a descriptor that holds the exclusive lock, once nobody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


class _Watch:
    """The server as a child of this process, and the two things that can end it."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._turn = threading.Lock()  # Starting and stopping take turns.
        self._is_stopping = False
        self._server: subprocess.Popen[bytes] | None = None

    def run(self) -> NoReturn:
        """Start the server, and again when it is killed; end with it."""
        # A terminal or a service manager that ends everybody means the users: the server goes after the last of them.
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, lambda *_: None)  # Not SIG_IGN, which the server would inherit.
        threading.Thread(target=self._stop_after_last_user, daemon=True).start()
        quick_deaths = 0
        while quick_deaths <= QUICK_DEATHS_MAX and (server := self._start_server()):
            started = time.monotonic()
            is_killed = server.wait() < 0
            if not is_killed:
                break
            quick_deaths = quick_deaths + 1 if time.monotonic() - started < QUICK_DEATH_SECONDS else 0
        os._exit(0)

    def _start_server(self) -> "subprocess.Popen[bytes] | None":
        """Start the server, unless its last user is gone."""
        # The server and all its children inherit this lock, so it is free only when none of them lives: a killed
        # postmaster's children may still be writing for a moment.
        lock = take(self._task["server_lock"])
        with self._turn:
            if not self._is_stopping:
                self._server = subprocess.Popen(
                    self._task["command"],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(lock,),
                    preexec_fn=_stop_with_parent,  # noqa: PLW1509  After the change of user, which would undo it.
                    **self._task["identity"],
                )
        os.close(lock)
        return None if self._is_stopping else self._server

    def _stop_after_last_user(self) -> None:
        take(self._task["users_lock"])  # Held to the end of this process.
        with self._turn:
            self._is_stopping = True
            if self._server is None or self._server.poll() is not None:
                os._exit(0)
            self._server.send_signal(signal.SIGINT)  # Fast shutdown: what is committed stays, what is open rolls back.


def _stop_with_parent() -> None:
    """Runs in the server before it is PostgreSQL: the kernel interrupts it (fast shutdown) when the watcher dies."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


if __name__ == "__main__":
    main()
