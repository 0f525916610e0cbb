"""Workers that are killed with -9 again and again, while they all give the same subscriptions their cycles.

At full size, by hand:

    python -m tests.worker.killing --subscriptions 1000 --cycles 13 --workers 8 --kills 100
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from tests.worker.processes import PATIENCE_SECONDS, Worker, drips, subscribe
from tokentill import Till
from tokentill.store import embedded
from tokentill.store.migrate import migrate


def play(database: str, folder: Path, *, subscriptions: int, cycles: int, workers: int, kills: int, seed: int) -> int:
    """Let `workers` processes (`till worker --once`, which ask nobody's leave) give all cycles; kill one after each
    further share of them. Return how many were killed at work.
    """
    chance = random.Random(seed)
    subscribe(database, subscriptions, cycles=cycles)
    begun, owed = drips(database), subscriptions * cycles
    crew = [Worker(database, folder / f"log {n}", "--once") for n in range(workers)]
    killed, seen, last_progress = 0, begun, time.monotonic()
    try:
        while (done := drips(database)) < owed:
            if done > seen:
                seen, last_progress = done, time.monotonic()
            assert time.monotonic() < last_progress + PATIENCE_SECONDS, "nobody gives anything any more"
            for n, worker in enumerate(crew):
                if worker.process.poll() is not None:  # It had done all that it found: others may not have.
                    assert worker.process.returncode == 0, worker.log.read_text()
                    worker.kill()
                    crew[n] = Worker(database, worker.log, "--once")
            while killed < kills and done >= begun + (killed + 1) * (owed - begun) // (kills + 2):
                n = chance.randrange(workers)
                if crew[n].process.poll() is None:
                    crew[n].kill()
                    killed += 1
                    crew[n] = Worker(database, crew[n].log, "--once")
            time.sleep(0.01)
        for worker in crew:
            assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
    finally:
        for worker in crew:
            worker.kill()
    return killed


def prove(database: str, *, subscriptions: int, cycles: int) -> None:
    """Each cycle of each subscription was given once, all subscriptions fared alike, and the books are right."""
    with psycopg.connect(database) as conn:
        sql = "SELECT count(*), count(DISTINCT (subscription_id, cycle_number)) FROM token_drips"
        assert conn.execute(sql).fetchone() == (subscriptions * cycles, subscriptions * cycles)
        sql = """
            SELECT cycle_number, drip_amount, rollover_from_previous, rollover_cycles_count, expired_tokens, count(*)
              FROM token_drips GROUP BY 1, 2, 3, 4, 5 ORDER BY cycle_number
        """
        alike = conn.execute(sql).fetchall()
    assert [(row[0], row[-1]) for row in alike] == [(n, subscriptions) for n in range(1, cycles + 1)], alike
    with Till(database) as till:
        assert till.reconcile().findings == ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("subscriptions", 1000), ("cycles", 13), ("workers", 8), ("kills", 100), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = vars(parser.parse_args())
    home = Path(tempfile.mkdtemp(prefix="till-killing-", dir="/tmp"))
    home.chmod(0o755)
    with embedded.start(home) as server:
        migrate(server.url)
        begun = time.monotonic()
        killed = play(server.url, home, **asked)
        prove(server.url, subscriptions=asked["subscriptions"], cycles=asked["cycles"])
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{drips(server.url):,} drips, {killed} workers killed, books proved, {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
