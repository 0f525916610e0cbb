"""Subscriptions over HTTP: as they stand, what comes, and pausing what is ours."""

from starlette.testclient import TestClient

from tokentill import Till

ONE = "/v1/users/auth0%7C42/subscriptions/a/gift"


def test_subscriptions_are_shown_as_they_stand(client: TestClient, till: Till) -> None:
    till.drip_tokens_28day("auth0|42", "a/gift", driven_by="clock")

    answer = client.get("/v1/users/auth0%7C42/subscriptions").json()

    assert answer["user_id"] == "auth0|42"
    (found,) = answer["subscriptions"]
    assert (found["subscription_id"], found["status"], found["status_at"], found["billed_by"]) == (
        "a/gift", "active", None, "clock",
    )  # fmt: skip
    assert client.get("/v1/users/nobody/subscriptions").json() == {"user_id": "nobody", "subscriptions": []}


def test_pause_resume_and_cancel_answer_how_it_stands_then(client: TestClient, till: Till) -> None:
    till.drip_tokens_28day("auth0|42", "a/gift", driven_by="clock")
    headers = {"X-Admin": "eve"}

    for act, status in (("pause", "paused"), ("resume", "active"), ("cancel", "canceled"), ("cancel", "canceled")):
        answer = client.post(f"{ONE}/{act}", json={"reason": "asked for"}, headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    refused = client.post(f"{ONE}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_what_is_not_there_or_not_ours_is_refused(client: TestClient, till: Till) -> None:
    till.drip_tokens_28day("auth0|42", "sub_1")

    missing, not_ours = client.post(f"{ONE}/pause"), client.post(f"{ONE.replace('a/gift', 'sub_1')}/pause")

    assert (missing.status_code, missing.json()["code"]) == (404, "subscription_not_found")
    assert (not_ours.status_code, not_ours.json()["code"]) == (409, "conflict")


def test_the_preview_shows_as_many_cycles_as_are_asked_for(client: TestClient, till: Till) -> None:
    till.drip_tokens_28day("auth0|42", "a/gift", driven_by="clock")

    answer = client.get("/v1/users/auth0%7C42/preview?cycles=2&subscription_id=a/gift").json()

    assert [(one["cycle_number"], one["waits_for"], one["balance_after"]) for one in answer["cycles"]] == [
        (2, "time", 750_000), (3, "time", 1_125_000),
    ]  # fmt: skip
    assert client.get("/v1/users/auth0%7C42/preview?subscription_id=none").status_code == 404
    assert client.get("/v1/users/auth0%7C42/preview?cycles=0").status_code == 422
