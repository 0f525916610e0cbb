"""Selling: the ways to Stripe, where buyers pay: a checkout, the billing portal, and the products and prices there.

Nothing is granted here. What was paid comes back as events (`services.stripe.receiving`), which find in the session
whose it is and what was sold. No transaction is open while Stripe is asked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from tokentill.core.keys import used_for_another
from tokentill.core.plans.catalog import Catalog, Offer
from tokentill.core.plans.price_lists import with_price
from tokentill.core.stripe.checkouts import (
    Checkout,
    CheckoutAsked,
    checkout_id_of,
    creation_key,
    session_params,
    web_address,
)
from tokentill.core.stripe.offers import price_for, price_params, product_for, product_params
from tokentill.core.users import User
from tokentill.errors import Conflict, CustomerNotFound, StripeRefused, StripeUnavailable
from tokentill.services.context import Context
from tokentill.services.plans.cataloguing import read_catalog, write
from tokentill.store import checkouts

Json = Mapping[str, Any]


class Stripe(Protocol):
    """Stripe's API as `stripe.calling` speaks it. Objects are plain JSON; `what` is a path like "checkout.sessions".

    Both raise StripeUnavailable, StripeRefused, BadSetting.
    """

    def create(self, what: str, params: Json, *, idempotency_key: str | None = None) -> dict[str, Any]: ...

    def list_all(self, what: str, params: Json | None = None, *, of: str | None = None) -> Iterable[dict[str, Any]]: ...


# --- Checkout ---


def open_checkout(context: Context, stripe: Stripe, asked: CheckoutAsked, idempotency_key: str | None) -> Checkout:
    """Return a checkout at which the user can pay. Asked again with the same key, it is the same session.

    Raises: UnknownPack, UnknownPlan, IdempotencyConflict, StripeRefused (the key may be used again), StripeUnavailable
    (repeat it with the same key).
    """
    checkout_id = checkout_id_of(asked.user, idempotency_key or str(context.new_id()))
    with context.connection() as conn:
        known = checkouts.find(conn, asked.user.user_id, checkout_id)
    if known is None or known.state == "refused":
        offer = _offer_for_sale(context.catalog, asked)
        with context.connection() as conn:
            customer_id = checkouts.customer_of(conn, asked.user.user_id)
            known = checkouts.ask(
                conn,
                Checkout(
                    user_id=asked.user.user_id,
                    checkout_id=checkout_id,
                    request_hash=asked.request_hash,
                    offer_key=offer.key,
                    quantity=asked.quantity,
                    params=session_params(asked, offer, checkout_id=checkout_id, customer_id=customer_id),
                    created_at=context.clock(),
                ),
                now=context.clock(),
            )
    if known.request_hash != asked.request_hash:
        raise used_for_another()
    if known.state == "open":
        return replace(known, is_replay=True)
    return _open(context, stripe, known)


def _open(context: Context, stripe: Stripe, checkout: Checkout) -> Checkout:
    """Have Stripe make the session. It may have before: Stripe then answers the same one, for at least a day.

    Later it would make another, whose buyer cannot have paid the first: its address was never told, and it has expired.
    """
    try:
        session = stripe.create("checkout.sessions", checkout.params, idempotency_key=checkout.stripe_key)
    except StripeRefused as error:
        with context.connection() as conn:
            checkouts.refused(conn, checkout, error.detail, now=context.clock())
        raise
    session_id, url, expires_at = session.get("id"), session.get("url"), session.get("expires_at")
    if not isinstance(session_id, str) or not isinstance(url, str):
        raise StripeUnavailable("Stripe's answer has no session that a buyer could be sent to.")
    with context.connection() as conn:
        return checkouts.opened(
            conn,
            checkout,
            session_id=session_id,
            url=url,
            expires_at=datetime.fromtimestamp(expires_at, UTC) if isinstance(expires_at, int) else None,
            now=context.clock(),
        )


def _offer_for_sale(catalog: Catalog, asked: CheckoutAsked) -> Offer:
    if asked.pack is not None:
        return catalog.pack_for_sale(asked.pack)
    assert asked.plan is not None, asked
    return catalog.plan_for_sale(asked.plan)


# --- The billing portal ---


def open_portal(context: Context, stripe: Stripe, user: User, return_url: str) -> str:
    """Return the address of a portal session, where the user sees invoices and changes cards and plans.

    Each call makes a new one, which lives for minutes. Raises: CustomerNotFound, StripeRefused, StripeUnavailable.
    """
    return_url = web_address(return_url, "return_url")
    with context.connection() as conn:
        customer_id = checkouts.customer_of(conn, user.user_id)
    if customer_id is None:
        raise CustomerNotFound(
            f"{user.name} is no customer in Stripe yet: a first purchase makes one, and "
            "`till stripe link` tells of one that is there already.",
            user_id=user.name,
        )
    session = stripe.create("billing_portal.sessions", {"customer": customer_id, "return_url": return_url})
    url = session.get("url")
    if not isinstance(url, str):
        raise StripeUnavailable("Stripe's answer has no address that the user could be sent to.")
    return url


# --- Products and prices ---


@dataclass(frozen=True, slots=True)
class Step:
    """What syncing found or made for an offer. `stripe_id` is None for what a dry run would make."""

    offer_key: str
    what: Literal["product", "price"]
    is_new: bool
    stripe_id: str | None
    is_change: bool = False  # The catalog did not know that this price sells the offer.


def sync_catalog(
    context: Context, stripe: Stripe, *, actor: str, is_dry_run: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> list[Step]:  # fmt: skip
    """See to it that each offer on sale has a product and a price in Stripe, and write those prices into the catalog.

    Archives nothing and changes nothing in Stripe but to add what is missing. Run again, it finds what it made, also
    after it was cut off between making and writing.

    Raises: StripeRefused, StripeUnavailable, Conflict when the catalog was edited meanwhile (run it again).
    """
    revision, catalog = read_catalog(context)
    products, prices = list(stripe.list_all("products")), list(stripe.list_all("prices"))
    steps: list[Step] = []
    after = catalog
    for offer in catalog.offers():
        if not offer.is_active:
            continue
        found = (
            _found_or_planned(offer, products, prices)
            if is_dry_run
            else _found_or_made(stripe, offer, revision, products, prices)
        )
        for step in found:
            steps.append(step)
            on_step(step)
            if step.what == "price" and step.stripe_id is not None:
                after = with_price(after, offer.key, step.stripe_id)
    if not is_dry_run and write(context, revision, catalog, after, actor=actor) is None:
        raise Conflict("The catalog has been edited meanwhile: run this again; what it made in Stripe will be found.")
    return steps


def _found_or_planned(offer: Offer, products: Sequence[Json], prices: Sequence[Json]) -> list[Step]:
    price = price_for(offer, products, prices)
    if price is not None:
        return [_priced(offer, price["id"], is_new=False)]
    product = product_for(offer, products, prices)
    product_id = None if product is None else product["id"]
    return [Step(offer.key, "product", product is None, product_id), Step(offer.key, "price", True, None, True)]


def _found_or_made(
    stripe: Stripe, offer: Offer, revision: int, products: Sequence[Json], prices: Sequence[Json]
) -> list[Step]:  # fmt: skip
    price = price_for(offer, products, prices)
    if price is not None:
        return [_priced(offer, price["id"], is_new=False)]
    product = product_for(offer, products, prices)
    is_new = product is None
    if product is None:
        params = product_params(offer)
        product = stripe.create("products", params, idempotency_key=creation_key("product", revision, params))
    params = price_params(offer, product["id"])
    made = stripe.create("prices", params, idempotency_key=creation_key("price", revision, params))
    return [Step(offer.key, "product", is_new, product["id"]), _priced(offer, made["id"], is_new=True)]


def _priced(offer: Offer, price_id: str, *, is_new: bool) -> Step:
    return Step(offer.key, "price", is_new, price_id, price_id != offer.stripe_price_id)
