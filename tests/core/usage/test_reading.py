"""Reading usage: the providers' counts are read without overlap, and nothing unknown becomes 0."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.prices.book import PRICED_POOLS
from tokentill.core.usage.pools import POOLS, Pools, UnreadableUsage
from tokentill.core.usage.reading import (
    PROVIDERS,
    provider_named,
    read_other_models,
    read_reported_cost,
    read_stream_usage,
    read_usage,
)
from tokentill.errors import InvalidAmount
from tokentill.samples import llm_shapes

counts = st.integers(0, 10**6)
pools_of_any_kind = st.builds(Pools, **dict.fromkeys(POOLS, counts))


def read(usage: object, *, provider: str = "openai", **body: object) -> Pools | UnreadableUsage:
    return read_usage({"usage": usage, **body}, provider=provider)


def reason(answer: Pools | UnreadableUsage) -> str:
    assert isinstance(answer, UnreadableUsage), answer
    return answer.reason


# -- Pools -------------------------------------------------------------------------------------------------------


def test_every_pool_of_the_glossary_has_a_count_and_a_price() -> None:
    assert Pools.__struct_fields__ == POOLS
    assert PRICED_POOLS[:-1] == POOLS
    assert set(POOLS) >= {
        *("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in"),
        *("output_text", "reasoning", "audio_out", "image_out", "seconds", "characters", "images"),
    }


def test_each_pool_counts_as_input_or_as_output_or_as_neither() -> None:
    ones = dict.fromkeys(POOLS, 1)

    assert Pools(**ones).input_tokens == 6
    assert Pools(**ones).output_tokens == 4
    assert Pools(seconds=5, characters=5, images=5, web_searches=5).input_tokens == 0
    assert Pools(seconds=5, characters=5, images=5, web_searches=5).output_tokens == 0


def test_json_leaves_out_what_was_not_used() -> None:
    assert Pools().as_json() == {}
    assert Pools(output_text=2, input_uncached=1).as_json() == {"input_uncached": 1, "output_text": 2}


@given(pools_of_any_kind)
def test_json_gives_the_pools_back(pools: Pools) -> None:
    assert Pools(**pools.as_json()) == pools


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None, 2**53])
def test_a_pool_takes_whole_numbers_only(value: Any) -> None:
    with pytest.raises(InvalidAmount):
        Pools(cache_read=value)


# -- Reading OpenAI ----------------------------------------------------------------------------------------------


def test_prompt_tokens_include_the_cached_ones() -> None:
    body = llm_shapes.openai_chat(
        prompt_tokens=2006, cached_tokens=1920, completion_tokens=300, reasoning_tokens=192, audio_tokens_out=8
    )

    assert read_usage(body, provider="openai") == Pools(
        input_uncached=86, cache_read=1920, output_text=100, reasoning=192, audio_out=8
    )


def test_audio_is_neither_text_nor_counted_twice_when_cached() -> None:
    given_details = {"cached_tokens": 30, "audio_tokens": 50, "image_tokens": 10}
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}

    assert read({**usage, "input_token_details": given_details}) == Pools(
        input_uncached=10, cache_read=30, audio_in=50, image_in=10, output_text=7
    )
    split = {"text_tokens": 6, "audio_tokens": 20, "image_tokens": 4}
    assert read({**usage, "input_token_details": {**given_details, "cached_tokens_details": split}}) == Pools(
        input_uncached=34, cache_read=30, audio_in=30, image_in=6, output_text=7
    )


def test_written_cache_tokens_are_part_of_the_prompt() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 60}}

    assert read(usage) == Pools(input_uncached=40, cache_write_5m=60, output_text=1)


def test_details_may_be_absent_or_null() -> None:
    bare = {"prompt_tokens": 5, "completion_tokens": 3}

    assert read(bare) == Pools(input_uncached=5, output_text=3)
    assert read({**bare, "prompt_tokens_details": None, "completion_tokens_details": None}) == read(bare)
    assert read({**bare, "prompt_tokens_details": {"cached_tokens": None}, "total_tokens": None}) == read(bare)


def test_responses_are_read_like_chats() -> None:
    body = llm_shapes.openai_responses(input_tokens=276, cached_tokens=200, output_tokens=90, reasoning_tokens=64)

    assert read_usage(body, provider="openai") == Pools(input_uncached=76, cache_read=200, output_text=26, reasoning=64)


def test_embeddings_have_input_only() -> None:
    assert read_usage(llm_shapes.openai_embeddings(prompt_tokens=4, inputs=2), provider="openai") == Pools(
        input_uncached=4
    )
    assert read({"prompt_tokens": 4, "total_tokens": 4}) == Pools(input_uncached=4)
    assert read({"prompt_tokens": 4}, object="list") == Pools(input_uncached=4)


def test_what_the_images_api_puts_out_are_image_tokens() -> None:
    body = llm_shapes.openai_image(text_tokens=24, image_tokens=300, output_tokens=1056)

    assert read_usage(body, provider="openai") == Pools(input_uncached=24, image_in=300, image_out=1056)
    body["usage"]["output_tokens_details"] = {"image_tokens": 1000, "text_tokens": 56}
    assert read_usage(body, provider="openai") == Pools(input_uncached=24, image_in=300, image_out=1000, output_text=56)


def test_a_transcription_is_counted_in_seconds_or_in_tokens() -> None:
    assert read_usage(llm_shapes.openai_transcription(seconds=9), provider="openai") == Pools(seconds=9)
    by_token = llm_shapes.openai_transcription(audio_tokens=140, text_tokens=3, output_tokens=12)
    assert read_usage(by_token, provider="openai") == Pools(audio_in=140, input_uncached=3, output_text=12)


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (None, "no usage"),
        ([], "usage is not an object"),
        ({}, "input_tokens is missing"),
        ({"prompt_tokens": 4}, "completion_tokens is missing"),
        ({"completion_tokens": 4}, "input_tokens is missing"),
        ({"prompt_tokens": 4, "total_tokens": 9}, "completion_tokens is missing"),
        ({"prompt_tokens": -1, "completion_tokens": 1}, "prompt_tokens is out of range"),
        ({"prompt_tokens": 1, "completion_tokens": -1}, "completion_tokens is out of range"),
        ({"prompt_tokens": 2**53, "completion_tokens": 1}, "prompt_tokens is out of range"),
        ({"prompt_tokens": 1.0, "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": True, "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": "1", "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": 0, "completion_tokens": 1, "input_tokens": 50}, "disagree"),
        ({"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}, "total_tokens is not the sum"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": "2"}, "total_tokens is not a whole number"),
        ({"type": "duration"}, "seconds is missing"),
        ({"type": "duration", "seconds": "8.5"}, "seconds is not a number"),
        ({"type": "duration", "seconds": -8.5}, "seconds is out of range"),
        ({"type": "duration", "seconds": float("nan")}, "seconds is not a number"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0}, "Anthropic's"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 0}, "Anthropic's"),
    ],
)
def test_missing_or_contradictory_openai_usage_is_unreadable(usage: object, why: str) -> None:
    assert why in reason(read(usage))


@pytest.mark.parametrize(
    ("given_details", "made", "why"),
    [
        ({"cached_tokens": 11}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": 6, "audio_tokens": 5}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": 6, "cache_write_tokens": 5}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": -1}, {}, "cached_tokens is out of range"),
        ({"cached_tokens": False}, {}, "cached_tokens is not a whole number"),
        ({"cached_tokens": 2, "audio_tokens": 5, "cached_tokens_details": {"audio_tokens": 3}}, {}, "of cached_tokens"),
        ({"cached_tokens": 4, "audio_tokens": 2, "cached_tokens_details": {"audio_tokens": 3}}, {}, "of audio_tokens"),
        ({"cached_tokens": 4, "image_tokens": 2, "cached_tokens_details": {"image_tokens": 3}}, {}, "of image_tokens"),
        ({"cached_tokens": 4, "cached_tokens_details": 4}, {}, "cached_tokens_details is not an object"),
        ([], {}, "prompt_tokens_details is not an object"),
        ({}, {"reasoning_tokens": 11}, "parts of completion_tokens"),
        ({}, {"reasoning_tokens": 6, "audio_tokens": 5}, "parts of completion_tokens"),
        ({}, {"reasoning_tokens": -1}, "reasoning_tokens is out of range"),
        ({}, 3, "completion_tokens_details is not an object"),
    ],
)
def test_a_part_is_never_larger_than_its_whole(given_details: object, made: object, why: str) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "prompt_tokens_details": given_details,
        "completion_tokens_details": made,
    }

    assert why in reason(read(usage))


@given(cached=counts, uncached=counts, audio_in=counts, text=counts, reasoning=counts, audio_out=counts)
def test_openai_pools_add_up_to_the_totals(
    cached: int, uncached: int, audio_in: int, text: int, reasoning: int, audio_out: int
) -> None:
    body = llm_shapes.openai_chat(
        prompt_tokens=cached + uncached + audio_in,
        cached_tokens=cached,
        audio_tokens_in=audio_in,
        completion_tokens=text + reasoning + audio_out,
        reasoning_tokens=reasoning,
        audio_tokens_out=audio_out,
    )

    pools = read_usage(body, provider="openai")

    assert isinstance(pools, Pools)
    assert pools.input_tokens == body["usage"]["prompt_tokens"]
    assert pools.output_tokens == body["usage"]["completion_tokens"]
    assert (pools.input_uncached, pools.output_text) == (uncached, text)


# -- Reading Anthropic -------------------------------------------------------------------------------------------


def test_anthropics_input_tokens_leave_the_cached_ones_out() -> None:
    body = llm_shapes.anthropic_message(
        input_tokens=50,
        cache_read_tokens=100_000,
        cache_write_5m_tokens=248,
        cache_write_1h_tokens=100,
        output_tokens=503,
        thinking_tokens=400,
        web_searches=2,
    )

    assert read_usage(body, provider="anthropic") == Pools(
        input_uncached=50,
        cache_read=100_000,
        cache_write_5m=248,
        cache_write_1h=100,
        output_text=103,
        reasoning=400,
        web_searches=2,
    )


def test_cache_writes_without_a_split_are_five_minute_writes() -> None:
    bare = {"input_tokens": 1, "output_tokens": 1}
    only_split = {"cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}}

    assert read({**bare, "cache_creation_input_tokens": 70}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=70, output_text=1
    )
    assert read({**bare, "cache_creation_input_tokens": 70, **only_split}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=50, cache_write_1h=20, output_text=1
    )
    assert read({**bare, **only_split}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=30, cache_write_1h=20, output_text=1
    )


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ({"input_tokens": None}, "input_tokens is missing"),
        ({"output_tokens": None}, "output_tokens is missing"),
        ({"input_tokens": -1}, "input_tokens is out of range"),
        ({"cache_read_input_tokens": 1.5}, "cache_read_input_tokens is not a whole number"),
        ({"cache_creation": [1]}, "cache_creation is not an object"),
        (
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 10}},
            "parts of cache_creation_input_tokens",
        ),
        ({"output_tokens_details": {"thinking_tokens": 11}}, "parts of output_tokens"),
        ({"server_tool_use": {"web_search_requests": -1}}, "web_search_requests is out of range"),
        ({"input_tokens_details": {"cached_tokens": 5}}, "OpenAI's"),
    ],
)
def test_missing_or_contradictory_anthropic_usage_is_unreadable(usage: dict[str, object], why: str) -> None:
    assert why in reason(read({"input_tokens": 10, "output_tokens": 10, **usage}, provider="anthropic"))
    assert reason(read_usage({}, provider="anthropic")) == "the response has no usage"


@given(uncached=counts, cached=counts, five=counts, hour=counts, text=counts, thinking=counts)
def test_anthropic_pools_add_up_to_the_totals(
    uncached: int, cached: int, five: int, hour: int, text: int, thinking: int
) -> None:
    shape: dict[str, Any] = {
        "input_tokens": uncached,
        "cache_read_tokens": cached,
        "cache_write_5m_tokens": five,
        "cache_write_1h_tokens": hour,
        "output_tokens": text + thinking,
        "thinking_tokens": thinking,
    }

    pools = read_usage(llm_shapes.anthropic_message(**shape), provider="anthropic")

    assert isinstance(pools, Pools)
    assert pools.input_tokens == uncached + cached + five + hour
    assert pools.output_tokens == text + thinking
    assert read_stream_usage(llm_shapes.anthropic_stream(**shape), provider="anthropic") == pools


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**17) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["audio_tokens", "x"]), inner),
)
keys = st.sampled_from(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "type", "seconds"),
        *("prompt_tokens_details", "input_tokens_details", "output_tokens_details", "cache_creation"),
        *("cache_read_input_tokens", "cache_creation_input_tokens", "server_tool_use"),
    ]
)


@given(usage=st.dictionaries(keys, junk) | junk, provider=st.sampled_from(["openai", "anthropic"]))
def test_any_json_is_answered(usage: object, provider: str) -> None:
    answers = (
        read(usage, provider=provider),
        read_stream_usage([{"type": "message_delta", "usage": usage}], provider=provider),
    )

    for answer in answers:
        assert isinstance(answer, Pools | UnreadableUsage)


def test_a_provider_without_a_reader_is_unreadable() -> None:
    unknown: Any = "acme"

    assert "'acme'" in reason(read({"prompt_tokens": 1}, provider=unknown))


# -- Reading streams ---------------------------------------------------------------------------------------------


def test_the_last_chunk_of_a_chat_has_the_usage() -> None:
    chunks: list[object] = [*llm_shapes.openai_chat_stream(prompt_tokens=79, completion_tokens=11), "[DONE]"]

    assert read_stream_usage(chunks, provider="openai") == Pools(input_uncached=79, output_text=11)


def test_of_running_counts_the_last_is_the_sum() -> None:
    chunks = [{"usage": {"prompt_tokens": 9, "completion_tokens": made}} for made in (1, 2, 3)]

    assert read_stream_usage(chunks, provider="openai") == Pools(input_uncached=9, output_text=3)


def test_the_responses_stream_wraps_its_usage() -> None:
    events = llm_shapes.openai_responses_stream(input_tokens=276, output_tokens=8)

    assert read_stream_usage(events, provider="openai") == Pools(input_uncached=276, output_text=8)
    assert "final usage" in reason(read_stream_usage(events[:-1], provider="openai"))


def test_a_stream_without_its_end_is_unreadable() -> None:
    unasked = llm_shapes.openai_chat_stream(include_usage=False)
    cut = [event for event in llm_shapes.anthropic_stream() if event["type"] != "message_delta"]

    assert "final usage" in reason(read_stream_usage(unasked, provider="openai"))
    assert "final usage" in reason(read_stream_usage(cut, provider="anthropic"))
    assert "final usage" in reason(read_stream_usage([], provider="anthropic"))


def test_message_delta_overwrites_message_start() -> None:
    start = {
        "input_tokens": 2694,
        "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 0},
        "output_tokens": 1,
    }
    delta = {
        "input_tokens": 11_665,
        "cache_creation_input_tokens": 40,
        "cache_read_input_tokens": None,
        "output_tokens": 186,
        "server_tool_use": {"web_search_requests": 1},
    }
    events = [
        {"type": "message_start", "message": {"usage": start}},
        {"type": "content_block_delta", "delta": {"text": "Let"}},
        {"type": "message_delta", "usage": {"output_tokens": 100}},
        {"type": "message_delta", "usage": delta},
        {"type": "message_stop"},
    ]

    assert read_stream_usage(events, provider="anthropic") == Pools(
        input_uncached=11_665, cache_read=7, cache_write_5m=40, output_text=186, web_searches=1
    )


def test_a_delta_alone_does_not_tell_the_input() -> None:
    events = [{"type": "message_start", "message": None}, {"type": "message_delta", "usage": {"output_tokens": 5}}]

    assert "input_tokens is missing" in reason(read_stream_usage(events, provider="anthropic"))


# -- Reading the others ------------------------------------------------------------------------------------------


@given(text=counts, heard=counts, seen=counts, cached=st.data(), answer=counts, spoken=counts, thoughts=counts)
def test_geminis_pools_add_up_to_the_totals(
    text: int, heard: int, seen: int, cached: st.DataObject, answer: int, spoken: int, thoughts: int
) -> None:
    prompt = text + heard + seen
    from_cache = cached.draw(st.integers(0, prompt))
    usage = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": from_cache,
        "candidatesTokenCount": answer + spoken,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + answer + spoken + thoughts,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": text},
            {"modality": "AUDIO", "tokenCount": heard},
            {"modality": "VIDEO", "tokenCount": seen},
        ],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": spoken}],
    }

    pools = read_usage({"usageMetadata": usage}, provider="google")

    assert isinstance(pools, Pools)
    assert (pools.input_tokens, pools.output_tokens) == (prompt, answer + spoken + thoughts)
    assert (pools.cache_read, pools.audio_out, pools.reasoning) == (from_cache, spoken, thoughts)
    assert pools.audio_in <= heard and pools.image_in <= seen
    # Text was cached first: nothing of the sound is, unless the text and the pictures did not suffice.
    assert pools.audio_in == min(heard, prompt - from_cache)


@given(given_tokens=counts, cached=counts, five=counts, hour=counts, made=counts, is_whole=st.booleans())
def test_bedrocks_pools_add_up_to_the_totals(
    given_tokens: int, cached: int, five: int, hour: int, made: int, is_whole: bool
) -> None:
    usage = {
        "inputTokens": given_tokens,
        "outputTokens": made,
        "totalTokens": given_tokens + made + (cached + five + hour if is_whole else 0),
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": five + hour,
        "cacheDetails": [{"ttl": "1h", "inputTokens": hour}, {"ttl": "5m", "inputTokens": five}],
    }

    assert read(usage, provider="aws") == Pools(
        input_uncached=given_tokens, cache_read=cached, cache_write_5m=five, cache_write_1h=hour, output_text=made
    )


@given(prompt=counts, made=counts, reasoning=counts)
def test_reasoning_is_counted_once_wherever_it_stands(prompt: int, made: int, reasoning: int) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    beside = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made + reasoning, **details}
    inside = {**beside, "completion_tokens": made + reasoning}
    expected = Pools(input_uncached=prompt, output_text=made, reasoning=reasoning)

    for provider in ("x-ai", "openai", "openrouter"):
        assert read(beside, provider=provider) == read(inside, provider=provider) == expected


@pytest.mark.parametrize(
    ("provider", "body", "why"),
    [
        ("google", {"candidates": []}, "no usageMetadata"),
        ("google", {"predictions": [{"prompt": "a hill"}]}, "no usageMetadata"),
        ("google", {"predictions": 5}, "predictions is not a list"),
        ("google", {"usageMetadata": {"promptTokenCount": 5, "promptTokensDetails": [3]}}, "not a list of objects"),
        (
            "google",
            {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1, "responseTokenCount": 2}},
            "disagree",
        ),
        ("google", {"usage": {"total_input_tokens": 5, "total_tokens": 9}}, "not the sum"),
        (
            "google",
            {"usageMetadata": {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}]}},
            "exceed",
        ),
        (
            "aws",
            {"ResponseMetadata": {"HTTPHeaders": {"x-amzn-bedrock-input-token-count": "x"}}},
            "input-token-count is not",
        ),
        (
            "aws",
            {
                "ResponseMetadata": {
                    "HTTPHeaders": {"x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-output-token-count": "-1"}
                }
            },
            "output-token-count is not",
        ),
        (
            "aws",
            {
                "usage": {
                    "inputTokens": 1,
                    "outputTokens": 1,
                    "cacheWriteInputTokens": 1,
                    "cacheDetails": [{"ttl": "1h", "inputTokens": 2}],
                }
            },
            "exceed",
        ),
        ("cohere", {"usage": {"tokens": {"input_tokens": 5}}}, "no billed_units"),
        ("cohere", {"usage": {"billed_units": {"input_tokens": 5.5}}}, "not a whole number"),
        ("cohere", {"usage": {"billed_units": {"input_tokens": 5}, "cached_tokens": 6}}, "exceed"),
        ("cohere", {"meta": {"billed_units": {"input_tokens": 5, "text_tokens": 4, "image_tokens": 7}}}, "not the sum"),
        ("mistral", {"usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 11}}, "not the sum"),
        ("groq", {"x_groq": {"id": "made"}}, "no usage"),
        ("openai", {"data": [{"embedding": []}]}, "no usage"),
        ("openai", {"message": {"message": {"message": {"message": {"usage": {}}}}}}, "no usage"),
        (
            "openai",
            {"usage": {"prompt_tokens": 2**53 - 1, "completion_tokens": 2**53 - 1, "total_tokens": 5}},
            "not the sum",
        ),
        (
            "x-ai",
            {"usage": {"prompt_tokens": 1, "completion_tokens": 2**53 - 1, "reasoning_tokens": 5}},
            "out of range",
        ),
        (
            "anthropic",
            {
                "usage": {
                    "input_tokens": 2**53 - 1,
                    "output_tokens": 1,
                    "iterations": [{"type": "compaction", "input_tokens": 5, "output_tokens": 0}],
                }
            },
            "input_uncached must be",
        ),
    ],
)
def test_missing_or_contradictory_usage_is_unreadable(provider: str, body: dict[str, object], why: str) -> None:
    assert why in reason(read_usage(body, provider=provider))


def test_providers_that_serve_two_shapes_are_read_by_the_shape() -> None:
    openais = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    anthropics = {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 2}
    expected = Pools(input_uncached=6, cache_read=4, output_text=2)

    for provider in ("deepseek", "openrouter", "azure", "google", "aws", "mistral", "perplexity", "zai"):
        assert read(openais, provider=provider) == expected, provider
        assert read(anthropics, provider=provider) == expected, provider
    assert read(openais, provider="cohere") == expected
    gemini = {"usageMetadata": {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 2}}
    assert read_usage(gemini, provider="openrouter") == expected
    assert read_usage({"x_groq": {"usage": openais}}, provider="groq") == expected


def test_sound_that_has_its_seconds_has_no_tokens_as_well() -> None:
    usage = {
        "prompt_tokens": 400,
        "prompt_tokens_details": {"audio_tokens": 375},
        "completion_tokens": 9,
        "total_tokens": 409,
        "prompt_audio_seconds": 30,
    }

    assert read(usage, provider="mistral") == Pools(input_uncached=25, output_text=9, seconds=30)
    assert read({**usage, "prompt_audio_seconds": {}}, provider="mistral") == Pools(
        input_uncached=25, audio_in=375, output_text=9
    )


def test_connectors_may_be_in_the_prompt_or_beside_it() -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 9, "connector_tokens": 30}

    assert read({**usage, "total_tokens": 49}, provider="mistral") == Pools(input_uncached=40, output_text=9)
    assert read({**usage, "total_tokens": 79}, provider="mistral") == Pools(input_uncached=70, output_text=9)
    assert read(usage, provider="mistral") == Pools(input_uncached=70, output_text=9)
    spoken = {**usage, "prompt_audio_seconds": 5}
    assert read({**spoken, "total_tokens": 49}, provider="mistral") == Pools(
        input_uncached=40, output_text=9, seconds=5
    )
    assert "not the sum" in reason(read({**spoken, "total_tokens": 20}, provider="mistral"))


# -- Beside the usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "provider"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("gcp.vertex_ai", "google"),
        ("google-gla", "google"),
        ("gemini", "google"),
        ("aws.bedrock", "aws"),
        ("bedrock_converse", "aws"),
        ("azure.ai.openai", "azure"),
        ("mistral_ai", "mistral"),
        ("x_ai", "x-ai"),
        ("XAI", "x-ai"),
        ("together_ai", "together"),
        ("github_copilot", "github-copilot"),
        ("acme", None),
        ("", None),
    ],
)
def test_a_provider_goes_by_many_names(said: str, provider: str | None) -> None:
    assert provider_named(said) == provider
    answer = read({"prompt_tokens": 1, "completion_tokens": 1}, provider=said)
    assert isinstance(answer, UnreadableUsage if provider is None else Pools)


def test_every_provider_has_a_reader_and_is_its_own_name() -> None:
    for provider in PROVIDERS:
        assert provider_named(provider) == provider_named(provider.upper()) == provider
        assert "cannot be read" not in reason(read_usage({}, provider=provider))


def test_an_advisor_is_another_model() -> None:
    heard = {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 800, "output_tokens": 90}
    own = {"type": "message", "input_tokens": 5, "output_tokens": 6}
    body = {"usage": {"input_tokens": 5, "output_tokens": 6, "iterations": [own, heard, {**heard, "model": None}]}}

    assert read_usage(body, provider="anthropic") == Pools(input_uncached=5, output_text=6)
    assert read_other_models(body, provider="anthropic") == [
        ("claude-opus-4-5", Pools(input_uncached=800, output_text=90)),
        (None, Pools(input_uncached=800, output_text=90)),
    ]
    assert read_other_models({"usage": {"iterations": 5}}, provider="anthropic") == []
    assert read_other_models({}, provider="anthropic") == []


def test_the_model_that_draws_for_a_response_is_another() -> None:
    drawn = {
        "input_tokens": 300,
        "input_tokens_details": {"image_tokens": 200, "text_tokens": 100},
        "cached_tokens": 50,
        "cached_tokens_details": {"cached_image_tokens": 40, "cached_text_tokens": 10},
        "output_tokens": 1056,
        "total_tokens": 1356,
    }
    body = {
        "tools": [{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-1"}],
        "tool_usage": {"image_gen": drawn, "web_search": {"num_requests": 0}},
    }
    pools = Pools(input_uncached=90, cache_read=50, image_in=160, image_out=1056)

    assert read_other_models(body, provider="openai") == [("gpt-image-1", pools)]
    assert read_other_models({**body, "tools": None}, provider="azure") == [(None, pools)]
    split = {**drawn, "output_tokens_details": {"image_tokens": 1000, "text_tokens": 56}}
    assert read_other_models({"tool_usage": {"image_gen": split}}, provider="openai") == [
        (None, Pools(input_uncached=90, cache_read=50, image_in=160, image_out=1000, output_text=56))
    ]


def test_no_drawing_is_no_other_model() -> None:
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    assert read_other_models({"tool_usage": {"image_gen": nothing}}, provider="openai") == []
    assert read_other_models({"tool_usage": {"web_search": {"num_requests": 1}}}, provider="openai") == []
    assert read_other_models({"usage": {}}, provider="openai") == []
    assert read_other_models({"tool_usage": {"image_gen": {"input_tokens": -1}}}, provider="openai") == []


@pytest.mark.parametrize(
    ("usage", "cents"),
    [
        ({"cost": 0.95}, "95"),
        ({"cost": 0}, "0"),
        ({"cost": 1e-06}, "0.0001"),
        ({"cost": {"total_cost": 0.005447}}, "0.5447"),
        ({"cost_in_usd_ticks": 12_500_000}, "0.125"),
        ({"cost": -1}, None),
        ({"cost": float("nan")}, None),
        ({"cost": True}, None),
        ({"cost": {}}, None),
        ({"cost_in_usd_ticks": -1}, None),
        ({}, None),
        (None, None),
    ],
)
def test_some_providers_say_what_a_call_cost(usage: object, cents: str | None) -> None:
    assert read_reported_cost({"usage": usage}) == (None if cents is None else Decimal(cents))
