"""`/v1/holds`: tokens set aside over HTTP."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import Clock
from tests.http.conftest import row_counts
from tokentill import Till

USER = "auth0|42"


def place(client: TestClient, key: str = "k1", **changes: object) -> Any:
    body = {"user_id": USER, "action_type": "chat_conversation", "tokens": 400, **changes}
    return client.post("/v1/holds", json=body, headers={"Idempotency-Key": key})


def test_a_hold_is_placed_and_shown(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)

    answer = place(client, ttl_seconds=60, model="gpt-5", provider="openai", metadata={"chat": 7})

    assert answer.status_code == 201
    body = answer.json()
    assert len(body["id"]) == len("hold_") + 64
    assert {name: value for name, value in body.items() if name != "id"} == {
        "user_id": USER,
        "state": "placed",
        "tokens": 400,
        "action_type": "chat_conversation",
        "model": "gpt-5",
        "provider": "openai",
        "metadata": {"chat": 7},
        "placed_at": "2026-01-05T12:00:00Z",
        "expires_at": "2026-01-05T12:01:00Z",
        "closed_at": None,
        "captured_seq": None,
    }
    assert client.get(f"/v1/holds/{body['id']}").json() == body
    assert client.get("/v1/users/auth0%7C42/holds").json() == {"user_id": USER, "holds": [body]}
    balance = client.get("/v1/users/auth0%7C42/balance").json()
    assert (balance["balance"], balance["held"], balance["available"]) == (1_000, 400, 600)


def test_a_capture_spends_what_the_call_took(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    hold = place(client).json()["id"]

    answer = client.post(f"/v1/holds/{hold}/capture", json={"tokens": 250, "model_used": "gpt-5"})

    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("id").endswith("-2")
    assert body == {
        "hold_id": hold,
        "seq": 2,
        "tokens_used": 250,
        "balance_before": 1_000,
        "balance_after": 750,
        "occurred_at": "2026-01-05T12:00:00Z",
        "created_at": "2026-01-05T12:00:00Z",
    }
    assert client.get(f"/v1/holds/{hold}").json()["captured_seq"] == 2
    assert client.get("/v1/users/auth0%7C42/holds").json()["holds"] == []
    closed = client.get("/v1/users/auth0%7C42/holds", params={"include_closed": True}).json()["holds"]
    assert [each["state"] for each in closed] == ["captured"]
    detail = till.history(USER)[0].detail
    assert (detail["model_used"], detail["hold_id"]) == ("gpt-5", str(till.find_hold(USER, hold).hold_id))


def test_a_body_is_needed_only_to_say_something(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    hold, other = (place(client, key).json()["id"] for key in ("a", "b"))

    assert client.post(f"/v1/holds/{hold}/renew").json()["expires_at"] == "2026-01-05T12:10:00Z"
    assert client.post(f"/v1/holds/{hold}/capture").json()["tokens_used"] == 400
    assert client.post(f"/v1/holds/{other}/void").json()["state"] == "voided"


def test_counts_are_charged_by_the_rule_of_the_holds_action(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    chat, picture = place(client, "a").json()["id"], place(client, "b", action_type="image_generation").json()["id"]

    counted = client.post(f"/v1/holds/{chat}/capture", json={"input_tokens": 100, "output_tokens": 20})
    fixed = client.post(f"/v1/holds/{picture}/capture", json={"pools": {"input_uncached": 9_000}})

    assert (counted.json()["tokens_used"], fixed.json()["tokens_used"]) == (120, 25)
    assert till.history(USER)[1].detail["input_tokens"] == 100


def test_placing_again_with_its_key_answers_the_hold_as_it_stands(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 400)
    first = place(client)
    again = place(client)
    client.post(f"/v1/holds/{first.json()['id']}/void")
    late = place(client)

    assert [answer.status_code for answer in (first, again, late)] == [201, 201, 201]
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == late.headers["idempotency-replayed"] == "true"
    assert late.json()["state"] == "voided"
    assert place(client, tokens=401).json()["code"] == "idempotency_conflict"


def test_a_hold_is_captured_once_with_a_key_or_without(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    path = f"/v1/holds/{place(client).json()['id']}/capture"

    first = client.post(path, json={"tokens": 10})
    again = client.post(path, json={"tokens": 99})
    keyed = client.post(path, json={"tokens": 10}, headers={"Idempotency-Key": "k"})
    conflicting = client.post(path, json={"tokens": 11}, headers={"Idempotency-Key": "k"})

    assert first.json() == again.json() == keyed.json()
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert (conflicting.status_code, conflicting.json()["code"]) == (409, "idempotency_conflict")


def test_what_is_held_cannot_be_spent(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    place(client)
    body = {"user_id": USER, "action_type": "chat_conversation", "tokens": 601}

    spent = client.post("/v1/usage", json=body, headers={"Idempotency-Key": "s"})
    held = place(client, "another", tokens=601)
    deducted = client.post("/api/admin/users/adjust-tokens", json={"user_id": USER, "tokens": -601, "reason": "r"})

    for answer in (spent, held, deducted):
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_tokens")
        assert answer.json()["available_tokens"] == 600


def test_a_capture_exceeds_its_hold_unless_it_is_told_to_refuse(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 500)
    path = f"/v1/holds/{place(client).json()['id']}/capture"

    refused = client.post(path, json={"tokens": 501, "on_insufficient": "refuse"})
    recorded = client.post(path, json={"tokens": 501})

    assert (refused.status_code, refused.json()["shortfall_tokens"]) == (402, 1)
    assert recorded.json()["balance_after"] == -1


def test_a_failed_call_costs_nothing_and_frees_its_hold(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 500)
    hold = place(client).json()["id"]

    answer = client.post(f"/v1/holds/{hold}/capture", json={"success": False, "error_message": "timeout", "tokens": 9})

    assert answer.json()["tokens_used"] == 0
    assert till.balance(USER).available == 500


def test_a_hold_that_is_closed_says_how(client: TestClient, till: Till, clock: Clock) -> None:
    till.grant_tokens(USER, 1_000)
    captured, voided, expired = (place(client, key, tokens=1).json()["id"] for key in "abc")
    client.post(f"/v1/holds/{captured}/capture")
    client.post(f"/v1/holds/{voided}/void")
    clock.advance(minutes=10)

    for hold, state in ((captured, "captured"), (voided, "voided"), (expired, "expired")):
        answer = client.post(f"/v1/holds/{hold}/renew")
        assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "hold_closed", state)
    assert client.post(f"/v1/holds/{captured}/void").json()["code"] == "hold_closed"
    assert client.post(f"/v1/holds/{voided}/capture").json()["code"] == "hold_closed"
    assert client.post(f"/v1/holds/{expired}/void").json()["state"] == "expired"


@pytest.mark.parametrize("hold", ["x", "hold_" + "0" * 64, "hold_", "00000000-0000-7000-8000-000000000001", "%00"])
def test_a_hold_that_never_was_is_not_found(client: TestClient, till: Till, hold: str) -> None:
    answers = [client.post(f"/v1/holds/{hold}/{what}") for what in ("renew", "capture", "void")]
    answers.append(client.get(f"/v1/holds/{hold}"))

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) in ((404, "hold_not_found"), (404, "account_not_found"))


BAD_HOLDS: list[tuple[dict[str, object], str, str]] = [
    ({"tokens": 0}, "invalid_amount", "tokens must be from 1"),
    ({"tokens": 2**53}, "invalid_amount", "tokens must be from 1"),
    ({"tokens": 1.0}, "invalid_request", "valid integer"),
    ({"tokens": None}, "invalid_request", "valid integer"),
    ({"ttl_seconds": 0}, "invalid_time", "from 1 second"),
    ({"ttl_seconds": 86_401}, "invalid_time", "86,400"),
    ({"ttl_seconds": 10**300}, "invalid_time", "86,400"),
    ({"ttl_seconds": 1.5}, "invalid_request", "valid integer"),
    ({"ttl": 60}, "invalid_request", "is not known here"),
    ({"action_type": "time_travel"}, "unknown_action", "No AI action"),
    ({"user_id": ""}, "invalid_user_id", "1 to 255"),
    ({"model": "x" * 256}, "invalid_text", "model has 256"),
    ({"metadata": {"a": "\x00"}}, "invalid_text", "NUL"),
]
BAD_CAPTURES: list[tuple[dict[str, object], str]] = [
    ({"tokens": -1}, "invalid_amount"),
    ({"tokens": "1"}, "invalid_request"),
    ({"input_tokens": -1}, "invalid_amount"),
    ({"pools": {"x": 1}}, "invalid_request"),
    ({"action_type": "time_travel"}, "unknown_action"),
    ({"on_insufficient": "ignore"}, "invalid_request"),
    ({"occurred_at": "2027-01-01T00:00:00Z"}, "invalid_time"),
    ({"cost_estimate": "NaN"}, "invalid_amount"),
    ({"user_id": USER}, "invalid_request"),
]


def test_what_can_never_work_is_refused_and_writes_nothing(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 1_000)
    hold = place(client).json()["id"]
    before = row_counts(till.url)

    for changes, code, words in BAD_HOLDS:
        answer = place(client, "bad", **changes)
        assert (answer.status_code, answer.json()["code"]) == (422, code), changes
        assert words in answer.json()["detail"], changes
    for body, code in BAD_CAPTURES:
        answer = client.post(f"/v1/holds/{hold}/capture", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), body
    assert client.post(f"/v1/holds/{hold}/renew", json={"ttl_seconds": 0}).status_code == 422
    assert client.post("/v1/holds", json={"user_id": USER, "tokens": 1, "action_type": "x"}).status_code == 422

    assert row_counts(till.url) == before
    assert till.find_hold(USER, hold).state == "placed"


def test_of_200_parallel_holds_over_http_exactly_20_are_placed(client: TestClient, till: Till) -> None:
    till.grant_tokens(USER, 2_000)

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda n: place(client, f"k{n}", tokens=100).status_code, range(200)))

    assert (statuses.count(201), statuses.count(402)) == (20, 180)


def test_from_async_code_a_hold_is_awaited(till: Till) -> None:
    till.grant_tokens(USER, 100)

    async def run() -> int:
        hold = await till.submit(till.asking.hold(USER, 60, "chat_conversation"))
        receipt = await till.submit(till.asking.capture(USER, hold.id, 50))
        assert receipt is not None
        return receipt.balance_after

    assert asyncio.run(run()) == 50
