"""The client over HTTP, against a till that is really served: what it makes of answers, and when it asks again."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

from tests.meter.serving import KEY, served, served_till
from tokentill import Till, errors
from tokentill.client import AsyncTillClient, IdempotencyConflict, InsufficientTokens, TillClient, wire
from tokentill.client import errors as client_errors
from tokentill.client.errors import AccountNotFound, HoldClosed, TillError, Unauthorized, Unavailable
from tokentill.core.prices.actions import OUTPUT_TOKENS_USUAL


@pytest.fixture
def url(till: Till) -> Iterator[str]:
    till.grant_tokens("auth0|42", 1_000)
    with served_till(till) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[TillClient]:
    with TillClient(url, KEY) as client:
        yield client


def test_a_hold_is_placed_renewed_and_captured(client: TillClient) -> None:
    hold = client.hold("auth0|42", 400, "chat_conversation", ttl=60, model="gpt-5", metadata={"chat": 7})
    longer = client.renew("auth0|42", hold.hold_id, ttl=timedelta(minutes=5))
    receipt = client.capture("auth0|42", hold.hold_id, 250, model_used="gpt-5")

    assert (hold.user_id, hold.tokens, hold.model, hold.metadata) == ("auth0|42", 400, "gpt-5", {"chat": 7})
    assert longer.expires_at - hold.placed_at == timedelta(minutes=5)
    assert (receipt.tokens_used, receipt.balance_after) == (250, 750)
    assert client.balance("auth0|42").available == 750


def test_a_hold_is_voided(client: TillClient) -> None:
    hold = client.hold("auth0|42", 400, "chat_conversation")

    assert client.void("auth0|42", hold.hold_id).state == "voided"
    with pytest.raises(HoldClosed) as refused:
        client.capture("auth0|42", hold.hold_id)
    assert refused.value.fields["state"] == "voided"


def test_a_spend_happens_once_under_its_key(client: TillClient) -> None:
    first = client.spend("auth0|42", 100, "chat_conversation", idempotency_key="a")
    again = client.spend("auth0|42", 100, "chat_conversation", idempotency_key="a")

    assert (first.is_replay, again.is_replay, again.seq) == (False, True, first.seq)
    with pytest.raises(IdempotencyConflict):
        client.spend("auth0|42", 101, "chat_conversation", idempotency_key="a")
    assert client.balance("auth0|42").balance == 900


def test_a_refusal_has_its_name_and_its_facts(client: TillClient) -> None:
    with pytest.raises(InsufficientTokens) as refused:
        client.hold("auth0|42", 1_500, "chat_conversation")

    error = refused.value
    assert (error.requested_tokens, error.available_tokens, error.shortfall_tokens) == (1_500, 1_000, 500)
    assert (error.status, error.retries_taken) == (402, 0)
    assert str(error.request_id).startswith("req_")
    with pytest.raises(AccountNotFound):
        client.balance("nobody")


def test_a_wrong_key_is_told(url: str) -> None:
    with TillClient(url, "wrong") as client, pytest.raises(Unauthorized):
        client.balance("auth0|42")


def test_the_async_client_does_the_same(url: str) -> None:
    async def use() -> list[int]:
        async with AsyncTillClient(url, KEY) as client:
            hold = await client.hold("auth0|42", 400, "chat_conversation")
            await client.renew("auth0|42", hold.hold_id)
            receipt = await client.capture("auth0|42", hold.hold_id, pools={"input_uncached": 50, "output_text": 50})
            other = await client.hold("auth0|42", 400, "chat_conversation")
            await client.void("auth0|42", other.hold_id)
            spent = await client.spend("auth0|42", 100, "chat_conversation")
            with pytest.raises(InsufficientTokens):
                await client.hold("auth0|42", 4_000, "chat_conversation")
            return [receipt.tokens_used, spent.tokens_used, (await client.balance("auth0|42")).available]

    assert asyncio.run(use()) == [100, 100, 800]


class Flaky:
    """An app that is busy so many times, does what it is asked once in the background, and answers only then."""

    def __init__(self, app: Any, *, busy: int = 0, loses: int = 0) -> None:
        self.app, self.busy, self.loses, self.asked = app, busy, loses, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        if self.busy:
            self.busy -= 1
            await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"1")]})
            await send({"type": "http.response.body", "body": b""})
        elif self.loses:
            self.loses -= 1

            async def unheard(message: Any) -> None:
                """The answer is lost on its way: what was asked has happened."""

            await self.app(scope, receive, unheard)
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})
        else:
            await self.app(scope, receive, send)


def test_what_a_busy_till_refuses_is_asked_again_and_the_caller_is_told(till: Till) -> None:
    from tokentill.http.app import create_app

    till.grant_tokens("alice", 1_000)
    app, waited = Flaky(create_app(till, admin_key=KEY, webhook_secrets=()), busy=2), list[float]()
    with served(app) as url, TillClient(url, KEY, sleep=waited.append) as client:
        receipt = client.spend("alice", 10, "chat_conversation")

    assert (receipt.retries_taken, app.asked) == (2, 3)
    assert len(waited) == 2 and all(0.5 <= seconds <= 1 for seconds in waited)


def test_a_lost_answer_is_asked_for_again_and_nothing_happens_twice(till: Till) -> None:
    from tokentill.http.app import create_app

    till.grant_tokens("alice", 1_000)
    app = Flaky(create_app(till, admin_key=KEY, webhook_secrets=()), loses=1)
    with served(app) as url, TillClient(url, KEY, sleep=lambda _: None) as client:
        receipt = client.spend("alice", 10, "chat_conversation")
        app.loses = 1
        hold = client.hold("alice", 10, "chat_conversation")
        app.loses = 1
        captured = client.capture("alice", hold.hold_id, 7)

    assert (receipt.is_replay, hold.is_replay, captured.is_replay) == (True, True, True)
    assert till.balance("alice").balance == 983 and till.balance("alice").held == 0


def test_asking_again_comes_to_an_end(till: Till) -> None:
    app = Flaky(None, busy=100)
    with (
        served(app) as url,
        TillClient(url, KEY, sleep=lambda _: None) as client,
        pytest.raises(Unavailable) as gone,
    ):
        client.balance("alice")

    assert (gone.value.retries_taken, app.asked, gone.value.retryable) == (3, 4, True)


def test_a_till_that_is_not_there_is_unavailable() -> None:
    with TillClient("http://127.0.0.1:1", KEY, sleep=lambda _: None) as client, pytest.raises(Unavailable) as gone:
        client.balance("alice")

    assert (gone.value.status, gone.value.retries_taken) == (None, 3)


def test_every_error_of_the_library_has_its_twin() -> None:
    library, twins = errors_in(errors, errors.TillError), errors_in(client_errors, TillError)

    assert twins.keys() == library.keys()
    for name, kind in library.items():
        twin = twins[name]
        assert (twin.code, twin.retryable) == (kind.code, kind.retryable)
        assert [base.__name__ for base in twin.__mro__] == [base.__name__ for base in kind.__mro__]


def errors_in(module: ModuleType, root: type[Exception]) -> dict[str, Any]:
    return {name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, root)}


def test_a_code_that_is_not_known_yet_is_of_its_statuss_kind() -> None:
    error = wire.problem_of(409, {}, {"code": "brand_new", "detail": "new"}, retries_taken=0)

    assert type(error) is client_errors.Conflict and error.code == "brand_new"
    fallen = wire.problem_of(500, {}, {"code": "internal_error"}, retries_taken=0)
    assert (fallen.retryable, fallen.code) == (True, "internal_error")


def test_keys_that_the_client_makes_are_uuids_of_version_7() -> None:
    first, second = wire.uuid7(), wire.uuid7()

    assert first[14] == "7" and first[19] in "89ab" and first != second


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        ({}, 300),
        ({"charge": "metered", "multiplier": "1.5"}, 450),
        ({"charge": "metered", "multiplier": "0.001"}, 1),
        ({"charge": "fixed", "fixed_tokens": 25}, 25),
        ({"charge": "fixed", "fixed_tokens": 0}, 0),
        ({"multiplier": "nonsense"}, 300),
    ],
)
def test_what_a_call_would_take_follows_the_actions_rule(rule: dict[str, Any], tokens: int) -> None:
    assert wire.tokens_for(rule, 100, 200) == tokens
    assert wire.OUTPUT_TOKENS_USUAL == OUTPUT_TOKENS_USUAL


def test_an_action_says_what_its_calls_need_and_take(client: TillClient, url: str, till: Till) -> None:
    by_cost: dict[str, Any] = {"charge": "cost_plus", "markup": "1.5", "cents_per_million_tokens": 5_000}
    till.set_action("essay", model="gpt-5", temperature=0.7, system_prompt="Be kind", **by_cost, created_by="ann")
    till.set_action("chat_conversation", multiplier=2, model_multipliers={"o3": "2.5"}, created_by="ann")

    essay = client.action("essay")
    assert (essay.model, essay.temperature, essay.system_prompt, essay.is_active) == ("gpt-5", 0.7, "Be kind", True)
    assert (essay.charge, essay.markup, essay.multiplier) == ("cost_plus", Decimal("1.5"), Decimal(1))
    with pytest.raises(client_errors.ActionNotFound):
        client.action("no_such")

    # 100 and 200 are asked for as 104 and 208: an eighth more at most, so that calls of one size are asked for once.
    assert client.tokens_for("chat_conversation", 100, 200) == 2 * (104 + 208)
    assert client.tokens_for("chat_conversation", 100, 200, model="openai/o3") == 780
    assert client.tokens_for("image_generation", 100, 200) == 25

    async def ask() -> tuple[wire.Action, int, int]:
        async with AsyncTillClient(url, KEY) as other:
            tracked = await other.track_token_usage("auth0|42", "chat_conversation", 5_000)
            return (
                await other.action("essay"),
                await other.tokens_for("chat_conversation", 1, 2, model="o3"),
                tracked.balance_after,
            )

    assert asyncio.run(ask()) == (essay, 8, 1_000 - 10_000)
    assert client.track_token_usage("auth0|42", "chat_conversation", 1).balance_after == -9_002
