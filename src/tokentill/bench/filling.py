"""Fills a database with members and a believable history, so that a till is measured at the size it will have.

Everything is made by the server: row g of the history is the spend number g ÷ accounts of member g mod accounts, so
the accounts' rows lie as mixed up as in life, and balances follow from g alone. The books are right: laws 1 and 2
hold. All rows are of the current month, in the partition that the till will write to; their keys are UUIDv7s of
their times.
"""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import psycopg

from tokentill.bench.options import Tell
from tokentill.ids import utc_now

GRANTED = 10**12  # Tokens in each lot: enough for any bench.
CHUNK = 100_000  # Rows in one statement.

# The history's rows [first, last). Tokens of an account's spend number j: 600 + 7 × (j mod 100); `spent` is what the
# spends before it took. All comes out of the first lot.
HISTORY = """
    SELECT md5('member ' || g %% %(accounts)s)::uuid AS user_id, %(lots)s + 1 + j AS seq, tokens,
           %(lots)s * %(granted)s - spent AS balance_before, happened_at,
           (lpad(to_hex(floor(extract(epoch FROM happened_at) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(g %% 4096), 3, '0') || '8' || substr(md5(g::text), 1, 15))::uuid AS key,
           md5('request ' || g)::uuid AS request_hash
      FROM (SELECT g, j, 600 + 7 * (j %% 100) AS tokens,
                   j / 100 * 94650 + j %% 100 * 600 + 7 * (j %% 100) * (j %% 100 - 1) / 2 AS spent,
                   %(start)s::timestamptz + %(step)s::interval * g AS happened_at
              FROM (SELECT g, g / %(accounts)s AS j
                      FROM generate_series(%(first)s::bigint, %(last)s::bigint - 1) AS g) numbered) made
"""

USAGE_COLUMNS = (
    "user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, pools, cost_estimate, success, "
    "estimated, balance_before, balance_after, lot_moves, debt_change, idempotency_key, metadata, occurred_at, "
    "created_at"
)
USAGE = f"""
    SELECT user_id, seq, 'chat_conversation', 'gpt-5-mini', tokens, tokens - 100, 100::bigint,
           jsonb_build_object('input_uncached', tokens - 300, 'cache_read', 200, 'output_text', 100),
           tokens * 0.0003, true, false, balance_before, balance_before - tokens, ARRAY[1, -tokens]::bigint[],
           0::bigint, key, '{{}}'::jsonb, happened_at, happened_at
      FROM ({HISTORY}) history
"""
KEY_COLUMNS = "user_id, key, request_hash, seq, created_at"
KEYS = f"SELECT user_id, key, request_hash, seq, happened_at FROM ({HISTORY}) history"

_ACCOUNTS = """
    INSERT INTO token_accounts (user_id, balance, debt, seq, version, last_at, lifetime_tokens_granted,
                                lifetime_tokens_used, lifetime_cost, created_at)
    SELECT md5('member ' || n)::uuid, %(lots)s * %(granted)s - spent, 0, %(lots)s + j, 1 + j, %(now)s,
           %(lots)s * %(granted)s, spent, spent * 0.0003, %(start)s
      FROM (SELECT n, j, j / 100 * 94650 + j %% 100 * 600 + 7 * (j %% 100) * (j %% 100 - 1) / 2 AS spent
              FROM (SELECT n, (%(rows)s - n + %(accounts)s - 1) / %(accounts)s AS j
                      FROM generate_series(0::bigint, %(accounts)s - 1) AS n) counted) summed
"""
_LOTS = """
    INSERT INTO token_lots (user_id, lot, kind, granted, remaining, effective_at)
    SELECT a.user_id, lot, 'admin', %(granted)s, %(granted)s - CASE lot WHEN 1 THEN a.lifetime_tokens_used ELSE 0 END,
           %(start)s
      FROM token_accounts a, generate_series(1::bigint, %(lots)s) AS lot
"""
_GRANTS = """
    INSERT INTO token_transactions (user_id, seq, id, transaction_type, source, token_amount, balance_before,
                                    balance_after, lot, lot_moves, debt_change, metadata, idempotency_key,
                                    effective_at, created_at)
    SELECT user_id, lot, gen_random_uuid(), 'grant', 'admin', %(granted)s, (lot - 1) * %(granted)s, lot * %(granted)s,
           lot, ARRAY[lot, %(granted)s], 0, '{}', gen_random_uuid(), %(start)s, %(start)s
      FROM token_lots
"""


def member(number: int) -> UUID:
    """Return the user id of a member, as the statements here make it."""
    return UUID(hashlib.md5(f"member {number}".encode(), usedforsecurity=False).hexdigest())


def fill(url: str, *, accounts: int, lots: int, rows: int, tell: Tell) -> None:
    """Fill an empty database; afterwards its books are right and nothing is left for autovacuum to do."""
    now = utc_now()
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    values = {
        "accounts": accounts, "lots": lots, "rows": rows, "granted": GRANTED, "start": start, "now": now,
        "step": (now - start) / max(rows, 1),
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SELECT till_make_usage_partition(%s::date)", [now.date()])
        conn.execute("SELECT till_make_usage_partition(%s::date)", [_next_month(now).date()])
        for statement in (_ACCOUNTS, _LOTS, _GRANTS):
            conn.execute(statement.encode(), values)
    tell(f"{accounts:,} accounts with {lots} lots each; filling in {rows:,} rows of usage")
    usage = f"INSERT INTO token_usage ({USAGE_COLUMNS}) {USAGE}"
    keys = f"INSERT INTO usage_keys ({KEY_COLUMNS}) {KEYS}"
    _at_once(
        lambda: _in_chunks(url, usage, values, part=0, parts=2),
        lambda: _in_chunks(url, usage, values, part=1, parts=2),
        lambda: _in_chunks(url, keys, values),
    )
    settle(url)


def settle(url: str) -> None:
    """Leave nothing for autovacuum and the checkpointer to do in the middle of what is measured."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM (ANALYZE) token_accounts, token_lots, token_transactions, token_usage, usage_keys")
        with suppress(psycopg.errors.InsufficientPrivilege):  # A server of somebody else's.
            conn.execute("CHECKPOINT")


def _in_chunks(url: str, statement: str, values: dict[str, object], *, part: int = 0, parts: int = 1) -> None:
    """Insert every so-manieth chunk of the history, each in a transaction of its own."""
    rows = values["rows"]
    assert isinstance(rows, int), rows
    with psycopg.connect(url, autocommit=True) as conn:
        for first in range(part * CHUNK, rows, parts * CHUNK):
            conn.execute(statement.encode(), {**values, "first": first, "last": min(first + CHUNK, rows)})


def _at_once(*works: Callable[[], None]) -> None:
    """Do these at the same time; raise the first error of any."""
    errors: list[BaseException] = []

    def do(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  Raised again below, in the thread that asked.
            errors.append(error)

    # Daemons: an interrupt must not wait for them; dropping the database ends their statements.
    threads = [threading.Thread(target=do, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _next_month(now: datetime) -> datetime:
    return now.replace(day=28) + timedelta(days=4)
