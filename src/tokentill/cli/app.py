"""The app: all commands together, and what an error looks like on a terminal.

Exit status: 0 done, 1 it could not be done or something was found, 2 the command cannot be meant so, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from tokentill import __version__
from tokentill.cli import (
    actions,
    bench,
    catalog,
    doctor,
    findings,
    holding,
    jobs,
    looking,
    moving,
    prices,
    proving,
    refunding,
    repricing,
    selling,
    serving,
    show,
    stripe,
    subscribing,
)
from tokentill.errors import InvalidRequest, MalformedBody, TillError

app = typer.Typer(
    name="till",
    help="The till of an AI app: grants, drips, spends and explains prepaid tokens.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,  # They hold keys; typer's older versions show them.
    context_settings={"help_option_names": ["--help", "-h"]},
)
stripe_app = typer.Typer(
    help="Stripe: its events, and selling through it.", no_args_is_help=True, rich_markup_mode=None
)
subscription_app = typer.Typer(
    help="Subscriptions: how they stand, and what is ours to change.", no_args_is_help=True, rich_markup_mode=None
)
catalog_app = typer.Typer(help="What is sold: plans and packs.", no_args_is_help=True, rich_markup_mode=None)
actions_app = typer.Typer(
    help="What the app uses AI for: which model serves it, and how it is charged.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
prices_app = typer.Typer(help="What AI calls cost: the price book.", no_args_is_help=True, rich_markup_mode=None)
findings_app = typer.Typer(
    help="What does not fit, and somebody should look at.", invoke_without_command=True, rich_markup_mode=None
)
bench_app = typer.Typer(
    help="Measure the till on this machine, on a database of its own, and prove the books.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (
    serving.demo, serving.serve, jobs.worker, serving.migrate, moving.grant, moving.deduct, moving.spend, moving.drip,
    holding.hold, holding.renew, holding.capture, holding.void, looking.balance, looking.history, holding.holds,
    proving.reconcile, repricing.reprice, doctor.doctor,
):  # fmt: skip
    app.command()(command)
for word, about_stripe in (
    ("list", stripe.list_events), ("show", stripe.show_event), ("retry", stripe.retry), ("ignore", stripe.ignore),
    ("link", stripe.link),
    ("replay", stripe.replay), ("payment", refunding.payment), ("preview-refund", refunding.preview_refund),
    ("checkout", selling.checkout), ("portal", selling.portal), ("sync-catalog", selling.sync_catalog),
):  # fmt: skip
    stripe_app.command(word)(about_stripe)
app.add_typer(stripe_app, name="stripe")
catalog_app.command("show")(catalog.catalog_show)
catalog_app.command("load")(catalog.catalog_load)
app.add_typer(catalog_app, name="catalog")
for word, about_actions in (
    ("list", actions.list_actions), ("show", actions.show_action), ("set", actions.set_action),
    ("deactivate", actions.deactivate),
):  # fmt: skip
    actions_app.command(word)(about_actions)
app.add_typer(actions_app, name="actions")
for word, about_prices in (
    ("list", prices.list_prices), ("show", prices.show_prices), ("set", prices.set_price),
    ("withdraw", prices.withdraw), ("add", prices.add), ("update", prices.update), ("check", prices.check),
    ("cost", prices.cost),
):  # fmt: skip
    prices_app.command(word)(about_prices)
app.add_typer(prices_app, name="prices")
app.command()(subscribing.preview)
subscription_app.command("list")(subscribing.listed)
subscription_app.command("show")(subscribing.show_one)
for steering in (subscribing.pause, subscribing.resume, subscribing.cancel):
    subscription_app.command()(steering)
app.add_typer(subscription_app, name="subscription")
findings_app.callback()(findings.findings)
findings_app.command("close")(findings.close)
app.add_typer(findings_app, name="findings")
for measuring in (
    bench.spend,
    bench.http,
    bench.webhook,
    bench.holds,
    bench.growth,
    bench.recover,
    bench.memory,
    bench.meter,
):
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
        message = (
            error.format_message().rstrip().replace("Value error, ", "")
        )  # As pydantic begins, which nobody asked.
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
