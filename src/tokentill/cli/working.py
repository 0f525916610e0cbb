"""Working: one process that serves the API, alone or as one of several behind one listening socket.

As one of several it is started by `cli.supervising`, which says on the command line: its number, how many there are,
their folder, the descriptors of the listening socket, of a pipe on which to say that it listens, and of one that ends
with the supervisor, and whether it runs the jobs (`worker.running`) as well.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokentill.engine.routing import RoutedEngine
from tokentill.errors import TillError
from tokentill.settings import Settings
from tokentill.till import Till
from tokentill.tuning import tune_process

if TYPE_CHECKING:
    from uvicorn import Server


def main(args: list[str]) -> int:
    """Be one worker of several, until told to stop. Return the exit status."""
    number, count, folder = int(args[0]), int(args[1]), Path(args[2])
    listener, said, lifeline = socket.socket(fileno=int(args[3])), int(args[4]), int(args[5])
    log_to_stderr(f"worker {number + 1}: ")
    engine_of = partial(RoutedEngine, number=number, count=count, folder=folder)

    try:
        # An interrupt is how a worker is stopped: it ends it in peace, wherever it comes.
        with suppress(KeyboardInterrupt), stopped_by_sigterm():
            settings = Settings.read()
            with Till.connect(settings=settings, engine_of=engine_of) as till:
                serve(
                    till, settings, listener, on_listening=lambda: say(said), lifeline=lifeline, has_jobs=args[6] == "1"
                )  # fmt: skip
    except TillError as error:
        sys.stderr.write(f"till: worker {number + 1}: {error.detail}\n")
        return 1
    return 0


def say(said: int) -> None:
    with suppress(BrokenPipeError):
        os.write(said, b"!")


def serve(
    till: Till,
    settings: Settings,
    listener: socket.socket,
    *,
    on_listening: Callable[[], None],
    lifeline: int | None = None,
    has_jobs: bool = True,
) -> None:
    """Serve until interrupted, or until the process at the other end of the lifeline has gone.

    Raises: KeyboardInterrupt once it has stopped, which is how uvicorn passes on the signal.
    """
    import uvicorn

    from tokentill.http.app import create_app
    from tokentill.worker.running import Worker

    till.asking.warm_up()  # Before the first call that is priced waits for it.
    jobs = Worker(till.context, till.url) if has_jobs else None
    app = create_app(
        till, admin_key=settings.admin_key, webhook_secrets=settings.stripe_webhook_secrets,
        jobs=None if jobs is None else lambda: jobs.state,
    )  # fmt: skip
    config = uvicorn.Config(
        app, log_config=None, access_log=settings.access_log, timeout_graceful_shutdown=10, ws="none",
        server_header=False,
    )  # fmt: skip
    server = _announcing(uvicorn.Server(config), on_listening)
    if lifeline is not None:
        threading.Thread(target=_stop_at_end, args=(server, lifeline), name="till-lifeline", daemon=True).start()
    tune_process()
    if jobs is not None:
        jobs.start()
    try:
        server.run(sockets=[listener])
    finally:
        if jobs is not None:
            jobs.stop()


def log_to_stderr(prefix: str = "") -> None:
    for talkative in ("procrastinate", "stripe"):  # They tell of each job, each minute, and of each request.
        logging.getLogger(talkative).setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {prefix}%(name)s: %(message)s")


def _announcing(server: "Server", on_listening: Callable[[], None]) -> "Server":
    """Let the server say that it listens as soon as it does."""
    start = server.startup

    async def startup(sockets: "list[socket.socket] | None" = None) -> None:
        await start(sockets)
        on_listening()

    server.startup = startup  # type: ignore[method-assign]  # the server has no hook for it
    return server


def _stop_at_end(server: "Server", lifeline: int) -> None:
    os.read(lifeline, 1)  # Nothing is ever written: this returns when the supervisor has gone, however it went.
    server.should_exit = True


@contextmanager
def stopped_by_sigterm() -> "Iterator[None]":
    """Let SIGTERM do what Ctrl-C does, so that the database is closed either way."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
