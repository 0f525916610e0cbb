"""`till bench holds`: pairs of placing a hold and capturing it, beside plain spends of the same run."""

from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

from tokentill.bench import ground, load, meters
from tokentill.bench.filling import fill
from tokentill.bench.meters import Meter
from tokentill.bench.options import Options, Tell
from tokentill.bench.proving import prove
from tokentill.bench.spending import figures_of
from tokentill.ids import Uuid7s
from tokentill.till import Till

HELD_TOKENS = 2_000  # More than any of the calls takes, as an app holds more than it expects.


def run(options: Options, tell: Tell) -> dict[str, Any]:
    """Measure pairs and spends in turns, and prove the books. Raises: BooksWrong, BadSetting, DatabaseUnavailable."""
    with ground.opened(options.url) as here:
        url = here.make()
        fill(url, accounts=options.accounts, lots=options.lots, rows=options.rows, tell=tell)
        figures, acknowledged, held = [], 0, 0
        for number in range(1, options.runs + 1):
            tell(f"run {number} of {options.runs}: holds, then spends")
            before = meters.updates(url)
            pairs, pairs_done, before_pairs = _measure(url, options, number, _pairs)
            shares = meters.hot_share(before, meters.updates(url))
            spends, spends_done, before_spends = _measure(url, options, number + 1000, _spends)
            figures.append({
                **pairs, "hot_share": shares, "spends_per_s": spends["ops_per_s"],
                "ratios": {"spends": round(pairs["ops_per_s"] / spends["ops_per_s"], 3)},
            })  # fmt: skip
            acknowledged += pairs_done + spends_done + before_pairs + before_spends
            held += pairs_done
        books = prove(url, rows_before=options.rows, acknowledged=acknowledged, held=held, tell=tell)
    return {**meters.middle(figures), "runs_ops_per_s": [each["ops_per_s"] for each in figures], "books": books}


def _measure(
    url: str, options: Options, seed: int, of: Callable[[Till, list[UUID], Options], load.Once]
) -> tuple[dict[str, Any], int, int]:
    """Return the figures, what was acknowledged, and how many spent before so that the till knows them."""
    users = load.choose(options.accounts, options.distribution, seed=seed)
    with Till(url) as till, Meter(url, till=till) as meter:
        cached = load.spend_once_each(till, users, options.keys)
        driven = load.drive(
            of(till, users, options), meter.read, callers=options.callers, warm_up=options.warm_up_seconds,
            seconds=options.seconds,
        )  # fmt: skip
    return figures_of(driven), driven.acknowledged, cached


def _spends(till: Till, users: list[UUID], options: Options) -> load.Once:
    return load.Spends(till, users, options.keys).once


def _pairs(till: Till, users: list[UUID], options: Options) -> load.Once:
    """One pair is a hold placed, its answer, the hold captured with what the call took, and that answer."""
    new_id, numbers = Uuid7s(), count()

    async def once() -> None:
        number = next(numbers)
        user, call = users[number % len(users)], load.CALLS[number % len(load.CALLS)]
        key = str(new_id()) if options.keys == "given" else None
        place = till.asking.hold(user, HELD_TOKENS, load.ACTION, model=load.MODEL, idempotency_key=key)
        held = await till.submit(place)
        await till.submit(till.asking.capture(user, held.hold_id, action_type=load.ACTION, **call))

    return once
