"""A batch of spends and holds: everything it writes, in one statement that is a transaction of its own.

Most batches are nothing else. What they write to four or five tables would be as many trips to the server and back, and
between two trips a lane has to wait for its turn in the interpreter. What is written is the same either way, by the
same statements (of `accounts`, `journal`, `keys` and `holds`), joined to one here.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import psycopg

from tokentill.core.ledger.journal import UsageRow
from tokentill.store import accounts, holds, journal, keys, packing
from tokentill.store.accounts import AccountWrite
from tokentill.store.db import Conn
from tokentill.store.holds import WrittenHold
from tokentill.store.keys import UsedKey

_PARTS = {
    "accounts": accounts.UPDATE_ACCOUNTS,
    "lots": accounts.UPDATE_LOTS,
    "usage": journal.INSERT_USAGE,
    "keys": keys.INSERT_USAGE_KEYS,
    "placed": holds.INSERT_HOLDS,
    "changed": holds.UPDATE_HOLDS,
}


def write(
    conn: Conn,
    writes: Sequence[AccountWrite],
    rows: Sequence[UsageRow],
    used: Sequence[UsedKey],
    placed: Sequence[WrittenHold],
    changed: Sequence[WrittenHold],
    *,
    now: datetime,
) -> bool:
    """Write and commit; False when somebody else has written one of the accounts meanwhile, and nothing was written.

    Takes accounts that exist already, rows of usage alone and their keys, on a connection outside any transaction.
    """
    ordered = sorted(writes, key=lambda write: write.after.user_id.int)
    drawn = accounts.drawn_lots(ordered)
    columns = {"accounts": accounts.account_columns(ordered)}
    if drawn:
        columns["lots"] = accounts.lot_columns(drawn)
    if rows:
        columns["usage"] = journal.usage_columns(rows, now)
    if used:
        columns["keys"] = keys.usage_columns(used)
    if placed:
        columns["placed"] = holds.placed_columns(placed, now)
    if changed:
        columns["changed"] = holds.changed_columns(changed)
    params = [array for part in columns.values() for array in part]
    try:
        conn.execute(_joined(*columns), [*params, packing.bigints([len(ordered), len(drawn), len(changed)])])
    except psycopg.errors.DivisionByZero:
        return False
    return True


@lru_cache
def _joined(*parts: str) -> bytes:
    """Return these parts as one statement.

    Its main query runs when all is written. Its division fails when an account has another version than we believe, or
    a lot or a hold is not as it was, and takes the whole statement with it.
    """
    steps = ", ".join(f"{part} AS ({_PARTS[part]} RETURNING 1)" for part in parts)
    counts = ", ".join(
        f"(SELECT count(*) FROM {part})" if part in parts else "0" for part in ("accounts", "lots", "changed")
    )
    joined = f"WITH {steps} SELECT 1 / (ARRAY[{counts}] = %s::bigint[])::integer"
    # The driver reads a statement anew each time if it has more than 4,096 characters or 50 parameters.
    return " ".join(joined.split()).encode()
