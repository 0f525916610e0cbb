"""What an update of the price book changes, price by price, and what overrides keep from counting.

An update brings the whole of what genai-prices says of one model and tier, as rows under a new revision: they replace
what it said before, whatever the dates. What it says no more stays in the book: calls of that time keep their price.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tokentill.core.prices.book import PRICED_POOLS, STANDS_IN, BookPrice, PriceBook, Rate, in_order
from tokentill.core.prices.names import BookModel
from tokentill.core.usage.pools import Pools

Where = tuple[str, str, str | None]  # Provider, model, tier.


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One pool's price from a moment on (None: since ever), before and after: cents per million, None for none."""

    provider: str
    model: str
    service_tier: str | None
    effective_from: datetime | None
    pool: str
    before: str | None
    after: str | None
    percent: Decimal | None  # The largest, where the price has steps; None: there was none, or is none any more.
    is_hidden: bool  # An override counts in its place.

    def exceeds(self, percent: Decimal) -> bool:
        """Whether it changes by more than so many percent. A price that comes up from none or 0 to be one is new."""
        if self.percent is None:
            return self.after is None or (self.before is not None and self.before != self.after)
        return abs(self.percent) > percent


@dataclass(frozen=True, slots=True)
class Differences:
    """What an update would write, and what it means."""

    version: str  # Of genai-prices.
    revision: int  # Of the book that it was compared with.
    added: tuple[BookModel, ...]
    removed: tuple[BookModel, ...]  # That genai-prices has no more. They stay.
    changed: tuple[PriceChange, ...]  # Of models that were there before.
    models: tuple[BookModel, ...]  # To write.
    prices: tuple[BookPrice, ...]  # To write.

    @property
    def is_nothing(self) -> bool:
        return not (self.models or self.prices)


def compare(
    book: PriceBook, models: Sequence[BookModel], prices: Sequence[BookPrice], *, version: str, at: datetime
) -> Differences:  # fmt: skip
    """Return how what is offered differs from what the book has from the same source."""
    offered: dict[Where, list[BookPrice]] = {}
    for row in prices:
        offered.setdefault((row.provider, row.model, row.service_tier), []).append(row)
    to_write: list[BookPrice] = []
    changed: list[PriceChange] = []
    for where, rows in offered.items():
        before = _latest([row for row in book.prices_of(*where[:2]) if row.service_tier == where[2]])
        if sorted(map(_said, before), key=repr) == sorted(map(_said, rows), key=repr):
            continue
        to_write += rows
        if where[:2] in book.models:
            current = book.in_force(*where, at=at)
            is_hidden = current is not None and current.source == "override"
            changed += _changes(where, before, rows, is_hidden=is_hidden)
    known = book.models
    names = {(row.provider, row.model) for row in models}
    differing = [row for row in models if (has := known.get((row.provider, row.model))) is None or _renamed(has, row)]
    return Differences(
        version=version,
        revision=book.revision,
        added=tuple(row for row in models if (row.provider, row.model) not in known),
        removed=tuple(row for key, row in known.items() if row.source == "genai-prices" and key not in names),
        changed=tuple(changed),
        models=tuple(differing),
        prices=tuple(to_write),
    )


def _renamed(has: BookModel, offered: BookModel) -> bool:
    """Whether its names, or their place among the others, differ. What somebody made their own is left alone."""
    if has.source == "own":
        return False
    return (has.aliases, has.match, has.position) != (offered.aliases, offered.match, offered.position)


def _latest(rows: Sequence[BookPrice]) -> list[BookPrice]:
    """Return what genai-prices said last: each of its updates brings all of a model's prices in a tier."""
    theirs = [row for row in rows if row.source == "genai-prices"]
    newest = max((row.revision for row in theirs), default=0)
    return [row for row in theirs if row.revision == newest]


def _said(row: BookPrice) -> tuple[object, ...]:
    prices = sorted((row.prices or {}).items(), key=lambda item: item[0])
    return (row.effective_from, row.daily_from, row.daily_until, prices)


def _changes(
    where: Where, before: list[BookPrice], after: list[BookPrice], *, is_hidden: bool
) -> Iterator[PriceChange]:  # fmt: skip
    """Yield what changes in each stretch of time, in the whole day's price and in the hours' that differ."""
    starts = sorted({row.effective_from for row in (*before, *after)}, key=lambda at: (at is not None, at))
    windows = list(dict.fromkeys((row.daily_from, row.daily_until) for row in (*before, *after)))
    seen: set[object] = set()
    for since in starts:
        for window in windows:
            old, new = _holding(before, since, window), _holding(after, since, window)
            for pool in PRICED_POOLS:
                if not any(row and row.prices and pool in row.prices for row in (old, new)):
                    continue  # Of neither's own: it goes with the price that stands in for it.
                was, becomes = _rate(old, pool), _rate(new, pool)
                if was == becomes or (pool, repr(was), repr(becomes)) in seen:
                    continue
                seen.add((pool, repr(was), repr(becomes)))
                percent = _percent(was, becomes)
                yield PriceChange(*where, since, pool, _text(was), _text(becomes), percent, is_hidden)


def _holding(rows: list[BookPrice], since: datetime | None, window: tuple[object, object]) -> BookPrice | None:
    begun = [
        row for row in in_order(rows)
        if row.effective_from is None or (since is not None and row.effective_from <= since)
    ]  # fmt: skip
    own = [row for row in begun if (row.daily_from, row.daily_until) == window]
    return next(iter(own or [row for row in begun if row.daily_from is None]), None)


def _rate(row: BookPrice | None, pool: str) -> Rate:
    if row is None or row.prices is None:
        return None
    return row.prices[pool] if pool in row.prices else row.prices.get(STANDS_IN.get(pool, ""))


def _steps(rate: Rate) -> dict[int, Decimal]:
    if rate is None:
        return {}
    if isinstance(rate, str):
        return {0: Decimal(rate)}
    return {int(str(step["above"])): Decimal(str(step["price"])) for step in rate}


def _percent(before: Rate, after: Rate) -> Decimal | None:
    was, becomes = _steps(before), _steps(after)
    found = [Decimal(0)]
    for above in {*was, *becomes}:
        old, new = _at(was, above), _at(becomes, above)
        if old is None or new is None or old == 0 != new:
            return None
        if old:
            found.append((new - old) * 100 / old)
    return max(found, key=abs).quantize(Decimal("0.1"))


def _at(steps: dict[int, Decimal], above: int) -> Decimal | None:
    reached = [start for start in steps if start <= above]
    return steps[max(reached)] if reached else None


def _text(rate: Rate) -> str | None:
    """Return a rate for people: `125`, or `125, above 200,000: 250`."""
    if rate is None or isinstance(rate, str):
        return rate
    first, *more = _steps(rate).items()
    return ", ".join([str(first[1]), *(f"above {above:,}: {cents}" for above, cents in more)])


rate_text = _text


# -- What counts, and what does not ------------------------------------------------------------------------------


def lacking(book: PriceBook, provider: str | None, model: str, service_tier: str | None, *, at: datetime) -> str | None:
    """Return why a call of text would have no cost now; None: it would have one."""
    text = Pools(input_uncached=1, output_text=1)
    return book.price(text, provider=provider, model=model, service_tier=service_tier, occurred_at=at).note


def hiding(book: PriceBook, *, at: datetime) -> Iterable[BookPrice]:
    """Yield the overrides in force that are older than what genai-prices says of the same model and tier."""
    for provider, model in book.models:
        rows = book.prices_of(provider, model)
        if all(row.source != "override" for row in rows):
            continue
        for tier in book.tiers_of(provider, model):
            current = book.in_force(provider, model, tier, at=at)
            theirs = _latest([row for row in rows if row.service_tier == tier])
            if (
                current is not None
                and current.source == "override"
                and theirs
                and theirs[0].revision > current.revision
            ):
                yield current
