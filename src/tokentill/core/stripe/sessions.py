"""What a Checkout Session means: packs that were paid for, a plan that began, or a trial of one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from tokentill.core.plans.catalog import Catalog, Pack, Plan
from tokentill.core.stripe.invoices import invoice_metadata, invoice_payment_id
from tokentill.core.stripe.meanings import Doubt, PackPaid, SubscriptionSeen, SubscriptionStarted, Who
from tokentill.core.stripe.payloads import (
    QUANTITY_MAX,
    Json,
    cents_of,
    currency_of,
    dig,
    first_text,
    give_up,
    id_of,
    ignore,
    mappings,
    require,
    seen_at,
    shown,
    text_of,
    time_of,
)
from tokentill.core.stripe.sales import (
    PACK_FIELDS,
    PACK_NAME_FIELDS,
    Line,
    buyer,
    offer_by_amount,
    offer_by_price,
    offer_named,
    pack_doubt,
    plan_doubt,
    plan_sold,
    read_line,
)


def read_session(event: Json, session: Json, catalog: Catalog) -> PackPaid | SubscriptionStarted | SubscriptionSeen:
    """Read a session that was completed, or whose late payment came through: what did it sell?"""
    payment_status = text_of(session.get("payment_status"))
    mode = text_of(session.get("mode"))
    if mode == "setup":
        ignore("a checkout in mode setup sells nothing")
    if payment_status == "unpaid":
        ignore("payment_status is unpaid; waits for checkout.session.async_payment_succeeded")
    if payment_status not in ("paid", "no_payment_required"):
        give_up(f"the session's payment_status is {shown(payment_status)}")
    if mode == "payment":
        return _read_pack_sale(event, session, catalog)
    if mode == "subscription":
        return _read_subscription_start(event, session, catalog)
    give_up(f"the session's mode is {shown(mode)}")


def read_failed_session(event: Json, session: Json, catalog: Catalog) -> NoReturn:
    ignore("the payment of this checkout failed: it grants nothing and takes nothing; a later success still counts")


def read_expired_session(event: Json, session: Json, catalog: Catalog) -> NoReturn:
    ignore("the checkout expired: it grants nothing and takes nothing; a later success still counts")


def session_without_cart(event: Json, catalog: Catalog) -> str | None:
    """Return the id of a paid session that does not show what was in its cart, and that nothing else proves.

    Stripe's own events never show it. A pack that metadata names is proven by a subtotal of k times its price.
    """
    session = dig(event, "data", "object")
    if event.get("type") not in _PAID or not isinstance(session, Mapping):
        return None
    if session.get("mode") != "payment" or session.get("payment_status") not in ("paid", "no_payment_required"):
        return None
    if isinstance(session.get("line_items"), Mapping):
        return None
    metadata = (dig(session, "metadata"), dig(session, "payment_intent", "metadata"))
    if named := offer_named(metadata, PACK_FIELDS, list(catalog.packs.values())):
        whole = _whole(session, currency_of(session.get("currency")) or "")
        amount = whole.amount_cents
        proves = amount and whole.currency == named.currency and named.price_cents and amount % named.price_cents == 0
        return None if proves else id_of(session.get("id"))
    return None if first_text(metadata, PACK_NAME_FIELDS) else id_of(session.get("id"))


_PAID = ("checkout.session.completed", "checkout.session.async_payment_succeeded")


def _read_pack_sale(event: Json, session: Json, catalog: Catalog) -> PackPaid:
    session_id = require(id_of(session.get("id")), "the session has no id")
    currency = require(currency_of(session.get("currency")), "the session has no currency")
    amount_paid = require(cents_of(session.get("amount_total")), "the session has no amount_total")
    created_at = time_of(event.get("created")) or time_of(session.get("created"))
    items, doubts = _packs_sold(session, currency, catalog)
    return PackPaid(
        who=_session_who(session),
        session_id=session_id,
        payment_id=id_of(session.get("payment_intent")) or session_id,
        items=items,
        amount_paid_cents=amount_paid,
        currency=currency,
        occurred_at=require(created_at, "neither event nor session says when it was created"),
        stripe_invoice_id=id_of(session.get("invoice")),
        charge_id=id_of(dig(session, "payment_intent", "latest_charge")),
        doubts=doubts,
    )


def _packs_sold(
    session: Json, currency: str, catalog: Catalog
) -> tuple[tuple[tuple[str, int], ...], tuple[Doubt, ...]]:
    """Say which packs were bought, how many of each, and what does not fit the catalog about it.

    In this order: the prices of the cart, where it is expanded; the name in metadata; the amount before discounts
    and tax. A name the catalog does not know ends the search before the amount: many things cost $99 once.
    The metadata of a plan means nothing here, nor does a `quantity` in metadata: the subtotal proves the quantity
    (k times the price of the named pack), or nothing does.
    """
    packs = list(catalog.packs.values())
    cart = _cart(session, currency)
    found = [(line, pack) for line in cart if (pack := offer_by_price(line, packs, PACK_FIELDS))]
    if not found:
        metadata = (dig(session, "metadata"), dig(session, "payment_intent", "metadata"))
        whole = _whole(session, currency)
        if named := offer_named(metadata, PACK_FIELDS, packs):
            fitting = [line for line in cart if offer_by_amount(line, [named])]
            lines = fitting or (cart if len(cart) == 1 else [whole if cart else _proven(named, whole)])
            found = [(line, named) for line in lines]
        elif unknown := first_text(metadata, PACK_NAME_FIELDS):
            ignore(f"the catalog has no pack {shown(unknown)}")
        else:
            found = [(line, pack) for line in cart or [whole] if (pack := offer_by_amount(line, packs))]
    if not found:
        ignore("no pack of the catalog, or more than one, fits what was sold")

    counts: dict[str, int] = {}
    for line, pack in found:
        counts[pack.key] = counts.get(pack.key, 0) + line.quantity
    if not all(1 <= count <= QUANTITY_MAX for count in counts.values()):
        give_up("a quantity of packs is out of range")
    doubts = tuple(doubt for line, pack in found if (doubt := pack_doubt(pack, line)))
    return tuple(counts.items()), doubts


def _whole(session: Json, currency: str) -> Line:
    """Return the whole session as one line: its subtotal, as it was before Stripe itself converted the currency."""
    conversion = session.get("currency_conversion")
    source = currency_of(dig(conversion, "source_currency"))
    if source is not None and source != currency:
        return Line(source, amount_cents=cents_of(dig(conversion, "amount_subtotal")))
    return Line(currency, amount_cents=cents_of(session.get("amount_subtotal")))


def _proven(pack: Pack, whole: Line) -> Line:
    amount = whole.amount_cents
    if amount and whole.currency == pack.currency and pack.price_cents > 0 and amount % pack.price_cents == 0:
        return replace(whole, quantity=amount // pack.price_cents)
    return whole


def _read_subscription_start(event: Json, session: Json, catalog: Catalog) -> SubscriptionStarted | SubscriptionSeen:
    """Read a checkout in mode subscription; the metadata of a pack means nothing here.

    A subtotal of nothing, or a subscription that says so, is a trial and no paid period. A discount of 100 % leaves
    the subtotal as it was, and counts as paid.
    """
    session_id = require(id_of(session.get("id")), "the session has no id")
    subscription = session.get("subscription")
    subscription_id = require(id_of(subscription), "the session has no subscription")
    currency = require(currency_of(session.get("currency")), "the session has no currency")
    amount_paid = require(cents_of(session.get("amount_total")), "the session has no amount_total")
    created_at = require(
        time_of(session.get("created")) or time_of(event.get("created")),
        "neither session nor event says when it was created",
    )
    subtotal = cents_of(session.get("amount_subtotal"))
    subtotal = amount_paid if subtotal is None else subtotal
    cart = _cart(session, currency) or [
        read_line(raw, currency) for raw in mappings(dig(subscription, "items", "data"))
    ]
    metadata = (dig(session, "metadata"), dig(subscription, "metadata"))
    line, plan = plan_sold(cart or [Line(currency, amount_cents=subtotal)], metadata, catalog)
    if 0 in (subtotal, line.amount_cents) or dig(subscription, "status") == "trialing":
        return _trial(event, session, subscription_id, plan, line, created_at)
    return SubscriptionStarted(
        who=_session_who(session),
        session_id=session_id,
        subscription_id=subscription_id,
        invoice_id=id_of(session.get("invoice")),
        plan_key=plan.key,
        amount_paid_cents=amount_paid,
        currency=currency,
        payment_id=id_of(session.get("payment_intent")) or invoice_payment_id(session.get("invoice")),
        occurred_at=created_at,
        doubts=plan_doubt(plan, line),
    )


def _trial(
    event: Json, session: Json, subscription_id: str, plan: Plan, line: Line, created_at: datetime
) -> SubscriptionSeen:
    subscription = session.get("subscription")
    status, ends_at = dig(subscription, "status"), time_of(dig(subscription, "trial_end"))
    if plan.price_cents == 0 or line.is_free or (status == "active" and ends_at is None):
        ignore(f"plan {plan.key} is sold for nothing and without a trial: no period is paid")
    return SubscriptionSeen(
        who=_session_who(session),
        subscription_id=subscription_id,
        plan_key=plan.key,
        status="active",
        stripe_status="trialing",
        seen_at=seen_at(event),
        is_trial=True,
        trial_starts_at=time_of(dig(subscription, "trial_start")),
        trial_ends_at=ends_at,
        occurred_at=created_at,
    )


def _cart(session: Json, currency: str) -> list[Line]:
    """Return the session's line items: none unless someone expanded them."""
    if dig(session, "line_items", "has_more") is True:
        give_up("the session has more line items than the payload shows")
    return [read_line(raw, currency) for raw in mappings(dig(session, "line_items", "data"))]


def _session_who(session: Json) -> Who:
    return buyer(
        (
            dig(session, "metadata"),
            dig(session, "subscription", "metadata"),
            dig(session, "payment_intent", "metadata"),
            *invoice_metadata(session.get("invoice")),
        ),
        reference=session.get("client_reference_id"),
        customer=session.get("customer"),
        emails=(dig(session, "customer_details", "email"), session.get("customer_email")),
    )
