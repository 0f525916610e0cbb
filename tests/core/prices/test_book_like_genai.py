"""The book against genai-prices' own reckoning: every model, every stretch of time, every tier that it has.

Where the two differ on purpose, it is named here, and in docs/reference/price-book.md.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo, _reported_usage_keys
from hypothesis import given
from hypothesis import strategies as st

from tests.core.prices.book import seeded
from tokentill.core.prices import names
from tokentill.core.prices.book import STANDS_IN, PriceBook, _compile, _cost, tier_named
from tokentill.core.usage.pools import Pools
from tokentill.core.usage.reading import read_stream_usage, read_usage
from tokentill.store import price_seed

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2027, 6, 1, 12, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[3].parent / "shared" / "samples" / "llm"
MICRO = Decimal("0.000001")
SHELVES = {provider.id: provider for provider in providers}
TEXT = {"input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok", "output_reasoning_mtok"}


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return seeded()


def moments(info: ModelInfo) -> Iterator[datetime]:
    """Both sides of every date and hour at which a model's price may change, and a time before and after all."""
    yield datetime(2020, 1, 1, 12, tzinfo=UTC)
    yield LATE
    listed = info.prices if isinstance(info.prices, list) else []
    for constraint in [each.constraint for each in (*listed, *(info.price_variants or ()))]:
        if (start := getattr(constraint, "start_date", None)) is not None:
            cut = datetime(start.year, start.month, start.day, tzinfo=UTC)
            yield from (cut - timedelta(microseconds=1), cut)
        for hour in ("start_time", "end_time"):
            if (at := getattr(constraint, hour, None)) is not None:
                cut = datetime.combine(LATE.date(), at).astimezone(UTC)
                yield from (cut - timedelta(microseconds=1), cut)


def theirs(info: ModelInfo, provider: str, pools: Pools, at: datetime, terms: Mapping[str, str] | None) -> Decimal:
    """genai-prices' reckoning of the same usage, in cents. It refuses to price parts of which it has no whole."""
    counts: dict[str, Any] = {
        "input_tokens": pools.input_tokens, "cache_read_tokens": pools.cache_read,
        "cache_write_tokens": pools.cache_write_5m + pools.cache_write_1h,
        "cache_write_5m_tokens": pools.cache_write_5m, "cache_write_1h_tokens": pools.cache_write_1h,
        "output_tokens": pools.output_tokens, "output_reasoning_tokens": pools.reasoning,
        "input_audio_tokens": pools.audio_in, "output_audio_tokens": pools.audio_out,
        "input_image_tokens": pools.image_in, "output_image_tokens": pools.image_out,
        "audio_seconds": pools.seconds, "input_audio_seconds": pools.seconds,
        "input_characters": pools.characters, "web_searches": pools.web_searches,
    }  # fmt: skip
    nothing = dict.fromkeys(_reported_usage_keys(), 0)  # It guesses none of what it is not told.
    usage = genai_prices.Usage(**(nothing | counts))
    price = info.calc_price(usage, SHELVES[provider], genai_request_timestamp=at, price_context=terms)
    return price.total_price * 100


def test_every_model_costs_at_every_time_what_genai_prices_says(book: PriceBook) -> None:
    """Pool by pool and all at once, below and above every threshold, each of a size that shows the sixth decimal."""
    compared = 0
    for provider, info in [(shelf.id, info) for shelf in providers for info in shelf.models]:
        for at in moments(info):
            row = book.in_force(provider, info.id, at=at)
            assert row is not None, (provider, info.id)
            for size in (777, 1_234_567):
                pools = dict.fromkeys(_own_pools(row.prices or {}), size)
                if provider == "groq" and "seconds" in pools:
                    pools["seconds"] += 10  # Groq bills ten seconds at least, of which the book knows nothing.
                used = Pools(**pools)
                ours = _cost(used, _compile(row))
                expected = theirs(info, provider, used, at, None)
                if not pools and "requests" in (row.prices or {}):
                    continue
                assert ours.note is None, (provider, info.id, ours)
                assert ours.cost_cents is not None
                assert abs(ours.cost_cents - expected) <= MICRO / 2 + Decimal("1e-11"), (provider, info.id, at, pools)
                assert ours.price_id == row.price_id
                compared += 1
    assert compared > 5000


def _own_pools(rates: Mapping[str, object]) -> list[str]:
    """The pools that have a price of their own, and those that another's price stands in for."""
    stands_in = {pool for pool, other in STANDS_IN.items() if other in rates and rates.get(pool, "") is not None}
    # genai-prices reckons cached sound and images apart; pools do not tell them from cached text.
    return [pool for pool in Pools.__struct_fields__ if rates.get(pool) is not None or pool in stands_in]


def test_every_tier_costs_at_every_time_what_genai_prices_says(book: PriceBook) -> None:
    compared = 0
    for provider, info in [(shelf.id, info) for shelf in providers for info in shelf.models]:
        for variant in info.price_variants or ():
            [(key, value)] = variant.when.items()
            tier = tier_named(value)
            if tier is None or key not in price_seed._TERMS:
                continue
            for at in moments(info):
                row = book.in_force(provider, info.id, tier, at=at)
                if variant.constraint is not None and not variant.constraint.active(at):
                    continue  # The book has no price for it yet, where genai-prices takes the usual one.
                assert row is not None, (provider, info.id, tier, at)
                for size in (777, 1_234_567):
                    used = Pools(**dict.fromkeys(_own_pools(row.prices or {}), size))
                    ours = _cost(used, _compile(row))
                    assert ours.cost_cents is not None
                    expected = theirs(info, provider, used, at, variant.when)
                    assert abs(ours.cost_cents - expected) <= MICRO / 2, (provider, info.id, tier, at)
                    compared += 1
    assert compared > 500


def test_every_name_means_the_model_that_genai_prices_finds(book: PriceBook) -> None:
    """Ids, listed names, and names made up to fit the rules; with each provider in turn."""
    differs = set()
    for shelf in providers:
        for name in _names_of(shelf.id, book):
            found = shelf.find_model(name, all_providers=providers)
            ours = book.names.sold_by(shelf.id, name.lower())  # Whatever the name itself tells.
            if (ours and ours.model.model) == (found and found.id):
                continue
            # A model's own id always means it; genai-prices has some that its own rules do not claim.
            is_own_id = found is None and ours is not None and ours.model.model.lower() == name.lower()
            # A tuned model has a price of its own, where a broad rule of genai-prices takes the base's.
            is_tuned = ours is None and name.startswith("ft:")
            if not (is_own_id or is_tuned):
                differs.add((shelf.id, name))
    assert differs == set()


def _names_of(provider: str, book: PriceBook) -> Iterator[str]:
    for row in [row for row in book.models.values() if row.provider == provider]:
        yield from (row.model.upper(), *row.aliases)
        if row.match is not None:
            yield from (f"{row.model}-20251211", f"{row.model}-nonesuch", f"{row.model}@20250929")
            yield from (f"us.{row.model}", f"models/{row.model}", f"ft:{row.model}:org::id")


@given(
    place=st.integers(0, len(SHELVES["openai"].models) - 1),
    counts=st.lists(st.integers(0, 400_000), min_size=4, max_size=4),
)
def test_any_chat_with_openai_costs_what_genai_prices_says(place: int, counts: list[int]) -> None:
    info = SHELVES["openai"].models[place]
    book = seeded()
    uncached, cached, text, reasoning = counts
    pools = Pools(input_uncached=uncached, cache_read=cached, output_text=text, reasoning=reasoning)

    ours = book.price(pools, provider="openai", model=info.id, occurred_at=LATE)

    if ours.cost_cents is not None:
        assert ours.cost_cents == theirs(info, "openai", pools, LATE, None).quantize(MICRO)


def test_what_others_borrow_is_what_genai_prices_says() -> None:
    assert {
        shelf.id: tuple(shelf.fallback_model_providers) for shelf in providers if shelf.fallback_model_providers
    } == dict(names.BORROWS)


def test_the_seed_is_what_its_generator_makes_of_the_same_genai_prices() -> None:
    from tokentill.store.migrate import shipped

    [seed] = [migration.sql for migration in shipped() if migration.number == 16]
    found = price_seed.offered()
    if f"genai-prices {found.version}." not in seed:
        pytest.skip("the book was seeded from another version of genai-prices")
    assert price_seed.sql(found) == seed


def test_recorded_responses_cost_what_the_oracle_says(book: PriceBook) -> None:
    paths = sorted(SAMPLES.glob("*.json"))
    if not paths:
        pytest.skip("the recorded responses are not on this machine")

    for path in paths:
        sample = json.loads(path.read_text())
        provider = "anthropic" if sample["provider"] == "anthropic" else "openai"
        usage = (
            read_stream_usage(sample["sse_events"], provider=provider)
            if sample["stream"]
            else read_usage(sample["response"], provider=provider)
        )

        oracle = sample["oracle"]
        if oracle is None:
            assert (
                not isinstance(usage, Pools)
                or book.price(usage, provider=provider, model=sample["response_model"] or "", occurred_at=JANUARY).note
            ), path.name
            continue
        assert isinstance(usage, Pools), path.name
        priced = book.price(usage, provider=provider, model=sample["response_model"], occurred_at=JANUARY)
        assert priced.cost_cents == (Decimal(oracle["price_usd"]["total"]) * 100).quantize(MICRO), path.name
