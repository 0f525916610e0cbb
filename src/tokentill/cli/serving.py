"""Commands that set up and serve: migrate, serve, demo."""

import socket
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tokentill.cli import show, supervising, working
from tokentill.cli.opening import database_url
from tokentill.cli.show import AsJson
from tokentill.errors import BadSetting
from tokentill.settings import Settings
from tokentill.store import migrate as migrations
from tokentill.store import profiles as host_profiles
from tokentill.till import Till

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def migrate(
    profiles: Annotated[
        str | None,
        typer.Option(
            "--profiles", metavar="TABLE.COLUMN", help="Your own table's column to keep in step with balances, or none."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Bring the database to this version's schema. Safe to repeat.

    Where your database has a table user_profiles with a column vibe_assistant_tokens_remaining, the till keeps it in
    step with each account; --profiles names another one.
    """
    with database_url(Settings.read()) as url:
        applied = migrations.migrate(url, on_step=lambda name: None if json else show.line(f"applied {name}"))
        host = host_profiles.configure(url, profiles)
    if json:
        show.as_json({"applied": applied, "profiles": None if host is None else host.name})
        return
    if not applied:
        show.line("The schema is up to date.")
    if host is not None:
        show.line(f"{host.name} is kept in step with each account.")


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8480,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="How many processes serve; each account is one's own.")
    ] = 1,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Whether it also runs the jobs that `till worker` runs.")
    ] = True,
    json: AsJson = False,
) -> None:
    """Serve the JSON API until interrupted (Ctrl-C or SIGTERM), then finish what was asked and stop."""
    settings = Settings.read()
    working.log_to_stderr()
    with working.stopped_by_sigterm(), _listener(host, port) as listener, Till.connect(settings=settings) as till:
        announce = partial(_announce, listener, settings, json=json)
        if workers == 1:
            with suppress(KeyboardInterrupt):
                working.serve(till, settings, listener, on_listening=announce, has_jobs=worker)
        else:
            # This till only keeps the database up: the workers open their own.
            raise typer.Exit(supervising.supervise(listener, workers, on_listening=announce, has_jobs=worker))


def _announce(listener: socket.socket, settings: Settings, *, json: bool) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    has_api, has_webhook = settings.admin_key is not None, bool(settings.stripe_webhook_secrets)
    sells = settings.stripe_api_key is not None
    if json:
        show.as_json({"url": url, "api": has_api, "stripe_webhook": has_webhook, "stripe_api": sells})
    else:
        show.line(f"listening on {url}")
        if not has_api:
            show.line("the API is off: set TILL_ADMIN_KEY")
        if not has_webhook:
            show.line("the Stripe webhook is off: set TILL_STRIPE_WEBHOOK_SECRET")
        if not sells:
            show.line("selling through Stripe is off: set TILL_STRIPE_API_KEY")
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
