"""What a lane remembers between batches: accounts and recent keys. It saves reads and decides nothing alone.

Forgetting anything at any moment is allowed. Both memories are bounded; the least recently used goes first.
"""

from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from tokentill.core.account import Account
from tokentill.engine.draft import KeyRef


class Memory:
    """Accounts as last committed or loaded, and the keys that this process saw committed."""

    def __init__(self, *, accounts_max: int, keys_max: int) -> None:
        self._accounts: OrderedDict[UUID, Account] = OrderedDict()
        self._keys: OrderedDict[KeyRef, None] = OrderedDict()
        self._accounts_max = accounts_max
        self._keys_max = keys_max

    def account(self, user_id: UUID) -> Account | None:
        account = self._accounts.get(user_id)
        if account is not None:
            self._accounts.move_to_end(user_id)
        return account

    def keep(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            self._accounts[account.user_id] = account
            self._accounts.move_to_end(account.user_id)
        while len(self._accounts) > self._accounts_max:
            self._accounts.popitem(last=False)

    def has_seen(self, key: KeyRef) -> bool:
        return key in self._keys

    def remember(self, keys: Iterable[KeyRef]) -> None:
        for key in keys:
            self._keys[key] = None
        while len(self._keys) > self._keys_max:
            self._keys.popitem(last=False)

    def forget(self, user_ids: Iterable[UUID], keys: Iterable[KeyRef]) -> None:
        for user_id in user_ids:
            self._accounts.pop(user_id, None)
        for key in keys:
            self._keys.pop(key, None)
