"""Whatever is killed with -9 in the middle of load: what was acknowledged has happened, once.

The client is an outside program to both the server and the database (`killing`). The database is one of these tests'
own, since it is killed, too.
"""

import contextlib
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.engine.killing import USERS, Client, grant_everybody, play, wait_for
from tests.engine.processes import Server
from tokentill import Till, TillError
from tokentill.store.embedded import EmbeddedServer

ROUNDS = ("app", "postmaster") * 9 + ("both", "both")


def lost_and_doubled(url: str, book: Path) -> tuple[Counter[tuple[str, int]], Counter[tuple[str, int]]]:
    """Compare the book with the journal: (acknowledged and not there, there and not acknowledged once)."""
    acknowledgements = [json.loads(line) for line in book.read_text().splitlines()]
    written = Counter((ack["user"], ack["seq"]) for ack in acknowledgements)
    with psycopg.connect(url) as conn:
        rows = Counter(conn.execute("SELECT external_id, u.seq FROM token_usage u JOIN token_accounts USING (user_id)"))
    return written - rows, rows - written


@pytest.mark.timeout(300)
def test_20_kills_of_app_and_postmaster_lose_and_double_no_acknowledged_spend(
    postgres: EmbeddedServer, tmp_path: Path
) -> None:
    grant_everybody(postgres.url)
    chance = random.Random(20)
    book = tmp_path / "acknowledged.jsonl"

    with book.open("a") as pages:
        client = Client(pages)
        retried = play(client, postgres, ROUNDS, chance)

    assert retried > 0, "no kill fell into a request: this test would prove nothing"
    acknowledgements = [json.loads(line) for line in book.read_text().splitlines()]
    assert {(ack["key"], ack["user"]) for ack in acknowledgements} == client.asked
    assert lost_and_doubled(postgres.url, book) == (Counter(), Counter()), "each of them once, and nothing else"
    with Till(postgres.url) as till:
        assert till.reconcile().findings == ()
        assert sum(till.balance(user).lifetime_tokens_used for user in USERS) == len(client.asked)


@pytest.mark.parametrize("is_safe", [True, False])
def test_what_was_acknowledged_survives_the_end_of_all_server_processes_if_and_only_if_commits_are_synchronous(
    postgres: EmbeddedServer, tmp_path: Path, is_safe: bool
) -> None:
    """The control of all kills: on a server that acknowledges before it has written, the same check sees the loss."""
    grant_everybody(postgres.url)
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        # The longest that PostgreSQL lets a commit wait, so that it has always waited in vain.
        conn.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        conn.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        conn.execute("SELECT pg_reload_conf()")
        conn.execute("CHECKPOINT")
        if not is_safe:
            conn.execute("ALTER DATABASE tokentill SET synchronous_commit = off")
    if not is_safe:
        with pytest.raises(TillError, match="TILL_ALLOW_UNSAFE_POSTGRES"):
            Till(postgres.url)
    book = tmp_path / "acknowledged.jsonl"

    with book.open("a") as pages, Server(postgres.url, TILL_ALLOW_UNSAFE_POSTGRES="1") as server:
        client = Client(pages)

        def kill() -> None:
            _kill_everything(postgres.pid)
            server.kill()

        client.load(server.url, 200, kill)

    wait_for(postgres.url)
    lost, _ = lost_and_doubled(postgres.url, book)
    assert (lost.total() > 0) is not is_safe
    with Till(postgres.url, allow_unsafe=True) as till:
        assert till.reconcile().findings == (), "what is left of the books is right"


def _kill_everything(postmaster: int) -> None:
    """Kill the postmaster and each of its children, none of which gets to do anything more."""
    os.kill(postmaster, signal.SIGSTOP)  # It can neither start more nor tell the others.
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == postmaster:
                os.kill(int(stat.parent.name), signal.SIGKILL)
    os.kill(postmaster, signal.SIGKILL)
