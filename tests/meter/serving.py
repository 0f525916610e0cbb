"""A till's own API on this machine, as a client meets it: uvicorn in a thread, on a free port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tokentill import Till
from tokentill.http.app import create_app

KEY = "an-admin-key-for-tests"


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI app for as long as the block takes; answers with its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            # It listens already: whoever connects before it has started waits for it.
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served_till(till: Till) -> Iterator[str]:
    with served(create_app(till, admin_key=KEY, webhook_secrets=())) as url:
        yield url
