"""The Anthropic client, metered: every entry point of the real SDK, against a server that answers as Anthropic does."""

import asyncio
from typing import Any

import pytest
from anthropic import Anthropic as Client
from anthropic import AnthropicVertex, APIConnectionError, APIStatusError, AsyncAnthropic, beta_tool
from pydantic import BaseModel

from tests.meter.conftest import ACTION, USER, anthropic_of, async_anthropic_of, calls, only_call
from tests.meter.providers import Answer, Provider
from tokentill import InsufficientTokens, Till
from tokentill.meter import metering
from tokentill.meter.anthropic import meter_anthropic
from tokentill.samples import llm_shapes

MODEL = "claude-next"  # The SDK warns of each that will end one day.
ASKED: Any = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": "I want a house."}]}
USED = {"input_uncached": 120, "output_text": 40}


def metered(provider: Provider, till: Till, **options: Any) -> Client:
    return meter_anthropic(anthropic_of(provider, **options), till, user=USER, action=ACTION)


def ametered(provider: Provider, till: Till, **options: Any) -> AsyncAnthropic:
    return meter_anthropic(async_anthropic_of(provider, **options), till, user=USER, action=ACTION)


def test_a_message_takes_what_the_provider_reports(provider: Provider, rich: Till) -> None:
    answer = metered(provider, rich).messages.create(**ASKED)

    call = only_call(rich)
    assert (call["tokens"], call["pools"], call["success"]) == (160, USED, True)
    assert (call["model_used"], call["provider_request_id"]) == (answer.model, answer.id)


def test_cached_tokens_count_beside_the_input(provider: Provider, rich: Till) -> None:
    body = llm_shapes.anthropic_message(cache_read_tokens=1000, cache_write_5m_tokens=200, cache_write_1h_tokens=30)
    provider.next_answers = [Answer(body=body)]

    metered(provider, rich).messages.create(**ASKED)

    pools = {"input_uncached": 120, "cache_read": 1000, "cache_write_5m": 200, "cache_write_1h": 30, "output_text": 40}
    assert only_call(rich)["pools"] == pools


def test_an_async_message_takes_the_same(provider: Provider, rich: Till) -> None:
    async def make() -> None:
        async with ametered(provider, rich) as client:
            await client.messages.create(**ASKED)

    asyncio.run(make())

    assert only_call(rich)["pools"] == USED


def test_a_beta_message_is_metered(provider: Provider, rich: Till) -> None:
    metered(provider, rich).beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])

    assert provider.asked[0].headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert only_call(rich)["pools"] == USED


def test_a_parsed_message_is_metered(provider: Provider, rich: Till) -> None:
    class Vision(BaseModel):
        text: str

    provider.next_answers = [Answer(body=llm_shapes.anthropic_message(text='{"text": "a house"}'))]

    answer = metered(provider, rich).messages.parse(**ASKED, output_format=Vision)

    assert answer.parsed_output == Vision(text="a house")
    assert only_call(rich)["pools"] == USED


def test_a_raw_message_is_metered(provider: Provider, rich: Till) -> None:
    assert metered(provider, rich).messages.with_raw_response.create(**ASKED).parse().usage.output_tokens == 40

    assert only_call(rich)["pools"] == USED


def test_a_streaming_response_is_metered_read_or_not(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)
    with client.messages.with_streaming_response.create(**ASKED) as answer:
        assert answer.parse().usage.output_tokens == 40
    with client.messages.with_streaming_response.create(**ASKED):
        pass

    assert [call["pools"] for call in calls(rich)] == [USED, USED]


def test_a_stream_is_metered(provider: Provider, rich: Till) -> None:
    plain = list(anthropic_of(provider).messages.create(**ASKED, stream=True))
    events = list(metered(provider, rich).messages.create(**ASKED, stream=True))

    assert events == plain
    call = only_call(rich)
    assert (call["tokens"], call["pools"]) == (160, USED) and "estimated" not in call


def test_an_async_stream_is_metered(provider: Provider, rich: Till) -> None:
    async def make() -> None:
        async with ametered(provider, rich) as client:
            async for _ in await client.messages.create(**ASKED, stream=True):
                pass

    asyncio.run(make())

    assert only_call(rich)["pools"] == USED


def test_the_stream_helper_is_metered(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).messages.stream(**ASKED) as stream:
        assert stream.get_final_text() == "Your vision is clear and within reach."

    assert only_call(rich)["pools"] == USED


def test_the_stream_helpers_texts_are_metered(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == "Your vision is clear and within reach."

    assert only_call(rich)["pools"] == USED


def test_bedrocks_own_client_is_refused_rather_than_not_metered(rich: Till) -> None:
    class AnthropicBedrock(Client):
        pass

    with pytest.raises(TypeError, match="Mantle"):
        meter_anthropic(AnthropicBedrock(api_key="k"), rich)


def test_the_async_stream_helper_is_metered(provider: Provider, rich: Till) -> None:
    async def make() -> str:
        async with ametered(provider, rich) as client, client.messages.stream(**ASKED) as stream:
            return await stream.get_final_text()

    assert asyncio.run(make()) == "Your vision is clear and within reach."
    assert only_call(rich)["pools"] == USED


def test_the_beta_stream_helper_is_metered(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).beta.messages.stream(**ASKED) as stream:
        stream.until_done()

    assert only_call(rich)["pools"] == USED


def test_each_turn_of_a_tool_runner_is_one_metered_call(provider: Provider, rich: Till) -> None:
    @beta_tool
    def find_house(place: str) -> str:
        """Find a house.

        Args:
            place: Where.
        """
        return f"a house in {place}"

    uses = llm_shapes.anthropic_message()
    uses["content"] = [{"type": "tool_use", "id": "toolu_1", "name": "find_house", "input": {"place": "Nice"}}]
    uses["stop_reason"] = "tool_use"
    provider.next_answers = [Answer(body=uses)]

    last = metered(provider, rich).beta.messages.tool_runner(**ASKED, tools=[find_house]).until_done()

    assert last.stop_reason == "end_turn" and len(provider.asked) == 2
    assert [call["pools"] for call in calls(rich)] == [USED, USED]


def test_counting_tokens_is_free(provider: Provider, rich: Till) -> None:
    counted = metered(provider, rich).messages.count_tokens(model=MODEL, messages=ASKED["messages"])

    assert counted.input_tokens == 7 and calls(rich) == []


def test_vertex_is_metered(provider: Provider, rich: Till) -> None:
    client = AnthropicVertex(
        region="global", project_id="p", access_token="t", base_url=f"{provider.url}/v1", max_retries=0
    )
    provider.clients.append(client)
    provider.next_answers = [Answer(body=llm_shapes.anthropic_message())]

    meter_anthropic(client, rich, user=USER, action=ACTION).messages.create(**ASKED)

    assert provider.asked[0].path.endswith(f"/{MODEL}:rawPredict")
    assert only_call(rich)["pools"] == USED


def test_a_stream_that_the_caller_leaves_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).messages.stream(**ASKED) as stream:
        for event in stream:
            if event.type == "text":
                break

    call = only_call(rich)
    assert call["estimated"] is True
    assert call["pools"]["input_uncached"] == 120  # Told at the start, so no guess.
    assert call["pools"]["output_text"] > 0


def test_a_stream_that_breaks_off_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(events=llm_shapes.anthropic_stream(cache_read_tokens=70), breaks_after=4)]

    with pytest.raises(Exception, match="peer closed connection"):
        list(metered(provider, rich).messages.create(**ASKED, stream=True))

    call = only_call(rich)
    assert call["estimated"] is True and call["success"] is True
    assert call["pools"] == {"input_uncached": 120, "cache_read": 70, "output_text": 10}


def test_an_error_within_a_stream_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    provider.next_answers = [Answer(events=[*llm_shapes.anthropic_stream()[:4], error])]

    with pytest.raises(APIStatusError):
        list(metered(provider, rich).messages.create(**ASKED, stream=True))

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] == 130
    assert "overloaded_error" in call["error_message"]


def test_a_failed_call_is_recorded_and_costs_nothing(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body={"type": "error", "error": {"type": "x", "message": "no"}}, status=400)]

    with pytest.raises(APIStatusError):
        metered(provider, rich).messages.create(**ASKED)

    call = only_call(rich)
    assert (call["tokens"], call["success"], call["error_message"]) == (0, False, "HTTP 400")


def test_a_poor_user_is_refused_at_once_and_before_the_call(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 3)
    client = metered(provider, till).with_options(max_retries=5)

    with pytest.raises(InsufficientTokens):
        client.messages.create(**ASKED)

    assert provider.asked == [] and calls(till) == []


def test_an_async_poor_user_is_refused_before_the_call(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 3)

    async def make() -> None:
        async with ametered(provider, till) as client:
            await client.messages.create(**ASKED)

    with pytest.raises(InsufficientTokens):
        asyncio.run(make())
    assert provider.asked == []


def test_a_lost_connection_stays_one(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich).with_options(base_url="http://127.0.0.1:1")

    with pytest.raises(APIConnectionError):
        client.messages.create(**ASKED)

    assert only_call(rich)["success"] is False


def test_options_and_copies_keep_the_metering(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)

    client.with_options(timeout=7.0).messages.create(**ASKED)
    client.copy(default_headers={"x-mine": "1"}).messages.create(**ASKED)

    assert [call["pools"] for call in calls(rich)] == [USED, USED]


def test_a_block_says_who_and_what_for(provider: Provider, rich: Till) -> None:
    rich.grant_tokens("bob", 10_000)

    with metering(user="bob", action="vision_refinement"):
        metered(provider, rich).messages.create(**ASKED)

    assert only_call(rich, "bob")["action_type"] == "vision_refinement"
