"""The OpenAI client, metered: every entry point of the real SDK, against a server that answers as OpenAI does."""

import asyncio
import base64
import gc
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai as sdk
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.meter.conftest import ACTION, USER, async_openai_of, calls, only_call, openai_of
from tests.meter.providers import Answer, Provider
from tokentill import InsufficientTokens, Till
from tokentill.errors import InvalidUserId
from tokentill.meter import metering
from tokentill.meter.endpoints import Watched, call_of
from tokentill.meter.hosts import provider_at
from tokentill.meter.openai import meter_openai
from tokentill.samples import llm_shapes

HELLO: Any = [{"role": "user", "content": "I want a house by the sea."}]
PNG = base64.b64decode(llm_shapes.openai_image()["data"][0]["b64_json"])


class Vision(BaseModel):
    text: str


def metered(provider: Provider, till: Till, **options: Any) -> OpenAI:
    return meter_openai(openai_of(provider, **options), till, user=USER, action=ACTION)


def ametered(provider: Provider, till: Till, **options: Any) -> AsyncOpenAI:
    return meter_openai(async_openai_of(provider, **options), till, user=USER, action=ACTION)


def chat_with_json(**counts: Any) -> Answer:
    return Answer(body=llm_shapes.openai_chat(text='{"text": "a house"}', **counts))


# --- Every entry point that answers at once ---

WHOLE: dict[str, tuple[Callable[[OpenAI], Any], int, dict[str, int]]] = {
    "chat": (
        lambda client: client.chat.completions.create(model="gpt-4o", messages=HELLO),
        160, {"input_uncached": 120, "output_text": 40},
    ),
    "chat raw": (
        lambda client: client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO).parse(),
        160, {"input_uncached": 120, "output_text": 40},
    ),
    "completions": (
        lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="a house"),
        12, {"input_uncached": 5, "output_text": 7},
    ),
    "responses": (
        lambda client: client.responses.create(model="gpt-4.1", input="a house"),
        160, {"input_uncached": 120, "output_text": 40},
    ),
    "responses raw": (
        lambda client: client.responses.with_raw_response.create(model="gpt-4.1", input="a house").parse(),
        160, {"input_uncached": 120, "output_text": 40},
    ),
    "embeddings": (
        lambda client: client.embeddings.create(model="text-embedding-3-small", input="a house"),
        8, {"input_uncached": 8},
    ),
    "images": (
        lambda client: client.images.generate(model="gpt-image-1", prompt="a house"),
        1080, {"input_uncached": 24, "image_out": 1056},
    ),
    "image edits": (
        lambda client: client.images.edit(model="gpt-image-1", image=("a.png", PNG), prompt="a house"),
        1080, {"input_uncached": 24, "image_out": 1056},
    ),
    "transcriptions": (
        lambda client: client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", b"ID3")),
        152, {"audio_in": 140, "output_text": 12},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_call_takes_what_the_provider_reports(provider: Provider, rich: Till, name: str) -> None:
    make, tokens, pools = WHOLE[name]

    assert make(metered(provider, rich)) is not None

    call = only_call(rich)
    assert (call["tokens"], call["pools"], call["success"]) == (tokens, pools, True)
    assert call["action_type"] == ACTION and "estimated" not in call


ASYNC_WHOLE: dict[str, Callable[[AsyncOpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model="gpt-4o", messages=HELLO),
    "chat raw": lambda client: client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO),
    "completions": lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="a house"),
    "responses": lambda client: client.responses.create(model="gpt-4.1", input="a house"),
    "responses raw": lambda client: client.responses.with_raw_response.create(model="gpt-4.1", input="a house"),
    "embeddings": lambda client: client.embeddings.create(model="text-embedding-3-small", input="a house"),
    "images": lambda client: client.images.generate(model="gpt-image-1", prompt="a house"),
    "image edits": lambda client: client.images.edit(model="gpt-image-1", image=("a.png", PNG), prompt="a house"),
    "transcriptions": lambda client: client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.mp3", b"ID3")
    ),
}


@pytest.mark.parametrize("name", ASYNC_WHOLE)
def test_an_async_call_takes_the_same(provider: Provider, rich: Till, name: str) -> None:
    async def make() -> None:
        async with ametered(provider, rich) as client:
            await ASYNC_WHOLE[name](client)

    asyncio.run(make())

    _, tokens, pools = WHOLE[name]
    call = only_call(rich)
    assert (call["tokens"], call["pools"]) == (tokens, pools)


def test_the_caller_gets_what_the_plain_client_gets(provider: Provider, rich: Till) -> None:
    plain = openai_of(provider).chat.completions.create(model="gpt-4o", messages=HELLO)
    same = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO)

    assert same == plain
    assert provider.asked[0].body == provider.asked[1].body


def test_the_row_names_the_model_and_the_request_of_the_answer(provider: Provider, rich: Till) -> None:
    answer = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO)

    call = only_call(rich)
    assert call["model_used"] == "gpt-4o-2024-08-06" == answer.model
    assert call["provider_request_id"] == answer.id


def test_cached_and_reasoning_tokens_are_pools_of_their_own(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body=llm_shapes.openai_chat(cached_tokens=100, reasoning_tokens=30))]

    metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO)

    assert only_call(rich)["pools"] == {"input_uncached": 20, "cache_read": 100, "output_text": 10, "reasoning": 30}


def test_parsing_is_metered(provider: Provider, rich: Till) -> None:
    provider.next_answers = [chat_with_json()]

    answer = metered(provider, rich).chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Vision)

    assert answer.choices[0].message.parsed == Vision(text="a house")
    assert only_call(rich)["tokens"] == 160


def test_parsing_a_response_is_metered(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body=llm_shapes.openai_responses(text='{"text": "a house"}'))]

    answer = metered(provider, rich).responses.parse(model="gpt-4.1", input="a house", text_format=Vision)

    assert answer.output_parsed == Vision(text="a house")
    assert only_call(rich)["tokens"] == 160


def test_speech_is_counted_in_characters(provider: Provider, rich: Till) -> None:
    client = meter_openai(openai_of(provider), rich, user=USER, action="audio_generation")

    answer = client.audio.speech.create(model="tts-1", voice="alloy", input="A house by the sea.")

    assert answer.content.startswith(b"ID3")
    call = only_call(rich)
    assert (call["tokens"], call["pools"], call["model_used"]) == (1, {"characters": 19}, "tts-1")


def test_streamed_speech_is_counted_in_characters(provider: Provider, rich: Till) -> None:
    client = meter_openai(openai_of(provider), rich, user=USER, action="audio_generation")

    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="A house.") as answer:
        assert b"".join(answer.iter_bytes()).startswith(b"ID3")

    assert only_call(rich)["pools"] == {"characters": 8}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation_is_counted_in_seconds(provider: Provider, rich: Till) -> None:
    client = meter_openai(openai_of(provider), rich, user=USER, action="transcription")

    client.audio.translations.create(model="whisper-1", file=("a.mp3", b"ID3"), response_format="verbose_json")

    call = only_call(rich)
    assert (call["tokens"], call["pools"], call["model_used"]) == (60, {"seconds": 13}, "whisper-1")


def test_a_transcription_as_mere_text_takes_what_its_action_says(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body=b"A house by the sea.", content_type="text/plain")]
    client = meter_openai(openai_of(provider), rich, user=USER, action="transcription")

    client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"ID3"), response_format="text")

    call = only_call(rich)
    assert (call["tokens"], call["estimated"]) == (60, True)


def test_images_of_a_fixed_action_hold_and_take_its_price(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 25)
    client = meter_openai(openai_of(provider), till, user=USER, action="image_generation")

    client.images.generate(model="gpt-image-1", prompt="a house")

    assert (only_call(till)["tokens"], till.balance(USER).balance) == (25, 0)


def test_what_is_no_ai_call_is_not_metered(provider: Provider, rich: Till) -> None:
    assert metered(provider, rich).models.list().data == []

    assert calls(rich) == []


# --- Streams ---


def test_a_stream_is_asked_for_its_usage_and_the_caller_does_not_see_it(provider: Provider, rich: Till) -> None:
    plain = list(openai_of(provider).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    chunks = list(metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))

    assert [chunk.choices for chunk in chunks] == [chunk.choices for chunk in plain]
    assert all(chunk.usage is None for chunk in chunks)
    assert provider.asked[1].body["stream_options"] == {"include_usage": True}
    call = only_call(rich)
    assert (call["tokens"], call["pools"]) == (160, {"input_uncached": 120, "output_text": 40})
    assert "estimated" not in call


def test_a_caller_who_asked_for_the_usage_sees_it(provider: Provider, rich: Till) -> None:
    chunks = list(
        metered(provider, rich).chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )

    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert only_call(rich)["tokens"] == chunks[-1].usage.total_tokens == 160


def test_a_caller_who_declined_the_usage_does_not_see_it(provider: Provider, rich: Till) -> None:
    chunks = list(
        metered(provider, rich).chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": False}
        )
    )

    assert chunks[-1].choices[0].finish_reason == "stop"
    assert only_call(rich)["tokens"] == 160


def test_an_async_stream_is_metered(provider: Provider, rich: Till) -> None:
    async def make() -> list[Any]:
        async with ametered(provider, rich) as client:
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            return [chunk async for chunk in stream]

    chunks = asyncio.run(make())

    assert all(chunk.usage is None for chunk in chunks)
    assert only_call(rich)["tokens"] == 160


def test_a_streamed_response_is_metered(provider: Provider, rich: Till) -> None:
    events = list(metered(provider, rich).responses.create(model="gpt-4.1", input="a house", stream=True))

    assert events[-1].type == "response.completed"
    assert only_call(rich)["tokens"] == 160


def test_the_stream_helper_is_metered(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).chat.completions.stream(model="gpt-4o", messages=HELLO) as stream:
        stream.until_done()
        answer = stream.get_final_completion()

    assert answer.choices[0].message.content == "Your vision is clear and within reach."
    assert only_call(rich)["tokens"] == 160


def test_the_stream_helper_of_responses_is_metered(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).responses.stream(model="gpt-4.1", input="a house") as stream:
        stream.until_done()

    assert only_call(rich)["tokens"] == 160


def test_the_async_stream_helper_is_metered(provider: Provider, rich: Till) -> None:
    async def make() -> str | None:
        async with (
            ametered(provider, rich) as client,
            client.chat.completions.stream(model="gpt-4o", messages=HELLO) as stream,
        ):
            return (await stream.get_final_completion()).choices[0].message.content

    assert asyncio.run(make()) == "Your vision is clear and within reach."
    assert only_call(rich)["tokens"] == 160


def test_a_streaming_response_is_metered_when_it_is_read(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=HELLO
    ) as answer:
        assert answer.parse().usage is not None

    assert only_call(rich)["tokens"] == 160


def test_a_streaming_response_is_metered_when_it_is_not_read(provider: Provider, rich: Till) -> None:
    with metered(provider, rich).chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=HELLO
    ) as answer:
        assert answer.status_code == 200

    call = only_call(rich)
    assert call["tokens"] == 160 and "estimated" not in call


def test_a_packed_answer_is_metered(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body=llm_shapes.openai_chat(), is_packed=True) for _ in range(2)]
    client = metered(provider, rich)

    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO) as answer:
        assert answer.parse().id == llm_shapes.openai_chat()["id"]

    assert [call["tokens"] for call in calls(rich)] == [160, 160]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_stream_may_come_in_pieces_of_any_size(rich: Till, end: bytes, size: int) -> None:
    events = [b"data: " + json.dumps(event).encode() + end for event in llm_shapes.openai_chat_stream()]
    sent, wanted = b"".join(events) + b"data: [DONE]", b"".join(events[:-1]) + b"data: [DONE]"
    call = call_of("openai", "POST", "/v1/chat/completions", lambda: b'{"stream": true}')
    assert call is not None
    meter = rich.meter(USER, ACTION).open()
    watched = Watched(call, meter, is_events=True, hides=True, request_id=None)

    passed = [watched.pass_on(sent[begin : begin + size]) for begin in range(0, len(sent), size)]
    assert b"".join([*passed, watched.over()]) == wanted
    meter.settle()
    assert only_call(rich)["tokens"] == 160


# --- Streams that end early ---


def test_a_stream_that_the_caller_leaves_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    stream = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    next(stream), next(stream), next(stream)
    stream.close()

    call = only_call(rich)
    assert call["estimated"] is True and call["success"] is True
    assert call["pools"]["output_text"] >= 2
    assert 0 < call["tokens"] < 160


def test_a_stream_that_breaks_off_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(events=llm_shapes.openai_chat_stream(), breaks_after=4)]
    stream = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)

    with pytest.raises((APIConnectionError, httpx2.TransportError)):
        list(stream)

    call = only_call(rich)
    assert call["estimated"] is True and call["pools"]["output_text"] == 4  # "Your vision is"
    assert "RemoteProtocolError" in call["error_message"]


def test_a_stream_left_at_its_last_word_is_charged_exactly(provider: Provider, rich: Till) -> None:
    stream = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    for chunk in stream:
        if chunk.choices[0].finish_reason:
            break
    stream.close()

    call = only_call(rich)
    assert call["tokens"] == 160 and "estimated" not in call


def test_a_stream_without_usage_is_estimated(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(events=llm_shapes.openai_chat_stream(include_usage=False))]

    list(metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] > 7


def test_a_forgotten_stream_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    stream = metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    next(stream), next(stream)
    del stream
    gc.collect()
    wait_until_told(rich)

    assert only_call(rich)["estimated"] is True


def test_an_async_stream_that_is_cancelled_is_charged_for_what_was_seen(provider: Provider, rich: Till) -> None:
    provider.holds_back = threading.Event()

    async def make() -> None:
        async with ametered(provider, rich) as client:
            begun = asyncio.Event()

            async def read() -> None:
                stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
                async for _ in stream:
                    begun.set()

            reading = asyncio.create_task(read())
            await begun.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(make())
    provider.holds_back.set()

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] > 0


# --- Failures ---


def test_a_failed_call_is_recorded_and_costs_nothing(provider: Provider, rich: Till) -> None:
    provider.next_answers = [Answer(body={"error": {"message": "no"}}, status=400)]

    with pytest.raises(APIStatusError):
        metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO)

    call = only_call(rich)
    assert (call["tokens"], call["success"], call["error_message"]) == (0, False, "HTTP 400")


def test_a_lost_connection_is_recorded_and_costs_nothing(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich, timeout=5.0).with_options(base_url="http://127.0.0.1:1/v1")

    with pytest.raises(APIConnectionError):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert (only_call(rich)["tokens"], only_call(rich)["success"]) == (0, False)


def test_a_call_that_is_tried_again_is_charged_once(provider: Provider, rich: Till) -> None:
    provider.next_answers = [
        Answer(body={"error": {"message": "busy"}}, status=500),
    ]
    client = metered(provider, rich).with_options(max_retries=1)

    client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert [(call["tokens"], call["success"]) for call in calls(rich)] == [(0, False), (160, True)]
    assert rich.balance(USER).held == 0


def test_a_poor_user_is_refused_before_the_call(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 3)

    with pytest.raises(InsufficientTokens):
        metered(provider, till).with_options(max_retries=2).chat.completions.create(model="gpt-4o", messages=HELLO)

    assert provider.asked == [] and calls(till) == []


def test_an_async_poor_user_is_refused_before_the_call(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 3)

    async def make() -> None:
        async with ametered(provider, till) as client:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)

    with pytest.raises(InsufficientTokens):
        asyncio.run(make())
    assert provider.asked == []


def test_a_user_with_little_calls_with_what_there_is(provider: Provider, till: Till) -> None:
    till.grant_tokens(USER, 200)

    metered(provider, till).chat.completions.create(model="gpt-4o", messages=HELLO)

    assert (only_call(till)["tokens"], till.balance(USER).balance) == (160, 40)


def test_contradictory_usage_is_estimated_and_kept(provider: Provider, rich: Till) -> None:
    body = llm_shapes.openai_chat()
    body["usage"]["prompt_tokens_details"]["cached_tokens"] = 999
    provider.next_answers = [Answer(body=body)]

    metered(provider, rich).chat.completions.create(model="gpt-4o", messages=HELLO)

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] > 0
    assert call["metadata"]["raw_usage"]["usage"]["prompt_tokens_details"]["cached_tokens"] == 999
    assert "exceed" in call["metadata"]["usage_note"]


def test_a_response_in_the_background_is_charged_what_was_held(provider: Provider, rich: Till) -> None:
    body = llm_shapes.openai_responses() | {"status": "queued", "usage": None, "output": [], "background": True}
    provider.next_answers = [Answer(body=body)]

    metered(provider, rich).responses.create(model="gpt-4.1", input="a house", background=True, max_output_tokens=900)

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] > 900


def test_a_stream_of_what_goes_on_in_the_background_is_charged_what_was_held(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)
    asked: Any = {"model": "gpt-4.1", "input": "a house", "background": True, "max_output_tokens": 900, "stream": True}

    with client.responses.create(**asked) as stream:
        next(stream)
    list(client.responses.create(**asked))

    left, whole = calls(rich)
    assert (left["estimated"], left["tokens"] > 900) == (True, True)
    assert (whole["tokens"], "estimated" in whole) == (160, False)


def test_usage_that_is_repeated_with_every_chunk_counts_as_it_stood_last(provider: Provider, rich: Till) -> None:
    chunks = llm_shapes.openai_chat_stream()
    for number, chunk in enumerate(chunks[:-1]):
        chunk["usage"] = {"prompt_tokens": 120, "completion_tokens": 10 * number, "total_tokens": 120 + 10 * number}
    provider.next_answers = [Answer(events=chunks), Answer(events=chunks, breaks_after=4)]
    client = metered(provider, rich)

    list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    with pytest.raises((APIConnectionError, httpx2.TransportError)):
        list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))

    whole, broken = calls(rich)
    assert (whole["tokens"], broken["tokens"], broken["estimated"]) == (160, 150, True)


# --- Who ---


def test_options_and_copies_keep_the_metering(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)

    client.with_options(timeout=7.0).chat.completions.create(model="gpt-4o", messages=HELLO)
    client.copy(default_headers={"x-mine": "1"}).chat.completions.create(model="gpt-4o", messages=HELLO)

    assert [call["tokens"] for call in calls(rich)] == [160, 160]
    assert provider.asked[1].headers["x-mine"] == "1"


def test_the_client_that_was_given_is_left_alone(provider: Provider, rich: Till) -> None:
    plain = openai_of(provider)
    meter_openai(plain, rich, user=USER, action=ACTION)

    plain.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert calls(rich) == []


def test_a_block_says_who_and_what_for(provider: Provider, rich: Till) -> None:
    rich.grant_tokens("bob", 10_000)
    client = metered(provider, rich)

    with metering(user="bob", metadata={"chat": 7}):
        with metering(action="vision_generation"):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert [call["action_type"] for call in calls(rich, "bob")] == ["vision_generation", ACTION]
    assert [call["metadata"]["chat"] for call in calls(rich, "bob")] == [7, 7]
    assert calls(rich) == []


def test_tasks_of_one_loop_do_not_mix_their_users(provider: Provider, rich: Till) -> None:
    users = [f"user-{number}" for number in range(8)]
    for user in users:
        rich.grant_tokens(user, 10_000)

    async def make() -> None:
        async with meter_openai(async_openai_of(provider), rich, action=ACTION) as client:

            async def one(user: str) -> None:
                with metering(user=user):
                    await client.chat.completions.create(model="gpt-4o", messages=HELLO)

            await asyncio.gather(*(one(user) for user in users))

    asyncio.run(make())

    assert [only_call(rich, user)["tokens"] for user in users] == [160] * 8


def test_one_client_serves_eight_threads(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)

    def make(number: int) -> None:
        with metering(metadata={"thread": number}):
            for streams in (False, True, False):
                answer: Any = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=streams)
                list(answer) if streams else None

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(8)))

    written = calls(rich)
    assert [call["tokens"] for call in written] == [160] * 24
    assert Counter(call["metadata"]["thread"] for call in written) == dict.fromkeys(range(8), 3)
    assert rich.balance(USER).held == 0


def test_one_loop_makes_fifty_calls_at_once_and_gives_some_up(provider: Provider, rich: Till) -> None:
    """Of those that are given up before they are answered nothing was seen: they are failures, and free."""
    provider.next_answers = [Answer(is_silent=True) for _ in range(10)]

    async def make() -> list[Any]:
        async with ametered(provider, rich) as client:

            async def one() -> Any:
                return await client.chat.completions.create(model="gpt-4o", messages=HELLO)

            silent = [asyncio.create_task(one()) for _ in range(10)]
            while len(provider.asked) < 10:
                await asyncio.sleep(0)
            answered = await asyncio.gather(*(one() for _ in range(40)))
            for task in silent:
                task.cancel()
            assert all(
                isinstance(each, asyncio.CancelledError)
                for each in await asyncio.gather(*silent, return_exceptions=True)
            )
            return answered

    assert len(asyncio.run(make())) == 40

    written = Counter((call["tokens"], call["success"]) for call in calls(rich))
    assert written == {(160, True): 40, (0, False): 10}
    assert rich.balance(USER).held == 0


def test_an_address_says_who_answers_and_an_argument_outranks_it() -> None:
    assert provider_at("api.deepseek.com") == "deepseek" and provider_at("mine.openai.azure.com") == "azure"
    assert provider_at("api.x.ai") == "x-ai" and provider_at("fox.ai") is None and provider_at("127.0.0.1") is None


def test_a_copy_with_another_address_is_another_provider(provider: Provider, rich: Till) -> None:
    http = httpx2.Client(proxy=provider.url)
    provider.clients.append(http)
    client = meter_openai(
        OpenAI(api_key="k", base_url="http://api.openai.com/v1", http_client=http), rich, user=USER, action=ACTION
    )

    for each in (client, client.with_options(base_url="http://api.groq.com/openai/v1")):
        each.chat.completions.create(model="gpt-4o", messages=HELLO)

    assert [call["provider"] for call in calls(rich)] == ["openai", "groq"]


def test_a_call_for_nobody_is_not_made(provider: Provider, rich: Till) -> None:
    client = meter_openai(openai_of(provider), rich, action=ACTION)

    with pytest.raises(InvalidUserId):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert provider.asked == []


def test_each_call_of_a_tool_loop_is_one_metered_call(provider: Provider, rich: Till) -> None:
    client = metered(provider, rich)
    messages = list(HELLO)

    for _ in range(3):
        answer = client.chat.completions.create(model="gpt-4o", messages=messages)
        messages += [{"role": "assistant", "content": answer.choices[0].message.content}, *HELLO]

    assert [call["tokens"] for call in calls(rich)] == [160] * 3


def test_azures_paths_are_known(provider: Provider, rich: Till) -> None:
    azure = sdk.AzureOpenAI(api_key="k", azure_endpoint=provider.url, api_version="2025-01-01-preview", max_retries=0)

    provider.clients.append(azure)
    meter_openai(azure, rich, user=USER, action=ACTION).chat.completions.create(model="my-gpt", messages=HELLO)

    assert "/deployments/my-gpt/" in provider.asked[0].path
    assert only_call(rich)["tokens"] == 160


def wait_until_told(till: Till) -> None:
    """Wait until the background has done what was asked of it before now."""
    from tokentill.meter.background import background

    done = threading.Event()
    background.later(0, done.set)
    assert done.wait(30)
