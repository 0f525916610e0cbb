"""What a stream has said so far: how it was answered, by whom, and what it used.

`core.usage.reading.UsageStream` reads the usage, whole or as far as it was seen. Nothing is kept but counts and the
last block of usage, so a long answer takes no memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokentill.core.usage.reading import PartialUsage, Pools, UnreadableUsage, UsageStream, read_service_tier
from tokentill.meter.responses import mapping_of, others_of, problem_of, reported_cost

# Beside the event that a stream ends with, this is what says that the model has said all it will.
_ENDS = ("response.completed", "response.incomplete", "response.failed", "message_delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a stream used. `note` says why that is a guess, and `raw` is then what the provider said of it."""

    pools: Pools | None  # None: nothing was seen.
    note: str | None = None
    raw: object = None
    is_cut: bool = False  # It ended early, which is nobody's fault.


class Seen:
    """The events of one streamed call, as they come. `provider` is in whose words they are."""

    def __init__(self, provider: str) -> None:
        self.goes_on = False  # In the background, whether anybody reads it or not.
        self.model: str | None = None
        self.request_id: str | None = None
        self.service_tier: str | None = None
        self.has_begun = False
        self.is_complete = False  # Whether the provider has ended it.
        self.is_answered = False  # Whether the model has: what may still come is the usage.
        self.error: str | None = None  # What the provider said went wrong.
        self.other_models: list[tuple[str | None, Pools]] = []
        self.cost: str | None = None
        self._provider = provider
        self._usage = UsageStream(provider)

    @property
    def is_told(self) -> bool:
        """Whether the usage of the whole call is known."""
        return isinstance(self._usage.usage(), Pools)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take note of an event, decoded."""
        kind = event.get("type")
        holder = mapping_of(event.get("response")) or mapping_of(event.get("message")) or event
        if event.get("error") or kind in ("error", "response.failed"):
            self.error = problem_of(holder) or problem_of(event) or "The provider broke it off."
            if kind != "response.failed" and not event.get("choices"):
                return
        self.has_begun = True
        self._usage.see(event)
        # Azure's first event names neither: what its filters found in the prompt.
        if not self.model and isinstance(named := holder.get("model"), str):
            self.model = named or None
        if not self.request_id and isinstance(named := holder.get("id"), str):
            self.request_id = named or None
        self.service_tier = read_service_tier(holder) or self.service_tier
        if holder.get("usage") is not None:
            self.other_models = others_of(holder, self._provider) or self.other_models
            self.cost = reported_cost(holder) or self.cost
            if kind not in (None, "message_start"):
                self.is_answered = True
        choices = event.get("choices")
        ended = isinstance(choices, list) and any(mapping_of(choice).get("finish_reason") for choice in choices)
        if kind in _ENDS or ended:
            self.is_answered = True

    def usage(self, prompt_tokens: int) -> Used:
        """Return what the call used, counted or as far as it was seen; `prompt_tokens` where nobody counted those."""
        told = self._usage.usage()
        if isinstance(told, Pools):
            if told != Pools():
                return Used(pools=told)
            told = UnreadableUsage("the usage counts nothing")  # Which is not believed.
        if not self.has_begun:
            return Used(pools=None, note="the stream broke off before its first event")
        if self.goes_on and not self.is_answered:
            return Used(pools=None, note="the response goes on in the background", is_cut=True)
        seen = self._usage.partial(prompt_tokens=prompt_tokens)
        pools = seen.pools if isinstance(seen, PartialUsage) else None
        if self.is_complete or self.is_answered:
            return Used(pools=pools, note=told.reason, raw=told.raw)
        return Used(pools=pools, note="the stream broke off", is_cut=True)
