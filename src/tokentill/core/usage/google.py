"""Usage as Google reports it: Gemini and Vertex AI (generateContent, live, embeddings, interactions), Imagen.

`promptTokenCount` includes what was read from a cache. Beside it, not in it: the results of tools (`toolUse…`, input)
and thoughts (output, beside `candidatesTokenCount`). JSON made from protocol buffers leaves zeros out, so what is
absent is 0. The Python SDK says the same in snake case. Searches by grounding are billed apart, and only the
interactions API counts them.

Source: https://ai.google.dev/api/generate-content#UsageMetadata and the types of the `google-genai` package
"""

from collections.abc import Iterable, Mapping

from tokentill.core.usage import anthropic, openai
from tokentill.core.usage.blocks import (
    Block,
    Unreadable,
    blocks,
    count,
    details,
    either,
    required,
    rest,
    rounded_up,
    usage_block,
)
from tokentill.core.usage.pools import Pools

# Pictures, the frames of a video and the pages of a document are billed alike, and apart from sound.
_SEEN = frozenset({"IMAGE", "VIDEO", "DOCUMENT"})


def read(response: Block) -> Pools:
    """Read a whole response body. Raises: Unreadable."""
    for key in ("usageMetadata", "usage_metadata"):
        if response.get(key) is not None:
            usage = details(response, key)
            return _read_metadata(_in_camel_case(usage) if key == "usage_metadata" else usage)
    if response.get("usage") is not None:
        usage = usage_block(response)
        if "total_input_tokens" in usage:
            return _read_interaction(usage)
        # Other makers' models on Vertex AI, and Google's endpoint for clients of OpenAI's.
        return anthropic.read(response) if anthropic.speaks(usage) else openai.read(response)
    return _read_pieces(response)


def has_metadata(response: Block) -> bool:
    return response.get("usageMetadata") is not None or response.get("usage_metadata") is not None


def _read_metadata(usage: Block) -> Pools:
    prompt, tools = required(usage, "promptTokenCount"), count(usage, "toolUsePromptTokenCount")
    answer = either(usage, "candidatesTokenCount", "responseTokenCount")
    thoughts = count(usage, "thoughtsTokenCount")
    if usage.get("totalTokenCount") is not None:
        total = required(usage, "totalTokenCount")
        if total == prompt + tools + answer and thoughts:
            answer = rest(
                "candidatesTokenCount", answer, thoughts
            )  # Vertex AI's of early 2025: thoughts in the answer.
        elif total != prompt + tools + answer + thoughts:
            raise Unreadable("totalTokenCount is not the sum of prompt, tools, candidates and thoughts")

    return _pools(
        total_in=prompt + tools,
        cached=count(usage, "cachedContentTokenCount"),
        given=[*_modalities(usage, "promptTokensDetails"), *_modalities(usage, "toolUsePromptTokensDetails")],
        cached_given=_modalities(usage, "cacheTokensDetails"),
        answer=answer,
        made=_modalities(usage, "candidatesTokensDetails") or _modalities(usage, "responseTokensDetails"),
        thoughts=thoughts,
        searches=0,
    )


def _read_interaction(usage: Block) -> Pools:
    given, tools = required(usage, "total_input_tokens"), count(usage, "total_tool_use_tokens")
    answer, thoughts = count(usage, "total_output_tokens"), count(usage, "total_thought_tokens")
    if usage.get("total_tokens") is not None and required(usage, "total_tokens") != given + tools + answer + thoughts:
        raise Unreadable("total_tokens is not the sum of input, tools, output and thoughts")
    searches = (entry for entry in blocks(usage, "grounding_tool_count") if entry.get("type") == "google_search")
    return _pools(
        total_in=given + tools,
        cached=count(usage, "total_cached_tokens"),
        given=[*_modalities(usage, "input_tokens_by_modality"), *_modalities(usage, "tool_use_tokens_by_modality")],
        cached_given=_modalities(usage, "cached_tokens_by_modality"),
        answer=answer,
        made=_modalities(usage, "output_tokens_by_modality"),
        thoughts=thoughts,
        searches=sum(count(entry, "count") for entry in searches),
    )


def _pools(
    *,
    total_in: int,
    cached: int,
    given: Iterable[tuple[str, int]],
    cached_given: list[tuple[str, int]],
    answer: int,
    made: Iterable[tuple[str, int]],
    thoughts: int,
    searches: int,
) -> Pools:
    heard, seen = _heard_and_seen(given)
    rest("the input", total_in, cached)
    rest("the input", total_in, heard, seen)
    if cached_given:
        cached_heard, cached_seen = _heard_and_seen(cached_given)
        rest("cached content", cached, cached_heard, cached_seen)
        heard, seen = rest("sound", heard, cached_heard), rest("images", seen, cached_seen)
    # Where the cache's share of each kind is not told (or not in full), text was cached first, then images, then sound.
    overlap = max(0, cached + heard + seen - total_in)
    seen_again = min(seen, overlap)
    heard, seen = heard - (overlap - seen_again), seen - seen_again

    spoken, drawn = _heard_and_seen(made)
    return Pools(
        input_uncached=total_in - cached - heard - seen,
        cache_read=cached,
        audio_in=heard,
        image_in=seen,
        output_text=rest("the output", answer, spoken, drawn),
        reasoning=thoughts,
        audio_out=spoken,
        image_out=drawn,
        web_searches=searches,
    )


def _modalities(usage: Block, key: str) -> list[tuple[str, int]]:
    """Return (modality, tokens) of a split, which may be absent. Interactions say `tokens`, and in lower case."""
    if usage.get(key) is None:
        return []
    return [(_name(entry.get("modality")), either(entry, "tokenCount", "tokens")) for entry in blocks(usage, key)]


def _name(modality: object) -> str:
    # The SDK's own values are enums that are texts as well.
    return modality.upper() if isinstance(modality, str) else ""


def _heard_and_seen(split: Iterable[tuple[str, int]]) -> tuple[int, int]:
    heard = seen = 0
    for modality, tokens in split:
        if modality == "AUDIO":
            heard += tokens
        elif modality in _SEEN:
            seen += tokens
    return heard, seen


def _read_pieces(response: Block) -> Pools:
    """Read what comes without usage: embeddings on Vertex AI count each text, Imagen is billed by the picture."""
    made = [entry for key in ("predictions", "generatedImages", "generated_images") for entry in blocks(response, key)]
    texts = [
        *blocks(response, "embeddings"),
        *(details(entry, "embeddings") for entry in made if "embeddings" in entry),
    ]
    if texts:
        # Whole numbers with a fraction of nothing: the statistics are floats by their type.
        statistics = [_in_camel_case(details(text, "statistics")) for text in texts]
        return Pools(input_uncached=sum(rounded_up(entry, "tokenCount") for entry in statistics))
    if made and all("bytesBase64Encoded" in entry or "gcsUri" in entry or "image" in entry for entry in made):
        return Pools(images=len(made))
    raise Unreadable("the response has no usageMetadata")


def _in_camel_case(block: Block) -> Block:
    """Return the block with the API's own names, whichever of the two spellings it came in."""
    renamed: dict[str, object] = {}
    for key, value in block.items():
        head, *tail = key.split("_")
        renamed[head + "".join(word.capitalize() for word in tail)] = (
            [_in_camel_case(entry) if isinstance(entry, Mapping) else entry for entry in value]
            if isinstance(value, list)
            else value
        )
    return renamed
