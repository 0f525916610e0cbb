"""The till behind a real PgBouncer: exactly once, under its own role, in session and in transaction mode."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import url_of
from tests.engine.processes import REPOSITORY
from tests.pooler import Mode, PgBouncer
from tests.store.test_sessions import SO, lanes_and_readers
from tokentill import Till, TillError
from tokentill.errors import BadSetting
from tokentill.store import db
from tokentill.store.migrate import migrate
from tokentill.store.sessions import has_session

MODES: list[Mode] = ["session", "transaction"]

# Tests that run without a pooler as well: of the engine, of readers, of server-side cursors, of the worker's queue.
ALIKE = [
    "tests/engine/test_exactly_once.py",
    "tests/services/accounts",
    "tests/services/calls/test_price_book.py",
    "tests/worker/test_queue.py",
]


@pytest.fixture(scope="module", params=MODES)
def pooler(request: pytest.FixtureRequest, server_url: str) -> Iterator[PgBouncer]:
    with PgBouncer(server_url, request.param, ignore_startup_parameters="extra_float_digits") as pooler:
        yield pooler


@pytest.fixture
def pooled(pooler: PgBouncer, database: str) -> str:
    with psycopg.connect(database) as conn:
        return url_of(pooler.url, conn.info.dbname)


@pytest.mark.timeout(400)
def test_what_holds_without_a_pooler_holds_behind_one(server_url: str) -> None:
    with PgBouncer(server_url, "transaction") as pooler:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=120", *ALIKE],
            env={**os.environ, "TILL_TEST_DATABASE_URL": server_url, "TILL_TEST_POOLER_URL": pooler.url},
            cwd=REPOSITORY, check=False, capture_output=True, text=True,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6_000:]


def test_every_path_is_the_tills_own_role_behind_it(pooled: str) -> None:
    found = lanes_and_readers(pooled)

    assert {path: told[0] for path, told in found.items() if path != "migration"} == dict.fromkeys(
        ("reader", "lane", "pool", "queue"), "till_service"
    )
    assert all(told[2:] == SO for told in found.values())


def test_nothing_that_we_set_stays_behind_for_others(server_url: str, database: str) -> None:
    """A pooled connection is somebody else's the next moment."""
    with PgBouncer(server_url, "transaction", default_pool_size=2) as pooler:
        with psycopg.connect(database) as conn:
            name = conn.info.dbname
        url = url_of(pooler.url, name)
        with Till(url) as till:
            till.grant_tokens("alice", 100)
            till.spend("alice", 1, "chat_conversation")
            with psycopg.connect(url, autocommit=True) as other:
                for _ in range(20):
                    told = other.execute("SELECT current_user, current_setting('enable_seqscan')").fetchone()
                    assert told == ("postgres", "on")


def test_what_others_left_behind_is_nothing_to_us(server_url: str, database: str) -> None:
    """As pg_dump does: it sets what it likes on connections that others get next."""
    with psycopg.connect(database) as conn:
        name = conn.info.dbname
    with PgBouncer(server_url, "transaction", default_pool_size=3) as pooler:
        url = url_of(pooler.url, name)
        others = [psycopg.connect(url) for _ in range(3)]
        for other in others:  # All three in a transaction at once, so on three connections.
            other.execute("SET search_path = elsewhere; SET timezone = 'America/New_York'; SET datestyle = 'German'")
            other.execute("SET default_transaction_isolation = 'serializable'; SET client_encoding = 'LATIN1'")
        for other in others:
            other.commit()
        told = set()
        with Till(url) as till:
            till.grant_tokens("alice", 100, reason="grüße")
            till.spend("alice", 1, "chat_conversation")
            assert till.history("alice")[-1].detail["reason"] == "grüße"
            for _ in range(10):
                with till.context.connection() as conn:
                    told.add(conn.execute("SHOW transaction_isolation").fetchone())
            assert till.reconcile().findings == ()
        for other in others:
            other.close()

    assert told == {("read committed",)}


def test_sessions_are_believed_only_where_they_are_said_to_be_kept(server_url: str, database: str) -> None:
    with psycopg.connect(database) as conn:
        name = conn.info.dbname
    with PgBouncer(server_url, "session") as pooler:
        url = url_of(pooler.url, name)
        with db.connect(db.pooler_of(url)[0]) as conn:
            assert not has_session(conn)
        with db.connect(url) as conn:
            assert has_session(conn) and conn.execute("SELECT current_user").fetchone() == ("till_service",)
    with db.connect(database) as conn:
        assert has_session(conn)


def test_a_migration_behind_it_makes_the_same_schema_once(pooler: PgBouncer, empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        url = url_of(pooler.url, conn.info.dbname)

    assert len(migrate(url)) > 10
    assert migrate(url) == []
    with Till(url) as till:
        till.grant_tokens("alice", 5)
        assert till.reconcile().findings == ()


def test_kills_of_the_pooler_and_of_its_connections_lose_and_double_nothing(pooler: PgBouncer, pooled: str) -> None:
    """What was acknowledged is in the books once; what was asked again under its key was answered as it was."""
    acknowledged: dict[str, int] = {}
    is_over, heard = threading.Event(), threading.Semaphore(0)

    def spend_until_it_is_over(till: Till, user: str) -> None:
        number = 0
        while not is_over.is_set():
            key = f"{user} {number}"
            try:
                acknowledged[key] = till.spend(user, 1, "chat_conversation", idempotency_key=key).seq
                number += 1
                heard.release()
            except TillError:
                continue  # Not answered: asked again, under the same key.

    users = [f"member {n}" for n in range(6)]
    with Till(pooled) as till:
        for user in users:
            till.grant_tokens(user, 1_000_000)
        threads = [threading.Thread(target=spend_until_it_is_over, args=(till, user)) for user in users]
        for thread in threads:
            thread.start()
        for number in range(6):
            for _ in range(40):
                assert heard.acquire(timeout=60)
            if number % 2:
                with psycopg.connect(db.pooler_of(pooled)[0], autocommit=True) as conn:
                    conn.execute("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                                     WHERE datname = current_database() AND pid <> pg_backend_pid()""")
            else:
                pooler.kill()
                pooler.start()
        is_over.set()
        for thread in threads:
            thread.join()
        assert {key: till.spend(key[:8], 1, "chat_conversation", idempotency_key=key).seq for key in acknowledged} == (
            acknowledged
        )
        assert till.reconcile().findings == ()
        spent = sum(till.balance(user).lifetime_tokens_used for user in users)
        assert spent == len(acknowledged)


def test_a_parameter_that_a_pooler_refuses_is_named(pooled: str) -> None:
    with pytest.raises(BadSetting, match=r"refuses a parameter of TILL_DATABASE_URL \(.*options.*take it out"):
        db.connect(f"{pooled}&options=-c%20work_mem%3D1MB")


def test_a_pooler_that_drops_what_it_is_told_is_found_out(server_url: str, database: str) -> None:
    """`ignore_startup_parameters = options` is what the web advises; nothing of ours is in them any more."""
    with psycopg.connect(database) as conn:
        name = conn.info.dbname
    with PgBouncer(server_url, "transaction", ignore_startup_parameters="options") as pooler:
        url = url_of(pooler.url, name)
        with db.connect(f"{url}&options=-c%20role%3Dpostgres") as conn:
            assert conn.execute("SELECT current_user").fetchone() == ("till_service",)
        with Till(url) as till, till.context.connection() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("UPDATE token_transactions SET token_amount = 0")
