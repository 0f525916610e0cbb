"""The golden cases: what a provider is asked through its SDK, what it answers, and what is written of the call.

`path` and `kwargs` are the SDK's method and its arguments; `mode` says what the caller does with the answer:

| mode | |
| --- | --- |
| plain, raw, streaming | takes it whole; `.with_raw_response`, parsed; `.with_streaming_response`, read |
| stream, left | reads a stream to its end, or three events of it |
| helper | reads the stream of a context manager (`.stream(…)`) to its end |

Bodies named as text are those of `tests/core/usage/samples`, whose README says where they come from, and bring the
pools that they amount to. All others are written out here or built from counts by `samples.llm_shapes`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from tests.meter.providers import Answer, responses_stream
from tokentill.samples import llm_shapes

Mode = Literal["plain", "raw", "streaming", "stream", "left", "helper"]
Pools = dict[str, int]

SAMPLES = Path(__file__).parent.parent / "core" / "usage" / "samples"
HELLO: Any = [{"role": "user", "content": "I want a house by the sea."}]
HELLO_TOKENS = 14  # What a prompt of `HELLO` is taken for where nobody counts it: see `meter.counting`.
CHAT = "chat.completions.create"
RESPONSES = "responses.create"
MESSAGES = "messages.create"


class Vision(BaseModel):
    text: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One case. The row is what differs from a success that was counted to the last token."""

    name: str
    path: str = CHAT
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "plain"
    at: str = "openai"  # Which client of `CLIENTS`.
    answers: Sequence[Answer] = ()
    provider: str | None  # As the row names it.
    model: str
    pools: Pools | None
    tokens: int  # What the account pays.
    tier: str | None = None
    estimated: bool = False
    success: bool = True
    error: str | None = None  # What the row's error says, among other things.
    raises: str | None = None  # What the caller meets.
    asks_usage: bool | None = None  # Whether the provider was asked for a stream's usage.
    metadata: Mapping[str, Any] | None = None  # Some of it.
    beside: tuple[str | None, Pools, int] | None = None  # The row of another model: (model, pools, tokens).
    sees: int | None = None  # How many chunks the caller sees.


def sample(file: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in json.loads((SAMPLES / f"{file}.json").read_text()) if each["name"] == name
    )
    return found


def sampled(file: str, sample_name: str, *, breaks_after: int | None = None, **about: Any) -> Golden:
    """Return a case of a sample's body or events; its pools are the sample's, and tokens are all that it counts."""
    said = sample(file, sample_name)
    events = said.get("events")
    answer = Answer(events=events, breaks_after=breaks_after) if events is not None else Answer(body=said["response"])
    given = {"name": f"{about.get('at', 'openai')}: {sample_name}", "provider": said["provider"], **about}
    given.setdefault("pools", said.get("pools"))
    given.setdefault("model", (said.get("response") or {}).get("model") or "gpt-5")
    if events is not None:
        given.setdefault("mode", "stream")
    return Golden(answers=[answer], **given)


def failing(status: int, message: str = "no") -> Answer:
    return Answer(body={"error": {"message": message, "type": "some_error"}}, status=status)


def chat_body(**parts: Any) -> dict[str, Any]:
    return {**llm_shapes.openai_chat(), **parts}


def called() -> dict[str, Any]:
    """A chat that asks for a tool."""
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"place":"sea"}'}}
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    return chat_body(choices=[choice])


def calling_stream() -> list[dict[str, Any]]:
    """The chunks of a chat that asks for a tool, its arguments in pieces of eight letters."""
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [begun]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": "abcdefgh"}}]} for _ in range(5)]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    usage = {"prompt_tokens": 70, "completion_tokens": 21, "total_tokens": 91}
    return [*chunks, {**head, "choices": [], "usage": usage}]


def drawing() -> dict[str, Any]:
    """A response whose image tool has drawn."""
    used = {"input_tokens": 20, "output_tokens": 1056, "total_tokens": 1076}
    tools = [{"type": "image_generation", "model": "gpt-image-1"}]
    return {**llm_shapes.openai_responses(), "tools": tools, "tool_usage": {"image_gen": used}}


def advised() -> dict[str, Any]:
    """A message for which an advisor, another model, was heard."""
    body = llm_shapes.anthropic_message()
    said = {"input_tokens": 900, "output_tokens": 60, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    iteration = {"type": "message", "input_tokens": 120, "output_tokens": 40}
    advisor = {"type": "advisor_message", "model": "claude-opus-4-5", **said}
    body["usage"]["iterations"] = [iteration, advisor]
    return body


def filtered_stream() -> list[dict[str, Any]]:
    """As Azure streams: before anything else, what its filters found in the prompt."""
    chunks = llm_shapes.openai_chat_stream()
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}
    return [first, *chunks]


USED: Pools = {"input_uncached": 120, "output_text": 40}
SPOKEN: Any = {"input": "Good morning.", "voice": "alloy"}
HEARD: Any = {"file": ("a.mp3", b"ID3")}
TOOLS: Any = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
JSON = '{"text": "a house"}'

OPENAI = [
    sampled("openai", "chat, plain", tokens=29),
    sampled("openai", "chat, cached and reasoned", tokens=2306),
    sampled("openai", "chat, cache read and written", model="gpt-5.6", tokens=2650),
    sampled("openai", "chat, spoken both ways", tokens=351),
    sampled("openai", "chat, cached sound among the details", tokens=320),
    sampled("openai", "chat, predicted output that was rejected is output", tokens=180),
    sampled("openai", "chat, streamed", tokens=90, asks_usage=True, sees=4),
    sampled(
        "openai", "chat, streamed without include_usage", pools={"input_uncached": HELLO_TOKENS, "output_text": 4},
        tokens=HELLO_TOKENS + 4, estimated=True,
    ),
    sampled(
        "openai", "chat, more cached than there was", pools={"input_uncached": 128, "output_text": 1}, tokens=129,
        estimated=True,
    ),
    sampled(
        "openai", "chat, a total that is no sum", pools={"input_uncached": 100, "output_text": 40}, tokens=140,
        estimated=True,
    ),
    sampled(
        "openai", "chat, no usage at all", pools={"input_uncached": HELLO_TOKENS, "output_text": 4},
        tokens=HELLO_TOKENS + 4, estimated=True, metadata={"usage_note": "the response has no usage"},
    ),
    sampled("openai", "completion, the old endpoint", path="completions.create", kwargs={"prompt": "a house"},
            tokens=12),
    sampled("openai", "responses, plain", path=RESPONSES, tokens=123),
    sampled("openai", "responses, cached for hours and reasoned", path=RESPONSES, tokens=6035),
    sampled("openai", "responses, with searches", path=RESPONSES, tokens=8810),
    sampled("openai", "responses, streamed", path=RESPONSES, model="gpt-5.6", tokens=366),
    sampled("openai", "responses, streamed until the limit", path=RESPONSES, model="gpt-5.6", tokens=36),
    sampled("openai", "embeddings", path="embeddings.create", kwargs={"input": "a house"}, tokens=8),
    sampled("openai", "images, edited", path="images.edit", kwargs={"image": ("a.png", b"PNG")}, model="gpt-image-1",
            tokens=4533),
    sampled("openai", "images, with thoughts in text", path="images.generate", model="gpt-image-1", tokens=1180),
    # Pieces are no tokens: an action that is charged by them takes what was held, and one with a price its price.
    sampled("openai", "images, by the piece", path="images.generate", kwargs={"n": 2}, model="dall-e-3", tokens=8195),
    sampled("openai", "images, streamed", path="images.generate", kwargs={"stream": True}, model="gpt-image-1",
            tokens=1086),
    sampled("openai", "transcription, by the token", path="audio.transcriptions.create", kwargs=HEARD,
            model="gpt-4o-transcribe", tokens=59),
    sampled("openai", "transcription, by the second", path="audio.transcriptions.create", kwargs=HEARD,
            model="whisper-1", tokens=5596),
    sampled("openai", "transcription, verbose and without usage", path="audio.transcriptions.create",
            kwargs={**HEARD, "response_format": "verbose_json"}, model="whisper-1", tokens=5596),
    sampled("openai", "transcription, streamed", path="audio.transcriptions.create",
            kwargs={**HEARD, "stream": True}, model="gpt-4o-transcribe", tokens=35),
    sampled("openai", "speech, streamed", path="audio.speech.create", kwargs={**SPOKEN, "stream_format": "sse"},
            mode="plain", model="gpt-4o-mini-tts", tokens=115),
    Golden(name="openai: speech, in characters", path="audio.speech.create", kwargs=SPOKEN, provider="openai",
           model="gpt-4o-mini-tts", pools={"characters": 13}, tokens=6,
           answers=[Answer(body=b"ID3" + bytes(64), content_type="audio/mpeg")]),
    Golden(name="openai: speech, streamed as sound", path="audio.speech.create", kwargs=SPOKEN, mode="streaming",
           provider="openai", model="gpt-4o-mini-tts", pools={"characters": 13}, tokens=6,
           answers=[Answer(body=b"ID3" + bytes(64), content_type="audio/mpeg")]),
    Golden(name="openai: translation", path="audio.translations.create", kwargs=HEARD, provider="openai",
           model="whisper-1", pools={"seconds": 13}, tokens=5596,
           answers=[Answer(body={"text": "A house.", "duration": 12.4, "language": "german", "task": "translate"})]),
    Golden(name="openai: transcription as mere text", path="audio.transcriptions.create",
           kwargs={**HEARD, "response_format": "text"}, provider="openai", model="gpt-4o-transcribe", pools=None,
           tokens=5596, estimated=True, answers=[Answer(body=b"a house\n", content_type="text/plain")]),
    Golden(name="openai: chat, raw", mode="raw", provider="openai", model="gpt-4o-2024-08-06", pools=USED, tokens=160),
    Golden(name="openai: chat, streaming response", mode="streaming", provider="openai", model="gpt-4o-2024-08-06",
           pools=USED, tokens=160),
    Golden(name="openai: chat, packed", provider="openai", model="gpt-4o-2024-08-06", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.openai_chat(), is_packed=True)]),
    Golden(name="openai: chat, parsed", path="chat.completions.parse", kwargs={"response_format": Vision},
           provider="openai", model="gpt-4o-2024-08-06", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.openai_chat(text=JSON))]),
    Golden(name="openai: chat, stream helper", path="chat.completions.stream", mode="helper", provider="openai",
           model="gpt-4o-2024-08-06", pools=USED, tokens=160),
    Golden(name="openai: chat, stream helper with a shape", path="chat.completions.stream", mode="helper",
           kwargs={"response_format": Vision}, provider="openai", model="gpt-4o-2024-08-06", pools=USED, tokens=160,
           answers=[Answer(events=llm_shapes.openai_chat_stream(text=JSON))]),
    Golden(name="openai: chat, the usage asked for", mode="stream", provider="openai", model="gpt-4o-2024-08-06",
           kwargs={"stream_options": {"include_usage": True}}, pools=USED, tokens=160, asks_usage=True, sees=10),
    Golden(name="openai: chat, three answers", provider="openai", model="gpt-4o-2024-08-06", kwargs={"n": 3},
           answers=[Answer(body=llm_shapes.openai_chat(completion_tokens=120))],
           pools={"input_uncached": 120, "output_text": 120}, tokens=240),
    Golden(name="openai: chat, a tool is called", kwargs={"tools": TOOLS}, provider="openai",
           model="gpt-4o-2024-08-06", pools=USED, tokens=160, answers=[Answer(body=called())]),
    Golden(name="openai: chat, a tool is called in a stream", kwargs={"tools": TOOLS}, mode="stream",
           provider="openai", model="gpt-4o-2024-08-06", pools={"input_uncached": 70, "output_text": 21}, tokens=91,
           answers=[Answer(events=calling_stream())]),
    Golden(name="openai: chat, broken off in a tool's arguments", mode="stream", provider="openai",
           model="gpt-4o-2024-08-06", pools={"input_uncached": HELLO_TOKENS, "output_text": 7},
           tokens=HELLO_TOKENS + 7, estimated=True, raises="(RemoteProtocolError|APIConnectionError)",
           error="RemoteProtocolError", answers=[Answer(events=calling_stream(), breaks_after=4)]),
    Golden(name="openai: chat, broken off in a word", mode="stream", provider="openai", model="gpt-4o-2024-08-06",
           pools={"input_uncached": HELLO_TOKENS, "output_text": 4}, tokens=HELLO_TOKENS + 4, estimated=True,
           raises="(RemoteProtocolError|APIConnectionError)", error="RemoteProtocolError",
           metadata={"usage_note": "the stream broke off"},
           answers=[Answer(events=llm_shapes.openai_chat_stream(), breaks_after=4)]),
    Golden(name="openai: chat, broken off before its first event", mode="stream", provider="openai", model="gpt-4o",
           pools=None, tokens=0, success=False, raises="(RemoteProtocolError|APIConnectionError)",
           error="RemoteProtocolError", answers=[Answer(events=llm_shapes.openai_chat_stream(), breaks_after=0)]),
    Golden(name="openai: chat, left", mode="left", provider="openai", model="gpt-4o-2024-08-06",
           pools={"input_uncached": HELLO_TOKENS, "output_text": 3}, tokens=HELLO_TOKENS + 3, estimated=True,
           error="The caller read no further."),
    Golden(name="openai: chat, flex", kwargs={"service_tier": "flex"}, provider="openai", model="gpt-4o-2024-08-06",
           pools=USED, tokens=160, tier="flex", answers=[Answer(body=llm_shapes.openai_chat(service_tier="flex"))]),
    Golden(name="openai: chat, priority in a stream", mode="stream", provider="openai", model="gpt-4o-2024-08-06",
           pools=USED, tokens=160, tier="priority",
           answers=[Answer(events=llm_shapes.openai_chat_stream(service_tier="priority"))]),
    Golden(name="openai: completion, the old endpoint, streamed", path="completions.create", mode="stream",
           kwargs={"prompt": "a house"}, provider="openai", model="gpt-3.5-turbo-instruct",
           pools={"input_uncached": 5, "output_text": 7}, tokens=12, asks_usage=True, sees=1,
           answers=[Answer(events=[
               {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct",
                "choices": [{"text": "by the sea", "index": 0, "finish_reason": "stop", "logprobs": None}]},
               {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct",
                "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}])]),
    Golden(name="openai: responses, raw", path=RESPONSES, mode="raw", provider="openai", model="gpt-4.1-2025-04-14",
           pools=USED, tokens=160),
    Golden(name="openai: responses, parsed", path="responses.parse", kwargs={"text_format": Vision},
           provider="openai", model="gpt-4.1-2025-04-14", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.openai_responses(text=JSON))]),
    Golden(name="openai: responses, stream helper", path="responses.stream", mode="helper", provider="openai",
           model="gpt-4.1-2025-04-14", pools=USED, tokens=160, answers=[Answer(events=responses_stream())]),
    Golden(name="openai: responses, left", path=RESPONSES, mode="left", provider="openai",
           model="gpt-4.1-2025-04-14", pools={"input_uncached": 3}, tokens=3, estimated=True,
           error="The caller read no further.",
           answers=[Answer(events=responses_stream())]),
    Golden(name="openai: responses, in the background", path=RESPONSES, provider="openai", model="gpt-4.1-2025-04-14",
           kwargs={"background": True, "max_output_tokens": 900}, pools=None, tokens=903, estimated=True,
           answers=[Answer(body=llm_shapes.openai_responses() | {"status": "queued", "usage": None, "output": []})]),
    Golden(name="openai: responses, failed", path=RESPONSES, provider="openai", model="gpt-4.1-2025-04-14", pools=None,
           tokens=0, success=False, error="server_error: it fell over",
           answers=[Answer(body=llm_shapes.openai_responses() | {
               "status": "failed", "usage": None, "output": [],
               "error": {"code": "server_error", "message": "it fell over"}})]),
    Golden(name="openai: responses, failed in a stream before a word", path=RESPONSES, mode="stream",
           provider="openai", model="gpt-4.1-2025-04-14", pools={"input_uncached": 3}, tokens=0, success=False,
           error="server_error: it fell over",
           answers=[Answer(events=[
               responses_stream()[0],
               {"type": "response.failed", "sequence_number": 1, "response": llm_shapes.openai_responses() | {
                   "status": "failed", "usage": None, "error": {"code": "server_error", "message": "it fell over"}}},
           ])]),
    Golden(name="openai: responses, with an image drawn", path=RESPONSES, provider="openai",
           model="gpt-4.1-2025-04-14", pools=USED, tokens=160, answers=[Answer(body=drawing())],
           beside=("gpt-image-1", {"input_uncached": 20, "image_out": 1056}, 1076)),
    Golden(name="openai: responses, with an image drawn in a stream", path=RESPONSES, mode="stream",
           provider="openai", model="gpt-4.1-2025-04-14", pools=USED, tokens=160,
           beside=("gpt-image-1", {"input_uncached": 20, "image_out": 1056}, 1076),
           answers=[Answer(events=[responses_stream()[0],
                                   {"type": "response.completed", "sequence_number": 1, "response": drawing()}])]),
    Golden(name="openai: decisions", path="decisions.create", provider="openai", model="gpt-5.6",
           kwargs={"input": "a house", "questions": []}, tokens=29,
           pools={"input_uncached": 20, "cache_read": 5, "output_text": 4},
           answers=[Answer(body={"answers": [], "model": "gpt-5.6", "usage": {
               "input_tokens": 25, "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 5},
               "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 29}})]),
    Golden(name="openai: embeddings, a batch", path="embeddings.create", kwargs={"input": ["a", "b", "c"]},
           provider="openai", model="text-embedding-3-small", pools={"input_uncached": 24}, tokens=24,
           answers=[Answer(body=llm_shapes.openai_embeddings(prompt_tokens=24, inputs=3))]),
    Golden(name="openai: images, a batch", path="images.generate", kwargs={"n": 4}, provider="openai",
           model="gpt-image-1", pools={"input_uncached": 24, "image_out": 4224}, tokens=4248,
           answers=[Answer(body=llm_shapes.openai_image(images=4, output_tokens=4224))]),
]  # fmt: skip

FAILURES = [
    Golden(name="openai: chat, 429", provider="openai", model="gpt-4o", pools=None, tokens=0, success=False,
           error="HTTP 429", raises="RateLimitError", answers=[failing(429)]),
    Golden(name="openai: chat, 500", provider="openai", model="gpt-4o", pools=None, tokens=0, success=False,
           error="HTTP 500", raises="InternalServerError", answers=[failing(500)]),
    Golden(name="openai: chat, 400 to a stream", mode="stream", provider="openai", model="gpt-4o", pools=None,
           tokens=0, success=False, error="HTTP 400", raises="BadRequestError", answers=[failing(400)]),
    Golden(name="openai: chat, no answer", provider="openai", model="gpt-4o", pools=None, tokens=0, success=False,
           error="RemoteProtocolError", raises="APIConnectionError", answers=[Answer(hangs_up=True)]),
    Golden(name="openai: chat, a timeout", kwargs={"timeout": 0.1}, provider="openai", model="gpt-4o", pools=None,
           tokens=0, success=False, error="ReadTimeout", raises="APITimeoutError", answers=[Answer(is_silent=True)]),
    Golden(name="openai: images, refused", path="images.generate", provider="openai", model="gpt-image-1", pools=None,
           tokens=0, success=False, error="HTTP 400", raises="BadRequestError", answers=[failing(400)]),
    Golden(name="openrouter: chat, an error that says all is well", at="openrouter", provider="openrouter",
           model="gpt-4o", pools=None, tokens=0, success=False, error="502: Provider returned error",
           answers=[Answer(body={"error": {"code": 502, "message": "Provider returned error"}})]),
    Golden(name="anthropic: message, 529", at="anthropic", path=MESSAGES, provider="anthropic", model="claude-next",
           pools=None, tokens=0, success=False, error="HTTP 529", raises="OverloadedError",
           answers=[Answer(body=OVERLOADED, status=529)]),
    Golden(name="anthropic: message, a timeout", at="anthropic", path=MESSAGES, kwargs={"timeout": 0.1},
           provider="anthropic", model="claude-next", pools=None, tokens=0, success=False, error="ReadTimeout",
           raises="APITimeoutError", answers=[Answer(is_silent=True)]),
    Golden(name="anthropic: message, overloaded before a word", at="anthropic", path=MESSAGES, mode="stream",
           provider="anthropic", model="claude-next", pools=None, tokens=0, success=False,
           error="overloaded_error: Overloaded", raises="(APIStatusError|OverloadedError)",
           answers=[Answer(events=[OVERLOADED])]),
]  # fmt: skip

COMPATIBLE = [
    sampled("compatible", "Azure, chat", at="azure", model="gpt-5", tokens=590),
    Golden(name="azure: chat, streamed behind its filters", at="azure", mode="stream", provider="azure",
           model="gpt-4o-2024-08-06", pools=USED, tokens=160, asks_usage=True, sees=10,
           answers=[Answer(events=filtered_stream())]),
    Golden(name="azure: chat, streamed by an old version that cannot be asked", at="azure-old", mode="stream",
           provider="azure", model="gpt-4o-2024-08-06", pools={"input_uncached": HELLO_TOKENS, "output_text": 10},
           tokens=HELLO_TOKENS + 10, estimated=True, asks_usage=False,
           answers=[Answer(events=llm_shapes.openai_chat_stream(include_usage=False))]),
    sampled("compatible", "Azure, Claude", at="foundry", path=MESSAGES, tokens=35),
    sampled("google", "its endpoint for clients of OpenAI's", at="google", tokens=39),
    Golden(name="google: chat, streamed", at="google", mode="stream", provider="google", model="gemini-2.5-flash",
           pools=USED, tokens=160, answers=[Answer(events=llm_shapes.openai_chat_stream(model="gemini-2.5-flash"))]),
    sampled("google", "Claude on Vertex AI", at="vertex", path=MESSAGES, tokens=4039),
    sampled("anthropic", "its endpoint for clients of OpenAI's", at="anthropic-chat", tokens=21),
    sampled("compatible", "DeepSeek, hits and misses", at="deepseek", tokens=290),
    sampled("compatible", "DeepSeek, hits only at the root", at="deepseek", tokens=290),
    sampled(
        "compatible", "DeepSeek, hits and misses that are not the prompt", at="deepseek",
        pools={"input_uncached": 200, "output_text": 90}, tokens=290, estimated=True,
    ),
    sampled("compatible", "DeepSeek, its endpoint for clients of Anthropic's", at="deepseek-messages", path=MESSAGES,
            tokens=79),
    sampled("compatible", "xAI, reasoning beside the completion", at="x-ai", tokens=135),
    sampled("compatible", "xAI, reasoning beside the completion, no total", at="x-ai", tokens=135),
    sampled("compatible", "xAI, responses have it inside the output", at="x-ai", path=RESPONSES, tokens=273),
    sampled("compatible", "Groq, with times beside the counts", at="groq", tokens=574),
    sampled("compatible", "Groq, streamed", at="groq", tokens=29),
    sampled("compatible", "Groq, transcription", at="groq", path="audio.transcriptions.create", kwargs=HEARD,
            model="whisper-large-v3", tokens=5596),
    sampled("compatible", "Mistral, chat", at="mistral", tokens=50),
    sampled("compatible", "Mistral, sound by the second, its tokens in the total only", at="mistral", tokens=639),
    sampled("compatible", "Mistral, sound by the token", at="mistral", tokens=379),
    sampled("compatible", "Mistral, streamed", at="mistral", tokens=14, asks_usage=False),
    sampled("compatible", "Mistral, embeddings", at="mistral", path="embeddings.create", kwargs={"input": "a house"},
            tokens=15),
    sampled("compatible", "OpenRouter, with its cost", at="openrouter", tokens=196,
            metadata={"reported_cost_cents": "95"}),
    sampled("compatible", "OpenRouter, streamed, the usage after the end", at="openrouter", tokens=14,
            metadata={"reported_cost_cents": "0.01"}),
    sampled("compatible", "Together, cached at the root", at="together", tokens=120),
    sampled("compatible", "Fireworks, cached", at="fireworks", tokens=120),
    sampled("compatible", "Moonshot, streamed, the usage in the choice", at="moonshotai", tokens=23),
    sampled("compatible", "vLLM, without details", at="vllm", tokens=48),
    sampled("compatible", "vLLM, running sums", at="vllm", tokens=35),
    sampled(
        "compatible", "vLLM, running sums that broke off", at="vllm", breaks_after=1,
        pools={"input_uncached": 31, "output_text": 1}, tokens=32, estimated=True,
        raises="(RemoteProtocolError|APIConnectionError)", error="RemoteProtocolError",
    ),
    sampled("compatible", "Perplexity, plain", at="perplexity", tokens=447),
    sampled("compatible", "Perplexity, deep research", at="perplexity", tokens=101209),
    Golden(name="cerebras: chat", at="cerebras", provider="cerebras", model="llama-4-scout", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.openai_chat(model="llama-4-scout"))]),
    sampled("compatible", "LiteLLM, Anthropic's counts beside OpenAI's", at="litellm", tokens=520),
    Golden(name="a gateway of one's own: chat, whoever answers", at="gateway", provider=None,
           model="gpt-4o-2024-08-06", pools={"input_uncached": 20, "cache_read": 100, "output_text": 40}, tokens=160,
           answers=[Answer(body=llm_shapes.openai_chat(cached_tokens=100))]),
]  # fmt: skip

CLAUDE: Any = {"path": MESSAGES, "at": "anthropic"}
ANTHROPIC = [
    sampled("anthropic", "message, plain", **CLAUDE, tokens=38),
    sampled("anthropic", "message, both lifetimes of the cache", **CLAUDE, tokens=100901, tier="priority"),
    sampled("anthropic", "message, thought about and searched for", **CLAUDE, tokens=20612),
    sampled("anthropic", "message, with a compaction beside the totals", **CLAUDE, tokens=229744),
    sampled("anthropic", "message, streamed", **CLAUDE, model="claude-opus-4-5", tokens=2561),
    sampled("anthropic", "message, streamed with searches that raise the input", **CLAUDE, model="claude-opus-4-5",
            tokens=11192),
    sampled(
        "anthropic", "message, streamed and broken off", **CLAUDE, model="claude-opus-4-5", breaks_after=2,
        pools={"input_uncached": 472, "output_text": 2}, tokens=474, estimated=True,
        raises="(RemoteProtocolError|APIConnectionError)", error="RemoteProtocolError",
    ),
    sampled(
        "anthropic", "message, more thought than written", **CLAUDE, pools={"input_uncached": 5, "output_text": 11},
        tokens=16, estimated=True,
    ),
    Golden(name="anthropic: message, raw", **CLAUDE, mode="raw", provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools=USED, tokens=160),
    Golden(name="anthropic: message, streaming response", **CLAUDE, mode="streaming", provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools=USED, tokens=160),
    Golden(name="anthropic: message, parsed", at="anthropic", path="messages.parse", kwargs={"output_format": Vision},
           provider="anthropic", model="claude-sonnet-4-5-20250929", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.anthropic_message(text=JSON))]),
    Golden(name="anthropic: message, stream helper", at="anthropic", path="messages.stream", mode="helper",
           provider="anthropic", model="claude-sonnet-4-5-20250929", pools=USED, tokens=160),
    Golden(name="anthropic: message, left", **CLAUDE, mode="left", provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools={"input_uncached": 120, "output_text": 10}, tokens=130,
           estimated=True, error="The caller read no further."),
    Golden(name="anthropic: message, thoughts broken off", **CLAUDE, mode="stream", provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools={"input_uncached": 120, "output_text": 1, "reasoning": 5},
           tokens=126, estimated=True, raises="(RemoteProtocolError|APIConnectionError)", error="RemoteProtocolError",
           answers=[Answer(events=llm_shapes.anthropic_stream(thinking_tokens=20), breaks_after=4)]),
    Golden(name="anthropic: message, an error after some words", **CLAUDE, mode="stream", provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools={"input_uncached": 120, "output_text": 10}, tokens=130,
           estimated=True, raises="(APIStatusError|OverloadedError)", error="overloaded_error",
           answers=[Answer(events=[*llm_shapes.anthropic_stream()[:4], OVERLOADED])]),
    Golden(name="anthropic: message, a tool is called", **CLAUDE, provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools=USED, tokens=160,
           answers=[Answer(body=llm_shapes.anthropic_message() | {
               "stop_reason": "tool_use",
               "content": [{"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"place": "sea"}}]})]),
    Golden(name="anthropic: message, with an advisor heard", **CLAUDE, provider="anthropic",
           model="claude-sonnet-4-5-20250929", pools=USED, tokens=160, answers=[Answer(body=advised())],
           beside=("claude-opus-4-5", {"input_uncached": 900, "output_text": 60}, 960)),
    Golden(name="anthropic: message, beta", at="anthropic", path="beta.messages.create",
           kwargs={"betas": ["context-1m-2025-08-07"]}, provider="anthropic", model="claude-sonnet-4-5-20250929",
           pools=USED, tokens=160),
    Golden(name="anthropic: message, beta in a stream", at="anthropic", path="beta.messages.create", mode="stream",
           provider="anthropic", model="claude-sonnet-4-5-20250929", pools=USED, tokens=160),
]  # fmt: skip

CASES = [*OPENAI, *FAILURES, *COMPATIBLE, *ANTHROPIC]
