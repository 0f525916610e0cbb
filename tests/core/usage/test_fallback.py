"""The fallback: a usage that contradicts itself is charged by its largest claim, and never as 0 by mistake."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.usage.test_samples import SAMPLES
from tokentill.core.usage.fallback import kept
from tokentill.core.usage.pools import COUNT_MAX, Pools, UnreadableUsage
from tokentill.core.usage.reading import PROVIDERS, fallback_pools, read_partial_usage, read_usage

GUESS = Pools(input_uncached=500, cache_read=100, output_text=200, reasoning=50)


@pytest.mark.parametrize(
    ("usage", "given", "made"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 140}, 100, 40),
        ({"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 140}, 100, 60),
        ({"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 128}}, 128, 1),
        ({"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 30}}, 9, 30),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"text_tokens": 6, "audio_tokens": 7}}, 13, 250),
        ({"prompt_tokens": -5, "completion_tokens": 7}, 600, 7),
        ({"prompt_tokens": 7, "completion_tokens": float("inf")}, 7, 250),
        ({"prompt_tokens": 7.2, "completion_tokens": "12"}, 8, 12),
        ({"prompt_tokens": True, "completion_tokens": 2**60, "total_tokens": 30}, 600, 250),
        ({"total_tokens": 700}, 600, 100),
        ({"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 4, "input_tokens_details": {}}, 100, 4),
        ({"input_tokens": 10, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 11}}, 10, 11),
        ({"inputTokens": 30, "cacheWriteInputTokens": 5, "outputTokens": 628, "totalTokens": 700}, 35, 665),
        ({"prompt_cache_hit_tokens": 128, "prompt_cache_miss_tokens": 70, "prompt_tokens": 200}, 200, 250),
        ({"cost": {"input_tokens_cost": 3, "total_cost": 9}, "prompt_tokens": 2, "completion_tokens": None}, 2, 250),
        ({"prompt_tokens": 0, "completion_tokens": 0}, 600, 250),
        ([], 600, 250),
        (None, 600, 250),
    ],
)
def test_each_side_is_its_largest_claim_or_else_the_estimate(usage: object, given: int, made: int) -> None:
    pools = fallback_pools({"usage": usage}, estimate=GUESS)

    assert pools is not None
    assert (pools.input_tokens, pools.output_tokens) == (given, made)


def test_geminis_lists_and_names_are_understood() -> None:
    usage = {
        "promptTokenCount": 50,
        "candidatesTokenCount": 200,
        "thoughtsTokenCount": 20,
        "toolUsePromptTokenCount": 7,
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}],
        "totalTokenCount": 250,
    }

    assert fallback_pools({"usageMetadata": usage}, estimate=None) == Pools(input_uncached=60, output_text=220)


def test_sound_is_charged_by_the_second() -> None:
    assert fallback_pools({"usage": {"type": "duration", "seconds": 8.2, "x": 1}}, estimate=None) == Pools(seconds=9)
    assert fallback_pools({"usage": {"seconds": -1}}, estimate=Pools(seconds=60)) == Pools(seconds=60)


def test_where_nothing_is_known_nothing_is_made_up() -> None:
    assert fallback_pools(None, estimate=None) is None
    assert fallback_pools({"usage": {"prompt_tokens": -1}}, estimate=Pools()) is None
    assert fallback_pools({"usage": {"prompt_tokens": -1}}, estimate=Pools(images=2)) == Pools(images=2)


def test_what_lies_too_deep_is_no_claim() -> None:
    deep: object = {"prompt_tokens": 5}
    for _ in range(3_000):
        deep = [deep]

    assert fallback_pools(deep, estimate=None) is None
    assert fallback_pools([[{"prompt_tokens": 5}]], estimate=None) == Pools(input_uncached=5)


def test_the_largest_claims_stay_counts() -> None:
    usage = {"input_tokens": COUNT_MAX, "cache_read_input_tokens": COUNT_MAX, "output_tokens": COUNT_MAX}

    assert fallback_pools({"usage": usage}, estimate=None) == Pools(input_uncached=COUNT_MAX, output_text=COUNT_MAX)


# -- What is kept ------------------------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_read_keeps_the_usage_and_nothing_else() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 140}
    body = {"id": "made", "choices": [{"message": {"content": "a secret"}}], "usage": usage}

    answer = read_usage(body, provider="openai")

    assert isinstance(answer, UnreadableUsage)
    assert answer.raw == {"usage": usage}
    wrapped = read_usage({"response": {"body": body}}, provider="openai")
    assert isinstance(wrapped, UnreadableUsage) and wrapped.raw == {"usage": usage}
    assert kept({"choices": []}) is None
    assert kept({"response": {"body": {"data": {"result": {"usage": usage}}}}}) is None
    assert kept("usage") is None


def test_what_is_kept_is_plain_json() -> None:
    usage = {
        "a": float("nan"),
        "b": "nul \x00 and \ud83c",
        "c": 10**400,
        "d": None,
        "e": True,
        "f": 1.5,
        "g": {"h": {"i": {"j": {"k": {"l": {"m": 1}}}}}},
        "n": {1, 2},
        5: "five",
    }

    assert kept({"usage": usage}) == {
        "usage": {
            "a": "nan",
            "b": "nul ? and ?",
            "c": "a number too large to keep",
            "d": None,
            "e": True,
            "f": 1.5,
            "g": {"h": {"i": {"j": {"k": {"l": "…"}}}}},
            "n": "…",
            "5": "five",
        }
    }


def test_what_is_kept_is_bounded() -> None:
    huge = {f"{key:0>100}": ["x" * 500] * 50 for key in range(500)}

    assert len(json.dumps(kept({"usage": huge, "meta": huge, "usage_info": huge}))) < 16_384


# -- Whatever comes ----------------------------------------------------------------------------------------------

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**54),
    st.floats(),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.just([{"modality": "AUDIO", "tokenCount": 3}]),
)


def spots(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body, deepest last."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(spot for key, value in inner for spot in spots(value, (*path, key)))]


def planted(node: Any, path: tuple[Any, ...], value: object) -> Any:
    if not path:
        return value
    copy = node.copy()
    copy[path[0]] = planted(node[path[0]], path[1:], value)
    return copy


@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)), provider=st.none() | st.sampled_from(PROVIDERS))
def test_no_body_however_spoilt_raises_or_counts_below_zero(
    data: st.DataObject, name: str, provider: str | None
) -> None:
    sample = SAMPLES[name]
    events: list[Any] = sample.get("events") or [sample["response"]]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(spots(events)[1:]))
        events = planted(events, path, data.draw(junk))
    reader = provider or sample["provider"]

    for event in events:
        if not isinstance(event, dict):
            continue
        answer = read_usage(event, provider=reader)
        if isinstance(answer, Pools):
            assert all(count >= 0 for count in answer.as_json().values())
        else:
            fallback = fallback_pools(answer.raw, estimate=GUESS)
            assert fallback is not None and fallback.input_tokens > 0
            assert len(json.dumps(answer.raw, allow_nan=False)) < 16_384
    read_partial_usage(events, provider=reader, prompt_tokens=1)


@given(
    given_tokens=st.integers(0, 10**6),
    made=st.integers(0, 10**6),
    total=st.integers(0, 10**6),
    cached=st.integers(0, 10**6),
    reasoning=st.integers(0, 10**6),
)
def test_the_fallback_is_never_less_than_any_claim(
    given_tokens: int, made: int, total: int, cached: int, reasoning: int
) -> None:
    usage = {
        "prompt_tokens": given_tokens,
        "completion_tokens": made,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }

    pools = fallback_pools({"usage": usage}, estimate=None)

    if pools is None:
        assert not any((given_tokens, made, total, cached, reasoning))
    else:
        assert pools.input_tokens == max(given_tokens, cached)
        assert pools.output_tokens >= max(made, reasoning)
        assert pools.input_tokens + pools.output_tokens >= total
