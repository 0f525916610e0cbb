"""Response bodies as AI providers send them, built from the counts that matter.

For demos, seeds, fakes and tests: whole bodies with ids, choices and usage in the providers' present shapes, so that
whoever reads them meets the same fields as in production. The same arguments give the same body: no clock, no
randomness; `call` tells otherwise equal calls apart.

Counts are the providers' own and overlap as theirs do: OpenAI's `prompt_tokens` include the cached ones, Anthropic's
`input_tokens` do not.
"""

import hashlib
from typing import Any

CREATED = 1_767_225_600  # 2026-01-01T00:00:00Z, as a response's own date.

Body = dict[str, Any]


def openai_chat(
    *,
    model: str = "gpt-4o-2024-08-06",
    text: str = "Your vision is clear and within reach.",
    prompt_tokens: int = 120,
    completion_tokens: int = 40,
    cached_tokens: int = 0,
    audio_tokens_in: int = 0,
    reasoning_tokens: int = 0,
    audio_tokens_out: int = 0,
    service_tier: str = "default",
    created: int = CREATED,
    call: int = 1,
) -> Body:
    """Build a chat completion."""
    return {
        "id": f"chatcmpl-{_name(29, 'chat', model, call)}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": audio_tokens_in},
            "completion_tokens_details": {
                "reasoning_tokens": reasoning_tokens,
                "audio_tokens": audio_tokens_out,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": service_tier,
        "system_fingerprint": f"fp_{_name(10, 'fingerprint', model)}",
    }


def openai_chat_stream(*, include_usage: bool = True, **counts: Any) -> list[Body]:
    """Build the chunks of a streamed chat completion; the arguments are those of `openai_chat`.

    With `include_usage` the last chunk has the usage and no choices, and all others say `usage: null`.
    """
    whole = openai_chat(**counts)
    head = {key: whole[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    if include_usage:
        head["usage"] = None
    words = whole["choices"][0]["message"]["content"].split(" ")
    deltas: list[Body] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word if at == 0 else f" {word}"} for at, word in enumerate(words)]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]})
    if include_usage:
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return chunks


def openai_responses(
    *,
    model: str = "gpt-4.1-2025-04-14",
    text: str = "Your vision is clear and within reach.",
    input_tokens: int = 120,
    output_tokens: int = 40,
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
    service_tier: str = "default",
    created: int = CREATED,
    call: int = 1,
) -> Body:
    """Build a response of the responses API."""
    name = _name(50, "responses", model, call)
    message = {
        "id": f"msg_{name}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }
    thoughts = [{"id": f"rs_{name}", "type": "reasoning", "summary": []}] if reasoning_tokens else []
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": created,
        "completed_at": created + 2,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": [*thoughts, message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": service_tier,
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": input_tokens + output_tokens,
        },
        "user": None,
        "metadata": {},
    }


def openai_responses_stream(**counts: Any) -> list[Body]:
    """Build the events of a streamed response; the arguments are those of `openai_responses`."""
    whole = openai_responses(**counts)
    begun = {**whole, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    message = whole["output"][-1]
    text = message["content"][0]["text"]
    place = {"item_id": message["id"], "output_index": len(whole["output"]) - 1, "content_index": 0}
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.completed", "response": whole},
    ]
    return [{**event, "sequence_number": at} for at, event in enumerate(events)]


def openai_embeddings(
    *, model: str = "text-embedding-3-small", prompt_tokens: int = 8, inputs: int = 1, dimensions: int = 8
) -> Body:
    """Build an embeddings response of so many vectors, each short and of length 1."""
    vector = [1.0] + [0.0] * (dimensions - 1)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(inputs)],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def openai_image(
    *,
    text_tokens: int = 24,
    image_tokens: int = 0,
    output_tokens: int = 1056,
    images: int = 1,
    size: str = "1024x1024",
    quality: str = "medium",
    created: int = CREATED,
) -> Body:
    """Build an answer of the images API. It names no model: whoever asked knows which one."""
    # The smallest PNG there is: one transparent pixel.
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    return {
        "created": created,
        "background": "opaque",
        "data": [{"b64_json": pixel} for _ in range(images)],
        "output_format": "png",
        "quality": quality,
        "size": size,
        "usage": {
            "input_tokens": text_tokens + image_tokens,
            "input_tokens_details": {"image_tokens": image_tokens, "text_tokens": text_tokens},
            "output_tokens": output_tokens,
            "total_tokens": text_tokens + image_tokens + output_tokens,
        },
    }


def openai_transcription(
    *,
    text: str = "I see a house by the sea.",
    seconds: int | None = None,
    audio_tokens: int = 140,
    text_tokens: int = 0,
    output_tokens: int = 12,
) -> Body:
    """Build a transcription: billed by the second if `seconds` is given (whisper), else by the token."""
    if seconds is not None:
        return {"text": text, "usage": {"type": "duration", "seconds": seconds}}
    return {
        "text": text,
        "usage": {
            "type": "tokens",
            "input_tokens": audio_tokens + text_tokens,
            "input_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
            "output_tokens": output_tokens,
            "total_tokens": audio_tokens + text_tokens + output_tokens,
        },
    }


def anthropic_message(
    *,
    model: str = "claude-sonnet-4-5-20250929",
    text: str = "Your vision is clear and within reach.",
    input_tokens: int = 120,
    output_tokens: int = 40,
    cache_read_tokens: int = 0,
    cache_write_5m_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
    thinking_tokens: int = 0,
    web_searches: int = 0,
    service_tier: str = "standard",
    call: int = 1,
) -> Body:
    """Build a message."""
    content: list[Body] = [{"type": "text", "text": text}]
    usage: Body = {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": cache_write_5m_tokens + cache_write_1h_tokens,
        "cache_read_input_tokens": cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "service_tier": service_tier,
        "inference_geo": "not_available",
    }
    if thinking_tokens:
        signature = _name(64, "signature", model, call)
        content.insert(0, {"type": "thinking", "thinking": "Let me look at this.", "signature": signature})
        usage["output_tokens_details"] = {"thinking_tokens": thinking_tokens}
    if web_searches:
        usage["server_tool_use"] = {"web_search_requests": web_searches, "web_fetch_requests": 0}
    return {
        "id": f"msg_01{_name(22, 'messages', model, call)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage,
    }


def anthropic_stream(**counts: Any) -> list[Body]:
    """Build the events of a streamed message; the arguments are those of `anthropic_message`.

    As in life, the usage at the start counts one output token, and the one at the end repeats the sums and leaves
    the split of cache writes out.
    """
    whole = anthropic_message(**counts)
    usage = whole["usage"]
    later = ("output_tokens_details", "server_tool_use")
    first = {key: value for key, value in usage.items() if key not in later} | {"output_tokens": 1}
    begun = {**whole, "content": [], "stop_reason": None, "usage": first}
    last = {key: value for key, value in usage.items() if key.endswith("_tokens") or key in later}

    events: list[Body] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        empty = {**block, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        deltas: list[Body] = [{"type": f"{kind}_delta", kind: block[kind]}]
        if kind == "thinking":
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": last})
    events.append({"type": "message_stop"})
    return events


def _name(length: int, *about: object) -> str:
    """Return a name that looks random and is always the same for the same arguments."""
    return hashlib.sha256("\0".join(map(str, about)).encode()).hexdigest()[:length]
