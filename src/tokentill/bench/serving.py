"""`till bench http`: spends through a real `till serve` on loopback, one a request or many.

The server and the generator are processes of their own on the same machine, and what each costs is told apart.
"""

import json
import secrets
from typing import Any

from tokentill.bench import ground, meters
from tokentill.bench.children import Child
from tokentill.bench.filling import fill
from tokentill.bench.meters import Meter
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import BenchFailed, prove


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure spends over HTTP, and prove the books.

    Raises: BenchFailed, BooksWrong, BadSetting, DatabaseUnavailable.
    """
    with ground.opened(options.url) as here:
        url = here.make()
        fill(url, accounts=options.accounts, lots=options.lots, rows=options.rows, tell=tell)
        figures, acknowledged = [], 0
        for number in range(1, options.runs + 1):
            tell(f"run {number} of {options.runs}: {options.callers} connections, {options.batch} spends in a request")
            figure, done = measure(url, options, seed=number)
            figures.append(figure)
            acknowledged += done
        books = prove(url, rows_before=options.rows, acknowledged=acknowledged, tell=tell)
    return {**meters.middle(figures), "runs_ops_per_s": [each["ops_per_s"] for each in figures], "books": books}


def measure(url: str, options: Options, *, seed: int) -> tuple[dict[str, Any], int]:
    """Serve and drive once; return the figures and how many spends were acknowledged in all. `_ms` are of a request."""
    admin_key = secrets.token_urlsafe(24)
    before = meters.updates(url)
    workers = ["--workers", str(options.workers)] if options.workers > 1 else []
    serve = ("serve", "--port", "0", "--json", *workers)
    # Requests are logged on stderr; here only the first line on stdout matters.
    with Child("tokentill.cli", *serve, is_quiet=True, TILL_DATABASE_URL=url, TILL_ADMIN_KEY=admin_key) as server:
        address = listening(server)
        task = {
            "server": address, "admin_key": admin_key, "accounts": options.accounts, "batch": options.batch,
            "distribution": options.distribution, "callers": options.callers, "seed": seed,
            "warm_up": options.warm_up_seconds, "seconds": options.seconds,
        }  # fmt: skip
        with (
            Child("tokentill.bench.wire", task=task) as generator,
            Meter(url, [server.process.pid]) as meter, Meter(url, [generator.process.pid]) as own_meter,
        ):  # fmt: skip
            generator.hear()
            started, own_started = meter.read(), own_meter.read()
            answer = generator.answer()
            ended, own_ended = meter.read(), own_meter.read()
        server.stop()
    if answer["failures"]:
        raise BenchFailed("Requests failed:\n" + "\n".join(answer["failures"]))
    generator_cost = meters.per_op(own_started, own_ended, answer["measured"])
    return {
        "ops_per_s": answer["ops_per_s"],
        "requests_per_s": round(answer["ops_per_s"] / options.batch, 1),
        **meters.percentiles(answer["waits"]),
        **meters.per_op(started, ended, answer["measured"]),
        "generator_cpu_us_per_op": generator_cost["cpu_us_per_op"]["python"],
        "batches": meters.batch_sizes(meters.batches_in(url, started.on, ended.on)),
        "hot_share": meters.hot_share(before, meters.updates(url)),
    }, answer["acknowledged"]


def listening(server: Child) -> str:
    """Return the URL, from the document that the server prints as soon as it listens."""
    document = ""
    while not document.rstrip().endswith("}"):
        document += server.hear() + "\n"
    url = json.loads(document)["url"]
    assert isinstance(url, str), document
    return url
