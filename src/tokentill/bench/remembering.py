"""`till bench memory`: what a cached account costs, and what each further lot of it does.

Every member spends twice. The first round caches accounts and keys, the second only as many keys again: the difference
is the accounts. What Python's allocator was asked for (tracemalloc) counts; drivers' buffers do not.
"""

import gc
import tracemalloc
from typing import Any
from uuid import UUID

from tokentill.bench import ground
from tokentill.bench.filling import fill, member
from tokentill.bench.load import spend_once_each
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import prove
from tokentill.till import Till

FURTHER_LOTS = 4
WARM_UP = 500
SNAPSHOTS = 3


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure accounts with one lot, then with more, and prove both books.

    Raises: BooksWrong, BadSetting, DatabaseUnavailable.
    """
    bytes_per_account: dict[int, float] = {}
    books: dict[str, Any] = {}
    with ground.opened(options.url) as here:
        for lots in (1, 1 + FURTHER_LOTS):
            url = here.make()
            fill(url, accounts=options.accounts + WARM_UP, lots=lots, rows=0, tell=tell)
            tell(f"caching {options.accounts:,} accounts with {lots} lots each")
            bytes_per_account[lots] = _measure(url, options)
            books = prove(url, rows_before=0, acknowledged=2 * options.accounts + WARM_UP + SNAPSHOTS, tell=tell)
            here.drop(url)
    one, more = bytes_per_account.values()
    return {
        "bytes_per_account": round(one, 1),
        "bytes_per_further_lot": round((more - one) / FURTHER_LOTS, 1),
        "mib_per_100000_accounts": round(one * 100_000 / 2**20, 1),
        "books": books,
    }


def _measure(url: str, options: Options) -> float:
    users = [member(number) for number in range(options.accounts)]
    spare = member(options.accounts)
    with Till(url) as till:
        # Others first: what the first spends of a process leave behind for ever is no account's.
        spend_once_each(till, [member(options.accounts + number) for number in range(WARM_UP)], "made")
        tracemalloc.start()
        try:
            before = _traced(till, spare)
            spend_once_each(till, users, "made")
            first = _traced(till, spare)
            spend_once_each(till, users, "made")
            second = _traced(till, spare)
        finally:
            tracemalloc.stop()
    return ((first - before) - (second - first)) / options.accounts


def _traced(till: Till, spare: UUID) -> int:
    """Return the bytes that are in use, the engine holding no more than one small batch."""
    spend_once_each(till, [spare], "made")
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
