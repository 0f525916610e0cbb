"""`till bench spend`: single spends in process, as a user of the library makes them, beside what others could do.

With `processes`, each is a process of its own with a till of its own against one database, on accounts of its own
(`disjoint`) or all on the same (`shared`), where they conflict and must stay exact.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

from tokentill.bench import ground, load, meters
from tokentill.bench.baselines import running
from tokentill.bench.children import Child
from tokentill.bench.filling import fill
from tokentill.bench.meters import Meter
from tokentill.bench.options import Options, Tell
from tokentill.bench.pricing import price_micros
from tokentill.bench.proving import prove
from tokentill.till import Till

LONE_SECONDS_MAX = 2.0


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure spends and the baselines in turns, and prove the books.

    Raises: BooksWrong, BaselineFailed, BadSetting, DatabaseUnavailable.
    """
    with ground.opened(options.url) as here:
        url = here.make()
        fill(url, accounts=options.accounts, lots=options.lots, rows=options.rows, tell=tell)
        baselines = running.Baselines(here, here.copy_of(url), options) if options.with_baselines else None
        figures, priced, measured, acknowledged = [], [], [], 0
        usual = replace(options, is_priced=False)
        for number in range(1, options.runs + 1):
            tell(f"run {number} of {options.runs}: spends")
            figure, done = measure(url, usual, seed=number)
            figures.append(figure)
            acknowledged += done
            if options.is_priced:
                tell(f"run {number} of {options.runs}: spends that are priced")
                figure, done = measure(url, options, seed=number)
                priced.append(figure)
                acknowledged += done
            if baselines is not None:
                tell(f"run {number} of {options.runs}: baselines")
                measured.append(baselines.measure())
        books = prove(url, rows_before=options.rows, acknowledged=acknowledged, tell=tell)
        report = {**meters.middle(figures), "runs_ops_per_s": [figure["ops_per_s"] for figure in figures]}
        if priced:
            with Till(url) as till:
                micros = price_micros(till.read_price_book())
            report["priced"] = {**meters.middle(priced), "runs_ops_per_s": [figure["ops_per_s"] for figure in priced]}
            report["priced"]["price_us"] = {name: round(each, 2) for name, each in micros.items()}
            report["priced"]["ratio"] = round(report["priced"]["ops_per_s"] / report["ops_per_s"], 3)
        if baselines is not None:
            report |= running.compared(report, meters.middle(measured), is_hot=options.distribution == "hot")
        return {**report, "books": books}


def measure(url: str, options: Options, *, seed: int) -> tuple[dict[str, Any], int]:
    """Measure one run, and a lone caller after it; return the figures and how many spends were acknowledged in all."""
    before = meters.updates(url)
    figures, acknowledged = _several(url, options, seed) if options.processes > 1 else _one(url, options, seed)
    figures["hot_share"] = meters.hot_share(before, meters.updates(url))
    if options.callers == 1 and options.processes == 1:
        return {**figures, "lone": {name: figures[name] for name in ("p50_ms", "p99_ms")}}, acknowledged
    lone, done = _lone(url, options, seed)
    return {**figures, "lone": lone}, acknowledged + done


def _one(url: str, options: Options, seed: int) -> tuple[dict[str, Any], int]:
    with Till(url) as till, Meter(url, till=till) as meter:
        users = load.choose(options.accounts, options.distribution, seed=seed)
        cached = load.spend_once_each(till, users, options.keys)
        spends = load.Spends(till, users, options.keys, is_priced=options.is_priced)
        times = {"warm_up": options.warm_up_seconds, "seconds": options.seconds}
        if options.callers == 1:
            driven = load.drive_alone(spends.once_blocking, meter.read, **times)
        else:
            driven = load.drive(spends.once, meter.read, callers=options.callers, **times)
    return figures_of(driven), driven.acknowledged + cached


def figures_of(driven: load.Driven) -> dict[str, Any]:
    assert driven.started is not None and driven.ended is not None
    return {
        "ops_per_s": driven.ops_per_s,
        **meters.percentiles(driven.waits),
        **meters.per_op(driven.started, driven.ended, len(driven.waits)),
        "batches": meters.batch_sizes(driven.ended.batches - driven.started.batches),
    }


def _lone(url: str, options: Options, seed: int) -> tuple[dict[str, Any], int]:
    """One blocking caller on the same accounts."""
    seconds = min(options.seconds, LONE_SECONDS_MAX)
    with Till(url) as till, Meter(url) as meter:
        users = load.choose(options.accounts, options.distribution, seed=seed + 1000)
        cached = load.spend_once_each(till, users, options.keys)
        spends = load.Spends(till, users, options.keys, is_priced=options.is_priced)
        driven = load.drive_alone(spends.once_blocking, meter.read, warm_up=seconds / 2, seconds=seconds)
    return meters.percentiles(driven.waits), driven.acknowledged + cached


def _several(url: str, options: Options, seed: int) -> tuple[dict[str, Any], int]:
    """All begin at the same word, when each of them is connected."""
    with _workers(url, options, seed) as workers, Meter(url, [worker.process.pid for worker in workers]) as meter:
        for worker in workers:
            worker.hear()
        for worker in workers:
            worker.tell("go")
        for worker in workers:
            worker.hear()  # Warm.
        started = meter.read()
        answers = [worker.answer() for worker in workers]
        ended = meter.read()
    operations = sum(answer["measured"] for answer in answers)
    batches = Counter[int]()
    for answer in answers:
        batches.update({int(size): count for size, count in answer["batches"].items()})
    return {
        "ops_per_s": round(sum(answer["ops_per_s"] for answer in answers), 1),
        **meters.percentiles(chain.from_iterable(answer["waits"] for answer in answers)),
        **meters.per_op(started, ended, operations),
        "batches": meters.batch_sizes(batches),
        "processes_ops_per_s": [answer["ops_per_s"] for answer in answers],
    }, sum(answer["acknowledged"] for answer in answers)


@contextmanager
def _workers(url: str, options: Options, seed: int) -> Iterator[list[Child]]:
    shares = options.sharing == "shared"
    with ExitStack() as stack:
        yield [
            stack.enter_context(Child("tokentill.bench.worker", task={
                "url": url, "accounts": options.accounts, "distribution": options.distribution, "keys": options.keys,
                "is_priced": options.is_priced,
                "callers": max(options.callers // options.processes, 1), "warm_up": options.warm_up_seconds,
                "seconds": options.seconds, "seed": seed if not shares else seed * 100 + part,
                "part": 0 if shares else part, "parts": 1 if shares else options.processes,
            }))
            for part in range(options.processes)
        ]  # fmt: skip
