"""What many tests share: one PostgreSQL for the run, a fresh migrated database for each test, a clock that stands.

The database is never faked. `TILL_TEST_DATABASE_URL` runs the tests against a server of your own (a superuser's URL);
without it the embedded PostgreSQL is started in a folder of its own. `TILL_TEST_POOLER_URL` is a pooler before that
server, which the tills then go through.
"""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tokentill import Till
from tokentill.store import embedded
from tokentill.store.db import POOLER, pooler_of
from tokentill.store.migrate import migrate

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def pytest_configure() -> None:
    """Where the tests run in the background of a script, interrupts are ignored, and by all that they start as well."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Clock:
    """A clock that only a test moves."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **amount: float) -> datetime:
        self.now += timedelta(**amount)
        return self.now


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A superuser's URL to the server that this run of the tests uses."""
    if given := os.environ.get("TILL_TEST_DATABASE_URL"):
        yield given
        return
    # Not pytest's own folder: as root, the server runs as a user that may not look into it.
    home = Path(tempfile.mkdtemp(prefix="till-tests-", dir="/tmp"))
    home.chmod(0o755)
    server = embedded.start(home)
    yield server.url
    server.close(wait=True)
    shutil.rmtree(home, ignore_errors=True)


def url_of(server_url: str, database: str) -> str:
    bare, pooler = pooler_of(server_url)
    given = conninfo_to_dict(bare)
    host, user = given.get("host", ""), given.get("user", "postgres")
    rest = {key: value for key, value in given.items() if key not in ("host", "user", "dbname")}
    query = "&".join(f"{key}={value}" for key, value in {"host": host, **rest, POOLER: pooler}.items() if value)
    return f"postgresql://{user}@/{database}?{query}"


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that tests are cloned from."""
    name = f"till_template_{os.getpid()}"
    with psycopg.connect(make_conninfo(server_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
        migrate(url_of(server_url, name))
        yield name
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


_numbers = itertools.count(1)


@pytest.fixture
def empty_database(server_url: str) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    yield from _database(server_url, "")


@pytest.fixture
def database(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated database with nothing in its books."""
    yield from migrated(server_url, template)


def migrated(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated database, for tests that share one: call it from a fixture of a wider scope."""
    yield from _database(server_url, f"TEMPLATE {template}")


def _database(server_url: str, how: str) -> Iterator[str]:
    name = f"till_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(make_conninfo(server_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} {how}")
        yield url_of(os.environ.get("TILL_TEST_POOLER_URL", server_url), name)
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def till(database: str, clock: Clock) -> Iterator[Till]:
    """A till on a fresh database, whose clock stands at START; its books must be right when the test is over."""
    with Till(database, clock=clock) as till:
        yield till
        proof = till.reconcile()
        assert proof.findings == ()


# No deadline: a pause of a shared machine is no failure.
settings.register_profile("till", deadline=None)
settings.load_profile("till")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the scenarios' answers anew; the diff is the review")
