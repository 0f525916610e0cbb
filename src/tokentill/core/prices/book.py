"""The price book: which of the book's models a name means, and what a call to it costs us.

`PriceBook` is made from the rows of `ai_models` and `ai_prices` (`store.prices.load`), never changes, and is asked on
the hot path: what a name means is looked up once and remembered, and a price is reckoned in whole numbers.

A call is priced by the row that is in force when it happened. Of several, the first that applies:

1. an override (`source` "override") before what genai-prices says; a withdrawal ends all overrides before it
2. the newest revision
3. the latest `effective_from` (None: since ever)
4. one with a daily window (DeepSeek's peak hours) before one for the whole day

What is not known has no cost, which is never 0: a model that nobody knows, a tier that has no price, a pool without a
price. `Priced.note` says which it is.

Units: prices are cents (US) per million of the pool's unit; costs are cents with six decimals, rounded once, half to
even. Times: aware; daily windows are in UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache

from tokentill.core import checks
from tokentill.core.prices.names import BookModel, Names
from tokentill.core.usage.pools import POOLS, Pools
from tokentill.core.values import Value, astuple
from tokentill.errors import InvalidAmount, InvalidTime

# Its own context, because a host's `decimal.getcontext()` may be set to a few digits. 60 digits hold any count times
# any price of up to 40 digits, so the only rounding is the last one.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

REQUESTS = "requests"  # Beside the pools: what each call costs for itself (Perplexity's).
PRICED_POOLS = (*POOLS, REQUESTS)

# A price as it is kept: decimal text, or steps by the size of the input, or None: has none, nor anything in its stead.
Rate = str | Sequence[Mapping[str, object]] | None

PRICE_MAX = Decimal(10) ** 12
DECIMALS_MAX = 18
STEPS_MAX = 20

# Where providers bill one pool at the price of another unless it has its own: a model without a price for cached
# tokens bills them in full, an image shown to a text model is input, reasoning is output. Sound and one-hour cache
# writes always cost more than text, so without a price of their own they have none.
STANDS_IN: Mapping[str, str] = {
    "cache_read": "input_uncached",
    "cache_write_5m": "input_uncached",
    "image_in": "input_uncached",
    "reasoning": "output_text",
    "image_out": "output_text",
}

USUAL_TIERS = frozenset({"", "default", "standard", "auto", "on_demand", "standard_only", "none"})
# Tiers that cost what the usual one does, by the provider's own rule: capacity that was paid for beforehand is valued
# at the usual price; Groq's flex trades reliability and no money.
AS_USUAL: Mapping[str, frozenset[str]] = {
    "anthropic": frozenset({"priority"}),
    "google": frozenset({"provisioned_throughput"}),
    "groq": frozenset({"flex", "performance"}),
    "openai": frozenset({"scale"}),
}

NAMES_KEPT = 4096  # Names come from callers; what nobody knows is remembered, too.


# -- Rows --------------------------------------------------------------------------------------------------------


class BookPrice(Value, frozen=True, kw_only=True):
    """What a model costs in one tier from a moment on."""

    price_id: int
    provider: str
    model: str
    service_tier: str | None = None  # None: the usual one.
    effective_from: datetime | None = None  # None: since ever.
    daily_from: time | None = None  # In UTC, half-open, may pass midnight; None: all day.
    daily_until: time | None = None
    prices: Mapping[str, Rate] | None = None  # None: the overrides of this model and tier are withdrawn.
    source: str = "override"  # Or "genai-prices".
    note: str | None = None
    revision: int = 0
    created_at: datetime | None = None
    created_by: str = ""

    def is_in_force(self, at: datetime) -> bool:
        """Whether it holds at that moment, others aside."""
        if self.effective_from is not None and at < self.effective_from:
            return False
        if self.daily_from is None or self.daily_until is None:
            return True
        now = at.astimezone(UTC).time()
        if self.daily_from <= self.daily_until:
            return self.daily_from <= now < self.daily_until
        return now >= self.daily_from or now < self.daily_until


class Priced(Value, frozen=True):
    """What a call costs us. `note` is None when that is known, else `unknown_model`, `unpriced_tier: batch`,
    `no_price` (none yet at that moment) or `unpriced_pool: audio_in, audio_out`."""

    cost_cents: Decimal | None
    price_id: int | None
    note: str | None = None


def check_prices(raw: Mapping[str, object]) -> dict[str, Rate]:
    """Return prices as the book keeps them. Raises: InvalidAmount for a pool or a price that cannot be."""
    if unknown := sorted(map(str, raw.keys() - set(PRICED_POOLS))):
        raise InvalidAmount(
            f"{unknown[0][:60]!r} is no pool; prices are for {', '.join(PRICED_POOLS)}.", field="prices"
        )
    if not raw:
        raise InvalidAmount("Prices for at least one pool are needed.", field="prices")
    return {pool: _rate(raw[pool], pool) for pool in PRICED_POOLS if pool in raw}


def _rate(raw: object, pool: str) -> Rate:
    if raw is None:
        return None
    if not isinstance(raw, list | tuple):
        return _cents(raw, pool)
    steps = [(each.get("above"), _cents(each.get("price"), pool)) for each in raw if isinstance(each, Mapping)]
    above = [start for start, _ in steps if type(start) is int]
    if not 1 <= len(above) == len(steps) == len(raw) <= STEPS_MAX or above[0] != 0 or above != sorted(set(above)):
        raise InvalidAmount(
            f'The steps of {pool} are like [{{"above": 0, "price": "125"}}, {{"above": 200000, "price": "250"}}], '
            f"from 0 upwards, at most {STEPS_MAX}.", field=pool,
        )  # fmt: skip
    return [{"above": start, "price": price} for start, price in steps]


def _cents(raw: object, pool: str) -> str:
    """Return a price as plain decimal text."""
    detail = f"The price of {pool} is in cents per million, as decimal text from 0 to 10^12, at most 18 decimals."
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise InvalidAmount(detail, field=pool)
    try:
        cents = checks.decimal_of(raw) if isinstance(raw, str) else Decimal(raw)
    except (InvalidOperation, ValueError):
        raise InvalidAmount(detail, field=pool) from None
    exponent = cents.as_tuple().exponent
    if not (cents.is_finite() and 0 <= cents <= PRICE_MAX and isinstance(exponent, int) and exponent >= -DECIMALS_MAX):
        raise InvalidAmount(detail, field=pool)
    return as_text(cents)


def as_text(cents: Decimal) -> str:
    """Return a price as the book writes it: no exponent, no zeros at the end."""
    text = f"{cents:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def tier_named(tier: str | None) -> str | None:
    """Return a service tier by the book's name; None: the usual one. Raises: nothing."""
    if tier is None:
        return None
    plain = tier.strip().lower().replace("-", "_")
    plain = plain.removeprefix("on_demand_")  # Gemini's traffic types.
    return None if plain in USUAL_TIERS else plain


def in_order(prices: Iterable[BookPrice]) -> list[BookPrice]:
    """Return the prices of one model and tier, the one first that applies before the others where it is in force.

    What was withdrawn is left out, and so is what a newer row for the same times replaces.
    """
    rows = list(prices)
    ended = max((row.revision for row in rows if row.prices is None), default=-1)
    alive = [row for row in rows if row.prices is not None and (row.source != "override" or row.revision > ended)]
    alive.sort(key=_precedence, reverse=True)
    seen: set[object] = set()
    found = []
    for row in alive:
        times = (row.source, row.effective_from, row.daily_from, row.daily_until)
        if times not in seen:
            seen.add(times)
            found.append(row)
    return found


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _precedence(row: BookPrice) -> tuple[bool, int, datetime, bool, int]:
    since = row.effective_from or _LONG_AGO
    return (row.source == "override", row.revision, since, row.daily_from is not None, row.price_id)


# -- Reckoning ---------------------------------------------------------------------------------------------------


class _Rates(Value, frozen=True):
    """One price, ready to reckon with: whole numbers, so that nothing but the end result is ever rounded."""

    price: BookPrice
    is_always: bool  # In force at any moment.
    steps: tuple[tuple[int, tuple[int | None, ...]], ...]  # (above, a rate for each pool), the highest first.
    base: tuple[int | None, ...] | None  # The rates where there is but one step.
    request: int  # What a call costs for itself.
    unit: int  # How many of the rates' units are a cent per million.


def _compile(price: BookPrice) -> _Rates:
    assert price.prices is not None, price
    by_step: dict[str, list[tuple[int, Decimal]]] = {}
    for pool in PRICED_POOLS:
        rate = price.prices.get(pool, "") if pool in price.prices else price.prices.get(STANDS_IN.get(pool, ""))
        if isinstance(rate, str):
            by_step[pool] = [(0, Decimal(rate))]
        elif rate is not None:
            by_step[pool] = [(int(str(step["above"])), Decimal(str(step["price"]))) for step in rate]
    decimals = max((_decimals(cents) for steps in by_step.values() for _, cents in steps), default=0)
    above = sorted({start for steps in by_step.values() for start, _ in steps} | {0}, reverse=True)
    steps = tuple((start, tuple(_at_step(by_step.get(pool), start, decimals) for pool in POOLS)) for start in above)
    is_always = price.effective_from is None and price.daily_from is None
    request = _at_step(by_step.get(REQUESTS), 0, decimals) or 0
    return _Rates(price, is_always, steps, steps[0][1] if len(steps) == 1 else None, request, 10**decimals)


def _decimals(cents: Decimal) -> int:
    exponent = cents.as_tuple().exponent
    assert isinstance(exponent, int), cents
    return max(0, -exponent)


def _at_step(steps: list[tuple[int, Decimal]] | None, start: int, decimals: int) -> int | None:
    if steps is None:
        return None
    cents = [each for above, each in steps if above <= start][-1]
    return int(cents.scaleb(decimals, EXACT))


def _cost(pools: Pools, rates: _Rates) -> Priced:
    """Return what the pools cost. A cent per million is a millionth of a cent each, which is a cost's last decimal."""
    each = rates.base
    if each is None:
        # Past a threshold of input, the higher rate is for all tokens and not for the excess alone.
        size = pools.input_tokens
        each = next((found for above, found in rates.steps if size > above), rates.steps[-1][1])
    total = 0
    is_used = False
    for count, rate in zip(astuple(pools), each, strict=True):
        if count:
            if rate is None:
                return _unpriced(pools, each)
            total += count * rate
            is_used = True
    if is_used:
        total += rates.request
    if (unit := rates.unit) != 1:
        total, rest = divmod(total, unit)
        rest *= 2
        if rest > unit or (rest == unit and total & 1):
            total += 1
    return Priced(Decimal(total).scaleb(-6, EXACT), rates.price.price_id, None)


def _unpriced(pools: Pools, each: tuple[int | None, ...]) -> Priced:
    counted = zip(POOLS, astuple(pools), each, strict=True)
    named = ", ".join(pool for pool, count, rate in counted if count and rate is None)
    return Priced(None, None, f"unpriced_pool: {named}")


# -- The book ----------------------------------------------------------------------------------------------------


class PriceBook:
    """Every model, the names that mean it, and its prices. Never changes; may be asked from any thread."""

    __slots__ = ("_offer", "_prices", "find", "models", "names", "revision")

    def __init__(self, revision: int, models: Iterable[BookModel], prices: Iterable[BookPrice]) -> None:
        """Make a book of the newest row of each model, and all rows of prices."""
        self.revision = revision
        self.models: Mapping[tuple[str, str], BookModel] = {(row.provider, row.model): row for row in models}
        self._prices: dict[tuple[str, str], list[BookPrice]] = {}
        for row in prices:
            self._prices.setdefault((row.provider, row.model), []).append(row)
        self.names = Names(self.models.values())
        self.find = lru_cache(maxsize=NAMES_KEPT)(self.names.find)
        self._offer = lru_cache(maxsize=NAMES_KEPT)(self._make_offer)

    def price(
        self,
        pools: Pools,
        *,
        provider: str | None,
        model: str,
        service_tier: str | None = None,
        occurred_at: datetime,
    ) -> Priced:
        """Return what a call cost us at the prices in force when it happened.

        `provider` is who served it, by any of its names; None: the model's maker. Names may be dated
        (`gpt-4o-2024-08-06`) and prefixed (`azure/gpt-4o`, `models/gemini-2.5-pro`, Bedrock's ids).

        Raises: InvalidTime for an `occurred_at` without a zone.
        """
        if occurred_at.tzinfo is None:
            raise InvalidTime("occurred_at needs a time zone.", field="occurred_at")
        offer = self._offer(provider, model, service_tier)
        if isinstance(offer, Priced):
            return offer
        for rates in offer:
            if rates.is_always or rates.price.is_in_force(occurred_at):
                return _cost(pools, rates)
        return Priced(None, None, "no_price")

    def knows(self, model: str, provider: str | None = None) -> bool:
        """Whether the name means a model of the book."""
        return self.find(provider, model) is not None

    def prices_of(self, provider: str, model: str) -> list[BookPrice]:
        """Return all rows that were ever written for a model, oldest first."""
        return list(self._prices.get((provider, model), ()))

    def rows(self) -> list[BookPrice]:
        """Return all rows of prices that were ever written, in the order of their ids."""
        return sorted((row for rows in self._prices.values() for row in rows), key=lambda row: row.price_id)

    def by_id(self, price_id: int) -> BookPrice | None:
        """Return a row by its id, in force or not."""
        return next((row for rows in self._prices.values() for row in rows if row.price_id == price_id), None)

    def tiers_of(self, provider: str, model: str) -> list[str | None]:
        """Return the tiers that have prices, the usual one first."""
        return sorted(
            {row.service_tier for row in self._prices.get((provider, model), ())}, key=lambda tier: tier or ""
        )

    def ordered(self, provider: str, model: str, service_tier: str | None) -> list[BookPrice]:
        """Return the prices of one tier, the one first that applies before the others."""
        rows = self._prices.get((provider, model), ())
        return in_order(row for row in rows if row.service_tier == service_tier)

    def in_force(
        self, provider: str, model: str, service_tier: str | None = None, *, at: datetime
    ) -> BookPrice | None:  # fmt: skip
        """Return the price of a tier at a moment, if there is one."""
        return next((row for row in self.ordered(provider, model, service_tier) if row.is_in_force(at)), None)

    def _make_offer(self, provider: str | None, model: str, service_tier: str | None) -> "tuple[_Rates, ...] | Priced":
        found = self.find(provider, model)
        if found is None:
            return Priced(None, None, "unknown_model")
        tier = tier_named(service_tier)
        where = (found.model.provider, found.model.model)
        if tier is not None:
            rows = [] if found.is_borrowed else self.ordered(*where, tier)
            if rows:
                return tuple(_compile(row) for row in rows)
            if tier not in AS_USUAL.get(found.provider, ()):
                return Priced(None, None, f"unpriced_tier: {tier[:60]}")
        return tuple(_compile(row) for row in self.ordered(*where, None))
