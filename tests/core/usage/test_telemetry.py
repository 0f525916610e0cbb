"""What OpenTelemetry's attributes say of an AI call, by conventions current and older."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.calls import Call
from tokentill.core.ledger.journal import LATE_AFTER, is_late
from tokentill.core.usage import telemetry
from tokentill.core.usage.pools import Pools, UnreadableUsage
from tokentill.core.usage.telemetry import (
    TelemetryCall,
    call_of_log,
    call_of_span,
    is_call,
    moment_of,
    name_of_event,
    usage_of,
)
from tokentill.errors import InvalidTime, InvalidUserId

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "enduser.id": "ann"}
USED: dict[str, Any] = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}


Said = Mapping[str, Any]
NOTHING: Said = {}


def span(
    said: Said = NOTHING, *, span_id: str = "b" * 16, resource: Said = NOTHING, failure: str | None = None
) -> TelemetryCall:
    return call_of_span({**CHAT, **said}, resource, trace_id="a" * 32, span_id=span_id, ended_at=NOW, failure=failure)


def log(said: Said = NOTHING) -> TelemetryCall:
    return call_of_log({**CHAT, **USED, **said}, {}, trace_id="a" * 32, span_id="b" * 16, occurred_at=NOW)


@pytest.mark.parametrize(
    ("said", "pools"),
    [
        (USED, Pools(input_uncached=100, output_text=10)),
        (
            {
                **USED,
                "gen_ai.usage.cache_read.input_tokens": 40,
                "gen_ai.usage.cache_creation.input_tokens": 20,
                "gen_ai.usage.reasoning.output_tokens": 4,
            },
            Pools(input_uncached=40, cache_read=40, cache_write_5m=20, output_text=6, reasoning=4),
        ),
        (
            {**USED, "gen_ai.usage.audio.input_tokens": 30, "gen_ai.usage.image.input_tokens": 5,
             "gen_ai.usage.audio.output_tokens": 8, "gen_ai.usage.image.output_tokens": 2},
            Pools(input_uncached=65, audio_in=30, image_in=5, audio_out=8, image_out=2),
        ),
        (
            {**USED, "gen_ai.usage.audio.input_tokens": 30, "gen_ai.usage.cache_read.input_tokens": 10,
             "gen_ai.usage.audio.cache_read.input_tokens": 10},
            Pools(input_uncached=70, cache_read=10, audio_in=20, output_text=10),
        ),
        # Older conventions, OpenLLMetry's, pydantic-ai's, Sentry's, OpenInference's, Vercel's.
        ({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 2},
         Pools(input_uncached=7, output_text=2)),
        ({**USED, "gen_ai.usage.cache_read_input_tokens": 90}, Pools(input_uncached=10, cache_read=90, output_text=10)),
        (
            {**USED, "gen_ai.usage.details.cache_write_tokens": 90, "gen_ai.usage.details.reasoning_tokens": 10},
            Pools(input_uncached=10, cache_write_5m=90, reasoning=10),
        ),
        ({**USED, "gen_ai.usage.input_tokens.cached": 1}, Pools(input_uncached=99, cache_read=1, output_text=10)),
        (
            {"llm.token_count.prompt": 9, "llm.token_count.completion": 3,
             "llm.token_count.prompt_details.cache_read": 4, "llm.token_count.completion_details.reasoning": 1},
            Pools(input_uncached=5, cache_read=4, output_text=2, reasoning=1),
        ),
        ({**USED, "ai.usage.cachedInputTokens": 60.0}, Pools(input_uncached=40, cache_read=60, output_text=10)),
        # What stands in two conventions is one thing, and the newer one says it.
        ({**USED, "gen_ai.usage.prompt_tokens": 7}, Pools(input_uncached=100, output_text=10)),
    ],
)  # fmt: skip
def test_cached_tokens_are_inside_the_input_and_reasoning_inside_the_output(said: Any, pools: Pools) -> None:
    assert usage_of(said) == pools
    assert pools.input_tokens == next(said[name] for name in telemetry.INPUT if name in said)
    assert pools.output_tokens == next(said[name] for name in telemetry.OUTPUT if name in said)


@given(
    counts=st.dictionaries(
        st.sampled_from([name for names in (telemetry.INPUT, telemetry.OUTPUT, telemetry.CACHE_READ,
                                            telemetry.CACHE_WRITE, telemetry.REASONING) for name in names]),
        st.one_of(st.integers(-5, 1_000), st.floats(allow_nan=True), st.text(max_size=3), st.booleans(), st.none()),
    )
)  # fmt: skip
def test_whatever_is_said_is_pools_that_add_up_or_is_unreadable(counts: dict[str, Any]) -> None:
    used = usage_of(counts)

    if isinstance(used, Pools):
        total_in = next(counts[name] for name in telemetry.INPUT if counts.get(name) is not None)
        assert used.input_tokens == total_in
    else:
        assert used is None or isinstance(used, UnreadableUsage)


def test_agents_and_tools_are_no_calls_whatever_they_count() -> None:
    for said in (
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-5", **USED},
        {"gen_ai.operation.name": "execute_tool"},
        {"openinference.span.kind": "AGENT", "llm.model_name": "gpt-5", "llm.token_count.prompt": 1},
        {"http.request.method": "POST"},
        {"gen_ai.request.model": "gpt-5"},
        USED,  # As pydantic-ai's agents once did: the sum of what is within, and no model.
    ):
        assert not is_call(said), said


def test_a_call_is_known_by_its_operation_or_by_a_model_and_its_tokens() -> None:
    for said in (
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": "embeddings"},
        {"gen_ai.operation.name": "something_new", "gen_ai.request.model": "gpt-5", **USED},
        {"gen_ai.system": "openai", "gen_ai.response.model": "gpt-5", "gen_ai.usage.prompt_tokens": 5},
        {"openinference.span.kind": "LLM", "llm.model_name": "gpt-5", "llm.token_count.prompt": 1},
    ):
        assert is_call(said), said


def test_a_call_says_who_what_for_and_what_it_used() -> None:
    call = call_of_span(
        {
            **CHAT, **USED, "tokentill.user": "bob", "tokentill.action": "vision_generation",
            "gen_ai.provider.name": "aws.bedrock", "gen_ai.response.model": "gpt-5-2025-08-07",
            "gen_ai.response.id": "chatcmpl-CfWqzN2bq0tKvTqGZ5kUq0l9aXyAb", "openai.response.service_tier": "flex",
        },
        {}, trace_id="a" * 32, span_id="b" * 16, ended_at=NOW, failure=None,
    )  # fmt: skip

    assert (call.user, call.call.action_type) == ("bob", "vision_generation")
    assert call.call == Call(
        action_type="vision_generation",
        pools={"input_uncached": 100, "output_text": 10},
        occurred_at=NOW,
        model_used="gpt-5-2025-08-07",
        provider="aws",
        provider_request_id="chatcmpl-CfWqzN2bq0tKvTqGZ5kUq0l9aXyAb",
        service_tier="flex",
        metadata={"trace_id": "a" * 32, "span_id": "b" * 16},
    )


def test_what_a_span_does_not_say_its_resource_may_say_for_all() -> None:
    resource = {"tokentill.user": "the shop", "tokentill.action": "transcription"}
    silent = {"gen_ai.operation.name": "chat", **USED}

    of_resource = call_of_span(silent, resource, trace_id="a", span_id="b", ended_at=None, failure=None)

    assert (of_resource.user, of_resource.call.action_type) == ("the shop", "transcription")
    assert span(resource=resource).user == "ann"
    assert span(USED).call.action_type == "chat_conversation"
    assert span({"enduser.id": 42}).user == "42"
    with pytest.raises(InvalidUserId, match=r"tokentill\.user"):
        call_of_span(silent, {}, trace_id="a", span_id="b", ended_at=None, failure=None)


def test_a_failed_call_says_why_and_keeps_its_counts() -> None:
    call = span(USED, failure="429 Too Many Requests").call

    assert (call.success, call.error_message) == (False, "429 Too Many Requests")
    assert call.pools == {"input_uncached": 100, "output_text": 10}
    assert log({"error.type": "timeout"}).call.success is False


@pytest.mark.parametrize(
    ("said", "charged"),
    [
        ({**USED, "gen_ai.usage.cache_read.input_tokens": 150}, {"input_uncached": 150, "output_text": 10}),
        ({"gen_ai.usage.input_tokens": 100}, {"input_uncached": 100}),
        ({"gen_ai.usage.output_tokens": 10}, {"output_text": 10}),
        ({**USED, "gen_ai.usage.reasoning.output_tokens": -1}, {"input_uncached": 100, "output_text": 10}),
    ],
)
def test_what_contradicts_itself_is_charged_by_the_fallback_and_kept(said: Any, charged: Any) -> None:
    call = span(said).call

    assert (call.pools, call.estimated) == (charged, True)
    assert call.usage_note
    assert call.raw_usage is not None and call.raw_usage["usage"]


def test_an_embedding_has_no_output_and_a_call_without_tokens_is_doubted() -> None:
    assert usage_of({"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 5}) == Pools(input_uncached=5)
    assert usage_of({}) is None
    nothing = span(dict.fromkeys(USED, 0)).call
    assert (nothing.input_tokens, nothing.output_tokens, nothing.estimated) == (0, 0, True)
    assert span().call.pools is None and not span().call.estimated


def test_one_call_traced_twice_shares_the_name_of_its_response() -> None:
    response = {"gen_ai.response.id": "chatcmpl-CfWqzN2bq0tKvTqGZ5kUq0l9aXyAb"}

    one, other = span(USED | response), span(USED | response, span_id="c" * 16)

    assert one.keys[0] != other.keys[0]
    assert one.keys[1:] == other.keys[1:] == log(response).keys
    # Its span names it as well, whatever else is said of it the next time.
    assert one.keys[0] == span(failure="timeout").keys[0]


def test_an_id_that_others_may_have_too_is_no_name() -> None:
    assert len(span({"gen_ai.response.id": "chatcmpl-417"}).keys) == 1


def test_a_log_without_a_response_is_named_by_all_it_says() -> None:
    # The span around it may be around other calls, too.
    assert log().keys == log().keys
    assert log().keys != log({"gen_ai.usage.output_tokens": 11}).keys
    assert log().keys[0] != span(USED).keys[0]


def test_a_time_is_kept_to_the_microsecond() -> None:
    assert moment_of(1_767_614_400_000_001_999) == NOW + timedelta(microseconds=1)
    assert moment_of(0) is None
    with pytest.raises(InvalidTime):
        moment_of(10**21)


def test_events_are_named_by_source_and_id_together() -> None:
    assert len({name_of_event(*pair) for pair in (("a", "b"), ("ab", ""), ("a", "c"), ("b", "a"), ("a", "b"))}) == 4
    assert len(name_of_event("s" * 1_000, "i" * 1_000)) <= 255


def test_usage_is_late_when_it_is_written_more_than_an_hour_after_it_occurred() -> None:
    assert not is_late(NOW, NOW + LATE_AFTER)
    assert is_late(NOW, NOW + LATE_AFTER + timedelta(microseconds=1))
    assert not is_late(NOW, NOW - timedelta(minutes=5))
