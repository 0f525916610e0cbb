"""Connections that are cut at the worst moments lose nothing and double nothing.

The proxy stands between the engine and PostgreSQL and cuts every third batch at one point of five. Callers do what
callers should: ask again, with the same key, until they are answered.
"""

import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.engine.proxy import Point, Proxy
from tokentill import Till, Unavailable
from tokentill.store.journal import Receipt

WRITES = int(os.environ.get("TILL_TEST_WRITES", "1000"))  # At each point; fewer will do to see a planted fault.
CALLERS = 8
BURST = 40  # Spends that a caller asks for at once, by turns with single ones: small batches and large ones.
CUTS_MIN = WRITES // 50  # Fewer, and the point was hardly tried.
TRIES_MAX = 5

USERS = [f"member {n}" for n in range(CALLERS)]


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with Proxy(database) as proxy:
        yield proxy


def spend_through_cuts(proxy: Proxy, point: Point) -> dict[str, Receipt]:
    """Let the callers make their writes while the proxy cuts at `point`; return who was answered what."""
    answers: dict[str, Receipt] = {}
    is_given_up = threading.Event()  # One caller who cannot get through is enough to know.

    def caller(number: int) -> None:
        asked = [f"{point} {number} {count}" for count in range(WRITES // CALLERS)]
        # By turns an account of one's own and the one that all callers share.
        owed = {key: USERS[number if n % 2 else 0] for n, key in enumerate(asked)}
        sizes = itertools.cycle([*[1] * BURST, BURST])
        while owed and not is_given_up.is_set():
            keys = list(owed)[: next(sizes)]
            try:
                answers.update(_asked_until_answered(till, {key: owed.pop(key) for key in keys}))
            except Exception:
                is_given_up.set()
                raise

    with Till(proxy.url) as till:
        for user in USERS:
            till.grant_tokens(user, WRITES, idempotency_key=f"for {user} at {point}")
        proxy.point = point
        try:
            with ThreadPoolExecutor(CALLERS) as pool:
                list(pool.map(caller, range(CALLERS)))
        finally:
            proxy.point = None
    return answers


def _asked_until_answered(till: Till, owed: dict[str, str]) -> dict[str, Receipt]:
    """Ask for one token for each (key, user), all at once; what is unanswered again, with its key."""
    answers: dict[str, Receipt] = {}
    for _ in range(TRIES_MAX):
        asked = {
            key: till.submit(till.asking.spend(user, 1, "chat_conversation", idempotency_key=key))
            for key, user in owed.items()
            if key not in answers
        }
        for key, answer in asked.items():
            error = answer.exception()
            if error is None:
                receipt = answer.result()
                assert receipt is not None
                answers[key] = receipt
            elif not isinstance(error, Unavailable):
                raise error
        if len(answers) == len(owed):
            return answers
    raise AssertionError(f"no answer in {TRIES_MAX} tries") from error


def require_each_once(database: str, answers: dict[str, Receipt], count: int) -> None:
    """Every acknowledged write is there, once, and nothing else is; the books are right."""
    assert len(answers) == count
    with psycopg.connect(database) as conn:
        rows = Counter(conn.execute("SELECT user_id, seq FROM token_usage"))
        keys = Counter(conn.execute("SELECT user_id, seq FROM usage_keys"))
    acknowledged = Counter((answer.user_id, answer.seq) for answer in answers.values())
    assert (acknowledged - rows, rows - acknowledged) == (Counter(), Counter())
    assert (keys - rows, rows - keys) == (Counter(), Counter())
    with Till(database) as till:
        assert till.reconcile().findings == ()
        assert sum(till.balance(user).lifetime_tokens_used for user in USERS) == count


@pytest.mark.parametrize("point", Point)
def test_1000_writes_whose_connections_are_cut_are_1000_effects(database: str, proxy: Proxy, point: Point) -> None:
    answers = spend_through_cuts(proxy, point)

    assert proxy.cuts[point] >= CUTS_MIN, "this point was hardly tried"
    assert set(proxy.cuts) == {point}
    require_each_once(database, answers, WRITES)


def test_a_write_that_was_committed_unheard_answers_what_was_committed(database: str) -> None:
    """Every batch is cut after COMMIT here, so nobody hears of the first time: only the keys can tell."""
    with Proxy(database, every=1) as always, Till(always.url) as till:
        till.grant_tokens("alice", 100)
        always.point = Point.AFTER_COMMIT

        receipts = [till.spend("alice", 10, "chat_conversation", idempotency_key=f"{n}") for n in range(10)]

        assert always.cuts[Point.AFTER_COMMIT] == 10
        assert [receipt.balance_after for receipt in receipts] == list(range(90, -1, -10))
        always.point = None
        assert till.reconcile().findings == ()
