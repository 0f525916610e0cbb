"""Eight processes that receive the same purchases, ten times each, all at the same time.

At full size, by hand, with the control (the same without the unique key):

    python -m tests.services.stripe.delivering --purchases 1000 --deliveries 10 --workers 8
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import START
from tests.engine.processes import Process, environment
from tokentill import Till
from tokentill.samples.stripe import checkout_pack
from tokentill.store import embedded
from tokentill.store.migrate import migrate

Event = dict[str, Any]
MEMBERS = 50
AT_A_TIME = 20  # So many wait for their answers at one worker, as connections would.


def news_of(purchases: int) -> list[Event]:
    """Each purchase is told by two events, as a checkout is that was paid late."""
    told: list[Event] = []
    for number in range(purchases):
        completed = checkout_pack(session_id=f"cs_{number}", at=START, user_id=f"user-{number % MEMBERS}")
        paid_late = {"id": f"evt_late_{number}", "type": "checkout.session.async_payment_succeeded"}
        told += [completed, {**completed, **paid_late}]
    return told


def receive(database: str, number: int, purchases: int, deliveries: int, workers: int) -> None:
    """One worker: its share of all deliveries, once it is told to begin."""
    told = news_of(purchases)
    mine = [told[n % len(told)] for n in range(number, purchases * deliveries, workers)]
    with Till(database, clock=lambda: START) as till:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        states = set[str]()
        for first in range(0, len(mine), AT_A_TIME):
            answers = [till.submit_stripe_event(event) for event in mine[first : first + AT_A_TIME]]
            states |= {answer.result(120).state for answer in answers}
    sys.stdout.write(f"{sorted(states)}\n")
    sys.stdout.flush()
    sys.stdin.readline()


def deliver(database: str, *, purchases: int, deliveries: int, workers: int) -> Sequence[str]:
    """Let `workers` processes receive all deliveries; return which states each of them saw."""
    env = environment()
    with ExitStack() as stack:
        crew = []
        for number in range(workers):
            size = ["--purchases", str(purchases), "--deliveries", str(deliveries), "--workers", str(workers)]
            command = ["-m", "tests.services.stripe.delivering", "--receive", database, "--number", str(number), *size]
            crew.append(stack.enter_context(Process(command, env, "ready")).process)
        for worker in crew:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return [worker.stdout.readline().strip() for worker in crew if worker.stdout is not None]


def without_the_unique_key(database: str) -> None:
    """The control: a key is noted as ever, and looked for as ever, but the database refuses no second one."""
    with psycopg.connect(database) as conn:
        conn.execute("ALTER TABLE token_keys DROP CONSTRAINT token_keys_pkey")
        conn.execute("CREATE INDEX ON token_keys (key, user_id)")


def grants(database: str) -> tuple[int, int]:
    """Return how many grants there are, and of how many purchases."""
    with psycopg.connect(database) as conn:
        row = conn.execute("SELECT count(*), count(DISTINCT stripe_session_id) FROM token_transactions").fetchone()
    assert row is not None
    return row[0], row[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("purchases", 1_000), ("deliveries", 10), ("workers", 8), ("number", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--receive", help="the database to receive into, as one of the workers")
    asked = vars(parser.parse_args())
    database, number = asked.pop("receive"), asked.pop("number")
    if database is not None:
        receive(database, number, **asked)
        return
    home = Path(tempfile.mkdtemp(prefix="till-delivering-", dir="/tmp"))
    home.chmod(0o755)
    with embedded.start(home) as server:
        for name in ("with the key", "without it"):
            with psycopg.connect(server.url, autocommit=True) as conn:
                folder = name.replace(" ", "_")
                conn.execute(f"CREATE DATABASE {folder}".encode())
            url = server.url.replace(f"/{embedded.DATABASE}?", f"/{folder}?")
            migrate(url)
            if name == "without it":
                without_the_unique_key(url)
            begun = time.monotonic()
            deliver(url, **asked)
            seconds = time.monotonic() - begun
            made, of = grants(url)
            told = asked["purchases"] * asked["deliveries"]
            sys.stdout.write(f"{name}: {told:,} deliveries, {of:,} purchases, {made:,} grants, {seconds:.0f} s\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
