"""The stage: a fresh database, a till on a clock that the story sets, and a real server on loopback."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tokentill.demo.acts import Act
from tokentill.ids import utc_now
from tokentill.settings import Settings
from tokentill.store import demo_database, embedded, migrate
from tokentill.till import Till

ADMIN_KEY = "demo-admin-key-only-on-loopback"
WEBHOOK_SECRET = "whsec_demo_only_on_loopback"
START_SECONDS_MAX = 15.0


class StoryClock:
    """Stands where the story sets it; once the story is over it is the real clock."""

    def __init__(self, now: datetime) -> None:
        self._now: datetime | None = now

    def __call__(self) -> datetime:
        return self._now or utc_now()

    def set(self, now: datetime) -> None:
        assert self._now is not None and now >= self._now, (now, self._now)
        self._now = now

    def let_go(self) -> None:
        self._now = None


class StoryIds:
    """UUIDv7s of the story's own time, the same ones in each run but for that time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._count = 0
        self._chance = random.Random(28)
        self._lock = threading.Lock()

    def __call__(self) -> UUID:
        with self._lock:
            self._count += 1
            millis = int(self._clock().timestamp() * 1000)
            rest = self._chance.getrandbits(62)
            return UUID(int=millis << 80 | 0x7 << 76 | (self._count & 0xFFF) << 64 | 0x2 << 62 | rest)


@dataclass(frozen=True, slots=True)
class Stage:
    till: Till
    clock: StoryClock
    url: str  # Of the server, without a slash at its end.


@contextmanager
def stage(first_act: Act, first_day: datetime) -> Iterator[Stage]:
    """Set the stage for a story that begins with `first_act`, and clear it away at the end.

    The database is one of its own, on the server that TILL_DATABASE_URL names, else on the embedded one.

    Raises: Misconfigured, DatabaseUnavailable.
    """
    settings = Settings.read()
    with ExitStack() as stack:
        server_url = settings.database_url
        if server_url is None:
            server = embedded.start(settings.home, bin_dir=settings.pg_bin)
            stack.callback(server.close)
            server_url = server.url
        database_url = demo_database.make(server_url)
        migrate.migrate(database_url)
        clock = StoryClock(first_act.happens_at(first_day))
        till = Till(
            database_url, clock=clock, new_id=StoryIds(clock), allow_unsafe=settings.allow_unsafe_postgres
        )  # fmt: skip
        stack.enter_context(till)
        url = stack.enter_context(_served(till))
        yield Stage(till, clock, url)


@contextmanager
def _served(till: Till) -> Iterator[str]:
    """Serve the till on a free port of loopback, from a thread; yield the URL."""
    import uvicorn

    from tokentill.http.app import create_app

    app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(WEBHOOK_SECRET,))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],), name="demo-server", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The demo's server did not start.")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
