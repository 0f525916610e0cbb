"""`till stripe payment` and `preview-refund`, and the same over HTTP: one report, told alike."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.cli.conftest import Run
from tests.conftest import START
from tokentill import Till
from tokentill.http.app import create_app
from tokentill.samples.stripe import checkout_pack

ADMIN_KEY = "an-admin-key-of-the-tests"


@pytest.fixture
def api(database: str) -> Iterator[TestClient]:
    """The API, to a payment of $99.00 for 2,000,000 tokens, of which ann has spent a quarter."""
    with Till(database) as opened:
        opened.receive_stripe_event(checkout_pack(session_id="cs_1", event_id="evt_1", at=START, user_id="ann"))
        opened.spend("ann", 500_000, "chat_conversation")
        app = create_app(opened, admin_key=ADMIN_KEY, webhook_secrets=())
        yield TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"})


def test_a_payment_is_told_alike_on_the_command_line_and_over_http(till: Run, api: TestClient) -> None:
    shown, told = till("stripe", "payment", "cs_1"), till("stripe", "payment", "cs_1", "--json").json

    assert "$99.00" in shown.out and "2,000,000" in shown.out
    assert told == api.get("/v1/payments/cs_1").json()
    assert (told["user_id"], told["paid_cents"], told["refunded_cents"], told["is_settled"]) == ("ann", 9_900, 0, True)
    assert [lot["granted"] for lot in told["lots"]] == [2_000_000]


def test_a_refund_is_previewed_alike_and_changes_nothing(till: Run, api: TestClient) -> None:
    shown, told = (
        till("stripe", "preview-refund", "cs_1", 9900),
        till("stripe", "preview-refund", "cs_1", 9900, "--json"),
    )

    assert shown.out == (
        "Refunding $99.00 of $99.00 to ann takes 1,500,000 unspent, 500,000 already spent → forgiven.\n"
        "balance 1,500,000 -> 0\n"
    )
    assert told.json == api.get("/v1/payments/cs_1/refund-preview", params={"amount_cents": 9900}).json()
    assert till("balance", "ann", "--json").json["balance"] == 1_500_000


@pytest.mark.parametrize("amount", ["0", "9901", "99.00", "-", "9" * 5000])
def test_an_amount_that_cannot_be_refunded_is_one_clear_line(till: Run, api: TestClient, amount: str) -> None:
    ran = till("stripe", "preview-refund", "cs_1", amount)

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert len(ran.err) < 200


def test_a_payment_that_nobody_knows_is_404(till: Run, api: TestClient) -> None:
    assert till("stripe", "payment", "pi_none").status == 1
    for path in ("pi_none", "pi_none/refund-preview?amount_cents=1"):
        answer = api.get(f"/v1/payments/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")
    assert api.get("/v1/payments/cs_1/refund-preview?amount_cents=0").status_code == 422
    assert api.get("/v1/payments/cs_1", headers={"Authorization": ""}).status_code == 401
