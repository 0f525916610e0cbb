"""A PostgreSQL that somebody else manages: no superuser, no CREATEROLE, other projects on the same server."""

import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import url_of
from tokentill import Till
from tokentill.errors import BadSetting
from tokentill.store import embedded
from tokentill.store.db import connect
from tokentill.store.migrate import migrate

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def managed() -> Iterator[str]:
    """A superuser's URL to a server of its own: roles are of the whole server, and these tests need them missing."""
    home = Path(tempfile.mkdtemp(prefix="till-managed-", dir="/tmp"))
    home.chmod(0o755)
    server = embedded.start(home)
    yield server.url
    server.close(wait=True)
    shutil.rmtree(home, ignore_errors=True)


def project(managed: str, *, attributes: str = "", owns: bool = True) -> str:
    """Make a login and a database of it; return its URL."""
    name = f"app {next(_numbers)}"
    with psycopg.connect(managed, autocommit=True) as conn:
        conn.execute(f'CREATE ROLE "{name}" LOGIN {attributes}'.encode())
        conn.execute((f'CREATE DATABASE "{name}"' + (f' OWNER "{name}"' if owns else "")).encode())
    return url_of(managed, name.replace(" ", "%20")).replace(
        "postgresql://postgres@", f"postgresql://{name.replace(' ', '%20')}@"
    )


def administered(managed: str, url: str, refusal: str) -> None:
    """Run what the refusal says as an administrator does: in that database, as it stands."""
    script = refusal.split("again:\n")[1]
    name = re.findall(r"/(app%20\d+)\?", url)[0]
    with psycopg.connect(url_of(managed, name), autocommit=True) as conn:
        conn.execute(script.encode())


def sells(url: str) -> None:
    """It works, and the service may not change a journal."""
    with Till(url) as till:
        till.grant_tokens("alice", 100)
        assert till.spend("alice", 40, "chat_conversation").balance_after == 60
        assert till.reconcile().findings == ()
    with connect(url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("UPDATE token_transactions SET token_amount = 0")


def test_whoever_may_make_roles_needs_nobody(managed: str) -> None:
    with psycopg.connect(managed, autocommit=True) as conn:
        roles = conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'till!_%' ESCAPE '!'").fetchall()
    if roles:
        pytest.skip("another test has made the roles already, and they are of the whole server")
    url = project(managed, attributes="CREATEROLE")

    assert len(migrate(url)) > 10
    sells(url)


@pytest.mark.parametrize("attributes", ["", "NOINHERIT"])
@pytest.mark.parametrize("owns", [True, False])
def test_what_it_prints_for_an_administrator_runs_as_it_stands_and_suffices(
    managed: str, attributes: str, owns: bool
) -> None:
    url = project(managed, attributes=attributes, owns=owns)
    with pytest.raises(BadSetting, match="Let an administrator run this in it") as refused:
        migrate(url)
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone() == (0,), "nothing was made"

    administered(managed, url, refused.value.detail)

    assert len(migrate(url)) > 10
    assert migrate(url) == []
    sells(url)


def test_a_second_project_asks_for_what_it_lacks_alone(managed: str) -> None:
    """The roles are there, and another project's: what is missing is that this login may act as them."""
    first = project(managed)
    with pytest.raises(BadSetting) as refused:
        migrate(first)
    administered(managed, first, refused.value.detail)
    migrate(first)
    second = project(managed)

    with pytest.raises(BadSetting) as refused:
        migrate(second)

    script = refused.value.detail.split("again:\n")[1]
    assert re.fullmatch(r'GRANT "till_owner" TO "app \d+";\nGRANT "till_service" TO "app \d+";.*', script, re.DOTALL)
    assert "CREATE ROLE" not in script
    administered(managed, second, refused.value.detail)
    migrate(second)
    sells(second)
    sells(first)
