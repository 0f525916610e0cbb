"""Usage as AWS Bedrock reports it: Converse, and InvokeModel for whoever's model counts in its body.

Converse's `inputTokens` leave out what was read from a cache and written to one. InvokeModel passes on each maker's own
body: Anthropic's, Amazon's (Nova, Titan), Meta's, and OpenAI's shape for most of the others. Where a body counts
nothing (Cohere's and Mistral's older models), the counts stand in the answer's headers, which boto3 keeps under
`ResponseMetadata`; a stream ends with them as `amazon-bedrock-invocationMetrics`.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from tokentill.core.usage import anthropic, openai
from tokentill.core.usage.blocks import Block, Unreadable, blocks, count, details, either, required, rest, usage_block
from tokentill.core.usage.pools import Pools

METRICS = "amazon-bedrock-invocationMetrics"
_HEADERS = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")


def read(response: Block) -> Pools:
    """Read a whole response body. Raises: Unreadable."""
    if response.get("usage") is not None:
        usage = usage_block(response)
        if "inputTokens" in usage:
            return _read_converse(usage)
        if "prompt_tokens" in usage or "input_tokens_details" in usage:
            return openai.read(response)
        return anthropic.read(response)
    if response.get("inputTextTokenCount") is not None:
        return _read_titan(response)
    if response.get("prompt_token_count") is not None or response.get("generation_token_count") is not None:
        return Pools(
            input_uncached=required(response, "prompt_token_count"),
            output_text=required(response, "generation_token_count"),
        )
    if response.get(METRICS) is not None:
        return _read_metrics(details(response, METRICS))
    return _read_headers(response)


def _read_converse(usage: Block) -> Pools:
    given, made = required(usage, "inputTokens"), required(usage, "outputTokens")
    # Nova's own body says the same with "Count" at the end.
    cached = either(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = either(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    if usage.get("totalTokens") is not None:
        # The documents leave the cache out of the total, the service puts it in.
        total = required(usage, "totalTokens")
        if total not in (given + made, given + made + cached + written):
            raise Unreadable("totalTokens is not the sum of inputTokens and outputTokens")
    lasting = sum(count(entry, "inputTokens") for entry in blocks(usage, "cacheDetails") if entry.get("ttl") == "1h")
    return Pools(
        input_uncached=given,
        cache_read=cached,
        cache_write_5m=rest("cacheWriteInputTokens", written, lasting),
        cache_write_1h=lasting,
        output_text=made,
    )


def _read_titan(response: Block) -> Pools:
    """Read Titan's text and embeddings; a chunk of its stream counts the output so far."""
    made = count(response, "totalOutputTextTokenCount") or sum(
        required(result, "tokenCount") for result in blocks(response, "results")
    )
    return Pools(input_uncached=required(response, "inputTextTokenCount"), output_text=made)


def _read_metrics(metrics: Block) -> Pools:
    return Pools(
        input_uncached=required(metrics, "inputTokenCount"),
        cache_read=count(metrics, "cacheReadInputTokenCount"),
        cache_write_5m=count(metrics, "cacheWriteInputTokenCount"),
        output_text=required(metrics, "outputTokenCount"),
    )


def _read_headers(response: Block) -> Pools:
    headers = details(details(response, "ResponseMetadata"), "HTTPHeaders")
    said = [headers.get(name) for name in _HEADERS]
    if not any(said):
        raise Unreadable("the response has no usage")
    given, made = (
        int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 16 else None for text in said
    )
    if given is None:
        raise Unreadable(f"{_HEADERS[0]} is not a whole number")
    # Embeddings have no output, and no header for it.
    if made is None and said[1] is not None:
        raise Unreadable(f"{_HEADERS[1]} is not a whole number")
    return Pools(input_uncached=given, output_text=made or 0)
