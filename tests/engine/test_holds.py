"""Holds under pressure: threads, tills, processes, repeats, and the process that placed one being killed."""

import json
import random
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Clock
from tests.core import make
from tests.engine.killing import USERS, Client, grant_everybody, play
from tests.engine.test_exactly_once import asked_by_two_processes, outcomes, succeeded
from tokentill import IdempotencyConflict, InsufficientTokens, Till
from tokentill.core.ledger.commands import Command
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.engine.draft import Draft, Idle, Rejected, Request
from tokentill.errors import HoldClosed, HoldNotFound
from tokentill.store.embedded import EmbeddedServer
from tokentill.store.journal import Receipt


def test_of_200_parallel_holds_on_a_balance_for_20_exactly_20_are_placed(till: Till) -> None:
    till.grant_tokens("alice", 2_000)

    answers = outcomes(200, lambda _: till.hold("alice", 100, "chat_conversation"))

    assert len(succeeded(answers)) == 20
    assert all(isinstance(answer, InsufficientTokens) for answer in answers if isinstance(answer, Exception))
    report = till.balance("alice")
    assert (report.balance, report.held, report.available) == (2_000, 2_000, 0)
    assert len({hold.hold_id for hold in till.holds("alice")}) == 20


def test_two_tills_set_the_same_tokens_aside_once(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("alice", 2_000)
    with Till(database, clock=clock) as other:
        other.balance("alice")
        tills = (till, other)

        answers = outcomes(200, lambda n: tills[n % 2].hold("alice", 100, "chat_conversation"), threads=16)

        assert len(succeeded(answers)) == 20
        assert till.balance("alice").held == other.balance("alice").held == 2_000


def test_two_tills_that_take_turns_set_the_same_tokens_aside_once(till: Till, database: str, clock: Clock) -> None:
    """Each remembers the account as it left it, and the other has been there since."""
    till.grant_tokens("alice", 2_000)
    with Till(database, clock=clock) as other:
        tills = (till, other)
        answers = outcomes(60, lambda n: tills[n % 2].hold("alice", 100, "chat_conversation"), threads=1)

        assert len(succeeded(answers)) == 20


def test_two_processes_set_the_same_tokens_aside_once(till: Till, database: str) -> None:
    till.grant_tokens("alice", 2_000)

    assert asked_by_two_processes(database, 'till.hold("alice", 100, "chat_conversation", ttl=3600)') == 20
    with psycopg.connect(database) as conn:
        found = conn.execute("SELECT count(*), sum(tokens) FROM token_holds WHERE state = 'placed'").fetchone()
    assert found == (20, 2_000)


def test_without_the_version_check_they_would_be_set_aside_twice(
    till: Till, database: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the tests above can fail."""
    from tokentill.store import one_statement

    till.grant_tokens("alice", 2_000)
    parts = one_statement._PARTS
    unchecked = parts["accounts"].replace(" AND a.version = n.expected", "")
    assert unchecked != parts["accounts"]
    monkeypatch.setitem(parts, "accounts", unchecked)
    one_statement._joined.cache_clear()
    with Till(database, clock=clock) as other:
        tills = (till, other)
        answers = outcomes(60, lambda n: tills[n % 2].hold("alice", 100, "chat_conversation"), threads=1)
        monkeypatch.undo()
        one_statement._joined.cache_clear()

    assert len(succeeded(answers)) > 20


def test_spends_and_holds_race_for_the_same_tokens(till: Till, database: str, clock: Clock) -> None:
    """Whoever wins, what is spent and what is held are together no more than there was."""
    till.grant_tokens("alice", 2_000)
    with Till(database, clock=clock) as other:
        tills = (till, other)

        def ask(number: int) -> Any:
            asked = tills[number % 2]
            if number % 3:
                return asked.hold("alice", 100, "chat_conversation")
            return asked.spend("alice", 100, "chat_conversation")

        answers = succeeded(outcomes(200, ask, threads=16))

    held = [answer for answer in answers if isinstance(answer, HoldReceipt)]
    assert len(answers) == 20
    assert 0 < len(held) < 20, "a race that one side always wins proves nothing"
    report = till.balance("alice")
    assert (report.held, report.available) == (100 * len(held), 0)


def test_one_key_from_50_callers_is_one_hold_and_fifty_equal_answers(till: Till) -> None:
    till.grant_tokens("alice", 1_000)

    answers = outcomes(50, lambda _: till.hold("alice", 1_000, "chat_conversation", idempotency_key="once"))

    assert len(set(answers)) == 1
    assert sum(not answer.is_replay for answer in answers) == 1
    assert till.balance("alice").held == 1_000


def test_one_hold_captured_by_50_callers_is_one_row_and_fifty_equal_answers(
    till: Till, database: str, clock: Clock
) -> None:
    """Over two tills, with and without keys of their own, and whatever each says that it came to."""
    till.grant_tokens("alice", 1_000)
    hold = till.hold("alice", 500, "chat_conversation")
    with Till(database, clock=clock) as other:
        tills = (till, other)

        def capture(number: int) -> Receipt:
            key = f"key {number}" if number % 3 else None
            return tills[number % 2].capture("alice", hold.id, 100 + number, idempotency_key=key)

        answers = outcomes(50, capture)

    assert len(set(answers)) == 1
    assert sum(not answer.is_replay for answer in answers) == 1
    assert till.balance("alice").balance == answers[0].balance_after
    assert [entry.kind for entry in till.history("alice")] == ["usage", "transaction"]
    assert till.holds("alice", include_closed=True)[0].captured_seq == 2


def test_of_captures_and_voids_at_once_one_kind_wins(till: Till, database: str, clock: Clock) -> None:
    till.grant_tokens("alice", 10_000)
    with Till(database, clock=clock) as other:
        for _ in range(10):
            hold = till.hold("alice", 100, "chat_conversation").hold_id

            def end(number: int, hold: Any = hold) -> Any:
                return till.capture("alice", hold) if number % 2 else other.void("alice", hold)

            answers = outcomes(8, end, threads=8)

            won = {type(answer) for answer in succeeded(answers)}
            assert won in ({Receipt}, {HoldReceipt})
            assert len(succeeded(answers)) == 4
            assert all(isinstance(answer, HoldClosed) for answer in answers if isinstance(answer, Exception))


def test_a_hold_whose_process_was_killed_frees_itself_when_its_time_is_over(
    database: str, clock: Clock, till: Till
) -> None:
    till.grant_tokens("alice", 1_000)
    program = textwrap.dedent("""
        import os, signal, sys
        from datetime import datetime
        from tokentill import Till
        till = Till(sys.argv[1], clock=lambda: datetime.fromisoformat(sys.argv[2]))
        print(till.hold("alice", 900, "chat_conversation", ttl=60).id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    command = [sys.executable, "-c", program, database, clock.now.isoformat()]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -9

    with pytest.raises(InsufficientTokens):
        till.spend("alice", 101, "chat_conversation")
    clock.advance(seconds=59)
    with pytest.raises(InsufficientTokens):
        till.spend("alice", 101, "chat_conversation")
    clock.advance(seconds=1)

    assert till.holds("alice") == []
    assert till.find_hold("alice", killed.stdout.strip()).state == "expired"
    assert till.spend("alice", 1_000, "chat_conversation").balance_after == 0


def test_placing_is_repeated_after_a_restart_and_on_another_process(database: str, clock: Clock) -> None:
    """With nothing left to hold, and whatever became of the hold: the repeat answers it and is never refused."""
    with Till(database, clock=clock) as till:
        till.grant_tokens("alice", 1_000)
        first = till.hold("alice", 1_000, "chat_conversation", idempotency_key="k")
        with pytest.raises(InsufficientTokens):
            till.hold("alice", 1_000, "chat_conversation", idempotency_key="another")
    with Till(database, clock=clock) as till, Till(database, clock=clock) as other:
        again = other.hold("alice", 1_000, "chat_conversation", idempotency_key="k")
        assert (again, again.is_replay) == (first, True)
        till.capture("alice", first.hold_id)

        late = other.hold("alice", 1_000, "chat_conversation", idempotency_key="k")
        assert (late.state, late.captured_seq, late.is_replay) == ("captured", 2, True)
        with pytest.raises(IdempotencyConflict):
            other.hold("alice", 999, "chat_conversation", idempotency_key="k")
        till.grant_tokens("alice", 5_000)
        assert other.hold("alice", 1_000, "chat_conversation", idempotency_key="k") == late, "nor is it placed again"
        assert other.balance("alice").held == 0


def test_capturing_is_repeated_after_a_restart(database: str, clock: Clock) -> None:
    with Till(database, clock=clock) as till:
        till.grant_tokens("alice", 1_000)
        hold = till.hold("alice", 400, "chat_conversation")
        first = till.capture("alice", hold.hold_id, 300, idempotency_key="k")
    clock.advance(days=1)
    with Till(database, clock=clock) as till:
        assert till.capture("alice", hold.hold_id, 300, idempotency_key="k") == first
        assert till.capture("alice", hold.id, 7) == first
        for _ in range(2):  # The second time it is found by this name alone.
            assert till.capture("alice", hold.id, 7, idempotency_key="another") == first
        with pytest.raises(IdempotencyConflict):
            till.capture("alice", hold.hold_id, 301, idempotency_key="k")
        assert till.balance("alice").balance == 700


def test_a_key_of_one_capture_is_not_another_ones(till: Till) -> None:
    till.grant_tokens("alice", 1_000)
    first, second = (till.hold("alice", 100, "chat_conversation") for _ in range(2))
    till.capture("alice", first.hold_id, 50, idempotency_key="k")

    with pytest.raises(IdempotencyConflict):
        till.capture("alice", second.hold_id, 50, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        till.spend("alice", 50, "chat_conversation", idempotency_key="k")
    assert till.find_hold("alice", second.id).state == "placed"


def test_a_refused_capture_uses_no_key_and_leaves_the_hold_open(till: Till) -> None:
    till.grant_tokens("alice", 100)
    hold = till.hold("alice", 100, "chat_conversation")
    details: dict[str, Any] = {"on_insufficient": "refuse", "idempotency_key": "k"}
    with pytest.raises(InsufficientTokens):
        till.capture("alice", hold.hold_id, 150, **details)
    assert till.find_hold("alice", hold.id) == hold
    till.grant_tokens("alice", 50)

    assert till.capture("alice", hold.hold_id, 150, **details).balance_after == 0


def test_an_answer_that_writes_nothing_does_not_rest_on_a_stale_memory(till: Till, database: str, clock: Clock) -> None:
    """What another process did to a hold is known here, whatever this one remembers of it."""
    till.grant_tokens("alice", 1_000)
    with Till(database, clock=clock) as other:
        voided, captured = (till.hold("alice", 100, "chat_conversation").hold_id for _ in range(2))
        other.renew("alice", voided, ttl=timedelta(hours=2))
        other.void("alice", voided)
        other.capture("alice", captured, 10)

        assert till.void("alice", voided).state == "voided"
        for ask in (till.renew, till.capture):
            with pytest.raises(HoldClosed):
                ask("alice", voided)
        with pytest.raises(HoldClosed):
            till.void("alice", captured)
        assert till.capture("alice", captured).tokens == -10
        placed_there = other.hold("alice", 990, "chat_conversation").hold_id
        assert till.renew("alice", placed_there, ttl=timedelta(hours=1)).state == "placed"
        with pytest.raises(HoldNotFound):
            till.void("alice", "00000000-0000-7000-8000-000000000000")
        with pytest.raises(InsufficientTokens):
            till.spend("alice", 1, "chat_conversation")


def test_a_batch_may_place_capture_and_void_at_once(till: Till) -> None:
    """Commands that arrive together are decided one after the other, also about a hold that is not written yet."""
    till.grant_tokens("alice", 1_000)
    blockers = [till.submit(till.asking.spend("alice", 1, "chat_conversation")) for _ in range(20)]
    captured, voided = (till.asking.hold("alice", 100, "chat_conversation") for _ in range(2))
    placed = [till.submit(command) for command in (captured, voided, captured)]
    capture = till.submit(till.asking.capture("alice", captured.hold_id, 40))
    void = till.submit(till.asking.void("alice", voided.hold_id))
    closed = till.submit(till.asking.capture("alice", voided.hold_id, 40))

    assert [answer.result().is_replay for answer in placed] == [False, False, True]
    receipt = capture.result()
    assert receipt is not None and receipt.balance_after == 940
    assert void.result().state == "voided"
    assert isinstance(closed.exception(), HoldClosed)
    assert all(answer.result() for answer in blockers)
    assert [hold.state for hold in till.holds("alice", include_closed=True)] == ["captured", "voided"]


def test_a_hold_that_expires_within_a_batch_is_still_known_in_it() -> None:
    """Open when the account was loaded, over by the first decision: the later ones are about it all the same."""
    place, spent = make.place(60), make.spend(1)
    book = make.Book.of(make.grant(100), place)
    later = make.NOW + timedelta(minutes=10)
    asked: list[Command] = [
        spent,
        make.void(place.hold_id),
        place,
        make.capture(place.hold_id, 30),
        make.capture(place.hold_id, 5),
    ]
    requests = [Request(command, later, ()) for command in asked]

    draft = Draft({make.ALICE.user_id.int: book.account}, {}, {}, later)
    draft.decide(requests)

    assert [fate.request.command for fate in draft.written] == [spent, asked[3]]
    assert [fate.receipt.state for fate in draft.fates if isinstance(fate, Idle) and fate.receipt] == ["expired"] * 2
    rejected = [type(fate.error) for fate in draft.fates if isinstance(fate, Rejected)]
    assert rejected == [HoldClosed], "a key of its own would make it a repeat"


@dataclass
class HoldingClient(Client):
    """Asks for a hold and captures part of it, each with a key of its own."""

    def ask(self, http: httpx2.Client, url: str, key: str, user: str) -> bool:
        placed = self.post(
            http, f"{url}/v1/holds", f"{key} place", user_id=user, action_type="chat_conversation", tokens=5
        )
        if placed is None:
            return False
        self.write_down(key=key, placed=placed["id"])
        captured = self.post(http, f"{url}/v1/holds/{placed['id']}/capture", key, tokens=2)
        if captured is None:
            return False
        self.write_down(key=key, captured=placed["id"], seq=captured["seq"])
        return True


@pytest.mark.timeout(300)
def test_kills_of_app_and_postmaster_lose_and_double_no_acknowledged_hold_and_capture(
    postgres: EmbeddedServer, tmp_path: Path
) -> None:
    grant_everybody(postgres.url)
    book = tmp_path / "acknowledged.jsonl"

    with book.open("a") as pages:
        client = HoldingClient(pages)
        retried = play(client, postgres, ("app", "postmaster", "both") * 2, random.Random(5))

    assert retried > 0, "no kill fell into a request: this test would prove nothing"
    said = [json.loads(line) for line in book.read_text().splitlines()]
    placed = {(line["key"], line["placed"]) for line in said if "placed" in line}
    captured = {(line["captured"], line["seq"]) for line in said if "captured" in line}
    assert len(placed) == len(captured) == len(client.asked), "asked again, each was answered as before"
    with psycopg.connect(postgres.url) as conn:
        rows = conn.execute("""
            SELECT 'hold_' || replace(h.user_id::text || h.hold_id::text, '-', ''), u.seq
              FROM token_holds h
              FULL JOIN token_usage u
                ON u.user_id = h.user_id AND u.hold_id = h.hold_id AND u.seq = h.captured_seq AND u.tokens_used = 2
        """).fetchall()
    assert Counter(rows) == Counter(captured), "each of them once, and nothing else"
    assert {hold for _, hold in placed} == {hold for hold, _ in captured}
    with Till(postgres.url) as till:
        assert till.reconcile().findings == ()
        assert sum(till.balance(user).lifetime_tokens_used for user in USERS) == 2 * len(client.asked)
        assert [till.balance(user).held for user in USERS] == [0] * len(USERS)
