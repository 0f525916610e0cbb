"""What was sold, and to whom: from the lines of a cart, a subscription or an invoice to an offer of the catalog.

A price's own names outrank metadata, which survives a change of plan; amount and rhythm come last. A name is not
believed for a line whose rhythm (28 days, or a year) contradicts it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from tokentill.core.plans.catalog import CYCLE, Catalog, Pack, Plan
from tokentill.core.stripe.meanings import Doubt, Who
from tokentill.core.stripe.payloads import (
    Json,
    currency_of,
    decimal_of,
    dig,
    first_text,
    give_up,
    id_of,
    ignore,
    text_of,
    time_of,
    whole_of,
)

Offer = TypeVar("Offer", Plan, Pack)

USER_FIELDS = ("user_id", "userId")
_SHARED_FIELDS = ("product_key", "price_key", "type", "purchase_type")
_PLAN_FIELDS = ("plan", "plan_key", "plan_id", *_SHARED_FIELDS)
PACK_NAME_FIELDS = ("pack", "pack_key", "pack_id", "token_pack", "token_pack_id", "product_key")
PACK_FIELDS = (*PACK_NAME_FIELDS, *_SHARED_FIELDS)

# "Power Pack", "power_pack" and "power tokens" all name the pack `power`; "annual plan" names an annual plan.
_FILLERS = {"pack", "packs", "plan", "token", "tokens"}

Cadence = Literal["annual", "drip", "other"]
_CADENCES: Mapping[tuple[str | None, int | None], Cadence] = {
    ("day", 28): "drip",
    ("week", 4): "drip",
    ("year", 1): "annual",
    ("month", 12): "annual",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a cart, a subscription or an invoice, as far as it says what was sold."""

    currency: str  # Empty: not said.
    amount_cents: int | None = None  # Before discounts and tax; negative: a credit.
    unit_cents: int | None = None
    is_free: bool = False  # Its price itself is 0, so a line of 0 is no trial.
    quantity: int = 1
    price_names: tuple[str, ...] = ()  # Ids and lookup keys of its price.
    price_metadata: tuple[object, ...] = ()
    cadence: Cadence | None = None  # None: not said.
    period: tuple[datetime, datetime] | None = None
    raw: Json = field(default_factory=dict)


def buyer(
    metadata: Iterable[object], *, customer: object, emails: Iterable[object] = (), reference: object = None
) -> Who:
    """Return every name of a buyer. Of the metadata the first that names a user counts; an expanded customer's last."""
    texts = (text_of(email) for email in (*emails, dig(customer, "email")))
    return Who(
        client_reference_id=text_of(reference),
        metadata_user_id=first_text((*metadata, dig(customer, "metadata")), USER_FIELDS),
        customer_id=id_of(customer),
        email=next((text for text in texts if text is not None), None),
    )


def read_line(raw: Json, currency: str | None) -> Line:
    """Read one line: of a cart, of a subscription's items, or of an invoice. `currency`: that of the whole."""
    expanded = dig(raw, "pricing", "price_details", "price")
    prices = [price for price in (raw.get("price"), raw.get("plan"), expanded) if price]
    quantity = raw.get("quantity")
    names = [name for price in prices for name in (id_of(price), text_of(dig(price, "lookup_key"))) if name]
    units = [whole_of(dig(price, key)) for price in prices for key in ("unit_amount", "amount")]
    # A trial's line may say 0 here, where its price does not.
    units_or_share = (*units, decimal_of(dig(raw, "pricing", "unit_amount_decimal")))
    currencies = (raw.get("currency"), currency, *(dig(price, "currency") for price in prices))
    amount = whole_of(raw.get("amount"))
    start, end = time_of(dig(raw, "period", "start")), time_of(dig(raw, "period", "end"))
    period = (start, end) if start and end and start < end else None
    return Line(
        currency=next((found for one in currencies if (found := currency_of(one))), ""),
        amount_cents=whole_of(raw.get("amount_subtotal")) if amount is None else amount,
        unit_cents=next((unit for unit in units_or_share if unit is not None), None),
        is_free=next((unit for unit in units if unit is not None), None) == 0,
        quantity=1 if quantity is None else whole_of(quantity) or 0,
        price_names=tuple(names),
        price_metadata=tuple(
            metadata for price in prices for metadata in (dig(price, "metadata"), dig(price, "product", "metadata"))
        ),
        cadence=_cadence(prices, period),
        period=period,
        raw=raw,
    )


def _cadence(prices: Iterable[object], period: tuple[datetime, datetime] | None) -> Cadence | None:
    """Say how often a price recurs. Where no interval is given, a period of 28 days or of a year tells it."""
    for price in prices:
        recurring = dig(price, "recurring") or price
        interval = text_of(dig(recurring, "interval"))
        if interval is not None:
            return _CADENCES.get((interval, whole_of(dig(recurring, "interval_count"))), "other")
    if period is None:
        return None
    length = period[1] - period[0]
    if length == CYCLE:
        return "drip"
    return "annual" if length.days in (365, 366) else None


def plan_sold(
    lines: Sequence[Line], metadata: Sequence[object], catalog: Catalog, *, is_cut_off: bool = False
) -> tuple[Line, Plan]:
    """Say which plan was sold, and by which line.

    In this order: the price itself; the name in the line's or the whole payload's metadata; the amount. A price
    outranks a name because the metadata of a subscription outlives a change of its plan; for the same reason a name
    is not believed about a line that recurs in the rhythm of another kind of plan. A price may sell a plan in any
    rhythm, if its own id or metadata names the plan: 28-day drips that are paid by the year.
    """
    plans = list(catalog.plans.values())

    def by_name(line: Line) -> Plan | None:
        fitting = [plan for plan in plans if line.cadence in (None, "other", plan.kind)]
        return offer_named((line.raw.get("metadata"), *metadata), _PLAN_FIELDS, fitting)

    ways: tuple[Callable[[Line], Plan | None], ...] = (
        lambda line: offer_by_price(line, plans, _PLAN_FIELDS),
        by_name,
        lambda line: offer_by_amount(line, [plan for plan in plans if line.cadence in (None, plan.kind)]),
    )
    for way in ways:
        found = [(line, plan) for line in lines if (plan := way(line))]
        if len({plan.key for _, plan in found}) > 1:
            give_up("the payload sells several plans at once")
        if found:
            return max(found, key=lambda one: one[0].amount_cents or 0)
    if is_cut_off:
        give_up("there are more lines than the payload shows, and none of these is a plan of the catalog")
    ignore("no plan of the catalog, or more than one, fits what was sold")


def pack_doubt(pack: Pack, line: Line) -> Doubt | None:
    """Say what does not fit about a sale of packs: its amount before discounts and tax, or its currency."""
    amount = pack.price_cents * line.quantity
    if line.currency == pack.currency and line.amount_cents in (None, amount):
        return None
    what = pack.key if line.quantity == 1 else f"{line.quantity} x {pack.key}"
    found = line.currency if line.amount_cents is None else f"{line.amount_cents:,} {line.currency}"
    return Doubt(expected=f"{amount:,} {pack.currency} for {what}", found=found)


def plan_doubt(plan: Plan, line: Line) -> tuple[Doubt, ...]:
    """Say what does not fit about a plan's price, if anything: its amount, its currency, or that there are several.

    A price in another rhythm than the plan's has its own amount: nothing to compare it with.
    """
    unit = line.unit_cents if line.cadence in (None, plan.kind) else None
    if line.currency == plan.currency and unit in (None, plan.price_cents) and line.quantity == 1:
        return ()
    found = line.currency if line.unit_cents is None else f"{line.unit_cents:,} {line.currency}"
    times = "" if line.quantity == 1 else f"{line.quantity} x "
    return (Doubt(expected=f"{plan.price_cents:,} {plan.currency} for {plan.key}", found=times + found),)


def offer_by_price(line: Line, offers: Sequence[Offer], fields: Sequence[str]) -> Offer | None:
    for name in line.price_names:
        for offer in offers:
            if name == offer.key or name in offer.price_ids:
                return offer
    return offer_named(line.price_metadata, fields, offers)


def offer_by_amount(line: Line, offers: Sequence[Offer]) -> Offer | None:
    """Return the one offer that costs what one piece of the line costs."""
    prices = {line.unit_cents}
    if line.amount_cents is not None and line.quantity > 0 and line.amount_cents % line.quantity == 0:
        prices.add(line.amount_cents // line.quantity)
    found = [
        offer
        for offer in offers
        # A retired offer is known by its name or its price's id; by the amount it would get in its successor's way.
        if offer.is_active and offer.price_cents > 0 and offer.price_cents in prices and offer.currency == line.currency
    ]
    return found[0] if len(found) == 1 else None


def offer_named(metadata: Iterable[object], fields: Sequence[str], offers: Sequence[Offer]) -> Offer | None:
    """Return the first offer that a field of the metadata names, by its key, its name, a price or a short form."""
    for values in metadata:
        for field_name in fields:
            value = text_of(dig(values, field_name))
            if value is not None and (offer := _offer_called(value, offers)):
                return offer
    return None


def _offer_called(value: str, offers: Sequence[Offer]) -> Offer | None:
    called = "".join(_words(value))
    for offer in sorted(offers, key=lambda offer: not offer.is_active):  # A retired one may share its successor's name.
        full_names = ("".join(_words(offer.key)), "".join(_words(offer.name)))
        if value in offer.price_ids or (called and called in full_names):
            return offer
    # A short form is the end of a key that no other key ends in: `annual` for `vision_pro_annual`.
    short = "".join(word for word in _words(value) if word not in _FILLERS)
    found = [offer for offer in offers if short in _endings(offer.key)]
    found = [offer for offer in found if offer.is_active] or found
    return found[0] if len(found) == 1 else None


def _endings(key: str) -> set[str]:
    words = [word for word in _words(key) if word not in _FILLERS]
    return {"".join(words[start:]) for start in range(len(words))}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
