"""Streams that break off: what was counted is kept, what was seen is estimated, and text that came is never free."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.usage.pools import Pools, UnreadableUsage
from tokentill.core.usage.reading import (
    PartialUsage,
    UsageStream,
    estimate_tokens,
    read_partial_usage,
    read_stream_usage,
)
from tokentill.errors import InvalidAmount
from tokentill.samples import llm_shapes

TEXT = "Your vision is clear and within reach, step by step."


def partial(
    events: list[Any], provider: str = "openai", prompt_tokens: int | None = None
) -> PartialUsage | UnreadableUsage:
    return read_partial_usage(events, provider=provider, prompt_tokens=prompt_tokens)


def pools_of(answer: PartialUsage | UnreadableUsage) -> Pools:
    assert isinstance(answer, PartialUsage), answer
    assert answer.is_estimated
    return answer.pools


def chat(**delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("four", 1),
        ("fives", 2),
        ("Доброе утро", 6),  # 21 bytes.
        ("おはよう", 3),
        ("🌄", 1),
        ("\ud83c", 1),  # Half of a pair, as a stream may cut it.
    ],
)
def test_a_token_is_four_bytes_of_utf_8(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@given(text=st.text(max_size=50), more=st.text(max_size=50))
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    assert (estimate_tokens(text) == 0) == (text == "")
    assert max(estimate_tokens(text), estimate_tokens(more)) <= estimate_tokens(text + more)
    assert estimate_tokens(text + more) <= estimate_tokens(text) + estimate_tokens(more)


def test_a_chat_that_broke_off_is_the_callers_prompt_and_the_text_that_came() -> None:
    events = llm_shapes.openai_chat_stream(text=TEXT)[:-2]

    assert pools_of(partial(events, prompt_tokens=120)) == Pools(input_uncached=120, output_text=13)
    assert pools_of(partial(events)) == Pools(output_text=13)


def test_a_stream_that_ended_is_not_estimated() -> None:
    events = llm_shapes.openai_chat_stream(prompt_tokens=79, completion_tokens=11)

    assert partial(events, prompt_tokens=500) == PartialUsage(
        Pools(input_uncached=79, output_text=11), is_estimated=False
    )


def test_what_the_start_of_a_message_counted_is_kept() -> None:
    whole = llm_shapes.anthropic_stream(text=TEXT, input_tokens=50, cache_read_tokens=900, output_tokens=40)
    events = [event for event in whole if event["type"] != "message_delta"]

    pools = pools_of(partial(events, "anthropic", prompt_tokens=7))

    assert (pools.input_uncached, pools.cache_read, pools.output_text) == (50, 900, 13)


def test_a_running_sum_is_kept_where_it_is_more_than_the_text() -> None:
    events: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}, {"text": TEXT}]}}]},
        {"candidates": [{}], "usageMetadata": {"promptTokenCount": 20, "thoughtsTokenCount": 90}},
    ]

    assert pools_of(partial(events, "google")) == Pools(input_uncached=20, reasoning=90)
    events[1]["usageMetadata"] = {"promptTokenCount": 20, "thoughtsTokenCount": 5}
    assert pools_of(partial(events, "google")) == Pools(input_uncached=20, reasoning=5, output_text=13)


def test_each_of_answer_and_thoughts_is_the_most_that_is_known_of_it() -> None:
    thought = {"candidates": [{"content": {"parts": [{"text": TEXT * 3, "thought": True}, {"text": TEXT}]}}]}
    counted = {"candidates": [{}], "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 30}}

    assert pools_of(partial([thought, counted], "google")) == Pools(input_uncached=20, output_text=30, reasoning=39)


def test_a_last_chunk_without_a_sum_ends_the_stream_all_the_same() -> None:
    counted = {"promptTokenCount": 20, "candidatesTokenCount": 4, "totalTokenCount": 24}
    gemini = [
        {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}], "usageMetadata": counted},
        {"candidates": [{"finishReason": "STOP"}]},
    ]
    running = {**chat(content="Hi"), "usage": {"prompt_tokens": 20, "completion_tokens": 4}}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    assert read_stream_usage(gemini, provider="google") == Pools(input_uncached=20, output_text=4)
    assert read_stream_usage([running, last], provider="vllm") == Pools(input_uncached=20, output_text=4)
    assert isinstance(read_stream_usage([running], provider="vllm"), UnreadableUsage)


def test_the_usage_of_one_step_is_not_the_interactions() -> None:
    step = {"event_type": "step.stop", "index": 0, "usage": {"total_input_tokens": 5, "total_output_tokens": 2}}

    assert isinstance(read_stream_usage([step], provider="google"), UnreadableUsage)
    assert pools_of(partial([step], "google")) == Pools(input_uncached=5, output_text=2)


def test_a_counted_block_that_contradicts_itself_counts_by_the_fallback() -> None:
    events = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 30, "output_tokens": -1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
    ]

    assert pools_of(partial(events, "anthropic")) == Pools(input_uncached=30, output_text=13)


@pytest.mark.parametrize(
    ("provider", "event", "pools"),
    [
        ("openai", chat(content=TEXT), {"output_text": 13}),
        ("openai", chat(refusal=TEXT), {"output_text": 13}),
        ("openai", {"choices": [{"text": TEXT}]}, {"output_text": 13}),
        (
            "openai",
            chat(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": "{}"}}]),
            {"output_text": 2},
        ),
        ("openai", chat(audio={"data": "A" * 400, "transcript": TEXT}), {"output_text": 13}),
        ("deepseek", chat(content=None, reasoning_content=TEXT), {"reasoning": 13}),
        ("openrouter", chat(reasoning=TEXT, reasoning_details=[{"text": TEXT}]), {"reasoning": 13}),
        ("vllm", chat(reasoning=TEXT, reasoning_content=TEXT), {"reasoning": 13}),
        ("mistral", chat(content=[{"type": "thinking", "thinking": [{"text": TEXT}]}]), {"reasoning": 13}),
        ("openai", {"type": "response.output_text.delta", "delta": TEXT}, {"output_text": 13}),
        ("openai", {"type": "response.reasoning_summary_text.delta", "delta": TEXT}, {"reasoning": 13}),
        ("openai", {"type": "response.function_call_arguments.delta", "delta": TEXT}, {"output_text": 13}),
        ("openai", {"type": "response.output_audio_transcript.delta", "delta": TEXT}, {"output_text": 13}),
        ("openai", {"type": "transcript.text.delta", "delta": TEXT}, {"output_text": 13}),
        (
            "anthropic",
            {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": TEXT}},
            {"reasoning": 13},
        ),
        ("anthropic", {"type": "content_block_delta", "delta": {"partial_json": TEXT}}, {"output_text": 13}),
        (
            "anthropic",
            {"type": "content_block_start", "content_block": {"type": "text", "text": TEXT}},
            {"output_text": 13},
        ),
        (
            "google",
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "look", "args": {"at": 1}}}]}}]},
            {"output_text": 4},
        ),
        ("google", {"serverContent": {"outputTranscription": {"text": TEXT}}}, {"output_text": 13}),
        ("google", {"event_type": "content.delta", "delta": {"type": "text", "text": TEXT}}, {"output_text": 13}),
        ("aws", {"contentBlockDelta": {"delta": {"reasoningContent": {"text": TEXT}}}}, {"reasoning": 13}),
        ("aws", {"contentBlockDelta": {"delta": {"toolUse": {"input": TEXT}}}}, {"output_text": 13}),
        ("aws", {"outputText": TEXT, "index": 0}, {"output_text": 13}),
        ("aws", {"generation": TEXT}, {"output_text": 13}),
        ("aws", {"outputs": [{"text": TEXT, "stop_reason": None}]}, {"output_text": 13}),
        ("cohere", {"type": "content-delta", "delta": {"message": {"content": {"text": TEXT}}}}, {"output_text": 13}),
        ("cohere", {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": TEXT}}}, {"output_text": 13}),
        ("cohere", {"event_type": "text-generation", "text": TEXT}, {"output_text": 13}),
        ("ollama", {"message": {"role": "assistant", "content": TEXT}, "done": False}, {"output_text": 13}),
        ("ollama", {"response": TEXT, "done": False}, {"output_text": 13}),
    ],
)
def test_text_is_seen_wherever_a_provider_puts_it(provider: str, event: object, pools: dict[str, int]) -> None:
    assert pools_of(partial([event], provider, prompt_tokens=3)) == Pools(input_uncached=3, **pools)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_audio.delta", "delta": "A" * 400},
        {"type": "speech.audio.delta", "audio": "A" * 400},
        {"type": "response.output_text.done", "text": TEXT},
        {"type": "response.created", "response": {"output": [{"content": TEXT}], "usage": None}},
        {"type": "image_generation.partial_image", "b64_json": "A" * 400},
        {"choices": [{"index": 0, "delta": {}, "message": {"content": TEXT}}]},
        {"choices": ["x", None, {"delta": 5}]},
        {"candidates": [None], "serverContent": 3},
        {"contentBlockDelta": 7},
        {"response": {"content": TEXT}},
        {"metadata": {"usage": None}},
        {"type": "message_start", "message": {"usage": 4}},
    ],
)
def test_sound_pictures_and_what_is_said_again_are_no_text(event: object) -> None:
    assert isinstance(partial([event]), UnreadableUsage)
    assert pools_of(partial([event], prompt_tokens=9)) == Pools(input_uncached=9)


def test_a_stream_of_which_nothing_was_seen_is_unreadable() -> None:
    assert isinstance(partial([], prompt_tokens=50), UnreadableUsage)
    assert isinstance(partial(["[DONE]", None, 5], prompt_tokens=50), UnreadableUsage)


def test_what_lies_too_deep_is_not_looked_for() -> None:
    deep: Any = TEXT
    for _ in range(3_000):
        deep = [deep]

    assert isinstance(partial([chat(content=deep)]), UnreadableUsage)
    assert isinstance(partial([{"contentBlockDelta": {"delta": {"input": {"x": deep}}}}]), UnreadableUsage)


def test_the_callers_prompt_is_a_count() -> None:
    with pytest.raises(InvalidAmount):
        partial([chat(content="x")], prompt_tokens=-1)


def test_a_stream_can_be_asked_at_any_moment() -> None:
    events = llm_shapes.anthropic_stream(text=TEXT, input_tokens=50, output_tokens=40)
    stream = UsageStream("anthropic")
    seen: list[int] = []
    for event in events:
        stream.see(event)
        so_far = stream.partial()
        seen.append(so_far.pools.output_tokens if isinstance(so_far, PartialUsage) else 0)

    assert seen == sorted(seen) and seen[-1] == 40
    assert stream.usage() == Pools(input_uncached=50, output_text=40)
