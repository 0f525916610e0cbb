"""Holds at the door of the app: what they are sent is read in one way, and the loop never waits for the database."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.conftest import Clock
from tests.http.hot.test_door import JSON, ODD, PLAIN, RAW, names_of, wild_values
from tests.http.hot.test_door import same as same_of
from tokentill import Till
from tokentill.core.calls import Call
from tokentill.errors import UnknownAction
from tokentill.http.hot import door
from tokentill.http.hot.sent import CAPTURE, RENEW, CaptureBody, HoldBody, Reader, RenewBody
from tokentill.http.hot.sent import HOLD as HOLD_READER

Asks = dict[str, Any]

HOLD: dict[str, Any] = {"user_id": "ann", "action_type": "chat_conversation", "tokens": 5}

# --- What is sent, read in one go and field by field ---

BODIES: dict[str, tuple[Reader[Any], type[Any], dict[str, str]]] = {
    "place": (HOLD_READER, HoldBody, {"userId": "user_id", "model_used": "model"}),
    "renew": (RENEW, RenewBody, {}),
    "capture": (CAPTURE, CaptureBody, {"tokens_used": "tokens", "model": "model_used"}),
}


def same(kind: str, body: bytes) -> bool:
    """Compare the readings; whether it was understood at once."""
    return same_of(body, BODIES[kind][0])


def body_of(kind: str, changes: dict[str, Any]) -> bytes:
    return json.dumps({**(HOLD if kind == "place" else {}), **changes}).encode()


PLAIN_BODIES: dict[str, list[dict[str, Any]]] = {
    "place": [
        {}, {"tokens": -1}, {"tokens": 10**300}, {"ttl_seconds": 0}, {"ttl_seconds": 60}, {"model": "m"},
        {"model": None}, {"metadata": None}, {"metadata": {"a": [1, 2.5, None, {"b": 10**30}], "é": "😀"}},
        {"user_id": ""}, {"action_type": "none"},
    ],
    "renew": [{}, {"ttl_seconds": 60}, {"ttl_seconds": -1}, {"ttl_seconds": 10**300}],
    "capture": [
        {}, {"action_type": "chat_conversation"}, {"action_type": None},
        *(changes for changes in PLAIN if "user_id" not in changes), {"on_insufficient": "refuse"},
    ],
}  # fmt: skip

ODD_BODIES: dict[str, list[dict[str, Any]]] = {
    "place": [
        {"userId": "bob"}, {"model": "m", "model_used": "m"}, {"tokns": 1}, {"tokens": 1.0}, {"tokens": True},
        {"tokens": "1"}, {"tokens": None}, {"ttl_seconds": None}, {"ttl_seconds": 60.0}, {"ttl_seconds": "60"},
        {"ttl": 60}, {"model": 1}, {"metadata": []}, {"metadata": {"a": float("inf")}}, {"user_id": None},
        {"user_id": "\udfff"}, {"action_type": None}, {"success": True},
    ],
    "renew": [{"ttl_seconds": None}, {"ttl_seconds": 1.0}, {"ttl_seconds": True}, {"ttl": 1}, {"user_id": "ann"}],
    "capture": [
        {"user_id": "ann"}, {"hold_id": "x"}, {"action_type": 1}, {"tokens": 1, "tokens_used": 1},
        *(changes for changes in ODD if not changes.keys() & {"user_id", "userId", "tokens_used"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_a_plain_body_is_understood_at_once_and_rightly(kind: str) -> None:
    for changes in PLAIN_BODIES[kind]:
        assert same(kind, body_of(kind, changes)), changes


@pytest.mark.parametrize("kind", BODIES)
def test_what_is_understood_at_once_of_odd_bodies_is_what_is_meant(kind: str) -> None:
    understood = [changes for changes in ODD_BODIES[kind] if same(kind, body_of(kind, changes))]

    assert understood == [], "these are looked at field by field, and found right or said what is wrong with"
    for body in RAW:
        same(kind, body)


def test_each_field_is_understood_under_each_of_its_names() -> None:
    other_names = body_of("place", {"userId": "ann", "model_used": "m"}).replace(b'"user_id": "ann", ', b"")
    assert HOLD_READER.read(other_names) == HOLD_READER.read(body_of("place", {"model": "m"}))
    told = CAPTURE.read(body_of("capture", {"tokens_used": 2, "model": "m"}))
    assert (told.tokens, told.model_used) == (2, "m")


def wild_fields(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names_of(*BODIES[kind][1:])), wild_values, max_size=3)


wild_bodies = st.sampled_from(sorted(BODIES)).flatmap(lambda kind: st.tuples(st.just(kind), wild_fields(kind)))


@given(wild=wild_bodies, ascii_only=st.booleans())
@settings(max_examples=500)
def test_no_body_is_read_in_two_ways(wild: tuple[str, dict[str, Any]], ascii_only: bool) -> None:
    kind, changes = wild
    text = json.dumps({**(HOLD if kind == "place" else {}), **changes}, ensure_ascii=ascii_only)
    same(kind, text.encode("utf-8", "surrogatepass"))


# --- What is answered ---


def test_every_body_has_an_answer_that_says_what_is_wrong(client: TestClient, till: Till) -> None:
    """Nothing that anybody sends is a bug of ours."""
    till.grant_tokens("ann", 10**9)
    statuses = set()
    number = 0
    for kind in ("place", "renew", "capture", "void"):
        bodies = [b"", b"null", *RAW]
        for each in BODIES:  # Each also takes what is meant for the others.
            bodies += [body_of(each, changes) for changes in PLAIN_BODIES[each] + ODD_BODIES[each]]
        for body in bodies:
            number += 1
            path = door.HOLDS
            if kind != "place":
                path = f"{door.HOLDS}/{till.hold('ann', 5, 'chat_conversation').id}/{kind}"
            answer = client.post(path, content=body, headers={"Idempotency-Key": f"k{number}", **JSON})
            statuses.add(answer.status_code)
            assert answer.status_code < 300 or answer.json()["detail"], (path, body[:100])

    assert statuses == {200, 201, 400, 404, 422}


def test_what_has_ended_is_answered_with_what_it_is(client: TestClient, till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 10**9)
    captured, voided, expired = (till.hold("ann", 5, "chat_conversation").id for _ in range(3))
    till.capture("ann", captured, 3)
    till.void("ann", voided)
    clock.advance(minutes=10)

    acts = ("renew", "void", "capture")
    statuses = [
        client.post(f"{door.HOLDS}/{hold}/{act}").status_code for act in acts for hold in (captured, voided, expired)
    ]
    held = till.hold("ann", 5, "chat_conversation").id
    big = {"tokens": 10**10, "on_insufficient": "refuse"}
    statuses.append(client.post(f"{door.HOLDS}/{held}/capture", json=big).status_code)

    assert statuses == [409, 409, 409, 409, 200, 200, 200, 409, 200, 402]


def test_an_id_that_is_none_is_not_found_and_a_path_that_is_none_no_route(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    held = till.hold("ann", 5, "chat_conversation").id
    for act in ("renew", "capture", "void"):
        for hold in ("x", "hold_" + "0" * 64, held.upper(), held[:-1], "%68" + held[1:] + "0", "%00"):
            assert client.post(f"{door.HOLDS}/{hold}/{act}").status_code == 404, hold
        for path in (f"/v1/holds//{act}", f"/v1/holds/{held}/{act}/", f"/v1/holds/{held}/x/{act}"):
            answer = client.post(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found"), path
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = client.request(method, f"{door.HOLDS}/{held}/{act}")
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# --- At the door ---


def test_what_is_surely_right_asks_the_database_nothing_first(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    placed = client.post(door.HOLDS, json=HOLD, headers={"Idempotency-Key": "k"})
    path = f"{door.HOLDS}/{placed.json()['id']}"
    in_full: Asks = {"tokens": 4, "input_tokens": 3, "model_used": "m"}
    counted: Asks = {"input_tokens": 3, "output_tokens": 1, "action_type": "chat_conversation", "model": "m"}

    answers = [client.post(f"{path}/{act}") for act in ("renew", "capture", "capture")]
    answers.append(client.post(f"{path}/capture", json=in_full))
    answers.append(client.post(door.HOLDS, json=HOLD, headers={"Idempotency-Key": "k"}))
    other = till.hold("ann", 5, "chat_conversation").id
    answers.append(client.post(f"{door.HOLDS}/{other}/capture", json=counted, headers={"Idempotency-Key": "c"}))
    answers.append(client.post(f"{door.HOLDS}/{other}/void"))

    assert placed.status_code == 201
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 201, 200, 409]
    assert till.balance("ann").balance == 91
    for body in ({}, in_full, counted):
        assert not till.asking.must_read(CAPTURE.read(body_of("capture", body)), is_captured=True), body


def test_what_must_be_read_for_is_known_beforehand(client: TestClient, till: Till, clock: Clock) -> None:
    """It is read in a thread: the loop, and all who wait for it, must not wait for the database."""
    till.grant_tokens("ann", 100)
    bodies: list[Asks] = [
        {"input_tokens": 1},
        {"output_tokens": 0},
        {"pools": {}},
        {"action_type": "none"},
        {"input_tokens": 1, "action_type": "chat_conversation"},
    ]
    for body in bodies:
        assert till.asking.must_read(CAPTURE.read(body_of("capture", body)), is_captured=True), body
        hold = till.hold("ann", 5, "chat_conversation").id
        answer = client.post(f"{door.HOLDS}/{hold}/capture", json=body)
        assert answer.status_code == (422 if body.get("action_type") == "none" else 200), body

    clock.advance(seconds=6)  # Somebody may have edited prices.
    priced = CAPTURE.read(body_of("capture", {"tokens": 1, "pools": {"input_uncached": 1}, "model_used": "gpt-4o"}))
    assert till.asking.must_read(priced, is_captured=True)
    with pytest.raises(UnknownAction):  # Whoever does not look beforehand is told that it is unknown, and waits not.
        till.asking.spend_of("ann", Call(action_type="none", tokens=1), may_ask=False)


def test_an_odd_number_in_a_holds_metadata_is_answered_in_full(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    metadata = {"digits": 10**4_000, "half": 0.1, "é": "😀", "deep": [[{"a": None}]]}

    answer = client.post(door.HOLDS, json={**HOLD, "metadata": metadata}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["metadata"]) == (201, metadata)
