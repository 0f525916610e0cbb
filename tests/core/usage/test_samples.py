"""Golden samples: what every provider's endpoints answer, whole and streamed, and the pools that are in it.

What they are and what their fields mean is told in `samples/README.md`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import Provider as Extractor

from tokentill.core.usage.pools import POOLS, Pools, UnreadableUsage
from tokentill.core.usage.reading import PROVIDERS, read_partial_usage, read_stream_usage, read_usage

SAMPLES: dict[str, dict[str, Any]] = {
    f"{path.stem}: {sample['name']}": sample
    for path in sorted((Path(__file__).parent / "samples").glob("*.json"))
    for sample in json.loads(path.read_text("utf-8"))
}
READABLE = {name: sample for name, sample in SAMPLES.items() if "pools" in sample}
STREAMED = {name: sample for name, sample in READABLE.items() if "events" in sample}
EXTRACTED = {name: sample for name, sample in READABLE.items() if "genai_prices" in sample}


def read(sample: dict[str, Any]) -> Pools | UnreadableUsage:
    if "events" in sample:
        return read_stream_usage(sample["events"], provider=sample["provider"])
    return read_usage(sample["response"], provider=sample["provider"])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read_as_its_file_says(name: str) -> None:
    sample, answer = SAMPLES[name], read(SAMPLES[name])

    if "pools" in sample:
        assert isinstance(answer, Pools), answer
        assert answer.as_json() == sample["pools"]
    else:
        assert isinstance(answer, UnreadableUsage), answer
        assert sample["unreadable"] in answer.reason


@pytest.mark.parametrize("name", [name for name, sample in READABLE.items() if "input_tokens" in sample])
def test_the_pools_add_up_to_what_the_provider_totals(name: str) -> None:
    sample = READABLE[name]
    pools = Pools(**sample["pools"])

    assert (pools.input_tokens, pools.output_tokens) == (sample["input_tokens"], sample["output_tokens"])


def test_every_kind_of_reader_has_its_samples() -> None:
    said = {sample["provider"] for sample in SAMPLES.values()}

    assert len(SAMPLES) >= 100
    assert said <= set(PROVIDERS)
    assert {pool for sample in READABLE.values() for pool in sample["pools"]} == set(POOLS) - {"characters"}


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_that_is_cut_short_is_never_more_sure_than_it_may_be(name: str) -> None:
    sample = STREAMED[name]
    whole = read_partial_usage(sample["events"], provider=sample["provider"], prompt_tokens=7)
    assert whole == read_partial_usage(sample["events"], provider=sample["provider"])
    assert not isinstance(whole, UnreadableUsage)
    assert whole.pools == read(sample) and not whole.is_estimated

    for end in range(1, len(sample["events"])):
        cut = read_partial_usage(sample["events"][:end], provider=sample["provider"], prompt_tokens=7)

        assert not isinstance(cut, UnreadableUsage)
        assert cut.is_estimated or cut == whole
        assert cut.pools.input_tokens > 0


# -- genai-prices ------------------------------------------------------------------------------------------------

# What their counts are called in ours. Theirs overlap: input_tokens holds all of the input, and so on.
TOTALS = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
PARTS = {
    "cache_read_tokens": ("cache_read",),
    "cache_write_tokens": ("cache_write_5m", "cache_write_1h"),
    "output_reasoning_tokens": ("reasoning",),
    "output_audio_tokens": ("audio_out",),
    "output_image_tokens": ("image_out",),
}


def extracted(sample: dict[str, Any]) -> dict[str, int]:
    extractor: Extractor = next(provider for provider in providers if provider.id == sample["provider"])
    _, usage = extractor.extract_usage(sample["response"], api_flavor=sample["genai_prices"])
    return {key: int(value) for key, value in vars(usage).items() if not key.startswith("_")}


@pytest.mark.parametrize("name", [name for name, sample in EXTRACTED.items() if "differs" not in sample])
def test_genai_prices_reads_the_same(name: str) -> None:
    sample = EXTRACTED[name]
    pools, theirs = Pools(**sample["pools"]), extracted(sample)

    for total in TOTALS:
        assert theirs.get(total, 0) == getattr(pools, total), (total, theirs)
    for count, parts in PARTS.items():
        assert theirs.get(count, 0) == sum(getattr(pools, part) for part in parts), (count, theirs)


@pytest.mark.parametrize("name", [name for name, sample in EXTRACTED.items() if "differs" in sample])
def test_where_genai_prices_reads_something_else_we_know_what(name: str) -> None:
    """Fails once genai-prices learns it: then the sample's `differs` can go."""
    sample = EXTRACTED[name]
    pools, theirs = Pools(**sample["pools"]), extracted(sample)

    ours = {total: getattr(pools, total) for total in TOTALS}
    ours |= {count: sum(getattr(pools, part) for part in parts) for count, parts in PARTS.items()}
    ours |= {"audio_seconds": pools.seconds}
    for count in sample["differs"]:
        if count == "overlap":
            overlapping = sum(theirs.get(part, 0) for part in ("cache_read_tokens", "input_audio_tokens"))
            assert overlapping > pools.cache_read + pools.audio_in, theirs
        elif count == "image_out":
            assert theirs.get("output_image_tokens", 0) != pools.image_out
        else:
            assert theirs.get(count, 0) != ours[count], (count, theirs)
