"""`POST /v1/usage`: spending over HTTP."""

import json
from datetime import timedelta
from typing import Any

from starlette.testclient import TestClient

from tests.conftest import START
from tests.http.conftest import row_counts
from tokentill import Till

Json = dict[str, Any]


def spend(client: TestClient, key: str | None = "k1", **changes: object) -> Any:
    body = {"user_id": "auth0|42", "action_type": "chat_conversation", "tokens": 250, **changes}
    headers = {} if key is None else {"Idempotency-Key": key}
    # As json.dumps writes it, in ASCII: so that half of a surrogate pair can be sent, too.
    return client.post("/v1/usage", content=json.dumps(body), headers={"Content-Type": "application/json", **headers})


def test_a_spend_answers_what_was_written(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 1_000)

    answer = spend(
        client, model="gpt-5", input_tokens=200, output_tokens=50, cost_estimate="0.25", metadata={"chat": 7},
        provider_request_id="req_1", occurred_at="2026-01-05T13:00:00+02:00",
    )  # fmt: skip

    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("id").endswith("-2")
    assert body == {
        "user_id": "auth0|42",
        "seq": 2,
        "tokens_used": 250,
        "balance_before": 1_000,
        "balance_after": 750,
        "occurred_at": "2026-01-05T11:00:00Z",
        "created_at": "2026-01-05T12:00:00Z",
    }
    assert answer.headers["x-request-id"].startswith("req_")
    assert till.history("auth0|42")[0].detail["model_used"] == "gpt-5"


def test_a_repeated_request_happens_once_and_answers_the_same(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 1_000)

    first = spend(client, occurred_at="2026-01-05T13:00:00+02:00")
    again = spend(client, occurred_at="2026-01-05T13:00:00+02:00")

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert till.balance("auth0|42").balance == 750


def test_a_key_is_for_one_request_only(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 1_000)
    spend(client)

    answer = spend(client, tokens=251)

    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"


def test_a_key_is_required(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 1_000)

    answer = spend(client, key=None)

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["errors"] == [{"field": "idempotency-key", "message": "is missing"}]


def test_too_few_tokens_are_refused_with_the_facts_and_use_up_no_key(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 100)

    answer = spend(client)

    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.pop("request_id") == answer.headers["x-request-id"]
    assert body == {
        "type": "/docs/errors#insufficient_tokens",
        "title": "The account cannot cover it",
        "status": 402,
        "detail": "Asked for 250 tokens; 100 are available, 150 too few.",
        "code": "insufficient_tokens",
        "requested_tokens": 250,
        "available_tokens": 100,
        "shortfall_tokens": 150,
    }
    till.grant_tokens("auth0|42", 900)
    assert spend(client).status_code == 201


def test_what_has_happened_is_recorded_even_into_debt(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 100)

    answer = spend(client, on_insufficient="record")

    assert (answer.status_code, answer.json()["balance_after"]) == (201, -150)


def test_a_failed_operation_is_recorded_and_costs_nothing(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 100)

    answer = spend(client, success=False, error_message="timeout")

    assert (answer.status_code, answer.json()["tokens_used"]) == (201, 0)


def test_a_user_without_an_account_is_not_found(client: TestClient) -> None:
    answer = spend(client, user_id="nobody")

    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")


BAD_USAGE: list[tuple[Json, str, str]] = [
    ({"tokens": -1}, "invalid_amount", "tokens must be from 0"),
    ({"tokens": 2**53}, "invalid_amount", "9,007,199,254,740,991"),
    ({"tokens": 10**300}, "invalid_amount", "over 30 digits"),
    ({"tokens": 1.5}, "invalid_request", "tokens: input should be a valid integer"),
    ({"tokens": 1.0}, "invalid_request", "tokens: input should be a valid integer"),
    ({"tokens": "250"}, "invalid_request", "tokens: input should be a valid integer"),
    ({"tokens": True}, "invalid_request", "tokens: input should be a valid integer"),
    ({"tokens_used": 1}, "invalid_request", "tokens_used: is not known here"),
    ({"tokns": 1}, "invalid_request", "tokns: is not known here"),
    ({"input_tokens": -1}, "invalid_amount", "input_tokens"),
    ({"cost_estimate": "NaN"}, "invalid_amount", "cost_estimate"),
    ({"cost_estimate": True}, "invalid_request", "cost_estimate: must be a number of cents, or a text with one"),
    ({"cost_estimate": "0x1"}, "invalid_amount", "cost_estimate must be a number of cents"),
    ({"cost_estimate": -1}, "invalid_amount", "cost_estimate"),
    ({"action_type": "time_travel"}, "unknown_action", "No AI action 'time_travel'"),
    ({"action_type": "\ud800"}, "unknown_action", "No AI action"),
    ({"action_type": None}, "invalid_request", "action_type"),
    ({"user_id": ""}, "invalid_user_id", "1 to 255 characters"),
    ({"user_id": "x" * 256}, "invalid_user_id", "this one has 256"),
    ({"user_id": "a\x00b"}, "invalid_user_id", "NUL"),
    ({"user_id": "a\ud800"}, "invalid_user_id", "surrogate"),
    ({"user_id": 42}, "invalid_request", "user_id: input should be a valid string"),
    ({"success": "yes"}, "invalid_request", "success"),
    ({"metadata": []}, "invalid_request", "metadata"),
    ({"metadata": {"a": "\x00"}}, "invalid_text", "metadata holds a NUL"),
    ({"metadata": {"a": "x" * 20_000}}, "invalid_text", "at most 16,384"),
    ({"model": "x" * 256}, "invalid_text", "model_used has 256"),
    ({"on_insufficient": "ignore"}, "invalid_request", "on_insufficient"),
    ({"occurred_at": "2026-01-05T12:00:00"}, "invalid_request", "timezone"),
    ({"occurred_at": 1_700_000_000}, "invalid_request", "must be a time like"),
    ({"occurred_at": "soon"}, "invalid_request", "must be a time like"),
    ({"occurred_at": "2026-02-30T00:00:00Z"}, "invalid_request", "occurred_at"),
    ({"occurred_at": (START + timedelta(minutes=6)).isoformat()}, "invalid_time", "future"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "invalid_request", "exists in UTC"),
]


def test_what_can_never_work_is_refused_and_writes_nothing(client: TestClient, till: Till) -> None:
    till.grant_tokens("auth0|42", 1_000)
    before = row_counts(till.url)

    for changes, code, words in BAD_USAGE:
        answer = spend(client, **changes)
        assert answer.status_code == 422, (changes, answer.text)
        assert answer.json()["code"] == code, changes
        assert words in answer.json()["detail"], changes
    for key in ("", "x" * 256):
        answer = spend(client, key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), key

    assert row_counts(till.url) == before
