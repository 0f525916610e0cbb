"""What an AI call cost us: a response or its pools, priced with the `genai-prices` snapshot.

The prices are the ones shipped inside the installed `genai-prices`, read offline: no request is made, no updater is
started, and one that a host application may have started is not listened to. Only its data are used and not its
`calc_price`, because that charges nothing for what has no price, the text rate for audio it does not know, and takes
several times as long.

Units: cents (US) with six decimals. Times: aware UTC, passed in; nothing here reads the clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING

from tokentill.core.pricing import (
    EXACT,
    ModelPrice,
    Pools,
    Provider,
    UnreadableUsage,
    cost_cents,
    read_usage,
)
from tokentill.errors import InvalidTime

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

# Which of genai-prices' prices pays for a pool, the best first, and how many units that price is for. A broader price
# stands in only where providers bill it so: reasoning is output, an image shown to a text model is input, and a model
# without cache prices bills cached tokens in full. Audio and one-hour cache writes always cost more than text, so
# without a price of their own they have none; genai-prices knows no price per image.
_PRICED_BY: Mapping[str, tuple[tuple[str, int], ...]] = {
    "input_uncached": (("input_mtok", 1_000_000),),
    "cache_read": (("cache_read_mtok", 1_000_000), ("input_mtok", 1_000_000)),
    "cache_write_5m": (
        ("cache_write_5m_mtok", 1_000_000),
        ("cache_write_mtok", 1_000_000),
        ("input_mtok", 1_000_000),
    ),
    "cache_write_1h": (("cache_write_1h_mtok", 1_000_000),),
    "audio_in": (("input_audio_mtok", 1_000_000),),
    "image_in": (("input_image_mtok", 1_000_000), ("input_mtok", 1_000_000)),
    "output_text": (("output_mtok", 1_000_000),),
    "reasoning": (("output_reasoning_mtok", 1_000_000), ("output_mtok", 1_000_000)),
    "audio_out": (("output_audio_mtok", 1_000_000),),
    "image_out": (("output_image_mtok", 1_000_000), ("output_mtok", 1_000_000)),
    "seconds": (("input_audio_hours", 3_600), ("audio_hours", 3_600)),
    "characters": (("input_mchars", 1_000_000),),
    "images": (),
    "web_searches": (("web_searches_kcount", 1_000),),
}


_USUAL_TERMS = ("default", "standard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What a call used and what it cost us, with a note wherever one of the two is not known."""

    pools: Pools | None  # None: the usage could not be read.
    model: str | None  # As the caller or the response names it.
    cost_estimate: Decimal | None  # Cents. None: not known, which is never the same as 0.
    note: str | None  # Why something is None; None when nothing is.


def price_usage(
    usage: Mapping[str, object] | Pools | UnreadableUsage,
    *,
    provider: Provider,
    model: str | None,
    occurred_at: datetime,
) -> Metered:
    """Read and price one AI call, at the prices in force when it happened.

    `usage` is the response body, or what `core.pricing` already read from it. `model` None takes the response's own
    name. Dated names (`gpt-4o-2024-08-06`), names with a provider before a slash (`azure/gpt-4o`) and Bedrock's
    (`us.anthropic.claude-…`) are understood; the name is never matched against providers that were not named, since
    the same open model costs differently with each of them. From a body, the service tier or batch it reports picks
    the price, too; bare pools are priced at the standard rate.

    What is not known is None with a note and never 0: unreadable usage, an unknown model, a pool without a price.

    Raises: InvalidTime for an `occurred_at` without a zone.
    """
    if occurred_at.utcoffset() is None:
        raise InvalidTime("occurred_at needs a time zone.", field="occurred_at")

    terms: dict[str, str] = {}
    if isinstance(usage, Mapping):
        terms = _terms(usage, provider)
        if model is None and isinstance(named := usage.get("model"), str):
            model = named
        usage = read_usage(usage, provider=provider)
    if isinstance(usage, UnreadableUsage):
        return Metered(pools=None, model=model, cost_estimate=None, note=f"Usage not readable: {usage.reason}.")
    if not model:
        return Metered(pools=usage, model=None, cost_estimate=None, note="No model named, so no price.")

    offer = _find(provider, model)
    if offer is None:
        return Metered(pools=usage, model=model, cost_estimate=None, note=f"No price known for model {model!r}.")
    price = _price(offer, usage, occurred_at=occurred_at, terms=terms)
    cost = cost_cents(usage, price)
    note = None
    if cost is None:
        unpriced = ", ".join(pool for pool in usage.as_json() if getattr(price, pool) is None)
        note = f"Model {model!r} has no price for {unpriced}."
    return Metered(pools=usage, model=model, cost_estimate=cost, note=note)


def _terms(response: Mapping[str, object], provider: Provider) -> dict[str, str]:
    """Return the terms under which the provider says it served the call, in genai-prices' words."""
    if provider == "openai":
        said = {"service_tier": response.get("service_tier")}
    else:
        usage = response.get("usage")
        usage = usage if isinstance(usage, Mapping) else {}
        said = {"speed": usage.get("speed"), "processing": usage.get("service_tier")}
    # The usual terms are left out: they change no price, and looking them up takes as long as all the rest.
    return {term: value for term, value in said.items() if isinstance(value, str) and value not in _USUAL_TERMS}


@dataclass(frozen=True, slots=True)
class _Offer:
    """A model as one provider sells it."""

    info: "ModelInfo"
    has_terms: bool  # Whether tiers and batches have prices of their own here.


# Bounded, and misses included: model names come from callers, and each miss tries some hundred patterns.
@lru_cache(maxsize=4096)
def _find(provider: str, model: str) -> _Offer | None:
    """Return the model as the provider sells it, or as the provider named before its slash does."""
    # Imported on first use: it takes 0.2 s (it brings pydantic and an HTTP client), and most commands price nothing.
    from genai_prices.data import providers
    from genai_prices.data_snapshot import find_provider_by_id

    wanted = [(provider, model)]
    prefix, slash, rest = model.partition("/")
    if slash and prefix:
        wanted.append((prefix, rest))
    bedrock_name = model.rpartition("/")[2]
    if "anthropic." in bedrock_name:
        wanted.append(("aws", bedrock_name))

    for provider_id, name in wanted:
        seller = find_provider_by_id(providers, provider_id)
        info = seller.find_model(name, all_providers=providers) if seller and name else None
        if seller and info:
            # A model borrowed from another provider's list comes without that provider's tiers.
            is_own = any(own is info for own in seller.models)
            return _Offer(info, has_terms=is_own and bool(info.price_variants))
    return None


def _price(offer: _Offer, pools: Pools, *, occurred_at: datetime, terms: Mapping[str, str]) -> ModelPrice:
    """Return the price of the pools that were used; of the others it knows nothing."""
    in_force = offer.info.get_prices(occurred_at, terms if offer.has_terms else None).__dict__
    input_tokens = pools.input_tokens
    price: dict[str, Decimal] = {}
    with localcontext(EXACT):
        for pool in pools.as_json():
            for key, per in _PRICED_BY[pool]:
                if (dollars := in_force.get(key)) is not None:
                    if not isinstance(dollars, Decimal):
                        # Past a threshold of input, the higher rate is for all tokens and not for the excess alone.
                        passed = [tier.price for tier in dollars.tiers if input_tokens > tier.start]
                        dollars = passed[-1] if passed else dollars.base
                    price[pool] = dollars * 100 * 1_000_000 / per
                    break
    return ModelPrice(**price)
