"""Each request happens once, whoever asks at the same time, however often, and whatever dies meanwhile."""

import itertools
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import AccountNotFound, IdempotencyConflict, InsufficientTokens, InvalidRequest, Till, TillError
from tokentill.core.calls import Call
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Charge, Spend
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.store.journal import Receipt


def outcomes(count: int, work: Callable[[int], Any], threads: int = 50) -> list[Any]:
    """Run `work(0)` … `work(count - 1)` in threads; return what each answered or refused."""

    def run(number: int) -> Any:
        try:
            return work(number)
        except TillError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(count)))


def succeeded(answers: list[Any]) -> list[Any]:
    return [answer for answer in answers if not isinstance(answer, Exception)]


def test_of_200_parallel_spends_on_a_balance_for_20_exactly_20_succeed(till: Till) -> None:
    till.grant_tokens("alice", 2_000)

    answers = outcomes(200, lambda _: till.spend("alice", 100, "chat_conversation"))

    assert len(succeeded(answers)) == 20
    assert all(isinstance(answer, InsufficientTokens) for answer in answers if isinstance(answer, Exception))
    assert till.balance("alice").balance == 0


def test_two_tills_on_one_database_sell_the_same_tokens_once(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("alice", 2_000)
    with Till(database, clock=clock) as other:
        other.balance("alice")
        tills = (till, other)

        answers = outcomes(200, lambda n: tills[n % 2].spend("alice", 100, "chat_conversation"), threads=16)

        assert len(succeeded(answers)) == 20
        assert all(isinstance(answer, InsufficientTokens) for answer in answers if isinstance(answer, Exception))
        assert till.balance("alice").balance == other.balance("alice").balance == 0


def test_two_tills_that_take_turns_each_see_what_the_other_did(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("alice", 2_000)
    with Till(database, clock=clock) as other:
        tills = itertools.cycle((till, other))

        def spend(_: int) -> Any:
            clock.advance(seconds=1)  # At one instant the journal's primary key would object, too.
            return next(tills).spend("alice", 100, "chat_conversation")

        answers = outcomes(40, spend, threads=1)

    assert [answer.balance_after for answer in answers[:20]] == list(range(1_900, -1, -100))
    assert all(isinstance(answer, InsufficientTokens) for answer in answers[20:])


def test_an_account_that_was_read_before_another_till_emptied_it_is_empty(
    till: Till, database: str, clock: Clock
) -> None:
    till.grant_tokens("alice", 1_000)
    with Till(database, clock=clock) as other:
        with pytest.raises(InsufficientTokens):
            other.spend("alice", 1_001, "chat_conversation")  # So that it has read the account.
        till.spend("alice", 1_000, "chat_conversation")
        clock.advance(seconds=1)

        with pytest.raises(InsufficientTokens):
            other.spend("alice", 1, "chat_conversation")


def test_one_key_from_50_callers_at_once_is_one_row_and_fifty_equal_answers(till: Till) -> None:
    till.grant_tokens("alice", 1_000)

    answers = outcomes(50, lambda _: till.spend("alice", 10, "chat_conversation", idempotency_key="once"))

    assert len(set(answers)) == 1
    assert sum(not answer.is_replay for answer in answers) == 1
    assert till.balance("alice").balance == 990
    assert len(till.history("alice")) == 2


def test_the_same_key_with_another_amount_is_a_conflict(till: Till) -> None:
    till.grant_tokens("alice", 1_000)
    till.spend("alice", 10, "chat_conversation", idempotency_key="once")

    with pytest.raises(IdempotencyConflict):
        till.spend("alice", 11, "chat_conversation", idempotency_key="once")
    answers = outcomes(50, lambda n: till.spend("alice", n + 1, "chat_conversation", idempotency_key="each its own"))

    assert len(succeeded(answers)) == 1
    assert all(isinstance(answer, IdempotencyConflict) for answer in answers if isinstance(answer, Exception))


def test_two_users_may_use_the_same_key(till: Till) -> None:
    for user in ("alice", "bob"):
        till.grant_tokens(user, 100, idempotency_key="welcome")
        till.spend(user, 40, "chat_conversation", idempotency_key="first")

    assert till.balance("alice").balance == till.balance("bob").balance == 60


def test_a_refused_key_may_be_used_again(till: Till) -> None:
    with pytest.raises(AccountNotFound):
        till.spend("alice", 50, "chat_conversation", idempotency_key="again")
    till.grant_tokens("alice", 10)
    with pytest.raises(InsufficientTokens):
        till.spend("alice", 50, "chat_conversation", idempotency_key="again")
    till.grant_tokens("alice", 100)

    assert till.spend("alice", 50, "chat_conversation", idempotency_key="again").balance_after == 60


def test_spending_everything_and_repeating_after_a_restart_answers_the_first_success(
    database: str, clock: Clock
) -> None:
    with Till(database, clock=clock) as till:
        till.grant_tokens("alice", 1_000, idempotency_key="grant")
        first = till.spend("alice", 1_000, "chat_conversation", idempotency_key="all of it")
    clock.advance(hours=1)

    with Till(database, clock=clock) as till:
        again = till.spend("alice", 1_000, "chat_conversation", idempotency_key="all of it")
        granted = till.grant_tokens("alice", 1_000, idempotency_key="grant")

        assert (again, again.is_replay) == (first, True)
        assert granted.is_replay
        assert till.balance("alice").balance == 0


@pytest.mark.parametrize("count", [1, 100])  # A few spends and many are written in two ways.
def test_a_repeat_at_another_till_is_no_second_spend_though_there_is_enough_left(
    till: Till, database: str, clock: Clock, count: int
) -> None:
    """Nothing but the key itself speaks against it: no refusal, and no version that moved."""
    till.grant_tokens("alice", 10 * count + 990 * count)

    def all_at(asked: Till) -> list[Any]:
        spends = [asked.asking.spend("alice", 10, "chat_conversation", idempotency_key=f"{n}") for n in range(count)]
        return [answer.result() for answer in [asked.submit(spend) for spend in spends]]

    first = all_at(till)
    clock.advance(seconds=1)
    with Till(database, clock=clock) as other:
        again = all_at(other)

    assert again == first
    assert all(receipt.is_replay for receipt in again)
    assert till.balance("alice").balance == 990 * count


@pytest.mark.parametrize("count", [1, 100])
def test_what_a_caller_hears_of_is_there_for_everybody(till: Till, database: str, count: int) -> None:
    till.grant_tokens("alice", 1_000)
    looked: SimpleQueue[tuple[int, bool]] = SimpleQueue()
    with psycopg.connect(database, autocommit=True) as conn:

        def look(answer: Answer[Receipt | None]) -> None:
            """Called by the engine, which goes on only afterwards."""
            receipt = answer.result()
            assert receipt is not None
            found = conn.execute("SELECT count(*) FROM token_usage WHERE seq = %s", [receipt.seq]).fetchone()
            looked.put((receipt.seq, found == (1,)))

        for _ in range(count):
            till.submit(till.asking.spend("alice", 1, "chat_conversation")).add_done_callback(look)
        unseen = [seq for seq, is_there in [looked.get(timeout=60) for _ in range(count)] if not is_there]

    assert unseen == []


def test_a_repeat_on_another_process_with_a_stale_memory_answers_the_first_success(
    till: Till, database: str, clock: Clock
) -> None:
    """The other till remembers an account without tokens, and must not refuse from that memory."""
    till.grant_tokens("alice", 10)
    with Till(database, clock=clock) as other:
        with pytest.raises(InsufficientTokens):
            other.spend("alice", 500, "chat_conversation", idempotency_key="k")
        till.grant_tokens("alice", 490)
        first = till.spend("alice", 500, "chat_conversation", idempotency_key="k")

        assert other.spend("alice", 500, "chat_conversation", idempotency_key="k") == first
        with pytest.raises(InsufficientTokens):
            other.spend("alice", 500, "chat_conversation", idempotency_key="another")


def test_a_cycle_dripped_here_is_a_repeat_there(till: Till, database: str, clock: Clock) -> None:
    """Two constraints know of it, the drip's own and the key's; whichever speaks first, it is the same drip."""
    first = till.drip_tokens_28day("alice", "sub")
    with Till(database, clock=clock) as other:
        again = other.drip_tokens_28day("alice", "sub")

    assert (again, again.is_replay) == (first, True)


def test_tokens_granted_elsewhere_are_spendable_here_at_once(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("alice", 10)
    with pytest.raises(InsufficientTokens):
        till.spend("alice", 100, "chat_conversation")
    with Till(database, clock=clock) as other:
        other.grant_tokens("alice", 90)

    assert till.spend("alice", 100, "chat_conversation").balance_after == 0


@pytest.mark.parametrize(
    ("field", "poison"), [("error_message", "a\x00b"), ("input_tokens", 2**70), ("metadata", {"deep": "\x00"})]
)
def test_a_row_that_postgres_cannot_hold_fails_alone_among_1000_good_ones(
    till: Till, field: str, poison: object
) -> None:
    """Past the edge's checks on purpose: the engine must not trust them with its neighbours' requests."""
    till.grant_tokens("alice", 10_000)
    new_id = till.context.new_id

    def spend(number: int) -> Spend:
        bad: dict[str, Any] = {field: poison} if number == 500 else {}
        call = Call(action_type="chat_conversation", **bad)
        return Spend(User.of("alice"), Key.fresh(new_id()), call, Charge(1))

    answers = [till.submit(spend(number)) for number in range(1001)]

    failed = [answer.exception() for answer in answers if answer.exception()]
    assert len(failed) == 1
    assert isinstance(failed[0], InvalidRequest)
    assert till.balance("alice").balance == 9_000


def test_a_lost_connection_loses_and_doubles_nothing(till: Till, database: str) -> None:
    till.grant_tokens("alice", 10_000)
    stop = threading.Event()

    def cut() -> None:
        with psycopg.connect(database, autocommit=True) as conn:
            while not stop.wait(0.1):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        answers = outcomes(400, lambda n: till.spend("alice", 10, "chat_conversation", idempotency_key=f"{n}"), 8)
    finally:
        stop.set()
        cutter.join()

    assert len(succeeded(answers)) == 400
    assert till.balance("alice").balance == 6_000
    assert len({answer.seq for answer in answers}) == 400


def asked_by_two_processes(database: str, call: str) -> int:
    """Let two processes make `call` on `till` 400 times each, from 16 threads; return how often it was not refused."""
    program = textwrap.dedent(f"""
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from tokentill import InsufficientTokens, Till
        def ask(_):
            try:
                return {call} is not None
            except InsufficientTokens:
                return False
        with Till(sys.argv[1]) as till, ThreadPoolExecutor(16) as pool:
            print(sum(pool.map(ask, range(400))))
    """)
    processes = [
        subprocess.Popen([sys.executable, "-c", program, database], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    return sum(int(process.communicate(timeout=120)[0]) for process in processes)


def test_two_processes_on_one_account_stay_exact(till: Till, database: str) -> None:
    till.grant_tokens("alice", 5_000)

    assert asked_by_two_processes(database, 'till.spend("alice", 10, "chat_conversation")') == 500
    assert till.balance("alice").balance == 0


def test_a_cancelled_await_before_its_turn_happens_not_at_all(till: Till) -> None:
    till.grant_tokens("alice", 100)
    command = till.asking.spend("alice", 10, "chat_conversation")
    answers = [till.submit(till.asking.spend("alice", 1, "chat_conversation")) for _ in range(50)]
    cancelled = till.submit(command)
    was_cancelled = cancelled.cancel()
    for answer in answers:
        answer.result()

    assert till.balance("alice").balance == (50 if was_cancelled else 40)
    assert till.spend("alice", 10, "chat_conversation").balance_after == till.balance("alice").balance


def test_a_forked_childs_till_says_so_rather_than_never_answer(till: Till, database: str) -> None:
    """Threads do not survive a fork: the child's copy of the engine would take commands and carry out none."""
    program = textwrap.dedent("""
        import os, sys
        from tokentill import Till, Unavailable
        till = Till(sys.argv[1])
        till.grant_tokens("alice", 10)
        child = os.fork()
        if child == 0:
            try:
                till.spend("alice", 1, "chat_conversation")
            except Unavailable as error:
                os._exit(7 if "fork" in error.detail else 8)
            os._exit(9)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        till.spend("alice", 1, "chat_conversation")
        till.close()
        sys.exit(status)
    """)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, database], check=False, timeout=60)

    assert done.returncode == 7
    assert till.balance("alice").balance == 9
