"""`GET /v1/users/…`: looking at accounts over HTTP."""

from datetime import timedelta
from uuid import UUID

from starlette.testclient import TestClient

from tests.conftest import START
from tokentill import Till


def test_a_balance_shows_what_is_there_and_when_it_goes(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 1_000)
    till.grant_tokens("ann", 500, expires_at=START + timedelta(days=1))
    till.spend("ann", 100, "chat_conversation", cost_estimate="1.5")

    answer = client.get("/v1/users/ann/balance")

    assert answer.status_code == 200
    assert answer.json() == {
        "user_id": "ann",
        "balance": 1_400,
        "available": 1_400,
        "held": 0,
        "debt": 0,
        "next_expiry_at": "2026-01-06T12:00:00Z",
        "next_expiry_tokens": 400,
        "lifetime_tokens_granted": 1_500,
        "lifetime_tokens_used": 100,
        "lifetime_cost": "1.500000",
        "seq": 3,
    }


def test_the_journal_comes_in_pages_that_new_rows_do_not_move(client: TestClient, till: Till) -> None:
    for tokens in (1, 2, 3, 4, 5):
        till.grant_tokens("ann", tokens)

    first = client.get("/v1/users/ann/history", params={"limit": 2}).json()
    till.grant_tokens("ann", 6)
    pages = [first]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append(client.get("/v1/users/ann/history", params={"limit": 2, "cursor": cursor}).json())

    assert [[entry["tokens"] for entry in page["entries"]] for page in pages] == [[5, 4], [3, 2], [1]]
    assert first["entries"][0]["lot_moves"] == [{"lot": 5, "tokens": 5}]
    assert first["user_id"] == "ann"


def test_lots_come_first_to_burn_first(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 1_000)
    till.grant_tokens("ann", 500, expires_at=START + timedelta(days=1))

    lots = client.get("/v1/users/ann/lots").json()["lots"]

    assert [(lot["lot"], lot["kind"], lot["remaining"], lot["expires_at"]) for lot in lots] == [
        (2, "admin", 500, "2026-01-06T12:00:00Z"),
        (1, "admin", 1_000, None),
    ]


IDS_IN_PATHS = [
    ("two\nlines", "two%0Alines"),
    ("auth0|42", "auth0%7C42"),
    ("a/b", "a%2Fb"),
    ("a/c", "a/c"),
    ("a/balance", "a/balance"),
    ("a b?c#d%", "a%20b%3Fc%23d%25"),
    ("søren@example.com", "s%C3%B8ren@example.com"),
    ("\ufffd", "%EF%BF%BD"),
    ("x" * 255, "x" * 255),
    ("0F0E0D0C-0000-4000-8000-000000000001", "0F0E0D0C-0000-4000-8000-000000000001"),
]


def test_a_user_id_may_hold_any_character(client: TestClient, till: Till) -> None:
    for user, path in IDS_IN_PATHS:
        till.grant_tokens(user, 7)
        for what in ("balance", "history", "lots"):
            answer = client.get(f"/v1/users/{path}/{what}")
            assert answer.status_code == 200, (path, answer.text)
            assert answer.json()["user_id"] == (user.lower() if len(user) == 36 else user)


def test_a_uuid_is_its_own_name(client: TestClient, till: Till) -> None:
    user = UUID("0f0e0d0c-0000-4000-8000-000000000001")
    till.grant_tokens(user, 7)

    assert client.get(f"/v1/users/{user}/balance").json()["user_id"] == str(user)


def test_who_cannot_be_found_is_a_problem(client: TestClient) -> None:
    for path, status, code in [
        ("nobody", 404, "account_not_found"),
        ("", 422, "invalid_user_id"),
        ("x" * 256, 422, "invalid_user_id"),
        ("a%00b", 422, "invalid_user_id"),
        ("a%FFb", 422, "invalid_user_id"),
    ]:
        for what in ("balance", "history", "lots"):
            answer = client.get(f"/v1/users/{path}/{what}")
            assert (answer.status_code, answer.json()["code"]) == (status, code), (path, what)


def test_a_page_that_cannot_be_is_refused(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 7)

    for query in (
        "limit=0",
        "limit=1001",
        "limit=many",
        "cursor=1",
        "cursor=seq_x",
        "cursor=",
        "cursor=seq_" + "9" * 30,
    ):
        answer = client.get(f"/v1/users/ann/history?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), query
