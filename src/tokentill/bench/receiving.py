"""`till bench webhook`: signed Stripe events through a real `till serve` on loopback, many deliveries at a time.

The server and the generator are processes of their own on the same machine. Beside them, in the same run: how many of
the same bodies one process can check the signature of, and nothing else. That is the most that any receiver could do.
"""

import secrets
import time
from itertools import islice
from typing import Any

import psycopg
from stripe import WebhookSignature

from tokentill.bench import ground, meters, serving
from tokentill.bench.children import Child
from tokentill.bench.filling import fill
from tokentill.bench.hooks import Hooks
from tokentill.bench.meters import Meter
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import BenchFailed, BooksWrong, prove

BODIES = 2_000  # Of the baseline.


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure deliveries, and prove the books: one purchase for each pack that was paid, whatever came twice.

    Raises: BenchFailed, BooksWrong, BadSetting, DatabaseUnavailable.
    """
    with ground.opened(options.url) as here:
        url = here.make()
        fill(url, accounts=options.accounts, lots=1, rows=0, tell=tell)
        before = _purchases(url)
        figures, bare, sent = [], [], {"packs": 0, "ignored": 0, "again": 0}
        for number in range(1, options.runs + 1):
            tell(f"run {number} of {options.runs}: {options.callers} connections")
            figure, counts = measure(url, options, seed=number)
            figures.append(figure)
            bare.append(bare_checks_per_s(options, seed=number))
            sent = {name: count + counts[name] for name, count in sent.items()}
        books = prove(url, rows_before=0, acknowledged=0, tell=tell)
        books |= _prove_inbox(url, sent, purchases=_purchases(url) - before)
    figure = meters.middle(figures)
    checks = sorted(bare)[len(bare) // 2]
    return {
        **figure,
        "runs_ops_per_s": [each["ops_per_s"] for each in figures],
        "baselines": {"bare_signature_checks_per_s": checks},
        "ratios": {"bare_signature_checks": round(figure["ops_per_s"] / checks, 4)},
        "sent": sent,
        "books": books,
    }


def measure(url: str, options: Options, *, seed: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Serve and drive once; return the figures, and how many deliveries of which kind were acknowledged."""
    secret = f"whsec_{secrets.token_urlsafe(24)}"
    workers = ["--workers", str(options.workers)] if options.workers > 1 else []
    serve = ("serve", "--port", "0", "--json", *workers)
    with Child(
        "tokentill.cli", *serve, is_quiet=True, TILL_DATABASE_URL=url, TILL_STRIPE_WEBHOOK_SECRET=secret
    ) as server:
        task = {
            "server": serving.listening(server), "secret": secret, "accounts": options.accounts, "seed": seed,
            "distribution": options.distribution, "callers": options.callers, "warm_up": options.warm_up_seconds,
            "seconds": options.seconds,
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
        raise BenchFailed("Deliveries failed:\n" + "\n".join(answer["failures"]))
    generator_cost = meters.per_op(own_started, own_ended, answer["measured"])
    return {
        "ops_per_s": answer["ops_per_s"],
        **meters.percentiles(answer["waits"]),
        **meters.per_op(started, ended, answer["measured"]),
        "generator_cpu_us_per_op": generator_cost["cpu_us_per_op"]["python"],
    }, answer["counts"]


def bare_checks_per_s(options: Options, *, seed: int) -> float:
    """Return how many signatures of such bodies one process checks in a second, with nothing else to do."""
    secret = "whsec_bare"  # noqa: S105  it protects nothing
    hooks = Hooks({"accounts": options.accounts, "distribution": options.distribution, "seed": seed, "secret": secret})
    signed = list(islice(iter(hooks.signed, None), BODIES))
    begun = time.perf_counter()
    for body, header in signed:
        WebhookSignature.verify_header(body, header, secret)
    return round(BODIES / (time.perf_counter() - begun), 1)


def _purchases(url: str) -> int:
    with psycopg.connect(url) as conn:
        return _count(conn, "SELECT count(*) FROM token_transactions WHERE transaction_type = 'purchase'")


def _prove_inbox(url: str, sent: dict[str, int], *, purchases: int) -> dict[str, Any]:
    """Compare the inbox and the purchases with what was sent and acknowledged. Raises: BooksWrong."""
    with psycopg.connect(url) as conn:
        states: dict[str, int] = dict(
            conn.execute("SELECT state, count(*) FROM stripe_events GROUP BY state").fetchall()
        )
        payments = _count(conn, "SELECT count(*) FROM payments WHERE user_id IS NOT NULL")
    expected = {"handled": sent["packs"], "ignored": sent["ignored"]}
    faults = []
    if states != {state: count for state, count in expected.items() if count}:
        faults.append(f"{expected} events were acknowledged, the inbox says {states}")
    if purchases != sent["packs"]:
        faults.append(f"{sent['packs']:,} packs were paid, {purchases:,} purchases are in the books")
    if payments != sent["packs"]:
        faults.append(f"{sent['packs']:,} packs were paid, {payments:,} payments are known")
    if faults:
        raise BooksWrong(faults)
    return {"events": sum(states.values()), "purchases": purchases}


def _count(conn: "psycopg.Connection[Any]", sql: str) -> int:
    row = conn.execute(sql.encode()).fetchone()
    assert row is not None
    count: int = row[0]
    return count
