"""Every answer that is not what was asked for: one shape, the right status, an id, and nothing given away."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import tokentill
from tests.http.conftest import ADMIN_KEY, row_counts
from tokentill import Till, errors
from tokentill.errors import TillError
from tokentill.http import problems
from tokentill.http.app import create_app
from tokentill.http.reading import BODY_BYTES_MAX

JSON = {"Content-Type": "application/json"}
READS = "/v1/users/ann/balance"
WRITES = ("/v1/usage", "/v1/holds", "/api/admin/users/adjust-tokens")


def test_every_error_has_exactly_one_branch_with_a_status() -> None:
    leaves = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, TillError)]

    for leaf in leaves:
        if leaf is not TillError:
            assert len([branch for branch in problems.STATUS if issubclass(leaf, branch)]) == 1, leaf
    assert set(problems.TITLES) == set(problems.STATUS)


def test_no_route_and_no_method_are_problems_too(client: TestClient) -> None:
    nowhere, wrong = client.get("/v1/nowhere"), client.get("/v1/usage")

    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "route_not_found")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    for answer in (nowhere, wrong):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_is_no_json_is_malformed(client: TestClient, till: Till) -> None:
    before = row_counts(till.url)
    bodies = [b"{", b"\xff", b'{"user_id": "\xff"}', b"[" * 100_000, b'{"tokens": 1%s}' % (b"0" * 5_000)]

    for path in WRITES:
        for body in bodies:
            answer = client.post(path, content=body, headers={"Idempotency-Key": "k", **JSON})
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body"), (path, body[:20])
        for body in (b"", b"[]", b"null", b'"x"'):
            answer = client.post(path, content=body, headers={"Idempotency-Key": "k", **JSON})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), (path, body)

    assert row_counts(till.url) == before


def test_a_body_must_say_that_it_is_json(client: TestClient) -> None:
    answer = client.post("/v1/usage", content=b"{}", headers={"Idempotency-Key": "k", "Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "Content-Type: application/json" in answer.json()["detail"]


@pytest.mark.parametrize("length", [2**21, 2**25])
@pytest.mark.parametrize("method_and_path", ["POST /v1/usage", "POST /api/stripe/webhook", "GET /healthz", "PUT /none"])
def test_a_large_body_is_refused_on_every_route(client: TestClient, method_and_path: str, length: int) -> None:
    method, path = method_and_path.split()
    chunk = b" " * 2**16

    declared = client.request(method, path, content=b" " * length)
    in_chunks = client.request(method, path, content=(chunk for _ in range(length // len(chunk))))

    for answer in (declared, in_chunks):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.json()["bytes_max"] == 1_048_576
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_body_of_just_the_limit_is_read(client: TestClient) -> None:
    body = b'{"a": 1}'.ljust(BODY_BYTES_MAX)

    assert client.post("/v1/usage", content=body, headers=JSON).status_code == 422
    assert client.post("/v1/usage", content=body + b" ", headers=JSON).status_code == 413


def test_a_bug_gives_nothing_away(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the secret is swordfish")

    with TestClient(app) as client:
        answer = client.get("/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "swordfish" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "swordfish" in caplog.text and answer.json()["request_id"] in caplog.text


def test_only_the_admin_key_opens_the_api(app: FastAPI, till: Till) -> None:
    till.grant_tokens("ann", 1)
    given = [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {ADMIN_KEY}", f"Bearer {ADMIN_KEY}x", "Bearer é"]

    with TestClient(app) as client:
        for value in given:
            headers = {} if value is None else {"Authorization": value.encode()}
            answer = client.get(READS, headers=headers)  # type: ignore[arg-type]  # bytes are what travels
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), value
            assert answer.headers["www-authenticate"] == 'Bearer realm="tokentill"'
            for path in WRITES:
                assert client.post(path, json={}, headers=headers).status_code == 401  # type: ignore[arg-type]
        assert client.get(READS, headers={"Authorization": f"bearer {ADMIN_KEY}"}).status_code == 200


def test_without_an_admin_key_the_api_is_off_and_says_how_to_turn_it_on(till: Till) -> None:
    with TestClient(create_app(till, admin_key=None, webhook_secrets=())) as client:
        answers = [client.get(READS, headers={"Authorization": "Bearer "}), *(client.post(path) for path in WRITES)]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "switched_off")
            assert "TILL_ADMIN_KEY" in answer.json()["detail"]
            assert "retry-after" not in answer.headers
        assert client.get("/healthz").json() == {"status": "ok", "version": tokentill.__version__}
        assert client.get("/readyz").status_code == 200


@pytest.fixture
def doomed(database: str) -> Iterator[Till]:
    """A till whose database a test may take away."""
    with Till(database) as till:
        yield till


def test_readiness_notices_a_newer_schema(doomed: Till, client_of: Any) -> None:
    import psycopg

    with psycopg.connect(doomed.url) as conn:
        conn.execute("INSERT INTO till_migrations (number, name, checksum) VALUES (9999, '9999_future', '')")
    with client_of(doomed) as client:
        answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "schema_newer")


@pytest.fixture
def client_of() -> Any:
    def make(till: Till) -> TestClient:
        app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=())
        return TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"})

    return make


def test_an_overloaded_till_says_when_to_come_back(client: TestClient, till: Till, monkeypatch: Any) -> None:
    till.grant_tokens("ann", 100)
    monkeypatch.setattr(till.context.engine, "_waiting_max", 0)

    body = {"user_id": "ann", "action_type": "chat_conversation", "tokens": 1}
    answer = client.post("/v1/usage", json=body, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_the_document_tells_every_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    told = {
        f"{method.upper()} {path}": sorted(map(int, operation["responses"]))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert told == {
        "POST /v1/usage": [201, 400, 401, 402, 404, 408, 409, 413, 422, 500, 503],
        "POST /v1/events": [200, 201, 400, 401, 402, 404, 408, 409, 413, 422, 500, 503],
        "POST /v1/traces": [200, 400, 401, 408, 413, 422, 500, 503],
        "POST /v1/logs": [200, 400, 401, 408, 413, 422, 500, 503],
        "POST /v1/holds": [201, 400, 401, 402, 404, 408, 409, 413, 422, 500, 503],
        "GET /v1/holds/{hold_id}": [200, 401, 404, 408, 413, 422, 500, 503],
        "POST /v1/holds/{hold_id}/renew": [200, 400, 401, 404, 408, 409, 413, 422, 500, 503],
        "POST /v1/holds/{hold_id}/capture": [200, 400, 401, 402, 404, 408, 409, 413, 422, 500, 503],
        "POST /v1/holds/{hold_id}/void": [200, 401, 404, 408, 409, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/holds": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/balance": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/history": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/lots": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/subscriptions": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/users/{user_id}/preview": [200, 401, 404, 408, 413, 422, 500, 503],
        **{
            f"POST /v1/users/{{user_id}}/subscriptions/{{subscription_id}}/{act}": [
                200,
                400,
                401,
                404,
                408,
                409,
                413,
                422,
                500,
                503,
            ]
            for act in ("pause", "resume", "cancel")
        },
        "GET /v1/payments/{payment_id}": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/payments/{payment_id}/refund-preview": [200, 401, 404, 408, 413, 422, 500, 503],
        "POST /v1/checkout": [201, 400, 401, 408, 409, 413, 422, 500, 503],
        "POST /v1/portal": [201, 400, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/catalog": [200, 401, 408, 413, 500, 503],
        "PUT /v1/catalog": [200, 400, 401, 408, 409, 413, 422, 500, 503],
        "GET /v1/ai/models": [200, 401, 408, 413, 422, 500, 503],
        "PUT /v1/ai/models/{provider}/{model}": [200, 400, 401, 408, 409, 413, 422, 500, 503],
        "GET /v1/ai/prices": [200, 401, 408, 413, 422, 500, 503],
        "POST /v1/ai/prices": [201, 400, 401, 404, 408, 409, 413, 422, 500, 503],
        "GET /v1/ai/prices/{price_id}": [200, 401, 404, 408, 413, 422, 500, 503],
        "GET /v1/ai/actions": [200, 401, 408, 413, 500, 503],
        "GET /v1/ai/actions/{key}": [200, 401, 404, 408, 413, 422, 500, 503],
        "PUT /v1/ai/actions/{key}": [200, 400, 401, 408, 409, 413, 422, 500, 503],
        "GET /v1/ai/actions/{key}/charge": [200, 401, 408, 413, 422, 500, 503],
        "POST /api/admin/users/adjust-tokens": [200, 400, 401, 402, 404, 408, 409, 413, 422, 500, 503],
        "POST /api/stripe/webhook": [200, 400, 408, 413, 500, 503],
        "GET /v1/stripe/events": [200, 401, 408, 413, 422, 500, 503],
        "GET /v1/stripe/events/{event_id}": [200, 401, 404, 408, 413, 422, 500, 503],
        "POST /v1/stripe/events/{event_id}/retry": [200, 401, 404, 408, 413, 422, 500, 503],
        "POST /v1/stripe/customers/{customer_id}/link": [200, 400, 401, 408, 413, 422, 500, 503],
        "GET /v1/findings": [200, 401, 408, 413, 422, 500, 503],
        "POST /v1/findings/{finding_id}/close": [200, 401, 404, 408, 413, 422, 500, 503],
        "POST /v1/usage/batch": [200, 400, 401, 408, 413, 422, 500, 503],
        "GET /healthz": [200],
        "GET /readyz": [200, 503],
    }
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert _references(document) <= {f"#/components/schemas/{name}" for name in schemas}
    usage = schemas["UsageBody"]
    assert usage["required"] == ["user_id", "action_type"]
    assert usage["additionalProperties"] is False


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(_references(value) for value in node.values()))
    return set().union(*map(_references, node)) if isinstance(node, list) else set()


def test_the_app_mounts_into_another(till: Till) -> None:
    till.grant_tokens("a/b", 7)
    host = FastAPI()
    host.mount("/tokens", create_app(till, admin_key=ADMIN_KEY, webhook_secrets=()))

    with TestClient(host, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        found = client.get("/tokens/v1/users/a%2Fb/balance")
        missing = client.get("/tokens/v1/users/nobody/balance")

    assert (found.status_code, found.json()["balance"]) == (200, 7)
    assert (missing.status_code, missing.json()["code"]) == (404, "account_not_found")


def test_a_quoted_half_of_a_surrogate_pair_can_be_answered(client: TestClient) -> None:
    body = json.dumps({"user_id": "ann", "action_type": "\ud800", "tokens": 1})
    answer = client.post("/v1/usage", content=body, headers={"Idempotency-Key": "k", **JSON})

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_action")
