"""A lane: gathers the commands that have arrived, and carries out each batch in one transaction.

One batch goes load → decide → doubt → write → answer:

* load: the accounts that memory does not hold, and the fate of keys that may have been used;
* decide: `Draft`, in plain Python;
* doubt: an answer that writes nothing must not rest on memory, so the accounts concerned and then their keys are read
  from the database; a version that moved or a key that was used starts the batch again;
* write: one transaction, with compare-and-set on every account's version;
* answer: only after COMMIT.

What can go wrong, and what is done:

* somebody else wrote an account or used a key, a deadlock, a lock not to be had: roll back, forget the batch's accounts
  and keys, read them again, decide again;
* the connection is lost: connect again; the COMMIT may or may not have happened, so the keys are looked up first;
* a row that the database refuses for good (a NUL in a text, a number out of range), or a bug of ours: the batch is
  split in halves until the culprit alone gets the error.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import psycopg

from tokentill.engine.draft import Draft, KeyRef, Request
from tokentill.engine.memory import Memory
from tokentill.errors import (
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    TillError,
    Unavailable,
)
from tokentill.store import accounts, companions, journal, keys
from tokentill.store.db import LOST, RETRYABLE, Conn
from tokentill.store.journal import Receipt
from tokentill.store.keys import UsedKey

log = logging.getLogger("tokentill.engine")

CONFLICTS_MAX = 200  # Lost races in a row before a batch gives up: each means that somebody else got on.
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
        self._months: set[tuple[int, int]] = set()
        self._jitter = random.Random(0)  # Spreads retries; nothing rests on it.

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def carry_out(self, requests: Sequence[Request]) -> None:
        """Carry out and answer every request; raises nothing."""
        try:
            self._carry_out(requests)
        except Exception as error:  # Our own bug: the callers must hear of it, and the lane must go on.
            log.exception("a batch of %d commands failed", len(requests))
            self._abandon(requests)
            for request in requests:
                if not request.answer.done():
                    request.answer.set_exception(error)

    def _carry_out(self, requests: Sequence[Request]) -> None:
        conflicts, violations, losses, is_suspicious = 0, 0, 0, False
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
            requests[0].answer.set_exception(error)
            return
        half = len(requests) // 2
        self._carry_out(requests[:half])
        self._carry_out(requests[half:])

    def _attempt(self, requests: Sequence[Request], *, is_suspicious: bool) -> None:
        conn = self._connected()
        known = self._look_up(conn, requests, everything=is_suspicious)
        draft = self._draft(conn, requests, known)
        while fresh := self._doubts(conn, draft, known):
            known |= fresh
            draft = self._draft(conn, requests, known)

        now = self._clock()
        # Before the write: once it has committed, nothing may keep its callers from hearing of it.
        replays = journal.read(conn, [used.row for _, used in draft.repeats])
        if draft.is_empty:
            conn.rollback()
        else:
            self._write(conn, draft, now)
        self._remember(draft)
        self._answer(draft, replays, now)

    def _connected(self) -> Conn:
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
        return self._conn

    def _look_up(self, conn: Conn, requests: Sequence[Request], *, everything: bool) -> dict[KeyRef, UsedKey]:
        """Ask the database for the keys that memory has seen, or for all of them. New keys cost no read."""
        refs = {ref for request in requests for ref in request.key_refs}
        return keys.find(conn, refs if everything else [ref for ref in refs if self._memory.has_seen(ref)])

    def _draft(self, conn: Conn, requests: Sequence[Request], known: dict[KeyRef, UsedKey]) -> Draft:
        wanted = {request.user_id for request in requests}
        held = {user_id: account for user_id in wanted if (account := self._memory.account(user_id))}
        if missing := wanted - held.keys():
            loaded = accounts.load(conn, missing)
            self._memory.keep(loaded.values())
            held |= loaded
        draft = Draft(held, known)
        draft.decide(requests)
        return draft

    def _doubts(self, conn: Conn, draft: Draft, known: dict[KeyRef, UsedKey]) -> dict[KeyRef, UsedKey]:
        """Return the keys that make refusals wrong; raise _Moved when an account is not what memory says.

        The accounts are read before the keys: whoever used a key meanwhile is then seen by one or the other.
        """
        refused = [request for request, _ in draft.refused if known.keys().isdisjoint(request.key_refs)]
        doubtful = [*refused, *draft.idle]
        if not doubtful:
            return {}
        ids = {request.user_id for request in doubtful}
        versions = accounts.versions(conn, ids)
        for user_id in ids:
            believed = draft.accounts[user_id].version if user_id in draft.accounts else 0
            if versions.get(user_id, 0) != believed:
                raise _Moved
        return keys.find(conn, {ref for request in doubtful for ref in request.key_refs})

    def _write(self, conn: Conn, draft: Draft, now: datetime) -> None:
        self._ensure_month(conn, now)
        writes = [touched.as_write() for touched in draft.touched.values()]
        if not accounts.write(conn, writes, now=now):
            raise _Moved
        journal.append(conn, [(row, self._new_id()) for row in draft.rows], created_at=now)
        keys.append(conn, draft.used_keys(now), created_at=now)
        for request, row in draft.written:
            companions.write(conn, request.user_id, request.companions, seq=row.seq, now=now)
        for request in draft.rowless:
            companions.write(conn, request.user_id, request.companions, seq=None, now=now)
        conn.commit()

    def _ensure_month(self, conn: Conn, now: datetime) -> None:
        """The partition is made in a transaction of its own: it is there even if this batch is rolled back."""
        month = (now.year, now.month)
        if month not in self._months:
            conn.rollback()
            journal.ensure_month(conn, now)
            conn.commit()
            self._months.add(month)

    def _remember(self, draft: Draft) -> None:
        self._memory.keep(
            replace(touched.after, version=touched.before.version + 1) for touched in draft.touched.values()
        )
        self._memory.remember(ref for request, _ in draft.written for ref in request.key_refs)

    def _answer(self, draft: Draft, replays: dict[tuple[UUID, int], Receipt], now: datetime) -> None:
        for request, row in draft.written:
            request.answer.set_result(Receipt.of(row, created_at=now))
        for request, row in draft.twins:
            request.answer.set_result(replace(Receipt.of(row, created_at=now), is_replay=True))
        for request, used in draft.repeats:
            if receipt := replays.get((used.row.user_id, used.row.seq)):
                request.answer.set_result(receipt)
            else:
                request.answer.set_exception(_archived(used))
        for request in (*draft.rowless, *draft.idle):
            request.answer.set_result(None)
        self._refuse(draft.refused)

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
        self._refuse([(request, error) for request in requests])

    @staticmethod
    def _refuse(refused: Sequence[tuple[Request, TillError]]) -> None:
        for request, error in refused:
            request.answer.set_exception(error)


def _is_of_keys(error: psycopg.Error) -> bool:
    """Whether the key tables said "seen before". By prefix: a sharded table's constraints carry a suffix."""
    return (error.diag.constraint_name or "").startswith(("usage_keys_pkey", "token_keys_pkey"))


def _archived(used: UsedKey) -> TillError:
    when = f"{used.row.created_at:%Y-%m-%d}"
    return Conflict(f"This request was carried out on {when}; its journal row is no longer in the database.")


def _unwritable(error: Exception) -> TillError:
    detail = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Conflict(f"This is recorded already: {detail}")
    return InvalidRequest(f"PostgreSQL cannot store this: {detail}")
