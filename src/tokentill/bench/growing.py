"""`till bench growth`: spends with a history of so many rows, beside spends on an empty one. Same server, in turns."""

from typing import Any

from tokentill.bench import ground, meters
from tokentill.bench.filling import fill
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import prove
from tokentill.bench.spending import measure


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure both in turns, and prove both books. Raises: BooksWrong, BadSetting, DatabaseUnavailable."""
    with ground.opened(options.url) as here:
        sizes = {"empty": 0, "full": options.rows}
        urls = {name: here.make() for name in sizes}
        for name, rows in sizes.items():
            fill(urls[name], accounts=options.accounts, lots=options.lots, rows=rows, tell=tell)
        figures: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
        acknowledged = dict.fromkeys(sizes, 0)
        for number in range(1, options.runs + 1):
            # Whoever comes second finds a warmer machine: they change places.
            for name in sorted(sizes, reverse=number % 2 == 0):
                tell(f"run {number} of {options.runs}: {sizes[name]:,} rows there already")
                figure, done = measure(urls[name], options, seed=number)
                figures[name].append(figure)
                acknowledged[name] += done
        books = {
            name: prove(urls[name], rows_before=rows, acknowledged=acknowledged[name], tell=tell)
            for name, rows in sizes.items()
        }
    empty, full = meters.middle(figures["empty"]), meters.middle(figures["full"])
    return {
        **full,
        "runs_ops_per_s": [figure["ops_per_s"] for figure in figures["full"]],
        "empty": empty,
        "ratios": {"empty": round(full["ops_per_s"] / empty["ops_per_s"], 3)},
        "books": {**books["full"], "empty": books["empty"]},
    }
