"""Usage as OpenAI reports it: chat completions, responses, embeddings, images, speech, transcription, realtime.

What OpenAI counts as input includes what it read from a cache and wrote to one; what it counts as output includes
reasoning. Both totals come with a split, whose parts are subtracted here.

Source: https://platform.openai.com/docs/api-reference and the types of the `openai` package
"""

from collections.abc import Mapping

from tokentill.core.usage.blocks import (
    NOTHING,
    Block,
    Unreadable,
    count,
    details,
    required,
    rest,
    rounded_up,
    usage_block,
)
from tokentill.core.usage.pools import Pools

_MAKES_IMAGES = ("image_generation.", "image_edit.")
_MAKES_SPEECH = "speech.audio."


def read(response: Block) -> Pools:
    """Read a whole response body, or the event of a stream that carries the usage. Raises: Unreadable."""
    if response.get("usage") is None:
        return _read_without_usage(response)
    return read_block(usage_block(response), response)


def read_block(usage: Block, response: Block) -> Pools:
    """Read a usage block; the response around it tells images and speech from text. Raises: Unreadable."""
    total_in_text = usage.get("prompt_tokens")
    is_chat = total_in_text is not None
    if is_chat:
        if usage.get("input_tokens") not in (None, total_in_text):
            raise Unreadable("prompt_tokens and input_tokens disagree")
        input_key, given_key = "prompt_tokens", "prompt_tokens_details"
        output_key, made_key = "completion_tokens", "completion_tokens_details"
    else:
        if usage.get("type") == "duration" or ("seconds" in usage and "input_tokens" not in usage):
            return Pools(seconds=rounded_up(usage, "seconds"))
        if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
            # Anthropic's input_tokens leave cached tokens out: read as OpenAI's, they would go unbilled.
            raise Unreadable("the usage block is Anthropic's, not OpenAI's")
        input_key, given_key = "input_tokens", "input_tokens_details"
        output_key, made_key = "output_tokens", "output_tokens_details"

    total_in = required(usage, input_key)
    total = usage.get("total_tokens")
    if usage.get(output_key) is None and (total == total_in or response.get("object") == "list"):
        total_out = 0  # Embeddings have no output; anything else must say that it had none.
    else:
        total_out = required(usage, output_key)

    cache_read = cache_write = written_1h = audio_in = image_in = 0
    # Transcriptions and realtime say "token_details" where all others say "tokens_details".
    given = details(usage, given_key, "input_token_details")
    if given:
        cache_read, cache_write = count(given, "cached_tokens"), count(given, "cache_write_tokens")
        audio_in, image_in = count(given, "audio_tokens"), count(given, "image_tokens")
        if cache_read:
            split = details(given, "cached_tokens_details")
            if not split and (audio_in or image_in):
                split = _cached_split(given)
            if split:
                cached_audio, cached_image = count(split, "audio_tokens"), count(split, "image_tokens")
                rest("cached_tokens", cache_read, cached_audio, cached_image)
                audio_in = rest("audio_tokens", audio_in, cached_audio)
                image_in = rest("image_tokens", image_in, cached_image)
        if cache_write:
            # Half an hour is the lifetime nobody has to ask for.
            written_1h = count(details(given, "cache_write_tokens_details"), "ttl_12h_tokens")

    reasoning = audio_out = image_out = 0
    made = details(usage, made_key, "output_token_details")
    if made:
        reasoning, audio_out, image_out = (
            count(made, "reasoning_tokens"),
            count(made, "audio_tokens"),
            count(made, "image_tokens"),
        )
    else:
        audio_out, image_out = _made_without_details(response, total_out)

    if total is not None and total != total_in + total_out:
        if required(usage, "total_tokens") != total_in + total_out + reasoning:
            # Seen where reasoning is billed but named nowhere: what it cost cannot be told from here.
            raise Unreadable(f"total_tokens is not the sum of {input_key} and {output_key}")
        total_out += reasoning  # xAI's, and who copies it: reasoning stands beside the output, not in it.

    return Pools(
        input_uncached=rest(input_key, total_in, cache_read, cache_write, audio_in, image_in),
        cache_read=cache_read,
        cache_write_5m=rest("cache_write_tokens", cache_write, written_1h),
        cache_write_1h=written_1h,
        audio_in=audio_in,
        image_in=image_in,
        output_text=rest(output_key, total_out, reasoning, audio_out, image_out),
        reasoning=reasoning,
        audio_out=audio_out,
        image_out=image_out,
        web_searches=_web_searches(response),
    )


def _cached_split(given: Block) -> Block:
    """The same split as `cached_tokens_details`, where it stands among the details themselves."""
    return {"audio_tokens": given.get("cached_audio_tokens"), "image_tokens": given.get("cached_image_tokens")}


def _made_without_details(response: Block, total_out: int) -> tuple[int, int]:
    """Return (audio, image) tokens of an output that comes without a split."""
    kind = response.get("type")
    if isinstance(kind, str):
        if kind.startswith(_MAKES_IMAGES):
            return 0, total_out
        if kind.startswith(_MAKES_SPEECH):
            return total_out, 0
    # The images API: what came out are the images (of embeddings, nothing did).
    return (0, total_out) if isinstance(response.get("data"), list) else (0, 0)


def _web_searches(response: Block) -> int:
    """Return the searches that the responses API ran and bills apart. File searches it does not count."""
    if response.get("tool_usage") is None:
        return 0
    return count(details(details(response, "tool_usage"), "web_search"), "num_requests")


def _read_without_usage(response: Block) -> Pools:
    """Read what is billed by the piece or by the second and so has no usage block."""
    duration = response.get("duration")
    if duration is not None and ("text" in response or "segments" in response):
        return Pools(seconds=rounded_up(response, "duration"))  # A verbose transcription of Whisper's.
    made = response.get("data")
    if isinstance(made, list) and made and all(_is_image(entry) for entry in made):
        return Pools(images=len(made))  # DALL·E's, and who copies it.
    raise Unreadable("the response has no usage")


def _is_image(entry: object) -> bool:
    return isinstance(entry, Mapping) and (entry.get("url") is not None or entry.get("b64_json") is not None)


def image_generation(response: Block) -> tuple[str | None, Pools] | None:
    """Return (model, pools) of the images that a response's tool drew: another model, billed beside this one."""
    if response.get("tool_usage") is None:
        return None
    usage = details(details(response, "tool_usage"), "image_gen")
    if not usage:
        return None
    tools = response.get("tools")
    drawing = (tool for tool in tools if isinstance(tool, Mapping)) if isinstance(tools, list) else ()
    named = next((tool.get("model") for tool in drawing if tool.get("type") == "image_generation"), None)

    given, made = details(usage, "input_tokens_details"), details(usage, "output_tokens_details")
    split = details(usage, "cached_tokens_details")
    flat = {
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "input_tokens_details": {
            "image_tokens": given.get("image_tokens"),
            "cached_tokens": usage.get("cached_tokens"),
            "cached_image_tokens": split.get("cached_image_tokens"),
        },
        "output_tokens_details": made or None,
    }
    pools = read_block(flat, {"type": "image_generation.completed"} if not made else NOTHING)
    return (named if isinstance(named, str) else None, pools) if pools.as_json() else None
