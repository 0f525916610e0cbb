"""Workers that share a database: each account's commands are carried out by one of them, and none is lost with it."""

import contextlib
import pickle
import socket
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Clock
from tokentill import Till, errors
from tokentill.engine import routing
from tokentill.engine.routing import RoutedEngine, _Inbox, _Link, owner_of
from tokentill.errors import AccountNotFound, InsufficientTokens, TillError, Unavailable

ACTION = "chat_conversation"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own: its paths are too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="till-", dir="/tmp") as path:
        yield Path(path)


@contextlib.contextmanager
def worker(database: str, folder: Path, number: int, clock: Clock) -> Iterator[Till]:
    engine_of = partial(RoutedEngine, number=number, count=2, folder=folder)
    with Till(database, clock=clock, engine_of=engine_of) as till:
        yield till


def routed(till: Till) -> RoutedEngine:
    assert isinstance(till.context.engine, RoutedEngine)
    return till.context.engine


def acquainted(till: Till) -> _Link:
    """The way to the other worker, once that has said its first word."""
    link = routed(till)._links[1 - routed(till).number]
    with link._wake:
        link._wake.wait_for(lambda: link._is_welcome, 30)
    assert link._is_welcome
    return link


def users_of(number: int) -> list[str]:
    """Some users whose accounts are this worker's."""
    users = [str(UUID(int=n << 64)) for n in range(100)]
    return [user for user in users if owner_of(UUID(user), 2) == number][:20]


@pytest.fixture
def pair(database: str, folder: Path, clock: Clock) -> Iterator[tuple[Till, Till]]:
    with worker(database, folder, 0, clock) as zero, worker(database, folder, 1, clock) as one:
        acquainted(one)
        routed(zero)._meet()  # As it does itself when the other one connects to it, but by now.
        acquainted(zero)
        yield zero, one
        assert one.reconcile().findings == ()


def test_every_account_has_one_owner_whatever_its_id_looks_like() -> None:
    by_high_bits = [owner_of(UUID(int=n << 100), 4) for n in range(1000)]
    by_low_bits = [owner_of(UUID(int=n), 4) for n in range(1000)]

    for owners in (by_high_bits, by_low_bits):
        assert all(150 < owners.count(owner) < 350 for owner in range(4))
    # Never changes: while workers of two versions run, they must agree.
    assert [owner_of(UUID(int=n), 4) for n in range(8)] == [1, 3, 1, 3, 0, 2, 0, 2]


def test_an_account_is_written_by_its_own_worker_whoever_is_asked(pair: tuple[Till, Till]) -> None:
    for till in pair:
        for user in (*users_of(0), *users_of(1)):
            till.grant_tokens(user, 10)
            assert till.spend(user, 4, ACTION).tokens == -4
        answers = till.submit_many([till.asking.spend(user, 1, ACTION) for user in (*users_of(0), *users_of(1))])
        assert [answer.result() is not None for answer in answers] == [True] * 40

    for till in pair:
        counts = routed(till).counts
        assert (counts.own, counts.received, counts.passed_on, counts.taken_over) == (60, 60, 60, 0)


def test_a_refusal_comes_back_as_what_it_is(pair: tuple[Till, Till]) -> None:
    zero, _ = pair
    user = users_of(1)[0]

    with pytest.raises(AccountNotFound, match="has no account"):
        zero.spend(user, 1, ACTION)
    zero.grant_tokens(user, 3)
    with pytest.raises(InsufficientTokens) as refused:
        zero.spend(user, 5, ACTION)

    assert (refused.value.requested_tokens, refused.value.shortfall_tokens) == (5, 2)
    assert refused.value.fields["available_tokens"] == 3


def test_every_error_can_travel() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, TillError):
            error = (
                kind(requested_tokens=5, available_tokens=3)
                if kind is InsufficientTokens
                else kind("Something.", field="tokens", retry_after=1)
            )
            arrived = pickle.loads(pickle.dumps(error))
            assert type(arrived) is kind
            assert (arrived.detail, arrived.fields, str(arrived)) == (error.detail, error.fields, str(error))


def test_while_the_other_worker_is_not_there_its_accounts_are_served_here(
    database: str, folder: Path, clock: Clock
) -> None:
    with worker(database, folder, 0, clock) as till:
        for user in users_of(1):
            till.grant_tokens(user, 10)
        assert routed(till).counts.taken_over == len(users_of(1))
        with worker(database, folder, 1, clock) as later:
            acquainted(later)
            later.spend(users_of(1)[0], 4, ACTION)
        till.spend(users_of(1)[0], 4, ACTION)  # It has gone again.
        assert till.balance(users_of(1)[0]).balance == 2


class Stranger:
    """A worker 1 that a test plays: it takes commands and does what the test does with them."""

    def __init__(self, folder: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "1.sock"))
        self._listener.listen(1)
        self._guest: socket.socket | None = None

    def welcome(self, till: Till) -> None:
        """Say the first word to worker 0."""
        routed(till)._meet()
        self._guest, _ = self._listener.accept()
        self.say([])
        acquainted(till)

    def say(self, message: object) -> None:
        assert self._guest is not None
        packed = pickle.dumps(message)
        self._guest.sendall(len(packed).to_bytes(4) + packed)

    def hear(self) -> list[Any]:
        assert self._guest is not None
        heard: list[Any] = _Inbox(self._guest).receive()
        return heard

    def end(self) -> None:
        self._listener.close()
        if self._guest is not None:
            self._guest.close()


@pytest.fixture
def till(database: str, folder: Path, clock: Clock) -> Iterator[Till]:
    """Worker 0."""
    with worker(database, folder, 0, clock) as till:
        yield till
        assert till.reconcile().findings == ()


@pytest.fixture
def stranger(till: Till, folder: Path) -> Iterator[Stranger]:
    for user in users_of(1):
        till.grant_tokens(user, 10)
    stranger = Stranger(folder)
    yield stranger
    stranger.end()


def test_what_is_not_answered_is_done_here_and_only_once(
    till: Till, stranger: Stranger, database: str, clock: Clock
) -> None:
    """The other worker takes commands and dies: some carried out and not acknowledged, some not."""
    stranger.welcome(till)
    users = users_of(1)
    commands = [till.asking.spend(user, 4, ACTION, idempotency_key="k") for user in users]

    answers = till.submit_many(commands)
    assert routed(till).counts.passed_on == len(users)
    assert not any(answer.done() for answer in answers)
    with Till(database, clock=clock) as elsewhere:
        for command in commands[::2]:
            elsewhere.submit(command).result()
    stranger.end()

    receipts = [answer.result(timeout=60) for answer in answers]
    assert [receipt is not None and receipt.balance_after for receipt in receipts] == [6] * len(users)
    assert [receipt is not None and receipt.is_replay for receipt in receipts] == [True, False] * (len(users) // 2)
    assert all(till.balance(user).balance == 6 for user in users)


def test_a_worker_that_never_said_a_word_is_asked_nothing(till: Till, stranger: Stranger) -> None:
    """The kernel accepts connections for a process that hangs."""
    routed(till)._meet()

    assert till.submit(till.asking.spend(users_of(1)[0], 4, ACTION)).result(timeout=60) is not None
    assert routed(till).counts.passed_on == 0


def test_a_worker_that_falls_silent_is_given_up(
    till: Till, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "PATIENCE", 0.01)
    stranger.welcome(till)

    answers = till.submit_many([till.asking.spend(user, 4, ACTION) for user in users_of(1)])

    assert all(answer.result(timeout=60) is not None for answer in answers)
    assert routed(till).counts.passed_on == len(users_of(1))


def test_what_a_closing_worker_turns_away_is_done_here(till: Till, stranger: Stranger) -> None:
    stranger.welcome(till)

    answer = till.submit(till.asking.spend(users_of(1)[0], 4, ACTION))
    ((number, _, _, _),) = stranger.hear()
    stranger.say([(number, None, Unavailable("The till is closed."))])

    receipt = answer.result(timeout=60)
    assert receipt is not None and receipt.balance_after == 6


def test_what_was_asked_is_answered_when_both_end_at_once(database: str, folder: Path, clock: Clock) -> None:
    with contextlib.ExitStack() as stack:
        zero = stack.enter_context(worker(database, folder, 0, clock))
        one = stack.enter_context(worker(database, folder, 1, clock))
        acquainted(one)
        for user in (*users_of(0), *users_of(1)):
            one.grant_tokens(user, 100)
        users = [*users_of(0), *users_of(1)] * 20
        answers = [
            answer
            for till in (zero, one)
            for answer in till.submit_many([till.asking.spend(u, 1, ACTION) for u in users])
        ]
        ending = [threading.Thread(target=till.close) for till in (zero, one)]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()

    assert all(answer.result(timeout=0) is not None for answer in answers)
    with Till(database, clock=clock) as till:
        assert {till.balance(user).balance for user in users} == {60}
