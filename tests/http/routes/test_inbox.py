"""`/v1/stripe/…` and `/v1/findings`: what came, what became of it, and what somebody should look at."""

import pytest
from starlette.testclient import TestClient

from tests.conftest import START, Clock
from tests.selling import sell_packs
from tokentill import Till
from tokentill.core.stripe.meanings import Doubt, PackPaid, Who
from tokentill.core.users import User
from tokentill.samples.stripe import checkout_pack

EVENTS = "/v1/stripe/events"


def pack(number: int, user: str | None = "ann", customer: str | None = None) -> dict[str, object]:
    return checkout_pack(
        session_id=f"cs_{number}", event_id=f"evt_{number}", at=START, user_id=user, customer_id=customer
    )


def test_the_inbox_comes_in_pages_that_nothing_moves(client: TestClient, till: Till, clock: Clock) -> None:
    for number in range(5):
        till.receive_stripe_event(pack(number))
        if number % 2:
            clock.advance(seconds=1)

    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get(EVENTS, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [event["event_id"] for event in page["events"]]
        till.receive_stripe_event(pack(100 + len(seen)))
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == [f"evt_{number}" for number in (4, 3, 2, 1, 0)]


def test_the_inbox_is_narrowed(client: TestClient, till: Till, clock: Clock) -> None:
    till.receive_stripe_event(pack(1, "ann", "cus_1"))
    till.receive_stripe_event(pack(2, None, "cus_2"))
    clock.advance(days=1)
    till.receive_stripe_event({"id": "evt_3", "type": "moon.risen", "data": {"object": {"customer": "cus_1"}}})

    def found(**params: str) -> set[str]:
        return {event["event_id"] for event in client.get(EVENTS, params=params).json()["events"]}

    assert found() == {"evt_1", "evt_2", "evt_3"}
    assert found(state="failed") == found(customer_id="cus_2") == {"evt_2"}
    assert found(type="moon.risen") == found(since=clock.now.isoformat()) == {"evt_3"}
    assert found(user_id="ann") == {"evt_1"}
    assert found(customer_id="cus_1", state="handled") == {"evt_1"}
    for wrong in ({"state": "lost"}, {"cursor": "x"}, {"limit": "0"}, {"type": "\0"}, {"customer_id": "\0"},
                  {"since": "2026-01-05T12:00:00"}, {"since": "1767614400"}):  # fmt: skip
        answer = client.get(EVENTS, params=wrong)
        assert answer.status_code == 422, wrong
        assert "PostgreSQL" not in answer.json()["detail"], wrong
    assert client.get(f"{EVENTS}/%00").json()["code"] == "invalid_text"


def test_one_event_tells_all(client: TestClient, till: Till) -> None:
    event = pack(1)
    till.receive_stripe_event(event)

    told = client.get(f"{EVENTS}/evt_1").json()

    assert (told["state"], told["user_id"], told["seq"], told["attempts"]) == ("handled", "ann", 1, 1)
    assert told["meaning"] == "pack power for ann, $99.00"
    assert (told["row"]["tokens"], told["row"]["type"]) == (2_000_000, "purchase")
    assert told["payload"] == event
    assert client.get(f"{EVENTS}/evt_none").json()["code"] == "event_not_found"


def test_a_link_grants_what_waited_and_a_retry_changes_nothing_more(client: TestClient, till: Till) -> None:
    till.receive_stripe_event(pack(1, None, "cus_1"))
    assert client.post(f"{EVENTS}/evt_1/retry").json()["state"] == "failed"

    linked = client.post("/v1/stripe/customers/cus_1/link", json={"user_id": "ann"}, headers={"X-Admin": "root"})

    assert (linked.status_code, linked.json()["user_id"]) == (200, "ann")
    assert [event["state"] for event in linked.json()["events"]] == ["handled"]
    assert client.post(f"{EVENTS}/evt_1/retry").json()["state"] == "handled"
    assert till.balance("ann").balance == 2_000_000
    assert client.post(f"{EVENTS}/evt_none/retry").status_code == 404


def test_findings_are_shown_and_closed(client: TestClient, till: Till) -> None:
    for number in range(3):
        sale = PackPaid(
            who=Who(), session_id=f"cs_{number}", payment_id=f"pi_{number}", items=(("power", 1),),
            amount_paid_cents=1, currency="usd", occurred_at=START,
            doubts=(Doubt(expected="9,900 usd", found="1 usd"),),
        )  # fmt: skip
        event = till.receive_stripe_event({"id": "evt_f", "type": "moon.risen"})
        sell_packs(till, event, User.of("ann"), sale)
    first = client.get("/v1/findings", params={"limit": 2}).json()
    rest = client.get("/v1/findings", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    found = [*first["findings"], *rest["findings"]]
    assert {(each["subject"], each["user_id"]) for each in found} == {(f"cs_{each}", "ann") for each in range(3)}
    assert (len(found), rest["next_cursor"]) == (3, None)

    closed = client.post(f"/v1/findings/{found[0]['id']}/close", headers={"X-Admin": "root"}).json()

    assert closed["closed_by"] == "root"
    assert len(client.get("/v1/findings").json()["findings"]) == 2
    assert len(client.get("/v1/findings", params={"include_closed": True}).json()["findings"]) == 3
    assert client.post("/v1/findings/00000000-0000-0000-0000-000000000000/close").status_code == 404
    assert client.get("/v1/findings", params={"cursor": "at_1_x"}).status_code == 422


@pytest.mark.parametrize("path", [EVENTS, f"{EVENTS}/evt_1", "/v1/findings"])
def test_nobody_looks_without_the_key(app: object, path: str) -> None:
    assert TestClient(app).get(path).status_code == 401  # type: ignore[arg-type]
