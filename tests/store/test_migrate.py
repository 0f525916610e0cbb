"""Migrations: from nothing, twice, at once, onto somebody else's tables, and onto a newer or an edited schema."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import Till
from tokentill.errors import LegacyTables, SchemaChanged, SchemaMissing, SchemaNewer
from tokentill.store import embedded_files, schema
from tokentill.store.migrate import migrate, shipped


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        sql = "SELECT schemaname || '.' || relname FROM pg_stat_user_tables"
        return {name for (name,) in conn.execute(sql)}


def test_migrating_twice_changes_nothing_the_second_time(empty_database: str) -> None:
    assert len(migrate(empty_database)) == len(shipped())
    assert migrate(empty_database) == []


def test_two_migrations_at_once_do_the_work_once(empty_database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [empty_database] * 4))

    assert sorted(map(len, applied)) == [0, 0, 0, len(shipped())]


@pytest.mark.parametrize("table", ["token_usage", "token_transactions", "token_drips", "token_accounts"])
def test_tables_of_another_system_are_left_alone_and_the_way_in_is_named(empty_database: str, table: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute(f"CREATE TABLE {table} (id serial PRIMARY KEY, user_id uuid, tokens_used int)")
    before = tables(empty_database)

    with pytest.raises(LegacyTables, match="till import-legacy"):
        migrate(empty_database)

    assert tables(empty_database) == before


def test_a_hosts_own_user_profiles_is_left_alone(empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute("CREATE TABLE user_profiles (user_id uuid, email text)")
        conn.execute("INSERT INTO user_profiles (email) VALUES ('ann@example.com')")

    migrate(empty_database)

    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT email FROM user_profiles").fetchall() == [("ann@example.com",)]
    with Till(empty_database) as till:
        till.grant_tokens("alice", 5)
        assert till.reconcile().findings == ()


def test_an_unmigrated_database_says_what_to_run(empty_database: str) -> None:
    with pytest.raises(SchemaMissing, match="till migrate"):
        Till(empty_database)


def test_a_database_of_a_newer_version_is_refused_untouched(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("INSERT INTO till_migrations (number, name, checksum) VALUES (9999, '9999_from_tomorrow', 'x')")

    with pytest.raises(SchemaNewer, match="9999_from_tomorrow"):
        migrate(database)
    with pytest.raises(SchemaNewer):
        Till(database)


def test_an_applied_migration_that_was_edited_is_refused(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE till_migrations SET checksum = 'edited' WHERE number = 2")

    with pytest.raises(SchemaChanged, match="0002_journals"):
        migrate(database)


def test_a_migration_that_fails_leaves_nothing_behind(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokentill.store import migrate as module

    broken = module.Migration(2, "0002_broken", "CREATE TABLE half_made (n int); SELECT nonsense")
    monkeypatch.setattr(module, "shipped", lambda: [*shipped()[:1], broken])
    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate(empty_database)

    assert "public.half_made" not in tables(empty_database)
    monkeypatch.undo()
    assert len(migrate(empty_database)) == len(shipped()) - 1


def test_migration_files_are_numbered_without_gaps() -> None:
    assert [migration.number for migration in shipped()] == list(range(1, len(shipped()) + 1))


def test_schema_sql_is_what_the_migrations_leave(database: str) -> None:
    """`make schema` writes it anew."""
    with psycopg.connect(database) as conn:
        if conn.info.server_version // 10_000 != 18:
            pytest.skip(
                "schema.sql is in PostgreSQL 18's words, as the embedded server says them; others print views otherwise"
            )
    pg_dump = embedded_files.binaries() / "pg_dump"

    assert schema.dump(database, pg_dump=Path(pg_dump)) == schema.FILE.read_text()


def test_a_new_month_waits_for_no_reader_and_holds_up_no_writer(till: Till, clock: Clock) -> None:
    """At the turn of a month somebody may be reconciling: neither has to wait for the other."""
    till.grant_tokens("ann", 100)
    till.spend("ann", 1, "chat_conversation")
    with psycopg.connect(till.url) as reader:
        assert reader.execute("SELECT count(*) FROM token_usage").fetchone() == (1,)
        clock.advance(days=31)
        till.spend("ann", 1, "chat_conversation")

        assert reader.execute("SELECT count(*) FROM token_usage").fetchone() == (2,)
    with psycopg.connect(till.url) as conn:
        sql = "SELECT tableoid::regclass::text FROM token_usage ORDER BY seq"
        assert conn.execute(sql).fetchall() == [("token_usage_2026_01",), ("token_usage_2026_02",)]


def test_two_processes_make_one_months_partition_at_once(database: str) -> None:
    def make(_: int) -> None:
        with psycopg.connect(database) as conn:
            conn.execute("SELECT till_make_usage_partition('2031-07-15')")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))

    with psycopg.connect(database) as conn:
        sql = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'token_usage'::regclass"
        assert conn.execute(sql).fetchall() == [("token_usage_2031_07",)]
