"""What a request's hash is made of stays as it is: a retry across an upgrade answers its first success.

The hashes below were written by the version before a call became one value. They are never written anew.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tokentill import Till
from tokentill.errors import IdempotencyConflict

USER, CHAT, KEY = "alice", "chat_conversation", "once"
AT = datetime(2026, 1, 4, 10, 30, 15, 250_000, tzinfo=UTC)
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "service_tier": "flex",
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}},
}
UNREADABLE = {"id": "chatcmpl-2", "model": "gpt-4o", "usage": {"prompt_tokens": -3, "completion_tokens": 20}}
POOLS = {"output_text": 7, "input_uncached": 5, "cache_read": 3}

SPENDS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "tokens alone": (100, {}),
    "nothing": (0, {}),
    "by the action": (None, {}),
    "counts": (None, {"input_tokens": 10, "output_tokens": 5}),
    "one count": (None, {"output_tokens": 5}),
    "pools": (None, {"pools": POOLS}),
    "pools of nothing": (None, {"pools": {}}),
    "pools with a zero": (None, {"pools": {"input_uncached": 5, "reasoning": 0}}),
    "pools beside counts": (None, {"pools": POOLS, "input_tokens": 8, "output_tokens": 7}),
    "seconds": (3, {"pools": {"seconds": 12}}),
    "a model": (1, {"model_used": "gpt-4o"}),
    "a model of a provider": (1, {"model_used": "gpt-4o", "provider": "openai"}),
    "a tier": (None, {"model_used": "gpt-4o", "provider": "openai", "service_tier": "batch", "input_tokens": 4}),
    "a whole cost": (1, {"cost_estimate": 3}),
    "a cost as text": (1, {"cost_estimate": "0.25"}),
    "a cost as a float": (1, {"cost_estimate": 0.1}),
    "an exact cost": (1, {"cost_estimate": Decimal("1.2345678")}),
    "a failure": (10, {"success": False, "error_message": "timeout: ü"}),
    "a guess": (10, {"estimated": True}),
    "a note": (10, {"usage_note": "it counts no tokens at all"}),
    "a note and its block": (10, {"usage_note": "odd", "raw_usage": {"prompt": "many"}, "provider": "openai"}),
    "a request's id": (10, {"provider_request_id": "req_7"}),
    "metadata": (10, {"metadata": {"b": [1, {"c": None}], "a": "ü"}}),
    "no metadata": (10, {"metadata": {}}),
    "a time": (10, {"occurred_at": AT}),
    "a time elsewhere": (10, {"occurred_at": AT.astimezone(timezone(timedelta(hours=5, minutes=30)))}),
    "recorded": (10, {"on_insufficient": "record"}),
    "an answer": (None, {"provider": "openai", "response": ANSWER}),
    "an answer that cannot be read": (None, {"provider": "openai", "response": UNREADABLE}),
    "an answer, named anew": (None, {"provider": "openai", "response": ANSWER, "model_used": "gpt-4o-mini"}),
    "all": (
        9,
        {
            "model_used": "gpt-4o", "input_tokens": 1, "output_tokens": 2, "pools": POOLS, "cost_estimate": "7.5",
            "success": True, "error_message": "late", "estimated": True, "provider_request_id": "r1",
            "provider": "openai", "service_tier": "flex", "metadata": {"k": 1}, "occurred_at": AT,
            "on_insufficient": "record",
        },
    ),
}  # fmt: skip

CAPTURES: dict[str, tuple[int | None, dict[str, Any]]] = {
    "all that was held": (None, {}),
    "tokens": (60, {}),
    "counts": (None, {"input_tokens": 10, "output_tokens": 5}),
    "counts of another action": (None, {"input_tokens": 10, "action_type": CHAT, "model_used": "gpt-4o"}),
    "pools": (None, {"pools": POOLS}),
    "pools of nothing": (None, {"pools": {}}),
    "a model of a provider": (1, {"model_used": "gpt-4o", "provider": "openai"}),
    "a cost and a tier": (1, {"cost_estimate": "0.1", "service_tier": "priority"}),
    "a failure": (None, {"success": False, "error_message": "broken off"}),
    "a note": (5, {"usage_note": "broken off", "raw_usage": {"a": 1}, "estimated": True}),
    "metadata": (5, {"metadata": {"b": 2, "a": "ü"}}),
    "a time": (5, {"occurred_at": AT, "provider_request_id": "r1"}),
    "refused": (5, {"on_insufficient": "refuse"}),
    "an answer": (None, {"provider": "openai", "response": ANSWER}),
    "an answer that cannot be read": (None, {"provider": "openai", "response": UNREADABLE}),
}

HOLDS: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (100, {}),
    "for a while": (100, {"ttl": 90}),
    "for a timedelta": (100, {"ttl": timedelta(minutes=2, milliseconds=500)}),
    "a model": (100, {"model": "gpt-4o"}),
    "a provider": (100, {"model": "gpt-4o", "provider": "openai"}),
    "metadata": (100, {"metadata": {"b": 1, "a": [2]}}),
}

HASHES = {
    "spend: tokens alone": "c39b5fbd616a89d8888d8b1eb26b5d0d",
    "spend: nothing": "a77bd9bd5b61885da600c262e7b2cfc2",
    "spend: by the action": "761dcf48b5a18f488781b423c0bf2fc2",
    "spend: counts": "bd50a49beca88e6792bcfb381cb70193",
    "spend: one count": "55aec83b507c87d0bf6d929838d60b2b",
    "spend: pools": "b1d2e23727818316a795d4034da4eb16",
    "spend: pools of nothing": "761dcf48b5a18f488781b423c0bf2fc2",
    "spend: pools with a zero": "719fff251954835097ed4fe31bee499a",
    "spend: pools beside counts": "b1d2e23727818316a795d4034da4eb16",
    "spend: seconds": "de81b1e583598e2f8f8f02d7ca0f0ea8",
    "spend: a model": "a55600af416f82949969261a52c14227",
    "spend: a model of a provider": "236b441dc8308a1180f1ab4c2b706414",
    "spend: a tier": "5c3f509b2d1f8be493a1eb3abf9a846b",
    "spend: a whole cost": "94e4d4cd2f37853ca418be3e43b92582",
    "spend: a cost as text": "bab8ad165d388b4bb5b025e96e0d185a",
    "spend: a cost as a float": "95b694e7687789639f0bd59f606db541",
    "spend: an exact cost": "afe5bf6fe0d68a06803566cc0cac982e",
    "spend: a failure": "117ccf6de983884eb7dbe741fb13a49b",
    "spend: a guess": "8363dc5c42288fba9e70b47dc2e2dabf",
    "spend: a note": "1d98a42ef98885a3a05912f218fe3dec",
    "spend: a note and its block": "d68d04f47bad8a35a129fbc937bdde96",
    "spend: a request's id": "257c329a78fa83a2979ea9303b02dac4",
    "spend: metadata": "099e35149d848304865e7d0c6fd1dfcb",
    "spend: no metadata": "5b8b2905bb978ca2b42da809a12b4f91",
    "spend: a time": "71be93500888838b91ed8c5454a10074",
    "spend: a time elsewhere": "71be93500888838b91ed8c5454a10074",
    "spend: recorded": "85c300e2b7ba863387a0c9f23da1f58f",
    "spend: an answer": "d735f693624c82ac91c8ef8b0a8ac905",
    "spend: an answer that cannot be read": "6c6e4d9d27ef81dc87c1b270d41f8c57",
    "spend: an answer, named anew": "1c42e833e2828428a7801241d6f089fd",
    "spend: all": "543e8f8691898990a74cc700f18ec857",
    "capture: all that was held": "3270b79cec8c899c9a8339f95a1faa67",
    "capture: tokens": "8cb399510e47882cb408de43e6ebf4bc",
    "capture: counts": "084e77da40ce8f82aafee1b5b82bc707",
    "capture: counts of another action": "ba2e667eb7a18c418a49d5676bd9ff41",
    "capture: pools": "f8568f0268d0880c8a2f5dc061b26b7a",
    "capture: pools of nothing": "6edcdf10c15d8153ac10c6837e1fab8c",
    "capture: a model of a provider": "8a26127951728751bb832e89ae0de11d",
    "capture: a cost and a tier": "c2d45bf7c1ee85de8642183f60a9e7fd",
    "capture: a failure": "a5a2865b35198166b1ef02371f0d2c9c",
    "capture: a note": "d858a4ca569c8b339b9c50e8e8a27144",
    "capture: metadata": "1d17460b07db86548e589aa8526577bc",
    "capture: a time": "8b5a7c9c97ab88c5911bf1c028d28abd",
    "capture: refused": "5602e04954b08ea6a1989a99bae67df7",
    "capture: an answer": "c2bf300ea5ce8d0fbb10577564a7b01b",
    "capture: an answer that cannot be read": "08f0327fbe12841c800938988de1db02",
    "hold: plain": "a88f628ea0da898b87f4a3135bdfd57e",
    "hold: for a while": "d4ec9bd584af8b0db457426550065587",
    "hold: for a timedelta": "d255d9e7678d8889af28cee80b0d841a",
    "hold: a model": "e7f2230769e98f94904a4461eef7724f",
    "hold: a provider": "1c0ea3843ce48833b063c9ba395d5b11",
    "hold: metadata": "4061134b6d478d67a11b7acec4af6ed3",
}


@pytest.fixture
def asked(till: Till) -> Callable[[str], str]:
    """Return the hash of a request by its name."""
    till.grant_tokens(USER, 1_000)
    held = till.hold(USER, 200, CHAT, model="gpt-4o", provider="openai", idempotency_key="held")

    def hash_of(name: str) -> str:
        kind, _, which = name.partition(": ")
        if kind == "spend":
            tokens, said = SPENDS[which]
            key = till.asking.spend(USER, tokens, CHAT, idempotency_key=KEY, **said).key
        elif kind == "capture":
            tokens, said = CAPTURES[which]
            key = till.asking.capture(USER, held.hold_id, tokens, idempotency_key=KEY, **said).key
        else:
            held_tokens, said = HOLDS[which]
            key = till.asking.hold(USER, held_tokens, CHAT, idempotency_key=KEY, **said).key
        return key.request_hash.hex()

    return hash_of


def test_every_request_has_the_hash_that_it_had(asked: Callable[[str], str]) -> None:
    requests: dict[str, Collection[str]] = {"spend": SPENDS, "capture": CAPTURES, "hold": HOLDS}
    names = [f"{kind}: {name}" for kind, named in requests.items() for name in named]

    assert {name: asked(name) for name in names} == HASHES


@pytest.mark.parametrize("name", ["counts", "all", "a note and its block", "an answer"])
def test_a_retry_across_the_upgrade_answers_the_first_success(till: Till, database: str, name: str) -> None:
    """The request was written by the version before: its row of the keys has that version's hash."""
    tokens, said = SPENDS[name]
    till.grant_tokens(USER, 1_000)
    first = till.spend(USER, tokens, CHAT, idempotency_key=KEY, **said)
    with psycopg.connect(database, autocommit=True) as conn:
        changed = conn.execute(
            "UPDATE usage_keys SET request_hash = %s WHERE seq = %s",
            [UUID(hex=HASHES[f"spend: {name}"]), first.seq],
        )
        assert changed.rowcount == 1

    again = till.spend(USER, tokens, CHAT, idempotency_key=KEY, **said)

    assert again == first and again.is_replay
    with pytest.raises(IdempotencyConflict):
        till.spend(USER, 99, CHAT, idempotency_key=KEY)
