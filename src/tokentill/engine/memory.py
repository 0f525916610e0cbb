"""What an engine remembers between batches: accounts and recent keys. It saves reads and decides nothing alone.

Forgetting anything at any moment is allowed. Both memories are bounded: of the accounts, the least recently used goes
first; of the keys, the older half goes when the newer one is full.

Only one lane at a time works on an account (the inbox sees to that), so lanes may share one memory. Keys are another
matter: two lanes may turn the newer half into the older one at the same moment, and a key that is forgotten so costs a
unique violation and a lookup.
"""

from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from tokentill.core.ledger.account import Account
from tokentill.store.keys import KeyRef


class Memory:
    """Accounts as last committed or loaded, and the keys that this process saw committed."""

    def __init__(self, *, accounts_max: int, keys_max: int) -> None:
        self._accounts: OrderedDict[int, Account] = OrderedDict()  # By user_id.int: a UUID hashes in Python.
        self._newer: set[KeyRef] = set()
        self._older: set[KeyRef] = set()
        self._accounts_max = accounts_max
        self._keys_max = keys_max

    def accounts(self, users: Iterable[int]) -> tuple[dict[int, Account], list[int]]:
        """Return those of the accounts (by `user_id.int`) that are remembered, and which are not."""
        found, missing, kept = {}, [], self._accounts
        may_be_full = 2 * len(kept) > self._accounts_max  # Until then nobody has to go, and the order is nobody's.
        for user in users:
            account = kept.get(user)
            if account is None:
                missing.append(user)
            else:
                found[user] = account
                if may_be_full:
                    kept.pop(user, None)
                    kept[user] = account  # As the last: the most recently used.
        return found, missing

    def keep(self, accounts: Iterable[Account]) -> None:
        kept = self._accounts
        for account in accounts:
            kept[account.user_id.int] = account
        while len(kept) > self._accounts_max:
            kept.popitem(last=False)

    def seen(self, keys: Iterable[KeyRef]) -> list[KeyRef]:
        """Return those of the keys that this process saw used."""
        newer, older = self._newer, self._older
        return [key for key in keys if key in newer or key in older]

    def remember(self, keys: Iterable[KeyRef]) -> None:
        self._newer.update(keys)
        if 2 * len(self._newer) >= self._keys_max:
            self._older, self._newer = self._newer, set()

    def forget(self, user_ids: Iterable[UUID], keys: Iterable[KeyRef]) -> None:
        for user_id in user_ids:
            self._accounts.pop(user_id.int, None)
        gone = set(keys)
        self._newer.difference_update(gone)
        self._older.difference_update(gone)
