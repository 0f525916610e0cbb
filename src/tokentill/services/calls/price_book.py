"""Pricing: the price book as it stands, editing it, and what it lacks.

An edit writes new rows under the next revision of `ai_edits`, and an audit row; what was written before stays, so a
usage row's `price_id` says for ever what it was reckoned with. Of two edits at the same moment one is refused.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

from tokentill.core import checks
from tokentill.core.prices import changes
from tokentill.core.prices.book import BookPrice, PriceBook, check_prices, tier_named
from tokentill.core.prices.changes import Differences
from tokentill.core.prices.names import BookModel
from tokentill.core.values import replace
from tokentill.errors import Conflict, InvalidText, ModelNotFound, PriceChangeTooLarge, PriceNotFound
from tokentill.services.context import Context
from tokentill.store import ai_edits, price_seed, prices

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_TIER = re.compile(r"[a-z0-9_]{1,63}")
ALIASES_MAX = 100
MAX_CHANGE_PERCENT = Decimal(50)


# -- Edits -------------------------------------------------------------------------------------------------------


def set_price(
    context: Context,
    book: PriceBook,
    *,
    provider: str,
    model: str,
    rates: Mapping[str, object],
    actor: str,
    effective_from: datetime | None = None,
    service_tier: str | None = None,
    note: str | None = None,
) -> BookPrice:
    """Write an override: what a model costs from a moment on (None: since ever), in one tier.

    It outranks what genai-prices says, now and after updates, until it is withdrawn. Saying the same again writes
    nothing. Raises: ModelNotFound, InvalidAmount, InvalidTime, InvalidText, Conflict.
    """
    found = _model(book, provider, model)
    tier = _tier(service_tier)
    wanted = BookPrice(
        price_id=0, provider=found.provider, model=found.model, service_tier=tier, prices=check_prices(rates),
        effective_from=checks.moment_or_none(effective_from, "effective_from"),
        note=checks.text_or_none(note, "note", length_max=1000),
    )  # fmt: skip
    newest = [row for row in book.ordered(found.provider, found.model, tier) if row.source == "override"][:1]
    if newest and _said(newest[0]) == _said(wanted):
        return newest[0]
    [written] = _write(context, book, actor=actor, prices_=[wanted])
    return written


def withdraw_price(
    context: Context, book: PriceBook, *, provider: str, model: str, actor: str, service_tier: str | None = None
) -> BookPrice:
    """End the overrides of a model in one tier: what genai-prices says counts again. The rows stay, for the record.

    Raises: ModelNotFound, PriceNotFound when there is none, Conflict.
    """
    found = _model(book, provider, model)
    tier = _tier(service_tier)
    if not any(row.source == "override" for row in book.ordered(found.provider, found.model, tier)):
        in_tier = "" if tier is None else f" in tier {tier}"
        raise PriceNotFound(f"{found.provider} {found.model} has no override{in_tier}.", model=found.model)
    ended = BookPrice(price_id=0, provider=found.provider, model=found.model, service_tier=tier)
    [written] = _write(context, book, actor=actor, prices_=[ended])
    return written


def put_model(
    context: Context,
    book: PriceBook,
    *,
    provider: str,
    model: str,
    actor: str,
    aliases: Sequence[str] | None = None,
    is_active: bool = True,
) -> BookModel:
    """Add a model, or change the names that mean it (None: they stay), or retire it.

    A model of genai-prices keeps its rule of names, and becomes yours: updates leave it alone. Retiring takes no price
    away: a call that was made has its cost. Saying the same again writes nothing.

    Raises: InvalidText, Conflict when a name means another model of yours already.
    """
    seller = book.names.seller(checks.text(provider, "provider", length_max=63))
    if not _PROVIDER.fullmatch(seller):
        raise InvalidText("A provider is named with a-z, 0-9, _, . and -.", field="provider")
    name = checks.text(model, "model", length_max=255).strip()
    known = book.models.get((seller, name)) or BookModel(provider=seller, model=name)
    if aliases is None:
        aliases = known.aliases
    if len(aliases) > ALIASES_MAX:
        raise InvalidText(f"A model has at most {ALIASES_MAX} aliases.", field="aliases")
    names = tuple(dict.fromkeys(checks.text(each, "aliases", length_max=255).strip() for each in aliases))
    taken = {
        each.lower(): row.model
        for row in book.models.values() if row.provider == seller and row.source == "own" and row.model != name
        for each in (row.model, *row.aliases)
    }  # fmt: skip
    if double := [each for each in (name, *names) if each.lower() in taken]:
        raise Conflict(f"{double[0]} means {seller} {taken[double[0].lower()]} already.", alias=double[0])
    if known.created_by and (known.aliases, known.is_active) == (names, is_active):
        return known
    changed = replace(known, aliases=names, is_active=is_active, source="own")
    _write(context, book, actor=actor, models=[changed])
    return replace(changed, revision=book.revision + 1, created_at=context.clock(), created_by=actor)


def _model(book: PriceBook, provider: str, model: str) -> BookModel:
    """Return the model that a provider itself lists under a name. Raises: ModelNotFound."""
    seller = book.names.seller(provider)
    exact = book.models.get((seller, model))
    if exact is not None:
        return exact
    found = book.names.sold_by(seller, model.strip().lower())
    if found is None or found.is_borrowed:
        detail = f"The price book has no model {model[:255]!r} of {seller[:63]!r}: add it first (`till prices add`)."
        raise ModelNotFound(detail, provider=seller, model=model)
    return found.model


def _tier(service_tier: str | None) -> str | None:
    tier = tier_named(checks.text_or_none(service_tier, "service_tier", length_max=63))
    if tier is not None and not _TIER.fullmatch(tier):
        raise InvalidText("A service tier is named with a-z, 0-9 and _.", field="service_tier")
    return tier


def _said(row: BookPrice) -> tuple[object, ...]:
    return (row.prices, row.effective_from, row.daily_from, row.daily_until, row.note)


def _write(
    context: Context,
    book: PriceBook,
    *,
    actor: str,
    prices_: Iterable[BookPrice] = (),
    models: Iterable[BookModel] = (),
    about: Mapping[str, object] | None = None,
) -> list[BookPrice]:
    """Write rows as the edit after the book's. Raises: Conflict when another edit has come first."""
    now = context.clock()
    with context.connection() as conn:
        number = ai_edits.begin(conn, book.revision, created_by=actor, now=now)
        if number is None:
            raise _edited_meanwhile()
        ids = count(prices.next_price_id(conn))
        rows = [
            replace(row, price_id=next(ids), revision=number, created_at=now, created_by=actor) for row in prices_
        ]  # fmt: skip
        named = [replace(row, revision=number, created_at=now, created_by=actor) for row in models]
        prices.write_models(conn, named)
        prices.write_prices(conn, rows)
        detail = about or {
            "prices": [
                {"price_id": row.price_id, "provider": row.provider, "model": row.model, "prices": row.prices,
                 "service_tier": row.service_tier}
                for row in rows
            ],
            "models": [
                {"provider": row.provider, "model": row.model, "aliases": row.aliases, "is_active": row.is_active}
                for row in named
            ],
        }  # fmt: skip
        prices.write_audit(conn, context.new_id(), actor=actor, detail={"revision": number, **detail}, now=now)
    return rows


def _edited_meanwhile() -> Conflict:
    return Conflict("The price book or an action has been edited meanwhile: look at it and try again.")


# -- Updates -----------------------------------------------------------------------------------------------------


def differences(context: Context, book: PriceBook) -> Differences:
    """Return what the installed genai-prices says otherwise than the book."""
    found = price_seed.offered()
    return changes.compare(book, found.models, found.prices, version=found.version, at=context.clock())


def update(
    context: Context,
    book: PriceBook,
    found: Differences,
    *,
    actor: str,
    max_change_percent: Decimal = MAX_CHANGE_PERCENT,
    is_forced: bool = False,
) -> int:
    """Write what differs; return the revision in force. Overrides stay in force, and nothing is ever taken out.

    Raises: PriceChangeTooLarge when a price changes by more than that and it is not forced; Conflict.
    """
    if found.revision != book.revision:
        raise _edited_meanwhile()
    if found.is_nothing:
        return book.revision
    large = [change for change in found.changed if change.exceeds(max_change_percent)]
    if large and not is_forced:
        raise PriceChangeTooLarge(
            f"{len(large)} of {len(found.changed)} changes exceed {max_change_percent:f} %, the first of them "
            f"{large[0].provider} {large[0].model} {large[0].pool}: {large[0].before} to {large[0].after} cents per "
            "million. Look at them; --force takes them all.",
            changes=len(large),
        )  # fmt: skip
    about = {"genai_prices": found.version, "models": len(found.models), "prices": len(found.prices)}
    _write(context, book, actor=actor, prices_=found.prices, models=found.models, about=about)
    return book.revision + 1


# -- What the book lacks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Calls without a cost. `reason` is why a call like them has none now; None: it would have one."""

    provider: str | None
    model: str
    service_tier: str | None
    calls: int
    last_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Aged:
    """A price that recent calls were reckoned with, and that nobody has confirmed for long."""

    price: BookPrice
    calls: int


@dataclass(frozen=True, slots=True)
class Checkup:
    unpriced: tuple[Unpriced, ...]
    aged: tuple[Aged, ...]
    hiding: tuple[BookPrice, ...]  # Overrides that are older than what genai-prices says under them.


def check(context: Context, book: PriceBook, *, days: int = 30, older_than_days: int = 180) -> Checkup:
    """Say what the calls of the last `days` lacked in the book, and which of its prices are old. Changes nothing."""
    now = context.clock()
    since = now - timedelta(days=checks.whole(days, "days", maximum=36_500))
    before = now - timedelta(days=checks.whole(older_than_days, "older_than_days", maximum=36_500))
    with context.connection() as conn:
        without = prices.calls_without_cost(conn, since)
        used = dict(prices.calls_by_price(conn, since))
    unpriced = tuple(
        Unpriced(provider, model, tier, calls, last_at, changes.lacking(book, provider, model, tier, at=now))
        for provider, model, tier, calls, last_at in without
    )
    aged = [
        Aged(row, used[row.price_id])
        for row in book.rows() if row.price_id in used and row.created_at is not None and row.created_at < before
    ]  # fmt: skip
    return Checkup(unpriced, tuple(aged), tuple(changes.hiding(book, at=now)))
