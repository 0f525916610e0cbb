"""Holds at the door of the app are read and answered as the routes behind it read and answer them."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from tests.conftest import Clock
from tests.http.conftest import ADMIN_KEY, behind_the_door, told
from tests.http.hot.test_door import DEFAULTS, JSON, ODD, PLAIN, RAW, json_values, names_of, wild_values
from tests.http.routes.test_holds import BAD_CAPTURES, BAD_HOLDS
from tokentill import Till
from tokentill.core.keys import canonical
from tokentill.http.app import create_app
from tokentill.http.auth import AdminKey
from tokentill.http.bodies import CaptureBody, HoldBody, RenewBody
from tokentill.http.hot import door
from tokentill.http.hot.sent import UNREADABLE, CaptureSent, HoldSent, RenewSent, capture_of, hold_of
from tokentill.http.reading import BODY_SECONDS
from tokentill.ids import Uuid7s
from tokentill.store.migrate import migrate

Asks = dict[str, Any]

HOLD: dict[str, Any] = {"user_id": "ann", "action_type": "chat_conversation", "tokens": 5}

# --- What is sent, read two ways ---


def read_fast(kind: str, body: bytes) -> Asks | None:
    """The keywords that the till is asked with, by the door; None: it is not sure."""
    try:
        if kind == "place":
            return hold_of(msgspec.json.decode(body, type=HoldSent))
        if kind == "capture":
            return capture_of(msgspec.json.decode(body, type=CaptureSent))
        return {"ttl": msgspec.json.decode(body, type=RenewSent).ttl_seconds}
    except UNREADABLE:
        return None


def read_slowly(kind: str, body: bytes) -> Asks | None:
    """As FastAPI reads a body: Python's JSON, then pydantic. The reference."""
    try:
        read = BODIES[kind].model_validate(json.loads(body)).model_dump()
    except (ValueError, RecursionError, ValidationError):
        return None
    if kind == "place":
        read["user"] = read.pop("user_id")
    if kind != "capture":
        read["ttl"] = read.pop("ttl_seconds")
    return read


BODIES: dict[str, type[BaseModel]] = {"place": HoldBody, "renew": RenewBody, "capture": CaptureBody}
LEFT_OUT: dict[str, Asks] = {
    "place": {},
    "renew": {},
    "capture": {**DEFAULTS, "tokens": None, "action_type": None, "on_insufficient": "record"},
}


def same(kind: str, body: bytes) -> bool:
    """Compare the readings; whether the door understood. What it does not understand, it leaves to the other."""
    fast, slow = read_fast(kind, body), read_slowly(kind, body)
    if fast is None:
        return False
    assert slow is not None, body
    fast = LEFT_OUT[kind] | fast
    for read in (fast, slow):
        if read.get("cost_estimate") is not None:
            read["cost_estimate"] = f"{float(str(read['cost_estimate'])):.6f}"
    assert canonical(fast) == canonical(slow), body
    return True


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
def test_a_plain_body_is_understood_at_the_door_just_as_behind_it(kind: str) -> None:
    for changes in PLAIN_BODIES[kind]:
        assert same(kind, body_of(kind, changes)), changes


@pytest.mark.parametrize("kind", BODIES)
def test_what_the_door_understands_of_odd_bodies_is_what_is_meant(kind: str) -> None:
    understood = [changes for changes in ODD_BODIES[kind] if same(kind, body_of(kind, changes))]

    assert understood == [], "these go to pydantic, which says what is wrong or finds it right"
    for body in RAW:
        same(kind, body)


def test_each_field_is_understood_under_each_of_its_names() -> None:
    for model, sent in ((HoldBody, HoldSent), (RenewBody, RenewSent), (CaptureBody, CaptureSent)):
        assert {field.encode_name for field in msgspec.structs.fields(sent)} == set(names_of(model))
    other_names = body_of("place", {"userId": "ann", "model_used": "m"}).replace(b'"user_id": "ann", ', b"")
    assert same("place", other_names)
    assert same("capture", body_of("capture", {"tokens_used": 2, "model": "m"}))


def wild_fields(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names_of(BODIES[kind])), wild_values, max_size=3)


wild_bodies = st.sampled_from(sorted(BODIES)).flatmap(lambda kind: st.tuples(st.just(kind), wild_fields(kind)))


@given(wild=wild_bodies, ascii_only=st.booleans())
@settings(max_examples=500)
def test_no_body_is_read_in_two_ways(wild: tuple[str, dict[str, Any]], ascii_only: bool) -> None:
    kind, changes = wild
    text = json.dumps({**(HOLD if kind == "place" else {}), **changes}, ensure_ascii=ascii_only)
    same(kind, text.encode("utf-8", "surrogatepass"))


# --- Answered two ways ---


class Two:
    """One world at the door and one behind it, alike in all: what is asked of both has one answer."""

    def __init__(self, at_the_door: TestClient, behind: TestClient, tills: tuple[Till, Till]) -> None:
        self.at_the_door = at_the_door
        self.behind = behind
        self.tills = tills
        self.users: list[str] = []
        self._count = 0
        self.join("ann")

    def next(self) -> str:
        self._count += 1
        return f"k{self._count}"

    def join(self, user: str) -> str:
        """Give a user tokens in each world."""
        for till in self.tills:
            till.grant_tokens(user, 10**9)
        self.users.append(user)
        return user

    def placed(self, user: str = "ann") -> str:
        """Return the id of a new hold, which each world has."""
        key = self.next()
        first, second = (till.hold(user, 5, "chat_conversation", idempotency_key=key).id for till in self.tills)
        assert first == second
        return first

    def ask(self, path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> int:
        """Return the status that both answer with."""
        at_the_door = told(self.at_the_door, method, path, body, headers)
        assert at_the_door == told(self.behind, method, path, body, headers), (method, path, body[:200], headers)
        return at_the_door[0]


@pytest.fixture
def two(client: TestClient, till: Till, empty_database: str, clock: Clock) -> Iterator[Two]:
    migrate(empty_database)
    with Till(empty_database, clock=clock) as other, behind_the_door(other) as behind:
        two = Two(client, behind, (till, other))
        yield two
        for user in two.users:
            first, second = (each.holds(user, include_closed=True) for each in two.tills)
            assert first == second
            assert [facts_of(entry) for entry in till.history(user, limit=10_000)] == [
                facts_of(entry) for entry in other.history(user, limit=10_000)
            ]
        assert other.reconcile().findings == ()


def facts_of(entry: Any) -> tuple[object, ...]:
    """An entry of a journal, but for the random id of a transaction's row."""
    detail = {name: value for name, value in entry.detail.items() if name != "id"}
    return entry.seq, entry.type, entry.tokens, entry.balance_before, entry.balance_after, detail


HEADERS: list[dict[str, str]] = [
    {}, JSON, {"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=utf-8"},
    {"Content-Type": "application/x+json"}, {"Content-Type": "nonsense"}, {**JSON, "Idempotency-Key": ""},
    {**JSON, "Idempotency-Key": "x" * 255}, {**JSON, "Idempotency-Key": "x" * 256},
    {**JSON, "Authorization": "Bearer no"}, {**JSON, "Authorization": f"bearer  {ADMIN_KEY} "},
]  # fmt: skip


def test_placing_is_answered_alike(two: Two) -> None:
    statuses = set()
    bodies = [body_of("place", changes) for changes in PLAIN_BODIES["place"] + ODD_BODIES["place"]] + RAW
    bodies += [body_of("place", changes) for changes, _, _ in BAD_HOLDS]
    bodies += [body_of("place", changes) for changes in ({"user_id": "nobody"}, {"tokens": 10**10})]
    for body in bodies:
        headers = {"Idempotency-Key": two.next(), **JSON}
        statuses |= {two.ask(door.HOLDS, body, headers) for _ in range(2)}  # The first answer, and the repeat.
    for headers in HEADERS:
        statuses.add(two.ask(door.HOLDS, body_of("place", {}), {"Idempotency-Key": two.next(), **headers}))
    statuses.add(two.ask(door.HOLDS, body_of("place", {}), JSON))
    statuses.add(two.ask(door.HOLDS, body_of("place", {"tokens": 6}), {**JSON, "Idempotency-Key": "x" * 255}))
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
        statuses.add(two.ask(door.HOLDS, body_of("place", {}), {"Idempotency-Key": "m", **JSON}, method))

    assert statuses == {201, 400, 401, 402, 404, 405, 409, 422}


NO_BODY = b""


def test_what_is_about_a_hold_is_answered_alike(two: Two) -> None:
    statuses = set()
    for act in ("renew", "capture", "void"):
        bodies = [NO_BODY, *RAW]
        for kind in ("renew", "capture"):  # Each also takes what is meant for the other.
            bodies += [body_of(kind, changes) for changes in PLAIN_BODIES[kind] + ODD_BODIES[kind]]
        bodies += [body_of("capture", changes) for changes, _ in BAD_CAPTURES]
        for body in bodies:
            path = f"{door.HOLDS}/{two.placed()}/{act}"
            statuses |= {two.ask(path, body, JSON) for _ in range(2)}
        for headers in HEADERS:
            for body in (NO_BODY, b"{}"):
                path = f"{door.HOLDS}/{two.placed()}/{act}"
                statuses |= {two.ask(path, body, headers) for _ in range(2)}
        for hold in ("x", "hold_" + "0" * 64, two.placed().upper(), two.placed()[:-1], "%68" + two.placed()[1:], "%00"):
            statuses |= {two.ask(f"{door.HOLDS}/{hold}/{act}", body, JSON) for body in (NO_BODY, b"{")}
        for path in (f"/v1/holds//{act}", f"/v1/holds/{two.placed()}/{act}/", f"/v1/holds/{two.placed()}/x/{act}"):
            statuses.add(two.ask(path, NO_BODY, {}))
        statuses.add(two.ask(f"{door.HOLDS}/{two.placed()}/{act}", NO_BODY, {}, "PUT"))

    assert statuses == {200, 400, 401, 404, 405, 409, 422}


def test_what_has_ended_is_answered_alike(two: Two, clock: Clock) -> None:
    captured, voided, expired = two.placed(), two.placed(), two.placed()
    for till in two.tills:
        till.capture("ann", captured, 3)
        till.void("ann", voided)
    clock.advance(minutes=10)

    statuses = [two.ask(f"{door.HOLDS}/{hold}/renew", NO_BODY, {}) for hold in (captured, voided, expired)]
    statuses += [two.ask(f"{door.HOLDS}/{hold}/void", NO_BODY, {}) for hold in (captured, voided, expired)]
    statuses += [two.ask(f"{door.HOLDS}/{hold}/capture", NO_BODY, {}) for hold in (captured, voided, expired)]
    statuses.append(two.ask(f"{door.HOLDS}/{two.placed()}/capture", b'{"tokens": 9}', {**JSON, "Idempotency-Key": "k"}))
    statuses.append(two.ask(f"{door.HOLDS}/{two.placed()}/capture", b'{"tokens": 9}', {**JSON, "Idempotency-Key": "k"}))
    big = json.dumps({"tokens": 10**10, "on_insufficient": "refuse"}).encode()
    statuses.append(two.ask(f"{door.HOLDS}/{two.placed()}/capture", big, JSON))

    assert statuses == [409, 409, 409, 409, 200, 200, 200, 409, 200, 200, 409, 402]


@given(
    placing=wild_fields("place"), renewing=wild_fields("renew"), capturing=wild_fields("capture"), voiding=json_values
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_wild_body_is_answered_in_two_ways(
    two: Two, placing: dict[str, Any], renewing: dict[str, Any], capturing: dict[str, Any], voiding: object
) -> None:
    key = two.next()
    two.ask(door.HOLDS, json.dumps({**HOLD, **placing}).encode(), {"Idempotency-Key": key, **JSON})
    for act, body in (("renew", renewing), ("capture", capturing), ("void", voiding)):
        user = two.join(f"{act} {key}")  # Of its own: a capture may leave a debt.
        two.ask(f"{door.HOLDS}/{two.placed(user)}/{act}", json.dumps(body).encode(), JSON)


# --- At the door ---

PASSED_ON = 299


@pytest.fixture
def at_the_door(till: Till) -> Iterator[TestClient]:
    """The door alone: what it is not sure of comes out as 299."""

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=PASSED_ON)(scope, receive, send)

    app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=())
    app.hot = door.HotRoutes(
        till, admin_key=AdminKey(ADMIN_KEY), webhook_secrets=(), new_id=Uuid7s(), rest=rest, body_seconds=BODY_SECONDS
    )
    with TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        yield client


def test_what_is_surely_right_never_meets_the_framework(at_the_door: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    placed = at_the_door.post(door.HOLDS, json=HOLD, headers={"Idempotency-Key": "k"})
    path = f"{door.HOLDS}/{placed.json()['id']}"

    answers = [at_the_door.post(f"{path}/{act}") for act in ("renew", "capture", "capture")]
    answers.append(at_the_door.post(f"{path}/capture", json={"tokens": 4, "input_tokens": 3, "model_used": "m"}))
    answers.append(at_the_door.post(door.HOLDS, json=HOLD, headers={"Idempotency-Key": "k"}))
    other = till.hold("ann", 5, "chat_conversation").id
    counted = {"input_tokens": 3, "output_tokens": 1, "action_type": "chat_conversation", "model": "m"}
    answers.append(at_the_door.post(f"{door.HOLDS}/{other}/capture", json=counted, headers={"Idempotency-Key": "c"}))
    answers.append(at_the_door.post(f"{door.HOLDS}/{other}/void"))

    assert placed.status_code == 201
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 201, 200, 409]
    assert till.balance("ann").balance == 91


def test_what_must_be_read_for_goes_on_to_the_framework(at_the_door: TestClient, till: Till, clock: Clock) -> None:
    """It reads in a thread: the loop, and all who wait for it, must not wait for the database."""
    till.grant_tokens("ann", 100)
    hold = till.hold("ann", 5, "chat_conversation").id
    capture = f"{door.HOLDS}/{hold}/capture"

    bodies: list[Asks] = [
        {"input_tokens": 1},
        {"output_tokens": 0},
        {"pools": {}},
        {"action_type": "none"},
        {"input_tokens": 1, "action_type": "chat_conversation"},
    ]
    answers = [at_the_door.post(capture, json=body) for body in bodies]
    answers.append(at_the_door.post(door.HOLDS, json={**HOLD, "action_type": "none"}, headers={"Idempotency-Key": "k"}))

    clock.advance(seconds=6)  # Somebody may have edited prices.
    answers.append(
        at_the_door.post(capture, json={"tokens": 1, "pools": {"input_uncached": 1}, "model_used": "gpt-4o"})
    )

    assert [answer.status_code for answer in answers] == [PASSED_ON] * 7
    assert till.find_hold("ann", hold).state == "placed"


def test_an_odd_number_in_a_holds_metadata_is_answered_in_full(at_the_door: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    metadata = {"digits": 10**4_000, "half": 0.1, "é": "😀", "deep": [[{"a": None}]]}

    answer = at_the_door.post(door.HOLDS, json={**HOLD, "metadata": metadata}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["metadata"]) == (201, metadata)
