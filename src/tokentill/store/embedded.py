"""The embedded PostgreSQL: a server of our own, started when somebody needs it and stopped when nobody does.

It listens on a Unix socket only, syncs every commit to disk and keeps checksums. Processes that name the same home
share one server. Who uses it is known by locks (flock) that the kernel frees when a process ends, however it ends:

* `start.lock`    held while somebody starts: one of many starters does the work;
* `users.lock`    each user holds it shared for its life; the watcher takes it exclusively to stop the server;
* `watcher.lock`  held by the watcher (`store.embedded_watch`), the server's parent;
* `server.lock`   held by PostgreSQL's processes themselves, which inherit it: free when none of them lives.

A starter takes its share first and looks for a watcher then. As long as it has the share, no watcher can decide to
stop; while one is stopping, there is no share to be had. So nobody joins a server that is about to go.

Beside the locks, the home holds `data` (the cluster), `run` (the socket) and `server.log`; see `store.embedded_files`.
"""

import atexit
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from tokentill.errors import EmbeddedPostgresError
from tokentill.store.embedded_files import OWNER, Home, binaries, cure, explained

__all__ = ["EmbeddedServer", "binaries", "memory_bytes", "start"]

DATABASE = "tokentill"
START_SECONDS = 60.0  # How long to wait for another process that is starting the server.
STOP_SECONDS = 60.0
READY_SECONDS = 300.0  # After a crash PostgreSQL first replays its log; giving up would make it begin again.
LOG_BYTES_MAX = 10 * 2**20

NO_SETTINGS: Mapping[str, str] = {}

_WATCH = Path(__file__).with_name("embedded_watch.py")


@dataclass(slots=True, eq=False)
class EmbeddedServer:
    """Our share of a running server, until `close`, the end of the process, or the end of the `with` block.

    A forked child has the share together with its parent: the server runs until both have let go. The watcher starts a
    server that was killed again, under the same URL.
    """

    url: str  # Of the cluster's superuser, on the database `tokentill`.
    data_dir: Path
    _home: Home = field(repr=False)
    _share: int | None = field(repr=False)  # The descriptor whose lock says that we are here.

    @property
    def pid(self) -> int:
        """The server's process, as it is now."""
        return int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])

    def close(self, *, wait: bool = False) -> None:
        """Give up our share; after the last one the watcher stops the server. Idempotent.

        `wait`: return only when the server has stopped, unless somebody else still uses it.

        Raises: EmbeddedPostgresError when it was waited for and does not stop.
        """
        share, self._share = self._share, None
        if share is None:
            return
        atexit.unregister(self.close)
        # Never LOCK_UN: parent and forked child have one lock together, which only the last close may free.
        os.close(share)
        if wait:
            _wait_until(
                lambda: _is_stopped_or_used(self._home),
                STOP_SECONDS,
                lambda: f"The embedded PostgreSQL in {self._home.folder} does not stop; see {self._home.log}.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=True)


def start(
    home: Path, *, bin_dir: Path | None = None, server_settings: Mapping[str, str] = NO_SETTINGS
) -> EmbeddedServer:
    """Return a share in the server that lives in `home`; make its cluster and start it if need be.

    `bin_dir` chooses the binaries of a system's PostgreSQL instead of the wheel's; `server_settings` are added to the
    server's own, except that what keeps it durable and to itself stays. A server that runs already is shared whatever
    it was started from.

    Raises: EmbeddedPostgresError, whose message says what to do.
    """
    try:
        place = Home.prepared(home)
        with _starting(place) as mutex:
            share = _join(place)
            try:
                _ensure_running(place, bin_dir, server_settings, mutex)
            except BaseException:
                os.close(share)
                raise
    except OSError as error:
        raise explained(error, home) from error
    server = EmbeddedServer(_url(place, DATABASE), place.data, place, share)
    atexit.register(server.close)
    return server


@contextlib.contextmanager
def _starting(home: Home) -> Iterator[int]:
    """Let one starter in at a time; lend the descriptor that holds the lock."""
    with _opened(home, "start.lock") as mutex:
        _wait_until(
            lambda: _try_lock(mutex, fcntl.LOCK_EX),
            START_SECONDS,
            lambda: (
                f"Process {os.pread(mutex, 20, 0).decode() or '?'} has been starting the embedded PostgreSQL in "
                f"{home.folder} for more than {START_SECONDS:g} s. Wait for it or end it, then try again."
            ),
        )
        os.ftruncate(mutex, 0)
        os.pwrite(mutex, str(os.getpid()).encode(), 0)
        yield mutex


def _join(home: Home) -> int:
    """Return a descriptor that holds a share; waits while a server without users is being stopped."""
    share = _open(home, "users.lock")
    try:
        _wait_until(
            lambda: _try_lock(share, fcntl.LOCK_SH),
            STOP_SECONDS,
            lambda: (
                f"The embedded PostgreSQL in {home.folder} has been shutting down for more than {STOP_SECONDS:g} s. "
                f"Try again in a minute; {home.log} says what it does."
            ),
        )
    except BaseException:
        os.close(share)
        raise
    return share


def _ensure_running(home: Home, bin_dir: Path | None, server_settings: Mapping[str, str], mutex: int) -> None:
    """Return when the server answers and has our database. The caller holds a share and the start lock."""
    log_start = 0
    has_launched = False

    def is_running() -> bool:
        nonlocal has_launched, log_start
        if _answers(home):
            return True
        if not _is_held(home, "watcher.lock"):
            if has_launched:
                raise EmbeddedPostgresError(f"The embedded PostgreSQL does not start. {_last_words(home, log_start)}")
            log_start = _launch(home, bin_dir, server_settings, mutex)
            has_launched = True
        return False

    _wait_until(is_running, READY_SECONDS, lambda: _unready(home, log_start))


def _launch(home: Home, bin_dir: Path | None, server_settings: Mapping[str, str], mutex: int) -> int:
    """Start the watcher, who starts the server. Returns where the log of this start begins.

    When it returns, the watcher holds its lock, or has failed already.
    """
    found, major = home.runnable(binaries(bin_dir), is_wheel=bin_dir is None)
    home.make_cluster(found, major, keep_open=mutex)
    home.own_folder(home.socket_dir)
    if not _is_held(home, "server.lock"):
        home.forget_stale_pids()
    if home.log.exists() and home.log.stat().st_size > LOG_BYTES_MAX:
        home.log.replace(home.log.with_name("server.log.1"))
    task = {
        "command": [str(found / "postgres"), "-D", str(home.data), *_options(home, server_settings)],
        "identity": home.identity,
        **{name: str(home.folder / name.replace("_", ".")) for name in ("watcher_lock", "server_lock", "users_lock")},
    }
    log = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        log_start = os.fstat(log).st_size
        # A session of its own: a Ctrl-C in our terminal is not for it.
        command = [sys.executable, "-I", "-S", str(_WATCH), json.dumps(task)]
        subprocess.run(
            command, check=False, cwd="/", env=home.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    finally:
        os.close(log)
    return log_start


def _options(home: Home, more: Mapping[str, str]) -> list[str]:
    """What the server is told on its command line, where nothing in the data directory can overrule it."""
    preferred = {
        "shared_buffers": f"{min(256, max(16, memory_bytes() // 2**20 // 8))}MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "off",
        "random_page_cost": "1.1",
        "jit": "off",
        "logging_collector": "off",  # It writes to the file that it inherits.
    }
    fixed = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(home.socket_dir),
        "unix_socket_permissions": "0700",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    settings = {**preferred, **more, **fixed}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def memory_bytes() -> int:
    """The machine's memory, or the container's where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # Not there, or "max".
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory


def _url(home: Home, database: str) -> str:
    return f"postgresql://{OWNER}@/{database}?host={quote(str(home.socket_dir), safe='')}&port=5432"


def _answers(home: Home) -> bool:
    """Say whether the server takes connections; makes our database where it is missing.

    Raises: EmbeddedPostgresError when the database cannot be made.
    """
    if not _is_ready(home):
        return False
    try:
        with psycopg.connect(_url(home, "postgres"), autocommit=True, connect_timeout=5) as conn:
            sql = "SELECT 1 FROM pg_database WHERE datname = %s"
            if conn.execute(sql, [DATABASE]).fetchone() is None:
                conn.execute(f"CREATE DATABASE {DATABASE}".encode())
    except psycopg.errors.DiskFull as error:
        raise EmbeddedPostgresError(f"The database could not be made. {cure(str(error))}") from None
    except psycopg.OperationalError:
        return False
    return True


def _is_ready(home: Home) -> bool:
    """Say whether the pid file says so. A dead server's says it, too; but to knock on a starting one fills its log."""
    try:
        return "ready" in (home.data / "postmaster.pid").read_text().splitlines()[7]
    except (FileNotFoundError, IndexError):
        return False


def _last_words(home: Home, log_start: int) -> str:
    try:
        with home.log.open("rb") as log:
            log.seek(max(log_start, home.log.stat().st_size - 10_000))
            return f"{cure(log.read().decode(errors='replace'))}\n(from {home.log})"
    except OSError:
        return f"It left no log in {home.log}."


def _unready(home: Home, log_start: int) -> str:
    waited = f"The embedded PostgreSQL in {home.folder} has not answered for {READY_SECONDS:g} s."
    if _is_held(home, "server.lock"):
        waited += " A server from before may still run there without its watcher: end it with SIGINT, then try again."
    return f"{waited} {_last_words(home, log_start)}"


# -- locks ------------------------------------------------------------------------------------------------------------


def _open(home: Home, name: str) -> int:
    return os.open(home.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def _opened(home: Home, name: str) -> Iterator[int]:
    descriptor = _open(home, name)
    try:
        yield descriptor
    finally:
        # Closing would not do: a child that another thread forked meanwhile has the descriptor, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(home: Home, name: str) -> bool:
    """Say whether somebody holds this exclusive lock."""
    with _opened(home, name) as descriptor:
        return not _try_lock(descriptor, fcntl.LOCK_SH)


def _is_stopped_or_used(home: Home) -> bool:
    """Say whether the server is down for good, or up because somebody else has a share."""
    try:
        if not _is_held(home, "watcher.lock") and not _is_held(home, "server.lock"):
            return True
        with _opened(home, "users.lock") as users:
            # Nobody's: the watcher is about to take it. Exclusively somebody's: it is stopping the server.
            return not _try_lock(users, fcntl.LOCK_EX) and _try_lock(users, fcntl.LOCK_SH)
    except FileNotFoundError:
        return True  # Somebody removed the home.


def _wait_until(is_so: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    """Ask until it is so, more and more rarely. Raises: EmbeddedPostgresError when the time is over."""
    deadline, pause = time.monotonic() + seconds, 0.005
    while not is_so():
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(otherwise())
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
