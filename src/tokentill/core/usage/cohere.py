"""Usage as Cohere reports it: chat (versions 1 and 2) and embeddings.

Cohere says twice what it counted: `tokens` went through the model, `billed_units` are paid for, and are what is read
here. Its counts are floats by their type and whole by their nature. Reranking is billed by search units and
classification by the piece: neither is a pool.

Source: https://docs.cohere.com/reference/chat and the types of the `cohere` package
"""

from tokentill.core.usage import openai
from tokentill.core.usage.blocks import Block, Unreadable, count, details, rest
from tokentill.core.usage.pools import Pools


def read(response: Block) -> Pools:
    """Read a whole response body. Raises: Unreadable."""
    usage = details(response, "usage", "meta")
    if "prompt_tokens" in usage:
        return openai.read(response)  # Cohere's endpoint for clients of OpenAI's.
    billed = _whole(details(usage, "billed_units"))
    if not billed:
        raise Unreadable("the response has no billed_units")
    for unit in ("search_units", "classifications", "pages"):
        if count(billed, unit):
            raise Unreadable(f"{unit} are billed, and no pool counts them")

    image_in, text_in = count(billed, "image_tokens"), count(billed, "text_tokens")
    given = count(billed, "input_tokens")
    if text_in and given not in (0, text_in, text_in + image_in):
        raise Unreadable("input_tokens is not the sum of text_tokens and image_tokens")
    cached = count(_whole(usage), "cached_tokens")
    return Pools(
        input_uncached=rest("input_tokens", text_in or given, cached),
        cache_read=cached,
        image_in=image_in,
        output_text=count(billed, "output_tokens"),
        images=count(billed, "images"),
    )


def _whole(block: Block) -> Block:
    """Return the block with 5.0 as 5. A true fraction stays, to be refused as one."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in block.items()
    }
