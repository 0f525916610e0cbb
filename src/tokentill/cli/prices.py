"""Commands about the price book: what calls cost us. Prices are in cents per million: 250 is $2.50."""

import json as jsons
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from tokentill.cli import show
from tokentill.cli.given import By, actor, moment_of, number_of
from tokentill.cli.show import AsJson
from tokentill.core import checks
from tokentill.core.prices.book import PRICED_POOLS, BookPrice, PriceBook
from tokentill.core.prices.changes import Differences, PriceChange, rate_text
from tokentill.core.prices.names import Found
from tokentill.core.usage.pools import Pools
from tokentill.errors import InvalidAmount, InvalidRequest, ModelNotFound
from tokentill.till import Till

ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help="The model, by any name that a call may have.")]
Provider = Annotated[str | None, typer.Option("--provider", help="Who serves it. [default: the model's maker]")]
Seller = Annotated[str, typer.Option("--provider", help="Who serves it.")]
Tier = Annotated[str | None, typer.Option("--tier", help="batch, flex, priority, …; the usual one unless given.")]
At = Annotated[str | None, typer.Option("--at", help="A date or time. [default: now]")]

CHANGES_SHOWN = 40
MAIN_POOLS = ("input_uncached", "cache_read", "output_text")


def list_prices(
    provider: Annotated[str | None, typer.Option("--provider", help="Only what this one serves.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only models with this in their name.")] = None,
    json: AsJson = False,
) -> None:
    """List the models and what they cost now, in cents per million, in the usual tier."""
    with Till.connect() as till:
        book, now = till.read_price_book(), till.clock()
    seller = None if provider is None else book.names.seller(provider)
    found = [
        (row, book.in_force(row.provider, row.model, at=now))
        for _, row in sorted(book.models.items())
        if seller in (None, row.provider) and (model is None or model.lower() in row.model.lower())
    ]
    if json:
        from tokentill.http.routes.price_bodies import ModelView

        listed = [{**show.view(ModelView.of(row)), "price": _plain(price)} for row, price in found]
        show.as_json({"revision": book.revision, "models": listed})
        return
    columns = {"provider": "left", "model": "left", "input": "right", "cache read": "right", "output": "right",
               "other": "left", "source": "left"}  # fmt: skip
    rows = []
    for row, price in found:
        rates = {} if price is None or price.prices is None else price.prices
        main = [rate_text(rates.get(pool)) or "-" for pool in MAIN_POOLS]
        others = [f"{pool} {rate_text(rate) or '-'}" for pool, rate in rates.items() if pool not in MAIN_POOLS]
        source = ("" if price is None else price.source) + ("" if row.is_active else ", retired")
        rows.append([row.provider, row.model, *main, ", ".join(others), source])
    empty = "No model is like that: `till prices list` has them all, and `till prices add` adds your own."
    show.table(f"Prices, revision {book.revision}: cents per million", columns, rows, empty=empty)
    if rows:
        show.line(f"{show.counted(len(rows), 'model')}.")


def show_prices(model: ModelArg, provider: Provider = None, at: At = None, json: AsJson = False) -> None:
    """Show what a model is called, and its prices: which are in force, which were, and whose they are."""
    with Till.connect() as till:
        book = till.read_price_book()
        moment = moment_of(at, "--at") or till.clock()
    found = _found(book, provider, model)
    row = found.model
    tiers = [] if found.is_borrowed else [tier for tier in book.tiers_of(row.provider, row.model) if tier]
    in_force = [book.in_force(row.provider, row.model, tier, at=moment) for tier in (None, *tiers)]
    rows = book.prices_of(row.provider, row.model)
    if json:
        from tokentill.http.routes.price_bodies import ModelView

        show.as_json(
            {"served_by": found.provider, "model": show.view(ModelView.of(row)),
             "in_force": [_plain(each) for each in in_force], "prices": [_plain(each) for each in rows]}
        )  # fmt: skip
        return
    known = {
        "served by": found.provider, "list of": row.provider if found.is_borrowed else None,
        "also called": ", ".join(row.aliases) or None, "rule": None if row.match is None else jsons.dumps(row.match),
        "source": row.source, "retired": None if row.is_active else "yes",
    }  # fmt: skip
    show.facts(row.model, {name: value for name, value in known.items() if value is not None})
    _show_rows("In force", [each for each in in_force if each is not None])
    others = [each for each in rows if each not in in_force]
    if others:
        _show_rows("Others that were written", others)


def set_price(
    model: ModelArg,
    provider: Seller,
    input_: Annotated[str | None, typer.Option("--input", help="input_uncached, in cents per million.")] = None,
    output: Annotated[str | None, typer.Option("--output", help="output_text.")] = None,
    cache_read: Annotated[str | None, typer.Option("--cache-read")] = None,
    cache_write: Annotated[str | None, typer.Option("--cache-write", help="cache_write_5m.")] = None,
    cache_write_1h: Annotated[str | None, typer.Option("--cache-write-1h")] = None,
    reasoning: Annotated[str | None, typer.Option("--reasoning")] = None,
    pool: Annotated[
        list[str] | None, typer.Option("--pool", help="Any other pool: audio_in=600, images=4000000, requests=500000.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="A date or time. [default: since ever]")] = None,
    tier: Tier = None,
    note: Annotated[str | None, typer.Option("--note", help="Why: kept with the price.")] = None,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Override what a model costs, in cents per million: 250 is $2.50. All pools at once: others have no price then.

    Outranks updates until it is withdrawn. Changes no cost that was recorded. Safe to repeat.
    """
    named = {
        "input_uncached": input_, "output_text": output, "cache_read": cache_read, "cache_write_5m": cache_write,
        "cache_write_1h": cache_write_1h, "reasoning": reasoning,
    }  # fmt: skip
    given = [*((name, cents) for name, cents in named.items() if cents is not None), *_pools_given(pool or [])]
    prices = {name: number_of(cents, f"The price of {name} in cents per million") for name, cents in given}
    if len(prices) < len(given):
        raise InvalidAmount("A pool has one price; one of them is given twice.")
    with Till.connect() as till:
        row = till.set_price(
            provider, model, prices, effective_from=moment_of(from_, "--from"), service_tier=tier, note=note,
            created_by=actor(by),
        )  # fmt: skip
    _show_row(row, json=json)


def withdraw(model: ModelArg, provider: Seller, tier: Tier = None, by: By = None, json: AsJson = False) -> None:
    """End the overrides of a model in a tier: what genai-prices says counts again, for calls of any time."""
    with Till.connect() as till:
        row = till.withdraw_price(provider, model, service_tier=tier, created_by=actor(by))
    _show_row(row, json=json)


def add(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As the provider names it.")],
    provider: Seller,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="Another name that means it.")] = None,
    retired: Annotated[bool, typer.Option("--retired", help="Mark it as not offered any more.")] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Add a model of your own, or say which names mean one. It has no price until `till prices set` gives it one."""
    with Till.connect() as till:
        row = till.put_model(provider, model, aliases=alias, is_active=not retired, created_by=actor(by))
    if json:
        from tokentill.http.routes.price_bodies import ModelView

        show.as_json(show.view(ModelView.of(row)))
        return
    called = f", also called {', '.join(row.aliases)}" if row.aliases else ""
    show.line(f"{row.provider} {row.model}{called}{'' if row.is_active else ', retired'} (revision {row.revision}).")


def update(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    max_change: Annotated[str, typer.Option("--max-change", help="Refuse changes of more percent than this.")] = "50",
    force: Annotated[bool, typer.Option("--force", "--yes", help="Take changes of any size.")] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Bring the book to what the installed genai-prices says, and show the differences first.

    Nothing is asked of the network: upgrade genai-prices to get newer prices. Overrides stay in force. Safe to repeat.
    """
    percent = _percent(max_change)
    with Till.connect() as till:
        found = till.price_differences()
        if not json:
            _show_differences(found, percent)
        revision = till.read_price_book().revision
        if not dry_run:
            revision = till.update_prices(found, created_by=actor(by), max_change_percent=percent, force=force)
    if json:
        show.as_json({
            "is_dry_run": dry_run, "revision": revision, "genai_prices": found.version, "added": found.added,
            "removed": found.removed, "changed": found.changed, "rows": len(found.models) + len(found.prices),
        })  # fmt: skip
    elif found.is_nothing:
        show.line(f"The book says so already (revision {revision}).")
    elif dry_run:
        show.line("Nothing was changed: this was a dry run.")
    else:
        show.line(f"The price book is at revision {revision} now.")


def check(
    days: Annotated[int, typer.Option("--days", help="How far back to look at calls.")] = 30,
    older_than: Annotated[int, typer.Option("--older-than", help="How many days make a price old.")] = 180,
    json: AsJson = False,
) -> int:
    """Say which recent calls have no cost and why, which of their prices are old, and which overrides hide an update.

    Exits with 1 when there is anything of it. Changes nothing.
    """
    with Till.connect() as till:
        found = till.check_prices(days=days, older_than_days=older_than)
    if json:
        show.as_json(found)
    else:
        if found.unpriced:
            columns = {"provider": "left", "model": "left", "tier": "left", "calls": "right", "last": "left",
                       "why": "left"}  # fmt: skip
            show.table(f"Calls of the last {days} days without a cost", columns, [
                [each.provider or "?", each.model, each.service_tier, show.tokens(each.calls),
                 show.moment(each.last_at), each.reason or "has a price now: till reprice"]
                for each in found.unpriced
            ], empty="")  # fmt: skip
        if found.aged:
            _show_rows(f"Prices in use that are older than {older_than} days", [each.price for each in found.aged])
        if found.hiding:
            _show_rows("Overrides that hide what an update brought", found.hiding)
        if not (found.unpriced or found.aged or found.hiding):
            show.line(f"Every call of the last {days} days has its cost.")
    return 1 if found.unpriced or found.aged or found.hiding else 0


def cost(
    model: ModelArg,
    pools: Annotated[str, typer.Option("--pools", help='What it used: {"input_uncached": 1000, "output_text": 50}.')],
    provider: Provider = None,
    tier: Tier = None,
    at: At = None,
    json: AsJson = False,
) -> int:
    """Say what a call would cost us, and by which price. Exits with 1 when that is not known. Changes nothing."""
    used = _used(pools)
    with Till.connect() as till:
        book = till.read_price_book()
        moment = moment_of(at, "--at") or till.clock()
    priced = book.price(used, provider=provider, model=model, service_tier=tier, occurred_at=moment)
    if json:
        show.as_json(priced)
    elif priced.cost_cents is None:
        show.line(f"Not known: {priced.note}.")
    else:
        show.line(f"{priced.cost_cents:f} cents, by price {priced.price_id}.")
    return 1 if priced.cost_cents is None else 0


def _found(book: PriceBook, provider: str | None, model: str) -> Found:
    found = book.find(provider, model)
    if found is None:
        of = f" of {provider}" if provider else "; name its --provider" if "/" not in model else ""
        raise ModelNotFound(f"The price book has no model {model[:255]!r}{of}.", model=model)
    return found


def _pools_given(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    for each in given:
        name, equals, cents = each.partition("=")
        if not equals or name not in PRICED_POOLS:
            raise InvalidAmount(f"--pool is like audio_in=600, not {each[:60]!r}; pools: {', '.join(PRICED_POOLS)}.")
        yield name, cents


def _percent(text: str) -> Decimal:
    try:
        found = checks.decimal_of(number_of(text.removesuffix("%").rstrip(), "--max-change") or "")
    except InvalidOperation:
        found = Decimal(-1)
    if not (found.is_finite() and found >= 0):
        raise InvalidAmount(f"--max-change is a percentage like 50, not {text[:60]!r}.")
    return found


def _used(text: str) -> Pools:
    try:
        given: Any = jsons.loads(text)
        return Pools(**given)
    except (ValueError, TypeError, RecursionError):
        detail = f'--pools is like {{"input_uncached": 1000}}, with pools of {", ".join(PRICED_POOLS[:-1])}.'
        raise InvalidRequest(detail) from None


def _show_row(row: BookPrice, *, json: bool) -> None:
    if json:
        show.as_json(_plain(row))
    else:
        _show_rows(f"{row.provider} {row.model}, revision {row.revision}", [row])


def _plain(row: BookPrice | None) -> dict[str, object] | None:
    """Return a price as the API does."""
    from tokentill.http.routes.price_bodies import PriceView

    return None if row is None else show.view(PriceView.of(row))


def _show_rows(title: str, rows: Sequence[BookPrice]) -> None:
    columns = {"price": "right", "model": "left", "tier": "left", "from": "left", "hours (UTC)": "left",
               "cents per million": "left", "source": "left", "by": "left", "note": "left"}  # fmt: skip
    empty = "No price is in force: `till prices set MODEL --provider PROVIDER --input CENTS` gives it one."
    show.table(title, columns, [
        [row.price_id, f"{row.provider} {row.model}", row.service_tier or "usual",
         show.moment(row.effective_from, otherwise="ever"),
         "" if row.daily_from is None else f"{row.daily_from:%H:%M}-{row.daily_until:%H:%M}", _rates(row), row.source,
         row.created_by, row.note]
        for row in rows
    ], empty=empty)  # fmt: skip


def _rates(row: BookPrice) -> str:
    if row.prices is None:
        return "overrides withdrawn"
    return "\n".join(f"{pool} {rate_text(row.prices[pool]) or '-'}" for pool in PRICED_POOLS if pool in row.prices)


def _show_differences(found: Differences, percent: Decimal) -> None:
    """Show the largest changes first: those are what somebody should look at."""
    if found.changed:
        columns = {"model": "left", "tier": "left", "from": "left", "pool": "left", "before": "right", "after": "right",
                   "change": "right", "": "left"}  # fmt: skip
        largest = sorted(found.changed, key=lambda each: (not each.exceeds(percent), -abs(each.percent or Decimal(0))))
        show.table("Changes: cents per million", columns, [
            [f"{each.provider} {each.model}", each.service_tier or "usual",
             show.moment(each.effective_from, otherwise="ever"), each.pool, each.before or "-", each.after or "-",
             "" if each.percent is None else f"{each.percent:+} %", _remarks(each, percent)]
            for each in largest[:CHANGES_SHOWN]
        ], empty="")  # fmt: skip
        if len(largest) > CHANGES_SHOWN:
            show.line(f"... and {len(largest) - CHANGES_SHOWN:,} more: --json has them all.")
    for word, models in (("New", found.added), ("No more in genai-prices, kept here", found.removed)):
        if models:
            names = ", ".join(f"{row.provider} {row.model}" for row in models[:CHANGES_SHOWN])
            more = "" if len(models) <= CHANGES_SHOWN else f" and {len(models) - CHANGES_SHOWN:,} more"
            show.line(f"{word} ({len(models):,}): {names}{more}.")


def _remarks(change: PriceChange, percent: Decimal) -> str:
    said = [f"more than {percent:f} %"] if change.exceeds(percent) else []
    return ", ".join([*said, "an override counts"] if change.is_hidden else said)
