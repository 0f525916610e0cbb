"""procrastinate's tables are those that the installed version wants, and no others of that name are touched."""

import asyncio
import re
from pathlib import Path

import psycopg
import pytest
from procrastinate.schema import SchemaManager

from tests.conftest import Clock
from tokentill import Till
from tokentill.errors import BadSetting
from tokentill.services.jobs.working import JOBS
from tokentill.store import embedded_files, schema
from tokentill.store.jobs import SCHEMA
from tokentill.worker import queue


def dumped(url: str, name: str) -> list[str]:
    """The statements that make a schema, without its name, and without who may use it."""
    whole = schema.dump(url, pg_dump=Path(embedded_files.binaries() / "pg_dump"))
    statements = re.split(r"(?<=;)\n\n", whole)
    return sorted(
        statement.replace(f"{name}.", "").strip()
        for statement in statements
        if f"{name}." in statement and not statement.startswith("GRANT")
    )


def test_our_migrations_leave_the_schema_that_the_installed_version_wants(database: str, empty_database: str) -> None:
    """If this fails after an upgrade: put the text of procrastinate's new migrations into one of ours."""
    with psycopg.connect(empty_database) as conn:
        conn.execute(f"CREATE SCHEMA theirs; SET search_path = theirs; {SchemaManager.get_schema()}".encode())

    assert dumped(database, SCHEMA) == dumped(empty_database, "theirs")
    assert len(dumped(database, SCHEMA)) > 30


def test_the_installed_version_brings_no_migration_that_ours_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    queue.require_known_schema()

    monkeypatch.setattr(queue, "SCHEMA_KNOWN", "03.03.00_01_pre_priority_lock_fetch_job.sql")
    with pytest.raises(BadSetting, match=r"03\.04\.00_50"):
        queue.require_known_schema()


def test_the_hosts_own_procrastinate_is_left_alone(till: Till, clock: Clock) -> None:
    with psycopg.connect(till.url) as conn:
        conn.execute("SET search_path = public")
        conn.execute(SchemaManager.get_schema())

    async def put() -> None:
        async with queue.make(till.context, till.url).open_async() as app:
            await queue.put_all(app)
            await queue.put_all(app)

    asyncio.run(put())

    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT count(*) FROM public.procrastinate_jobs").fetchone() == (0,)
        waiting = conn.execute(f"SELECT task_name FROM {SCHEMA}.procrastinate_jobs WHERE status = 'todo'".encode())
        assert sorted(name for (name,) in waiting) == sorted(f"till.{job.name}" for job in JOBS), "each once"
