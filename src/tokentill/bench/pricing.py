"""How long pricing one call takes: the book's part of a priced spend, without the engine."""

import time
from datetime import UTC, datetime

from tokentill.core.prices.book import PriceBook
from tokentill.core.usage.pools import Pools

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
# One price; steps by size; hours of the day; a dated name of no named provider; a tier; a name that nobody knows.
CALLS: tuple[tuple[str | None, str, str | None], ...] = (
    ("openai", "gpt-4o", None),
    ("anthropic", "claude-sonnet-4-5", None),
    ("deepseek", "deepseek-chat", None),
    (None, "gpt-4o-2024-08-06", None),
    ("openai", "gpt-5", "batch"),
    ("openai", "gpt-nonesuch", None),
)
USED = Pools(input_uncached=9_000, cache_read=1_000, output_text=300, reasoning=200)


def price_micros(book: PriceBook, *, rounds: int = 20_000) -> dict[str, float]:
    """Return how many microseconds pricing one call takes, by kind of model; the first of each is left out."""
    found = {}
    for provider, model, tier in CALLS:
        book.price(USED, provider=provider, model=model, service_tier=tier, occurred_at=AT)
        began = time.perf_counter()
        for _ in range(rounds):
            book.price(USED, provider=provider, model=model, service_tier=tier, occurred_at=AT)
        found[" ".join(filter(None, (provider, model, tier)))] = (time.perf_counter() - began) / rounds * 1e6
    return found
