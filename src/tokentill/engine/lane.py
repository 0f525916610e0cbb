"""A lane: carries out each batch of commands in one transaction. The inbox says which.

One batch goes load → decide → doubt → write → answer:

* load: the accounts that memory does not hold, and the fate of keys that may have been used and of holds that are not
  open;
* decide: `Draft`, in plain Python;
* doubt: an answer that writes nothing must not rest on memory, so the accounts concerned and then their keys are read
  from the database; a version that moved or a key that was used starts the batch again;
* write: one transaction, with compare-and-set on every account's version;
* answer: only after COMMIT.

What can go wrong, and what is done:

* somebody else wrote an account or used a key, a deadlock, a lock not to be had: roll back, forget the batch's accounts
  and keys, read them again, decide again; in halves, if that happens again;
* the connection is lost: connect again; the COMMIT may or may not have happened, so the keys are looked up first;
* a row that the database refuses for good (a NUL in a text, a number out of range), or a bug of ours: the batch is
  split in halves until the culprit alone gets the error.
"""

import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import psycopg

from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import PlaceHold, Reverse
from tokentill.core.ledger.holds import Hold
from tokentill.core.ledger.journal import UsageRow
from tokentill.core.values import replace
from tokentill.engine.answers import Settled, settle
from tokentill.engine.draft import Changed, Draft, Idle, Rejected, Repeat, Request, Twin, Written
from tokentill.engine.memory import Memory
from tokentill.errors import (
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    TillError,
    Unavailable,
)
from tokentill.store import accounts, companions, holds, journal, keys, one_statement, payments, profiles
from tokentill.store.companions import Beside
from tokentill.store.db import LOST, RETRYABLE, Conn
from tokentill.store.holds import HoldRef
from tokentill.store.journal import Receipt
from tokentill.store.keys import KeyRef, UsedKey
from tokentill.store.profiles import Profiles

log = logging.getLogger("tokentill.engine")

CONFLICTS_MAX = 200  # Lost races in a row before a batch gives up: each means that somebody else got on.
CONTENDED_MAX = 32  # Commands; larger batches are halved when they lose a second race in a row.
RECONNECT_PAUSE_MAX = 2.0  # Seconds; with the tries allowed, a server has some 12 s to come back.


class _Moved(Exception):
    """Somebody else wrote one of the batch's accounts."""


class Lane:
    """Carries out batches on one connection. Used by one thread at a time."""

    def __init__(
        self,
        connect: Callable[[], Conn],
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        pause: Callable[[float], None],
        memory: Memory,
        reconnects_max: int = 12,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._new_id = new_id
        self._pause = pause
        self._memory = memory
        self._reconnects_max = reconnects_max
        self._conn: Conn | None = None
        self._profiles: Profiles | None = None  # The host's table that is written with each account, if it has one.
        self._months: set[tuple[int, int]] = set()
        self._jitter = random.Random(0)  # Spreads retries; nothing rests on it.

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def carry_out(self, requests: Sequence[Request]) -> None:
        """Carry out and answer every request; raises nothing."""
        # What a payment has bought is read from the database, and must not change within the batch: a reversal goes
        # alone, after the others.
        alone = [request for request in requests if isinstance(request.command, Reverse)]
        together = [request for request in requests if request not in alone] if alone else requests
        for batch in ([together] if together else []) + [[request] for request in alone]:
            try:
                self._carry_out(batch)
            except Exception as error:  # Our own bug: the callers must hear of it, and the lane must go on.
                log.exception("a batch of %d commands failed", len(batch))
                self._abandon(batch)
                settle((request, None, error) for request in batch)

    def _carry_out(self, requests: Sequence[Request], *, is_suspicious: bool = False) -> None:
        conflicts, violations, losses = 0, 0, 0
        while True:
            try:
                self._attempt(requests, is_suspicious=is_suspicious)
                return
            except (_Moved, *RETRYABLE) as error:
                self._abandon(requests)
                if isinstance(error, psycopg.errors.UniqueViolation) and not _is_of_keys(error):
                    # A drip's own constraint speaks before the key table's does; with the keys looked up, the same
                    # drip is a repeat, and what still violates is another request for what is there already.
                    violations += 1
                    if violations > 1:
                        self._single_out(requests, error)
                        return
                conflicts += 1
                if conflicts > 1 and len(requests) > CONTENDED_MAX:
                    # Who else writes these accounts writes some of them all the time: fewer at once get through.
                    half = len(requests) // 2
                    self._carry_out(requests[:half], is_suspicious=True)
                    self._carry_out(requests[half:], is_suspicious=True)
                    return
                if conflicts > CONFLICTS_MAX:
                    self._fail(requests, Unavailable(f"The accounts are contended: {type(error).__name__}."))
                    return
                self._pause(self._jitter.uniform(0, min(0.001 * conflicts, 0.02)))
            except LOST as error:
                self._abandon(requests)
                self.close()
                losses += 1
                if losses > self._reconnects_max:
                    self._fail(requests, DatabaseUnavailable(f"PostgreSQL does not answer: {error}"))
                    return
                log.warning("connection lost, connecting again: %s", error)
                self._pause(min(0.01 * 2**losses, RECONNECT_PAUSE_MAX))
            except DatabaseUnavailable as error:
                losses += 1
                if losses > self._reconnects_max:
                    self._fail(requests, error)
                    return
                self._pause(min(0.01 * 2**losses, RECONNECT_PAUSE_MAX))
            except (psycopg.Error, ValueError, TypeError, ArithmeticError, AssertionError) as error:
                self._abandon(requests)
                self._single_out(requests, error)
                return
            is_suspicious = True

    def _single_out(self, requests: Sequence[Request], error: Exception) -> None:
        """Carry out the halves apart, until the request that the database will never take stands alone."""
        if len(requests) == 1:
            if isinstance(error, psycopg.DataError | psycopg.IntegrityError | UnicodeError | OverflowError):
                error = _unwritable(error)
            else:  # Our own bug; its neighbours have nothing to do with it.
                log.error("%s failed", type(requests[0].command).__name__, exc_info=error)
            settle([(requests[0], None, error)])
            return
        half = len(requests) // 2
        self._carry_out(requests[:half])
        self._carry_out(requests[half:])

    def _attempt(self, requests: Sequence[Request], *, is_suspicious: bool) -> None:
        conn, now = self._connected(), self._clock()
        known = self._look_up(conn, requests, everything=is_suspicious)
        found: dict[HoldRef, Hold] = {}
        draft = self._draft(conn, requests, known, found, now, every_hold=is_suspicious)
        while (fresh := self._doubts(conn, draft, known)) or self._doubts_holds(conn, draft, found):
            known |= fresh
            draft = self._draft(conn, requests, known, found, now, every_hold=is_suspicious)

        # Before the write: once it has committed, nothing may keep its callers from hearing of it.
        replays = journal.read(conn, [fate.used.row for fate in draft.fates if isinstance(fate, Repeat)])
        if not draft.is_empty:
            self._write(conn, draft, now)
        self._remember(draft)
        self._answer(draft, replays, now)

    def _connected(self) -> Conn:
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
            self._profiles = profiles.read(self._conn)
        return self._conn

    def _look_up(self, conn: Conn, requests: Sequence[Request], *, everything: bool) -> dict[KeyRef, UsedKey]:
        """Ask the database for the keys that memory has seen, or for all of them. New keys cost no read."""
        refs = [ref for request in requests for ref in request.key_refs]
        seen = refs if everything else self._memory.seen(refs)
        return keys.find(conn, seen) if seen else {}

    def _draft(
        self,
        conn: Conn,
        requests: Sequence[Request],
        known: dict[KeyRef, UsedKey],
        found: dict[HoldRef, Hold],
        now: datetime,
        *,
        every_hold: bool,
    ) -> Draft:
        held, missing = self._memory.accounts({request.user_id.int for request in requests})
        if missing:
            loaded = accounts.load(conn, [UUID(int=user) for user in missing])
            self._memory.keep(loaded.values())
            held |= {account.user_id.int: account for account in loaded.values()}
        # After the accounts: a hold that changes meanwhile moves the version of its account, which is compared.
        found |= holds.find(
            conn,
            {
                ref
                for request in requests
                if (ref := request.hold_ref)
                and ref not in found
                and (every_hold or not isinstance(request.command, PlaceHold))
                and ((account := held.get(ref[0].int)) is None or account.hold(ref[1]) is None)
            },
        )
        # After the accounts, too, and for the same reason.
        bought = None
        if isinstance(requests[0].command, Reverse):
            bought = payments.bought(conn, requests[0].command)
            # It may tell of rows that the account in memory knows nothing of, and the two together make no sense.
            self._require_unmoved(conn, held, {requests[0].user_id})
        draft = Draft(held, known, found, now, bought)
        draft.decide(requests)
        return draft

    def _doubts(self, conn: Conn, draft: Draft, known: dict[KeyRef, UsedKey]) -> dict[KeyRef, UsedKey]:
        """Return the keys that make refusals wrong; raise _Moved when an account is not what memory says.

        The accounts are read before the keys: whoever used a key meanwhile is then seen by one or the other.
        """
        doubtful = [
            fate.request
            for fate in draft.fates
            if isinstance(fate, Idle) or (isinstance(fate, Rejected) and known.keys().isdisjoint(fate.request.key_refs))
        ]
        if not doubtful:
            return {}
        ids = {request.user_id for request in doubtful}
        self._require_unmoved(conn, draft.accounts, ids)
        return keys.find(conn, {ref for request in doubtful for ref in request.key_refs})

    def _require_unmoved(self, conn: Conn, believed: Mapping[int, Account], ids: Collection[UUID]) -> None:
        """Raise _Moved when one of these accounts is not what memory says."""
        versions = accounts.versions(conn, ids)
        for user_id in ids:
            account = believed.get(user_id.int)
            if versions.get(user_id, 0) != (account.version if account else 0):
                raise _Moved

    def _doubts_holds(self, conn: Conn, draft: Draft, found: dict[HoldRef, Hold]) -> bool:
        """Whether a hold that was refused had been placed before; `found` then has it."""
        refused = [fate.request.hold_ref for fate in draft.fates if isinstance(fate, Rejected)
                   and isinstance(fate.request.command, PlaceHold)]  # fmt: skip
        before = holds.find(conn, {ref for ref in refused if ref and ref not in found})
        found |= before
        return bool(before)

    def _write(self, conn: Conn, draft: Draft, now: datetime) -> None:
        self._ensure_month(conn, now)
        writes, used = list(draft.touched.values()), draft.used_keys(now)
        placed, changed = draft.written_holds
        if draft.is_plain and self._profiles is None:
            rows = [row for row in draft.rows if isinstance(row, UsageRow)]
            if not one_statement.write(conn, writes, rows, used, placed, changed, now=now):
                raise _Moved
            return
        with conn.transaction():
            if not accounts.write(conn, writes, now=now):
                raise _Moved
            journal.append(conn, draft.rows, new_id=self._new_id, created_at=now)
            keys.append(conn, used, created_at=now)
            holds.write(conn, placed, changed, now=now)
            companions.write_all(conn, _beside(draft), now=now)
            if self._profiles is not None and writes:
                users = [write.after.user_id for write in writes]
                profiles.keep(conn, self._profiles, users, new_id=self._new_id, now=now)

    def _ensure_month(self, conn: Conn, now: datetime) -> None:
        """The partition is made in a transaction of its own: it is there even if this batch is rolled back."""
        month = (now.year, now.month)
        if month not in self._months:
            journal.ensure_month(conn, now)
            self._months.add(month)

    def _remember(self, draft: Draft) -> None:
        self._memory.keep(touched.after for touched in draft.touched.values())
        self._memory.remember([ref for fate in draft.written for ref in fate.request.key_refs])

    def _answer(self, draft: Draft, replays: dict[tuple[UUID, int], Receipt], now: datetime) -> None:
        settled: list[Settled] = []
        for fate in draft.fates:
            match fate:
                case Written(request, row):
                    settled.append((request, Receipt.of(row, created_at=now), None))
                case Changed(request, receipt) | Idle(request, receipt):
                    settled.append((request, receipt, None))
                case Repeat(request, used):
                    replay = replays.get((used.user_id, used.seq))
                    settled.append((request, replay, None if replay else _archived(used)))
                case Twin(request, row):
                    settled.append((request, replace(Receipt.of(row, created_at=now), is_replay=True), None))
                case Rejected(request, error):
                    settled.append((request, None, error))
        settle(settled)

    def _abandon(self, requests: Sequence[Request]) -> None:
        """Roll back, and forget all that the batch believed."""
        self._memory.forget(
            {request.user_id for request in requests}, {ref for request in requests for ref in request.key_refs}
        )
        if self._conn is not None and not self._conn.closed:
            try:
                self._conn.rollback()
            except psycopg.Error:
                self.close()

    def _fail(self, requests: Sequence[Request], error: TillError) -> None:
        settle((request, None, error) for request in requests)


def _beside(draft: Draft) -> list[Beside]:
    """Return what is written beside each request's row, or beside its change of a hold or a lot."""
    beside: list[Beside] = []
    for fate in draft.fates:
        request = fate.request
        if isinstance(fate, Written):
            beside.append((request.user_id, (*request.companions, *request.found), fate.row.seq))
        elif isinstance(fate, Changed):
            beside.append((request.user_id, request.companions, None))
    return beside


def _is_of_keys(error: psycopg.Error) -> bool:
    """Whether a table of keys said "seen before". By prefix: a sharded table's constraints carry a suffix."""
    return (error.diag.constraint_name or "").startswith(("usage_keys_pkey", "token_keys_pkey", "token_holds_pkey"))


def _archived(used: UsedKey) -> TillError:
    when = f"{used.created_at:%Y-%m-%d}"
    return Conflict(f"This request was carried out on {when}; its journal row is no longer in the database.")


def _unwritable(error: Exception) -> TillError:
    detail = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Conflict(f"This is recorded already: {detail}")
    return InvalidRequest(f"PostgreSQL cannot store this: {detail}")
