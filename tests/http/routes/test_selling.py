"""`/v1/checkout`, `/v1/portal` and `/v1/catalog`: one happy path each, and what they answer otherwise."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from tests.conftest import Clock
from tests.http.conftest import ADMIN_KEY, SECRET, row_counts
from tests.stripe_double import StripeDouble
from tests.stripe_double.delivery import deliver
from tokentill import Till
from tokentill.http.app import create_app
from tokentill.stripe.calling import StripeApi

BODY = {"user_id": "auth0|ann", "pack": "mega", "success_url": "https://app.example/thanks"}
PORTAL = {"user_id": "auth0|ann", "return_url": "https://app.example/account"}


@pytest.fixture
def double(clock: Clock) -> Iterator[StripeDouble]:
    with StripeDouble(clock=clock) as double:
        yield double


@pytest.fixture
def selling(database: str, clock: Clock, double: StripeDouble) -> Iterator[TestClient]:
    """A client of a till that sells through the double."""
    stripe = StripeApi(double.api_key, api_base=double.url, timeout_seconds=2, retries_max=0)
    with Till(database, clock=clock, stripe=stripe) as till:
        app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(SECRET,))
        with TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
            yield client


def open_checkout(client: TestClient, key: str = "k", **changes: Any) -> Any:
    return client.post("/v1/checkout", json={**BODY, **changes}, headers={"Idempotency-Key": key})


def test_a_checkout_leads_to_tokens(selling: TestClient, double: StripeDouble, clock: Clock) -> None:
    made, again = open_checkout(selling), open_checkout(selling)

    assert made.status_code == again.status_code == 201
    assert made.json() == again.json()
    assert set(made.json()) == {"checkout_id", "session_id", "url", "expires_at"}
    assert made.json()["expires_at"] == "2026-01-06T12:00:00Z"
    assert "Idempotency-Replayed" not in made.headers and again.headers["Idempotency-Replayed"] == "true"

    double.pay(made.json()["session_id"])
    letters = deliver(
        double.new_events(), "http://testserver/api/stripe/webhook", SECRET, at=clock(), client=selling
    )  # fmt: skip
    assert {letter.status for letter in letters} == {200}
    assert selling.get("/v1/users/auth0%7Cann/balance").json()["balance"] == 5_000_000

    portal = selling.post("/v1/portal", json=PORTAL)
    assert portal.status_code == 201
    assert portal.json()["url"].startswith("https://billing.stripe.com/")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"pack": "tiny"}, 422, "unknown_pack"),
        ({"pack": None, "plan": "gold"}, 422, "unknown_plan"),
        ({"pack": None}, 422, "invalid_request"),
        ({"quantity": 0}, 422, "invalid_amount"),
        ({"quantity": "2"}, 422, "invalid_request"),
        ({"success_url": "thanks"}, 422, "invalid_text"),
        ({"metadata": {"pack_id": "ultra"}}, 422, "invalid_text"),
        ({"colour": "red"}, 422, "invalid_request"),
        ({"user_id": ""}, 422, "invalid_user_id"),
    ],
)
def test_what_cannot_be_sold_is_refused_and_writes_nothing(
    selling: TestClient, double: StripeDouble, database: str, changes: dict[str, Any], status: int, code: str
) -> None:
    before = row_counts(database)

    answer = open_checkout(selling, **changes)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert row_counts(database) == before and double.asked == []


def test_a_checkout_needs_a_key(selling: TestClient) -> None:
    assert selling.post("/v1/checkout", json=BODY).status_code == 422


def test_the_same_key_with_another_body_is_a_conflict(selling: TestClient) -> None:
    open_checkout(selling)

    answer = open_checkout(selling, quantity=2)

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


def test_stripes_refusal_is_422_with_its_own_words(selling: TestClient, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("INSERT INTO stripe_customers VALUES ('cus_gone', till_user_id('auth0|ann'), now())")

    for answer in (open_checkout(selling), selling.post("/v1/portal", json=PORTAL)):
        assert (answer.status_code, answer.json()["code"]) == (422, "stripe_refused")
        assert answer.json()["detail"] == "Stripe refuses it: No such customer: 'cus_gone'"
        assert answer.json()["stripe_request_id"].startswith("req_double")


def test_when_stripe_cannot_the_answer_is_503_and_when_to_come_back(selling: TestClient, double: StripeDouble) -> None:
    double.break_next(1, "error")

    answer = open_checkout(selling)

    assert (answer.status_code, answer.json()["code"]) == (503, "stripe_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert open_checkout(selling).status_code == 201


def test_without_a_customer_there_is_no_portal(selling: TestClient) -> None:
    answer = selling.post("/v1/portal", json=PORTAL)

    assert (answer.status_code, answer.json()["code"], answer.json()["user_id"]) == (
        404, "customer_not_found", "auth0|ann"
    )  # fmt: skip


def test_without_stripes_key_selling_is_off(client: TestClient) -> None:
    for answer in (open_checkout(client), client.post("/v1/portal", json=PORTAL)):
        assert (answer.status_code, answer.json()["code"]) == (503, "switched_off")
        assert "TILL_STRIPE_API_KEY" in answer.json()["detail"]
        assert "Retry-After" not in answer.headers


# --- The catalog ---


def test_the_catalog_that_is_read_can_be_edited_and_sent_back(client: TestClient, till: Till) -> None:
    read = client.get("/v1/catalog").json()
    assert client.put("/v1/catalog", json=read).json() == read, "unchanged, it changes nothing"

    read["packs"]["mega"]["price_cents"] = 24_900
    del read["packs"]["power"]
    put = client.put("/v1/catalog", json=read, headers={"X-Admin": "ann"})

    assert put.status_code == 200
    assert put.json()["revision"] == 2
    assert put.json() == client.get("/v1/catalog").json()
    assert till.catalog.pack("mega").price_cents == 24_900
    assert not till.catalog.pack("power").is_active
    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT actor, act FROM audit_log").fetchall() == [("ann", "edit catalog")]


def test_an_edit_of_an_older_catalog_is_a_conflict(client: TestClient) -> None:
    read = client.get("/v1/catalog").json()
    read["trial"]["days"] = 7
    client.put("/v1/catalog", json=read)

    answer = client.put("/v1/catalog", json={**read, "packs": {}})

    assert (answer.status_code, answer.json()["code"], answer.json()["revision"]) == (409, "conflict", 2)
    assert len(client.get("/v1/catalog").json()["packs"]) == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [({"price_cents": -1}, "invalid_catalog"), ({"tokens": "5"}, "invalid_request"), ({"prize": 1}, "invalid_request")],
)
def test_a_wrong_catalog_is_refused(client: TestClient, till: Till, change: dict[str, Any], code: str) -> None:
    read = client.get("/v1/catalog").json()
    read["packs"]["mega"] |= change
    before = row_counts(till.url)

    answer = client.put("/v1/catalog", json=read)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert "mega" in answer.json()["detail"]
    assert row_counts(till.url) == before


def test_a_stranger_neither_sells_nor_edits(client: TestClient) -> None:
    nobody = {"Authorization": "Bearer nobody"}

    for method, path in (
        ("POST", "/v1/checkout"),
        ("POST", "/v1/portal"),
        ("GET", "/v1/catalog"),
        ("PUT", "/v1/catalog"),
    ):
        assert client.request(method, path, headers=nobody, json={}).status_code == 401, path
