"""A draft: what a batch of commands would do, decided in plain Python and not yet written.

The lane loads the accounts, lets a `Draft` decide command by command, writes what it says in one transaction, and only
then answers. If the write fails because somebody else was faster, the draft is thrown away and made anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context
from typing import Any
from uuid import UUID

from tokentill.core.companions import Companion
from tokentill.core.keys import Key, used_for_another
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import Command, Grant, PlaceHold, RenewHold, Spend, VoidHold
from tokentill.core.ledger.decide import Decided, Refused, decide
from tokentill.core.ledger.holds import Hold, HoldReceipt
from tokentill.core.ledger.journal import Row, UsageRow
from tokentill.core.ledger.reversals import Bought
from tokentill.core.values import Value, replace
from tokentill.engine.answers import Answer
from tokentill.errors import TillError
from tokentill.store.accounts import AccountWrite
from tokentill.store.holds import HoldRef
from tokentill.store.keys import KeyRef, UsedKey

_EXACT = Context(prec=60)  # For adding up costs. Its own, because a host's may be set to a few digits.


_ABOUT_HOLDS = (Spend, PlaceHold, RenewHold, VoidHold)


class Request(Answer[Any]):
    """A command on its way: what its caller waits for, and what must be written beside it.

    `at` is the moment it is decided for; None: that of its batch.
    """

    __slots__ = ("at", "command", "companions", "found", "hold_ref", "key_refs", "keys", "user_id")

    def __init__(self, command: Command, at: datetime | None, companions: tuple[Companion, ...]) -> None:
        self.state = "waiting"
        self.receipt = self.error = self.callbacks = self.sleepers = None
        self.command = command
        self.at = at
        self.companions = companions
        # Written with its row, and not when it is answered by an earlier one.
        self.found = command.charge.found if isinstance(command, Spend) else ()
        self.user_id: UUID = command.user.user_id
        self.hold_ref: HoldRef | None = None  # The hold that it is about.
        # Under which it happens once: its own key, and other names of the same fact. None of them is a hold's: the
        # holds themselves know which were placed.
        self.keys: tuple[Key, ...]
        self.key_refs: tuple[KeyRef, ...]
        if isinstance(command, Spend) and command.hold_id is None and not command.aliases:  # What most are.
            self.keys = (command.key,)
            self.key_refs = ((True, self.user_id.int, command.key.value),)
            return
        is_usage = isinstance(command, Spend)
        self.keys = _keys_of(command)
        self.key_refs = tuple([(is_usage, self.user_id.int, key.value) for key in self.keys])
        if isinstance(command, _ABOUT_HOLDS) and command.hold_id is not None:
            self.hold_ref = (self.user_id, command.hold_id)


def _keys_of(command: Command) -> tuple[Key, ...]:
    if isinstance(command, PlaceHold) or command.key is None:
        return ()
    return (command.key, *command.aliases) if isinstance(command, (Grant, Spend)) else (command.key,)


class Written(Value, frozen=True):
    """It wrote journal rows, of which this one answers it."""

    request: Request
    row: Row


class Changed(Value, frozen=True):
    """It changed the account and no balance: a hold, when a lot ends, a limit. A hold is answered with its receipt."""

    request: Request
    receipt: HoldReceipt | None


class Idle(Value, frozen=True):
    """There was nothing to change."""

    request: Request
    receipt: HoldReceipt | None


class Repeat(Value, frozen=True):
    """It was carried out before: the row of this key answers it."""

    request: Request
    used: UsedKey


class Twin(Value, frozen=True):
    """It is asked twice in this batch: the row that the other one writes answers it."""

    request: Request
    row: Row


class Rejected(Value, frozen=True):
    """The ledger refused it, or its key was used for another request."""

    request: Request
    error: TillError


Fate = Written | Changed | Idle | Repeat | Twin | Rejected


@dataclass(slots=True)
class Draft:
    """The decisions of one batch, for the moment `now`.

    `known` are keys that the database says were used: their requests are repeats, whatever the account looks like.
    `found` are holds that requests are about and that no account has open: new, ended, or unknown to memory.
    Each request meets exactly one fate.
    """

    accounts: Mapping[int, Account]  # By user_id.int.
    known: Mapping[KeyRef, UsedKey]
    found: Mapping[HoldRef, Hold]
    now: datetime
    bought: Bought | None = None  # By the payment that a reversal is about, which is then the only request.
    touched: dict[int, AccountWrite] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)  # In the order of the requests.
    learned: dict[KeyRef, UsedKey] = field(default_factory=dict)  # Other keys of what the repeats ask for.
    _twin_keys: list[tuple[Key, Row]] = field(default_factory=list)  # Other keys of what the twins ask for.
    # The keys that this batch uses: for which request (its hash), and the row that answers it.
    _answering: dict[KeyRef, tuple[bytes, Row]] = field(default_factory=dict)

    def decide(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if not self._has_happened(request):
                self._decide(request)

    def _has_happened(self, request: Request) -> bool:
        """Whether one of its keys was used, before or in this batch; then it is told so."""
        known, learned, answering = self.known, self.learned, self._answering
        for ref in request.key_refs:
            if ref in known or ref in learned or ref in answering:
                self._repeat(request, ref)
                return True
        return False

    def _repeat(self, request: Request, ref: KeyRef) -> None:
        """Answer as the one that used this key was answered, if it asked for the same."""
        key = request.keys[request.key_refs.index(ref)]
        used = self.known.get(ref) or self.learned.get(ref)
        request_hash, row = (used.request_hash, None) if used else self._answering[ref]
        if request_hash != key.request_hash:
            self.fates.append(Rejected(request, used_for_another()))
        elif used:
            self.fates.append(Repeat(request, used))
            self._learn(request, used)
        elif row:
            self.fates.append(Twin(request, row))
            self._learn_twin(request, row)

    def _decide(self, request: Request) -> None:
        user = request.user_id.int
        touched = self.touched.get(user)
        account = touched.after if touched is not None else self.accounts.get(user)
        hold = self._hold(request.hold_ref, touched) if request.hold_ref else None
        decision = decide(account, request.command, at=request.at or self.now, hold=hold, bought=self.bought)
        if isinstance(decision, Refused):
            self.fates.append(Rejected(request, decision.error))
        else:
            self._accept(request, account, touched, decision)

    def _hold(self, ref: HoldRef, touched: AccountWrite | None) -> Hold | None:
        """The hold as it is by now, if the account does not have it open."""
        if touched is None:
            return self.found.get(ref)
        # The account as it was loaded may have it, too: open then, and over since this batch's first decision.
        held = touched.holds.get(ref[1]) if touched.holds else None
        return held or self.found.get(ref) or touched.before.hold(ref[1])

    def _learn(self, request: Request, used: UsedKey) -> None:
        """A fact told by a new name: whoever tells it by that name alone must find it, too."""
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            if ref not in self.known:
                self.learned[ref] = replace(used, key=key.value, request_hash=key.request_hash)

    def _learn_twin(self, request: Request, row: Row) -> None:
        """The same for a fact that this very batch writes."""
        for ref, key in zip(request.key_refs, request.keys, strict=True):
            if ref not in self._answering:
                self._answering[ref] = (key.request_hash, row)
                self._twin_keys.append((key, row))

    def _accept(
        self, request: Request, account: Account | None, touched: AccountWrite | None, decided: Decided
    ) -> None:
        rows = decided.rows
        # Whatever has changed, the version says so (the ledger asserts it). A list of fields would miss the next one.
        if decided.account.version == (account.version if account is not None else 0):
            self.fates.append(Idle(request, self._hold_receipt(request, decided)))
            return
        if touched is None:
            before = account or Account.opened(request.command.user)
            touched = self.touched[request.user_id.int] = AccountWrite(before, before)
        touched.after = decided.account
        if decided.opened:
            touched.opened += decided.opened
            touched.tokens_granted += sum(lot.granted for lot in decided.opened)
        if decided.hold is not None:
            touched.keep_hold(decided.hold, is_new=isinstance(request.command, PlaceHold))
        if not rows:
            self.fates.append(Changed(request, self._hold_receipt(request, decided)))
            return
        answering = rows[-1]
        if isinstance(answering, UsageRow):  # The others are expirations.
            touched.tokens_used += answering.tokens_used
            if (cost := answering.call.cost_estimate) is not None:
                touched.cost = _EXACT.add(touched.cost, cost)
        self.rows += rows
        self.fates.append(Written(request, answering))
        for ref, key in zip(request.key_refs, request.keys):  # noqa: B905  # built together; strict costs
            self._answering[ref] = (key.request_hash, answering)

    def _hold_receipt(self, request: Request, decided: Decided) -> HoldReceipt | None:
        """What a request about a hold is answered with, if it wrote no row."""
        if decided.hold is None:
            return None
        account = decided.account
        at = max(request.at or self.now, account.last_at)
        return HoldReceipt.of(decided.hold, account.user, at=at, is_replay=not decided.is_hold_changed)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.touched and not self.learned

    @property
    def is_plain(self) -> bool:
        """Whether it is all spends and holds of accounts that exist, with nothing to be written beside them."""
        if self.learned or not all(isinstance(row, UsageRow) for row in self.rows):
            return False
        for fate in self.fates:
            if isinstance(fate, Written):
                if fate.request.companions or fate.request.found:
                    return False
            elif isinstance(fate, Changed) and (fate.receipt is None or fate.request.companions):
                return False
        return True

    @property
    def written(self) -> list[Written]:
        return [fate for fate in self.fates if isinstance(fate, Written)]

    @property
    def written_holds(self) -> tuple[list[tuple[UUID, Hold]], list[tuple[UUID, Hold]]]:
        """The holds that were placed and those that changed, each with its account's user."""
        placed: list[tuple[UUID, Hold]] = []
        changed: list[tuple[UUID, Hold]] = []
        for touched in self.touched.values():
            for hold in (touched.holds or {}).values():
                (placed if hold.hold_id in touched.placed else changed).append((touched.after.user_id, hold))
        return placed, changed

    def used_keys(self, created_at: datetime) -> list[UsedKey]:
        used = [
            UsedKey(fate.row.user_id, key.value, key.request_hash, fate.row.kind, fate.row.seq, created_at)
            for fate in self.fates
            if isinstance(fate, Written)
            for key in fate.request.keys
        ]
        used += [
            UsedKey(row.user_id, key.value, key.request_hash, row.kind, row.seq, created_at)
            for key, row in self._twin_keys
        ]
        used += self.learned.values()
        return used
