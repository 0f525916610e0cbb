"""Prices from the shipped snapshot: as genai-prices reckons them, offline, and never a silent 0."""

import json
import socket
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.pricing import Pools, Provider, UnreadableUsage, read_stream_usage
from tokentill.demo import llm_shapes
from tokentill.errors import InvalidTime
from tokentill.services import metering
from tokentill.services.metering import Metered, price_usage

AT = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "samples" / "llm"


def cost(pools: Pools, model: str, *, provider: Provider = "openai", at: datetime = AT) -> Decimal | None:
    return price_usage(pools, provider=provider, model=model, occurred_at=at).cost_estimate


# -- Prices ------------------------------------------------------------------------------------------------------


def test_a_chat_costs_what_its_pools_cost() -> None:
    body = llm_shapes.openai_chat(
        model="gpt-4o-2024-08-06", prompt_tokens=1000, cached_tokens=200, completion_tokens=300, reasoning_tokens=50
    )

    # $2.50 and $10 per million, $1.25 cached: 0.2 + 0.025 + 0.3 cents.
    assert price_usage(body, provider="openai", model=None, occurred_at=AT) == Metered(
        pools=Pools(input_uncached=800, cache_read=200, output_text=250, reasoning=50),
        model="gpt-4o-2024-08-06",
        cost_estimate=Decimal("0.525000"),
        note=None,
    )


def test_a_message_costs_what_its_pools_cost() -> None:
    body = llm_shapes.anthropic_message(
        model="claude-sonnet-4-5-20250929",
        input_tokens=1000,
        cache_read_tokens=10_000,
        cache_write_5m_tokens=2000,
        cache_write_1h_tokens=3000,
        output_tokens=100,
        web_searches=2,
    )

    # $3, $0.30, $3.75, $6 and $15 per million, $10 per thousand searches.
    metered = price_usage(body, provider="anthropic", model=None, occurred_at=AT)

    assert metered.cost_estimate == Decimal("0.3") + Decimal("0.3") + Decimal("0.75") + Decimal("1.8") + Decimal(
        "0.15"
    ) + Decimal(2)
    assert metered.note is None


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
        cost(Pools(input_uncached=tokens), "openrouter/qwen/qwen3-coder-flash", at=datetime(2026, 11, 1, tzinfo=UTC))
        for tokens in (32_000, 32_001, 128_000, 128_001)
    ] == [Decimal("0.624"), Decimal("1.040032"), Decimal("4.16"), Decimal("6.656052")]


def test_the_tier_that_the_response_reports_picks_the_price() -> None:
    late = datetime(2026, 10, 15, tzinfo=UTC)
    flex = llm_shapes.openai_chat(model="gpt-5", prompt_tokens=1_000_000, completion_tokens=0, service_tier="flex")
    batch = llm_shapes.anthropic_message(
        model="claude-opus-4-5", input_tokens=1_000_000, output_tokens=0, service_tier="batch"
    )

    assert price_usage(flex, provider="openai", model=None, occurred_at=late).cost_estimate == Decimal("62.5")
    assert price_usage(batch, provider="anthropic", model=None, occurred_at=late).cost_estimate == 250
    assert cost(Pools(input_uncached=1_000_000), "gpt-5", at=late) == 125
    # Azure's list borrows OpenAI's standard prices; its tiers are its own affair.
    assert price_usage(flex, provider="openai", model="azure/gpt-5", occurred_at=late).cost_estimate == 125


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "gpt-4o-20240806"),
        ("openai", "GPT-4o"),
        ("openai", "openai/gpt-4o"),
        ("anthropic", "openai/gpt-4o"),
        ("openai", "azure/gpt-4o"),
    ],
)
def test_dated_and_prefixed_names_are_one_model(provider: Provider, model: str) -> None:
    assert cost(Pools(input_uncached=1_000_000), model, provider=provider) == 250


@pytest.mark.parametrize(
    ("model", "cents"),
    [
        ("claude-sonnet-4-5@20250929", 30),
        ("anthropic/claude-sonnet-4-5", 30),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", 30),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", 33),  # Bedrock asks 10 % more for a region of its own.
    ],
)
def test_claude_is_known_by_the_names_of_its_resellers(model: str, cents: int) -> None:
    assert cost(Pools(input_uncached=100_000), model, provider="anthropic") == cents


# -- What is not known -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["gpt-nonesuch", "acme/gpt-4o", "/gpt-4o", "openai/", "llama-3.3-70b", "gemini-2.5-pro"]
)
def test_an_unknown_model_has_no_cost_and_a_note(model: str) -> None:
    metered = price_usage(Pools(input_uncached=5), provider="openai", model=model, occurred_at=AT)

    assert metered == Metered(
        pools=Pools(input_uncached=5), model=model, cost_estimate=None, note=f"No price known for model {model!r}."
    )


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
    metered = price_usage(pools, provider="openai", model=model, occurred_at=AT)

    assert (metered.pools, metered.cost_estimate) == (pools, None)
    assert metered.note == f"Model {model!r} has no price for {unpriced}."


def test_unreadable_usage_has_neither_pools_nor_cost() -> None:
    body = {**llm_shapes.openai_chat(), "usage": None}
    expected = Metered(
        pools=None,
        model="gpt-4o-2024-08-06",
        cost_estimate=None,
        note="Usage not readable: the response has no usage.",
    )

    assert price_usage(body, provider="openai", model=None, occurred_at=AT) == expected
    unread = UnreadableUsage("the response has no usage")
    assert price_usage(unread, provider="openai", model="gpt-4o-2024-08-06", occurred_at=AT) == expected
    assert price_usage({"usage": []}, provider="anthropic", model=None, occurred_at=AT).pools is None


@pytest.mark.parametrize("body", [llm_shapes.openai_image(), {**llm_shapes.openai_chat(), "model": 4}])
def test_without_a_name_there_is_no_price(body: dict[str, Any]) -> None:
    metered = price_usage(body, provider="openai", model=None, occurred_at=AT)

    assert (metered.model, metered.cost_estimate) == (None, None)
    assert metered.note == "No model named, so no price."
    assert metered.pools is not None


def test_a_given_name_outranks_the_responses() -> None:
    metered = price_usage(llm_shapes.openai_chat(), provider="openai", model="gpt-4.1", occurred_at=AT)

    assert metered.model == "gpt-4.1"


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(InvalidTime):
        price_usage(Pools(), provider="openai", model="gpt-4o", occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001


# -- Against genai-prices itself ---------------------------------------------------------------------------------

few = st.integers(0, 300_000)


@given(
    model=st.sampled_from(
        ["gpt-4o", "gpt-4.1-mini", "o3", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "gpt-4o-2024-05-13", "gpt-4", "gpt-image-1"]
    ),
    uncached=few,
    cached=few,
    text=few,
    reasoning=few,
)
def test_openai_prices_are_those_of_genai_prices(
    model: str, uncached: int, cached: int, text: int, reasoning: int
) -> None:
    usage = genai_prices.Usage(
        input_tokens=uncached + cached,
        cache_read_tokens=cached,
        output_tokens=text + reasoning,
        output_reasoning_tokens=reasoning,
    )
    theirs = genai_prices.calc_price(usage, model, provider_id="openai", genai_request_timestamp=AT).total_price

    ours = cost(Pools(input_uncached=uncached, cache_read=cached, output_text=text, reasoning=reasoning), model)

    assert ours == (theirs * 100).quantize(Decimal("0.000001"))


@given(
    model=st.sampled_from(["claude-sonnet-4-5", "claude-opus-4-6", "claude-haiku-4-5", "claude-3-haiku-20240307"]),
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    counts=st.tuples(few, few, few, few, few),
)
def test_anthropic_prices_are_those_of_genai_prices(
    model: str, at: datetime, counts: tuple[int, int, int, int, int]
) -> None:
    uncached, cached, five, hour, text = counts
    usage = genai_prices.Usage(
        input_tokens=uncached + cached + five + hour,
        cache_read_tokens=cached,
        cache_write_tokens=five + hour,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        output_tokens=text,
    )
    theirs = genai_prices.calc_price(usage, model, provider_id="anthropic", genai_request_timestamp=at).total_price

    pools = Pools(
        input_uncached=uncached, cache_read=cached, cache_write_5m=five, cache_write_1h=hour, output_text=text
    )

    assert cost(pools, model, provider="anthropic", at=at) == (theirs * 100).quantize(Decimal("0.000001"))


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    metering._find.cache_clear()

    assert cost(Pools(input_uncached=1_000_000), "gpt-4o") == 250
    assert genai_prices.wait_prices_updated_sync(0) is False


# -- Recorded responses ------------------------------------------------------------------------------------------


def test_recorded_responses_cost_what_the_oracle_says() -> None:
    paths = sorted(SAMPLES.glob("*.json"))
    if not paths:
        pytest.skip("the recorded responses are not on this machine")

    for path in paths:
        sample = json.loads(path.read_text())
        provider: Provider = "anthropic" if sample["provider"] == "anthropic" else "openai"
        usage = read_stream_usage(sample["sse_events"], provider=provider) if sample["stream"] else sample["response"]

        metered = price_usage(usage, provider=provider, model=sample["response_model"], occurred_at=AT)

        oracle = sample["oracle"]
        if oracle is None:
            assert metered.cost_estimate is None, path.name
            continue
        assert metered.pools is not None, path.name
        assert metered.pools.input_tokens == oracle["usage"]["input_tokens"], path.name
        assert metered.pools.output_tokens == oracle["usage"].get("output_tokens", 0), path.name
        assert metered.pools.cache_read == oracle["usage"].get("cache_read_tokens", 0), path.name
        assert metered.pools.reasoning == oracle["usage"].get("output_reasoning_tokens", 0), path.name
        expected = (Decimal(oracle["price_usd"]["total"]) * 100).quantize(Decimal("0.000001"))
        assert metered.cost_estimate == expected, path.name
