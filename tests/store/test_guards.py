"""The database refuses nonsense, whoever writes; and the service may not touch what is written."""

import psycopg
import pytest

from tokentill import Till
from tokentill.store.db import connect

USER = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
def books(till: Till) -> str:
    till.grant_tokens(USER, 1_000)
    till.spend(USER, 100, "chat_conversation")
    till.drip_tokens_28day(USER, "sub")
    till.hold(USER, 10, "chat_conversation")
    return till.url


@pytest.mark.parametrize("table", ["token_transactions", "token_drips", "token_usage"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET seq = 99", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_service_may_not_change_or_remove_journal_rows(books: str, table: str, statement: str) -> None:
    with connect(books) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.format(table).encode())


@pytest.mark.parametrize("table", ["subscription_states", "subscription_periods"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET plan_key = 'x'", "DELETE FROM {}"])
def test_nor_what_was_told_of_subscriptions(books: str, table: str, statement: str) -> None:
    with connect(books) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.format(table).encode())


def test_two_paid_periods_never_begin_with_the_same_cycle(books: str) -> None:
    sql = """
        INSERT INTO subscription_periods
        SELECT %s, 'sub', %s::timestamptz, %s::timestamptz + interval '1 day', 'plan', 1, 1, 'in', 'pi', 0, 'usd',
               now(), now()
    """
    with psycopg.connect(books) as conn:
        conn.execute(sql, [USER, "2026-01-01", "2026-01-01"])
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            conn.execute(sql, [USER, "2026-02-01", "2026-02-01"])
    assert caught.value.diag.constraint_name == "subscription_periods_cycle_once"


def test_not_even_in_a_partition(books: str) -> None:
    with connect(books) as conn:
        partition = conn.execute("SELECT tableoid::regclass::text FROM token_usage").fetchone()
        assert partition is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"DELETE FROM {partition[0]}".encode())


def test_the_service_owns_nothing_and_creates_nothing(books: str) -> None:
    with connect(books) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("CREATE TABLE mine (n int)")


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE token_lots SET remaining = granted + 1", "token_lots_remaining_in_range"),
        ("UPDATE token_lots SET remaining = -1", "token_lots_remaining_in_range"),
        ("UPDATE token_accounts SET debt = 5", "token_accounts_debt_is_negative_balance"),
        ("UPDATE token_accounts SET balance = -5", "token_accounts_balance_covered"),
        ("UPDATE token_transactions SET balance_after = 7", "token_transactions_adds_up"),
        ("UPDATE token_transactions SET token_amount = -5, balance_after = -5", "token_transactions_sign"),
        ("UPDATE token_drips SET drip_amount = 1", "token_drips_adds_up"),
        ("UPDATE token_usage SET tokens_used = 1", "token_usage_adds_up"),
        ("UPDATE token_usage SET success = false", "token_usage_failure_is_free"),
        ("UPDATE token_transactions SET transaction_type = 'gift'", "token_transactions_type"),
        ("UPDATE token_transactions SET source = 'nowhere'", "token_transactions_source"),
        ("UPDATE token_holds SET tokens = 0", "token_holds_tokens_positive"),
        ("UPDATE token_holds SET state = 'expired'", "token_holds_"),
        ("UPDATE token_holds SET state = 'voided'", "token_holds_closed_when_ended"),
        ("UPDATE token_holds SET state = 'captured', closed_at = now()", "token_holds_captured_by_a_row"),
        ("UPDATE token_holds SET expires_at = placed_at", "token_holds_lifetime_positive"),
    ],
)
def test_the_tables_refuse_what_does_not_add_up(books: str, statement: str, constraint: str) -> None:
    with psycopg.connect(books) as conn, pytest.raises(psycopg.errors.CheckViolation) as caught:
        conn.execute(statement.encode())
    assert (caught.value.diag.constraint_name or "").startswith(constraint)


def test_no_index_mentions_what_ending_a_hold_changes(books: str) -> None:
    """Or each capture and each void would have to write to that index, too (it would not be HOT)."""
    with psycopg.connect(books) as conn:
        sql = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'token_holds'::regclass"
        indexes = [definition for (definition,) in conn.execute(sql)]
    assert len(indexes) == 2
    for column in ("state", "closed_at", "captured_seq"):
        assert not any(column in definition.partition(" USING ")[2] for definition in indexes)


def test_sql_says_of_a_hold_whose_time_is_over_that_it_has_expired(books: str) -> None:
    with psycopg.connect(books) as conn:
        sql = "SELECT state FROM token_holds_now"
        assert conn.execute(sql).fetchone() == ("expired",), "the till's clock stands in the past"
        conn.execute("UPDATE token_holds SET expires_at = now() + interval '1 hour'")
        assert conn.execute(sql).fetchone() == ("placed",)


def test_the_service_may_not_remove_a_hold(books: str) -> None:
    with connect(books) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("DELETE FROM token_holds")


def test_a_cycle_cannot_be_dripped_twice_even_by_hand(books: str) -> None:
    with psycopg.connect(books) as conn, pytest.raises(psycopg.errors.UniqueViolation) as caught:
        conn.execute("""
            INSERT INTO token_drips
            SELECT user_id, seq + 50, id, subscription_id, drip_date, drip_amount, cycle_number, rollover_from_previous,
                   rollover_cycles_count, expired_tokens, balance_before, balance_after, billing_period_start,
                   billing_period_end, lot + 50, lot_moves, debt_change, metadata, idempotency_key, effective_at,
                   created_at
              FROM token_drips""")
    assert caught.value.diag.constraint_name == "token_drips_once_per_cycle"


@pytest.mark.parametrize(
    "name", ["auth0|42", "ann@example.com", "ÄÖ 日本", "A9F0E61A-137D-42AA-9DB9-465C0DB59A29", "x" * 255]
)
def test_python_and_sql_name_the_same_account(till: Till, name: str) -> None:
    till.grant_tokens(name, 1)
    with connect(till.url) as conn:
        row = conn.execute("SELECT user_id = till_user_id(%s) FROM token_accounts", [name]).fetchone()
    assert row == (True,)


def test_an_unsafe_server_is_refused_unless_it_may_be(database: str) -> None:
    from tokentill.errors import UnsafePostgres

    unsafe = f"{database}&options=-c%20synchronous_commit%3Doff"
    with pytest.raises(UnsafePostgres, match="synchronous_commit"):
        Till(unsafe)
    with Till(unsafe, allow_unsafe=True) as till:
        assert till.grant_tokens("alice", 1).balance_after == 1
