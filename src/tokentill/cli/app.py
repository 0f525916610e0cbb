"""The app: all commands together, and what an error looks like on a terminal.

Exit status: 0 done, 1 it could not be done or something was found, 2 the command cannot be meant so, 130 interrupted.
`--json` may stand anywhere on the line: `run` takes it out, and every command's own option hears of it (`show.AsJson`).
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from tokentill.cli import (
    about,
    actions,
    bench,
    catalog,
    complaining,
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
    stripe,
    subscribing,
)
from tokentill.cli.examples import FIRST_STEPS, epilog_of
from tokentill.cli.show import AsJson, Wanted
from tokentill.errors import InvalidRequest, MalformedBody, TillError

app = typer.Typer(
    name="till",
    help="The till of an AI app: grants, drips, spends and explains prepaid tokens.",
    epilog=FIRST_STEPS,
    no_args_is_help=True,
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

Command = Callable[..., Any]


def _fill(group: typer.Typer, path: str, commands: Mapping[str, Command]) -> None:
    for word, command in commands.items():
        group.command(word, epilog=epilog_of(f"{path} {word}"))(command)
    if group is not app:
        app.add_typer(group, name=path.removeprefix("till "))


_fill(app, "till", {
    "demo": serving.demo, "serve": serving.serve, "worker": jobs.worker, "migrate": serving.migrate,
    "grant": moving.grant, "deduct": moving.deduct, "spend": moving.spend, "drip": moving.drip,
    "hold": holding.hold, "renew": holding.renew, "capture": holding.capture, "void": holding.void,
    "balance": looking.balance, "history": looking.history, "holds": holding.holds, "preview": subscribing.preview,
    "reconcile": proving.reconcile, "reprice": repricing.reprice, "doctor": doctor.doctor,
    "version": about.version, "help": about.help_,
})  # fmt: skip
_fill(stripe_app, "till stripe", {
    "list": stripe.list_events, "show": stripe.show_event, "retry": stripe.retry, "ignore": stripe.ignore,
    "link": stripe.link, "replay": stripe.replay, "payment": refunding.payment,
    "preview-refund": refunding.preview_refund, "checkout": selling.checkout, "portal": selling.portal,
    "sync-catalog": selling.sync_catalog,
})  # fmt: skip
_fill(catalog_app, "till catalog", {"show": catalog.catalog_show, "load": catalog.catalog_load})
_fill(actions_app, "till actions", {
    "list": actions.list_actions, "show": actions.show_action, "set": actions.set_action,
    "deactivate": actions.deactivate,
})  # fmt: skip
_fill(prices_app, "till prices", {
    "list": prices.list_prices, "show": prices.show_prices, "set": prices.set_price, "withdraw": prices.withdraw,
    "add": prices.add, "update": prices.update, "check": prices.check, "cost": prices.cost,
})  # fmt: skip
_fill(subscription_app, "till subscription", {
    "list": subscribing.listed, "show": subscribing.show_one, "pause": subscribing.pause,
    "resume": subscribing.resume, "cancel": subscribing.cancel,
})  # fmt: skip
findings_app.callback(epilog=epilog_of("till findings"))(findings.findings)
_fill(findings_app, "till findings", {"close": findings.close})
_fill(bench_app, "till bench", {
    "spend": bench.spend, "http": bench.http, "webhook": bench.webhook, "holds": bench.holds,
    "growth": bench.growth, "recover": bench.recover, "memory": bench.memory, "meter": bench.meter,
})  # fmt: skip


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=about.say_version, is_eager=True, help="Say which version this is.")
    ] = False,
    json: AsJson = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run `till` and exit. A till's error is one line on stderr, never a traceback."""
    complaining.prepare_streams()
    sys.exit(run(complaining.arguments_of(sys.argv[1:] if args is None else args)))


def run(args: Sequence[str]) -> int:
    """Run `till` and return its exit status."""
    args, is_json = complaining.without_json(args)
    try:
        status = app(args=args, prog_name="till", standalone_mode=False, obj=Wanted(is_json=is_json))
        sys.stdout.flush()
    except TillError as error:
        complaining.of_till(error, is_json=is_json)
        return 2 if isinstance(error, InvalidRequest | MalformedBody) else 1
    except TyperException as error:
        complaining.of_usage(error, is_json=is_json)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:  # Whoever read our output has seen enough.
        complaining.give_up_output()
        return 0
    except SystemExit as ending:  # What typer makes of the same, inside a command.
        if not isinstance(ending.__context__, BrokenPipeError):
            raise
        complaining.give_up_output()
        return 0
    except OSError as error:
        if not complaining.is_about_output(error):
            return _stumble(error, is_json=is_json)
        complaining.give_up_output()
        complaining.of_output(error, is_json=is_json)
        return 1
    except Exception as error:  # noqa: BLE001  # A program that asked for JSON gets some.
        return _stumble(error, is_json=is_json)
    return status if isinstance(status, int) else 0


def _stumble(error: Exception, *, is_json: bool) -> int:
    traceback.print_exception(error)
    complaining.of_bug(error, is_json=is_json)
    return 1
