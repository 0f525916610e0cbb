"""Price matches: which of Stripe's products and prices sell an offer of the catalog, and what to make where none does.

A price is never changed (Stripe's cannot be) and nothing is archived: an offer that costs something else now gets a new
price of the same product, and the old one goes on naming the offer in renewals.

Products and prices are as Stripe's API has them, as plain JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokentill.core.plans.catalog import Offer, Pack, Plan
from tokentill.core.stripe.checkouts import recurring_of

Json = Mapping[str, Any]

PRODUCT_FIELD = "product_key"  # In the metadata of products and prices: the offer's key.

_RHYTHMS = {"drip": {("day", 28), ("week", 4)}, "annual": {("year", 1), ("month", 12)}}


def price_for(offer: Offer, products: Sequence[Json], prices: Sequence[Json]) -> Json | None:
    """Return the active price that charges just what the offer costs, in its rhythm, and is meant for it.

    In this order: the one that sells it already, one that the catalog names, one with its key as lookup key, one whose
    own or whose product's metadata names it; among equals the oldest.
    """
    of_products = {product["id"] for product in products if product.get("active") and _names(product, offer)}

    def claim(price: Json) -> int | None:
        claims = (
            price["id"] == offer.stripe_price_id,
            price["id"] in offer.price_ids,
            price.get("lookup_key") == offer.key,
            _names(price, offer),
            price.get("product") in of_products,
        )
        return next((rank for rank, is_claimed in enumerate(claims) if is_claimed), None)

    found = [(rank, price) for price in prices if _charges(price, offer) and (rank := claim(price)) is not None]
    return min(found, key=lambda one: (one[0], *_age(one[1])), default=(0, None))[1]


def product_for(offer: Offer, products: Sequence[Json], prices: Sequence[Json]) -> Json | None:
    """Return the active product that is the offer: that of a price which the catalog names, else one that names it."""
    sold = {price.get("product") for price in prices if price["id"] in offer.price_ids}
    found = [(product["id"] not in sold, product) for product in products
             if product.get("active") and (product["id"] in sold or _names(product, offer))]  # fmt: skip
    return min(found, key=lambda one: (one[0], *_age(one[1])), default=(0, None))[1]


def product_params(offer: Offer) -> dict[str, Any]:
    """Return what Stripe is asked for a product that is the offer."""
    return {"name": offer.name, "metadata": {PRODUCT_FIELD: offer.key}}


def price_params(offer: Offer, product_id: str) -> dict[str, Any]:
    """Return what Stripe is asked for a price that sells the offer; its lookup key leaves the price that had it."""
    recurring = recurring_of(offer)
    return {
        "product": product_id,
        "currency": offer.currency,
        "unit_amount": offer.price_cents,
        "lookup_key": offer.key,
        "transfer_lookup_key": True,
        "metadata": {PRODUCT_FIELD: offer.key},
    } | ({"recurring": recurring} if recurring else {})


def _charges(price: Json, offer: Offer) -> bool:
    """Whether the price charges just what the offer costs, in its currency and rhythm."""
    if not price.get("active") or price.get("unit_amount") != offer.price_cents:
        return False
    if price.get("currency") != offer.currency or price.get("billing_scheme", "per_unit") != "per_unit":
        return False
    recurring = price.get("recurring")
    if isinstance(offer, Pack) or not isinstance(recurring, Mapping):
        return isinstance(offer, Pack) and not recurring
    assert isinstance(offer, Plan)
    rhythm = (recurring.get("interval"), recurring.get("interval_count", 1))
    return rhythm in _RHYTHMS[offer.kind] and recurring.get("usage_type", "licensed") == "licensed"


def _names(found: Json, offer: Offer) -> bool:
    metadata = found.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(PRODUCT_FIELD) == offer.key


def _age(found: Json) -> tuple[int, str]:
    return int(found.get("created") or 0), str(found["id"])
