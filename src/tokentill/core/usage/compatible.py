"""Usage from those who speak OpenAI's shape with an accent: DeepSeek, Groq, Mistral, xAI, OpenRouter, Together …

Each accent is first said in OpenAI's words, and then read by `openai`. Who speaks without one (vLLM, Fireworks,
Cerebras, Azure) passes straight through. Several of them serve Anthropic's shape as well, so the block itself says
which it is.
"""

from collections.abc import Mapping

from tokentill.core.usage import anthropic, google, openai
from tokentill.core.usage.blocks import (
    Block,
    Unreadable,
    count,
    details,
    either,
    required,
    rest,
    rounded_up,
    usage_block,
)
from tokentill.core.usage.pools import Pools
from tokentill.core.values import replace

# What stands beside prompt_tokens elsewhere: part of the prompt, and named in OpenAI's details or nowhere.
_CACHE_READS = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_prompt_text_tokens")
_ACCENTS = frozenset(
    (*_CACHE_READS, "prompt_cache_miss_tokens", "cache_creation_input_tokens", "reasoning_tokens", "server_tool_use")
)


def read(response: Block) -> Pools:
    """Read the body of anyone who speaks like OpenAI, or like Anthropic. Raises: Unreadable."""
    if response.get("usage") is None:
        if google.has_metadata(response):
            return google.read(response)
        return _read_without_usage(response)
    usage = usage_block(response)
    if anthropic.speaks(usage):
        return anthropic.read(response)
    if _ACCENTS.isdisjoint(usage):
        return openai.read_block(usage, response)
    pools = openai.read_block(_in_openais_words(usage), response)
    searches = count(details(usage, "server_tool_use"), "web_search_requests")  # OpenRouter's.
    return replace(pools, web_searches=searches) if searches else pools


def _in_openais_words(usage: Block) -> Block:
    is_chat = usage.get("prompt_tokens") is not None
    side_in, side_out = ("prompt_tokens", "completion_tokens") if is_chat else ("input_tokens", "output_tokens")
    given, made = dict(details(usage, f"{side_in}_details")), dict(details(usage, f"{side_out}_details"))

    cached = either(
        {"cached_tokens in details": given.get("cached_tokens"), **{key: usage.get(key) for key in _CACHE_READS}},
        "cached_tokens in details",
        *_CACHE_READS,
    )
    if usage.get("prompt_cache_miss_tokens") is not None:
        missed = required(usage, "prompt_cache_miss_tokens")
        if cached + missed != required(usage, side_in):
            raise Unreadable("prompt_cache_hit_tokens and prompt_cache_miss_tokens do not make up the prompt")
    given["cached_tokens"] = cached
    given["cache_write_tokens"] = either(
        {
            "cache_write_tokens": given.get("cache_write_tokens"),
            "cache_creation_tokens": given.get("cache_creation_tokens"),  # LiteLLM's.
            "cache_creation_input_tokens": usage.get("cache_creation_input_tokens"),
        },
        *("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"),
    )
    made["reasoning_tokens"] = either(
        {"in details": made.get("reasoning_tokens"), "reasoning_tokens": usage.get("reasoning_tokens")},
        *("in details", "reasoning_tokens"),
    )
    plain = {key: value for key, value in usage.items() if key not in _ACCENTS}
    return {**plain, f"{side_in}_details": given, f"{side_out}_details": made}


def _read_without_usage(response: Block) -> Pools:
    for holder in (response.get("x_groq"), _first_choice(response)):
        if isinstance(holder, Mapping) and holder.get("usage") is not None:
            return read({**response, "usage": holder["usage"]})  # The end of a stream of Groq's, of Moonshot's.
    if response.get("eval_count") is not None or response.get("prompt_eval_count") is not None:
        # Ollama's own API leaves the prompt's count out when all of it was in the cache, where it costs nothing.
        return Pools(input_uncached=count(response, "prompt_eval_count"), output_text=count(response, "eval_count"))
    found = details(response, "data") if isinstance(response.get("data"), Mapping) else {}
    if found.get("native_tokens_prompt") is not None:
        return _read_generation(found)
    return openai.read(response)


def _first_choice(response: Block) -> object:
    choices = response.get("choices")
    return choices[0] if isinstance(choices, list) and choices else None


def _read_generation(found: Block) -> Pools:
    """Read OpenRouter's record of a call, by the model's own tokenizer: what is paid for. `tokens_…` are GPT-4o's."""
    given, made = required(found, "native_tokens_prompt"), required(found, "native_tokens_completion")
    cached, thoughts = count(found, "native_tokens_cached"), count(found, "native_tokens_reasoning")
    return Pools(
        input_uncached=rest("native_tokens_prompt", given, cached),
        cache_read=cached,
        output_text=rest("native_tokens_completion", made, thoughts),
        reasoning=thoughts,
    )


def read_xai(response: Block) -> Pools:
    """Read xAI's: in chats, reasoning stands beside the completion, in responses inside the output."""
    usage = response.get("usage")
    if isinstance(usage, Mapping) and usage.get("prompt_tokens") is not None and usage.get("total_tokens") is None:
        plain = _in_openais_words(usage)
        reasoning = count(details(plain, "completion_tokens_details"), "reasoning_tokens")
        total = required(plain, "prompt_tokens") + required(plain, "completion_tokens") + reasoning
        return openai.read_block({**plain, "total_tokens": total}, response)
    return read(response)


def read_mistral(response: Block) -> Pools:
    """Read Mistral's: audio is paid for by the second, and its tokens are counted in the total or beside the prompt.

    Sound that comes with its seconds is counted in them, and its tokens nowhere: they are the same sound.
    """
    if response.get("usage") is None:
        if response.get("usage_info") is not None:
            raise Unreadable("pages are billed, and no pool counts them")
        return read(response)
    usage = usage_block(response)
    if anthropic.speaks(usage) or usage.get("prompt_tokens") is None:
        return read(response)

    given = dict(details(usage, "prompt_tokens_details", "prompt_token_details"))
    prompt, made = required(usage, "prompt_tokens"), count(usage, "completion_tokens")
    connectors, sound = count(usage, "connector_tokens"), count(usage, "audio_tokens")
    # An empty object where there was no sound.
    seconds = rounded_up(usage, "prompt_audio_seconds") if usage.get("prompt_audio_seconds") else 0
    if usage.get("total_tokens") is not None:
        beside = required(usage, "total_tokens") - prompt - made
        if seconds and beside > connectors:
            sound = beside - connectors
        elif beside not in (0, connectors, connectors + sound):
            raise Unreadable("total_tokens is not the sum of prompt_tokens and completion_tokens")
        elif beside < connectors:
            connectors = 0  # They are in the prompt already.
    if seconds:
        prompt = rest("prompt_tokens", prompt, count(given, "audio_tokens"))
        given["audio_tokens"] = sound = 0
    pools = openai.read_block(
        {
            "prompt_tokens": prompt + connectors + sound,
            "prompt_tokens_details": {**given, "audio_tokens": count(given, "audio_tokens") + sound},
            "completion_tokens": made,
            "completion_tokens_details": usage.get("completion_tokens_details"),
        },
        {},
    )
    return replace(pools, seconds=seconds) if seconds else pools


def read_perplexity(response: Block) -> Pools:
    """Read Perplexity's: deep research bills citations (as input), reasoning and searches beside what it totals."""
    usage = response.get("usage")
    if not isinstance(usage, Mapping) or usage.get("prompt_tokens") is None:
        return read(response)
    beside = ("reasoning_tokens", "citation_tokens", "num_search_queries")
    pools = read({**response, "usage": {key: value for key, value in usage.items() if key not in beside}})
    reasoning, citations, searches = (count(usage, key) for key in beside)
    return replace(
        pools,
        input_uncached=pools.input_uncached + citations,
        reasoning=pools.reasoning + reasoning,
        web_searches=searches,
    )
