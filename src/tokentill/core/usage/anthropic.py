"""Usage as Anthropic reports it: messages, direct or through AWS, Google and Azure.

`input_tokens` leave out what was read from a cache and what was written to one; `output_tokens` include thinking.

Source: https://docs.anthropic.com/en/api/messages and the types of the `anthropic` package
"""

from tokentill.core.usage import openai
from tokentill.core.usage.blocks import NOTHING, Block, Unreadable, blocks, count, details, required, rest, usage_block
from tokentill.core.usage.pools import Pools


def speaks(usage: Block) -> bool:
    """Tell Anthropic's usage block from OpenAI's, where both may come."""
    if "prompt_tokens" in usage or "input_tokens_details" in usage:
        return False
    return "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage or "cache_creation" in usage


def read(response: Block) -> Pools:
    """Read a whole message. Raises: Unreadable."""
    usage = usage_block(response)
    if "prompt_tokens" in usage:
        return openai.read(response)  # Anthropic's own endpoint for clients of OpenAI's.
    if "input_tokens_details" in usage:
        raise Unreadable("the usage block is OpenAI's, not Anthropic's")
    pools = read_block(usage)
    if usage.get("iterations") is None:
        return pools
    # What a compaction took is billed at the same model's price and left out of the totals above it.
    compactions = [read_block(entry) for entry in blocks(usage, "iterations") if entry.get("type") == "compaction"]
    return added(pools, *compactions)


def read_block(usage: Block) -> Pools:
    """Read one block of counts. Raises: Unreadable."""
    written_5m = written_1h = 0
    split = details(usage, "cache_creation")
    if split:
        written_5m, written_1h = count(split, "ephemeral_5m_input_tokens"), count(split, "ephemeral_1h_input_tokens")
    if usage.get("cache_creation_input_tokens") is not None:
        # A stream may raise the sum at its end without a new split. 5 minutes is the lifetime nobody has to ask for.
        written = required(usage, "cache_creation_input_tokens")
        written_5m += rest("cache_creation_input_tokens", written, written_5m, written_1h)

    total_out = required(usage, "output_tokens")
    made = details(usage, "output_tokens_details")
    thinking = count(made, "thinking_tokens") if made else 0
    tools = details(usage, "server_tool_use")
    return Pools(
        input_uncached=required(usage, "input_tokens"),
        cache_read=count(usage, "cache_read_input_tokens"),
        cache_write_5m=written_5m,
        cache_write_1h=written_1h,
        output_text=rest("output_tokens", total_out, thinking) if thinking else total_out,
        reasoning=thinking,
        web_searches=count(tools, "web_search_requests") if tools else 0,
    )


def advisors(response: Block) -> list[tuple[str | None, Pools]]:
    """Return (model, pools) of the advisors that were heard: other models, billed beside this one."""
    usage = details(response, "usage") or NOTHING
    heard = [entry for entry in blocks(usage, "iterations") if entry.get("type") == "advisor_message"]
    named = [(entry.get("model"), read_block(entry)) for entry in heard]
    return [(model if isinstance(model, str) else None, pools) for model, pools in named]


def added(first: Pools, *more: Pools) -> Pools:
    """Return what all of them used together."""
    if not more:
        return first
    total: dict[str, int] = {}
    for pools in (first, *more):
        for pool, used in pools.as_json().items():
            total[pool] = total.get(pool, 0) + used
    return Pools(**total)
