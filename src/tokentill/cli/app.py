"""The app: all commands together, and what an error looks like on a terminal.

Exit status: 0 done, 1 it could not be done or something was found, 2 the command cannot be meant so, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from tokentill import __version__
from tokentill.cli import bench, doctor, holding, looking, moving, proving, serving, show, stripe
from tokentill.errors import InvalidRequest, MalformedBody, TillError

app = typer.Typer(
    name="till",
    help="The till of an AI app: grants, drips, spends and explains prepaid tokens.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
stripe_app = typer.Typer(help="Stripe's events.", no_args_is_help=True, rich_markup_mode=None)
bench_app = typer.Typer(
    help="Measure the till on this machine, on a database of its own, and prove the books.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (
    serving.demo, serving.serve, serving.migrate, moving.grant, moving.deduct, moving.spend, moving.drip,
    holding.hold, holding.renew, holding.capture, holding.void, looking.balance, looking.history, holding.holds,
    proving.reconcile, doctor.doctor,
):  # fmt: skip
    app.command()(command)
stripe_app.command()(stripe.replay)
app.add_typer(stripe_app, name="stripe")
for measuring in (bench.spend, bench.http, bench.holds, bench.growth, bench.recover, bench.memory):
    bench_app.command()(measuring)
app.add_typer(bench_app, name="bench")


def _say_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"till {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run `till` and exit. A till's error is one line on stderr, never a traceback."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run `till` and return its exit status."""
    try:
        status = app(args=args, prog_name="till", standalone_mode=False)
    except TillError as error:
        _complain(error.detail)
        return 2 if isinstance(error, InvalidRequest | MalformedBody) else 1
    except TyperException as error:
        message = error.format_message().rstrip()
        if "\n" in message:  # `till` alone: its help page.
            sys.stderr.write(f"{message}\n")
        else:
            _complain(message)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter's last flush must not complain either.
        sys.stdout = None
        return 0
    return status if isinstance(status, int) else 0


def _complain(detail: str) -> None:
    sys.stderr.write(f"till: {show.printable(detail)}\n")
