"""The price book over HTTP: looked at page by page, overridden, withdrawn, and models with slashes in their names."""

from starlette.testclient import TestClient

GPT = {"provider": "openai", "model": "gpt-5"}


def test_a_price_is_overridden_looked_at_and_withdrawn(client: TestClient) -> None:
    steps = [{"above": 0, "price": "125"}, {"above": 200_000, "price": "250"}]
    body = {**GPT, "prices": {"input_uncached": steps, "output_text": "1000"}, "note": "our contract",
            "effective_from": "2025-12-01T00:00:00Z"}  # fmt: skip

    made = client.post("/v1/ai/prices", json=body, headers={"X-Admin": "ann"})
    again = client.post("/v1/ai/prices", json=body)

    assert (made.status_code, made.json()) == (201, again.json())
    told = made.json()
    assert (told["price_id"], told["created_by"], told["prices"]) == (1_000_001, "ann", body["prices"])
    assert client.get("/v1/ai/prices/1000001").json() == told
    in_force = client.get("/v1/ai/prices", params={**GPT, "at": "2026-01-01T00:00:00Z", "service_tier": "default"})
    assert in_force.json() == {"revision": 2, "prices": [told], "next_cursor": None}

    ended = client.post("/v1/ai/prices", json={**GPT, "prices": None})
    assert (ended.status_code, ended.json()["prices"]) == (201, None)
    nothing = client.post("/v1/ai/prices", json={**GPT, "prices": None})
    assert (nothing.status_code, nothing.json()["code"]) == (404, "price_not_found")


def test_a_model_may_have_slashes_and_is_found_by_its_names(client: TestClient) -> None:
    put = client.put("/v1/ai/models/vllm/meta-llama/Llama-3.3", json={"aliases": ["our-llama"]})

    assert (put.status_code, put.json()["model"], put.json()["source"]) == (200, "meta-llama/Llama-3.3", "own")
    found = client.get("/v1/ai/models", params={"name": "OUR-LLAMA"}).json()
    assert found == {"revision": 2, "models": [put.json()], "next_cursor": None}
    assert client.get("/v1/ai/models", params={"name": "nonesuch"}).json()["models"] == []
    taken = client.put("/v1/ai/models/vllm/other", json={"aliases": ["our-llama"]})
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")


def test_pages_follow_each_other_without_a_gap(client: TestClient) -> None:
    for path, what in (("/v1/ai/models", "models"), ("/v1/ai/prices", "prices")):
        whole = client.get(path, params={"provider": "gemini", "limit": 1000}).json()[what]
        first = client.get(path, params={"provider": "google", "limit": 40}).json()
        rest = client.get(path, params={"provider": "google", "limit": 1000, "cursor": first["next_cursor"]}).json()
        assert (first[what] + rest[what], rest["next_cursor"]) == (whole, None)


def test_what_cannot_be_is_refused(client: TestClient) -> None:
    for body, status, code in (
        ({**GPT, "prices": {"tokens": "1"}}, 422, "invalid_amount"),
        ({**GPT, "prices": {"images": "-1"}}, 422, "invalid_amount"),
        ({**GPT, "prices": {"images": 1}}, 422, "invalid_request"),
        ({**GPT, "prices": {"images": "1"}, "service_tier": "no tier"}, 422, "invalid_text"),
        ({**GPT, "prices": None, "effective_from": "2026-01-01T00:00:00Z"}, 422, "invalid_request"),
        ({"provider": "openai", "model": "gpt-nonesuch", "prices": {"images": "1"}}, 404, "model_not_found"),
    ):
        answer = client.post("/v1/ai/prices", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
        assert len(answer.json().get("errors", ["one"])) == 1
    assert client.get("/v1/ai/prices/77777").json()["code"] == "price_not_found"
    assert client.get("/v1/ai/prices", params={"limit": 1}).json()["revision"] == 1
