"""Real workers: `till worker` and `till serve` as processes, and subscriptions that are owed cycles."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.engine.processes import environment
from tokentill import Till

PATIENCE_SECONDS = 60
TILL = [sys.executable, "-c", "from tokentill.cli import main; main()"]


class Worker:
    """`till worker …`, its words on stderr in `log`. Killed at the end of the `with` block if it still runs."""

    def __init__(self, database: str, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*TILL, "worker", *arguments], env=environment(TILL_DATABASE_URL=database), text=True,
                stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip

    def started(self) -> Self:
        """Wait until it says that it works."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("working: "), self.log.read_text()
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def subscribe(database: str, count: int, *, cycles: int) -> None:
    """Let `count` members begin a subscription of which, by now, `cycles` have come, and only the first was given."""
    begun = datetime.now(UTC) - timedelta(days=28 * (cycles - 1) + 1)
    with Till(database, clock=lambda: begun) as till:
        for n in range(count):
            till.drip_tokens_28day(f"member {n}", f"sub_{n}", driven_by="clock")


def drips(database: str) -> int:
    return number(database, "SELECT count(*) FROM token_drips")


def number(database: str, sql: str) -> int:
    with psycopg.connect(database) as conn:
        row = conn.execute(sql.encode()).fetchone()
    assert row is not None
    return int(row[0])


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
