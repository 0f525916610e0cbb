"""The jobs: what is due is done, once, whenever they run and however many run at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import START, Clock
from tokentill import Till
from tokentill.errors import Conflict, HoldClosed
from tokentill.services.jobs import working
from tokentill.services.jobs.working import JOBS, Job, JobRun, run
from tokentill.store import db, jobs
from tokentill.store.migrate import migrate

CYCLE = timedelta(days=28)


def work(till: Till) -> dict[str, JobRun]:
    """Run every job for the till's own moment."""
    return {job.name: run(till.context, job, at=till.clock()) for job in JOBS}


def read(till: Till, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(till.url) as conn:
        return conn.execute(sql.encode()).fetchall()


def job(name: str) -> Job:
    return next(job for job in JOBS if job.name == name)


# -- each job ----------------------------------------------------------------------------------------------------------


def test_what_is_due_is_done_and_then_nothing_is(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("ann", "sub_1", driven_by="clock")
    till.grant_tokens("bob", 100, expires_at=START + timedelta(days=10))
    clock.advance(days=57)

    first, second = work(till), work(till)

    assert first["drips"].counts == {"drips": 2, "tokens": 750_000, "failed": 0}
    assert first["sweep"].counts == {"accounts": 1}
    assert not any(any(ran.counts.values()) or ran.error for ran in second.values())
    assert till.balance("bob").balance == 0


def test_a_lot_that_is_over_is_written_off_at_its_own_time(till: Till, clock: Clock) -> None:
    ends = START + timedelta(days=10)
    till.grant_tokens("ann", 100, expires_at=ends)
    till.grant_tokens("ann", 7, expires_at=ends + timedelta(days=1))
    till.grant_tokens("ann", 5)

    clock.now = ends - timedelta(microseconds=1)
    assert work(till)["sweep"].counts == {"accounts": 0}
    clock.now = ends
    assert work(till)["sweep"].counts == {"accounts": 1}

    sql = "SELECT effective_at, token_amount FROM token_transactions WHERE transaction_type = 'expiration'"
    assert read(till, sql) == [(ends, -100)]
    assert till.balance("ann").balance == 12


def test_a_lot_that_was_spent_before_its_end_leaves_no_row(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 10, expires_at=START + timedelta(days=1))
    till.spend("ann", 10, "chat_conversation")
    clock.advance(days=2)

    assert work(till)["sweep"].counts == {"accounts": 0}


def test_a_sweep_reaches_everybody_however_many_at_once(
    till: Till, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several end at the same instant, and one account has several that end."""
    monkeypatch.setattr(working, "SWEEP_BATCH", 3)
    for n in range(20):
        for days in (1, 1, 2 + n % 3):
            till.grant_tokens(f"member {n}", 10, expires_at=START + timedelta(days=days))
    clock.advance(days=30)

    work(till)

    assert read(till, "SELECT count(*), sum(token_amount)::int FROM token_transactions WHERE token_amount < 0") == [
        (60, -600)
    ]


def test_a_subscription_that_cannot_be_served_is_counted_and_keeps_nobody_waiting(till: Till, clock: Clock) -> None:
    for user in ("ann", "bob", "cid"):
        till.drip_tokens_28day(user, f"sub_{user}", driven_by="clock")
    with psycopg.connect(till.url) as conn:
        conn.execute("UPDATE token_subscriptions SET plan_key = 'gone' WHERE subscription_id = 'sub_bob'")
    clock.advance(days=28)

    assert work(till)["drips"].counts == {"drips": 2, "tokens": 750_000, "failed": 1}


def test_keys_are_forgotten_when_they_are_older_than_the_till_keeps_them(database: str, clock: Clock) -> None:
    with Till(database, clock=clock, usage_key_hours=30) as till:
        till.grant_tokens("ann", 100, idempotency_key="grant")
        till.spend("ann", 1, "chat_conversation", idempotency_key="older")
        clock.advance(hours=1)
        till.spend("ann", 1, "chat_conversation", idempotency_key="younger")
        clock.advance(hours=29)
        assert work(till)["keys"].counts == {"keys": 0}, "they are kept for 30 hours and no less"
        clock.advance(minutes=1)
        assert work(till)["keys"].counts == {"keys": 1}

    with Till(database, clock=clock) as till:  # Which has no memory of its own.
        assert till.spend("ann", 1, "chat_conversation", idempotency_key="younger").is_replay
        assert till.grant_tokens("ann", 100, idempotency_key="grant").is_replay, "what is financial is kept for ever"
        assert not till.spend("ann", 1, "chat_conversation", idempotency_key="older").is_replay
        assert till.balance("ann").balance == 97


def test_many_keys_are_forgotten_in_small_transactions(
    till: Till, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "PRUNE_READ", 20)
    monkeypatch.setattr(working, "PRUNE_BATCH", 7)
    till.grant_tokens("ann", 1_000)
    for _ in range(90):
        till.spend("ann", 1, "chat_conversation")
    clock.advance(hours=73)

    assert work(till)["keys"].counts == {"keys": 90}
    assert read(till, "SELECT count(*) FROM usage_keys") == [(0,)]


@pytest.mark.parametrize("key", [None, "of the caller's own"])
def test_a_captured_hold_is_not_charged_again_when_its_keys_are_forgotten(
    database: str, clock: Clock, key: str | None
) -> None:
    with Till(database, clock=clock) as till:
        till.grant_tokens("ann", 100)
        hold = till.hold("ann", 50, "chat_conversation")
        till.capture("ann", hold.hold_id, 30, idempotency_key=key)
        clock.advance(days=4)
        assert work(till)["keys"].counts["keys"] > 0

    with Till(database, clock=clock) as till:
        with pytest.raises(HoldClosed):
            till.capture("ann", hold.hold_id, 30, idempotency_key=key)
        with pytest.raises(HoldClosed):
            till.capture("ann", hold.hold_id, 20)
        assert till.balance("ann").balance == 70
        assert till.reconcile().findings == ()


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_year_with_downtime_ends_in_the_books_of_a_year_without(database: str, empty_database: str) -> None:
    """Four subscriptions and a gift. One worker runs every day; the other misses weeks, and once half a year."""
    migrate(empty_database)
    spends = {35, 105, 140, 322, 357}  # Whoever spends meanwhile draws on what is there by then.

    calm = books_of_a_year(database, up=set(range(371)), spends=spends)
    late = books_of_a_year(empty_database, up={*spends, 370}, spends=spends)

    assert late == calm
    assert len(calm["drips"]) == 14 + 14 + 12 + 7 and len(calm["expirations"]) > 20


def books_of_a_year(url: str, *, up: set[int], spends: set[int]) -> dict[str, list[tuple[Any, ...]]]:
    """What is in the books after a year in which the worker ran on the days `up`."""
    clock = Clock()
    with Till(url, clock=clock) as till:
        for day in range(371):
            clock.now = START + timedelta(days=day)
            if day in (0, 3, 50, 200):
                till.drip_tokens_28day(f"member {day}", f"sub_{day}", driven_by="clock")
            if day == 7:
                till.grant_tokens("member 3", 10_000, expires_at=START + timedelta(days=100))
            if day in up:
                work(till)
            if day in spends:
                till.spend("member 0", 400_000, "chat_conversation", on_insufficient="record")
        assert till.reconcile().findings == ()
        return {
            "accounts": read(till, "SELECT user_id, balance, debt, seq FROM token_accounts ORDER BY user_id"),
            "lots": read(till, "SELECT user_id, kind, granted, remaining, expires_at FROM token_lots ORDER BY 1, 5, 3"),
            "drips": read(till, """
                SELECT user_id, cycle_number, drip_amount, rollover_from_previous, rollover_cycles_count,
                       expired_tokens, billing_period_start, effective_at
                  FROM token_drips ORDER BY user_id, cycle_number"""),
            "expirations": read(till, """
                SELECT user_id, effective_at, token_amount
                  FROM token_transactions WHERE transaction_type = 'expiration' ORDER BY 1, 2, 3"""),
        }  # fmt: skip


# -- together ----------------------------------------------------------------------------------------------------------


def test_eight_at_once_change_nothing_twice(database: str) -> None:
    clock = Clock()
    with Till(database, clock=clock) as till:
        for n in range(12):
            till.drip_tokens_28day(f"member {n}", f"sub_{n}", driven_by="clock")
            till.grant_tokens(f"member {n}", 5, expires_at=START + timedelta(days=3))
            till.spend(f"member {n}", 1, "chat_conversation")
    clock.advance(days=28 * 5)
    together = threading.Barrier(8)

    def worker(_: int) -> list[JobRun]:
        with Till(database, clock=clock) as till:
            together.wait()
            return [run(till.context, job, at=clock(), alone=False) for job in JOBS]

    with ThreadPoolExecutor(8) as pool:
        runs = [ran for each in pool.map(worker, range(8)) for ran in each]

    assert [ran.error for ran in runs if ran.error] == []
    assert sum(ran.counts["drips"] for ran in runs if ran.job == "drips") == 12 * 5, (
        "what was given twice is counted once"
    )
    assert sum(ran.counts["keys"] for ran in runs if ran.job == "keys") == 12
    with Till(database, clock=clock) as till:
        assert read(till, "SELECT count(*), count(DISTINCT (user_id, cycle_number)) FROM token_drips") == [(72, 72)]
        assert till.reconcile().findings == ()


@contextmanager
def claim(till: Till, name: str) -> Iterator[db.Conn]:
    """Another worker at this job."""
    with db.connect(till.url) as conn, jobs.claimed(conn, name) as is_ours:
        assert is_ours
        yield conn


def test_a_job_that_another_worker_is_at_is_left_to_it(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 5, expires_at=START + timedelta(days=1))
    clock.advance(days=2)

    with claim(till, "sweep"):
        runs = work(till)
        assert (runs["sweep"].is_elsewhere, runs["drips"].is_elsewhere) == (True, False)
        assert read(till, "SELECT count(*) FROM job_runs WHERE job = 'sweep'") == [(0,)]
    assert work(till)["sweep"].counts == {"accounts": 1}, "it is free as soon as the other one is done"


def test_who_dies_claims_nothing_any_more(till: Till) -> None:
    with claim(till, "sweep") as dying:
        with psycopg.connect(till.url, autocommit=True) as conn:
            conn.execute("SELECT pg_terminate_backend(%s, 30_000)", [dying.info.backend_pid])
        assert not run(till.context, job("sweep"), at=till.clock()).is_elsewhere
        dying.close()


# -- what is written down ----------------------------------------------------------------------------------------------


def test_each_jobs_last_run_is_written_down(till: Till, clock: Clock) -> None:
    work(till)
    clock.advance(minutes=1)
    work(till)

    with till.context.connection() as conn:
        runs = jobs.last_runs(conn)
    assert set(runs) == {job.name for job in JOBS}
    assert {(ran.started_at, ran.done_at, ran.error) for ran in runs.values()} == {(clock.now, clock.now, None)}


@pytest.mark.parametrize("error", [Conflict("It contradicts."), ZeroDivisionError("a bug")])
def test_a_job_that_fails_says_so_and_leaves_the_others_alone(till: Till, clock: Clock, error: Exception) -> None:
    begun = clock.now
    broken = Job(name="sweep", cron="* * * * *", late=timedelta(hours=1), work=_raising(error))
    assert run(till.context, job("sweep"), at=begun).error is None

    ran = run(till.context, broken, at=clock.advance(minutes=1))

    with till.context.connection() as conn:
        last = jobs.last_runs(conn)["sweep"]
    assert ran.error == last.error and str(error) in str(last.error)
    assert (last.started_at, last.done_at) == (clock.now, begun), "done as far as before"
    clock.advance(minutes=1)
    assert run(till.context, job("sweep"), at=clock.now).error is None


def _raising(error: Exception) -> Callable[..., dict[str, int]]:
    def work(*_: object) -> dict[str, int]:
        raise error

    return work


def test_a_late_word_of_an_earlier_run_changes_nothing(till: Till, clock: Clock) -> None:
    run(till.context, job("sweep"), at=clock.now + timedelta(hours=1))
    run(till.context, job("sweep"), at=clock.now)

    assert read(till, "SELECT started_at FROM job_runs") == [(clock.now + timedelta(hours=1),)]


# -- the schema --------------------------------------------------------------------------------------------------------


def test_no_index_mentions_what_a_spend_changes(database: str) -> None:
    """Or spends would not be HOT, and cost an entry in every index of the table."""
    sql = """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
         WHERE indrelid IN ('token_accounts'::regclass, 'token_lots'::regclass)
    """
    with psycopg.connect(database) as conn:
        definitions = conn.execute(sql).fetchall()

    assert "token_lots_expires_at_idx" in dict(definitions)
    for name, definition in definitions:
        for column in ("remaining", "balance", "version", "seq", "last_at", "debt", "lifetime"):
            assert column not in definition.partition(" USING ")[2], name
