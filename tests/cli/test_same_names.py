"""What `--json` answers is what the API answers of the same thing: the same names, the same values."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.cli.conftest import Run
from tests.conftest import START
from tests.selling import sell_packs
from tokentill import Till
from tokentill.core.stripe.meanings import Doubt, PackPaid, Who
from tokentill.core.users import User
from tokentill.http.app import create_app
from tokentill.samples.stripe import checkout_pack

ADMIN_KEY = "an-admin-key-of-the-tests"

# What the command line says beside it, and why.
BESIDE = {
    "lots": "the command shows both, the API has a route for each",
    "held": "the sum of the holds",
    "replayed": "the API says so in a header",
    "user_id": "the API has it in the path",
    "hold_id": "the API has it in the path",
    "price": "the API has a route for each",
    "late": "the API leaves it out where it is false",
}
PAGED = "next_cursor"


@pytest.fixture
def api(till: Run, database: str) -> Iterator[TestClient]:
    with Till(database) as opened:
        opened.receive_stripe_event(checkout_pack(session_id="cs_1", event_id="evt_1", at=START, user_id="ann"))
        sale = PackPaid(
            who=Who(), session_id="cs_2", payment_id="pi_2", items=(("power", 1),), amount_paid_cents=1, currency="usd",
            occurred_at=START, doubts=(Doubt(expected="9,900 usd", found="1 usd"),),
        )  # fmt: skip
        sell_packs(opened, opened.receive_stripe_event({"id": "evt_2", "type": "moon.risen"}), User.of("ann"), sale)
        opened.hold("ann", 70, "chat_conversation", model="gpt-5", idempotency_key="h1")
        opened.spend("ann", 500_000, "chat_conversation", model_used="gpt-5")
        opened.drip_tokens_28day("ann", "sub_1", driven_by="clock")
        app = create_app(opened, admin_key=ADMIN_KEY, webhook_secrets=())
        yield TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"})


READS: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (("balance", "ann"), "/v1/users/ann/balance", {}),
    (("history", "ann"), "/v1/users/ann/history", {}),
    (("holds", "ann"), "/v1/users/ann/holds", {}),
    (("subscription", "list", "ann"), "/v1/users/ann/subscriptions", {}),
    (("preview", "ann"), "/v1/users/ann/preview", {}),
    (("stripe", "payment", "cs_1"), "/v1/payments/cs_1", {}),
    (("stripe", "preview-refund", "cs_1", "100"), "/v1/payments/cs_1/refund-preview", {"amount_cents": 100}),
    (("stripe", "list"), "/v1/stripe/events", {}),
    (("stripe", "show", "evt_1"), "/v1/stripe/events/evt_1", {}),
    (("findings",), "/v1/findings", {}),
    (("catalog", "show"), "/v1/catalog", {}),
    (("actions", "list"), "/v1/ai/actions", {}),
    (("actions", "show", "chat_conversation"), "/v1/ai/actions/chat_conversation", {}),
    (("prices", "list", "--provider", "openai"), "/v1/ai/models", {"provider": "openai", "limit": 1000}),
]


@pytest.mark.parametrize(("args", "path", "params"), READS, ids=[" ".join(args) for args, _, _ in READS])
def test_what_is_read_has_the_same_names(
    till: Run, api: TestClient, args: tuple[str, ...], path: str, params: dict[str, Any]
) -> None:
    answer = api.get(path, params=params)

    assert answer.status_code == 200, answer.text
    assert without(till(*args, "--json").json, BESIDE) == without(answer.json(), BESIDE)


def test_the_lots_have_the_same_names(till: Run, api: TestClient) -> None:
    assert till("balance", "ann", "--json").json["lots"] == api.get("/v1/users/ann/lots").json()["lots"]


def test_prices_have_the_same_names(till: Run, api: TestClient) -> None:
    shown = till("prices", "show", "gpt-5", "--json").json
    told = api.get("/v1/ai/prices", params={"model": "gpt-5", "limit": 1000}).json()["prices"]

    assert sorted(shown["prices"], key=lambda row: -row["price_id"]) == told
    row = till("prices", "set", "gpt-5", "--provider", "openai", "--input", "1,000", "--json").json
    assert set(row) == set(told[0])


def test_what_is_written_has_the_same_names(till: Run, api: TestClient) -> None:
    def post(path: str, **body: object) -> dict[str, Any]:
        answer = api.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    spend = {"user_id": "ann", "tokens": 1, "action_type": "chat_conversation"}
    spent, ours = post("/v1/usage", **spend), till("spend", "ann", 1, "chat_conversation", "--json").json
    assert names(ours) == names(spent)
    assert ours["tokens_used"] == spent["tokens_used"] == 1

    adjusted = post("/api/admin/users/adjust-tokens", user_id="ann", tokens=5, reason="x")
    assert names(till("grant", "ann", 5, "--json").json) == names(adjusted)
    assert names(till("deduct", "ann", 5, "--json").json) == names(adjusted)
    assert names(till("drip", "ann", "sub_2", "--json").json) == names(adjusted)

    placed, held = post("/v1/holds", **spend), till("hold", "ann", 1, "chat_conversation", "--json").json
    assert set(held) - {"replayed"} == set(placed)
    captured = post(f"/v1/holds/{placed['id']}/capture")
    assert names(till("capture", "ann", held["id"], "--json").json) == names(captured)

    linked = post("/v1/stripe/customers/cus_1/link", user_id="ann")
    assert till("stripe", "link", "cus_1", "ann", "--json").json == linked


def names(answer: dict[str, Any]) -> set[str]:
    return set(answer) - BESIDE.keys()


def without(answer: Any, names: dict[str, str]) -> Any:
    """An answer without what only one of the two has, all the way down."""
    if isinstance(answer, dict):
        return {name: without(value, names) for name, value in answer.items() if name not in names and name != PAGED}
    if isinstance(answer, list):
        return [without(each, names) for each in answer]
    return answer
