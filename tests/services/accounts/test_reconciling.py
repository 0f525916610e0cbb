"""Reconciling finds every kind of damage: each is done by hand, past all guards, and must be named."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import Till
from tokentill.core.findings import CHECKS


@pytest.fixture
def damaged(database: str, clock: Clock) -> Iterator[Till]:
    """Books with something of everything; the test breaks them."""
    with Till(database, clock=clock) as till:
        till.grant_tokens("alice", 1_000)
        till.record_token_pack_purchase("alice", "power", session_id="cs_1")
        till.drip_tokens_28day("alice", "sub")
        till.spend("alice", 500_000, "chat_conversation")
        till.capture("alice", till.hold("alice", 60, "chat_conversation").hold_id, 50)
        till.hold("alice", 70, "chat_conversation")
        till.grant_tokens("bob", 10)
        till.record_admin_deduction("bob", 30, force=True, reason="chargeback")
        assert till.reconcile().findings == ()
        yield till


DAMAGE = {
    "usage rows are gone": ("DELETE FROM token_usage", {"end", "lot", "hold"}),
    "a hold's capture was forgotten": (
        "UPDATE token_holds SET state = 'placed', closed_at = NULL, captured_seq = NULL WHERE state = 'captured'",
        {"hold"},
    ),
    "a hold was captured by hand": (
        "UPDATE token_holds SET state = 'captured', closed_at = placed_at, captured_seq = 4 WHERE state = 'placed'",
        {"hold"},
    ),
    "a row captured a hold that was never placed": (
        "UPDATE token_usage SET hold_id = gen_random_uuid() WHERE hold_id IS NULL",
        {"hold"},
    ),
    "a hold was captured by two rows": (
        "UPDATE token_usage SET hold_id = (SELECT hold_id FROM token_holds WHERE state = 'captured')",
        {"hold"},
    ),
    "a row in the middle is gone": ("DELETE FROM token_drips", {"chain", "lot"}),
    "a row was added in the middle": (
        "UPDATE token_transactions SET seq = 40, lot = 40 WHERE transaction_type = 'purchase'",
        {"chain", "end"},
    ),
    "the balance was set by hand": (
        "UPDATE token_accounts SET balance = balance + 5 WHERE debt = 0",
        {"end", "sum", "shown"},
    ),
    "a lot was filled by hand": (
        "UPDATE token_lots SET remaining = remaining + 1 WHERE remaining < granted AND remaining > 0",
        {"lot", "sum", "shown"},
    ),
    "tokens went from one lot to another": (
        """UPDATE token_lots SET remaining = remaining + CASE kind WHEN 'purchase' THEN -7 ELSE 7 END
            WHERE lot IN (1, 2) AND user_id = till_user_id('alice') AND (kind = 'purchase' OR remaining = 0)""",
        {"lot"},
    ),
    "a lot is gone": ("DELETE FROM token_lots WHERE kind = 'purchase'", {"lot", "sum", "shown"}),
    "the debt was forgiven by hand": (
        "UPDATE token_accounts SET debt = 0, balance = 0 WHERE debt > 0",
        {"end", "debt"},
    ),
    "a row's moves were edited": (
        "UPDATE token_usage SET lot_moves = ARRAY[1, -400000]",
        {"row", "lot"},
    ),
    "a cycle was measured over a change of clocks": (
        "UPDATE token_drips SET billing_period_end = billing_period_end + interval '1 hour'",
        {"clock"},
    ),
    "usage of somebody without an account": (
        "UPDATE token_usage SET user_id = gen_random_uuid()",
        {"orphan", "end", "lot"},
    ),
}


@pytest.mark.parametrize("story", DAMAGE)
def test_damage_is_found_and_named(damaged: Till, story: str) -> None:
    statement, expected = DAMAGE[story]
    with psycopg.connect(damaged.url) as conn:
        assert conn.execute(statement.encode()).rowcount > 0, "the damage must be done to be found"

    findings = damaged.reconcile().findings

    assert expected <= {finding.check for finding in findings}
    assert all(finding.meaning and finding.expected != finding.found for finding in findings)


def test_every_check_is_shown_to_find_something() -> None:
    # A host's own table of profiles is another database's: tests/store/test_profiles.py.
    assert set().union({"profile"}, *(expected for _, expected in DAMAGE.values())) == set(CHECKS)


def test_progress_reaches_its_end(damaged: Till) -> None:
    steps: list[tuple[int, int]] = []

    proof = damaged.reconcile(on_progress=lambda done, total: steps.append((done, total)))

    assert steps[-1][0] == steps[-1][1]
    assert proof.counts == {"accounts": 2, "lots": 4, "transactions": 4, "drips": 1, "usage": 2, "holds": 2}
