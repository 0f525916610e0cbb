"""The providers' APIs on this machine: an HTTP server that answers as they do, and remembers what it was asked.

It streams server-sent events one by one, each a chunk of its own, so that a client may leave in the middle; it can also
break off itself, fail first and answer then, and pack what it sends.
"""

import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tokentill.samples import llm_shapes

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent for one request. `events` make it a stream; `breaks_after` so many of them, the line goes dead."""

    body: Body | bytes | None = None
    events: Sequence[Body] | None = None
    status: int = 200
    content_type: str = "application/json"
    breaks_after: int | None = None
    is_packed: bool = False
    hangs_up: bool = False  # Without an answer.
    is_silent: bool = False  # Until the provider is closed.


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


@dataclass
class Provider:
    """Answers by the end of the path; a queue of answers first, then the usual one."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    clients: list[Any] = field(default_factory=list)  # That are closed when it is over.
    next_answers: list[Answer] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    holds_back: threading.Event | None = None  # While it is not set, streams pause before their second event.

    def answer_to(self, asked: Asked) -> Answer:
        if self.next_answers:
            return self.next_answers.pop(0)
        content = asked.body if asked.headers.get("content-type", "").startswith("application/json") else {}
        is_stream = bool(content.get("stream"))
        path = asked.path.partition("?")[0]
        if path.endswith("/chat/completions"):
            if is_stream:
                wants = bool((content.get("stream_options") or {}).get("include_usage"))
                return Answer(events=llm_shapes.openai_chat_stream(include_usage=wants))
            return Answer(body=llm_shapes.openai_chat())
        if path.endswith("/completions"):
            return Answer(body=_old_completion())
        if path.endswith("/responses"):
            if is_stream:
                return Answer(events=responses_stream())
            return Answer(body=llm_shapes.openai_responses())
        if path.endswith("/embeddings"):
            return Answer(body=llm_shapes.openai_embeddings())
        if path.endswith(("/images/generations", "/images/edits")):
            return Answer(body=llm_shapes.openai_image())
        if path.endswith("/audio/transcriptions"):
            return Answer(body=llm_shapes.openai_transcription())
        if path.endswith("/audio/translations"):
            return Answer(body={"text": "A house.", "duration": 12.4, "language": "german", "task": "translate"})
        if path.endswith("/audio/speech"):
            return Answer(body=b"ID3" + bytes(64), content_type="audio/mpeg")
        if path.endswith("/v1/messages"):
            if is_stream:
                return Answer(events=llm_shapes.anthropic_stream())
            return Answer(body=llm_shapes.anthropic_message())
        if path.endswith("/count_tokens"):
            return Answer(body={"input_tokens": 7})
        if path.endswith("/models"):
            return Answer(body={"object": "list", "data": []})
        return Answer(body={"error": {"message": "no such route", "type": "invalid_request_error"}}, status=404)


def responses_stream() -> list[Body]:
    """The events of a streamed response, with those around the text that the SDK's helper insists on."""
    created, in_progress, *texts, completed = llm_shapes.openai_responses_stream()
    item = completed["response"]["output"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    events = [
        created, in_progress,
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **place, "part": part},
        *texts,
        {"type": "response.content_part.done", **place, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        completed,
    ]  # fmt: skip
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _old_completion() -> Body:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    choice = {"text": "by the sea", "index": 0, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct",
        "choices": [choice], "usage": usage,
    }  # fmt: skip


@contextmanager
def serving() -> Iterator[Provider]:
    """Run a provider on a free port for as long as the block takes."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self._content())
            provider.asked.append(asked)
            answer = provider.answer_to(asked)
            if answer.is_silent:
                provider.closing.wait(30)
            if answer.is_silent or answer.hangs_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("x-request-id", "req_of_the_provider")
            if answer.events is not None:
                self._stream(answer, answer.events)
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            if answer.is_packed:
                content = gzip.compress(content)
                self.send_header("content-encoding", "gzip")
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _content(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _stream(self, answer: Answer, events: Sequence[Body]) -> None:
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for number, event in enumerate(events):
                    if number == answer.breaks_after:
                        self.close_connection = True
                        return
                    if number == 1 and provider.holds_back is not None:
                        provider.holds_back.wait(30)
                    named = f"event: {event['type']}\n" if "type" in event else ""
                    self._chunk(f"{named}data: {json.dumps(event)}\n\n".encode())
                if answer.breaks_after == len(events):
                    self.close_connection = True
                    return
                if events and "type" not in events[0]:
                    self._chunk(b"data: [DONE]\n\n")
                self._chunk(b"")
            except ConnectionError:
                self.close_connection = True

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            pass  # A client that leaves in the middle is what some tests are about.

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        provider.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield provider
        finally:
            provider.closing.set()
            server.shutdown()
            thread.join()
