"""The book that a new database has, made without one: genai-prices' data, numbered as the migration numbers them."""

from functools import cache

from tokentill.core.prices.book import PriceBook
from tokentill.core.values import replace
from tokentill.store.price_seed import offered


@cache
def seeded() -> PriceBook:
    found = offered()
    prices = [replace(row, price_id=number, revision=1) for number, row in enumerate(found.prices, start=1)]
    return PriceBook(1, [replace(row, revision=1) for row in found.models], prices)
