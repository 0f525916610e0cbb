"""The first price book: what the installed genai-prices says, as rows of ours, and as the migration that seeds them.

    python -m tokentill.store.price_seed > src/tokentill/store/migrations/00NN_price_seed.sql

`till prices update` compares with the same rows. Only its data are used, offline: no request is made, no updater is
started. Its `calc_price` charges nothing for what has no price; `core.prices.book` does not.

Units: genai-prices has dollars per million tokens, per hour, per thousand; the book has cents per million of the
pool's unit. A price that no decimal says exactly (a third of a cent a second) is kept to 18 decimals.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from importlib import metadata
from typing import TYPE_CHECKING, Any

from tokentill.core.prices.book import DECIMALS_MAX, BookPrice, Rate, as_text, tier_named
from tokentill.core.prices.names import BookModel

if TYPE_CHECKING:
    from genai_prices import types as genai

# Which of genai-prices' prices are a pool's own, the best first, and how many units each is for. What stands in for a
# price that is missing is the book's to say (`core.prices.book.STANDS_IN`).
PRICED_BY: Mapping[str, tuple[tuple[str, int], ...]] = {
    "input_uncached": (("input_mtok", 1_000_000),),
    "cache_read": (("cache_read_mtok", 1_000_000),),
    "cache_write_5m": (("cache_write_5m_mtok", 1_000_000), ("cache_write_mtok", 1_000_000)),
    "cache_write_1h": (("cache_write_1h_mtok", 1_000_000),),
    "audio_in": (("input_audio_mtok", 1_000_000),),
    "image_in": (("input_image_mtok", 1_000_000),),
    "output_text": (("output_mtok", 1_000_000),),
    "reasoning": (("output_reasoning_mtok", 1_000_000),),
    "audio_out": (("output_audio_mtok", 1_000_000),),
    "image_out": (("output_image_mtok", 1_000_000),),
    "seconds": (("input_audio_hours", 3_600), ("audio_hours", 3_600)),
    "characters": (("input_mchars", 1_000_000),),
    "web_searches": (("web_searches_kcount", 1_000),),
    "requests": (("requests_kcount", 1_000),),
}
# Films are counted with the images: where they cost something else, that pool has no price rather than a wrong one.
_FILMS = {"image_in": "input_video_mtok", "image_out": "output_video_mtok"}
_TERMS = ("service_tier", "processing", "speed")  # What picks a tier; a route or a kind of search does not.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_LAST_DECIMAL = Decimal(1).scaleb(-DECIMALS_MAX)


@dataclass(frozen=True, slots=True)
class Offered:
    """All models and prices of the installed genai-prices. The prices have no ids yet."""

    version: str
    models: tuple[BookModel, ...]
    prices: tuple[BookPrice, ...]


def offered() -> Offered:
    """Read the installed genai-prices. Takes half a second the first time: its data are a large module."""
    from genai_prices.data import providers

    models: list[BookModel] = []
    prices: list[BookPrice] = []
    for provider in providers:
        for position, info in enumerate(provider.models, start=1):
            aliases, match = _names(info)
            models.append(
                BookModel(
                    provider=provider.id,
                    model=info.id,
                    aliases=aliases,
                    match=match,
                    position=position,
                    source="genai-prices",
                )
            )
            prices += _prices(provider.id, info)
    return Offered(metadata.version("genai-prices"), tuple(models), tuple(prices))


# -- Names -------------------------------------------------------------------------------------------------------


def _names(info: "genai.ModelInfo") -> tuple[tuple[str, ...], dict[str, object] | None]:
    """Return the whole names that mean a model, but for its own, and the rule for all others."""
    rule = _rule(info.match)
    parts = rule.get("or", [rule])
    listed = sorted({part["equals"].lower() for part in parts if "equals" in part} - {info.id.lower()})
    others = [part for part in parts if "equals" not in part]
    if not others:
        return tuple(listed), None
    return tuple(listed), others[0] if len(others) == 1 else {"or": others}


def _rule(match: "genai.MatchLogic") -> dict[str, Any]:
    [(kind, value)] = vars(match).items()
    if kind in ("or_", "and_"):
        return {kind.removesuffix("_"): [_rule(each) for each in value]}
    return {kind: value}


# -- Prices ------------------------------------------------------------------------------------------------------


def _prices(provider: str, info: "genai.ModelInfo") -> Iterator[BookPrice]:
    """Yield the prices of a model: for each tier, each stretch of time, and the hours of the day that differ."""
    variants = [
        (tier, variant)
        for variant in info.price_variants or ()
        for key, value in variant.when.items()
        if key in _TERMS and len(variant.when) == 1 and (tier := tier_named(value)) is not None
    ]
    terms = _listed(info)
    starts = {_since(each) for _, each in variants} | {_since(each) for each in terms}
    for tier in [None, *sorted({tier for tier, _ in variants})]:
        last: Mapping[str, Rate] | None = None
        for since in sorted(starts | {None}, key=lambda each: (each is not None, each)):
            base, hours = _standard(terms, since)
            dollars = dict(vars(base.prices))
            if tier is not None:
                own = [each for named, each in variants if named == tier and _is_begun(each, since)]
                if not own:
                    continue
                for variant in reversed(own):  # Of several, the first says it.
                    dollars |= {key: price for key, price in vars(variant.prices).items() if price is not None}
                assert not hours, info.id
            if (rates := _rates(dollars)) != last or hours:
                yield BookPrice(price_id=0, provider=provider, model=info.id, service_tier=tier, effective_from=since,
                                prices=rates, source="genai-prices")  # fmt: skip
            for each in hours:
                yield BookPrice(price_id=0, provider=provider, model=info.id, effective_from=since,
                                daily_from=_utc(each.constraint.start_time), daily_until=_utc(each.constraint.end_time),
                                prices=_rates(vars(each.prices)), source="genai-prices")  # fmt: skip
            last = rates


def _listed(info: "genai.ModelInfo") -> list[Any]:
    from genai_prices.types import ConditionalPrice

    return info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]


def _since(conditional: Any) -> datetime | None:
    start = getattr(conditional.constraint, "start_date", None)
    return None if start is None else datetime(start.year, start.month, start.day, tzinfo=UTC)


def _is_begun(conditional: Any, at: datetime | None) -> bool:
    since = _since(conditional)
    return since is None or (at is not None and since <= at)


def _standard(terms: list[Any], at: datetime | None) -> tuple[Any, list[Any]]:
    """Return what holds from `at` on, and the hours that differ: of several, genai-prices takes the last that holds."""
    lasting = [place for place, each in enumerate(terms) if not _is_daily(each) and _is_begun(each, at)]
    base = lasting[-1] if lasting else 0
    return terms[base], [each for each in terms[base + 1 :] if _is_daily(each)]


def _is_daily(conditional: Any) -> bool:
    return hasattr(conditional.constraint, "start_time")


def _utc(at: time) -> time:
    assert at.tzinfo in (None, UTC), at
    return at.replace(tzinfo=None)


def _rates(dollars: Mapping[str, Any]) -> dict[str, Rate]:
    found: dict[str, Rate] = {}
    for pool, keys in PRICED_BY.items():
        for key, units in keys:
            if (price := dollars.get(key)) is not None:
                found[pool] = _rate(price, units)
                break
    for pool, film in _FILMS.items():
        stands_in = found.get(pool, found.get("input_uncached" if pool == "image_in" else "output_text"))
        if (price := dollars.get(film)) is not None and _rate(price, 1_000_000) != stands_in:
            found[pool] = None
    return found


def _rate(price: Any, units: int) -> Rate:
    if isinstance(price, Decimal):
        return _cents(price, units)
    steps = [(0, price.base), *((tier.start, tier.price) for tier in price.tiers)]
    return [{"above": start, "price": _cents(each, units)} for start, each in steps]


def _cents(dollars: Decimal, units: int) -> str:
    cents = _EXACT.divide(dollars * 100 * 1_000_000, Decimal(units))
    exact = cents.as_tuple().exponent
    return as_text(cents if isinstance(exact, int) and exact >= -DECIMALS_MAX else cents.quantize(_LAST_DECIMAL))


# -- The migration -----------------------------------------------------------------------------------------------

_SQL = """\
-- The first price book: genai-prices {version}. Made by `python -m tokentill.store.price_seed`; later versions of its
-- prices come with `till prices update`, never by an edit of this file.
--
-- [provider, [[model, aliases, match, [[effective_from, service_tier, daily_from, daily_until, prices], …]], …]]
WITH seeded AS MATERIALIZED (
    SELECT by_provider.entry ->> 0 AS provider, by_provider.place AS shelf, by_model.entry AS entry, by_model.place
      FROM jsonb_array_elements($seed$
{seed}
$seed$::jsonb) WITH ORDINALITY AS by_provider (entry, place)
     CROSS JOIN LATERAL jsonb_array_elements(by_provider.entry -> 1) WITH ORDINALITY AS by_model (entry, place)
),
models AS (
    INSERT INTO ai_models
    SELECT provider, entry ->> 0, 1, ARRAY(SELECT jsonb_array_elements_text(entry -> 1)), nullif(entry -> 2, 'null'),
           place, true, 'genai-prices', statement_timestamp(), 'tokentill'
      FROM seeded
)
INSERT INTO ai_prices
SELECT row_number() OVER (ORDER BY shelf, place, number), provider, entry ->> 0, price ->> 1,
       (price ->> 0)::timestamptz, (price ->> 2)::time, (price ->> 3)::time, price -> 4, 'genai-prices', NULL, 1,
       statement_timestamp(), 'tokentill'
  FROM seeded
 CROSS JOIN LATERAL jsonb_array_elements(entry -> 3) WITH ORDINALITY AS priced (price, number);
"""


def sql(found: Offered) -> str:
    """Return the migration that seeds a book with this. The same data make the same text."""
    prices: dict[tuple[str, str], list[object]] = {}
    for row in found.prices:
        since = None if row.effective_from is None else row.effective_from.isoformat().replace("+00:00", "Z")
        hours = [None if each is None else each.isoformat("minutes") for each in (row.daily_from, row.daily_until)]
        prices.setdefault((row.provider, row.model), []).append([since, row.service_tier, *hours, row.prices])
    shelves: dict[str, list[str]] = {}
    for model in found.models:
        entry = [model.model, model.aliases, model.match, prices[model.provider, model.model]]
        shelves.setdefault(model.provider, []).append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    seed = ",\n".join(f"[{json.dumps(name)},[\n" + ",\n".join(models) + "]]" for name, models in shelves.items())
    assert "$seed$" not in seed
    return _SQL.format(version=found.version, seed=f"[{seed}]")


if __name__ == "__main__":
    sys.stdout.write(sql(offered()))
