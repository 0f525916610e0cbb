"""`/v1/ai/actions`: one happy path, and what it answers otherwise."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.http.conftest import row_counts
from tokentill import Till

CHAT = "/v1/ai/actions/chat_conversation"


def test_an_app_reads_what_it_needs_and_an_admin_edits_it(client: TestClient, till: Till) -> None:
    listed = client.get("/v1/ai/actions").json()["actions"]
    assert len(listed) == 12 and listed[0]["key"] == "assessment_scoring"
    body = {"model": "gpt-5", "provider": "openai", "temperature": 0.7, "max_tokens": 2_000, "system_prompt": "Be kind",
            "multiplier": 1.5, "model_multipliers": {"o3": "2.50"}}  # fmt: skip

    put = client.put(CHAT, json=body, headers={"X-Admin": "ann"})
    again = client.put(CHAT, json=body)

    assert put.status_code == again.status_code == 200
    assert put.json() == again.json() == client.get(CHAT).json()
    assert put.json() == {
        "key": "chat_conversation", **body, "multiplier": "1.5", "model_multipliers": {"o3": "2.5"},
        "charge": "metered", "fixed_tokens": None, "markup": None, "cents_per_million_tokens": None,
        "is_active": True, "revision": 2, "updated_at": "2026-01-05T12:00:00Z", "updated_by": "ann",
    }  # fmt: skip
    assert client.get(CHAT, params={"at": "2026-01-05T11:59:59Z"}).json()["model"] is None

    worst = client.get(f"{CHAT}/charge", params={"input_tokens": 800, "output_tokens": 2_000, "model": "o3"})
    assert worst.json() == {
        "key": "chat_conversation", "model": "o3", "input_tokens": 800, "output_tokens": 2_000, "tokens": 7_000,
    }  # fmt: skip
    assert client.get(f"{CHAT}/charge", params={"input_tokens": 800}).json()["tokens"] == 1_200

    till.grant_tokens("ann", 1_000)
    off = client.put(CHAT, json={"is_active": False, "revision": 2}).json()
    assert (off["is_active"], off["model"]) == (False, "gpt-5")
    spend = {"user_id": "ann", "tokens": 1, "action_type": "chat_conversation"}
    refused = client.post("/v1/usage", json=spend, headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_action")
    assert client.get(f"{CHAT}/charge").status_code == 422

    new = {"charge": "cost_plus", "markup": 1.5, "cents_per_million_tokens": 5_000, "revision": 0}
    made = client.put("/v1/ai/actions/essay", json=new).json()
    assert (made["markup"], made["cents_per_million_tokens"]) == ("1.5", "5000")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHAT, {"temperature": 3}, 422, "invalid_amount"),
        (CHAT, {"charge": "free"}, 422, "invalid_request"),
        (CHAT, {"colour": "red"}, 422, "invalid_request"),
        (CHAT, {"multiplier": True}, 422, "invalid_request"),
        (CHAT, {"max_tokens": "5"}, 422, "invalid_request"),
        (CHAT, {"revision": 9}, 409, "conflict"),
        ("/v1/ai/actions/A-b", {}, 422, "invalid_text"),
    ],
)
def test_a_wrong_edit_is_refused_and_writes_nothing(
    client: TestClient, till: Till, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    before = row_counts(till.url)

    answer = client.put(path, json=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(answer.json().get("errors", ["one"])) == 1
    assert row_counts(till.url) == before


def test_an_action_that_is_not_there_is_404_and_a_stranger_sees_none(client: TestClient) -> None:
    for name in ("no_such", "%00", "a%FFb"):
        answer = client.get(f"/v1/ai/actions/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "action_not_found")
    nobody = {"Authorization": "Bearer nobody"}
    for method, path in (("GET", "/v1/ai/actions"), ("GET", CHAT), ("PUT", CHAT), ("GET", f"{CHAT}/charge")):
        assert client.request(method, path, headers=nobody, json={}).status_code == 401, path
