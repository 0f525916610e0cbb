"""`POST /api/admin/users/adjust-tokens`: the admin's page."""

from typing import Any

import psycopg
from starlette.testclient import TestClient

from tests.http.conftest import row_counts
from tokentill import Till

PATH = "/api/admin/users/adjust-tokens"


def test_an_admin_adds_and_deducts_under_their_name(client: TestClient, till: Till) -> None:
    added = client.post(PATH, json={"user_id": "ann", "tokens": 1_000, "reason": "sorry"}, headers={"X-Admin": "eve"})
    taken = client.post(PATH, json={"userId": "ann", "delta": -300, "reason": "oops"})

    assert (added.status_code, taken.status_code) == (200, 200)
    body = added.json()
    assert body.pop("id").endswith("-1")
    assert body == {
        "user_id": "ann",
        "seq": 1,
        "kind": "transaction",
        "type": "grant",
        "tokens": 1_000,
        "balance_before": 0,
        "balance_after": 1_000,
        "effective_at": "2026-01-05T12:00:00Z",
        "created_at": "2026-01-05T12:00:00Z",
    }
    assert (taken.json()["type"], taken.json()["tokens"], taken.json()["balance_after"]) == ("deduction", -300, 700)
    with psycopg.connect(till.url) as conn:
        journal = conn.execute("SELECT source, reason, created_by FROM token_transactions ORDER BY seq").fetchall()
        audit = conn.execute("SELECT actor, act FROM audit_log ORDER BY seq").fetchall()
    assert journal == [("admin", "sorry", "eve"), ("admin", "oops", "admin")]
    assert audit == [("eve", "grant"), ("admin", "deduct")]


def test_deducting_more_than_there_is_takes_force(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    body = {"user_id": "ann", "tokens": -300, "reason": "fraud"}

    refused = client.post(PATH, json=body)
    forced = client.post(PATH, json={**body, "force": True})

    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_tokens")
    assert (forced.status_code, forced.json()["balance_after"]) == (200, -200)


def test_a_key_is_optional_and_makes_it_happen_once(client: TestClient, till: Till) -> None:
    body = {"user_id": "ann", "tokens": 100, "reason": "welcome"}

    answers = [client.post(PATH, json=body, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    client.post(PATH, json=body)

    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert till.balance("ann").balance == 200


def test_what_cannot_be_is_refused_and_writes_nothing(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    before = row_counts(till.url)

    bad: list[tuple[dict[str, Any], int, str]] = [
        ({"tokens": 0}, 422, "invalid_amount"),
        ({"tokens": 1.0}, 422, "invalid_request"),
        ({"tokens": "5"}, 422, "invalid_request"),
        ({"tokens": 2**53}, 422, "invalid_amount"),
        ({"tokens": -(2**53)}, 422, "invalid_amount"),
        ({"delta": 5}, 422, "invalid_request"),
        ({"reason": ""}, 422, "invalid_text"),
        ({"reason": None}, 422, "invalid_request"),
        ({"reason": "x" * 2001}, 422, "invalid_text"),
        ({"reason": "a\x00"}, 422, "invalid_text"),
        ({"user_id": ""}, 422, "invalid_user_id"),
        ({"user_id": "nobody", "tokens": -1}, 404, "account_not_found"),
    ]
    for changes, status, code in bad:
        answer = client.post(PATH, json={"user_id": "ann", "tokens": 5, "reason": "why", **changes})
        assert (answer.status_code, answer.json()["code"]) == (status, code), (changes, answer.text)

    assert row_counts(till.url) == before
