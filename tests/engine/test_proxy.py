"""The proxy cuts where it says, however the client speaks: what the tests of cuts rest on.

A sequence counts the writes that the server has run, since it is not rolled back; a table says what was committed.
"""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.engine.proxy import Point, Proxy
from tokentill.store.db import Conn

WRITES_RUN = {
    Point.BEFORE_SENDING: 0,
    Point.AFTER_SENDING: 1,
    Point.BEFORE_COMMIT: 2,
    Point.AFTER_COMMIT: 2,
    Point.DURING_THE_ANSWER: 2,
}
IS_COMMITTED = {Point.AFTER_COMMIT, Point.DURING_THE_ANSWER}


@pytest.fixture
def books(empty_database: str) -> str:
    with psycopg.connect(empty_database) as conn:
        conn.execute("CREATE SEQUENCE run")
        conn.execute("CREATE TABLE written (n bigint)")
    return empty_database


@pytest.fixture
def proxy(books: str) -> Iterator[Proxy]:
    with Proxy(books, every=1) as proxy:
        yield proxy


def one_by_one(conn: Conn) -> None:
    conn.execute("INSERT INTO written VALUES (nextval('run'))")
    conn.execute("UPDATE written SET n = nextval('run')")
    conn.commit()


def prepared(conn: Conn) -> None:
    with conn.cursor() as cursor:
        cursor.execute("BEGIN", prepare=True)
        cursor.execute("INSERT INTO written SELECT nextval('run') WHERE %s", [True], prepare=True)
        cursor.execute("UPDATE written SET n = nextval('run') WHERE %s", [True], prepare=True)
        cursor.execute("COMMIT", prepare=True)


def in_a_pipeline(conn: Conn) -> None:
    with conn.pipeline():
        conn.execute("INSERT INTO written VALUES (nextval('run'))")
        conn.execute("UPDATE written SET n = nextval('run') WHERE %s", [True])
        conn.commit()


def by_copy(conn: Conn) -> None:
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO written VALUES (nextval('run'))")
        with cursor.copy("COPY written FROM STDIN") as copy:
            copy.write_row([7])
        conn.execute("SELECT nextval('run')")  # A COPY cannot count itself.
        conn.commit()


def in_one_statement(conn: Conn) -> None:
    """A transaction without a COMMIT: the statement is one by itself."""
    sql = "WITH two AS (INSERT INTO written SELECT nextval('run') + nextval('run') WHERE %s) SELECT 1"
    conn.execute(sql, [True])


WAYS = [one_by_one, prepared, in_a_pipeline, by_copy, in_one_statement]


def _transact_and_go_on(conn: Conn, transact: Callable[[Conn], None]) -> None:
    transact(conn)
    conn.execute("SELECT 1")  # Half an answer may look like a whole one; the connection is gone all the same.


@pytest.mark.parametrize("transact", WAYS)
@pytest.mark.parametrize("point", Point)
def test_it_cuts_where_it_says(books: str, proxy: Proxy, point: Point, transact: Callable[[Conn], None]) -> None:
    conn = psycopg.connect(proxy.url, autocommit=transact in (prepared, in_one_statement))
    backend = conn.info.backend_pid
    proxy.point = point

    with conn, pytest.raises(psycopg.OperationalError):
        _transact_and_go_on(conn, transact)

    assert proxy.cuts == {point: 1}
    with psycopg.connect(books, autocommit=True) as witness:
        while witness.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend]).fetchone() is not None:
            pass  # What it was sent, it may still be doing.
        rows = witness.execute("SELECT n FROM written").fetchall()
        run = witness.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM run").fetchone()
    assert bool(rows) is (point in IS_COMMITTED)
    is_all_or_nothing = transact is in_one_statement and point is Point.AFTER_SENDING
    assert run == (0 if is_all_or_nothing else WRITES_RUN[point],)


@pytest.mark.parametrize("transact", WAYS)
def test_it_is_not_noticed_while_it_does_not_cut(books: str, proxy: Proxy, transact: Callable[[Conn], None]) -> None:
    with psycopg.connect(proxy.url, autocommit=transact in (prepared, in_one_statement)) as conn:
        transact(conn)
        assert conn.execute("SELECT count(*) > 0 FROM written").fetchone() == (True,)
    assert not proxy.cuts


def test_a_commit_that_fails_is_not_cut(books: str, proxy: Proxy) -> None:
    with psycopg.connect(books) as conn:
        conn.execute("ALTER TABLE written ADD CONSTRAINT late UNIQUE (n) DEFERRABLE INITIALLY DEFERRED")
    proxy.point = Point.AFTER_COMMIT

    with psycopg.connect(proxy.url) as conn:
        conn.execute("INSERT INTO written VALUES (1), (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.commit()
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert not proxy.cuts.total()
