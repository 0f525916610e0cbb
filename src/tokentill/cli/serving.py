"""Commands that set up and serve: migrate, serve, demo."""

import logging
import signal
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokentill.cli import show
from tokentill.cli.opening import database_url
from tokentill.cli.show import AsJson
from tokentill.errors import BadSetting
from tokentill.settings import Settings
from tokentill.store import migrate as migrations
from tokentill.till import Till

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uvicorn import Server


def demo(
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Keep serving afterwards. [default: asks on a terminal]")
    ] = None,
    json: AsJson = False,
) -> None:
    """Play months of a small world against a real server, show what became of it, and prove its books.

    Uses a database of its own and touches no other.
    """
    from tokentill.demo import play

    raise typer.Exit(play.main(as_json=json, keep_serving=keep))


def migrate(json: AsJson = False) -> None:
    """Bring the database to this version's schema. Safe to repeat."""
    with database_url(Settings.read()) as url:
        applied = migrations.migrate(url, on_step=lambda name: None if json else show.line(f"applied {name}"))
    if json:
        show.as_json({"applied": applied})
    elif not applied:
        show.line("The schema is up to date.")


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8480,
    json: AsJson = False,
) -> None:
    """Serve the JSON API until interrupted (Ctrl-C or SIGTERM), then finish what was asked and stop."""
    import uvicorn

    from tokentill.http.app import create_app

    settings = Settings.read()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _stopped_by_sigterm(), _listener(host, port) as listener, Till.connect(settings=settings) as till:
        app = create_app(till, admin_key=settings.admin_key, webhook_secrets=settings.stripe_webhook_secrets)
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=10, ws="none", server_header=False)
        server = _announcing(uvicorn.Server(config), listener, settings, json=json)
        with suppress(KeyboardInterrupt):  # How uvicorn passes on the signal, once it has stopped.
            server.run(sockets=[listener])


def _announcing(server: "Server", listener: socket.socket, settings: Settings, *, json: bool) -> "Server":
    """Let the server say where it listens as soon as it does."""
    start = server.startup

    async def startup(sockets: "list[socket.socket] | None" = None) -> None:
        await start(sockets)
        _announce(listener, settings, json=json)

    server.startup = startup  # type: ignore[method-assign]  # the server has no hook for it
    return server


def _announce(listener: socket.socket, settings: Settings, *, json: bool) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    has_api, has_webhook = settings.admin_key is not None, bool(settings.stripe_webhook_secrets)
    if json:
        show.as_json({"url": url, "api": has_api, "stripe_webhook": has_webhook})
    else:
        show.line(f"listening on {url}")
        if not has_api:
            show.line("the API is off: set TILL_ADMIN_KEY")
        if not has_webhook:
            show.line("the Stripe webhook is off: set TILL_STRIPE_WEBHOOK_SECRET")
    show.flush()


@contextmanager
def _listener(host: str, port: int) -> "Iterator[socket.socket]":
    """Take the port before anything else: that it is taken should not be heard of last."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        raise BadSetting(f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}.") from None
    with listener:
        yield listener


@contextmanager
def _stopped_by_sigterm() -> "Iterator[None]":
    """Let SIGTERM do what Ctrl-C does, so that the database is closed either way."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
