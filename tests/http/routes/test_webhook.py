"""`POST /api/stripe/webhook`: what may come from Stripe is believed, what may not is refused and not stored."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from stripe import WebhookSignature

from tests.conftest import START, Clock
from tests.http.conftest import SECRET, row_counts, told
from tokentill import Till
from tokentill.errors import BadSignature, MalformedBody, SwitchedOff
from tokentill.http.app import TillApp, create_app
from tokentill.samples.stripe import checkout_pack
from tokentill.stripe.webhook import verify

PATH = "/api/stripe/webhook"
PACK = json.dumps(checkout_pack(session_id="cs_test_1", at=START, user_id="ann")).encode()


def signed(payload: bytes, *, at: datetime = START, secret: str = SECRET) -> str:
    text = payload.decode("utf-8", "replace")
    return str(WebhookSignature.generate_signature_header(text, secret, int(at.timestamp())))


def post(client: TestClient, payload: bytes, header: str | None) -> httpx2.Response:
    headers = [] if header is None else [(b"Stripe-Signature", header.encode())]
    return client.post(PATH, content=payload, headers=headers)


def test_a_paid_pack_becomes_tokens_once(client: TestClient, till: Till) -> None:
    answers = [post(client, PACK, signed(PACK)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["state"] == "handled"
    assert answers[0].json()["detail"] == "pack power for ann, $99.00"
    assert till.balance("ann").balance == 2_000_000


def test_each_of_several_secrets_is_good(client: TestClient) -> None:
    assert post(client, PACK, signed(PACK, secret="whsec_older")).status_code == 200


def test_what_is_not_acted_on_is_stored_all_the_same(client: TestClient) -> None:
    unknown = b'{"id": "evt_1", "type": "moon.risen", "created": 1767614400}'
    unclear = b'{"id": "evt_2", "type": "invoice.paid", "created": 1767614400}'

    ignored, failed = post(client, unknown, signed(unknown)), post(client, unclear, signed(unclear))

    assert (ignored.status_code, ignored.json()["state"]) == (200, "ignored")
    assert (failed.status_code, failed.json()["state"]) == (200, "failed")


def test_what_stripe_did_not_sign_now_is_refused_and_not_stored(client: TestClient, till: Till) -> None:
    good = signed(PACK)
    at = int(START.timestamp())
    bad = {
        "missing": None,
        "empty": "",
        "nonsense": "hello",
        "no time": good.split(",")[1],
        "no signature": f"t={at}",
        "another secret": signed(PACK, secret="whsec_forged"),
        "empty secret": signed(PACK, secret=""),
        "two times": f"t={at - 1},{good}",
        "time changed": good.replace(f"t={at}", f"t={at + 1}"),
        "time no number": "t=x,v1=00",
        "time in other digits": "t=١٢٣,v1=00",
        "signature not ASCII": f"t={at},v1=é",
        "only v0": good.replace("v1=", "v0="),
        "too old": signed(PACK, at=START - timedelta(seconds=301)),
        "too far ahead": signed(PACK, at=START + timedelta(seconds=301)),
        "far ahead": signed(PACK, at=START + timedelta(days=3650)),
    }
    before = row_counts(till.url)

    for name, header in bad.items():
        answer = post(client, PACK, header)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature"), name
    written_anew = json.dumps(json.loads(PACK), indent=1).encode()
    assert post(client, written_anew, good).json()["code"] == "bad_signature"
    assert post(client, PACK + b" ", good).json()["code"] == "bad_signature"

    assert row_counts(till.url) == before


def test_300_seconds_either_way_are_allowed(client: TestClient) -> None:
    for seconds in (-300, 300):
        assert post(client, PACK, signed(PACK, at=START + timedelta(seconds=seconds))).status_code == 200


MALFORMED = {
    b"": "is not JSON",
    b"hello": "is not JSON",
    b"[]": "not an object",
    b'"evt_1"': "not an object",
    b"{}": "no Stripe event",
    b'{"id": "", "type": "x"}': "no Stripe event",
    b'{"id": 1, "type": "x"}': "no Stripe event",
    b'{"id": "evt_1"}': "no Stripe event",
    b'{"id": "%s", "type": "x"}' % (b"e" * 256): "no Stripe event",
    b'{"id": "evt_1", "type": "x", "data": "\\u0000"}': "holds a NUL",
    b'{"id": "evt_1", "type": "x", "\\u0000": 1}': "holds a NUL",
    b'{"id": "evt_1", "type": "x", "data": ["\\ud800"]}': "holds a NUL or half of a surrogate pair",
    b'{"id": "evt_1", "type": "x", "data": NaN}': "no JSON number",
    b'{"id": "evt_1", "type": "x", "data": 1e999}': "out of range",
    b'{"id": "evt_1", "type": "x", "data": 1%s}' % (b"0" * 5000): "thousands of digits",
    b'{"id": "evt_1", "type": "x", "data": %s%s}' % (b"[" * 500, b"]" * 500): "nested too deeply",
    b'{"id": "evt_1", "type": "x", "data": %s' % (b"[" * 200_000): "nested too deeply",
}


def test_what_was_signed_but_is_no_event_is_refused_and_not_stored(client: TestClient, till: Till) -> None:
    before = row_counts(till.url)

    for payload, words in MALFORMED.items():
        answer = post(client, payload, signed(payload))
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body"), payload[:60]
        assert words in answer.json()["detail"], payload[:60]

    assert row_counts(till.url) == before


def test_a_body_that_is_no_utf_8_was_not_signed_by_stripe(client: TestClient) -> None:
    assert post(client, b"\xff", signed(b"\xff")).json()["code"] == "bad_signature"


@pytest.mark.parametrize("secrets", [(), ("",), (" ",)])
def test_without_a_secret_the_webhook_is_off(till: Till, secrets: tuple[str, ...]) -> None:
    with TestClient(create_app(till, admin_key=None, webhook_secrets=secrets)) as client:
        answer = post(client, PACK, signed(PACK, secret=""))

    assert (answer.status_code, answer.json()["code"]) == (503, "switched_off")
    assert "TILL_STRIPE_WEBHOOK_SECRET" in answer.json()["detail"]


def test_the_webhook_needs_no_admin_key(till: Till) -> None:
    with TestClient(create_app(till, admin_key=None, webhook_secrets=(SECRET,))) as client:
        assert post(client, PACK, signed(PACK)).status_code == 200


def test_verifying_says_what_is_wrong() -> None:
    with pytest.raises(SwitchedOff):
        verify(PACK, signed(PACK), secrets=[], at=START)
    with pytest.raises(BadSignature, match="301 s ago"):
        verify(PACK, signed(PACK, at=START - timedelta(seconds=301)), secrets=[SECRET], at=START)
    with pytest.raises(BadSignature, match="301 s in the future"):
        verify(PACK, signed(PACK, at=START + timedelta(seconds=301)), secrets=[SECRET], at=START)
    with pytest.raises(MalformedBody, match="line 1, column 1"):
        verify(b"hello", signed(b"hello"), secrets=[SECRET], at=START)
    assert verify(PACK, signed(PACK), secrets=["", SECRET], at=START) == json.loads(PACK)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A real server on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_what_is_stored_is_answered_with_200_though_it_could_not_be_acted_on(client: TestClient, till: Till) -> None:
    """An outage between the two: Stripe need not send it again, for we have it."""
    till.context.engine.close()

    answer = post(client, PACK, signed(PACK))

    assert (answer.status_code, answer.json()["state"]) == (200, "received")
    assert till.stripe_event(answer.json()["event_id"]).state == "received"


def test_what_could_not_be_stored_is_answered_with_503_and_is_not_there(database: str, clock: Clock) -> None:
    with Till(database, clock=clock) as till:
        till.context.pool.close()
        with TestClient(create_app(till, admin_key=None, webhook_secrets=(SECRET,))) as client:
            answer = post(client, PACK, signed(PACK))

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert row_counts(database)["stripe_events"] == 0


def test_at_the_door_and_behind_it_the_webhook_answers_the_same(app: FastAPI, client: TestClient, till: Till) -> None:
    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await TillApp.answer_rest(cast("TillApp", app), scope, receive, send)

    asked: list[tuple[bytes, dict[str, str]]] = [
        (PACK, {"Stripe-Signature": signed(PACK)}),
        (PACK, {"Stripe-Signature": signed(PACK, secret="whsec_forged")}),
        (PACK, {}),
        (b"{}", {"Stripe-Signature": signed(b"{}")}),
        (b" " * (2**20 + 1), {"Stripe-Signature": "any"}),
    ]
    for body, headers in asked:
        assert told(client, "POST", PATH, body, headers) == told(TestClient(behind), "POST", PATH, body, headers)
    assert told(client, "GET", PATH, b"", {})[0] == 405


def test_a_secret_that_was_rotated_away_is_good_no_more(till: Till) -> None:
    old, new = signed(PACK, secret="whsec_old"), signed(PACK, secret="whsec_new")
    both = f"{old},{new.split(',')[1]}"  # As Stripe signs while the old secret has not expired.
    for secrets, header, status in [
        (("whsec_old",), old, 200),
        (("whsec_old", "whsec_new"), old, 200),
        (("whsec_old", "whsec_new"), new, 200),
        (("whsec_new",), both, 200),
        (("whsec_new",), old, 400),
    ]:
        with TestClient(create_app(till, admin_key=None, webhook_secrets=secrets)) as client:
            assert post(client, PACK, header).status_code == status, (secrets, header)


def test_an_event_in_escapes_is_looked_through_before_it_is_stored(client: TestClient, till: Till) -> None:
    fine = b'{"id": "evt_e", "type": "x", "data": "\\ud83d\\ude00 and \\u00e9"}'
    deep = b'{"id": "evt_d", "type": "x", "data": [%s]}' % b",".join([b"{}"] * 200)

    assert [post(client, body, signed(body)).status_code for body in (fine, deep)] == [200, 200]
    assert till.stripe_event("evt_e").payload["data"] == "\U0001f600 and \u00e9"


def test_over_a_real_connection_a_signed_event_becomes_tokens(app: FastAPI, till: Till, clock: Clock) -> None:
    clock.now = START + timedelta(seconds=2)
    with serving(app) as url, httpx2.Client(base_url=url) as client:
        answer = client.post(PATH, content=PACK, headers={"Stripe-Signature": signed(PACK)})
        two_mib = client.post(PATH, content=b" " * 2**21)
        in_chunks = client.post(PATH, content=(b" " * 2**16 for _ in range(32)))
        health = client.get("/healthz")

    assert (answer.status_code, answer.json()["state"]) == (200, "handled")
    assert (two_mib.status_code, two_mib.json()["code"]) == (413, "body_too_large")
    assert (in_chunks.status_code, in_chunks.json()["code"]) == (413, "body_too_large")
    assert health.status_code == 200
    assert till.balance("ann").balance == 2_000_000
