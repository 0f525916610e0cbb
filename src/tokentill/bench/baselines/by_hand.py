"""Baseline: one careful hand-written transaction for each spend, as an app without a till would do it.

    python -m tokentill.bench.baselines.by_hand URL --connections 32

Lock the account, read its lots, claim the key, update account and lot, insert the full usage row, COMMIT: six
statements, all prepared. The connections are threads of several processes, since one process's threads share one core.
Prints JSON: how many transactions a second were committed.
"""

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from tokentill.bench.load import ACTION, CALLS, choose
from tokentill.bench.options import Distribution
from tokentill.ids import Uuid7s

PROCESSES = 4

LOCK = "SELECT balance, seq, overdraft_limit FROM token_accounts WHERE user_id = %s FOR UPDATE"
LOTS = """
    SELECT lot, remaining FROM token_lots
     WHERE user_id = %s AND remaining > 0 AND (expires_at IS NULL OR expires_at > %s)
     ORDER BY priority, expires_at NULLS LAST, coalesce(paid_cents, 0) > 0, effective_at, lot
"""
CLAIM = """
    INSERT INTO usage_keys (user_id, key, request_hash, seq, created_at)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
PAY = """
    UPDATE token_accounts SET balance = balance - %s, seq = seq + 1, version = version + 1, last_at = %s,
           lifetime_tokens_used = lifetime_tokens_used + %s, lifetime_cost = lifetime_cost + %s WHERE user_id = %s
"""
DRAW = "UPDATE token_lots SET remaining = remaining - %s WHERE user_id = %s AND lot = %s"
WRITE = """
    INSERT INTO token_usage (user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, pools,
                             cost_estimate, success, estimated, balance_before, balance_after, lot_moves, debt_change,
                             idempotency_key, metadata, occurred_at, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, true, false, %s, %s, %s, 0, %s, %s, %s, %s)
"""


def spend(conn: psycopg.Connection, user: UUID, key: UUID, call: dict[str, object]) -> None:
    """Spend once, or raise and leave nothing. The call's tokens are its input and output tokens together."""
    tokens = int(str(call["input_tokens"])) + int(str(call["output_tokens"]))
    now = datetime.now(UTC)
    balance, seq, overdraft_limit = conn.execute(LOCK, [user]).fetchone() or (0, 0, 0)
    assert tokens <= balance + overdraft_limit, "too little for a baseline"
    moves: list[int] = []
    missing = tokens
    for lot, remaining in conn.execute(LOTS, [user, now]).fetchall():
        taken = min(remaining, missing)
        moves += [lot, -taken]
        missing -= taken
        if missing == 0:
            break
    claimed = conn.execute(CLAIM, [user, key, key, seq + 1, now]).rowcount
    assert claimed == 1, "the key was used before"
    conn.execute(PAY, [tokens, now, tokens, call["cost_estimate"], user])
    for lot, moved in zip(moves[::2], moves[1::2], strict=True):
        conn.execute(DRAW, [-moved, user, lot])
    conn.execute(WRITE, [
        user, seq + 1, ACTION, call["model_used"], tokens, call["input_tokens"], call["output_tokens"],
        Jsonb(call["pools"]), call["cost_estimate"], balance, balance - tokens, moves, key, Jsonb({}), now, now,
    ])  # fmt: skip
    conn.commit()


def _work(url: str, users: list[UUID], seconds: float, start: threading.Barrier, number: int) -> tuple[int, float]:
    """Spend on one connection; return how many transactions were committed, and within how many seconds."""
    new_id, count = Uuid7s(), 0
    with psycopg.connect(url, prepare_threshold=0) as conn:
        start.wait()
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            spend(conn, users[(number * 997 + count) % len(users)], new_id(), CALLS[count % len(CALLS)])
            count += 1
        return count, time.perf_counter() - began


def _client(url: str, accounts: int, distribution: Distribution, connections: int, seconds: float, seed: int) -> float:
    """Spend on all connections of one process; return how many transactions a second were committed."""
    users, start = choose(accounts, distribution, seed=seed), threading.Barrier(connections)
    with ThreadPoolExecutor(connections) as threads:
        done = list(threads.map(lambda number: _work(url, users, seconds, start, number), range(connections)))
    return sum(count / took for count, took in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--distribution", choices=("uniform", "zipf", "hot"), default="uniform")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    processes = min(PROCESSES, options.connections)
    shares = [options.connections // processes + (n < options.connections % processes) for n in range(processes)]
    with get_context("spawn").Pool(processes) as pool:
        rates = pool.starmap(_client, [
            (options.url, options.accounts, options.distribution, share, options.seconds, seed)
            for seed, share in enumerate(shares)
        ], chunksize=1)  # fmt: skip
    sys.stdout.write(json.dumps({"ops_per_s": round(sum(rates), 1), "connections": options.connections}) + "\n")


if __name__ == "__main__":
    main()
