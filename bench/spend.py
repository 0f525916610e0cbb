"""How many single spends a second the engine commits, beside a careful hand-written transaction on the same server.

    make bench            # or: python bench/spend.py --accounts 10000 --callers 2048 --seconds 5 --json

Every figure is of one run, on a database of its own; what counts is the ratio. The books are proved at the end.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from tokentill import Till
from tokentill.ids import Uuid7s
from tokentill.store import db, embedded
from tokentill.store.migrate import migrate

ACTION = "chat_conversation"


def engine(till: Till, users: list[str], *, callers: int, seconds: float) -> dict[str, float]:
    """A closed loop: so many spends are in flight, and each answer makes room for the next."""
    room = threading.Semaphore(callers)
    waits: list[float] = []
    deadline = time.perf_counter() + seconds
    started, count = time.perf_counter(), 0
    while time.perf_counter() < deadline:
        room.acquire()
        asked = time.perf_counter()
        spend = till.asking.spend(users[count % len(users)], None, ACTION, input_tokens=900, output_tokens=100)
        answer = till.submit(spend)

        def answered(_: object, asked: float = asked) -> None:
            waits.append(time.perf_counter() - asked)
            room.release()

        answer.add_done_callback(answered)
        count += 1
    for _ in range(callers):
        room.acquire()
    took = time.perf_counter() - started
    cuts = statistics.quantiles(waits, n=100)
    return {"ops_per_s": count / took, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


def by_hand(url: str, users: list[UUID], *, connections: int, seconds: float) -> float:
    """One transaction per spend: lock, look, update, insert, commit; prepared, without lots or keys."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS hand_accounts (user_id uuid PRIMARY KEY, balance bigint NOT NULL)")
        conn.execute("CREATE TABLE IF NOT EXISTS hand_usage (id uuid PRIMARY KEY, user_id uuid, tokens bigint)")
        conn.cursor().executemany(
            "INSERT INTO hand_accounts VALUES (%s, %s) ON CONFLICT DO NOTHING", [(user, 10**12) for user in users]
        )
    new_id, counts = Uuid7s(), [0] * connections
    deadline = time.perf_counter() + seconds

    def work(number: int) -> None:
        with psycopg.connect(url, prepare_threshold=0) as conn:
            while time.perf_counter() < deadline:
                user = users[(number + counts[number] * connections) % len(users)]
                row = conn.execute("SELECT balance FROM hand_accounts WHERE user_id = %s FOR UPDATE", [user]).fetchone()
                assert row is not None and row[0] >= 1000
                conn.execute("UPDATE hand_accounts SET balance = balance - 1000 WHERE user_id = %s", [user])
                conn.execute("INSERT INTO hand_usage VALUES (%s, %s, 1000)", [new_id(), user])
                conn.commit()
                counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=2_048)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="till-bench-", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server:
            migrate(server.url)
            with Till(server.url) as till:
                users = [f"member {number}" for number in range(options.accounts)]
                grants = [till.submit(till.asking.grant(user, 10**12)) for user in users]
                ids = [receipt.user_id for grant in grants if (receipt := grant.result()) is not None]
                with db.connect(server.url, role="till_owner", autocommit=True) as conn:
                    conn.execute("ANALYZE")  # Plans made on empty tables are several times slower.
                figures = engine(till, users, callers=options.callers, seconds=options.seconds)
                lone = engine(till, users, callers=1, seconds=1.0)
                hand = max(by_hand(server.url, ids, connections=count, seconds=1.5) for count in (4, 8, 16))
                proof = till.reconcile()
    report: dict[str, Any] = {
        **figures,
        "lone_p50_ms": lone["p50_ms"],
        "by_hand_ops_per_s": hand,
        "ratios": {"by_hand": figures["ops_per_s"] / hand},
        "findings": len(proof.findings),
    }
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        waits = f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms"
        lines = (
            f"engine    {figures['ops_per_s']:>9,.0f} spends/s with {options.callers:,} callers ({waits})",
            f"lone call {lone['p50_ms']:>9.2f} ms",
            f"by hand   {hand:>9,.0f} transactions/s at its best; the engine makes {report['ratios']['by_hand']:.1f} ×",
            f"books     {sum(proof.counts.values()):>9,} rows, {len(proof.findings)} findings",
        )
        sys.stdout.write("\n".join(lines) + "\n")
    return 1 if proof.findings else 0


if __name__ == "__main__":
    sys.exit(main())
