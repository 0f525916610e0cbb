"""Many ask at once: over threads, over HTTP, over two processes; and nobody gets what another has.

Every load here is first shown to be strong enough. Two tills that are wrong, and our own without its version check, are
put to the same test and must fail it; a load that they survive would prove nothing.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.engine.faults import NO_VERSION_CHECK, planted
from tests.engine.loads import at_once
from tests.engine.processes import (
    SOURCE,
    Listening,
    Load,
    Reply,
    Server,
    WrongServer,
    post_at_once,
    till_command,
    together,
    usage_request,
)
from tests.engine.wrong_tills import WRONG_TILLS
from tokentill import Till

BALANCE, PRICE, ASKING = 2_000, 100, 200  # Tokens for exactly 20 of 200.
ROUNDS_MAX = 10  # In which a wrong till must have been caught.


@pytest.fixture
def books(database: str) -> str:
    """A database where alice has tokens for 20."""
    with Till(database) as till:
        till.grant_tokens("alice", BALANCE)
    return database


@dataclass(frozen=True)
class Subject:
    """Which till is put to the test: ours, ours with a fault in its source, or a wrong one."""

    kind: str = "tokentill"
    source: Path = SOURCE


def over_threads(database: str, subject: Subject) -> list[Reply]:
    """50 threads of one process, on two tills."""
    return together([Load({"url": database, "kind": subject.kind, "tills": 2, "tokens": PRICE, "count": ASKING},
                          source=subject.source)])  # fmt: skip


def over_two_processes(database: str, subject: Subject) -> list[Reply]:
    task = {"url": database, "kind": subject.kind, "tokens": PRICE, "count": ASKING // 2, "threads": 25}
    return together([Load(task, source=subject.source) for _ in range(2)])


def over_http(database: str, subject: Subject) -> list[Reply]:
    """200 connections to two servers."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(database, subject)) for _ in range(2)]
        # Two who have read the account already: a till that trusts its memory is then wrong at once.
        warm = [usage_request("alice", 0, f"warm {n}") for n in range(2)] if subject.kind == "tokentill" else []
        assert all(reply["ok"] for reply in post_at_once([server.url for server in servers], warm))
        requests = [usage_request("alice", PRICE, f"{n}") for n in range(ASKING)]
        return post_at_once([server.url for server in servers], requests)


def _server(database: str, subject: Subject) -> Listening:
    if subject.kind == "tokentill":
        return Server(database, source=subject.source)
    return WrongServer(subject.kind, database)


Way = Callable[[str, Subject], list[Reply]]
WAYS = [over_threads, over_http, over_two_processes]


class Oversold(AssertionError):
    """More was sold than was there."""


def require_exactly_20(replies: list[Reply]) -> None:
    sold = sum(reply["ok"] for reply in replies)
    if sold > BALANCE // PRICE:
        raise Oversold(f"{sold} spends succeeded on a balance for {BALANCE // PRICE}")
    assert sold == BALANCE // PRICE
    assert len(replies) == ASKING
    assert {reply["error"] for reply in replies if not reply["ok"]} == {"insufficient_tokens"}


@pytest.mark.parametrize("way", WAYS)
def test_of_200_parallel_spends_on_a_balance_for_20_exactly_20_succeed(books: str, way: Way) -> None:
    replies = way(books, Subject())

    require_exactly_20(replies)
    with Till(books) as till:
        assert till.balance("alice").balance == 0
        assert till.reconcile().findings == ()


@pytest.mark.parametrize("way", WAYS)
def test_without_the_version_check_more_than_20_would(database: str, tmp_path: Path, way: Way) -> None:
    faulty = Subject(source=planted(NO_VERSION_CHECK, tmp_path))

    def play() -> None:
        _forget_everything(database)
        with Till(database) as till:
            till.grant_tokens("alice", BALANCE)
        require_exactly_20(way(database, faulty))

    _require_caught(play)
    with Till(database) as till:
        assert till.reconcile().findings, "and reconciliation sees it"


@pytest.mark.parametrize("kind", WRONG_TILLS)
@pytest.mark.parametrize("way", WAYS)
def test_a_till_that_is_wrong_is_caught_by_the_same_load(empty_database: str, way: Way, kind: str) -> None:
    def play() -> None:
        WRONG_TILLS[kind].set_up(empty_database, BALANCE)
        require_exactly_20(way(empty_database, Subject(kind)))

    _require_caught(play)


def _require_caught(play: Callable[[], None]) -> None:
    """Play until too much was sold, which must not take long. Any other failure is one of the test's own."""
    for _ in range(ROUNDS_MAX):
        try:
            play()
        except Oversold:
            return
    pytest.fail(f"nothing was wrong in {ROUNDS_MAX} rounds: this load is too weak to prove anything")


def _forget_everything(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute(
            "TRUNCATE token_accounts, token_lots, token_transactions, token_drips, token_usage, token_keys, usage_keys "
            "CASCADE"
        )


# -- one key ----------------------------------------------------------------------------------------------------------


def one_key_over_http(database: str) -> list[Reply]:
    with Server(database) as first, Server(database) as second:
        return post_at_once([first.url, second.url], [usage_request("alice", PRICE, "once") for _ in range(50)])


def one_key_over_two_processes(database: str) -> list[Reply]:
    task = {"url": database, "tokens": PRICE, "count": 25, "threads": 25, "key": "once"}
    return together([Load(task) for _ in range(2)])


@pytest.mark.parametrize("way", [one_key_over_http, one_key_over_two_processes])
def test_one_key_from_50_callers_at_once_is_one_row_and_fifty_equal_answers(
    books: str, way: Callable[[str], list[Reply]]
) -> None:
    replies = way(books)

    facts = [{name: fact for name, fact in reply.items() if name != "is_replay"} for reply in replies]
    assert facts == [facts[0]] * 50
    assert facts[0]["ok"]
    assert sum(not reply["is_replay"] for reply in replies) == 1
    _require_balance(books, BALANCE - PRICE, rows=1)


def test_one_key_for_50_amounts_is_one_success_and_49_conflicts_over_http(books: str) -> None:
    with Server(books) as first, Server(books) as second:
        requests = [usage_request("alice", n + 1, "once") for n in range(50)]
        replies = post_at_once([first.url, second.url], requests)

    assert sum(reply["ok"] for reply in replies) == 1
    assert {reply["error"] for reply in replies if not reply["ok"]} == {"idempotency_conflict"}


def test_one_key_for_two_amounts_in_two_processes_is_a_conflict_in_one(books: str) -> None:
    tasks = [{"url": books, "tokens": tokens, "count": 25, "threads": 25, "key": "once"} for tokens in (1, 2)]
    replies = together([Load(task) for task in tasks])

    first, second = replies[:25], replies[25:]
    winner, loser = (first, second) if first[0]["ok"] else (second, first)
    assert all(reply["ok"] and reply["seq"] == winner[0]["seq"] for reply in winner)
    assert all(reply.get("error") == "idempotency_conflict" for reply in loser)


def test_a_key_that_one_server_refused_may_be_used_again_at_another(books: str) -> None:
    dear = usage_request("alice", BALANCE + 1, "again")
    with Server(books) as first, Server(books) as second:
        assert post_at_once([first.url], [dear]) == [{"ok": False, "error": "insufficient_tokens"}]
        with Till(books) as till:
            till.grant_tokens("alice", 1)

        [reply] = post_at_once([second.url], [dear])
        [again] = post_at_once([first.url], [dear])

    assert (reply["ok"], reply["is_replay"], reply["balance_after"]) == (True, False, 0)
    assert again == {**reply, "is_replay": True}


def test_all_was_spent_and_the_server_killed_and_the_same_request_answers_its_first_success_everywhere(
    books: str,
) -> None:
    everything = usage_request("alice", BALANCE, "all of it")
    with Server(books) as other:
        with Server(books) as server:
            [first] = post_at_once([server.url], [everything])
        with Server(books) as restarted:
            replies = post_at_once([restarted.url, other.url], [everything] * 20)
            refused = post_at_once([other.url, restarted.url], [usage_request("alice", 1, f"{n}") for n in range(20)])
    by_hand = till_command(books, "spend", "alice", str(BALANCE), "chat_conversation", "--key", "all of it")

    assert first["ok"] and not first["is_replay"]
    assert replies == [{**first, "is_replay": True}] * 20
    assert refused == [{"ok": False, "error": "insufficient_tokens"}] * 20
    assert by_hand["id"] == first["id"]
    _require_balance(books, 0, rows=1)


# -- poison -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [{"error_message": "a\x00b"}, {"input_tokens": 2**70}])
def test_poison_in_each_of_two_processes_fails_alone_among_1000_good_spends(
    database: str, poison: dict[str, object]
) -> None:
    with Till(database) as till:
        till.grant_tokens("alice", 10_000)
    task = {"url": database, "tokens": 1, "count": 501, "threads": 50, "poison": poison}
    replies = together([Load(task) for _ in range(2)])

    assert [reply["error"] for reply in replies if not reply["ok"]] == ["invalid_request"] * 2
    _require_balance(database, 9_000, rows=1_000)


def test_poison_over_http_fails_alone_among_1000_good_spends(database: str) -> None:
    with Till(database) as till:
        till.grant_tokens("alice", 10_000)
    with Server(database) as server:
        requests = [usage_request("alice", 1, f"{n}") for n in range(1_000)]
        requests.insert(700, usage_request("alice", 1, "a number too large", input_tokens=2**70))
        requests.insert(300, usage_request("alice", 1, "a NUL", error_message="a\x00b"))
        replies = post_at_once([server.url], requests)

    assert [number for number, reply in enumerate(replies) if not reply["ok"]] == [300, 701]
    _require_balance(database, 9_000, rows=1_000)


# -- another process --------------------------------------------------------------------------------------------------


def test_the_command_line_writes_the_same_accounts_during_a_load_and_no_update_is_lost(database: str) -> None:
    """Real `till spend` and `till grant`, one after the other and two at a time, beside 16 threads that never pause."""
    turns = 2
    with Till(database) as till:
        till.grant_tokens("alice", 1_000_000)
        is_over = threading.Event()

        def load(_: int) -> Reply:
            count = 0
            while not is_over.is_set():
                till.spend("alice", 1, "chat_conversation")
                count += 1
            return {"ok": True, "count": count}

        def by_hand(number: int) -> Reply:
            spent = [till_command(database, "spend", "alice", "7", "chat_conversation") for _ in range(turns)]
            given = [till_command(database, "grant", "alice", "1000", "--key", f"{number} {n}") for n in range(turns)]
            return {"ok": True, "seqs": {reply["seq"] for reply in (*spent, *given)}}

        in_process: list[Reply] = []
        loading = threading.Thread(target=lambda: in_process.extend(at_once(load, 16, 16)))
        loading.start()
        try:
            hands = at_once(by_hand, 2, 2)
        finally:
            is_over.set()
            loading.join()

        spends = sum(reply["count"] for reply in in_process)
        assert len(set.union(*(reply["seqs"] for reply in hands))) == 2 * 2 * turns
        assert spends > 100, "there was no load to speak of"
        assert till.balance("alice").balance == 1_000_000 - spends + 2 * turns * (1_000 - 7)
        assert till.balance("alice").lifetime_tokens_used == spends + 2 * turns * 7
        assert till.reconcile().findings == ()


def _require_balance(database: str, balance: int, *, rows: int) -> None:
    with Till(database) as till:
        assert till.balance("alice").balance == balance
        assert till.reconcile().findings == ()
    with psycopg.connect(database) as conn:
        assert conn.execute("SELECT count(*) FROM token_usage").fetchone() == (rows,)
