"""`POST /v1/usage/batch`: many spends in one request, each with its own answer."""

import json
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.http.conftest import row_counts
from tests.http.routes.test_usage import BAD_USAGE, spend
from tokentill import Till
from tokentill.core.keys import EventKeys
from tokentill.http.hot.batches import BATCH_BYTES_MAX
from tokentill.http.hot.sent import EVENTS_MAX
from tokentill.ids import Uuid7s

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}


def event(user: str = "ann", **changes: object) -> Json:
    return {"user_id": user, "action_type": "chat_conversation", "tokens": 1, **changes}


def send(client: TestClient, events: Any, key: str | None = "b1") -> Any:
    headers = JSON if key is None else {"Idempotency-Key": key, **JSON}
    # As json.dumps writes it, in ASCII: so that half of a surrogate pair can be sent, too.
    return client.post("/v1/usage/batch", content=json.dumps({"events": events}), headers=headers)


def statuses(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [result["status"] for result in answer.json()["results"]]


def test_each_event_has_its_own_answer_in_order(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    till.grant_tokens("bob", 10)

    answer = send(client, [event("bob", tokens=4), event("nobody"), event("ann", tokens=11), event("ann", tokens=3)])

    assert answer.status_code == 200
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert (body["accepted"], body["refused"]) == (2, 2)
    first, missing, poor, last = body["results"]
    assert first.pop("id").endswith("-2")
    assert first == {
        "status": 201,
        "user_id": "bob",
        "seq": 2,
        "tokens_used": 4,
        "balance_before": 10,
        "balance_after": 6,
        "occurred_at": "2026-01-05T12:00:00Z",
        "created_at": "2026-01-05T12:00:00Z",
    }
    assert (missing["status"], missing["code"]) == (404, "account_not_found")
    assert poor == {
        "status": 402,
        "type": "/docs/errors#insufficient_tokens",
        "title": "The account cannot cover it",
        "detail": "Asked for 11 tokens; 10 are available, 1 too few.",
        "code": "insufficient_tokens",
        "requested_tokens": 11,
        "available_tokens": 10,
        "shortfall_tokens": 1,
    }
    assert (last["status"], last["balance_after"]) == (201, 7)


def test_one_users_events_are_decided_in_their_order(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)

    answer = send(client, [event(tokens=tokens) for tokens in (6, 5, 4, 1, 0)])

    assert statuses(answer) == [201, 402, 201, 402, 201]


def test_a_bad_event_is_told_what_it_would_be_told_alone_and_costs_the_others_nothing(
    client: TestClient, till: Till
) -> None:
    till.grant_tokens("ann", 1_000)
    till.grant_tokens("auth0|42", 1_000)
    bad = [
        {"user_id": "auth0|42", "action_type": "chat_conversation", "tokens": 250, **each} for each, _, _ in BAD_USAGE
    ]
    mixed = [good_or_bad for each in bad for good_or_bad in (event(), each)]

    results = send(client, mixed).json()["results"]

    assert [result["status"] for result in results[::2]] == [201] * len(bad)
    for result, (changes, code, words) in zip(results[1::2], BAD_USAGE, strict=True):
        alone = spend(client, key="alone", **changes).json()
        del alone["request_id"]
        assert result == alone, changes
        assert (result["code"], words in result["detail"]) == (code, True)
    assert till.balance("ann").balance == 1_000 - len(bad)


@pytest.mark.parametrize("odd", [None, 1, "x", [], True, [[[]]], {}, {"events": []}])
def test_an_event_that_is_none_is_refused_alone(client: TestClient, till: Till, odd: object) -> None:
    till.grant_tokens("ann", 10)

    answer = send(client, [event(), odd, event()])

    assert statuses(answer) == [201, 422, 201]


def test_oddly_written_events_are_understood(client: TestClient, till: Till) -> None:
    """What only Python's own reader takes, whole (another encoding) or in a part of it (a NaN)."""
    till.grant_tokens("ann", 10)
    headers = {"Idempotency-Key": "k", **JSON}
    body = {"events": [event(occurred_at="2026-01-05T12:00Z"), event(cost_estimate=float("nan")), event()]}

    first = client.post("/v1/usage/batch", content=json.dumps(body), headers=headers)
    again = client.post("/v1/usage/batch", content=json.dumps(body).encode("utf-16"), headers=headers)

    assert statuses(first) == statuses(again) == [201, 422, 201]
    assert till.balance("ann").balance == 8


def test_what_is_no_batch_refuses_all_and_nothing_is_done(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    before = row_counts(till.url)
    good = json.dumps(event())
    malformed = [
        b"{", b"\xff", b"[" * 100_000, b'{"events": [%s, {]}' % good.encode(), b'{"events": [%s]' % good.encode(),
        b'{"events": [%s, {"user_id": "\xff"}]}' % good.encode(),
        b'{"events": [%s, 1%s]}' % (good.encode(), b"0" * 5_000),
    ]  # fmt: skip
    wrong: list[tuple[object, str]] = [
        ([event()], "body"),
        (None, "body"),
        ("x", "body"),
        ({}, "events"),
        ({"events": None}, "events"),
        ({"events": {}}, "events"),
        ({"events": []}, "events"),
        ({"events": [event()], "evnts": 1}, "evnts"),
        (event(), "events"),
        ({"events": [0] * (EVENTS_MAX + 1)}, "events"),
    ]

    for body in malformed:
        answer = client.post("/v1/usage/batch", content=body, headers={"Idempotency-Key": "k", **JSON})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body"), body[:50]
    for sent, field in wrong:
        answer = client.post("/v1/usage/batch", json=sent, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), sent
        assert field in [each["field"] for each in answer.json()["errors"]], sent
    for headers in (
        {"Content-Type": "text/plain"},
        {},
        {**JSON, "Idempotency-Key": ""},
        {**JSON, "Idempotency-Key": "x" * 256},
    ):
        answer = client.post("/v1/usage/batch", content=json.dumps({"events": [event()]}), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), headers
    assert client.post("/v1/usage/batch", headers={"Idempotency-Key": "k"}).status_code == 422

    assert row_counts(till.url) == before


def test_other_methods_are_not_allowed(client: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = client.request(method, "/v1/usage/batch")
        assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (
            405,
            "method_not_allowed",
            "POST",
        )


def test_only_the_admin_key_opens_it(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert send(client, [event()]).status_code == 401


def test_the_largest_batch_is_taken_and_one_byte_more_is_not(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    body = json.dumps({"events": [event()]}).encode().ljust(BATCH_BYTES_MAX)

    assert client.post("/v1/usage/batch", content=body, headers={"Idempotency-Key": "k", **JSON}).status_code == 200
    answer = client.post("/v1/usage/batch", content=body + b" ", headers={"Idempotency-Key": "k", **JSON})
    assert (answer.status_code, answer.json()["bytes_max"]) == (413, BATCH_BYTES_MAX)


def test_ten_thousand_events_are_one_request(client: TestClient, till: Till) -> None:
    users = [f"member {n}" for n in range(20)]
    for user in users:
        till.grant_tokens(user, 400)

    answer = send(client, [event(users[n % 20]) for n in range(EVENTS_MAX)])

    assert (answer.json()["accepted"], answer.json()["refused"]) == (8_000, 2_000)
    assert {till.balance(user).balance for user in users} == {0}


# --- Keys ---


def test_a_repeated_batch_happens_once_and_answers_the_same(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    events = [event(), event(), event(tokens=2), event(idempotency_key="mine")]

    first, again = send(client, events), send(client, events)

    assert statuses(first) == [201] * 4
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert till.balance("ann").balance == 5


def test_a_batch_that_was_done_in_part_is_completed(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 2)
    events = [event() for _ in range(4)]
    assert statuses(send(client, events)) == [201, 201, 402, 402]
    till.grant_tokens("ann", 10)

    answer = send(client, events)

    assert statuses(answer) == [201] * 4
    assert "idempotency-replayed" not in answer.headers
    assert till.balance("ann").balance == 8


def test_the_batchs_key_names_each_event_by_its_place(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    send(client, [event(tokens=1), event(tokens=2)])

    assert statuses(send(client, [event(tokens=2), event(tokens=2), event(tokens=3)])) == [409, 201, 201]
    # A single request with that key is another request.
    assert spend(client, "b1", user_id="ann", tokens=7).status_code == 201
    assert till.balance("ann").balance == 100 - 1 - 2 - 3 - 7


def test_an_events_own_key_is_that_of_the_same_request_alone(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    alone = spend(client, "mine", user_id="ann", tokens=7).json()

    in_batch = send(client, [event(tokens=7, idempotency_key="mine"), event(tokens=8, idempotency_key="mine")], None)

    assert statuses(in_batch) == [201, 409]
    assert in_batch.json()["results"][0] == {"status": 201, **alone}
    assert till.balance("ann").balance == 93


def test_without_any_key_an_event_is_refused_as_it_would_be_alone(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    alone = spend(client, None, user_id="ann").json()
    del alone["request_id"]

    answer = send(client, [event(idempotency_key="mine"), event(), event(idempotency_key=None)], key=None)

    assert statuses(answer) == [201, 422, 422]
    assert answer.json()["results"][1] == alone
    for bad in ("", "x" * 256, 7):
        assert statuses(send(client, [event(idempotency_key=bad)])) == [422]


def test_a_key_within_a_batch_twice_happens_once(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)

    answer = send(client, [event(idempotency_key="twin")] * 3)

    assert statuses(answer) == [201] * 3
    assert len({result["seq"] for result in answer.json()["results"]}) == 1
    assert till.balance("ann").balance == 99


def test_derived_keys_differ_and_those_of_a_uuid7_keep_its_time() -> None:
    batch = Uuid7s()()
    keys = [EventKeys(str(batch)).of(number) for number in range(1_000)]

    assert len({*keys, str(batch)}) == 1_001
    for key in keys:
        assert UUID(key).version == 7 and UUID(key).variant == batch.variant and str(UUID(key)) == key
        assert UUID(key).int >> 80 == batch.int >> 80
    assert keys == [EventKeys(str(batch).upper()).of(number) for number in range(1_000)]
    assert len({EventKeys("a").of(11), EventKeys("a1").of(1), EventKeys("a").of(1), EventKeys("a\x1f1").of(1)}) == 4
    assert len(EventKeys("x" * 255).of(9_999)) <= 255


# --- Overload ---


def test_events_that_there_is_no_room_for_are_told_to_come_back_and_the_rest_stand(
    client: TestClient, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.grant_tokens("ann", 10)
    monkeypatch.setattr(till.context.engine, "_waiting_max", 3)

    events = [event() for _ in range(5)]
    answer = send(client, events)

    assert statuses(answer) == [201, 201, 201, 503, 503]
    turned_away = answer.json()["results"][4]
    assert (turned_away["code"], turned_away["retry_after"]) == ("overloaded", 1)
    assert till.balance("ann").balance == 7
    monkeypatch.undo()
    assert statuses(send(client, events)) == [201] * 5
    assert till.balance("ann").balance == 5


def test_an_action_that_was_added_since_is_learned(client: TestClient, till: Till) -> None:
    import psycopg

    till.grant_tokens("ann", 10)
    with psycopg.connect(till.url) as conn:
        conn.execute("INSERT INTO ai_actions (action_type, charge) VALUES ('new_one', 'metered')")

    answer = send(client, [event(action_type="new_one"), event(action_type="no_such"), event()])

    assert statuses(answer) == [201, 422, 201]
    assert answer.json()["results"][1]["code"] == "unknown_action"
