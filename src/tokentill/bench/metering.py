"""`till bench meter`: what a meter adds to an AI call at low load.

The same call through the OpenAI SDK, plain and metered, to a provider on this machine that answers at once. One caller,
who takes all ways in turns, so that whatever else the machine does falls on all of them alike. Medians are shown.

Needs the `openai` package. Figures are milliseconds; `…_asks` are questions to the till in one call.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any

from tokentill.bench import ground
from tokentill.bench.children import Child
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import BenchFailed, prove
from tokentill.bench.serving import listening
from tokentill.client import TillClient
from tokentill.samples import llm_shapes
from tokentill.till import Till

USER, ACTION = "alice", "chat_conversation"
HELLO: Any = [{"role": "user", "content": "I want a house by the sea."}]


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure `options.calls` of each way, and prove the books. Raises: BenchFailed, DatabaseUnavailable."""
    try:
        from openai import OpenAI

        from tokentill.meter.openai import meter_openai
    except ImportError:
        raise BenchFailed("The OpenAI SDK is needed: pip install 'tokentill[openai]'.") from None

    calls = options.calls
    with ExitStack() as stack:
        here = stack.enter_context(ground.opened(options.url))
        url = here.make()
        provider = stack.enter_context(_answering())
        till = stack.enter_context(Till(url))
        till.grant_tokens(USER, 10**12)
        served, serving_key = here.make(), secrets.token_urlsafe(24)
        with Till(served) as other:
            other.grant_tokens(USER, 10**12)
        # In a process of its own, as it is in life: the caller's interpreter is not busy serving.
        environment: dict[str, Any] = {"TILL_DATABASE_URL": served, "TILL_ADMIN_KEY": serving_key}
        server = stack.enter_context(
            Child("tokentill.cli", "serve", "--port", "0", "--json", is_quiet=True, **environment)
        )
        client = stack.enter_context(TillClient(listening(server), serving_key))
        plain = stack.enter_context(OpenAI(api_key="k", base_url=provider, max_retries=0))

        def called(openai: OpenAI) -> Callable[[], object]:
            return lambda: openai.chat.completions.create(model="gpt-4o", messages=HELLO)

        def held_and_captured() -> None:
            hold = till.hold(USER, 1_000, ACTION)
            till.capture(USER, hold.hold_id, 160, action_type=ACTION)

        ways = {
            "bare": called(plain),
            "in_process": called(meter_openai(plain, till, user=USER, action=ACTION)),
            "over_http": called(meter_openai(plain, client, user=USER, action=ACTION)),
            "hold_and_capture": held_and_captured,
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(calls + calls // 10):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                if number >= calls // 10:
                    taken[name].append((time.perf_counter() - started) * 1000)
        server.stop()
        made = calls + calls // 10
        books = prove(url, rows_before=0, acknowledged=2 * made, held=2 * made, tell=tell)
    middle = {name: median(each) for name, each in taken.items()}
    added = {
        "in_process": median(one - bare for one, bare in zip(taken["in_process"], taken["bare"], strict=True)),
        "over_http": median(one - bare for one, bare in zip(taken["over_http"], taken["bare"], strict=True)),
    }
    return {
        "ms": _rounded(middle), "added_ms": _rounded(added), "load": [round(each, 2) for each in os.getloadavg()],
        "books": books,
    }  # fmt: skip


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(each, 3) for name, each in figures.items()}


@contextmanager
def _answering() -> Iterator[str]:
    """A provider that answers every call at once with the same chat."""
    content = json.dumps(llm_shapes.openai_chat()).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # Head and body in one packet.

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
