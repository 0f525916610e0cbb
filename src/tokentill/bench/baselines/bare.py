"""Baseline: a lone caller's UPDATE and INSERT in one transaction, through the same driver, prepared.

    python -m tokentill.bench.baselines.bare URL

What a database that syncs at COMMIT takes for the least that records a spend: no look before, no lots, no keys. A lone
spend of the till is compared with its latency. Prints JSON: p50 and p99 in milliseconds.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime

import psycopg
from psycopg.types.json import Jsonb

from tokentill.bench.baselines.by_hand import PAY, WRITE
from tokentill.bench.load import ACTION, CALLS, choose
from tokentill.bench.meters import percentiles
from tokentill.ids import Uuid7s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--distribution", choices=("uniform", "zipf", "hot"), default="uniform")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    users, new_id, waits = choose(options.accounts, options.distribution), Uuid7s(), []
    seq = time.time_ns()  # Beyond any account's own: nothing is read.
    with psycopg.connect(options.url, prepare_threshold=0) as conn:
        begin = time.perf_counter() + options.seconds / 2
        end = begin + options.seconds
        while (asked := time.perf_counter()) < end:
            seq += 1
            user, call, now = users[seq % len(users)], CALLS[seq % len(CALLS)], datetime.now(UTC)
            tokens = call["input_tokens"] + call["output_tokens"]
            conn.execute(PAY, [tokens, now, tokens, call["cost_estimate"], user])
            conn.execute(WRITE, [
                user, seq, ACTION, call["model_used"], tokens, call["input_tokens"], call["output_tokens"],
                Jsonb(call["pools"]), call["cost_estimate"], tokens, 0, [1, -tokens], new_id(), Jsonb({}), now, now,
            ])  # fmt: skip
            conn.commit()
            if asked >= begin:
                waits.append(time.perf_counter() - asked)
    sys.stdout.write(json.dumps(percentiles(waits)) + "\n")


if __name__ == "__main__":
    main()
