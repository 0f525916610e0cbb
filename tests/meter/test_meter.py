"""The meter: one hold before the call, one capture after it, whatever happens in between; with every kind of till."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Clock
from tests.meter.conftest import ACTION, USER, calls, only_call
from tests.meter.serving import KEY, served_till
from tokentill import InvalidRequest, Till, client, errors
from tokentill.client import AsyncTillClient, TillClient
from tokentill.core.usage.pools import Pools
from tokentill.meter import Meter
from tokentill.meter.counting import TOKENS_PER_MEDIUM, prompt_tokens
from tokentill.meter.metered import TTL
from tokentill.meter.tills import run
from tokentill.meter.unattended import renew
from tokentill.samples import llm_shapes
from tokentill.services.calls.costing import UnknownModels

Block = Callable[[Meter], None]


def in_process(till: Till, block: Block, action: str = ACTION, **details: Any) -> None:
    with till.meter(USER, action, **details) as meter:
        block(meter)


def in_process_async(till: Till, block: Block, action: str = ACTION, **details: Any) -> None:
    async def make() -> None:
        async with till.meter(USER, action, **details) as meter:
            block(meter)

    asyncio.run(make())


def over_http(till: Till, block: Block, action: str = ACTION, **details: Any) -> None:
    with served_till(till) as url, TillClient(url, KEY) as over, over.meter(USER, action, **details) as meter:
        block(meter)


def over_http_async(till: Till, block: Block, action: str = ACTION, **details: Any) -> None:
    async def make(url: str) -> None:
        async with AsyncTillClient(url, KEY) as client, client.meter(USER, action, **details) as meter:
            block(meter)

    with served_till(till) as url:
        asyncio.run(make(url))


def over_http_from_async(till: Till, block: Block, action: str = ACTION, **details: Any) -> None:
    async def make(url: str) -> None:
        with TillClient(url, KEY) as client:
            async with Meter(client, USER, action, **details) as meter:
                block(meter)

    with served_till(till) as url:
        asyncio.run(make(url))


WAYS = [in_process, in_process_async, over_http, over_http_async, over_http_from_async]
Way = Callable[..., None]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_held_for_and_then_takes_what_it_used(rich: Till, way: Way) -> None:
    held: list[int] = []

    def call(meter: Meter) -> None:
        held.append(rich.balance(USER).held)
        meter.record(llm_shapes.openai_chat())

    way(rich, call, model="gpt-4o", estimate=300, max_output=700, metadata={"chat": 7})

    assert held == [1_000]
    row = only_call(rich)
    assert (row["tokens"], row["model_used"], row["metadata"]) == (160, "gpt-4o-2024-08-06", {"chat": 7})


@pytest.mark.parametrize("way", WAYS)
def test_a_hold_shrinks_to_what_is_available(till: Till, way: Way) -> None:
    till.grant_tokens(USER, 500)
    held: list[int] = []

    def call(meter: Meter) -> None:
        held.append(meter.held_tokens)
        meter.record(llm_shapes.openai_chat())

    way(till, call, estimate=300, max_output=700)

    assert held == [500] and till.balance(USER).balance == 340


@pytest.mark.parametrize("way", WAYS)
def test_without_the_minimum_the_call_is_not_made(till: Till, way: Way) -> None:
    till.grant_tokens(USER, 299)
    made: list[Meter] = []

    with pytest.raises((errors.InsufficientTokens, client.InsufficientTokens)):
        way(till, made.append, estimate=300, max_output=700)

    assert made == [] and calls(till) == [] and till.balance(USER).held == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_call_is_recorded_with_its_counts_and_costs_nothing(rich: Till, way: Way) -> None:
    def call(meter: Meter) -> None:
        meter.record(llm_shapes.openai_chat())
        raise ValueError("no JSON in the answer")

    with pytest.raises(ValueError, match="no JSON"):
        way(rich, call, model="gpt-4o")

    row = only_call(rich)
    assert (row["tokens"], row["success"], row["input_tokens"]) == (0, False, 120)
    assert row["error_message"] == "ValueError: no JSON in the answer"


@pytest.mark.parametrize("way", WAYS)
def test_nothing_recorded_is_nothing_charged_and_told(rich: Till, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tokentill.meter"):
        way(rich, lambda meter: None)

    assert calls(rich) == [] and rich.balance(USER).held == 0
    assert "Nothing was recorded" in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_is_left_is_charged_for_what_was_seen(rich: Till, way: Way) -> None:
    def call(meter: Meter) -> None:
        for number, _ in enumerate(meter.watch(llm_shapes.anthropic_stream())):
            if number == 4:
                break

    way(rich, call, estimate=100)

    row = only_call(rich)
    assert row["estimated"] is True and row["pools"]["input_uncached"] == 120 and row["tokens"] > 120


def test_a_whole_stream_is_charged_as_it_says(rich: Till) -> None:
    with rich.meter(USER, ACTION) as meter:
        list(meter.watch(llm_shapes.openai_chat_stream()))

    row = only_call(rich)
    assert row["tokens"] == 160 and "estimated" not in row


def test_an_error_in_the_middle_of_a_stream_is_charged_for_what_was_seen(rich: Till) -> None:
    def broken() -> Iterator[Any]:
        yield from llm_shapes.openai_chat_stream()[:4]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError), rich.meter(USER, ACTION, estimate=50) as meter:
        list(meter.watch(broken()))

    row = only_call(rich)
    assert (row["tokens"], row["estimated"], row["error_message"]) == (54, True, "ConnectionError: gone")


def test_an_async_stream_is_watched_too(rich: Till) -> None:
    async def make() -> None:
        async def stream() -> Any:
            for event in llm_shapes.openai_chat_stream():
                yield event

        async with rich.meter(USER, ACTION) as meter:
            async for _ in meter.watch_async(stream()):
                pass

    asyncio.run(make())

    assert only_call(rich)["tokens"] == 160


def test_several_answers_of_one_call_add_up(rich: Till) -> None:
    with rich.meter(USER, ACTION) as meter:
        meter.record(llm_shapes.openai_chat(cached_tokens=20))
        meter.record(Pools(input_uncached=1, reasoning=2))

    assert only_call(rich)["pools"] == {"input_uncached": 101, "cache_read": 20, "output_text": 40, "reasoning": 2}


def test_usage_that_is_missing_is_charged_what_was_held(rich: Till) -> None:
    with rich.meter(USER, ACTION, estimate=30, max_output=70) as meter:
        meter.record({"id": "x", "usage": None})

    row = only_call(rich)
    assert (row["tokens"], row["estimated"]) == (100, True)
    assert row["metadata"] == {"usage_note": "the response has no usage"}


def test_usage_that_contradicts_itself_is_charged_what_of_it_may_be_believed(rich: Till) -> None:
    said = {"usage": {"prompt_tokens": -1, "completion_tokens": 2}}
    with rich.meter(USER, ACTION, estimate=30, max_output=70) as meter:
        meter.record({"id": "x", **said})

    row = only_call(rich)
    assert (row["tokens"], row["estimated"]) == (32, True)
    assert row["metadata"]["raw_usage"] == said


def test_what_another_model_did_inside_the_call_is_a_row_of_its_own(rich: Till) -> None:
    body = llm_shapes.openai_responses()
    body["tools"] = [{"type": "image_generation", "model": "gpt-image-1"}]
    body["tool_usage"] = {"image_gen": {"input_tokens": 20, "output_tokens": 1056, "total_tokens": 1076}}
    with rich.meter(USER, ACTION, model="gpt-5", provider="openai") as meter:
        meter.record(body)
    with rich.meter(USER, "image_generation", model="gpt-5") as meter:
        meter.record(body)

    said, drawn, fixed, within = calls(rich)
    assert (said["tokens"], drawn["tokens"], fixed["tokens"], within["tokens"]) == (160, 1076, 25, 0)
    assert drawn["pools"] == within["pools"] == {"input_uncached": 20, "image_out": 1056}
    assert (drawn["model_used"], drawn["provider"]) == ("gpt-image-1", "openai")


def test_a_stream_that_says_nothing_readable_is_charged_what_was_held(rich: Till) -> None:
    with rich.meter(USER, ACTION, max_output=70) as meter:
        list(meter.watch([{"something": "else"}, {"something": "more"}]))

    row = only_call(rich)
    assert (row["tokens"], row["estimated"], row["success"]) == (70, True, True)


def test_usage_that_counts_nothing_is_not_believed(rich: Till) -> None:
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    with rich.meter(USER, ACTION, estimate=30, max_output=70) as meter:
        meter.record(llm_shapes.openai_chat() | {"usage": nothing})
    chunks = llm_shapes.openai_chat_stream()
    chunks[-1]["usage"] = nothing
    with rich.meter(USER, ACTION, estimate=30, max_output=70) as meter:
        list(meter.watch(chunks))

    whole, streamed = calls(rich)
    assert (whole["tokens"], whole["estimated"]) == (100, True)
    assert (streamed["pools"], streamed["estimated"]) == ({"input_uncached": 30, "output_text": 10}, True)


def test_an_answer_that_says_it_failed_costs_nothing(rich: Till) -> None:
    failed = {"status": "failed", "error": {"code": "server_error", "message": "it fell over"}}
    with rich.meter(USER, ACTION) as meter:
        meter.record(llm_shapes.openai_responses() | failed)

    row = only_call(rich)
    assert (row["tokens"], row["success"], row["error_message"]) == (0, False, "server_error: it fell over")
    assert row["input_tokens"] == 120


def test_what_says_nothing_of_usage_is_not_taken_for_a_response(rich: Till) -> None:
    with pytest.raises(TypeError, match="says nothing"), rich.meter(USER, ACTION) as meter:
        meter.record(object())

    assert only_call(rich)["success"] is False


def test_a_fixed_action_holds_its_price_and_takes_it(till: Till) -> None:
    till.grant_tokens(USER, 25)

    with till.meter(USER, "image_generation") as meter:
        assert meter.held_tokens == 25
        meter.record(llm_shapes.openai_image())

    assert only_call(till)["tokens"] == 25


def test_what_is_held_follows_the_model_the_provider_and_the_price(rich: Till) -> None:
    rich.grant_tokens(USER, 10**9)
    by_cost: dict[str, Any] = {"charge": "cost_plus", "markup": "1.5", "cents_per_million_tokens": 1}
    rich.set_action("essay", **by_cost, created_by="ann")
    rich.set_action(ACTION, model="o3", max_tokens=104, model_multipliers={"o3": 3}, created_by="ann")
    held: list[int] = []

    def call(meter: Meter) -> None:
        held.append(rich.balance(USER).held)
        meter.record(Pools(input_uncached=1_024, output_text=1_024))

    by_model: dict[str, Any] = {"model": "gpt-4o", "provider": "openai", "estimate": 1_024, "max_output": 1_024}
    ways = (in_process, in_process_async, over_http, over_http_async)
    for way in ways:
        way(rich, call, "essay", **by_model)
        way(rich, call, estimate=28)

    assert held == [1_920_000, 396] * len(ways)
    assert [row["tokens"] for row in calls(rich)] == [1_920_000, 6_144] * len(ways)


def test_a_model_that_is_refused_is_refused_with_its_provider_before_the_call(database: str) -> None:
    with Till(database, unknown_models=UnknownModels(policy="refuse")) as strict:
        strict.grant_tokens(USER, 1_000)
        with pytest.raises(errors.UnknownModel), strict.meter(USER, ACTION, model="gpt-4o", provider="mistral"):
            raise AssertionError("the call is not made")
        strict.set_action(ACTION, model="gpt-nobody-knows", created_by="ann")
        with pytest.raises(errors.UnknownModel), strict.meter(USER, ACTION):
            raise AssertionError("the call is not made")


def test_a_call_that_failed_is_tried_again_with_its_key_and_charged_when_it_succeeds(till: Till) -> None:
    till.grant_tokens(USER, 700)
    for is_last in (False, False, True, True):
        with suppress(ConnectionError), till.meter(USER, ACTION, idempotency_key="job-7") as meter:
            assert is_last is False or till.balance(USER).held > 0 or calls(till)[-1]["success"]
            if not is_last:
                raise ConnectionError("gone")
            meter.record(llm_shapes.openai_chat())

    assert [(row["tokens"], row["success"]) for row in calls(till)] == [(0, False), (0, False), (160, True)]
    assert (till.balance(USER).balance, till.balance(USER).held) == (540, 0)


def test_the_minimum_must_be_there_however_small_the_call_is(till: Till) -> None:
    till.grant_tokens(USER, 50)

    with pytest.raises(errors.InsufficientTokens), till.meter(USER, ACTION, estimate=10, max_output=20, minimum=1_000):
        raise AssertionError("the call is not made")


def test_a_meter_is_for_one_call(rich: Till) -> None:
    meter = rich.meter(USER, ACTION)
    with meter:
        meter.record(llm_shapes.openai_chat())

    with pytest.raises(InvalidRequest, match="one call"), meter:
        raise AssertionError("the call is not made")
    assert only_call(rich)["tokens"] == 160


def test_what_comes_after_the_block_is_not_for_nothing(rich: Till, caplog: pytest.LogCaptureFixture) -> None:
    with rich.meter(USER, ACTION) as meter:
        late, begun = meter.watch(llm_shapes.openai_chat_stream()), meter.watch(llm_shapes.openai_chat_stream())
        next(begun)

    for ask in (lambda: next(late), lambda: list(begun), lambda: meter.record(llm_shapes.openai_chat())):
        with pytest.raises(InvalidRequest, match="inside the block"):
            ask()
    assert only_call(rich)["estimated"] is True


@pytest.mark.parametrize("said", [{"id": "resp_" + "x" * 400}, {"id": "\ud800"}, {"model": "m\0" * 200}])
def test_what_cannot_be_kept_of_a_call_does_not_make_it_free(rich: Till, said: dict[str, str]) -> None:
    with rich.meter(USER, ACTION) as meter:
        meter.record(llm_shapes.openai_chat() | said)

    assert only_call(rich)["tokens"] == 160


def test_metadata_that_leave_no_room_do_not_make_a_call_free(rich: Till) -> None:
    with rich.meter(USER, ACTION, provider="openrouter", metadata={"note": "x" * 16_360}) as meter:
        meter.record({"id": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.001}})

    assert (only_call(rich)["tokens"], only_call(rich).get("metadata")) == (5, None)


def test_pools_of_nothing_are_charged_what_was_held_and_marked(rich: Till) -> None:
    with rich.meter(USER, ACTION, estimate=30, max_output=70) as meter:
        meter.record(Pools())

    assert (only_call(rich)["tokens"], only_call(rich)["estimated"]) == (100, True)


def test_the_tier_that_a_row_names_is_the_one_that_is_priced(rich: Till) -> None:
    usual = llm_shapes.openai_chat() | {"service_tier": "on_demand"}
    fast = llm_shapes.anthropic_message()
    fast["usage"]["speed"] = "fast"
    for body in (usual, fast):
        with rich.meter(USER, ACTION) as meter:
            meter.record(body)

    assert [row.get("service_tier") for row in calls(rich)] == [None, "fast"]


def test_a_free_call_that_is_told_again_is_one_row(rich: Till) -> None:
    rich.set_action("gift", multiplier=0, created_by="ann")
    meter = rich.meter(USER, "gift").open()
    meter.record(llm_shapes.openai_chat())
    for _ in range(2):
        run(meter.settling(), rich)

    assert only_call(rich)["tokens"] == 0


def test_a_fork_leaves_its_parents_calls_alone(rich: Till) -> None:
    meter = rich.meter(USER, ACTION).open()
    meter.record(llm_shapes.openai_chat())
    meter._process = -1  # As in a fork.
    meter.settle()

    assert calls(rich) == [] and rich.balance(USER).held > 0


def test_long_texts_are_no_files() -> None:
    assert prompt_tokens("中" * 50_000) == 50_000
    assert prompt_tokens("data: 1,2,3 " * 1_000) == 4_000
    assert prompt_tokens("data:image/png;base64," + "A" * 90_000) == prompt_tokens("A" * 90_000) == TOKENS_PER_MEDIUM


@pytest.mark.parametrize("times", [1, 3])
def test_a_call_that_is_repeated_with_its_key_is_charged_once(rich: Till, times: int) -> None:
    for number in range(times):
        with rich.meter(USER, ACTION, idempotency_key="chat-7") as meter:
            meter.record(llm_shapes.openai_chat(completion_tokens=40 + number))

    assert only_call(rich)["tokens"] == 160


def test_a_call_repeated_with_less_available_is_charged_once(till: Till) -> None:
    till.grant_tokens(USER, 700)
    for grant in (0, 10_000):
        if grant:
            till.grant_tokens(USER, grant)
        with till.meter(USER, ACTION, estimate=100, max_output=900, idempotency_key="chat-7") as meter:
            meter.record(llm_shapes.openai_chat())

    assert only_call(till)["tokens"] == 160


def test_a_call_whose_event_loop_ends_as_it_is_settled_is_told_all_the_same(rich: Till) -> None:
    from tokentill.meter.background import background

    async def make() -> None:
        meter = await rich.meter(USER, ACTION).aopen()
        meter.record(llm_shapes.openai_chat())
        left.append(asyncio.create_task(meter.asettle()))
        await asyncio.sleep(0)  # It has begun to settle, and no more.

    left: list[asyncio.Task[None]] = []
    asyncio.run(make())

    assert left[0].cancelled() and background.wait(30)
    assert only_call(rich)["tokens"] == 160


def test_a_hold_that_somebody_voided_does_not_make_the_call_free(rich: Till) -> None:
    with rich.meter(USER, ACTION) as meter:
        rich.void(USER, meter.hold_id)
        meter.record(llm_shapes.openai_chat())

    assert only_call(rich)["tokens"] == 160


def test_a_call_that_outlives_its_hold_is_charged_all_the_same(rich: Till, clock: Clock) -> None:
    with rich.meter(USER, ACTION) as meter:
        clock.advance(seconds=2 * TTL.total_seconds())
        assert rich.balance(USER).held == 0
        meter.record(llm_shapes.openai_chat())

    assert only_call(rich)["tokens"] == 160


def test_a_running_call_renews_its_hold(rich: Till, clock: Clock) -> None:
    import weakref

    with rich.meter(USER, ACTION) as meter:
        clock.advance(seconds=TTL.total_seconds() * 0.9)
        assert renew(weakref.ref(meter)) == TTL.total_seconds() / 3
        clock.advance(seconds=TTL.total_seconds() * 0.9)
        assert rich.balance(USER).held > 0
        meter.record(llm_shapes.openai_chat())

    assert renew(weakref.ref(meter)) is None
    assert only_call(rich)["tokens"] == 160


def test_the_background_renews_without_being_asked(rich: Till, clock: Clock) -> None:
    renewed = threading.Event()

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name != "renew":
                return getattr(rich, name)

            def renew(*args: Any, **details: Any) -> Any:
                answer = rich.renew(*args, **details)
                renewed.set()
                return answer

            return renew

    with Meter(Watching(), USER, ACTION, ttl=timedelta(seconds=1)) as meter:
        assert renewed.wait(30)
        meter.record(llm_shapes.openai_chat())

    assert only_call(rich)["tokens"] == 160


def test_a_forgotten_meter_is_not_renewed_and_frees_itself_by_time(rich: Till, clock: Clock) -> None:
    import gc
    import weakref

    meter = rich.meter(USER, ACTION).open()
    known = weakref.ref(meter)
    del meter
    gc.collect()

    assert known() is None and renew(known) is None
    clock.advance(seconds=TTL.total_seconds())
    assert rich.balance(USER).held == 0


def test_a_till_out_of_reach_is_told_later_and_the_answer_is_not_lost(rich: Till) -> None:
    from tokentill.errors import DatabaseUnavailable
    from tokentill.meter.background import background

    class Away:
        """Reached for everything but the first captures."""

        failures = 1

        def __getattr__(self, name: str) -> Any:
            if name != "capture":
                return getattr(rich, name)

            def capture(*args: Any, **details: Any) -> Any:
                if self.failures:
                    self.failures -= 1
                    raise DatabaseUnavailable("not now")
                answer = rich.capture(*args, **details)
                told.set()
                return answer

            return capture

    told = threading.Event()
    with Meter(Away(), USER, ACTION, ttl=timedelta(seconds=1)) as meter:
        meter.record(llm_shapes.openai_chat())

    assert background is not None and told.wait(30)
    assert only_call(rich)["tokens"] == 160


def test_many_calls_at_once_never_hold_more_than_there_is(till: Till) -> None:
    till.grant_tokens(USER, 2_000)

    def call(number: int) -> int:
        try:
            with till.meter(USER, ACTION, estimate=100, max_output=100) as meter:
                assert till.balance(USER).available >= 0
                meter.record(Pools(input_uncached=60, output_text=40))
        except errors.InsufficientTokens:
            return 0
        return 100

    with ThreadPoolExecutor(16) as threads:
        taken = sum(threads.map(call, range(60)))

    assert taken == sum(row["tokens"] for row in calls(till)) <= 2_000
    assert till.balance(USER).balance == 2_000 - taken and till.balance(USER).held == 0


def test_an_async_client_meters_async_calls_only(rich: Till) -> None:
    async def make() -> None:
        async with AsyncTillClient("http://127.0.0.1:1", KEY) as till:
            with pytest.raises(InvalidRequest, match="async with"), Meter(till, USER, ACTION):
                pass

    asyncio.run(make())


def test_a_metered_call_asks_the_till_twice(rich: Till) -> None:
    from tokentill.http.app import create_app

    asked: list[str] = []
    app = create_app(rich, admin_key=KEY, webhook_secrets=())

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"].rpartition("/")[2])
        await app(scope, receive, send)

    from tests.meter.serving import served

    with served(counting) as url, TillClient(url, KEY) as client:
        client.tokens_for(ACTION, 1, 1)  # What the action charges is asked for once a minute.
        asked.clear()
        with Meter(client, USER, ACTION) as meter:
            meter.record(llm_shapes.openai_chat())

    assert asked == ["holds", "capture"]
