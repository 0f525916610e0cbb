"""Baseline: the COPY limit, what the server takes in when nothing is decided and nothing is asked.

    python -m tokentill.bench.baselines.copy_limit URL

The same full usage rows and their keys, into the same tables with the same indexes, by binary COPY in transactions of
1,024 rows on one connection, from buffers that were packed beforehand. No account is touched, so the books of the
database are wrong afterwards: never run it on one that counts. Prints JSON: rows written, and how many a second.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime, timedelta

import psycopg

from tokentill.bench.filling import GRANTED, KEY_COLUMNS, KEYS, USAGE, USAGE_COLUMNS

BATCH = 1024
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

INTO_USAGE = f"COPY token_usage ({USAGE_COLUMNS}) FROM STDIN (FORMAT BINARY)"
INTO_KEYS = f"COPY usage_keys ({KEY_COLUMNS}) FROM STDIN (FORMAT BINARY)"


def packed(conn: psycopg.Connection, rows_of: str, values: dict[str, object]) -> list[bytes]:
    """Return the rows that a SELECT makes as whole binary COPY documents of BATCH rows each."""
    buffers: list[bytes] = []
    rows: list[bytes] = []
    with conn.cursor().copy(f"COPY ({rows_of}) TO STDOUT (FORMAT BINARY)".encode(), values) as copy:
        for chunk in copy:
            row = bytes(chunk).removeprefix(HEADER)
            if row in (b"", TRAILER):
                continue
            rows.append(row)
            if len(rows) == BATCH:
                buffers.append(HEADER + b"".join(rows) + TRAILER)
                rows = []
    return buffers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--lots", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first row: more than are there")
    parser.add_argument(
        "--rows", type=int, default=200_000, help="packed beforehand; written in turns until the time is over"
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    values = {
        "accounts": options.accounts, "lots": options.lots, "granted": GRANTED, "first": options.first,
        "last": options.first + options.rows // BATCH * BATCH, "step": timedelta(microseconds=1),
        "start": datetime.now(UTC) - timedelta(microseconds=options.first),
    }  # fmt: skip
    with psycopg.connect(options.url) as conn:
        usage, keys = packed(conn, USAGE, values), packed(conn, KEYS, values)
        conn.commit()
        # A part of the rows warms up what the till's runs find warm, too.
        cold = len(usage) // 5
        done, started = 0, time.perf_counter()
        for number, (some_usage, some_keys) in enumerate(zip(usage, keys, strict=True)):
            if number == cold:
                done, started = 0, time.perf_counter()
            for statement, buffer in ((INTO_USAGE, some_usage), (INTO_KEYS, some_keys)):
                with conn.cursor().copy(statement.encode()) as copy:
                    copy.write(buffer)
            conn.commit()
            done += BATCH
            if number >= cold and time.perf_counter() - started > options.seconds:
                break
        took = time.perf_counter() - started
    size = len(usage[0]) // BATCH
    sys.stdout.write(json.dumps({"done": done, "ops_per_s": round(done / took, 1), "bytes_per_row": size}) + "\n")


if __name__ == "__main__":
    main()
