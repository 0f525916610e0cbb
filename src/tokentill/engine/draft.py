"""A draft: what a batch of commands would do, decided in plain Python and not yet written.

The lane loads the accounts, lets a `Draft` decide command by command, writes what it says in one transaction, and only
then answers. If the write fails because somebody else was faster, the draft is thrown away and made anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from tokentill.core.account import Account
from tokentill.core.commands import Command, Grant, Spend
from tokentill.core.companions import Companion
from tokentill.core.journal import Row, UsageRow
from tokentill.core.keys import Key
from tokentill.core.ledger import Decided, Refused, decide
from tokentill.core.lots import Lot
from tokentill.engine.answers import Answer
from tokentill.errors import IdempotencyConflict, TillError
from tokentill.store.accounts import AccountWrite
from tokentill.store.journal import RowRef
from tokentill.store.keys import UsedKey

KeyRef = tuple[bool, UUID, UUID]  # is it usage's, user_id, key


@dataclass(frozen=True, slots=True)
class Request:
    """A command on its way, with the moment it is decided for and what must be written beside it."""

    command: Command
    at: datetime
    companions: tuple[Companion, ...]
    answer: Answer

    @property
    def user_id(self) -> UUID:
        return self.command.user.user_id

    @property
    def keys(self) -> tuple[Key, ...]:
        """Under which it happens once: its own key, and other names of the same fact."""
        command = self.command
        if command.key is None:
            return ()
        return (command.key, *command.aliases) if isinstance(command, Grant) else (command.key,)

    @property
    def key_refs(self) -> list[KeyRef]:
        is_usage = isinstance(self.command, Spend)
        return [(is_usage, self.user_id, key.value) for key in self.keys]


@dataclass(slots=True)
class Touched:
    """One account in the draft: as it was, as it is now, and what was written for it so far."""

    before: Account
    after: Account
    opened: list[Lot] = field(default_factory=list)
    tokens_granted: int = 0
    tokens_used: int = 0
    cost: Decimal = Decimal(0)

    def add(self, decided: Decided) -> None:
        self.after = decided.account
        self.opened += decided.opened
        for row in decided.rows:
            if isinstance(row, UsageRow):
                self.tokens_used += row.tokens_used
                self.cost += row.cost_estimate or 0
        self.tokens_granted += sum(lot.granted for lot in decided.opened)

    def as_write(self) -> AccountWrite:
        return AccountWrite(
            before=self.before,
            after=self.after,
            opened=tuple(self.opened),
            tokens_granted=self.tokens_granted,
            tokens_used=self.tokens_used,
            cost=self.cost,
        )


@dataclass(frozen=True, slots=True)
class _Answering:
    """A key that this batch uses: for which request, and the row that answers it."""

    request_hash: UUID
    row: Row


@dataclass(slots=True)
class Draft:
    """The decisions of one batch.

    `known` are keys that the database says were used: their requests are repeats, whatever the account looks like.
    Each request ends in exactly one of `written`, `rowless`, `idle`, `repeats`, `twins` and `refused`.
    """

    accounts: Mapping[UUID, Account]
    known: Mapping[KeyRef, UsedKey]
    touched: dict[UUID, Touched] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    written: list[tuple[Request, Row]] = field(default_factory=list)
    rowless: list[Request] = field(default_factory=list)  # Changed a lot's dates, and no balance.
    idle: list[Request] = field(default_factory=list)  # Had nothing to change.
    repeats: list[tuple[Request, UsedKey]] = field(default_factory=list)
    twins: list[tuple[Request, Row]] = field(default_factory=list)  # The same request again within this batch.
    refused: list[tuple[Request, TillError]] = field(default_factory=list)
    learned: dict[KeyRef, UsedKey] = field(default_factory=dict)  # Other keys of what the repeats ask for.
    _twin_keys: list[tuple[Key, Row]] = field(default_factory=list)  # Other keys of what the twins ask for.
    _answering: dict[KeyRef, _Answering] = field(default_factory=dict)

    def decide(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._decide(request)

    def _decide(self, request: Request) -> None:
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            if used := self.known.get(ref) or self.learned.get(ref):
                if used.request_hash == key.request_hash:
                    self.repeats.append((request, used))
                    self._learn(request, used)
                else:
                    self.refused.append((request, _conflict()))
                return
            if twin := self._answering.get(ref):
                if twin.request_hash == key.request_hash:
                    self.twins.append((request, twin.row))
                    self._learn_twin(request, twin.row)
                else:
                    self.refused.append((request, _conflict()))
                return

        touched = self.touched.get(request.user_id)
        account = touched.after if touched else self.accounts.get(request.user_id)
        decision = decide(account, request.command, at=request.at)
        if isinstance(decision, Refused):
            self.refused.append((request, decision.error))
            return
        self._accept(request, account, decision)

    def _learn(self, request: Request, used: UsedKey) -> None:
        """A fact told by a new name: whoever tells it by that name alone must find it, too."""
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            if ref not in self.known:
                self.learned[ref] = UsedKey(request.user_id, key.value, key.request_hash, used.row)

    def _learn_twin(self, request: Request, row: Row) -> None:
        """The same for a fact that this very batch writes."""
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            if ref not in self._answering:
                self._answering[ref] = _Answering(key.request_hash, row)
                self._twin_keys.append((key, row))

    def _accept(self, request: Request, account: Account | None, decided: Decided) -> None:
        changes_lots = account is not None and decided.account.lots != account.lots
        if not decided.rows and not changes_lots:
            self.idle.append(request)
            return
        touched = self.touched.get(request.user_id)
        if touched is None:
            before = account or Account.opened(request.command.user)
            touched = self.touched[request.user_id] = Touched(before, before)
        touched.add(decided)
        if not decided.rows:
            self.rowless.append(request)
            return
        answering = decided.rows[-1]
        self.rows += decided.rows
        self.written.append((request, answering))
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            self._answering[ref] = _Answering(key.request_hash, answering)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.touched and not self.learned

    def used_keys(self, created_at: datetime) -> list[UsedKey]:
        written = [(key, row) for request, row in self.written for key in request.keys]
        return [
            *self.learned.values(),
            *(
                UsedKey(row.user_id, key.value, key.request_hash, RowRef(row.user_id, row.kind, row.seq, created_at))
                for key, row in (*written, *self._twin_keys)
            ),
        ]


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict(
        "This idempotency key was used before for another request. Use a new key for a new request; repeat the old one "
        "unchanged to get its answer again."
    )
