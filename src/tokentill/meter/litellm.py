"""A callback for LiteLLM: every call that goes through it, by whichever provider, is recorded when it is over.

    litellm.callbacks = [till_logger(till, action="chat_conversation")]
    litellm.completion(model="gpt-4o", messages=[…], metadata={"till_user": "alice"})

LiteLLM swallows what its callbacks raise, so nothing can be refused here: put a `Meter` around calls that must be.
The user and the action are those of the call's metadata (`till_user`, `till_action`), of a `metering(…)` block, or of
the logger, in this order. LiteLLM itself is imported when a logger is made.
"""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tokentill.core.usage.reading import (
    Pools,
    UnreadableUsage,
    estimate_tokens,
    fallback_pools,
    provider_named,
    read_service_tier,
)
from tokentill.errors import TillError
from tokentill.meter.afterwards import tell_soon, text_of, told
from tokentill.meter.context import About, about_now
from tokentill.meter.counting import prompt_tokens, texts_of
from tokentill.meter.responses import as_body, as_event, mapping_of, reported_cost, used_by
from tokentill.meter.tills import AnyTill, Ask

log = logging.getLogger("tokentill.meter")


class TillLogger:
    """What LiteLLM calls. `till_logger` makes one that LiteLLM recognises."""

    def __init__(self, till: AnyTill, about: About) -> None:
        super().__init__()
        self._till, self._about = till, about

    def log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        self._hear(kwargs, response_obj, None)

    def log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        self._hear(kwargs, None, str(kwargs.get("exception") or "the call failed"))

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        self._hear(kwargs, response_obj, None)

    async def async_log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: Any, end_time: Any
    ) -> None:
        self._hear(kwargs, None, str(kwargs.get("exception") or "the call failed"))

    def _hear(self, kwargs: Mapping[str, Any], response: object, error: str | None) -> None:
        try:
            tell_soon(self._till, asked_of(self._till, self._about, kwargs, response, error))
        except TillError as refused:
            log.error("A call by LiteLLM could not be recorded: %s", refused)


def asked_of(till: AnyTill, about: About, kwargs: Mapping[str, Any], response: object, error: str | None) -> Ask:
    """Return what to ask of a till about a call that LiteLLM tells of.

    Raises: InvalidUserId, UnknownAction when nobody has said whose call it was.
    """
    said = mapping_of(mapping_of(kwargs.get("litellm_params")).get("metadata")) or mapping_of(kwargs.get("metadata"))
    here = About(user=text_of(said.get("till_user")), action=text_of(said.get("till_action")))
    user, action = here.within(about_now(about)).named()
    body = {} if response is None else as_body(response)
    pools: Pools | None = None
    note: str | None = None
    raw: object = None
    if error is None:
        # LiteLLM gives every provider's usage OpenAI's shape: what was cached is inside the input.
        read = used_by(body, "litellm")
        if isinstance(read, UnreadableUsage):
            note, raw = read.reason, read.raw
            answer = "".join(texts_of(as_event(response).get("choices")))
            guess = Pools(input_uncached=prompt_tokens(kwargs.get("messages")), output_text=estimate_tokens(answer))
            pools = fallback_pools(raw, estimate=guess)
        else:
            pools = read
    served = text_of(kwargs.get("custom_llm_provider")) or text_of(
        mapping_of(kwargs.get("litellm_params")).get("custom_llm_provider")
    )
    provider = None if served is None else provider_named(served) or served
    cost = reported_cost(body)
    costs = {} if cost is None else {"reported_cost_cents": cost}
    call_id = text_of(kwargs.get("litellm_call_id")) or text_of(body.get("id"))
    return told(
        till, user, action, key=f"litellm:{call_id}", pools=pools,
        model_used=text_of(body.get("model")) or text_of(kwargs.get("model")), success=error is None,
        error_message=None if error is None else error[:500], estimated=note is not None,
        provider_request_id=text_of(body.get("id")), provider=provider, service_tier=read_service_tier(body),
        metadata=costs or None, usage_note=note,
        raw_usage=raw if isinstance(raw, Mapping) else None,
    )  # fmt: skip


def till_logger(
    till: AnyTill, *, user: str | UUID | None = None, action: str | None = None
) -> Any:  # LiteLLM's CustomLogger, whose type is known only where it is installed.
    """Return a callback for `litellm.callbacks`. Raises: ImportError where LiteLLM is not installed."""
    from importlib import import_module

    custom_logger: type = import_module("litellm.integrations.custom_logger").CustomLogger
    kind = type("TillLogger", (TillLogger, custom_logger), {})
    return kind(till, About(user=user, action=action))
