"""What has been seen of a stream: the last usage that came by, whether it was the final one, and how much text.

The shapes of the providers' events differ so much that the event itself tells whose it is. `reading.UsageStream` is
the way in, and says where each provider puts its usage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tokentill.core.usage.bedrock import METRICS
from tokentill.core.usage.blocks import Block
from tokentill.core.usage.pools import COUNT_MAX, Pools
from tokentill.core.values import replace

BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text makes: one for every four bytes of its UTF-8, rounded up.

    That is four letters of English, two of Greek, Cyrillic or Arabic, four Chinese characters to three tokens: what
    today's tokenizers make of prose, within a third or so. Code and JSON make rather more. Never 0 for a text that is
    not empty.
    """
    return -(-_byte_count(text) // BYTES_PER_TOKEN)


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _as_json(arguments: object) -> str:
    """Return a tool's arguments as the model wrote them; nothing of what is nested too deep to be written."""
    try:
        return json.dumps(arguments, default=str)
    except (RecursionError, TypeError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class PartialUsage:
    """What a call used as far as it was seen; `is_estimated` where not all of it was counted by the provider."""

    pools: Pools
    is_estimated: bool


# Where text stands in a delta, and where thoughts do. Of thoughts the first, since some send them under two names.
_TEXTS = frozenset(
    (
        *(
            "content",
            "text",
            "parts",
            "message",
            "refusal",
            "tool_calls",
            "function",
            "function_call",
            "name",
            "arguments",
        ),
        *("partial_json", "audio", "transcript", "toolUse", "input", "functionCall", "args", "tool_plan"),
    )
)
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoningContent")
_TEXTS_OF_BODIES = ("outputText", "generation", "outputs", "message", "response")  # Titan, Llama, Mistral; Ollama.
_COUNTS_OF_BODIES = (
    *("inputTextTokenCount", "totalOutputTextTokenCount", "prompt_token_count", "generation_token_count", METRICS),
)
_DEPTH_MAX = 8


class Seen:
    """A fold over a stream's events. Mutable, because a stream has thousands of them."""

    __slots__ = ("_events", "_has_ended", "_is_final", "_is_open", "_response", "_text_bytes", "_thought_bytes")

    def __init__(self) -> None:
        self._events = 0
        self._response: Block | None = None  # What a reader would read: the last usage, in its holder.
        self._is_final = False
        self._is_open = False  # Some answer began; until it has a reason to finish, running sums are no final ones.
        self._has_ended = False
        self._text_bytes = 0
        self._thought_bytes = 0

    def see(self, event: Block) -> None:
        self._events += 1
        kind = event.get("type") or event.get("event_type")
        if kind == "message_start":
            self._see_anthropic(event.get("message"), is_final=False)
        elif kind == "message_delta":
            self._see_anthropic(event, is_final=True)
        elif kind == "content_block_start":
            self._read_text(event.get("content_block"))
        elif "candidates" in event or "usageMetadata" in event or "usage_metadata" in event or "serverContent" in event:
            self._see_google(event)
        elif "contentBlockDelta" in event or "metadata" in event:
            self._see_converse(event)
        else:
            self._see_choices(event.get("choices"))
            self._see_usage(event)
            if kind is None:
                self._see_body(event)
            elif kind == "text-generation":
                self._read_text(event.get("text"))
        delta = event.get("delta")
        if delta is not None:
            self._see_delta(delta, kind if isinstance(kind, str) else "")

    def _see_anthropic(self, holder: object, *, is_final: bool) -> None:
        update = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(update, Mapping):
            before = self._response.get("usage") if self._response is not None else None
            usage = dict(before) if isinstance(before, Mapping) else {}
            usage |= {key: value for key, value in update.items() if value is not None}
            self._response = {"usage": usage}
            self._is_final = self._is_final or is_final

    def _see_google(self, event: Block) -> None:
        candidates = event.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, Mapping):
                self._is_open = True
                self._has_ended |= (candidate.get("finishReason") or candidate.get("finish_reason")) is not None
                self._read_text(candidate.get("content"))
        live = event.get("serverContent")
        if isinstance(live, Mapping):
            self._is_open = True
            self._has_ended |= live.get("turnComplete") is True
            self._read_text(live.get("modelTurn"))
            self._read_text(live.get("outputTranscription"))
        for key in ("usageMetadata", "usage_metadata"):
            if event.get(key) is not None:
                self._response, self._is_final = {key: event[key]}, not self._is_open or self._has_ended
        if self._response is not None and self._has_ended:
            self._is_final = True  # A last chunk may come without a new sum.

    def _see_converse(self, event: Block) -> None:
        block = event.get("contentBlockDelta")
        if isinstance(block, Mapping):
            self._read_text(block.get("delta"))
        last = event.get("metadata")
        if isinstance(last, Mapping) and last.get("usage") is not None:
            self._response, self._is_final = last, True

    def _see_choices(self, choices: object) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping):
                self._is_open = True
                self._has_ended |= choice.get("finish_reason") is not None
                self._read_text(choice.get("delta"))
                self._read_text(choice.get("text"))

    def _see_usage(self, event: Block) -> None:
        """Look for usage in the event itself and in whatever providers wrap it with."""
        choices = event.get("choices")
        holders = (
            event,
            event.get("response"),
            event.get("interaction"),
            event.get("delta"),
            event.get("x_groq"),
            choices[0] if isinstance(choices, list) and choices else None,
        )
        for holder in holders:
            if not isinstance(holder, Mapping):
                continue
            if holder.get("usage") is not None or holder.get("meta") is not None:
                # The event's own kind tells images and speech from text; the rest of a holder is not needed.
                self._response = (
                    holder if "usage" not in holder or holder is event else {**holder, "type": event.get("type")}
                )
                is_running = event.get("event_type") == "step.stop"
                self._is_final = not is_running and (not choices or not self._is_open or self._has_ended)
        if self._response is not None and self._has_ended and choices:
            self._is_final = True  # Running sums, and the chunk that ends the answer came after the last of them.

    def _see_body(self, event: Block) -> None:
        """Bedrock's InvokeModel and Ollama stream pieces of the body itself."""
        counts = {key: event[key] for key in _COUNTS_OF_BODIES if event.get(key) is not None}
        if counts:
            self._response = {**(self._response or {}), **counts}
            reason = event.get("completionReason") or event.get("stop_reason")
            self._is_final = METRICS in counts or reason is not None
        if event.get("done") is True and event.get("eval_count") is not None:
            self._response, self._is_final = event, True
        for key in _TEXTS_OF_BODIES:
            if not isinstance(value := event.get(key), Mapping) or key == "message":
                self._read_text(value)

    def _see_delta(self, delta: object, kind: str) -> None:
        # Sound comes as base64, whose length says nothing; its transcript comes beside it.
        if not kind.endswith("audio.delta"):
            self._read_text(delta, is_thought="reasoning" in kind)

    def _read_text(self, node: object, *, is_thought: bool = False, depth: int = 0) -> None:
        """Count the bytes of all text in a delta, whatever its shape."""
        if isinstance(node, str):
            if is_thought:
                self._thought_bytes += _byte_count(node)
            else:
                self._text_bytes += _byte_count(node)
        elif depth > _DEPTH_MAX:
            return
        elif isinstance(node, list):
            for entry in node:
                self._read_text(entry, is_thought=is_thought, depth=depth + 1)
        elif isinstance(node, Mapping):
            is_thought = is_thought or node.get("thought") is True
            for key, value in node.items():
                if value is not None and key in _TEXTS:
                    is_written = key in ("args", "input") and isinstance(value, Mapping)
                    text = _as_json(value) if is_written else value
                    self._read_text(text, is_thought=is_thought, depth=depth + 1)
            for key in _THOUGHTS:
                if (value := node.get(key)) is not None:
                    self._read_text(value, is_thought=True, depth=depth + 1)
                    break

    def final(self) -> Block | None:
        """Return the response with the usage of a stream that came to its end; None of one that broke off."""
        return self._response if self._is_final else None

    def so_far(self) -> Block | None:
        """Return the last usage that came by, final or not."""
        return self._response

    def partial(self, counted: Pools | None, *, prompt_tokens: int | None) -> PartialUsage | None:
        """Put together what was counted, what was seen, and what the caller thinks of the prompt."""
        if not self._events:
            return None
        text = min(-(-self._text_bytes // BYTES_PER_TOKEN), COUNT_MAX)
        thoughts = min(-(-self._thought_bytes // BYTES_PER_TOKEN), COUNT_MAX)
        pools = counted or Pools()
        if prompt_tokens is not None and not pools.input_tokens:
            pools = replace(pools, input_uncached=prompt_tokens)
        if pools.output_tokens < text + thoughts:
            pools = replace(pools, output_text=max(pools.output_text, text), reasoning=max(pools.reasoning, thoughts))
        return PartialUsage(pools, is_estimated=True) if pools != Pools() else None
