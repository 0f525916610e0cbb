"""`till bench recover`: kills with -9 under load, and how long it takes until a spend is acknowledged again.

First the spending process is killed and started again, then all processes of the server (the embedded one only, whose
watcher starts it again). Afterwards every acknowledged spend must be there exactly once, with the seq that was
acknowledged, and every spend that was asked must have been answered in the end.
"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from tokentill.bench import ground, meters
from tokentill.bench.children import Child
from tokentill.bench.filling import fill
from tokentill.bench.ground import Ground
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import BenchFailed, BooksWrong, prove
from tokentill.bench.survivor import Book
from tokentill.ids import utc_now

RECOVERY_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.002
LIVED_SECONDS_MIN = 2.5  # A server that dies sooner again and again is given up by its watcher.

_ROWS = "SELECT idempotency_key::text, seq FROM token_usage WHERE created_at >= %s"


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Kill and measure, then compare every row with what was acknowledged, and prove the books.

    Raises: BooksWrong, BenchFailed when it does not recover, BadSetting, DatabaseUnavailable.
    """
    with ground.opened(options.url) as here, tempfile.TemporaryDirectory(prefix="tokentill-bench-") as folder:
        url = here.make()
        fill(url, accounts=options.accounts, lots=options.lots, rows=options.rows, tell=tell)
        book = Book(Path(folder) / "book")
        book.path.touch()
        began = utc_now()
        recovered = _Killer(url, here, options, book, tell).kill_all()
        book.read()
        _compare(url, book, began)
        books = prove(url, rows_before=options.rows, acknowledged=len(book.acknowledged), tell=tell)
    return {**recovered, "asked": len(book.asked), "acknowledged": len(book.acknowledged), "books": books}


class _Killer:
    def __init__(self, url: str, here: Ground, options: Options, book: Book, tell: Tell) -> None:
        self._url = url
        self._here = here
        self._options = options
        self._book = book
        self._tell = tell
        self._chance = random.Random(9)

    def kill_all(self) -> dict[str, Any]:
        return {"process": self._kill_process(), "server": self._kill_server()}

    def _kill_process(self) -> dict[str, Any]:
        waits, retried = [], 0
        child = self._start()
        try:
            for number in range(1, self._options.kills + 1):
                self._tell(f"kill {number} of {self._options.kills}: the spending process")
                self._let_it_spend()
                killed_at = time.monotonic()
                child.end()
                self._book.read()
                retried += len(self._book.unanswered)
                child = self._start()
                waits.append(self._wait_for_spend_after(killed_at))
            self._finish(child)
        finally:
            child.end()
        return _figures(waits) | {"retried": retried}

    def _kill_server(self) -> dict[str, Any]:
        if self._here.bin_dir is None:
            return {"skipped": "the server is not ours to kill"}
        waits = []
        with self._start() as child:
            for number in range(1, self._options.kills + 1):
                self._tell(f"kill {number} of {self._options.kills}: the server")
                self._let_it_spend(at_least=LIVED_SECONDS_MIN)
                with psycopg.connect(self._url) as conn:
                    postmaster = meters.postmaster_of(conn)
                assert postmaster is not None
                # The children too: orphans go on committing until they notice, and would pass for a recovery.
                for pid in (postmaster, *meters.descendants(postmaster)):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                killed_at = time.monotonic()
                waits.append(self._wait_for_spend_after(killed_at))
            self._finish(child)
        return _figures(waits)

    def _start(self) -> Child:
        return Child("tokentill.bench.survivor", task={
            "url": self._url, "book": str(self._book.path), "accounts": self._options.accounts,
            "callers": self._options.callers,
        })  # fmt: skip

    def _finish(self, child: Child) -> None:
        """Let it answer what is on its way, and end."""
        child.tell("enough")
        if child.process.wait(timeout=RECOVERY_SECONDS_MAX):
            raise BenchFailed("The spending process failed; its traceback is above.")

    def _let_it_spend(self, *, at_least: float = 0.0) -> None:
        self._wait_for_spend_after(time.monotonic())
        time.sleep(max(at_least, self._chance.uniform(0.3, 1.0) * self._options.seconds))

    def _wait_for_spend_after(self, moment: float) -> float:
        """Return the seconds from `moment` until the first acknowledgement of a spend that was asked since."""
        return _wait_for(lambda: self._first_after(moment)) - moment

    def _first_after(self, moment: float) -> float | None:
        self._book.read()
        found = [
            at for key, (_, at) in self._book.acknowledged.items()
            if at > moment and key in self._book.asked and self._book.asked[key][1] > moment
        ]  # fmt: skip
        return min(found, default=None)


def _wait_for(look: Callable[[], float | None]) -> float:
    deadline = time.monotonic() + RECOVERY_SECONDS_MAX
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise BenchFailed(f"Nothing was acknowledged for {RECOVERY_SECONDS_MAX:g} s after a kill.")
        time.sleep(LOOK_SECONDS)
    return found


def _figures(waits: list[float]) -> dict[str, Any]:
    ordered = sorted(waits)
    return {
        "kills": len(waits),
        "recovery_ms": {"p50": round(ordered[len(ordered) // 2] * 1e3, 1), "max": round(ordered[-1] * 1e3, 1)},
    }


def _compare(url: str, book: Book, began: datetime) -> None:
    """Raise BooksWrong unless the rows are exactly what was asked, each once, with the seq that was acknowledged."""
    with psycopg.connect(url) as conn:
        rows = Counter(conn.execute(_ROWS, [began]).fetchall())
    told = Counter((key, seq) for key, (seq, _) in book.acknowledged.items())
    faults = [
        f"{count} × {what}: {row}"
        for what, difference in (
            ("acknowledged and not there", told - rows),
            ("there and not acknowledged", rows - told),
        )
        for row, count in list(difference.items())[:10]
    ]
    faults += [f"asked and never answered: {key}" for key in list(book.unanswered)[:10]]
    faults += [f"answered with two seqs: {key}" for key in book.contradictions[:10]]
    if faults:
        raise BooksWrong(faults)
