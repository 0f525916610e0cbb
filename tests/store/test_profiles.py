"""The host's own table of profiles shows what each account has, as of its last change."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import Till
from tokentill.core.users import User
from tokentill.errors import BadSetting
from tokentill.store.migrate import migrate
from tokentill.store.profiles import configure

ANN = UUID("00000000-0000-7000-8000-00000000000a")


def host(url: str, ddl: str, *rows: object) -> None:
    """Make the table that the app had before there was a till, with a row for each of these ids."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE user_profiles ({ddl})".encode())
        key = ddl.split(maxsplit=1)[0]
        for row in rows:
            conn.execute(f"INSERT INTO user_profiles ({key}) VALUES (%s)".encode(), [row])


def shown(url: str, columns: str = "vibe_assistant_tokens_remaining") -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(f"SELECT {columns} FROM user_profiles ORDER BY 1".encode()).fetchall()


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(statement.encode())


def test_a_table_that_is_there_is_found_by_its_column_and_kept_in_step(empty_database: str, clock: Clock) -> None:
    host(empty_database, """user_id uuid PRIMARY KEY, email text, vibe_assistant_tokens_remaining int DEFAULT 0,
                            vibe_assistant_tokens_used bigint, vibe_assistant_total_cost numeric""", ANN)  # fmt: skip
    migrate(empty_database)
    found = configure(empty_database, None)
    assert found is not None and found.name == "public.user_profiles.vibe_assistant_tokens_remaining"
    columns = "vibe_assistant_tokens_remaining, vibe_assistant_tokens_used, vibe_assistant_total_cost"

    with Till(empty_database, clock=clock) as till:
        till.grant_tokens(str(ANN), 1_000)
        assert shown(empty_database, columns) == [(1_000, 0, 0)]
        till.spend(str(ANN), 250, "chat_conversation", cost_estimate="1.5")
        assert shown(empty_database, columns) == [(750, 250, Decimal("1.5"))]
        held = till.hold(str(ANN), 100, "chat_conversation")
        till.capture(str(ANN), held.id, 40)
        till.record_admin_deduction(str(ANN), 800, reason="chargeback", force=True)
        assert shown(empty_database) == [(-90,)]
        till.grant_tokens("nobody the host knows", 5)
        assert till.reconcile().findings == ()
        execute(empty_database, "UPDATE user_profiles SET vibe_assistant_tokens_remaining = 7")
        (finding,) = till.reconcile().findings
        assert (finding.check, finding.expected, finding.found) == ("profile", "-90", "7")


def test_ids_may_be_texts_as_the_app_knows_them(empty_database: str) -> None:
    host(empty_database, "id text PRIMARY KEY, tokens bigint", "auth0|42", str(ANN))
    migrate(empty_database)
    assert configure(empty_database, None) is None, "no column by that name: it is named"
    configure(empty_database, "user_profiles.tokens")

    with Till(empty_database) as till:
        till.grant_tokens("auth0|42", 30)
        till.grant_tokens(str(ANN), 20)

    assert shown(empty_database, "id, tokens") == [(str(ANN), 20), ("auth0|42", 30)]
    with psycopg.connect(empty_database) as conn:
        sql = "SELECT token_amount FROM token_transactions WHERE user_id = till_user_id('auth0|42')"
        assert conn.execute(sql).fetchall() == [(30,)]


def test_what_the_accounts_had_before_is_shown_at_once(till: Till) -> None:
    till.grant_tokens(str(ANN), 1_000)
    execute(till.url, "DROP VIEW user_profiles")
    host(till.url, "user_id uuid, vibe_assistant_tokens_remaining bigint", ANN)

    configure(till.url, None)

    assert shown(till.url) == [(1_000,)]
    assert configure(till.url, None) is not None, "asked again, it stays"
    assert configure(till.url, "none") is None
    till.grant_tokens(str(ANN), 1)
    with Till(till.url) as anew:
        anew.grant_tokens(str(ANN), 1)
    assert shown(till.url) == [(1_000,)], "ended: nobody writes it any more"


@pytest.mark.parametrize(
    "refusing",
    [
        "ALTER TABLE user_profiles ADD CHECK (vibe_assistant_tokens_remaining < 500)",
        "ALTER TABLE user_profiles DROP COLUMN vibe_assistant_tokens_remaining",
        "DROP TABLE user_profiles",
        "REVOKE ALL ON user_profiles FROM till_service",
        "ALTER TABLE user_profiles ALTER COLUMN vibe_assistant_tokens_remaining TYPE smallint",
        """CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
           CREATE TRIGGER no BEFORE UPDATE ON user_profiles FOR EACH ROW EXECUTE FUNCTION no()""",
    ],
)
def test_what_the_hosts_table_refuses_stops_nobody_and_is_a_finding(empty_database: str, refusing: str) -> None:
    host(empty_database, "user_id uuid PRIMARY KEY, vibe_assistant_tokens_remaining bigint", ANN)
    migrate(empty_database)
    configure(empty_database, None)
    with Till(empty_database) as till:
        execute(empty_database, refusing)

        receipt = till.grant_tokens(str(ANN), 100_000)

        assert receipt.balance_after == 100_000
        (finding,) = till.findings()
        assert finding.kind == "profile_behind"
        assert finding.subject == "public.user_profiles.vibe_assistant_tokens_remaining"
        assert [each.check for each in till.reconcile().findings] == ["profile"]


def test_one_refused_row_keeps_no_other_back(empty_database: str) -> None:
    others = [User.of(f"member {number}") for number in range(5)]
    host(empty_database, "user_id uuid PRIMARY KEY, vibe_assistant_tokens_remaining bigint",
         ANN, *(each.user_id for each in others))  # fmt: skip
    migrate(empty_database)
    configure(empty_database, None)
    execute(empty_database, f"ALTER TABLE user_profiles ADD CHECK (user_id <> '{ANN}')  NOT VALID")
    with Till(empty_database) as till:
        commands = [till.asking.grant(user, 10) for user in [User.of(str(ANN)), *others]]
        assert all(answer.result() for answer in till.submit_many(commands))

    assert sorted(shown(empty_database), key=str) == [(10,)] * 5 + [(None,)]


def test_row_security_hides_no_row_from_the_till(empty_database: str) -> None:
    host(empty_database, "user_id uuid PRIMARY KEY, vibe_assistant_tokens_remaining bigint", ANN)
    execute(empty_database, "ALTER TABLE user_profiles ENABLE ROW LEVEL SECURITY")
    migrate(empty_database)
    configure(empty_database, None)
    with Till(empty_database) as till:
        till.grant_tokens(str(ANN), 9)

    assert shown(empty_database) == [(9,)]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("user_profiles.nothing", "no such column"),
        ("profiles.tokens", "no such table"),
        ("user_profiles.email", "of type text"),
        ("tokens", "TABLE.COLUMN"),
        ("a.b.c.d", "TABLE.COLUMN"),
        ("orphans.tokens", "whose balance is it"),
    ],
)
def test_what_cannot_be_kept_in_step_is_refused_with_a_sentence(empty_database: str, named: str, said: str) -> None:
    host(empty_database, "user_id uuid, email text, tokens bigint")
    execute(empty_database, "CREATE TABLE orphans (name text, tokens bigint)")
    migrate(empty_database)

    with pytest.raises(BadSetting, match=said):
        configure(empty_database, named)

    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM host_profiles").fetchone() == (0,)
