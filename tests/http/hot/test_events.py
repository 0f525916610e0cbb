"""`POST /v1/events`: usage that CloudEvents and OpenTelemetry tell of."""

import copy
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import Clock, _database
from tests.http.conftest import ADMIN_KEY, row_counts
from tokentill import Till
from tokentill.http.app import create_app
from tokentill.http.hot.batches import BATCH_BYTES_MAX
from tokentill.http.hot.sent import EVENTS_MAX

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}
SAMPLES = Path(__file__).parent / "otlp_samples"


@pytest.fixture(scope="module")
def till(server_url: str, template: str) -> Iterator[Till]:
    """One for all tests here: each has users of its own. The books must be right when they are over."""
    with contextmanager(_database)(server_url, f"TEMPLATE {template}") as url, Till(url, clock=Clock()) as till:
        yield till
        assert till.reconcile().findings == ()


@pytest.fixture(scope="module")
def client(till: Till) -> Iterator[TestClient]:
    app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=())
    with TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        yield client


# --- CloudEvents ---


def event(event_id: str = "1", **changes: Any) -> Json:
    told: Json = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/chat",
        "type": "com.example.chat_conversation",
        "time": "2026-01-05T11:59:00Z",
        "data": {"input_tokens": 80, "output_tokens": 20, "model": "gpt-5", "provider": "openai"},
    }
    return {**told, **changes}


def test_a_structured_event_is_recorded_with_its_own_time_even_into_debt(client: TestClient, till: Till) -> None:
    till.grant_tokens("structured", 30)
    content = json.dumps(event(subject="structured", traceparent="00-ab-cd-01", dataschema="urn:x"))
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}

    first, again = (client.post("/v1/events", content=content, headers=headers) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    body = first.json()
    assert body.pop("id").endswith("-2")
    assert body == {
        "user_id": "structured",
        "seq": 2,
        "tokens_used": 100,
        "balance_before": 30,
        "balance_after": -70,
        "occurred_at": "2026-01-05T11:59:00Z",
        "created_at": "2026-01-05T12:00:00Z",
    }
    assert again.content == first.content
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    detail = till.history("structured")[0].detail
    assert (detail["model_used"], detail["provider"]) == ("gpt-5", "openai")


def test_a_binary_event_has_its_attributes_in_the_headers(client: TestClient, till: Till) -> None:
    till.grant_tokens("binary ü", 100)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "b-1",
        "ce-source": "/chat",
        "ce-type": "chat_conversation",
        "ce-subject": "binary%20%C3%BC",
        "ce-time": "2026-01-05T11:00:00.123456789Z",
    }

    answer = client.post("/v1/events", json={"tokens": 7}, headers=headers)

    assert (answer.status_code, answer.json()["user_id"], answer.json()["balance_after"]) == (201, "binary ü", 93)
    assert answer.json()["occurred_at"] == "2026-01-05T11:00:00.123456Z"
    # Two names that are no UTF-8 must not become one.
    broken = client.post("/v1/events", json={"tokens": 7}, headers=headers | {"ce-id": "b-%ff"})
    assert (broken.status_code, broken.json()["errors"][0]["field"]) == (422, "id")
    structured = event("b-1", type="chat_conversation", subject="binary ü", time=headers["ce-time"], data={"tokens": 7})
    assert client.post("/v1/events", json=structured).headers["idempotency-replayed"] == "true"


def test_each_event_of_a_batch_has_its_own_answer(client: TestClient, till: Till) -> None:
    till.grant_tokens("batch", 1_000)
    batch = [
        event("1", subject="batch"),
        event("2", subject="nobody at all"),
        event("3", subject="batch", type="com.example.time_travel"),
        event("4", subject="a chat", data={"user_id": "batch", "action_type": "transcription"}),
        event("1", subject="batch"),
        event("1", subject="batch", data={"tokens": 1}),
        event("5"),
        event("6", subject="batch", specversion="0.3"),
        event("7", subject="batch", data={"tokens": "7"}),
        event("8", subject="batch", data=[]),
        event("9", subject="batch", data={"tokens": 1, "idempotency_key": "mine"}),
        event("10", subject="batch", time="yesterday"),
        event("", subject="batch"),
        {},
        None,
        event("1", source="/elsewhere", subject="batch", data={"tokens": 5, "on_insufficient": "refuse"}),
    ]

    answer = client.post(
        "/v1/events", content=json.dumps(batch), headers={"Content-Type": "application/cloudevents-batch+json"}
    )

    body = answer.json()
    assert answer.status_code == 200
    assert [each["status"] for each in body["results"]] == [201, 404, 422, 201, 201, 409, *[422] * 9, 201]
    assert (body["accepted"], body["refused"]) == (4, 12)
    assert body["results"][4] == body["results"][0]
    assert [each["code"] for each in body["results"][1:3]] == ["account_not_found", "unknown_action"]
    assert body["results"][3]["tokens_used"] == 60
    told = [each["errors"][0]["field"] for each in body["results"][6:15]]
    assert told == ["subject", "specversion", "tokens", "data", "data.idempotency_key", "occurred_at", "id",
                    "specversion", "body"]  # fmt: skip
    assert till.balance("batch").balance == 1_000 - 100 - 60 - 5
    assert client.post("/v1/events", json=[]).json() == {"results": [], "accepted": 0, "refused": 0}


def test_a_single_event_that_is_refused_is_a_problem(client: TestClient, till: Till) -> None:
    before = row_counts(till.url)
    for sent, status, code in (
        (event(subject="nobody at all"), 404, "account_not_found"),
        (event(subject="x" * 256), 422, "invalid_user_id"),
        (event(), 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ([event()] * (EVENTS_MAX + 1), 422, "invalid_request"),
        (event(subject="batch", data={"tokens": 1, "model": "m" * 256}), 422, "invalid_text"),
        ("an event", 422, "invalid_request"),
        ({"resourceSpans": 1}, 422, "invalid_request"),
    ):
        answer = client.post("/v1/events", json=sent)
        assert (answer.status_code, answer.json()["code"]) == (status, code), sent
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert row_counts(till.url) == before


def test_what_is_told_long_after_it_occurred_is_late(client: TestClient, till: Till) -> None:
    till.grant_tokens("late", 1_000)
    long_ago = event("l-1", subject="late", time="2025-06-01T00:00:00Z")

    late = client.post("/v1/events", json=long_ago).json()
    client.post("/v1/events", json=event("l-2", subject="late"))

    assert (late["late"], late["occurred_at"]) == (True, "2025-06-01T00:00:00Z")
    assert client.post("/v1/events", json=[long_ago]).json()["results"][0]["late"] is True
    entries = client.get("/v1/users/late/history").json()["entries"]
    assert [(entry["kind"], entry["detail"].get("late")) for entry in entries] == [
        ("usage", None),
        ("usage", True),
        ("transaction", None),
    ]
    slow = client.post(
        "/v1/usage", headers={"Idempotency-Key": "late"},
        json={"user_id": "late", "action_type": "chat_conversation", "tokens": 1, "occurred_at": "2026-01-05T10:59Z"},
    )  # fmt: skip
    assert slow.json()["late"] is True


# --- OpenTelemetry ---


def sample(name: str, user: str) -> Json:
    text = (SAMPLES / name).read_text("utf-8").replace('"stringValue": "ann"', json.dumps({"stringValue": user})[1:-1])
    exported: Json = json.loads(text)
    return exported


def spans_of(exported: Json) -> list[Json]:
    found: list[Json] = exported["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return found


def test_the_calls_in_a_trace_are_recorded_once_and_the_agent_around_them_is_not(
    client: TestClient, till: Till
) -> None:
    till.grant_tokens("traced", 1_000)
    traces, logs = sample("javascript-traces.json", "traced"), sample("javascript-logs.json", "traced")
    # Another instrumentation of the first call: a span of its own, and the same response.
    spans_of(traces).append({**spans_of(traces)[0], "spanId": "0123456789abcdef"})

    for path in ("/v1/traces", "/v1/events", "/v1/traces"):
        answer = client.post(path, json=traces)
        assert (answer.status_code, answer.json()) == (200, {})
    for path in ("/v1/logs", "/v1/events"):
        packed = gzip.compress(json.dumps(logs).encode())
        answer = client.post(path, content=packed, headers={**JSON, "Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json()) == (200, {})

    without_response = copy.deepcopy(traces)
    for span in spans_of(without_response):
        span["attributes"] = [each for each in span["attributes"] if each["key"] != "gen_ai.response.id"]
    assert client.post("/v1/traces", json=without_response).json() == {}  # Each span is known by itself, too.

    failed, called, _ = till.history("traced")
    assert (called.tokens, called.balance_after, called.seq) == (-1_060, -60, 2)
    assert called.detail["pools"] == {"input_uncached": 600, "cache_read": 400, "output_text": 40, "reasoning": 20}
    assert called.detail["model_used"] == "gpt-5-2025-08-07"
    assert called.effective_at.isoformat() == "2026-01-05T11:59:02.100000+00:00"
    assert (failed.tokens, failed.detail["success"]) == (0, False)
    assert failed.detail["error_message"] == "429 Too Many Requests"


def test_numbers_may_be_texts_and_times_left_out_as_the_collector_writes_them(client: TestClient, till: Till) -> None:
    till.grant_tokens("collected", 10_000)
    exported = sample("javascript-traces.json", "collected")
    for span in spans_of(exported):
        del span["endTimeUnixNano"], span["status"]
        span["traceId"] = span["traceId"].upper()
        for attribute in span["attributes"]:
            if "intValue" in attribute["value"]:
                attribute["value"]["intValue"] = str(attribute["value"]["intValue"])
            if attribute["key"] == "gen_ai.response.id":
                attribute["value"]["stringValue"] = "chatcmpl-collected-1234567890"
    del spans_of(exported)[1:]  # Without its status, the second call has not failed and says nothing of its usage.

    answer = client.post("/v1/traces", content=json.dumps(exported).encode("utf-16"), headers=JSON)

    assert answer.json() == {}
    assert [entry.tokens for entry in till.history("collected")] == [-1_060, 10_000]
    assert till.history("collected")[0].effective_at == till.clock()


def test_what_is_not_recorded_is_counted_and_explained_and_costs_the_others_nothing(
    client: TestClient, till: Till
) -> None:
    till.grant_tokens("partly", 2_000)
    exported = sample("javascript-traces.json", "partly")
    good = spans_of(exported)[0]

    def other(number: int, **changes: Any) -> Json:
        span = copy.deepcopy(good)
        span["spanId"] = f"{number:016x}"
        span["attributes"] = [
            {"key": each["key"], "value": changes.get(each["key"], each["value"])}
            for each in span["attributes"]
            if each["key"] not in ("gen_ai.response.id", *(name for name in changes if changes[name] is None))
        ]
        return span

    exported["resourceSpans"][0]["scopeSpans"][0]["spans"] = [
        other(1, **{"enduser.id": {"stringValue": "nobody at all"}}),
        other(2, **{"enduser.id": None}),
        other(3, **{"enduser.id": None}),
        good,
        {**other(4), "spanId": ""},
        other(5, **{"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}),
        {**other(6), "traceId": 6, "kind": None},
        {**other(7), "endTimeUnixNano": "9" * 20},  # A clock that is ahead loses nothing.
        other(8, **{"tokentill.action": {"stringValue": "-"}, "enduser.id": {"stringValue": "x" * 256}}),
        {**other(9), "endTimeUnixNano": "later"},
        "a span",
        {"attributes": 5},
    ]

    answer = client.post("/v1/traces", json=exported)

    assert answer.status_code == 200
    said = answer.json()["partialSuccess"]
    assert said["rejectedSpans"] == "10"
    for words in ("1 × nobody at all has no account.", "2 × Nothing says whose call this was", "(Other reasons: 4)"):
        assert words in said["errorMessage"]
    assert till.balance("partly").balance == 2_000 - 2 * 1_060
    assert till.history("partly")[0].effective_at == till.clock()
    logs = sample("javascript-logs.json", "nobody at all")
    logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"].append(5)
    assert client.post("/v1/logs", json=logs).json()["partialSuccess"]["rejectedLogRecords"] == "2"


def test_what_only_describes_a_call_is_no_reason_to_lose_it(client: TestClient, till: Till) -> None:
    till.grant_tokens("described", 10_000)
    exported = sample("javascript-traces.json", "described")
    for span in spans_of(exported):
        span["traceId"] = "e" * 32
        span["attributes"] = [each for each in span["attributes"] if each["key"] != "gen_ai.response.id"]
        for name, value in (
            ("gen_ai.response.model", "m\0" * 200), ("gen_ai.provider.name", "p\0" * 40), ("gen_ai.response.id", "\0"),
            ("openai.response.service_tier", "\ud800" * 70),
        ):  # fmt: skip
            span["attributes"] = [each for each in span["attributes"] if each["key"] != name]
            span["attributes"].append({"key": name, "value": {"stringValue": value}})
        span["attributes"].append({"key": "app.version", "value": {"intValue": "1.2"}})
        span["attributes"].append({"key": "app.load", "value": {"intValue": 0.5}})
    spans_of(exported)[1]["status"]["message"] = "\0" * 3_000
    spans_of(exported)[0].update(parentSpanId=None, status={"code": None, "message": None}, endTimeUnixNano=1.767614e18)

    answer = client.post("/v1/traces", content=json.dumps(exported), headers=JSON)

    assert answer.json() == {}
    failed, called, _ = till.history("described")
    assert (called.tokens, called.effective_at.year) == (-1_060, 2026)
    assert called.detail["model_used"] == ("m\ufffd" * 200)[:255]
    assert failed.detail["error_message"] == "\ufffd" * 2_000


def test_an_export_that_there_is_no_room_for_is_to_be_sent_again_as_a_whole(
    client: TestClient, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A rejected span is not sent again, so none may be rejected for what passes.
    till.grant_tokens("waiting", 10_000)
    exported = sample("javascript-traces.json", "waiting")
    span = spans_of(exported)[0]
    span["attributes"] = [each for each in span["attributes"] if each["key"] != "gen_ai.response.id"]
    spans_of(exported)[:] = [{**span, "spanId": f"{number:016x}"} for number in range(1, 6)]
    monkeypatch.setattr(till.context.engine, "_waiting_max", 3)

    turned_away = client.post("/v1/traces", json=exported)

    assert (turned_away.status_code, turned_away.json()["code"]) == (503, "overloaded")
    assert turned_away.headers["retry-after"] == "1"
    monkeypatch.undo()
    for _ in range(2):
        assert client.post("/v1/traces", json=exported).json() == {}
    assert till.balance("waiting").balance == 10_000 - 5 * 1_060


def test_an_export_with_nothing_in_it_is_taken(client: TestClient, till: Till) -> None:
    before = row_counts(till.url)
    for path, sent in (
        ("/v1/traces", {}),
        ("/v1/logs", {"resourceLogs": None}),
        ("/v1/events", {"resourceSpans": []}),
        ("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "GET /", "attributes": None}]}]}]}),
    ):
        assert (client.post(path, json=sent).status_code, client.post(path, json=sent).json()) == (200, {}), sent
    assert row_counts(till.url) == before


# --- Bodies ---


def test_bodies_that_cannot_be_read_are_refused(client: TestClient, till: Till) -> None:
    before = row_counts(till.url)
    logs = sample("javascript-logs.json", "nobody at all")
    # Sent to the wrong place, or two kinds at once: to take it and leave some of it alone would lose that.
    assert client.post("/v1/traces", json=logs).status_code == 422
    assert client.post("/v1/events", json=logs | {"resourceSpans": []}).status_code == 422
    packed = gzip.compress(b"{}")
    bomb = gzip.compress(b" " * (BATCH_BYTES_MAX + 1))
    for path in ("/v1/events", "/v1/traces", "/v1/logs"):
        for content, headers, status in (
            (b"{", JSON, 400),
            (b"\xff", JSON, 400),
            (b"[" * 100_000, JSON, 400),
            (b'{"resourceSpans": 1, "resourceLogs": 1}', JSON, 422),
            (b"\x0a\x00", {"Content-Type": "application/x-protobuf"}, 422),
            (b"{}", {}, 422),
            (b"{}", {**JSON, "Content-Encoding": "br"}, 422),
            (b"{}", {**JSON, "Content-Encoding": "gzip"}, 400),
            (packed[:-4], {**JSON, "Content-Encoding": "gzip"}, 400),
            (packed + packed, {**JSON, "Content-Encoding": "gzip"}, 400),
            (bomb, {**JSON, "Content-Encoding": "gzip"}, 413),
        ):
            answer = client.post(path, content=content, headers=headers)
            assert answer.status_code == status, (path, content[:20], headers, answer.text)
        for method in ("GET", "PUT"):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert client.post(path, json={}, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert row_counts(till.url) == before
