"""Commands about `till` itself: which version this is, and help."""

import platform
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from tokentill import __version__
from tokentill.cli import show
from tokentill.cli.show import AsJson
from tokentill.errors import InvalidRequest, TillError
from tokentill.settings import Settings

CONNECT_SECONDS = 3  # For a version nobody waits longer.


def version(json: AsJson = False) -> None:
    """Say which version this is; with --json the schema's, Python's and PostgreSQL's, too."""
    _say(is_json=json)


def say_version(ctx: typer.Context, wanted: bool) -> None:
    """Be the callback of `--version`."""
    if wanted:
        _say(is_json=show.is_json(ctx))
        raise typer.Exit


def help_(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...", help="The command. [default: all]")] = None,
    json: AsJson = False,
) -> None:
    """Show what a command takes, like `till COMMAND --help`."""
    context = ctx.find_root()
    command: Any = context.command
    for word in words or ():
        if not hasattr(command, "resolve_command"):
            raise InvalidRequest(f"`{context.command_path}` has no commands below it: `till help` has them all.")
        name, command, _ = command.resolve_command(context, [word])
        context = type(context)(command, info_name=name, parent=context)
    text = command.get_help(context)
    if json:
        show.as_json({"command": context.command_path, "help": text})
    else:
        show.line(text)


def _say(*, is_json: bool) -> None:
    if not is_json:
        show.line(f"till {__version__}")
        return
    from tokentill.store import migrate

    show.as_json(
        {"version": __version__, "schema": migrate.shipped()[-1].name, "python": platform.python_version(),
         "postgresql": _postgresql(), "platform": sys.platform}
    )  # fmt: skip


def _postgresql() -> str | None:
    """Return the version of the server that the settings name, else of the embedded one; None: it does not answer."""
    import psycopg

    from tokentill.store import embedded_files

    with suppress(TillError, OSError, psycopg.Error):
        settings = Settings.read()
        if settings.database_url is None:
            return str(embedded_files.major_of(embedded_files.binaries(settings.pg_bin)))
        with psycopg.connect(settings.database_url, connect_timeout=CONNECT_SECONDS) as conn:
            return conn.info.parameter_status("server_version")
    return None
