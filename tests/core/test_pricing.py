"""Pools, costs and charges: the provider's counts are read without overlap, and nothing unknown becomes 0."""

from dataclasses import fields
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentill.core.pricing import (
    EXAMPLE_ACTIONS,
    POOLS,
    AiAction,
    ModelPrice,
    Pools,
    Provider,
    UnreadableUsage,
    cost_cents,
    read_stream_usage,
    read_usage,
    tokens_to_charge,
)
from tokentill.demo import llm_shapes
from tokentill.errors import InvalidAmount

counts = st.integers(0, 10**6)
pools_of_any_kind = st.builds(Pools, **dict.fromkeys(POOLS, counts))
prices = st.decimals(0, 10**6, places=4)


def read(usage: object, *, provider: Provider = "openai", **body: object) -> Pools | UnreadableUsage:
    return read_usage({"usage": usage, **body}, provider=provider)


def reason(answer: Pools | UnreadableUsage) -> str:
    assert isinstance(answer, UnreadableUsage), answer
    return answer.reason


# -- Pools -------------------------------------------------------------------------------------------------------


def test_every_pool_of_the_glossary_has_a_count_and_a_price() -> None:
    assert tuple(field.name for field in fields(Pools)) == POOLS
    assert tuple(field.name for field in fields(ModelPrice)) == POOLS
    assert set(POOLS) >= {
        *("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in"),
        *("output_text", "reasoning", "audio_out", "image_out", "seconds", "characters", "images"),
    }


def test_each_pool_counts_as_input_or_as_output_or_as_neither() -> None:
    ones = dict.fromkeys(POOLS, 1)

    assert Pools(**ones).input_tokens == 6
    assert Pools(**ones).output_tokens == 4
    assert Pools(seconds=5, characters=5, images=5, web_searches=5).input_tokens == 0
    assert Pools(seconds=5, characters=5, images=5, web_searches=5).output_tokens == 0


def test_json_leaves_out_what_was_not_used() -> None:
    assert Pools().as_json() == {}
    assert Pools(output_text=2, input_uncached=1).as_json() == {"input_uncached": 1, "output_text": 2}


@given(pools_of_any_kind)
def test_json_gives_the_pools_back(pools: Pools) -> None:
    assert Pools(**pools.as_json()) == pools


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None, 2**53])
def test_a_pool_takes_whole_numbers_only(value: Any) -> None:
    with pytest.raises(InvalidAmount):
        Pools(cache_read=value)


# -- Reading OpenAI ----------------------------------------------------------------------------------------------


def test_prompt_tokens_include_the_cached_ones() -> None:
    body = llm_shapes.openai_chat(
        prompt_tokens=2006, cached_tokens=1920, completion_tokens=300, reasoning_tokens=192, audio_tokens_out=8
    )

    assert read_usage(body, provider="openai") == Pools(
        input_uncached=86, cache_read=1920, output_text=100, reasoning=192, audio_out=8
    )


def test_audio_is_neither_text_nor_counted_twice_when_cached() -> None:
    given_details = {"cached_tokens": 30, "audio_tokens": 50, "image_tokens": 10}
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}

    assert read({**usage, "input_token_details": given_details}) == Pools(
        input_uncached=10, cache_read=30, audio_in=50, image_in=10, output_text=7
    )
    split = {"text_tokens": 6, "audio_tokens": 20, "image_tokens": 4}
    assert read({**usage, "input_token_details": {**given_details, "cached_tokens_details": split}}) == Pools(
        input_uncached=34, cache_read=30, audio_in=30, image_in=6, output_text=7
    )


def test_written_cache_tokens_are_part_of_the_prompt() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 60}}

    assert read(usage) == Pools(input_uncached=40, cache_write_5m=60, output_text=1)


def test_details_may_be_absent_or_null() -> None:
    bare = {"prompt_tokens": 5, "completion_tokens": 3}

    assert read(bare) == Pools(input_uncached=5, output_text=3)
    assert read({**bare, "prompt_tokens_details": None, "completion_tokens_details": None}) == read(bare)
    assert read({**bare, "prompt_tokens_details": {"cached_tokens": None}, "total_tokens": None}) == read(bare)


def test_responses_are_read_like_chats() -> None:
    body = llm_shapes.openai_responses(input_tokens=276, cached_tokens=200, output_tokens=90, reasoning_tokens=64)

    assert read_usage(body, provider="openai") == Pools(input_uncached=76, cache_read=200, output_text=26, reasoning=64)


def test_embeddings_have_input_only() -> None:
    assert read_usage(llm_shapes.openai_embeddings(prompt_tokens=4, inputs=2), provider="openai") == Pools(
        input_uncached=4
    )
    assert read({"prompt_tokens": 4, "total_tokens": 4}) == Pools(input_uncached=4)
    assert read({"prompt_tokens": 4}, object="list") == Pools(input_uncached=4)


def test_what_the_images_api_puts_out_are_image_tokens() -> None:
    body = llm_shapes.openai_image(text_tokens=24, image_tokens=300, output_tokens=1056)

    assert read_usage(body, provider="openai") == Pools(input_uncached=24, image_in=300, image_out=1056)
    body["usage"]["output_tokens_details"] = {"image_tokens": 1000, "text_tokens": 56}
    assert read_usage(body, provider="openai") == Pools(input_uncached=24, image_in=300, image_out=1000, output_text=56)


def test_a_transcription_is_counted_in_seconds_or_in_tokens() -> None:
    assert read_usage(llm_shapes.openai_transcription(seconds=9), provider="openai") == Pools(seconds=9)
    by_token = llm_shapes.openai_transcription(audio_tokens=140, text_tokens=3, output_tokens=12)
    assert read_usage(by_token, provider="openai") == Pools(audio_in=140, input_uncached=3, output_text=12)


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (None, "no usage"),
        ([], "usage is not an object"),
        ({}, "input_tokens is missing"),
        ({"prompt_tokens": 4}, "completion_tokens is missing"),
        ({"completion_tokens": 4}, "input_tokens is missing"),
        ({"prompt_tokens": 4, "total_tokens": 9}, "completion_tokens is missing"),
        ({"prompt_tokens": -1, "completion_tokens": 1}, "prompt_tokens is out of range"),
        ({"prompt_tokens": 1, "completion_tokens": -1}, "completion_tokens is out of range"),
        ({"prompt_tokens": 2**53, "completion_tokens": 1}, "prompt_tokens is out of range"),
        ({"prompt_tokens": 1.0, "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": True, "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": "1", "completion_tokens": 1}, "prompt_tokens is not a whole number"),
        ({"prompt_tokens": 0, "completion_tokens": 1, "input_tokens": 50}, "disagree"),
        ({"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}, "total_tokens is not the sum"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": "2"}, "total_tokens is not a whole number"),
        ({"type": "duration"}, "seconds is missing"),
        ({"type": "duration", "seconds": 8.5}, "seconds is not a whole number"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0}, "Anthropic's"),
        ({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 0}, "Anthropic's"),
    ],
)
def test_missing_or_contradictory_openai_usage_is_unreadable(usage: object, why: str) -> None:
    assert why in reason(read(usage))


@pytest.mark.parametrize(
    ("given_details", "made", "why"),
    [
        ({"cached_tokens": 11}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": 6, "audio_tokens": 5}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": 6, "cache_write_tokens": 5}, {}, "parts of prompt_tokens"),
        ({"cached_tokens": -1}, {}, "cached_tokens is out of range"),
        ({"cached_tokens": False}, {}, "cached_tokens is not a whole number"),
        ({"cached_tokens": 2, "audio_tokens": 5, "cached_tokens_details": {"audio_tokens": 3}}, {}, "of cached_tokens"),
        ({"cached_tokens": 4, "audio_tokens": 2, "cached_tokens_details": {"audio_tokens": 3}}, {}, "of audio_tokens"),
        ({"cached_tokens": 4, "image_tokens": 2, "cached_tokens_details": {"image_tokens": 3}}, {}, "of image_tokens"),
        ({"cached_tokens": 4, "cached_tokens_details": 4}, {}, "cached_tokens_details is not an object"),
        ([], {}, "prompt_tokens_details is not an object"),
        ({}, {"reasoning_tokens": 11}, "parts of completion_tokens"),
        ({}, {"reasoning_tokens": 6, "audio_tokens": 5}, "parts of completion_tokens"),
        ({}, {"reasoning_tokens": -1}, "reasoning_tokens is out of range"),
        ({}, 3, "completion_tokens_details is not an object"),
    ],
)
def test_a_part_is_never_larger_than_its_whole(given_details: object, made: object, why: str) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "prompt_tokens_details": given_details,
        "completion_tokens_details": made,
    }

    assert why in reason(read(usage))


@given(cached=counts, uncached=counts, audio_in=counts, text=counts, reasoning=counts, audio_out=counts)
def test_openai_pools_add_up_to_the_totals(
    cached: int, uncached: int, audio_in: int, text: int, reasoning: int, audio_out: int
) -> None:
    body = llm_shapes.openai_chat(
        prompt_tokens=cached + uncached + audio_in,
        cached_tokens=cached,
        audio_tokens_in=audio_in,
        completion_tokens=text + reasoning + audio_out,
        reasoning_tokens=reasoning,
        audio_tokens_out=audio_out,
    )

    pools = read_usage(body, provider="openai")

    assert isinstance(pools, Pools)
    assert pools.input_tokens == body["usage"]["prompt_tokens"]
    assert pools.output_tokens == body["usage"]["completion_tokens"]
    assert (pools.input_uncached, pools.output_text) == (uncached, text)


# -- Reading Anthropic -------------------------------------------------------------------------------------------


def test_anthropics_input_tokens_leave_the_cached_ones_out() -> None:
    body = llm_shapes.anthropic_message(
        input_tokens=50,
        cache_read_tokens=100_000,
        cache_write_5m_tokens=248,
        cache_write_1h_tokens=100,
        output_tokens=503,
        thinking_tokens=400,
        web_searches=2,
    )

    assert read_usage(body, provider="anthropic") == Pools(
        input_uncached=50,
        cache_read=100_000,
        cache_write_5m=248,
        cache_write_1h=100,
        output_text=103,
        reasoning=400,
        web_searches=2,
    )


def test_cache_writes_without_a_split_are_five_minute_writes() -> None:
    bare = {"input_tokens": 1, "output_tokens": 1}
    only_split = {"cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}}

    assert read({**bare, "cache_creation_input_tokens": 70}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=70, output_text=1
    )
    assert read({**bare, "cache_creation_input_tokens": 70, **only_split}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=50, cache_write_1h=20, output_text=1
    )
    assert read({**bare, **only_split}, provider="anthropic") == Pools(
        input_uncached=1, cache_write_5m=30, cache_write_1h=20, output_text=1
    )


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ({"input_tokens": None}, "input_tokens is missing"),
        ({"output_tokens": None}, "output_tokens is missing"),
        ({"input_tokens": -1}, "input_tokens is out of range"),
        ({"cache_read_input_tokens": 1.5}, "cache_read_input_tokens is not a whole number"),
        ({"cache_creation": [1]}, "cache_creation is not an object"),
        (
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 10}},
            "parts of cache_creation_input_tokens",
        ),
        ({"output_tokens_details": {"thinking_tokens": 11}}, "parts of output_tokens"),
        ({"server_tool_use": {"web_search_requests": -1}}, "web_search_requests is out of range"),
        ({"input_tokens_details": {"cached_tokens": 5}}, "OpenAI's"),
    ],
)
def test_missing_or_contradictory_anthropic_usage_is_unreadable(usage: dict[str, object], why: str) -> None:
    assert why in reason(read({"input_tokens": 10, "output_tokens": 10, **usage}, provider="anthropic"))
    assert reason(read_usage({}, provider="anthropic")) == "the response has no usage"


@given(uncached=counts, cached=counts, five=counts, hour=counts, text=counts, thinking=counts)
def test_anthropic_pools_add_up_to_the_totals(
    uncached: int, cached: int, five: int, hour: int, text: int, thinking: int
) -> None:
    shape: dict[str, Any] = {
        "input_tokens": uncached,
        "cache_read_tokens": cached,
        "cache_write_5m_tokens": five,
        "cache_write_1h_tokens": hour,
        "output_tokens": text + thinking,
        "thinking_tokens": thinking,
    }

    pools = read_usage(llm_shapes.anthropic_message(**shape), provider="anthropic")

    assert isinstance(pools, Pools)
    assert pools.input_tokens == uncached + cached + five + hour
    assert pools.output_tokens == text + thinking
    assert read_stream_usage(llm_shapes.anthropic_stream(**shape), provider="anthropic") == pools


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**17) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["audio_tokens", "x"]), inner),
)
keys = st.sampled_from(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "type", "seconds"),
        *("prompt_tokens_details", "input_tokens_details", "output_tokens_details", "cache_creation"),
        *("cache_read_input_tokens", "cache_creation_input_tokens", "server_tool_use"),
    ]
)


@given(usage=st.dictionaries(keys, junk) | junk, provider=st.sampled_from(["openai", "anthropic"]))
def test_any_json_is_answered(usage: object, provider: Provider) -> None:
    answers = (
        read(usage, provider=provider),
        read_stream_usage([{"type": "message_delta", "usage": usage}], provider=provider),
    )

    for answer in answers:
        assert isinstance(answer, Pools | UnreadableUsage)


def test_a_provider_without_a_reader_is_unreadable() -> None:
    unknown: Any = "acme"

    assert "'acme'" in reason(read({"prompt_tokens": 1}, provider=unknown))


# -- Reading streams ---------------------------------------------------------------------------------------------


def test_the_last_chunk_of_a_chat_has_the_usage() -> None:
    chunks: list[object] = [*llm_shapes.openai_chat_stream(prompt_tokens=79, completion_tokens=11), "[DONE]"]

    assert read_stream_usage(chunks, provider="openai") == Pools(input_uncached=79, output_text=11)


def test_of_running_counts_the_last_is_the_sum() -> None:
    chunks = [{"usage": {"prompt_tokens": 9, "completion_tokens": made}} for made in (1, 2, 3)]

    assert read_stream_usage(chunks, provider="openai") == Pools(input_uncached=9, output_text=3)


def test_the_responses_stream_wraps_its_usage() -> None:
    events = llm_shapes.openai_responses_stream(input_tokens=276, output_tokens=8)

    assert read_stream_usage(events, provider="openai") == Pools(input_uncached=276, output_text=8)
    assert "final usage" in reason(read_stream_usage(events[:-1], provider="openai"))


def test_a_stream_without_its_end_is_unreadable() -> None:
    unasked = llm_shapes.openai_chat_stream(include_usage=False)
    cut = [event for event in llm_shapes.anthropic_stream() if event["type"] != "message_delta"]

    assert "final usage" in reason(read_stream_usage(unasked, provider="openai"))
    assert "final usage" in reason(read_stream_usage(cut, provider="anthropic"))
    assert "final usage" in reason(read_stream_usage([], provider="anthropic"))


def test_message_delta_overwrites_message_start() -> None:
    start = {
        "input_tokens": 2694,
        "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 0},
        "output_tokens": 1,
    }
    delta = {
        "input_tokens": 11_665,
        "cache_creation_input_tokens": 40,
        "cache_read_input_tokens": None,
        "output_tokens": 186,
        "server_tool_use": {"web_search_requests": 1},
    }
    events = [
        {"type": "message_start", "message": {"usage": start}},
        {"type": "content_block_delta", "delta": {"text": "Let"}},
        {"type": "message_delta", "usage": {"output_tokens": 100}},
        {"type": "message_delta", "usage": delta},
        {"type": "message_stop"},
    ]

    assert read_stream_usage(events, provider="anthropic") == Pools(
        input_uncached=11_665, cache_read=7, cache_write_5m=40, output_text=186, web_searches=1
    )


def test_a_delta_alone_does_not_tell_the_input() -> None:
    events = [{"type": "message_start", "message": None}, {"type": "message_delta", "usage": {"output_tokens": 5}}]

    assert "input_tokens is missing" in reason(read_stream_usage(events, provider="anthropic"))


# -- Cost --------------------------------------------------------------------------------------------------------


def test_cost_is_the_sum_over_the_pools() -> None:
    price = ModelPrice(
        input_uncached=Decimal(300), cache_read=Decimal(30), output_text=Decimal(1500), reasoning=Decimal(1500)
    )

    cost = cost_cents(Pools(input_uncached=1000, cache_read=2000, output_text=100, reasoning=50), price)

    assert cost == Decimal("0.585")
    assert str(cost) == "0.585000"


def test_a_pool_without_a_price_makes_the_cost_unknown() -> None:
    price = ModelPrice(input_uncached=Decimal(1))

    assert cost_cents(Pools(input_uncached=10, audio_in=1), price) is None
    assert cost_cents(Pools(input_uncached=10, audio_in=0), price) == Decimal("0.000010")


def test_free_and_unused_cost_nothing() -> None:
    assert cost_cents(Pools(input_uncached=10), ModelPrice(input_uncached=Decimal(0))) == 0
    assert cost_cents(Pools(), ModelPrice()) == 0


@pytest.mark.parametrize(("tokens", "cents"), [(1, "0.000000"), (2, "0.000001"), (3, "0.000002"), (5, "0.000002")])
def test_halves_of_a_millionth_go_to_the_even_one(tokens: int, cents: str) -> None:
    assert cost_cents(Pools(input_uncached=tokens), ModelPrice(input_uncached=Decimal("0.5"))) == Decimal(cents)


def test_rounding_is_over_the_sum() -> None:
    price = ModelPrice(input_uncached=Decimal("0.4"), output_text=Decimal("0.4"))

    assert cost_cents(Pools(input_uncached=1, output_text=1), price) == Decimal("0.000001")


def test_the_largest_counts_lose_no_digit_in_a_coarse_context() -> None:
    with localcontext(prec=5):
        cost = cost_cents(Pools(input_uncached=2**53 - 1), ModelPrice(input_uncached=Decimal("1234567.890123")))

    assert cost == Decimal("11119998979843043.263712")
    exact = Fraction(2**53 - 1) * Fraction("1234567.890123") / 10**6
    assert abs(Fraction(cost) - exact) <= Fraction(1, 2 * 10**6)


@pytest.mark.parametrize("cents", ["-0.01", "NaN", "Infinity"])
def test_a_price_is_a_number_from_zero_up(cents: str) -> None:
    with pytest.raises(InvalidAmount):
        ModelPrice(output_text=Decimal(cents))


@given(pools=pools_of_any_kind, more=pools_of_any_kind, cents=st.lists(prices, min_size=14, max_size=14))
def test_more_usage_never_costs_less(pools: Pools, more: Pools, cents: list[Decimal]) -> None:
    price = ModelPrice(**dict(zip(POOLS, cents, strict=True)))
    both = Pools(**{pool: getattr(pools, pool) + getattr(more, pool) for pool in POOLS})

    cost, cost_of_both = cost_cents(pools, price), cost_cents(both, price)

    assert cost is not None and cost_of_both is not None
    assert 0 <= cost <= cost_of_both
    exact = sum((Fraction(getattr(pools, pool)) * Fraction(getattr(price, pool)) for pool in POOLS), Fraction(0))
    assert abs(Fraction(cost) - exact / 10**6) <= Fraction(1, 2 * 10**6)


# -- Charge ------------------------------------------------------------------------------------------------------

METERED = AiAction(key="chat")
DEAR = AiAction(key="essay", multiplier=Decimal("1.5"))
IMAGE = AiAction(key="image", charge="fixed", fixed_tokens=25, multiplier=Decimal(3))


def charge(
    action: AiAction,
    given: int | None = None,
    made: int | None = None,
    used: int | None = None,
    *,
    success: bool = True,
) -> int:
    return tokens_to_charge(action, input_tokens=given, output_tokens=made, tokens_used=used, success=success)


def test_the_example_actions_are_the_twelve() -> None:
    fixed = {key: action.fixed_tokens for key, action in EXAMPLE_ACTIONS.items() if action.charge == "fixed"}

    assert list(EXAMPLE_ACTIONS) == [
        "assessment_scoring",
        "vision_generation",
        "vision_refinement",
        "blueprint_generation",
        "chat_conversation",
        "audio_generation",
        "image_generation",
        "transcription",
        "life_vision_category_summary",
        "life_vision_master_assembly",
        "prompt_suggestions",
        "frequency_flip",
    ]
    assert fixed == {"image_generation": 25, "audio_generation": 1, "transcription": 60}
    assert all(action.key == key and action.is_active for key, action in EXAMPLE_ACTIONS.items())
    assert all(action.multiplier == 1 for action in EXAMPLE_ACTIONS.values())


def test_metered_charges_input_and_output() -> None:
    assert charge(METERED, 500, 250) == 750
    assert charge(METERED, 500) == 500
    assert charge(METERED, None, 250) == 250
    assert charge(METERED, 0, 0, 99) == 0


def test_counts_outrank_tokens_used() -> None:
    assert charge(METERED, 500, 250, 99) == 750
    assert charge(METERED, None, None, 99) == 99


def test_a_metered_call_must_say_its_size() -> None:
    with pytest.raises(InvalidAmount, match="input_tokens and output_tokens, or tokens_used"):
        charge(METERED)
    with pytest.raises(InvalidAmount):
        charge(AiAction(key="once_fixed", fixed_tokens=25))


@pytest.mark.parametrize(("tokens", "charged"), [(0, 0), (1, 2), (2, 3), (3, 5), (1000, 1500)])
def test_a_multiplier_rounds_up(tokens: int, charged: int) -> None:
    assert charge(DEAR, tokens) == charged
    assert charge(DEAR, None, None, tokens) == charged


def test_a_fixed_charge_outranks_the_text_tokens_of_the_call() -> None:
    assert charge(IMAGE) == 25
    assert charge(IMAGE, 60, 1056) == 25
    assert charge(IMAGE, 0, None) == 25
    assert charge(IMAGE, 60, 1056, 99) == 25


def test_tokens_used_alone_is_kept_as_given() -> None:
    assert charge(IMAGE, None, None, 180) == 180
    assert charge(IMAGE, None, None, 0) == 0


def test_a_failed_call_is_free() -> None:
    for action in (METERED, DEAR, IMAGE):
        assert charge(action, success=False) == 0
        assert charge(action, 500, 250, 750, success=False) == 0


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", 2**53])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "tokens_used"])
@pytest.mark.parametrize("success", [True, False])
def test_counts_are_whole_numbers(name: str, value: Any, success: bool) -> None:
    given: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "tokens_used": None, name: value}

    with pytest.raises(InvalidAmount, match=name):
        tokens_to_charge(IMAGE, **given, success=success)


def test_the_largest_counts_are_charged_exactly() -> None:
    thrice_and_a_bit = AiAction(key="x", multiplier=Decimal("3.0000000000000000000000000001"))

    assert charge(METERED, 2**53 - 1, 2**53 - 1) == 2**54 - 2
    assert charge(METERED, 2**53 - 1) == 2**53 - 1
    assert charge(thrice_and_a_bit, 2**53 - 1) == 3 * (2**53 - 1) + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"charge": "fixed"},
        {"charge": "fixed", "fixed_tokens": -1},
        {"fixed_tokens": 2.5},
        {"multiplier": Decimal(-1)},
        {"multiplier": Decimal("NaN")},
    ],
)
def test_an_action_that_cannot_be_charged_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmount):
        AiAction(key="broken", **wrong)


@given(given=counts, made=counts, more=counts, multiplier=st.decimals(0, 100, places=6))
def test_more_tokens_never_charge_less(given: int, made: int, more: int, multiplier: Decimal) -> None:
    action = AiAction(key="x", multiplier=multiplier)
    exact = Fraction(multiplier) * (given + made)

    charged = charge(action, given, made)

    assert 0 <= charged <= charge(action, given + more, made)
    assert charged == charge(action, made, given) == charge(action, None, None, given + made)
    assert exact <= charged < exact + 1
