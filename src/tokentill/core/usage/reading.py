"""What an AI call used: from a provider's response, whole or streamed, to pools that do not overlap.

`read_usage` reads a whole response; `UsageStream` watches a stream go by (`read_stream_usage` and
`read_partial_usage` are it, for events already gathered). Each family of shapes has a module of its own
(`openai`, `anthropic`, `google`, `bedrock`, `cohere`, `compatible`);
`fallback` says what is charged where none of them can read.

The pools add up to what the provider reports: `input_tokens` is all that went in, cached or not, `output_tokens` all
that came out, reasoning included. Absent or null details count as none. Never a guess: a missing usage block, a part
larger than its whole, totals that do not add up, a negative or fractional count are unreadable.

Where the provider's own total leaves something out that it bills, the pools have it and exceed that total: reasoning
of xAI's chats, citations and reasoning of Perplexity's deep research, compactions of Anthropic's. Where it bills sound
by the second (Mistral), the sound's tokens are in no pool.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Literal, get_args

from tokentill.core.usage import anthropic, bedrock, cohere, compatible, fallback, google, openai
from tokentill.core.usage.blocks import Block, Unreadable
from tokentill.core.usage.fallback import fallback_pools
from tokentill.core.usage.pools import INPUT_POOLS, OUTPUT_POOLS, POOLS, Pools, UnreadableUsage
from tokentill.core.usage.streams import PartialUsage, Seen, estimate_tokens
from tokentill.errors import InvalidAmount

__all__ = [
    "INPUT_POOLS",
    "OUTPUT_POOLS",
    "POOLS",
    "PROVIDERS",
    "PartialUsage",
    "Pools",
    "Provider",
    "UnreadableUsage",
    "UsageStream",
    "estimate_tokens",
    "fallback_pools",
    "provider_named",
    "read_other_models",
    "read_partial_usage",
    "read_reported_cost",
    "read_service_tier",
    "read_stream_usage",
    "read_usage",
]

# The names that genai-prices and its price book use, and two more that run on machines of one's own.
Provider = Literal[
    "openai",
    "anthropic",
    "google",
    "aws",
    "azure",
    "mistral",
    "cohere",
    "deepseek",
    "groq",
    "x-ai",
    "openrouter",
    "together",
    "fireworks",
    "perplexity",
    "cerebras",
    "moonshotai",
    "minimax",
    "zai",
    "novita",
    "ovhcloud",
    "databricks",
    "huggingface",
    "github-copilot",
    "litellm",
    "vllm",
    "ollama",
]
PROVIDERS: tuple[str, ...] = get_args(Provider)

# What others call them: OpenTelemetry, LiteLLM, pydantic-ai and the SDKs.
_ALIASES: Mapping[str, Provider] = {
    **dict.fromkeys(("gemini", "vertex", "vertexai", "googlevertex", "googlegla", "googleai"), "google"),
    **dict.fromkeys(("gcpgemini", "gcpvertexai", "gcpgenai", "googlegenai", "googlegenerativeai"), "google"),
    **dict.fromkeys(("bedrock", "awsbedrock", "amazon", "amazonbedrock", "bedrockconverse"), "aws"),
    **dict.fromkeys(("azureopenai", "azureaiopenai", "azureaiinference", "azureai"), "azure"),
    **dict.fromkeys(("mistralai",), "mistral"),
    **dict.fromkeys(("xai", "grok"), "x-ai"),
    **dict.fromkeys(("togetherai",), "together"),
    **dict.fromkeys(("fireworksai",), "fireworks"),
    **dict.fromkeys(("perplexityai",), "perplexity"),
    **dict.fromkeys(("moonshot",), "moonshotai"),
    **dict.fromkeys(("zhipuai", "zhipu"), "zai"),
    **dict.fromkeys(("cohereai", "coherechat"), "cohere"),
    **dict.fromkeys(("hostedvllm",), "vllm"),
    **dict.fromkeys(("githubcopilot", "github"), "github-copilot"),
}


def provider_named(name: str) -> str | None:
    """Return the provider that somebody calls so (`bedrock`, `gcp.vertex_ai`, `XAI`), or None.

    Case, dots, dashes and underscores do not matter. Raises: nothing.
    """
    if name in _READERS:
        return name
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return _ALIASES.get(plain) or next((known for known in PROVIDERS if known.replace("-", "") == plain), None)


_READERS: Mapping[str, Callable[[Block], Pools]] = {
    **dict.fromkeys(PROVIDERS, compatible.read),
    "openai": openai.read,
    "anthropic": anthropic.read,
    "aws": bedrock.read,
    "cohere": cohere.read,
    "google": google.read,
    "mistral": compatible.read_mistral,
    "x-ai": compatible.read_xai,
    "perplexity": compatible.read_perplexity,
}


# -- Whole responses ---------------------------------------------------------------------------------------------


def read_usage(response: Mapping[str, object], *, provider: str) -> Pools | UnreadableUsage:
    """Read what a call used from the whole response body, or say why that cannot be known.

    `response` is the body as decoded JSON. A batch's line, a realtime event and anything else that wraps a body
    (`response`, `body`, `result`, `message`) may be given as it is. `provider` is who answered, by any of its names:
    the same counts mean other things with another. An answer that cannot be read keeps the usage as it came in `raw`.

    Not in the pools, because it is not in the usage: searches by Gemini's grounding, code run by the provider, and
    other models at work inside the call (`read_other_models`).

    Raises: nothing.
    """
    reader = _READERS.get(provider) or _READERS.get(provider_named(provider) or "")
    if reader is None:
        return UnreadableUsage(f"responses of provider {provider!r} cannot be read", fallback.kept(response))
    try:
        try:
            return reader(response)
        except Unreadable:
            # Unwrapped only then: nearly every body is none.
            inner = _unwrapped(response)
            if inner is response:
                raise
            return reader(inner)
    except (Unreadable, InvalidAmount) as unreadable:
        return UnreadableUsage(str(unreadable), fallback.kept(response))


_WRAPPERS = ("response", "body", "result", "message", "interaction")
_USAGE_KEYS = frozenset({"usage", "usageMetadata", "usage_metadata"})


def _unwrapped(response: Block) -> Block:
    body = response
    for _ in range(3):  # A line of a batch: response, body.
        if not _USAGE_KEYS.isdisjoint(body):
            break
        inner = next((body[key] for key in _WRAPPERS if isinstance(body.get(key), Mapping)), None)
        if not isinstance(inner, Mapping):
            break
        body = inner
    return body


def read_other_models(response: Mapping[str, object], *, provider: str) -> list[tuple[str | None, Pools]]:
    """Return (model, pools) of what other models did inside this call and are paid for, beside `read_usage`'s pools.

    These are the image model behind OpenAI's image tool, and Anthropic's advisors. The model is None where the
    response does not name it. What cannot be read is left out: the call's own usage tells that something is wrong.

    Raises: nothing.
    """
    try:
        if provider_named(provider) in ("openai", "azure"):
            drawn = openai.image_generation(response)
            return [drawn] if drawn else []
        return anthropic.advisors(response)
    except (Unreadable, InvalidAmount):
        return []


_USUAL_TIERS = frozenset(("default", "standard", "auto", "on_demand"))


def read_service_tier(response: Mapping[str, object]) -> str | None:
    """Return the tier in which the call was served where that is not the usual one: flex, priority, batch, fast, …

    OpenAI says it beside the usage, Anthropic within it (`speed` tells a fast one). Raises: nothing.
    """
    usage = response.get("usage")
    inner = usage if isinstance(usage, Mapping) else {}
    for said in (response.get("service_tier"), inner.get("speed"), inner.get("service_tier")):
        if isinstance(said, str) and said and said.lower() not in _USUAL_TIERS:
            return said.lower()[:63]
    return None


def read_reported_cost(response: Mapping[str, object]) -> Decimal | None:
    """Return what the provider itself says the call cost, in cents (US); None where it does not say.

    OpenRouter, Perplexity and xAI do. To check a price with, and to price what no price book has.

    Raises: nothing.
    """
    usage = response.get("usage")
    if not isinstance(usage, Mapping):
        return None
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and ticks >= 0:
        return Decimal(ticks) / 10**8  # Ten thousand million ticks to the dollar.
    cost = usage.get("cost")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")
    if type(cost) not in (int, float):
        return None
    cents = Decimal(str(cost)) * 100
    return cents if cents.is_finite() and cents >= 0 else None


# -- Streams -----------------------------------------------------------------------------------------------------


class UsageStream:
    """Watches a stream's events go by and knows at any moment what the call has used so far.

    Keeps counts and no text, so a stream of any length takes no more memory than its last usage block. Give it each
    event as decoded JSON, in the order in which they came; what is no event (`[DONE]`) is passed over.

    | who | where the usage is |
    | --- | --- |
    | OpenAI's chats and all who speak so | once, in the last chunk, when asked with `stream_options.include_usage`; vLLM's `continuous_usage_stats`: in each chunk, the sum so far; Groq's in `x_groq`, Moonshot's in `choices[0]` |
    | OpenAI's responses, images, speech, transcriptions | in the last event, or the response inside it |
    | Anthropic | the input with `message_start`, the sums so far with each `message_delta`; until the first of those the output count is a placeholder |
    | Gemini | in each chunk, the sum so far; it is final once a candidate has its `finishReason` |
    | Bedrock | Converse: the `metadata` event, the last one; InvokeModel: the last chunk's metrics |
    | Cohere | `message-end` (version 1: `stream-end`) |
    """  # noqa: E501

    __slots__ = ("_provider", "_seen")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._seen = Seen()

    def see(self, event: object) -> None:
        """Take in one event. Raises: nothing."""
        if isinstance(event, Mapping):
            self._seen.see(event)

    def usage(self) -> Pools | UnreadableUsage:
        """Return the usage of a stream that came to its end; of one that broke off, that it did."""
        response = self._seen.final()
        if response is None:
            return UnreadableUsage("the stream ended without its final usage", fallback.kept(self._seen.so_far()))
        return read_usage(response, provider=self._provider)

    def partial(self, *, prompt_tokens: int | None = None) -> PartialUsage | UnreadableUsage:
        """Return what was used until now, counted where that is known and estimated where it is not.

        A stream that came to its end: its usage, not estimated; unless that counts nothing, which is not believed. One
        that broke off: the input as it was counted, or else the caller's `prompt_tokens`; the output as it was counted
        or as the text that was seen makes it (`estimate_tokens`), whichever is more. Never 0 when text was seen; what
        was generated but never sent (hidden reasoning) cannot be known here. Where nothing at all was seen it is
        unreadable: nothing may have run.

        Raises: InvalidAmount for a `prompt_tokens` that is needed and no count.
        """
        whole = self.usage()
        if isinstance(whole, Pools):
            if whole != Pools():
                return PartialUsage(whole, is_estimated=False)
            whole = UnreadableUsage("the usage counts nothing", fallback.kept(self._seen.so_far()))
        counted = None if (so_far := self._seen.so_far()) is None else read_usage(so_far, provider=self._provider)
        if isinstance(counted, UnreadableUsage):
            counted = fallback_pools(counted.raw, estimate=None)
        return self._seen.partial(counted, prompt_tokens=prompt_tokens) or whole


def read_stream_usage(events: Iterable[object], *, provider: str) -> Pools | UnreadableUsage:
    """Read what a streamed call used from its events, decoded, in the order in which they came.

    A stream that broke off before its usage came is unreadable; `read_partial_usage` makes the best of it. Where the
    usage comes in each provider's stream is told at `UsageStream`.

    Raises: nothing.
    """
    stream = UsageStream(provider)
    for event in events:
        stream.see(event)
    return stream.usage()


def read_partial_usage(
    events: Iterable[object], *, provider: str, prompt_tokens: int | None = None
) -> PartialUsage | UnreadableUsage:
    """Read what a stream used until it broke off; see `UsageStream.partial`."""
    stream = UsageStream(provider)
    for event in events:
        stream.see(event)
    return stream.partial(prompt_tokens=prompt_tokens)
