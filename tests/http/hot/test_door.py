"""What the hot routes are sent is read in one way, however it is written, and answered at the door of the app."""

import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from tests.http.conftest import ADMIN_KEY, row_counts
from tokentill import Till
from tokentill.core.keys import canonical
from tokentill.errors import InvalidRequest, TillError
from tokentill.http.app import create_app
from tokentill.http.hot import door
from tokentill.http.hot.sent import USAGE, Reader, UsageBody, parsed

JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {"user_id": "ann", "action_type": "chat_conversation", "tokens": 1}

# --- What is sent, read in one go and field by field ---


def by_field(reader: Reader[Any], body: bytes) -> Any:
    """As Python's own JSON reader has it, field by field: the reference."""
    try:
        return reader.judge(parsed(body))
    except TillError:
        return None


def meant(body: object) -> str:
    """What a body says, as a text: 1, 1.0 and true differ, costs are compared as the till rounds them."""
    said = msgspec.structs.asdict(body)  # type: ignore[arg-type]  # a Struct
    if said.get("cost_estimate") is not None:
        cost = Decimal(str(said["cost_estimate"]))
        said["cost_estimate"] = f"{cost:.6f}" if cost.is_finite() else str(cost)
    if said.get("occurred_at") is not None:
        said["occurred_at"] = said["occurred_at"].astimezone(UTC)
    return canonical(said)


def same(body: bytes, reader: Reader[Any] = USAGE) -> bool:
    """Compare the readings; whether it was understood at once."""
    fast, slow = reader.at_once(body), by_field(reader, body)
    if fast is None:
        return False
    assert slow is not None, body
    assert meant(fast) == meant(slow), body
    return True


def body_with(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


PLAIN: list[dict[str, Any]] = [
    {}, {"tokens": None}, {"tokens": -1}, {"tokens": 10**300}, {"input_tokens": 1, "output_tokens": 2},
    {"model_used": "m"},
    {"model_used": None}, {"cost_estimate": 0.1}, {"cost_estimate": 5}, {"cost_estimate": "0.250"},
    {"cost_estimate": 1e2}, {"cost_estimate": 123456.789012}, {"cost_estimate": None}, {"success": False},
    {"cost_estimate": "NaN"}, {"cost_estimate": "sNaN"}, {"cost_estimate": -1}, {"cost_estimate": 10**400},
    {"estimated": True},
    {"error_message": "a\x00\n"}, {"metadata": {"a": [1, 2.5, None, {"b": 10**30}], "é": "😀"}}, {"metadata": None},
    {"occurred_at": "2026-01-05T12:00:00Z"}, {"occurred_at": "2026-01-05T12:00:00.123456+14:00"},
    {"occurred_at": None}, {"on_insufficient": "record"}, {"pools": {"input_uncached": 1}}, {"pools": {"x": -1}},
    {"provider_request_id": "r"}, {"user_id": ""}, {"provider": "openai"}, {"service_tier": "batch"},
    {"response": {"usage": {"prompt_tokens": 1}}}, {"usage_note": "cut off"}, {"raw_usage": {"a": [-1, 0.5, None]}},
]  # fmt: skip

ODD: list[dict[str, Any]] = [
    {"userId": "bob"}, {"model": "m"}, {"tokens_used": 2}, {"model": "m", "model_used": "m"}, {"tokns": 1},
    {"tokens": 1.0},
    {"tokens": True}, {"tokens": "1"}, {"cost_estimate": True},
    {"cost_estimate": float("nan")}, {"cost_estimate": float("inf")},  {"cost_estimate": "x"},
    {"metadata": {"a": float("inf")}}, {"metadata": []}, {"metadata": {"a": "\ud800"}},
    {"user_id": "\udfff"}, {"user_id": None}, {"user_id": 1}, {"success": 1}, {"success": None}, {"estimated": 1},
    {"on_insufficient": None}, {"on_insufficient": "Refuse"}, {"pools": {"x": 1.5}}, {"pools": {"x": None}},
    {"occurred_at": "2026-01-05 12:00Z"}, {"occurred_at": "2026-01-05T12:00:00"}, {"occurred_at": 0},
    {"occurred_at": "2026-01-05T24:00:00Z"}, {"occurred_at": "2026-01-05T23:59:60Z"}, {"occurred_at": "soon"},
    {"occurred_at": "0001-01-01T00:00:00+14:00"}, {"occurred_at": "9999-12-31T23:59:59-01:00"},
    {"occurred_at": "2026-01-05T12:00:00.1234567Z"}, {"occurred_at": "2026-02-30T12:00:00Z"}, {"idempotency_key": "k"},
]  # fmt: skip

RAW = [
    b"", b"{}", b"[]", b"null", b'"x"', b"{", b"\xff", b"nul", b'{"user_id": "\xff"}', b"[" * 100_000,
    b'{"metadata":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, b'{"tokens": 1' + b"0" * 5_000 + b"}",
    body_with()[:-1] + b', "tokens": 2}', body_with()[:-1] + b', "cost_estimate": 1.' + b"0" * 5_000 + b"}",
    body_with() + b" x",
    b"\xef\xbb\xbf" + body_with(),
    body_with().decode().encode("utf-16"), body_with()[:-1] + b', "metadata": {"a": 1, "a": 2, "b": -0, "c": 1e-400}}',
    body_with()[:-1] + b', "metadata": {"a": 01}}', body_with()[:-1] + b', "error_message": "a\tb"}',
    body_with().replace(b"user_id", b"user\\u005fid"), body_with()[:-1] + b', "user_id": "bob"}',
    body_with()[:-1] + b', "metadata": {"a": 1' + b"0" * 5_000 + b"}}",
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def names_of(kind: type[msgspec.Struct], other_names: Mapping[str, str]) -> list[str]:
    """Every name that a field of the body may be sent under."""
    return sorted({*kind.__struct_fields__, *other_names})


NAMES = names_of(UsageBody, {"userId": "", "tokens_used": "", "model": ""})
wild_values = (
    json_values
    | st.integers(-1, 2**64)
    | st.datetimes().map(lambda at: f"{at.isoformat()}Z")
    | st.decimals(0, 10**6).map(str)
    | st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", fullmatch=True)
)
wild_fields = st.dictionaries(st.sampled_from(NAMES), wild_values, max_size=3)


def test_a_plain_body_is_understood_at_once_and_rightly() -> None:
    for changes in PLAIN:
        assert same(body_with(**changes)), changes


def test_what_is_understood_at_once_of_odd_bodies_is_what_is_meant() -> None:
    understood = [changes for changes in ODD if same(body_with(**changes))]

    assert understood == [], "these are looked at field by field, and found right or said what is wrong with"
    for body in RAW:
        same(body)


@given(changes=wild_fields, ascii_only=st.booleans())
@settings(max_examples=500)
def test_no_body_is_read_in_two_ways(changes: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps({**GOOD, **changes}, ensure_ascii=ascii_only)
    same(text.encode("utf-8", "surrogatepass"))


@given(
    text=st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
    | st.datetimes().map(lambda at: f"{at.replace(microsecond=0).isoformat()}.9999999Z")
    | st.text(max_size=30)
)
def test_a_time_is_the_same_moment_either_way(text: str) -> None:
    body = body_with(occurred_at=text)
    slow = by_field(USAGE, body)

    if slow is None:
        with pytest.raises(InvalidRequest, match="occurred_at"):
            USAGE.read(body)
    else:
        at = USAGE.read(body).occurred_at
        assert at == slow.occurred_at and at is not None
        assert slow.occurred_at is not None and slow.occurred_at.tzinfo is UTC


def test_a_time_is_cut_off_at_the_microsecond_and_never_rounded() -> None:
    """A retry of a body that an older version has read must have the same hash."""
    for text, cut in (("00.1234567", 123_456), ("00.9999999", 999_999), ("00.123456789", 123_456)):
        found = USAGE.read(body_with(occurred_at=f"2026-01-05T12:00:{text}Z")).occurred_at
        assert found == datetime(2026, 1, 5, 12, 0, 0, cut, tzinfo=UTC), text


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        USAGE.read(b'{"tokens": "1", "tokens_used": 2, "pools": {"a": 1, "b": 1.5}, "success": null, "x": 1}')

    assert caught.value.fields["errors"] == [
        {"field": "user_id", "message": "is missing"},
        {"field": "action_type", "message": "is missing"},
        {"field": "tokens", "message": "input should be a valid integer"},
        {"field": "pools.b", "message": "input should be a valid integer"},
        {"field": "success", "message": "input should be a valid boolean"},
        {"field": "tokens_used", "message": "is not known here"},
        {"field": "x", "message": "is not known here"},
    ]


def test_each_field_has_its_other_name_and_not_both_at_once() -> None:
    """`model` is what providers call it, `userId` what a JSON API in camel case does."""
    plain = USAGE.read(b'{"user_id": "ann", "action_type": "a", "tokens": 1, "model_used": "m"}')

    assert USAGE.read(b'{"userId": "ann", "action_type": "a", "tokens_used": 1, "model": "m"}') == plain
    for both in ({"userId": "bob"}, {"tokens_used": 1}, {"model": "m", "model_used": "m"}):
        with pytest.raises(InvalidRequest, match="is not known here"):
            USAGE.read(body_with(**both))


def test_a_cost_of_five_thousand_digits_is_refused_as_any_other(client: TestClient, till: Till) -> None:
    body = body_with()[:-1] + b', "cost_estimate": 1' + b"0" * 5_000 + b"}"

    answer = client.post("/v1/usage", content=body, headers={"Idempotency-Key": "k", **JSON})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_amount")


def test_a_cost_keeps_all_its_digits(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    body = json.dumps(GOOD)[:-1] + ', "cost_estimate": 123456789012.123457}'  # A float has 16 digits.

    assert client.post("/v1/usage", content=body, headers={"Idempotency-Key": "k", **JSON}).status_code == 201

    assert till.balance("ann").lifetime_cost == Decimal("123456789012.123457")


# --- At the door ---

OF_A_HOLD = [f"{door.HOLDS}/{hold}/{act}" for hold in ("hold_" + "0" * 64, "x") for act in ("renew", "capture", "void")]


def test_the_key_is_checked_before_the_body_is_read(app: FastAPI, till: Till) -> None:
    """Nothing of what a stranger sends is parsed, or kept."""
    before = row_counts(till.url)
    with TestClient(app) as client:
        for path in (door.USAGE, door.BATCH, door.HOLDS, *OF_A_HOLD):
            for body in (b"{", b"[" * 100_000, b" " * 2**21, b" " * 2**25):
                answer = client.post(path, content=body, headers={"Idempotency-Key": "k", **JSON})
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["www-authenticate"] == 'Bearer realm="tokentill"'
    assert row_counts(till.url) == before


Asgi = Callable[[Any, Any, Any], Awaitable[None]]


async def asked(app: Asgi, path: str, arriving: list[Message]) -> list[Message]:
    """Ask as a server does; after the last message nothing comes any more, and the line stays open."""
    import asyncio

    sent: list[Message] = []

    async def receive() -> Message:
        if arriving:
            return arriving.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer " + ADMIN_KEY.encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
        "raw_path": path.encode(), "root_path": "", "query_string": b"", "scheme": "http", "headers": headers,
        "server": ("test", 80), "client": ("test", 1), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    "path", [door.USAGE, door.BATCH, door.HOLDS, *OF_A_HOLD[:3], "/api/stripe/webhook", "/v1/nowhere"]
)
def test_a_body_that_does_not_arrive_is_given_up(till: Till, path: str) -> None:
    import asyncio

    app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(), body_seconds=0)
    sent = asyncio.run(asked(app, path, [{"type": "http.request", "body": b"{", "more_body": True}]))

    start, body = sent
    assert start["status"] == 408
    assert json.loads(body["body"])["code"] == "body_too_slow"
    # What comes of it later must not be taken for the next request.
    assert (b"connection", b"close") in start["headers"]


def test_a_sender_who_leaves_in_the_middle_is_not_answered_and_nothing_is_done(till: Till) -> None:
    import asyncio

    till.grant_tokens("ann", 10)
    hold = till.hold("ann", 1, "chat_conversation").id
    before = row_counts(till.url)
    app = create_app(till, admin_key=ADMIN_KEY, webhook_secrets=())
    for path in (door.USAGE, door.BATCH, door.HOLDS, f"{door.HOLDS}/{hold}/capture", f"{door.HOLDS}/{hold}/void"):
        arriving: list[Message] = [
            {"type": "http.request", "body": json.dumps(GOOD).encode(), "more_body": True},
            {"type": "http.disconnect"},
        ]
        assert asyncio.run(asked(app, path, arriving)) == []
    assert row_counts(till.url) == before
    assert till.find_hold("ann", hold).state == "placed"


def test_a_body_in_pieces_is_one_body(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 10)
    body = json.dumps(GOOD).encode()

    answer = client.post(
        "/v1/usage",
        content=(body[at : at + 7] for at in range(0, len(body), 7)),
        headers={"Idempotency-Key": "k", **JSON},
    )

    assert (answer.status_code, answer.json()["balance_after"]) == (201, 9)


def test_the_hot_routes_are_there_where_the_app_is_mounted(till: Till) -> None:
    till.grant_tokens("ann", 10)
    host = FastAPI()
    host.mount("/tokens", create_app(till, admin_key=ADMIN_KEY, webhook_secrets=()))
    event = {**GOOD, "idempotency_key": "e"}

    with TestClient(host, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        single = client.post("/tokens/v1/usage", json=GOOD, headers={"Idempotency-Key": "k"})
        batch = client.post("/tokens/v1/usage/batch", json={"events": [event]})
        hold = client.post("/tokens/v1/holds", json=GOOD, headers={"Idempotency-Key": "h"})
        captured = client.post(f"/tokens/v1/holds/{hold.json()['id']}/capture")

    assert (single.status_code, batch.status_code, batch.json()["accepted"]) == (201, 200, 1)
    assert (hold.status_code, captured.status_code) == (201, 200)
    assert till.balance("ann").balance == 7


def test_a_bug_at_the_door_gives_nothing_away(
    client: TestClient, till: Till, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(till, "submit", broken)
    answer = client.post("/v1/usage", json=GOOD, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "swordfish" not in answer.text
    assert "swordfish" in caplog.text and answer.json()["request_id"] in caplog.text


def test_fifty_callers_with_one_key_have_one_answer(client: TestClient, till: Till) -> None:
    till.grant_tokens("ann", 100)
    together = threading.Barrier(50)

    def ask(_: int) -> tuple[int, str]:
        together.wait()
        answer = client.post("/v1/usage", json=GOOD, headers={"Idempotency-Key": "one"})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(50) as callers:
        answers = set(callers.map(ask, range(50)))

    assert len(answers) == 1 and next(iter(answers))[0] == 201
    assert (till.balance("ann").balance, till.balance("ann").seq) == (99, 2)
