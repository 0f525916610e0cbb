"""The price book: exact, by the price in force, for the model that a name means, and never a silent 0."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.prices.book import seeded
from tokentill.core.prices.book import (
    STANDS_IN,
    BookPrice,
    PriceBook,
    Priced,
    Rate,
    as_text,
    check_prices,
    tier_named,
)
from tokentill.core.prices.names import BookModel
from tokentill.core.usage.pools import COUNT_MAX, POOLS, Pools
from tokentill.errors import InvalidAmount, InvalidTime

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 11, 1, tzinfo=UTC)


def cost(
    pools: Pools, model: str, *, provider: str | None = "openai", tier: str | None = None, at: datetime = AT
) -> Decimal | None:
    return seeded().price(pools, provider=provider, model=model, service_tier=tier, occurred_at=at).cost_cents


def note(
    pools: Pools, model: str, *, provider: str | None = "openai", tier: str | None = None, at: datetime = AT
) -> str | None:
    priced = seeded().price(pools, provider=provider, model=model, service_tier=tier, occurred_at=at)
    assert (priced.cost_cents is None) == (priced.price_id is None) == (priced.note is not None), priced
    return priced.note


def row(price_id: int, prices: Mapping[str, Rate] | None = None, **fields: object) -> BookPrice:
    given = {"provider": "mine", "model": "m", "prices": prices, "revision": price_id, **fields}
    return BookPrice(price_id=price_id, **given)  # type: ignore[arg-type]


def book(*prices: BookPrice, models: tuple[BookModel, ...] = (BookModel(provider="mine", model="m"),)) -> PriceBook:
    return PriceBook(1, models, prices)


def which(mine: PriceBook, at: datetime = AT, tier: str | None = None) -> int | None:
    priced = mine.price(Pools(input_uncached=1), provider="mine", model="m", service_tier=tier, occurred_at=at)
    return priced.price_id


# -- Costs -------------------------------------------------------------------------------------------------------


def test_a_call_costs_what_its_pools_cost() -> None:
    # $2.50 and $10 per million, $1.25 cached: 0.2 + 0.025 + 0.3 cents.
    pools = Pools(input_uncached=800, cache_read=200, output_text=250, reasoning=50)
    assert str(cost(pools, "gpt-4o-2024-08-06")) == "0.525000"

    # $3, $0.30, $3.75, $6 and $15 per million, $10 per thousand searches.
    message = Pools(
        input_uncached=1000, cache_read=10_000, cache_write_5m=2000, cache_write_1h=3000, output_text=100,
        web_searches=2,
    )  # fmt: skip
    assert cost(message, "claude-sonnet-4-5-20250929", provider="anthropic") == Decimal("5.3")


@pytest.mark.parametrize(
    ("pools", "model", "cents"),
    [
        (Pools(input_uncached=1), "text-embedding-3-small", "0.000002"),
        (Pools(seconds=60), "whisper-1", "0.6"),
        (Pools(characters=1000), "tts-1", "1.5"),
        (Pools(audio_in=1000, input_uncached=1000), "gpt-4o-transcribe", "0.85"),
        (Pools(input_uncached=100, image_in=100, image_out=1000), "gpt-image-1", "4.15"),
        (Pools(image_out=1000, output_text=1000), "gpt-image-1.5", "4.2"),
        (Pools(input_uncached=1000, image_in=1000), "gpt-4.1", "0.4"),
        (Pools(cache_write_5m=1000), "gpt-4.1", "0.2"),
        (Pools(cache_read=1000), "gpt-4o-2024-05-13", "0.5"),
        (Pools(), "gpt-4.1", "0"),
    ],
)
def test_each_pool_has_its_price(pools: Pools, model: str, cents: str) -> None:
    assert cost(pools, model) == Decimal(cents)


def test_the_price_is_the_one_in_force_when_it_happened() -> None:
    pools = Pools(input_uncached=1_000_000)
    cut = datetime(2025, 6, 10, tzinfo=UTC)

    assert cost(pools, "o3", at=cut - timedelta(microseconds=1)) == 1000
    assert cost(pools, "o3", at=cut) == 200
    assert cost(pools, "o3", at=datetime(2025, 6, 9, 20, tzinfo=timezone(timedelta(hours=-4)))) == 200


def test_past_the_threshold_every_token_costs_more() -> None:
    long = "claude-sonnet-4-5"

    assert cost(Pools(input_uncached=200_000, output_text=1000), long, provider="anthropic") == Decimal("61.5")
    assert cost(Pools(input_uncached=1, cache_read=200_000), long, provider="anthropic") == Decimal("12.0006")
    assert [
        cost(Pools(input_uncached=tokens), "qwen/qwen3-coder-flash", provider="openrouter", at=LATE)
        for tokens in (32_000, 32_001, 128_000, 128_001)
    ] == [Decimal("0.624"), Decimal("1.040032"), Decimal("4.16"), Decimal("6.656052")]


def test_a_day_may_have_dear_hours() -> None:
    def at(hour: int, minute: int) -> Decimal | None:
        moment = datetime(2026, 1, 1, hour, minute, tzinfo=timezone(timedelta(hours=8)))  # Beijing's.
        return cost(Pools(input_uncached=1_000_000), "deepseek-chat", provider="deepseek", at=moment)

    assert [at(8, 29), at(8, 30), at(0, 29), at(0, 30)] == [Decimal("13.5"), 27, 27, Decimal("13.5")]


def test_a_call_may_cost_something_for_itself() -> None:
    sonar = {"provider": "perplexity", "model": "sonar", "occurred_at": LATE}

    assert seeded().price(Pools(input_uncached=1000), **sonar).cost_cents == Decimal("1.3")  # type: ignore[arg-type]
    assert seeded().price(Pools(), **sonar).cost_cents == 0  # type: ignore[arg-type]  # It failed: nothing ran.


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(InvalidTime):
        cost(Pools(), "gpt-4o", at=datetime(2026, 1, 1))  # noqa: DTZ001


decimals = st.decimals(0, 10**6, places=6)
counts = st.integers(0, COUNT_MAX) | st.integers(0, 10)


def plainly(used: Mapping[str, int], prices: Mapping[str, Decimal | None]) -> Decimal | None:
    """What a call costs, told again in fractions: a cent per million is a millionth of a cent each."""
    exact = Fraction(0)
    for pool, count in used.items():
        cents = prices[pool]
        if count and cents is None:
            return None
        exact += count * Fraction(cents or 0)
    return Decimal(round(exact)).scaleb(-6, Context(prec=60))  # Python rounds a half to the even one, too.


@given(prices=st.dictionaries(st.sampled_from(POOLS), decimals), used=st.dictionaries(st.sampled_from(POOLS), counts))
def test_a_cost_is_exact_and_what_is_not_known_is_not_0(prices: dict[str, Decimal], used: dict[str, int]) -> None:
    mine = book(row(7, {pool: as_text(cents) for pool, cents in prices.items()}))

    priced = mine.price(Pools(**used), provider="mine", model="m", occurred_at=AT)

    whole = {pool: prices.get(pool, prices.get(STANDS_IN.get(pool, ""))) for pool in POOLS}
    expected = plainly(used, whole)
    assert str(priced.cost_cents) == str(expected)
    assert (priced.note is None) == (expected is not None)


def test_the_largest_counts_lose_no_digit_in_a_hosts_coarse_context() -> None:
    mine = book(row(7, {"input_uncached": "1234567.890123"}))

    with localcontext(prec=5):
        priced = mine.price(Pools(input_uncached=COUNT_MAX), provider="mine", model="m", occurred_at=AT)

    assert priced.cost_cents == Decimal("11119998979843043.263712")


@given(
    place=st.integers(0), pool=st.sampled_from(POOLS), more=st.integers(1, 300_000),
    used=st.dictionaries(st.sampled_from(POOLS), st.integers(0, 300_000)),
)  # fmt: skip
def test_more_of_a_pool_never_costs_less(place: int, pool: str, more: int, used: dict[str, int]) -> None:
    """Whatever the model: past a threshold, too, for no price in the book falls there."""
    models = list(seeded().models.values())
    model = models[place % len(models)]
    about = {"provider": model.provider, "model": model.model, "occurred_at": LATE}

    less = seeded().price(Pools(**used), **about).cost_cents  # type: ignore[arg-type]
    after = seeded().price(Pools(**{**used, pool: used.get(pool, 0) + more}), **about).cost_cents  # type: ignore[arg-type]

    assert less is None or less >= 0
    if less is not None and after is not None:
        assert after >= less


def test_no_price_of_the_book_falls_with_the_size_of_the_input() -> None:
    """What the test above rests on, for every price there is."""
    for model in seeded().models:
        for price in seeded().prices_of(*model):
            for rate in (price.prices or {}).values():
                if rate is not None and not isinstance(rate, str):
                    steps = [Decimal(str(step["price"])) for step in rate]
                    assert steps == sorted(steps), price


# -- Which price -------------------------------------------------------------------------------------------------

CHEAP: Mapping[str, Rate] = {"input_uncached": "1"}


def test_an_override_outranks_every_update_until_it_is_withdrawn() -> None:
    first, override = row(1, CHEAP, source="genai-prices"), row(2, CHEAP)
    update, withdrawn, again = row(3, CHEAP, source="genai-prices"), row(4), row(5, CHEAP)

    assert which(book(first, override)) == 2
    assert which(book(first, override, update)) == 2
    assert which(book(first, override, update, withdrawn)) == 3
    assert which(book(first, override, update, withdrawn, again)) == 5


def test_of_several_in_force_the_newest_revision_counts_and_then_the_latest_start() -> None:
    day = timedelta(days=1)
    ever, later, older = row(1, CHEAP), row(2, CHEAP, effective_from=AT), row(3, CHEAP, effective_from=AT - day)

    assert [which(book(ever, later), at) for at in (AT - day, AT)] == [1, 2]
    assert [which(book(ever, later, older), at) for at in (AT - day, AT)] == [3, 3]
    together = [row(1, CHEAP, revision=1), row(2, CHEAP, revision=1, effective_from=AT)]
    assert [which(book(*together), at) for at in (AT - day, AT)] == [1, 2]
    assert which(book(row(2, CHEAP, effective_from=AT)), AT - day) is None


def test_a_window_that_passes_midnight_is_one_window() -> None:
    mine = book(row(1, CHEAP), row(2, CHEAP, daily_from=time(22), daily_until=time(2)))
    hours = [21, 22, 23, 0, 1, 2]

    assert [which(mine, AT.replace(hour=hour)) for hour in hours] == [1, 2, 2, 2, 2, 1]


def test_a_tier_has_its_own_price_or_none() -> None:
    million = Pools(input_uncached=1_000_000)
    late = datetime(2026, 10, 15, tzinfo=UTC)

    assert cost(million, "gpt-5", at=late) == cost(million, "gpt-5", tier="default", at=late) == 125
    assert cost(million, "gpt-5", tier="flex", at=late) == Decimal("62.5")
    assert cost(million, "claude-opus-4-5", provider="anthropic", tier="batch", at=late) == 250
    # Capacity that was paid for beforehand is valued at the usual price.
    assert cost(million, "claude-opus-4-5", provider="anthropic", tier="priority", at=late) == 500
    assert note(million, "gpt-4-0613", tier="flex", at=late) == "unpriced_tier: flex"
    # Azure's list borrows OpenAI's usual prices; its tiers are its own affair.
    assert note(million, "azure/gpt-5", tier="flex", at=late) == "unpriced_tier: flex"
    assert note(million, "gpt-5", tier="flex") == "no_price"  # Nobody knows what it was in January.


@pytest.mark.parametrize("said", [None, "", "default", "standard", "AUTO", "on_demand", "on-demand", "ON_DEMAND"])
def test_the_usual_tier_has_many_names(said: str | None) -> None:
    assert tier_named(said) is None


def test_geminis_traffic_types_are_tiers() -> None:
    assert tier_named("ON_DEMAND_PRIORITY") == "priority"


# -- Names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        ("openai", "gpt-4o", "openai gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "openai gpt-4o"),
        ("openai", "gpt-4o-20240806", "openai gpt-4o"),
        ("openai", "GPT-4o", "openai gpt-4o"),
        ("openai", "openai/gpt-4o", "openai gpt-4o"),
        ("anthropic", "openai/gpt-4o", "openai gpt-4o"),
        ("litellm", "openai/gpt-4o", "openai gpt-4o"),
        ("openai", "azure/gpt-4o", "azure gpt-4o"),
        ("azure", "gpt-4o", "azure gpt-4o"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "openrouter anthropic/claude-sonnet-4.5"),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "aws regional.anthropic.claude-3-haiku-20240307-v1:0"),
        (None, "gpt-4o-2024-08-06", "openai gpt-4o"),
        (None, "azure/gpt-4o", "azure gpt-4o"),
        (None, "claude-sonnet-4-5", "anthropic claude-sonnet-4-5"),
        (None, "models/gemini-2.5-pro", "google gemini-2.5-pro"),
        (None, "publishers/google/models/gemini-2.5-pro", "google gemini-2.5-pro"),
        (None, "projects/p/locations/l/publishers/google/models/gemini-2.5-pro", "google gemini-2.5-pro"),
        (None, "gemini/gemini-2.5-pro", "google gemini-2.5-pro"),
        (None, "mistral-large-latest", "mistral mistral-large"),
        (None, "deepseek-chat", "deepseek deepseek-chat"),
        (None, "grok-4", "x-ai grok-4-0709"),
        (None, "sonar-pro", "perplexity sonar-pro"),
    ],
)
def test_dated_and_prefixed_names_are_one_model(provider: str | None, name: str, model: str) -> None:
    found = seeded().find(provider, name)

    assert found is not None
    assert f"{found.provider} {found.model.model}" == model


@pytest.mark.parametrize(
    ("provider", "model", "cents"),
    [
        ("anthropic", "claude-sonnet-4-5@20250929", 30),
        ("anthropic", "anthropic/claude-sonnet-4-5", 30),
        ("anthropic", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", 30),
        ("anthropic", "anthropic.claude-sonnet-4-5-20250929-v1:0", 33),  # Bedrock asks 10 % more for a region.
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 33),
        (None, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 33),
        (None, "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 33),
        (None, "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 33),
        (None, "vertex_ai/claude-sonnet-4-5@20250929", 30),
    ],
)
def test_claude_is_known_by_the_names_of_its_resellers(provider: str | None, model: str, cents: int) -> None:
    assert cost(Pools(input_uncached=100_000), model, provider=provider) == cents


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        *(("openai", name) for name in ("gpt-nonesuch", "acme/gpt-4o", "/gpt-4o", "openai/", "llama-3.3-70b")),
        ("openai", "gemini-2.5-pro"),
        ("acme", "gpt-4o"),
        # An open model that many serve, each at a price of its own.
        (None, "llama-3.3-70b"),
        (None, "gpt-nonesuch"),
        (None, ""),
        # A reseller's prefix says who made the model; the maker's price is not the reseller's.
        ("openrouter", "openai/gpt-nonesuch"),
        ("together", "openai/gpt-4o"),
        ("vllm", "mistral/mistral-large-latest"),
        # Tuned models have prices of their own.
        ("openai", "ft:gpt-4.1-mini-2099-01-01:org::id"),
        ("azure", "ft:gpt-4-0613:org::id"),
    ],
)
def test_an_unknown_model_has_no_cost_and_a_note(provider: str | None, model: str) -> None:
    assert note(Pools(input_uncached=5), model, provider=provider) == "unknown_model"
    assert not seeded().knows(model, provider)


def test_a_tuned_model_costs_what_tuned_ones_cost() -> None:
    million = Pools(input_uncached=1_000_000)

    tuned = cost(million, "ft:gpt-4o-mini-2024-07-18:org::id")
    assert tuned == 30 != cost(million, "gpt-4o-mini-2024-07-18")


@pytest.mark.parametrize(
    ("pools", "model", "unpriced"),
    [
        (Pools(input_uncached=5, audio_in=7, audio_out=8), "gpt-4o-audio-preview", "audio_in, audio_out"),
        (Pools(input_uncached=5), "tts-1", "input_uncached"),
        (Pools(images=1), "gpt-image-1", "images"),
        (Pools(input_uncached=5), "omni-moderation-latest", "input_uncached"),
        (Pools(cache_write_1h=5), "gpt-4o", "cache_write_1h"),
    ],
)
def test_a_pool_without_a_price_is_named(pools: Pools, model: str, unpriced: str) -> None:
    assert note(pools, model) == f"unpriced_pool: {unpriced}"


def test_films_cost_nothing_known_where_they_cost_something_else_than_images() -> None:
    assert note(Pools(image_in=5), "gemini-embedding-2", provider="google", at=LATE) == "unpriced_pool: image_in"


def test_a_model_of_ones_own_comes_before_its_makers() -> None:
    mine = BookModel(provider="vllm", model="our-llama", aliases=("Llama",))
    theirs = BookModel(provider="openai", model="llama", source="genai-prices", position=1)
    both = book(row(1, CHEAP, provider="vllm", model="our-llama"), models=(theirs, mine))

    priced = both.price(Pools(input_uncached=1_000_000), provider=None, model="LLAMA", occurred_at=AT)
    assert priced == Priced(Decimal("1.000000"), 1, None)


# -- Prices as they are given ------------------------------------------------------------------------------------


def test_prices_are_kept_as_plain_text() -> None:
    steps = [{"above": 0, "price": "1.50"}, {"above": 200_000, "price": Decimal("2E+1")}]

    assert check_prices({"output_text": 3, "input_uncached": "1e-3", "reasoning": steps, "images": None}) == {
        "input_uncached": "0.001", "output_text": "3", "images": None,
        "reasoning": [{"above": 0, "price": "1.5"}, {"above": 200_000, "price": "20"}],
    }  # fmt: skip


NO_PRICES: tuple[object, ...] = ("-1", "NaN", "Infinity", "x", "", 1.5, True, "1e13", "0." + "0" * 18 + "1", {})


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"tokens": "1"},
        *({"images": bad} for bad in NO_PRICES),
        {"images": []},
        {"images": [{"above": 1, "price": "1"}]},
        {"images": [{"above": 0, "price": "1"}, {"above": 0, "price": "2"}]},
        {"images": [{"above": 0, "price": "1"}, {"above": "9", "price": "2"}]},
        {"images": [{"above": 0, "price": "1"}, "2"]},
    ],
)
def test_prices_that_cannot_be_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(InvalidAmount):
        check_prices(raw)
