"""What a provider's answer is, whichever way the caller got hold of it: a body, or an object of one of the SDKs."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tokentill.core.usage.fallback import kept
from tokentill.core.usage.reading import (
    Pools,
    UnreadableUsage,
    provider_named,
    read_other_models,
    read_reported_cost,
    read_usage,
)

ANYONE = "litellm"  # Whose words are read where nobody knows who answers: OpenAI's, with everybody's accents.

_NAMED = (
    *("id", "object", "type", "model", "service_tier", "created", "status", "error", "text", "duration", "tools"),
    *("modelVersion", "model_version", "responseId", "tool_usage"),
)
_USAGE = ("usage", "usageMetadata", "usage_metadata")
_SDKS = {"google": "google", "anthropic": "anthropic", "mistralai": "mistral"}

_MICRO = Decimal("0.000001")


def as_body(response: object) -> Mapping[str, Any]:
    """Return the part of an answer that says what it used, as the provider's JSON has it.

    Raises: TypeError for what is no answer of a call.
    """
    if isinstance(response, Mapping):
        return response
    parse = getattr(response, "parse", None)
    if callable(parse) and hasattr(response, "http_response"):
        return as_body(parse())  # The SDKs' raw responses.
    body: dict[str, Any] = {}
    for name in (*_NAMED, *_USAGE):
        value = getattr(response, name, None)
        if value is not None:
            body[name] = [_plain(each) for each in value] if isinstance(value, list) else _plain(value)
    if isinstance(getattr(response, "data", None), list):
        body["data"] = []  # That there is a list is how images and embeddings are told; what is in it is long.
    if not body:
        raise TypeError(f"A {type(response).__name__} says nothing of what a call used; record its response or Pools.")
    return body


def as_event(event: object) -> Mapping[str, Any]:
    """Return an event of a stream as the provider's JSON has it; empty for what is none."""
    if isinstance(event, Mapping):
        return event
    plain = _plain(event)
    return plain if isinstance(plain, Mapping) else {}


def provider_of(response: object) -> str | None:
    """Return who sent this: by the SDK whose object it is, else by its shape; None where many speak like that."""
    if not isinstance(response, Mapping):
        return _SDKS.get(type(response).__module__.partition(".")[0])
    is_anthropic = response.get("type") in ("message", "message_start", "message_delta", "content_block_delta")
    if is_anthropic or "cache_read_input_tokens" in mapping_of(response.get("usage")):
        return "anthropic"
    return "google" if "usageMetadata" in response or "usage_metadata" in response else None


def words_of(provider: str | None) -> str:
    """Return in whose words a provider's usage is read."""
    return provider_named(provider or "") or ANYONE


def used_by(body: Mapping[str, Any], words: str) -> Pools | UnreadableUsage:
    """Return what an answer says its call used. That it used nothing at all is not believed."""
    read = read_usage(body, provider=words)
    return UnreadableUsage("the usage counts nothing", kept(body)) if read == Pools() else read


def problem_of(body: Mapping[str, Any]) -> str | None:
    """Return what an answer says went wrong; None: nothing. Some say so with a status that says all is well."""
    error = body.get("error") or (body.get("message") if body.get("type") == "error" else None)
    if not error:
        return "it failed" if body.get("status") == "failed" else None
    said = mapping_of(error)
    parts = [str(part) for part in (said.get("code") or said.get("type"), said.get("message")) if part]
    return (": ".join(parts) or str(error))[:500].replace("\0", "")


def reported_cost(body: Mapping[str, Any]) -> str | None:
    """Return what the provider itself says the call cost, in cents (US), as metadata keep it; None: nothing."""
    cents = read_reported_cost(body)
    return None if cents is None else format(cents.quantize(_MICRO).normalize(), "f")


def others_of(body: Mapping[str, Any], words: str) -> list[tuple[str | None, Pools]]:
    """Return (model, pools) of other models at work inside the call."""
    return read_other_models(body, provider="openai" if "tool_usage" in body else words)


def mapping_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", warnings=False) if callable(dump) else value
