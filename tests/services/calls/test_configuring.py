"""AI actions in the database: edits are followed, explained, refused where they clash, and move no tokens."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import Till
from tokentill.core.prices.actions import EXAMPLE_ACTIONS
from tokentill.core.values import replace
from tokentill.errors import ActionNotFound, Conflict, IdempotencyConflict, InvalidAmount, InvalidText, UnknownAction
from tokentill.store.journal import Receipt

CHAT = "chat_conversation"
BY_COST: dict[str, Any] = {"charge": "cost_plus", "markup": "1.5", "cents_per_million_tokens": 5_000}


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(sql.encode()).fetchall()


def books(url: str) -> list[list[tuple[Any, ...]]]:
    """Balances, lots, holds and journals, as they are."""
    tables = ("token_accounts", "token_lots", "token_holds", "token_transactions", "token_drips", "token_usage")
    return [rows(url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def test_actions_are_seeded_edited_explained_and_move_no_tokens(till: Till, clock: Clock) -> None:
    assert {action.key: action for action in till.actions()} == EXAMPLE_ACTIONS
    till.grant_tokens("ann", 10_000)
    till.drip_tokens_28day("ann", "sub")
    till.spend("ann", None, CHAT, input_tokens=60, output_tokens=40)
    held = till.hold("ann", 500, CHAT)
    before, seeded_at = books(till.url), clock()

    clock.advance(hours=1)
    made = till.set_action("essay", model="gpt-5", system_prompt="Be kind. ✓", temperature=0.7, created_by="ann")
    doubled = till.set_action(
        CHAT, multiplier=2, model_multipliers={"o3": "2.5"}, max_tokens=4_000, created_by="ann", revision=1
    )
    clock.advance(hours=1)
    by_cost = till.set_action(CHAT, **BY_COST, created_by="bob", revision=doubled.action.revision)
    again = till.set_action(CHAT, **BY_COST, created_by="eve")
    planned = till.set_action(CHAT, charge="fixed", fixed_tokens=5, created_by="eve", dry_run=True)

    assert books(till.url) == before, "an edit moves no tokens"
    assert [each.action.revision for each in (made, doubled, by_cost)] == [2, 3, 4]
    assert (again.changes, again.action) == ((), by_cost.action)
    assert [each.field for each in planned.changes] == ["charge", "fixed_tokens", "markup", "cents_per_million_tokens"]
    assert till.action(CHAT) == by_cost.action
    assert (till.action(CHAT).updated_by, till.action(CHAT).updated_at) == ("bob", clock())
    assert till.action("essay") == made.action

    # By which rule was a row of then charged?
    assert till.action(CHAT, at=seeded_at) == EXAMPLE_ACTIONS[CHAT]
    assert till.action(CHAT, at=clock() - timedelta(minutes=1)) == doubled.action
    assert till.action(CHAT, at=clock()) == by_cost.action
    assert till.action("transcription", at=seeded_at) == EXAMPLE_ACTIONS["transcription"]
    with pytest.raises(ActionNotFound, match="'essay' at 2026-01-05"):
        till.action("essay", at=seeded_at)
    audited = rows(till.url, "SELECT actor, detail ->> 'action' FROM audit_log WHERE act = 'edit action' ORDER BY id")
    assert audited == [("ann", "essay"), ("ann", CHAT), ("bob", CHAT)]

    # Switched off: no spend, no hold; what was held before can be captured, by its rule.
    till.set_action(CHAT, charge="metered", multiplier=2, is_active=False, created_by="ann")
    for refused in (lambda: till.spend("ann", 1, CHAT), lambda: till.hold("ann", 1, CHAT)):
        with pytest.raises(UnknownAction, match="'chat_conversation' is switched off"):
            refused()
    captured = till.capture("ann", held.hold_id, input_tokens=100, output_tokens=100, model_used="o3")
    assert captured.tokens == -500
    till.set_action(CHAT, is_active=True, created_by="ann")
    spent = till.spend("ann", None, CHAT, input_tokens=60, output_tokens=40, model_used="openai/o3")
    assert spent.tokens == -250
    assert till.tokens_for(CHAT, 100, 0) == 200
    assert till.tokens_for(CHAT, 100, 0, model="o3") == 250


def test_a_spend_that_is_repeated_after_its_rule_was_edited_is_answered_as_it_was(till: Till) -> None:
    till.grant_tokens("ann", 1_000)
    asked: dict[str, dict[str, Any]] = {
        "transcription": {"tokens": None}, CHAT: {"tokens": None, "input_tokens": 5}, "essay": {"tokens": 9},
    }  # fmt: skip
    till.set_action("essay", created_by="ann")

    def spend(action: str, key: str = "k") -> Receipt:
        return till.spend("ann", action_type=action, idempotency_key=f"{action} {key}", **asked[action])

    first = {action: spend(action) for action in asked}
    till.set_action("transcription", charge="metered", created_by="ann")  # Which the call says too little for.
    till.set_action(CHAT, multiplier=7, created_by="ann")
    till.set_action("essay", is_active=False, created_by="ann")

    assert {action: spend(action) for action in asked} == {
        action: replace(each, is_replay=True) for action, each in first.items()
    }
    for action, error in (("transcription", InvalidAmount), ("essay", UnknownAction)):
        with pytest.raises(error):
            spend(action, "another")
    asked["essay"]["tokens"] = 10
    with pytest.raises(IdempotencyConflict):
        spend("essay")


def test_whoever_edits_an_older_revision_is_told_and_edits_at_once_all_count(till: Till) -> None:
    till.set_action(CHAT, temperature=0.1, created_by="ann", revision=1)
    for key, revision, words in ((CHAT, 1, "it is at revision 2"), (CHAT, 0, "revision 2"), ("new", 1, "not exist")):
        with pytest.raises(Conflict, match=words):
            till.set_action(key, temperature=1, created_by="bob", revision=revision)

    with ThreadPoolExecutor(4) as pool:
        fields: list[dict[str, Any]] = [
            {"model": "gpt-5"}, {"max_tokens": 5}, {"multiplier": "1.25"}, {"provider": "openai"},
        ]  # fmt: skip
        done = list(pool.map(lambda each: till.set_action(CHAT, **each, created_by="ann"), fields))

    assert sorted(edit.action.revision for edit in done) == [3, 4, 5, 6]
    found = till.action(CHAT)
    assert (found.model, found.max_tokens, found.multiplier, found.provider, found.temperature) == (
        "gpt-5", 5, Decimal("1.25"), "openai", 0.1,
    )  # fmt: skip
    with pytest.raises(InvalidText):
        till.set_action("admin_grant", created_by="ann")
    for name in ("no_such", "\x00"):
        with pytest.raises(ActionNotFound):
            till.action(name)

    # The table refuses nonsense, whoever writes, and what is written by hand is read.
    wrong = {
        "charge = 'free'": "ai_actions_charge", "temperature = 2.1": "ai_actions_temperature",
        "temperature = 'NaN'": "ai_actions_temperature", "max_tokens = 0": "ai_actions_max_tokens_positive",
        "model = ''": "ai_actions_model", "provider = ''": "ai_actions_provider",
        "system_prompt = repeat('é', 50001)": "ai_actions_system_prompt_bytes",
        "multiplier = 'NaN'": "ai_actions_multiplier_is_a_number",
        """model_multipliers = '{"o3": -1}'""": "ai_actions_model_multipliers",
        """model_multipliers = '{"o3": "1"}'""": "ai_actions_model_multipliers",
        "model_multipliers = '[]'": "ai_actions_model_multipliers",
        "charge = 'cost_plus', markup = 1": "ai_actions_cost_plus_has_its_factors",
        "charge = 'cost_plus', markup = 0, cents_per_million_tokens = 1": "ai_actions_markup_positive",
        "charge = 'cost_plus', markup = 1, cents_per_million_tokens = 'NaN'": "ai_actions_token_price_positive",
    }  # fmt: skip
    with psycopg.connect(till.url, autocommit=True) as conn:
        for change, constraint in wrong.items():
            with pytest.raises(psycopg.errors.CheckViolation) as caught:
                conn.execute(f"UPDATE ai_actions SET {change} WHERE action_type = '{CHAT}'".encode())
            assert constraint in str(caught.value), change
        conn.execute(
            """UPDATE ai_actions SET model_multipliers = '{"o3": 2.50}' WHERE action_type = 'frequency_flip'"""
        )
    assert till.action("frequency_flip").model_multipliers == {"o3": Decimal("2.5")}
