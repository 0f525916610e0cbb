"""A PostgreSQL that somebody else manages: no superuser, no CREATEROLE, other projects on the same server."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import url_of
from tokentill import Till
from tokentill.errors import BadSetting, DatabaseUnavailable
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
        receipt = till.spend("alice", 40, "chat_conversation")
        assert receipt.balance_before - receipt.balance_after == 40
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


SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("1[5-9]/bin"))


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[int, Path]]:
    """A server of Debian's on loopback that takes nobody in the clear; its port, and its certificate."""
    openssl = shutil.which("openssl")
    if not SYSTEM_BINARIES or openssl is None:
        pytest.skip("no PostgreSQL of the system's, or no openssl: the embedded one has no TLS")
    folder = Path(tempfile.mkdtemp(prefix="till-tls-", dir="/tmp"))
    folder.chmod(0o777)
    data, certificate, key = folder / "data", folder / "server.crt", folder / "server.key"
    identity: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd="/", env={"PATH": os.defpath}, **identity)

    run(openssl, "req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", certificate, "-keyout", key)  # fmt: skip
    run("chmod", "600", key)
    run(SYSTEM_BINARIES[-1] / "initdb", "--pgdata", data, "--username", "postgres", "--encoding=UTF8", "--locale=C",
        "--auth=trust")  # fmt: skip
    run("sh", "-c", f"echo 'hostssl all all 127.0.0.1/32 trust' > {data}/pg_hba.conf")
    server = subprocess.Popen(
        [SYSTEM_BINARIES[-1] / "postgres", "-D", data, "-c", f"port={port}", "-c", f"unix_socket_directories={folder}",
         "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", f"ssl_cert_file={certificate}",
         "-c", f"ssl_key_file={key}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.defpath}, **identity,
    )  # fmt: skip
    try:
        while True:
            assert server.poll() is None, "the server ended"
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=require").close()
                break
        yield port, certificate
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_urls_tls_options_are_libpqs(guarded: tuple[int, Path]) -> None:
    port, certificate = guarded
    url = f"postgresql://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={certificate}"

    assert len(migrate(url)) > 10
    sells(url)
    with connect(url) as conn:
        assert conn.pgconn.ssl_in_use
    with pytest.raises(DatabaseUnavailable, match="pg_hba"):
        migrate(f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
    with pytest.raises(DatabaseUnavailable, match="certificate"):
        migrate(f"postgresql://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert=/nowhere.pem")


def test_several_hosts_and_what_the_session_must_be_pass_through(guarded: tuple[int, Path]) -> None:
    port, certificate = guarded
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()[1]
        url = (
            f"postgresql://postgres@127.0.0.1:{nobody},127.0.0.1:{port}/postgres?sslmode=verify-ca"
            f"&sslrootcert={certificate}&target_session_attrs=read-write"
        )
        migrate(url)
        sells(url)
