"""What the till relies on in a connection is so on every path, whatever anybody has set."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from tests.conftest import Clock, url_of
from tokentill import Till
from tokentill.errors import BadSetting
from tokentill.settings import Settings
from tokentill.store import db, jobs
from tokentill.store.migrate import migrate

RELIED_ON = (
    "SELECT current_user::text, array_to_string(current_schemas(false), ','), current_setting('TimeZone'), "
    "current_setting('DateStyle'), current_setting('client_encoding'), current_setting('standard_conforming_strings'), "
    "current_setting('default_transaction_isolation')"
)
SO = ("UTC", "ISO, YMD", "UTF8", "on", "read committed")

# What else may say how a session is: each makes everything otherwise.
OTHERWISE = {
    "timezone": "'America/New_York'",
    "datestyle": "German",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "search_path": "elsewhere",
    "default_transaction_isolation": "serializable",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
}


def by_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "America/New_York")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere -c standard_conforming_strings=off -c role=pg_monitor")


def by_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for name, value in OTHERWISE.items():
            conn.execute(f"ALTER DATABASE {conn.info.dbname} SET {name} = {value}")


def by_role(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for name, value in {**OTHERWISE, "role": "pg_monitor"}.items():
            conn.execute(f"ALTER ROLE {conn.info.user} IN DATABASE {conn.info.dbname} SET {name} = {value}")


def in_new_york(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()


WAYS: list[Callable[[str, pytest.MonkeyPatch], None]] = [by_environment, by_database, by_role, in_new_york]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    time.tzset()


def lanes_and_readers(url: str) -> dict[str, tuple[Any, ...]]:
    """What holds on a connection of each path."""
    found: dict[str, Any] = {}
    for name, connect in {"reader": db.connect, "lane": db.connect_lane}.items():
        with connect(url) as conn:
            found[name] = conn.execute(RELIED_ON).fetchone()
    with db.connect(url, role=None) as conn:
        found["migration"] = conn.execute(RELIED_ON).fetchone()
    pool = db.pool(url)
    with pool.connection() as conn:
        found["pool"] = conn.execute(RELIED_ON).fetchone()
    pool.close()

    async def of_the_queue() -> Any:
        async with AsyncConnectionPool(**jobs.queue_arguments(url), open=False) as queue, queue.connection() as conn:
            return await (await conn.execute(RELIED_ON)).fetchone()

    found["queue"] = asyncio.run(of_the_queue())
    return found


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("otherwise", WAYS)
def test_every_connection_is_what_the_till_relies_on(
    database: str, otherwise: Callable[[str, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as conn:
        user = conn.info.user
    otherwise(database, monkeypatch)

    found = lanes_and_readers(database)

    assert found == {
        "reader": ("till_service", "public", *SO),
        "lane": ("till_service", "public", *SO),
        "migration": (user, "public", *SO),
        "pool": ("till_service", "public", *SO),
        "queue": ("till_service", "till_jobs", *SO),
    }


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("otherwise", WAYS)
def test_a_cycle_has_the_same_seconds_in_whatever_zone_anybody_is(
    database: str, otherwise: Callable[[str, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Eleven subscriptions through a year with two changes of clocks; the times are added up as seconds here."""
    otherwise(database, monkeypatch)
    starts = [datetime(2026, 1, 1, 6, 30, tzinfo=UTC) + timedelta(days=29 * n, hours=2 * n) for n in range(11)]
    with Till(database, clock=clock) as till:
        for number, start in enumerate(starts):
            clock.now = start
            till.drip_tokens_28day(f"member {number}", f"sub_{number}", driven_by="clock")
        clock.now = starts[-1] + timedelta(seconds=13 * 2_419_200)
        till.drip_due()
        assert till.reconcile().findings == ()

    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("SET ROLE NONE")
        sql = """SELECT subscription_id, cycle_number, extract(epoch FROM drip_date)::bigint,
                        extract(epoch FROM billing_period_end)::bigint
                   FROM public.token_drips WHERE cycle_number <= 14"""
        drips = {(sub, cycle): (begins, ends) for sub, cycle, begins, ends in conn.execute(sql)}
    assert drips == {
        (f"sub_{number}", cycle): tuple(int(start.timestamp()) + 2_419_200 * (cycle - 1 + end) for end in (0, 1))
        for number, start in enumerate(starts)
        for cycle in range(1, 15)
    }


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_another_encoding_is_refused_before_anything_is_made(server_url: str, encoding: str) -> None:
    name = f"till_{encoding.lower()}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode())
        try:
            with pytest.raises(BadSetting, match=f"encoding is {encoding}, and tokentill needs UTF8"):
                migrate(url_of(server_url, name))
            with psycopg.connect(url_of(server_url, name)) as made:
                assert made.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone() == (0,)
        finally:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_what_the_till_never_sends_is_no_parameter_of_the_till(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poolers refuse whoever sends `options`, so PGOPTIONS must not get through; those of the URL do."""
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1234kB")
    with db.connect(database) as conn:
        assert conn.execute("SHOW work_mem").fetchone() != ("1234kB",)
    with db.connect(f"{database}&options=-c%20work_mem%3D2345kB") as conn:
        assert conn.execute("SHOW work_mem").fetchone() == ("2345kB",)


def test_the_pooler_goes_wherever_the_url_goes(database: str) -> None:
    settings = Settings.read({"TILL_DATABASE_URL": database, "TILL_POOLER": "session", "HOME": "/nowhere"})

    assert settings.database_url is not None
    assert db.pooler_of(settings.database_url) == (database, "session")
    assert db.pooler_of(database) == (database, None)
    assert db.pooler_of("postgresql://u@h/d?till_pooler=transaction") == ("postgresql://u@h/d", "transaction")
    with db.connect(settings.database_url) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("till_service",)
    for url in (f"{database}&till_pooler=statement", f"{database}&till_pooler="):
        with pytest.raises(BadSetting, match="transaction or session"):
            db.connect(url)
    with pytest.raises(BadSetting, match="TILL_POOLER is transaction or session"):
        Settings.read({"TILL_POOLER": "statement", "HOME": "/nowhere"})
