"""Which of a provider's HTTP requests are AI calls, and how each says what it will use and what it has used.

Only what is billed when it is answered: counting tokens and moderating are free, a batch's results come later, and
what goes over a websocket is not seen here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokentill.core.usage.reading import Pools, estimate_tokens, read_service_tier
from tokentill.meter.counting import TOKENS_PER_MEDIUM, max_output, prompt_tokens, texts_of
from tokentill.meter.metered import Meter
from tokentill.meter.responses import others_of, problem_of, reported_cost, used_by, words_of
from tokentill.meter.streams import Seen

Api = Literal["openai", "anthropic"]  # Whose SDK sends the request.
Kind = Literal["text", "embeddings", "images", "speech", "transcription"]

_TELLS_UNASKED = ("mistral",)  # And refuses to be asked (422).
_ASKED_SINCE = "2024-09"  # An older `api-version` of Azure's refuses, too.

# By the end of the path: in front of it stand a version, a deployment, a gateway's own prefix.
_PATHS: Mapping[Api, tuple[tuple[str, Kind], ...]] = {
    "openai": (
        ("/chat/completions", "text"),
        ("/completions", "text"),
        ("/responses", "text"),
        ("/responses/compact", "text"),
        ("/decisions", "text"),
        ("/embeddings", "embeddings"),
        ("/images/generations", "images"),
        ("/images/edits", "images"),
        ("/images/variations", "images"),
        ("/audio/speech", "speech"),
        ("/audio/transcriptions", "transcription"),
        ("/audio/translations", "transcription"),
    ),
    "anthropic": (
        ("/v1/messages", "text"),
        ("/v1/complete", "text"),
        (":rawPredict", "text"),  # Vertex.
        (":streamRawPredict", "text"),
    ),
}

_FORM_TEXT = re.compile(
    rb'Content-Disposition: form-data; name="(model|prompt|n|stream|response_format)"\r\n(?:[^\r\n]+\r\n)*\r\n'
    rb"(.{0,100000}?)\r\n--",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One AI call as it is sent."""

    api: Api
    provider: str | None  # Who answers; None: somebody unknown here.
    kind: Kind
    path: str
    api_version: str | None = None  # Azure's.
    body: Mapping[str, Any]  # Of a form, the fields that matter here.
    is_json: bool

    @property
    def words(self) -> str:
        """In whose words the answer says what it used."""
        return "anthropic" if self.provider is None and self.api == "anthropic" else words_of(self.provider)

    @property
    def model(self) -> str | None:
        named = self.body.get("model")
        if isinstance(named, str):
            return named
        deployed = re.search(r"/(?:deployments|models)/([^/:]+)", self.path)  # Azure, Vertex.
        return deployed[1] if deployed else None

    @property
    def prompt_tokens(self) -> int:
        if self.kind == "transcription":
            return TOKENS_PER_MEDIUM
        media = TOKENS_PER_MEDIUM if not self.is_json else 0
        # Of the request's own fields the names are no part of a prompt; of what is inside them, they are.
        return prompt_tokens([each for name, each in self.body.items() if name != "model"]) + media

    @property
    def max_output(self) -> int | None:
        return 0 if self.kind in ("embeddings", "speech") else max_output(self.body)

    @property
    def hides_usage(self) -> bool:
        """Whether the stream must be asked for its usage, and the caller did not ask."""
        if self.api != "openai" or not self.is_json or not self.body.get("stream"):
            return False
        if self.provider in _TELLS_UNASKED or (self.api_version is not None and self.api_version < _ASKED_SINCE):
            return False
        options = self.body.get("stream_options")
        has_asked = isinstance(options, Mapping) and bool(options.get("include_usage"))
        return self.path.endswith("/completions") and not has_asked

    def with_usage(self) -> bytes:
        """Return the body that asks for the usage, too."""
        options = self.body.get("stream_options")
        options = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
        return json.dumps({**self.body, "stream_options": options}, ensure_ascii=False, separators=(",", ":")).encode()

    def read(self, content: bytes, meter: Meter, *, request_id: str | None) -> None:
        """Take note of what a whole answer says it used. What it does not say is estimated, and marked so."""
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        body = body if isinstance(body, dict) else {}
        named, model = body.get("id"), body.get("model")
        request_id = named if isinstance(named, str) else request_id
        if self.kind == "speech":
            self.read_speech(meter, request_id=request_id)
            return
        read = used_by(body, self.words)
        about: dict[str, Any] = {
            "model": model if isinstance(model, str) else self.model, "request_id": request_id,
            "service_tier": read_service_tier(body), "others": others_of(body, self.words),
            "cost": reported_cost(body),
        }  # fmt: skip
        problem = problem_of(body)
        if problem is not None:
            meter.failed(problem)
            meter.used(read if isinstance(read, Pools) else None, **about)
        elif isinstance(read, Pools):
            meter.used(read, **about)
        else:
            meter.used(meter.guess(read, self._guess(body)), note=read.reason, raw=read.raw, **about)

    def read_speech(self, meter: Meter, *, request_id: str | None) -> None:
        """Take note of speech: what is sent back is sound, and what it is billed by is the text that was sent."""
        text = self.body.get("input")
        characters = len(text) if isinstance(text, str) else 0
        meter.used(Pools(characters=characters), model=self.model, request_id=request_id)

    def _guess(self, body: Mapping[str, Any]) -> Pools | None:
        if self.kind == "embeddings":
            return Pools(input_uncached=self.prompt_tokens)
        if self.kind != "text" or body.get("status") in ("queued", "in_progress"):
            # Of sound and images too little is known here, and of what is answered in the background nothing yet.
            return None  # What was held is charged.
        said = "".join(texts_of(body.get("choices")) + texts_of(body.get("output")) + texts_of(body.get("content")))
        said += str(body.get("completion") or "")
        return Pools(input_uncached=self.prompt_tokens, output_text=estimate_tokens(said))


def call_of(
    api: Api, method: str, path: str, read: Callable[[], bytes], *, content_type: str = "",
    provider: str | None = None, api_version: str | None = None,
) -> Call | None:  # fmt: skip
    """Return the AI call that a request is; None: it is none, and its body was not read."""
    if method != "POST":
        return None
    for end, kind in _PATHS[api]:
        if path.endswith(end):
            is_form = content_type.startswith("multipart/form-data")
            body = _form(read()) if is_form else _json(read())
            return Call(
                api=api, provider=provider, kind=kind, path=path, body=body, is_json=not is_form,
                api_version=api_version,
            )  # fmt: skip
    return None


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _form(content: bytes) -> Mapping[str, Any]:
    found = {name.decode().lower(): value.decode("utf-8", "replace") for name, value in _FORM_TEXT.findall(content)}
    body: dict[str, Any] = dict(found)
    if "n" in found:
        body["n"] = int(found["n"]) if found["n"].isdigit() else 1
    body["stream"] = found.get("stream") == "true"
    return body


class Watched:
    """An answer that comes in pieces: what to pass on of each, and what to take note of.

    `hides`: the event that says nothing but the usage is kept back from a caller who did not ask for it.
    """

    _KEPT_MAX = 32 * 1024 * 1024  # Of an answer that is one JSON text; a longer one is estimated.

    def __init__(self, call: Call, meter: Meter, *, is_events: bool, hides: bool, request_id: str | None) -> None:
        self._call, self._meter, self._request_id = call, meter, request_id
        self._hides = hides
        self._pending = bytearray()
        self._searched = 0  # So much of it holds no end of an event; an image comes in hundreds of pieces.
        self._seen: Seen | None = meter.watching(call.words) if is_events else None
        if self._seen is not None:
            self._seen.goes_on = call.body.get("background") is True
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._is_over = False
        if call.kind == "speech" and not is_events:
            self._kept = None
            call.read_speech(meter, request_id=request_id)

    @property
    def wants_rest(self) -> bool:
        """Whether what the caller left unread says what it used, and is there to be read."""
        if self._is_over:
            return False
        if self._seen is None:
            return self._kept is not None
        return self._seen.is_answered and not self._seen.is_told

    def pass_on(self, chunk: bytes) -> bytes:
        """Take note of a piece and return what of it, and of what was kept back, the caller may have."""
        if self._seen is None:
            self._keep(chunk)
            return chunk
        self._pending += chunk
        passed, begins = b"", 0
        while (end := _END_OF_EVENT.search(self._pending, max(begins, self._searched))) is not None:
            block = bytes(self._pending[begins : end.end()])
            begins = self._searched = end.end()
            if not self._take(block):
                passed += block
        del self._pending[:begins]
        self._searched = max(0, len(self._pending) - 3)
        return passed if self._hides else chunk

    def over(self) -> bytes:
        """The answer is complete. Returns what was still kept back."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._is_over = True
        if self._seen is None:
            if self._kept is not None:
                self._call.read(b"".join(self._kept), self._meter, request_id=self._request_id)
            return b""
        if rest:
            self._take(rest)
        self._seen.is_complete = True
        return rest if self._hides else b""

    def broke_off(self, error: BaseException | str) -> None:
        """The answer will not be complete. What was seen of it is charged."""
        if self._is_over:
            return
        self._is_over = True
        if self._seen is not None and isinstance(error, str) and self._seen.is_answered and self._seen.is_told:
            return  # The caller left when everything had been said.
        if self._seen is None and self._kept is not None:
            self._meter.failed(error)
        else:
            self._meter.broke_off(error)

    def _keep(self, chunk: bytes) -> None:
        if self._kept is not None and self._kept_size <= self._KEPT_MAX:
            self._kept.append(chunk)
            self._kept_size += len(chunk)

    def _take(self, block: bytes) -> bool:
        """Take note of an event. Returns whether it says nothing but what the caller did not ask for."""
        assert self._seen is not None
        data = b"".join(line[5:] for line in block.splitlines() if line.startswith(b"data:")).strip()
        if not data.startswith(b"{"):
            return False
        try:
            event = json.loads(data)
        except ValueError:
            return False
        if not isinstance(event, dict):
            return False
        self._seen.add(event)
        return self._hides and event.get("choices") == [] and event.get("usage") is not None


_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
