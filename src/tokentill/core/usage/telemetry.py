"""Telemetry: AI calls as OpenTelemetry tells of them, by its GenAI conventions, current, older, and its neighbours'.

All names of attributes are here. A name that stands earlier in its list outranks the later ones; what a span does not
say, its resource may say for all of its service.

By these conventions the cached tokens are inside the input, the reasoning inside the output, sound and images inside
either: as in OpenAI's own shape, whose reader takes them apart. What contradicts itself is charged by the fallback of
`core.usage.fallback`, marked `estimated`, with the provider's numbers in `metadata`.

Units: whole model tokens. Times: aware UTC.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tokentill.core.calls import ID_LENGTH_MAX, PROVIDER_LENGTH_MAX, Call
from tokentill.core.checks import TEXT_LENGTH_MAX, storable
from tokentill.core.keys import Key, canonical
from tokentill.core.usage.pools import Pools, UnreadableUsage
from tokentill.core.usage.reading import fallback_pools, provider_named, read_usage
from tokentill.core.values import Value
from tokentill.errors import InvalidTime, InvalidUserId

# -- Names -------------------------------------------------------------------------------------------------------------

# `till.…` is what `tokentill.meter` says; the last two are how OpenLLMetry and Vercel's AI SDK carry a user.
USER = (
    "tokentill.user",
    "till.user",
    "enduser.id",
    "user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
)
ACTION = ("tokentill.action", "till.action", "traceloop.association.properties.action")
ACTION_DEFAULT = "chat_conversation"

OPERATION = "gen_ai.operation.name"
CALLS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
# Their usage, where they tell it, repeats that of the calls within.
NOT_CALLS = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "execute_tool", "plan", "retrieval"})
KIND = "openinference.span.kind"
KINDS = frozenset({"LLM", "EMBEDDING"})

MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.response.model", "llm.request.model", "llm.model_name")
PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
RESPONSE_ID = ("gen_ai.response.id", "llm.response.id")
SERVICE_TIER = ("openai.response.service_tier", "gen_ai.openai.response.service_tier")
ERROR = "error.type"

INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
)
CACHE_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.cache_read_tokens",
    "gen_ai.usage.input_tokens.cached",
    "gen_ai.usage.details.cache_read_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.cachedInputTokens",
)
CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "gen_ai.usage.details.cache_write_tokens",
    "llm.token_count.prompt_details.cache_write",
)
REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.reasoningTokens",
)
AUDIO_IN = (
    "gen_ai.usage.audio.input_tokens",
    "gen_ai.usage.details.input_audio_tokens",
    "llm.token_count.prompt_details.audio",
)
AUDIO_CACHED = ("gen_ai.usage.audio.cache_read.input_tokens", "gen_ai.usage.details.cache_audio_read_tokens")
AUDIO_OUT = (
    "gen_ai.usage.audio.output_tokens",
    "gen_ai.usage.details.output_audio_tokens",
    "llm.token_count.completion_details.audio",
)
IMAGE_IN = ("gen_ai.usage.image.input_tokens",)
IMAGE_OUT = ("gen_ai.usage.image.output_tokens",)

_USUAL_TIERS = ("default", "standard", "auto")
# Shorter ids of responses are not unique: Ollama's are a number below a thousand.
RESPONSE_ID_LENGTH_MIN = 20

Attributes = Mapping[str, Any]

# -- Calls -------------------------------------------------------------------------------------------------------------


class TelemetryCall(Value, frozen=True):
    """An AI call that somebody told of, and who made it.

    `keys` are its names, of which each alone means this call and no other: it happened once, however often and in
    whatever words it is told.
    """

    user: str
    keys: tuple[Key, ...]
    call: Call

    @property
    def action_type(self) -> str | None:
        return self.call.action_type


def is_call(attributes: Attributes) -> bool:
    """Whether this is a call of a model, and not an agent, a tool or anything else that is traced.

    Without the name of an operation (older conventions), or with one that nobody has heard of, it must name a model and
    count tokens.
    """
    operation = attributes.get(OPERATION)
    if operation in CALLS:
        return True
    if operation in NOT_CALLS or attributes.get(KIND, "LLM") not in KINDS:
        return False
    return _first(attributes, MODEL) is not None and (
        _first(attributes, INPUT) is not None or _first(attributes, OUTPUT) is not None
    )


def call_of_span(
    attributes: Attributes, resource: Attributes, *, trace_id: str, span_id: str, ended_at: datetime | None,
    failure: str | None,
) -> TelemetryCall:  # fmt: skip
    """Return the call that a span tells of; `failure` says why it failed, None that it did not.

    Its names are its span and, where the provider gave one, its response: two instrumentations of one call, or a span
    and a log of it, are one call.

    Raises: InvalidUserId when nobody says whose call it was.
    """
    keys = (Key.of_fact("span", trace_id, span_id), *_response_keys(attributes))
    return _call(attributes, resource, keys, trace_id, span_id, ended_at, failure)


def call_of_log(
    attributes: Attributes, resource: Attributes, *, trace_id: str, span_id: str, occurred_at: datetime | None
) -> TelemetryCall:
    """Return the call that a log record tells of.

    Its name is its response's. Without one it is all that the record says: the span around a log may be around other
    calls, too, so it is no name.

    Raises: InvalidUserId when nobody says whose call it was.
    """
    keys = _response_keys(attributes)
    if not keys:
        told = canonical({"at": occurred_at, "trace": trace_id, "span": span_id, "said": dict(attributes)})
        keys = (Key.of_fact("log", hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()),)
    return _call(attributes, resource, keys, trace_id, span_id, occurred_at, _text(attributes.get(ERROR)))


def _call(
    attributes: Attributes, resource: Attributes, keys: tuple[Key, ...], trace_id: str, span_id: str,
    occurred_at: datetime | None, failure: str | None,
) -> TelemetryCall:  # fmt: skip
    user = named(attributes, USER) or named(resource, USER)
    if user is None:
        raise InvalidUserId(f"Nothing says whose call this was: no {', '.join(USER[:4])} on it.", field="user_id")
    metadata: dict[str, object] = (
        {"trace_id": storable(trace_id, 64), "span_id": storable(span_id, 64)} if trace_id else {}
    )
    facts: dict[str, Any] = {"metadata": metadata}
    read = usage_of(attributes)
    if isinstance(read, UnreadableUsage):
        guessed = fallback_pools(read.raw, estimate=None)
        if guessed is not None:
            facts |= {"pools": guessed.as_json(), "estimated": True, "usage_note": read.reason}
            if isinstance(read.raw, Mapping):
                facts["raw_usage"] = read.raw
    elif read is not None and (pools := read.as_json()):
        facts["pools"] = pools
    elif read is not None:
        # Some say 0 where they mean that they could not see it: recorded as said, and marked.
        facts["input_tokens"] = facts["output_tokens"] = 0
        if failure is None:
            facts |= {"estimated": True, "usage_note": "it counts no tokens at all"}
    if failure is not None:
        facts["success"], facts["error_message"] = False, storable(failure, TEXT_LENGTH_MAX)
    if occurred_at is not None:
        facts["occurred_at"] = occurred_at
    if model := named(attributes, MODEL):
        facts["model_used"] = storable(model, ID_LENGTH_MAX)
    if provider := named(attributes, PROVIDER):
        facts["provider"] = provider_named(provider) or storable(provider, PROVIDER_LENGTH_MAX)
    if response_id := named(attributes, RESPONSE_ID):
        facts["provider_request_id"] = storable(response_id, ID_LENGTH_MAX)
    tier = named(attributes, SERVICE_TIER)
    if tier is not None and tier not in _USUAL_TIERS:
        facts["service_tier"] = storable(tier, PROVIDER_LENGTH_MAX)
    action = named(attributes, ACTION) or named(resource, ACTION) or ACTION_DEFAULT
    return TelemetryCall(user, keys, Call(action_type=action, **facts))


def usage_of(attributes: Attributes) -> Pools | UnreadableUsage | None:
    """Return what a call used, or None when it says nothing of it. Raises: nothing."""
    given, made = _count(attributes, INPUT), _count(attributes, OUTPUT)
    if given is None and made is None:
        return None
    if made is None and attributes.get(OPERATION) == "embeddings":
        made = 0
    said = {
        "prompt_tokens": given,
        "completion_tokens": made,
        "prompt_tokens_details": {
            "cached_tokens": _count(attributes, CACHE_READ),
            "cache_write_tokens": _count(attributes, CACHE_WRITE),
            "audio_tokens": _count(attributes, AUDIO_IN),
            "image_tokens": _count(attributes, IMAGE_IN),
            "cached_audio_tokens": _count(attributes, AUDIO_CACHED),
        },
        "completion_tokens_details": {
            "reasoning_tokens": _count(attributes, REASONING),
            "audio_tokens": _count(attributes, AUDIO_OUT),
            "image_tokens": _count(attributes, IMAGE_OUT),
        },
    }
    return read_usage({"usage": said}, provider="openai")


def moment_of(nanoseconds: int) -> datetime | None:
    """Return the time that is so long after 1970, to the microsecond; None for 0, which OTLP has for "not known".

    Raises: InvalidTime.
    """
    if nanoseconds == 0:
        return None
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)
    except OverflowError:
        raise InvalidTime("The time lies beyond the year 9999.", field="occurred_at") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _response_keys(attributes: Attributes) -> tuple[Key, ...]:
    response_id = named(attributes, RESPONSE_ID)
    if response_id is None or len(response_id) < RESPONSE_ID_LENGTH_MIN:
        return ()
    return (Key.of_fact("response", response_id),)


def _first(attributes: Attributes, names: tuple[str, ...]) -> Any:
    for name in names:
        if (value := attributes.get(name)) is not None:
            return value
    return None


def _count(attributes: Attributes, names: tuple[str, ...]) -> Any:
    """Return a count as it was told; 12.0 is 12, since JavaScript knows no whole numbers."""
    value = _first(attributes, names)
    return int(value) if type(value) is float and value.is_integer() else value


def named(attributes: Attributes, names: tuple[str, ...]) -> str | None:
    """Return the first of these that says something."""
    for name in names:
        if (value := attributes.get(name)) is not None and (text := _text(value)) is not None:
            return text
    return None


def _text(value: object) -> str | None:
    if type(value) is int:
        return str(value)  # An id may be a number.
    return value if isinstance(value, str) and value else None


# -- CloudEvents -------------------------------------------------------------------------------------------------------


def action_of_type(event_type: str) -> str:
    """Return the action that a CloudEvent's `type` names: what comes after its last dot."""
    return event_type.rpartition(".")[2]


def name_of_event(source: str, event_id: str) -> str:
    """Return the idempotency key of a CloudEvent. Source and id together are one event, says the standard."""
    told = f"{source}\x1f{event_id}".encode("utf-8", "surrogatepass")
    return f"event:{hashlib.sha256(told).hexdigest()}"
