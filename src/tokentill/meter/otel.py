"""A span processor for OpenTelemetry: the spans of AI calls (`gen_ai.…`), recorded as usage when they end.

    provider.add_span_processor(TillSpans(till, action="chat_conversation"))

For frameworks that trace their model calls by the GenAI conventions: pydantic-ai, and what the OpenTelemetry
instrumentations cover. It has the methods of a SpanProcessor and imports nothing of OpenTelemetry.

Only spans of model calls count; an agent's or a workflow's repeats the sum of those within. One call traced by two
instrumentations is charged once, if both tell the id of its response. A span is told of when the call is over, so
nothing can be refused here.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tokentill.core.usage import telemetry
from tokentill.core.usage.reading import Pools, provider_named
from tokentill.errors import TillError
from tokentill.meter.afterwards import tell_soon, text_of, told
from tokentill.meter.background import background
from tokentill.meter.context import About, about_now
from tokentill.meter.responses import mapping_of
from tokentill.meter.tills import AnyTill, Ask

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
else:
    SpanProcessor = object  # It has the methods; the SDK need not be here.

log = logging.getLogger("tokentill.meter")


class TillSpans(SpanProcessor):
    """A SpanProcessor. The user is the span's (`till.user`, `enduser.id`, `user.id`), else as `metering(…)` says."""

    def __init__(self, till: AnyTill, *, user: str | UUID | None = None, action: str | None = None) -> None:
        self._till = till
        self._about = About(user=user, action=action)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Nothing is known yet."""

    def _on_ending(self, span: Any) -> None:
        """Nor is anything now. The SDK asks every processor since 1.29, and a span that cannot ask fails its call."""

    def on_end(self, span: Any) -> None:
        attributes = mapping_of(getattr(span, "attributes", None))
        if not telemetry.is_call(attributes):
            return
        try:
            ask = asked_of(self._till, self._about, span, attributes)
        except TillError as refused:
            log.error("The call of a span could not be recorded: %s", refused)
            return
        if ask is not None:
            tell_soon(self._till, ask)

    def shutdown(self) -> None:
        self.force_flush()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the till has been told of every span that has ended."""
        return background.wait(timeout_millis / 1000)


def asked_of(till: AnyTill, about: About, span: Any, attributes: Mapping[str, Any]) -> Ask | None:
    """Return what to ask of a till about the call that a span tells of; None: it does not say what the call used.

    Raises: InvalidUserId, UnknownAction when nobody has said whose call it was.
    """
    user = telemetry.named(attributes, telemetry.USER)
    here = About(user=user, action=telemetry.named(attributes, telemetry.ACTION))
    who, action = here.within(about_now(about)).named()
    failure = _failure(span, attributes)
    read = telemetry.usage_of(attributes)
    model = telemetry.named(attributes, telemetry.MODEL)
    if not isinstance(read, Pools) and failure is None:
        # Not charged by guess: a span says nothing of its text. Spans without usage are in the log, not in the books.
        why = "it counts no tokens" if read is None else read.reason
        log.warning("A span of model %s does not say what its call used: %s", model, why)
        return None
    context = getattr(span, "context", None) or span.get_span_context()
    response_id = telemetry.named(attributes, telemetry.RESPONSE_ID)
    key = f"otel:{response_id}" if response_id else f"otel:{context.trace_id:032x}:{context.span_id:016x}"
    provider = telemetry.named(attributes, telemetry.PROVIDER)
    return told(
        till, who, action, key=key, pools=read if isinstance(read, Pools) else None, model_used=model,
        success=failure is None, error_message=failure, provider_request_id=response_id,
        provider=None if provider is None else provider_named(provider) or provider,
    )  # fmt: skip


def _failure(span: Any, attributes: Mapping[str, Any]) -> str | None:
    status = getattr(span, "status", None)
    if getattr(getattr(status, "status_code", None), "name", None) == "ERROR":
        return (
            text_of(getattr(status, "description", None))
            or telemetry.named(attributes, (telemetry.ERROR,))
            or "it failed"
        )
    return None
