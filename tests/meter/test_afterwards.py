"""Calls that LiteLLM and OpenTelemetry tell of when they are over."""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.meter.conftest import ACTION, USER, calls, only_call
from tokentill import Till
from tokentill.meter import metering
from tokentill.meter.context import About
from tokentill.meter.litellm import TillLogger, till_logger
from tokentill.meter.otel import TillSpans
from tokentill.samples import llm_shapes

ANSWER = llm_shapes.openai_chat(cached_tokens=100)


def span(number: int = 1, *, failed: bool = False, **attributes: Any) -> Any:
    """A span as OpenTelemetry's SDK hands it over when it has ended."""
    said = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 40, "gen_ai.usage.cache_read.input_tokens": 100,
        **{name.replace("__", "."): value for name, value in attributes.items()},
    }  # fmt: skip
    status = SimpleNamespace(status_code=SimpleNamespace(name="ERROR" if failed else "UNSET"), description=None)
    return SimpleNamespace(
        name="chat gpt-4o", attributes={name: each for name, each in said.items() if each is not None}, status=status,
        context=SimpleNamespace(trace_id=1, span_id=number),
    )  # fmt: skip


def told(spans: TillSpans, *ended: Any) -> None:
    for each in ended:
        spans.on_start(each)
        spans.on_end(each)
    assert spans.force_flush()


def test_a_span_of_a_model_call_is_usage(rich: Till) -> None:
    told(TillSpans(rich, user=USER, action=ACTION), span(gen_ai__response__id="chatcmpl-1"))

    call = only_call(rich)
    assert (call["tokens"], call["pools"]) == (160, {"input_uncached": 20, "cache_read": 100, "output_text": 40})
    assert (call["model_used"], call["provider_request_id"]) == ("gpt-4o-2024-08-06", "chatcmpl-1")


def test_a_span_says_who_answered(rich: Till) -> None:
    told(TillSpans(rich, user=USER, action=ACTION), span(gen_ai__provider__name="azure.ai.openai"))

    assert only_call(rich)["provider"] == "azure"


def test_a_span_that_is_told_twice_is_charged_once(rich: Till) -> None:
    spans = TillSpans(rich, user=USER, action=ACTION)

    told(spans, span(1), span(1), span(2))

    assert [call["tokens"] for call in calls(rich)] == [160, 160]


def test_two_instrumentations_of_one_call_are_charged_once(rich: Till) -> None:
    inner, outer = span(1, gen_ai__response__id="r"), span(2, gen_ai__response__id="r", gen_ai__request__model="x")

    told(TillSpans(rich, user=USER, action=ACTION), inner, outer)

    assert only_call(rich)["tokens"] == 160


def test_an_agents_span_repeats_what_its_calls_have_said(rich: Till) -> None:
    told(TillSpans(rich, user=USER, action=ACTION), span(gen_ai__operation__name="invoke_agent"))

    assert calls(rich) == []


def test_a_span_says_whose_call_it_is(rich: Till) -> None:
    rich.grant_tokens("bob", 1_000)

    told(TillSpans(rich, user=USER, action=ACTION), span(enduser__id="bob", till__action="vision_generation"))

    assert only_call(rich, "bob")["action_type"] == "vision_generation" and calls(rich) == []


def test_a_failed_span_costs_nothing(rich: Till) -> None:
    told(TillSpans(rich, user=USER, action=ACTION), span(failed=True, error__type="TimeoutError"))

    call = only_call(rich)
    assert (call["tokens"], call["success"], call["error_message"]) == (0, False, "TimeoutError")


def test_a_span_without_usage_is_told_and_not_booked(rich: Till, caplog: pytest.LogCaptureFixture) -> None:
    told(TillSpans(rich, user=USER, action=ACTION), span(gen_ai__usage__input_tokens=None))

    assert calls(rich) == [] and "does not say" in caplog.text


def test_spans_of_the_real_sdk_are_usage_and_none_of_them_fails_its_call(rich: Till) -> None:
    tracing = TracerProvider()
    tracing.add_span_processor(TillSpans(rich, user=USER, action=ACTION))
    tracer = tracing.get_tracer("app")

    with tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
        with tracer.start_as_current_span("chat gpt-4o", attributes=dict(span().attributes)):
            pass
        with (
            pytest.raises(TimeoutError),
            tracer.start_as_current_span("chat gpt-4o", attributes=dict(span().attributes)),
        ):
            raise TimeoutError("too slow")
    tracing.shutdown()

    assert [(call["tokens"], call["success"]) for call in calls(rich)] == [(160, True), (0, False)]


def test_what_happened_is_recorded_even_into_debt(till: Till) -> None:
    till.grant_tokens(USER, 100)

    told(TillSpans(till, user=USER, action=ACTION), span())

    assert till.balance(USER).balance == -60


def logged(logger: TillLogger, till: Till, response: object = ANSWER, **more: Any) -> None:
    kwargs = {
        "model": "gpt-4o", "litellm_call_id": "call-1", "messages": [{"role": "user", "content": "a house"}],
        "litellm_params": {"metadata": {}}, **more,
    }  # fmt: skip
    if "exception" in more:
        logger.log_failure_event(kwargs, None, None, None)
    else:
        logger.log_success_event(kwargs, response, None, None)
    assert TillSpans(till).force_flush()


def test_a_call_by_litellm_is_usage_and_told_twice_it_is_charged_once(rich: Till) -> None:
    logger = TillLogger(rich, About(user=USER, action=ACTION))

    logged(logger, rich)
    logged(logger, rich)

    call = only_call(rich)
    assert (call["tokens"], call["pools"]) == (160, {"input_uncached": 20, "cache_read": 100, "output_text": 40})


def test_a_call_by_litellm_says_whose_it_is(rich: Till) -> None:
    logger = TillLogger(rich, About(action=ACTION))
    rich.grant_tokens("bob", 1_000)

    logged(logger, rich, litellm_params={"metadata": {"till_user": "bob", "till_action": "vision_generation"}})
    with metering(user=USER):
        logged(logger, rich, litellm_call_id="call-2")

    assert only_call(rich, "bob")["action_type"] == "vision_generation"
    assert only_call(rich)["action_type"] == ACTION


def test_a_call_by_litellm_without_usage_is_estimated(rich: Till) -> None:
    logged(TillLogger(rich, About(user=USER, action=ACTION)), rich, {"id": "x", "choices": [{"text": "a" * 40}]})

    call = only_call(rich)
    assert call["estimated"] is True and call["tokens"] > 10


def test_a_stream_by_litellm_that_is_said_to_have_used_nothing_is_estimated(rich: Till) -> None:
    """So LiteLLM tells of every stream that was not asked for its usage."""
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    logged(TillLogger(rich, About(user=USER, action=ACTION)), rich, llm_shapes.openai_chat() | {"usage": nothing})

    call = only_call(rich)
    assert (call["estimated"], call["pools"]["output_text"]) == (True, 10)


def test_a_failed_call_by_litellm_costs_nothing(rich: Till) -> None:
    logged(TillLogger(rich, About(user=USER, action=ACTION)), rich, exception=ValueError("too long"))

    call = only_call(rich)
    assert (call["tokens"], call["success"], call["error_message"]) == (0, False, "too long")


def test_litellm_recognises_its_logger(rich: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        kind = importlib.import_module("litellm.integrations.custom_logger").CustomLogger
    except ImportError:
        # Not among what the tests install. What LiteLLM asks of a callback is that it is one of this class.
        kind = type("CustomLogger", (), {})
        module: Any = ModuleType("litellm.integrations.custom_logger")
        module.CustomLogger = kind
        monkeypatch.setitem(sys.modules, "litellm", ModuleType("litellm"))
        monkeypatch.setitem(sys.modules, "litellm.integrations", ModuleType("litellm.integrations"))
        monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", module)

    assert isinstance(till_logger(rich, user=USER, action=ACTION), kind)
