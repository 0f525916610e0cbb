"""`till bench`: measures the till on this machine, beside what others could do, and proves the books afterwards."""

import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from tokentill.bench.options import Distribution, Keys, Options, Sharing, Tell
from tokentill.cli import show
from tokentill.cli.show import AsJson
from tokentill.settings import Settings

Accounts = Annotated[int, typer.Option("--accounts", min=1, help="Members that spend.")]
Callers = Annotated[int, typer.Option("--callers", min=1, help="Who wait for an answer at the same time.")]
Rows = Annotated[int, typer.Option("--rows", min=0, help="Usage rows that are there already.")]
Lots = Annotated[int, typer.Option("--lots", min=1, help="Open lots of each member.")]
Spread = Annotated[Distribution, typer.Option("--distribution", help="Who spends how often.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="How long each measuring takes.")]
Runs = Annotated[int, typer.Option("--runs", min=1, help="How often all is measured; medians are shown.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes that spend on the one database.")]
KeysOption = Annotated[Keys, typer.Option("--keys", help="Idempotency keys: given by the caller, or made by the till.")]
Url = Annotated[
    str | None, typer.Option("--url", help="A server to make a database on. [default: TILL_DATABASE_URL, else our own]")
]


def spend(
    accounts: Accounts = 10_000,
    callers: Callers = 2_048,
    rows: Rows = 100_000,
    lots: Lots = 1,
    distribution: Spread = "uniform",
    seconds: Seconds = 3.0,
    runs: Runs = 3,
    processes: Processes = 1,
    sharing: Annotated[Sharing, typer.Option("--sharing", help="Whether processes spend on the same accounts.")] = (
        "disjoint"
    ),
    keys: KeysOption = "made",
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Measure them, too.")] = True,
    priced: Annotated[bool, typer.Option("--priced", help="And the same with the price book pricing each.")] = False,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Single spends in process, beside hand-written transactions, pgbench, COPY and a bare UPDATE + INSERT."""
    options = Options(
        accounts=accounts, callers=callers, rows=rows, lots=lots, distribution=distribution, seconds=seconds,
        runs=runs, processes=processes, sharing=sharing, keys=keys, with_baselines=baselines, is_priced=priced,
        url=_server(url),
    )  # fmt: skip
    _bench("spend", options, json)


def http(
    accounts: Accounts = 10_000,
    callers: Callers = 64,
    rows: Rows = 100_000,
    lots: Lots = 1,
    distribution: Spread = "uniform",
    seconds: Seconds = 3.0,
    runs: Runs = 3,
    processes: Annotated[int, typer.Option("--processes", "--workers", min=1, help="Processes that serve.")] = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10_000, help="Spends in one request.")] = 1,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Spends through `till serve` on loopback; callers are keep-alive connections."""
    options = Options(
        accounts=accounts, callers=callers, rows=rows, lots=lots, distribution=distribution, seconds=seconds,
        runs=runs, workers=processes, batch=batch, url=_server(url),
    )  # fmt: skip
    _bench("http", options, json)


def webhook(
    accounts: Accounts = 10_000,
    callers: Callers = 64,
    distribution: Spread = "uniform",
    seconds: Seconds = 3.0,
    runs: Runs = 3,
    processes: Annotated[int, typer.Option("--processes", "--workers", min=1, help="Processes that serve.")] = 1,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Signed Stripe events through `till serve` on loopback, beside bare signature checking of the same bodies."""
    options = Options(
        accounts=accounts, callers=callers, rows=0, distribution=distribution, seconds=seconds, runs=runs,
        workers=processes, url=_server(url),
    )  # fmt: skip
    _bench("webhook", options, json)


def holds(
    accounts: Accounts = 10_000,
    callers: Callers = 2_048,
    rows: Rows = 100_000,
    lots: Lots = 1,
    distribution: Spread = "uniform",
    seconds: Seconds = 3.0,
    runs: Runs = 3,
    keys: KeysOption = "made",
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Pairs of placing a hold and capturing it, beside plain spends of the same run."""
    options = Options(
        accounts=accounts, callers=callers, rows=rows, lots=lots, distribution=distribution, seconds=seconds,
        runs=runs, keys=keys, url=_server(url),
    )  # fmt: skip
    _bench("holds", options, json)


def growth(
    accounts: Accounts = 10_000,
    callers: Callers = 2_048,
    rows: Rows = 1_000_000,
    lots: Lots = 1,
    distribution: Spread = "uniform",
    seconds: Seconds = 3.0,
    runs: Runs = 3,
    processes: Processes = 1,
    keys: KeysOption = "made",
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Spends with so many rows there already, beside spends on an empty table."""
    options = Options(
        accounts=accounts, callers=callers, rows=rows, lots=lots, distribution=distribution, seconds=seconds,
        runs=runs, processes=processes, keys=keys, url=_server(url),
    )  # fmt: skip
    _bench("growth", options, json)


def recover(
    accounts: Accounts = 1_000,
    callers: Callers = 256,
    rows: Rows = 10_000,
    lots: Lots = 1,
    seconds: Seconds = 1.0,
    kills: Annotated[int, typer.Option("--kills", min=1, help="How often each, process and server, is killed.")] = 5,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Kill the spending process, then the server, with -9 under load; time until a spend is acknowledged again."""
    options = Options(
        accounts=accounts, callers=callers, rows=rows, lots=lots, seconds=seconds, kills=kills, url=_server(url)
    )  # fmt: skip
    _bench("recover", options, json)


def memory(
    accounts: Accounts = 20_000,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """What a cached account costs in memory, and what each further lot of it does."""
    _bench("memory", Options(accounts=accounts, url=_server(url)), json)


def meter(
    calls: Annotated[int, typer.Option("--calls", min=10, help="Calls of each way, one after the other.")] = 300,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """What a meter adds to an AI call at low load, in process and over HTTP, through the OpenAI SDK."""
    _bench("meter", Options(calls=calls, url=_server(url)), json)


def _server(url: str | None) -> str | None:
    return url or Settings.read().database_url


def _run_of(name: str) -> Callable[[Options, Tell], dict[str, Any]]:
    # Here and not above: no other command should wait for what benches import.
    from tokentill.bench import growing, holding, metering, receiving, recovering, remembering, serving, spending

    return {
        "spend": spending.run, "http": serving.run, "holds": holding.run, "growth": growing.run,
        "recover": recovering.run, "memory": remembering.run, "webhook": receiving.run,
        "meter": metering.run,
    }[name]  # fmt: skip


def _bench(name: str, options: Options, as_json: bool) -> None:
    """Run a bench and show its report. Whatever ends it, its databases and processes are cleared away."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ends as a Ctrl-C does.
    from tokentill.bench.proving import BenchFailed

    try:
        report = _run_of(name)(options, (lambda line: None) if as_json else _tell)
    except BenchFailed as error:
        sys.stderr.write(f"till: {show.printable(str(error))}\n")
        raise typer.Exit(1) from None
    given = {
        field: getattr(options, field)
        for field in options.__dataclass_fields__
        if field not in ("url", "with_baselines")
    }
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    report = {"bench": name, "options": given, "machine": machine, **report}
    if as_json:
        show.as_json(report)
    else:
        _show(report)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _show(report: Mapping[str, Any]) -> None:
    facts: dict[str, object] = {}
    for field, value in report.items():
        if field not in ("bench", "options", "machine", "notes"):
            _flatten(field, value, facts)
    show.facts(f"till bench {report['bench']}", facts)
    for note in report.get("notes", ()):
        show.line(note)


def _flatten(name: str, value: object, into: dict[str, object]) -> None:
    """Give each figure a line of its own: `ratios.copy`."""
    if isinstance(value, Mapping):
        for field, item in value.items():
            _flatten(f"{name}.{field}", item, into)
    elif isinstance(value, float | int) and not isinstance(value, bool):
        into[name] = f"{value:,}"
    elif isinstance(value, list):
        into[name] = ", ".join(f"{item:,}" for item in value)
    else:
        into[name] = "unknown" if value is None else value
