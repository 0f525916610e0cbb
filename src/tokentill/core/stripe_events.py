"""What a Stripe event means for the till: from a payload to an intention, to `Ignored` or to `Unclear`.

The receiving service calls `interpret` on each event of the inbox and does what the intention says. Payloads are
read as every API version from 2020-08-27 to 2026 writes them: ids may be expanded objects, and what an invoice says
of its subscription, payment and prices has moved over the years. Nothing here raises for what a payload holds: it
is the world's, and the inbox must be able to keep it.

Two sources are never believed: the `tokens` that metadata names (the catalog says how many), and an invoice's own
`period_start` and `period_end` (they look back: the paid period is that of its line).

Units: `cents_of` whole minor units of `currency` (lower case ISO 4217).
Times: aware UTC.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tokentill.core.catalog import Catalog, Pack
from tokentill.core.stripe_payloads import (
    QUANTITY_MAX,
    Ignored,
    Json,
    Settled,
    Unclear,
    cents_of,
    currency_of,
    dig,
    first_text,
    give_up,
    id_of,
    ignore,
    mappings,
    require,
    shown,
    text_of,
    time_of,
    whole_of,
)
from tokentill.core.stripe_sales import (
    PACK_FIELDS,
    PACK_NAME_FIELDS,
    USER_FIELDS,
    Line,
    offer_by_amount,
    offer_by_price,
    offer_named,
    plan_sold,
    read_line,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Every name that a payload gives its buyer."""

    client_reference_id: str | None = None
    metadata_user_id: str | None = None
    customer_id: str | None = None
    email: str | None = None

    @property
    def user_id(self) -> str | None:
        """The app's own id of the buyer. None: only a customer that is known already can say who it is."""
        return self.client_reference_id or self.metadata_user_id


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPaid:
    """One checkout of token packs was paid."""

    who: Who
    session_id: str
    payment_id: str  # The payment intent, else the session: a checkout that cost nothing has no intent.
    items: tuple[tuple[str, int], ...]  # (pack key, quantity), each pack once, in the order of the cart.
    amount_paid_cents: int  # For the whole cart, after discounts, with tax.
    currency: str
    occurred_at: datetime
    stripe_invoice_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStarted:
    """A checkout began a plan and was paid. Its period is not known yet: `occurred_at` is the provisional start."""

    who: Who
    session_id: str
    subscription_id: str
    invoice_id: str | None = None
    plan_key: str
    amount_paid_cents: int
    currency: str
    payment_id: str | None = None
    occurred_at: datetime  # When the session was created.


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodPaid:
    """A period of a plan was paid, be it with money, with credit or with a discount."""

    who: Who
    invoice_id: str
    subscription_id: str
    plan_key: str
    is_first: bool
    period_start: datetime
    period_end: datetime  # Exclusive.
    amount_paid_cents: int
    currency: str
    payment_id: str | None = None  # A payment intent, else a charge.
    occurred_at: datetime


Intention = PackPaid | SubscriptionStarted | PeriodPaid


def interpret(event: Json, catalog: Catalog) -> Intention | Ignored | Unclear:
    """Say what a Stripe event asks of the till, given what is sold.

    A checkout counts once it is paid: `checkout.session.completed` with an unpaid session waits for
    `checkout.session.async_payment_succeeded`, which means the same. `invoice.paid` and `invoice.payment_succeeded`
    are one fact told twice and give equal intentions (but for `occurred_at`, if the invoice does not say when).

    Raises: nothing, whatever the event holds.
    """
    event_type = dig(event, "type")
    if not isinstance(event_type, str):
        return Unclear(reason="the event has no type")
    read = _READERS.get(event_type)
    if read is None:
        return Ignored(reason=f"{shown(event_type)} is stored, and not acted on")
    payload = dig(event, "data", "object")
    if not isinstance(payload, Mapping):
        return Unclear(reason="the event has no data.object")
    try:
        return read(event, payload, catalog)
    except Settled as settled:
        return settled.answer


def describe(meaning: Intention | Ignored | Unclear) -> str:
    """Return one line for a log: "pack power for user-0001, $99.00". Holds ids, never an e-mail address."""
    match meaning:
        case PackPaid():
            packs = " + ".join(key if count == 1 else f"{count} x {key}" for key, count in meaning.items)
            return f"pack {packs} for {_buyer(meaning.who)}, {_money(meaning.amount_paid_cents, meaning.currency)}"
        case SubscriptionStarted():
            paid = _money(meaning.amount_paid_cents, meaning.currency)
            return f"start of plan {meaning.plan_key} for {_buyer(meaning.who)}, {paid}"
        case PeriodPaid():
            paid = _money(meaning.amount_paid_cents, meaning.currency)
            which = "first period" if meaning.is_first else "period"
            days = f"{meaning.period_start:%Y-%m-%d} to {meaning.period_end:%Y-%m-%d}"
            return f"{which} of plan {meaning.plan_key} for {_buyer(meaning.who)}, {days}, {paid}"
        case Ignored():
            return f"ignored: {meaning.reason}"
    return f"unclear: {meaning.reason}"


# --- Checkout sessions ---


def _read_session(event: Json, session: Json, catalog: Catalog) -> Intention:
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


def _read_pack_sale(event: Json, session: Json, catalog: Catalog) -> PackPaid:
    session_id = require(id_of(session.get("id")), "the session has no id")
    currency = require(currency_of(session.get("currency")), "the session has no currency")
    amount_paid = require(cents_of(session.get("amount_total")), "the session has no amount_total")
    created_at = time_of(event.get("created")) or time_of(session.get("created"))
    return PackPaid(
        who=_session_who(session),
        session_id=session_id,
        payment_id=id_of(session.get("payment_intent")) or session_id,
        items=_packs_sold(session, currency, catalog),
        amount_paid_cents=amount_paid,
        currency=currency,
        occurred_at=require(created_at, "neither event nor session says when it was created"),
        stripe_invoice_id=id_of(session.get("invoice")),
    )


def _packs_sold(session: Json, currency: str, catalog: Catalog) -> tuple[tuple[str, int], ...]:
    """Say which packs were bought, and how many of each.

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
        subtotal = cents_of(session.get("amount_subtotal"))
        if named := offer_named(metadata, PACK_FIELDS, packs):
            proven = 1 if cart else _times(named, subtotal, currency)
            found = [(cart[0] if len(cart) == 1 else Line(currency, quantity=proven), named)]
        elif unknown := first_text(metadata, PACK_NAME_FIELDS):
            ignore(f"the catalog has no pack {shown(unknown)}")
        else:
            lines = cart or [Line(currency, amount_cents=subtotal)]
            found = [(line, pack) for line in lines if (pack := offer_by_amount(line, packs))]
    if not found:
        ignore("no pack of the catalog, or more than one, fits what was sold")

    counts: dict[str, int] = {}
    for line, pack in found:
        counts[pack.key] = counts.get(pack.key, 0) + line.quantity
    if not all(1 <= count <= QUANTITY_MAX for count in counts.values()):
        give_up("a quantity of packs is out of range")
    return tuple(counts.items())


def _times(pack: Pack, subtotal: int | None, currency: str) -> int:
    if subtotal and currency == pack.currency and pack.price_cents > 0 and subtotal % pack.price_cents == 0:
        return subtotal // pack.price_cents
    return 1


def _read_subscription_start(event: Json, session: Json, catalog: Catalog) -> SubscriptionStarted:
    """Read a checkout in mode subscription; the metadata of a pack means nothing here.

    A subtotal of nothing, or a subscription that says so, is a trial and no paid period. A discount of 100 % leaves
    the subtotal as it was, and counts as paid.
    """
    session_id = require(id_of(session.get("id")), "the session has no id")
    subscription = session.get("subscription")
    subscription_id = require(id_of(subscription), "the session has no subscription")
    currency = require(currency_of(session.get("currency")), "the session has no currency")
    amount_paid = require(cents_of(session.get("amount_total")), "the session has no amount_total")
    created_at = time_of(session.get("created")) or time_of(event.get("created"))
    subtotal = cents_of(session.get("amount_subtotal"))
    subtotal = amount_paid if subtotal is None else subtotal
    if subtotal == 0 or dig(subscription, "status") == "trialing":
        ignore("the subscription starts with a trial, or costs nothing: no period is paid")

    cart = _cart(session, currency) or [
        read_line(raw, currency) for raw in mappings(dig(subscription, "items", "data"))
    ]
    metadata = (dig(session, "metadata"), dig(subscription, "metadata"))
    line, plan = plan_sold(cart or [Line(currency, amount_cents=subtotal)], metadata, catalog)
    if line.amount_cents == 0:
        ignore(f"plan {plan.key} starts with a trial: no period is paid")
    return SubscriptionStarted(
        who=_session_who(session),
        session_id=session_id,
        subscription_id=subscription_id,
        invoice_id=id_of(session.get("invoice")),
        plan_key=plan.key,
        amount_paid_cents=amount_paid,
        currency=currency,
        payment_id=id_of(session.get("payment_intent")) or _invoice_payment_id(session.get("invoice")),
        occurred_at=require(created_at, "neither session nor event says when it was created"),
    )


def _cart(session: Json, currency: str) -> list["Line"]:
    """Return the session's line items: none unless someone expanded them."""
    if dig(session, "line_items", "has_more") is True:
        give_up("the session has more line items than the payload shows")
    return [read_line(raw, currency) for raw in mappings(dig(session, "line_items", "data"))]


def _session_who(session: Json) -> Who:
    return Who(
        client_reference_id=text_of(session.get("client_reference_id")),
        metadata_user_id=first_text(
            (
                dig(session, "metadata"),
                dig(session, "subscription", "metadata"),
                dig(session, "payment_intent", "metadata"),
                *_invoice_metadata(session.get("invoice")),
                dig(session, "customer", "metadata"),
            ),
            USER_FIELDS,
        ),
        customer_id=id_of(session.get("customer")),
        email=text_of(dig(session, "customer_details", "email"))
        or text_of(session.get("customer_email"))
        or text_of(dig(session, "customer", "email")),
    )


# --- Invoices ---


def _read_invoice(event: Json, invoice: Json, catalog: Catalog) -> PeriodPaid:
    """Read a paid invoice: which plan's period does it pay?

    The period is that of the line of a subscription that is no proration. Prorations grant nothing, so of an update
    (`billing_reason` subscription_update) counts only a line that pays a whole period: when the interval changes or
    a trial is ended early, Stripe bills the new period at once, and no other invoice will come for it.
    """
    billing_reason = require(text_of(invoice.get("billing_reason")), "the invoice has no billing_reason")
    if billing_reason not in ("subscription_create", "subscription_cycle", "subscription_update"):
        ignore(f"an invoice for {shown(billing_reason)} pays no period of a plan")
    status = invoice.get("status")
    if status in ("draft", "open", "uncollectible", "void"):
        ignore(f"the invoice's status is {shown(status)}; waits until it is paid")
    if status not in (None, "paid"):
        give_up(f"the invoice's status is {shown(status)}")
    invoice_id = require(id_of(invoice.get("id")), "the invoice has no id")
    currency = require(currency_of(invoice.get("currency")), "the invoice has no currency")
    amount_paid = require(cents_of(invoice.get("amount_paid")), "the invoice has no amount_paid")

    raws = mappings(dig(invoice, "lines", "data"))
    lines = [read_line(raw, currency) for raw in raws if _is_subscription(raw) and not _is_proration(raw)]
    is_cut_off = dig(invoice, "lines", "has_more") is True
    if not lines and not is_cut_off and any(_is_proration(raw) for raw in raws):
        ignore("the invoice has prorations only, and these grant nothing")
    if not lines:
        give_up("the invoice shows no line with a period of a subscription")
    subscription_id = require(_invoice_subscription_id(invoice, lines), "the invoice has no subscription")
    line, plan = plan_sold(lines, _invoice_metadata(invoice), catalog, is_cut_off=is_cut_off)
    if not _is_paid_for(invoice, line, amount_paid, raws):
        ignore(f"nothing is charged for this period of plan {plan.key}: a trial, or a price of nothing")

    period = require(line.period, "the line of the plan has no period")
    is_whole = period[1] - period[0] >= plan.cycle - timedelta(days=1)
    if billing_reason == "subscription_update" and not is_whole:
        ignore("the update pays a part of a period, and that grants nothing")
    paid_at = time_of(dig(invoice, "status_transitions", "paid_at"))
    occurred_at = paid_at or time_of(event.get("created")) or time_of(invoice.get("created"))
    return PeriodPaid(
        who=Who(
            metadata_user_id=first_text(
                (
                    *_invoice_metadata(invoice),
                    *(line.raw.get("metadata") for line in lines),
                    dig(invoice, "payment_intent", "metadata"),
                    dig(invoice, "customer", "metadata"),
                ),
                USER_FIELDS,
            ),
            customer_id=id_of(invoice.get("customer")),
            email=text_of(invoice.get("customer_email")) or text_of(dig(invoice, "customer", "email")),
        ),
        invoice_id=invoice_id,
        subscription_id=subscription_id,
        plan_key=plan.key,
        is_first=billing_reason == "subscription_create",
        period_start=period[0],
        period_end=period[1],
        amount_paid_cents=amount_paid,
        currency=currency,
        payment_id=_invoice_payment_id(invoice),
        occurred_at=require(occurred_at, "neither invoice nor event says when it was paid"),
    )


def _is_paid_for(invoice: Json, line: "Line", amount_paid: int, raws: Iterable[Json]) -> bool:
    """Say whether the line's period was paid, which an amount of 0 does not deny.

    A line that charges something counts when something covers it: money, the customer's credit (`total` is above
    what was paid), a discount, or credits for unused time (a negative line). A line of 0 is a trial, whatever else
    the invoice charges, unless a discount as large as the price explains it.
    """
    discounts = max(
        sum(cents_of(discount.get("amount")) or 0 for discount in mappings(listed))
        for listed in (invoice.get("total_discount_amounts"), line.raw.get("discount_amounts"))
    )
    price = (line.unit_cents or 0) * line.quantity
    charged = line.amount_cents
    if charged is None:
        charged = amount_paid if line.unit_cents is None else price
    if charged > 0:
        has_credits = any((whole_of(raw.get("amount")) or 0) < 0 for raw in raws)
        return amount_paid > 0 or (whole_of(invoice.get("total")) or 0) > 0 or discounts > 0 or has_credits
    return 0 < price <= discounts


def _is_subscription(raw: Json) -> bool:
    parent = raw.get("parent")
    if isinstance(parent, Mapping):
        return isinstance(parent.get("subscription_item_details"), Mapping)
    line_type = raw.get("type")
    if isinstance(line_type, str):
        return line_type == "subscription"
    return id_of(raw.get("subscription")) is not None


def _is_proration(raw: Json) -> bool:
    return (
        raw.get("proration") is True
        or dig(raw, "parent", "subscription_item_details", "proration") is True
        or dig(raw, "parent", "invoice_item_details", "proration") is True
    )


def _invoice_subscription_id(invoice: Json, lines: Iterable["Line"]) -> str | None:
    places = [invoice.get("subscription"), dig(invoice, "parent", "subscription_details", "subscription")]
    for line in lines:
        places += [line.raw.get("subscription"), dig(line.raw, "parent", "subscription_item_details", "subscription")]
    return next((found for place in places if (found := id_of(place))), None)


def _invoice_metadata(invoice: object) -> tuple[object, ...]:
    """Return every place of an invoice that carries the subscription's metadata, then its own."""
    return (
        dig(invoice, "subscription_details", "metadata"),
        dig(invoice, "parent", "subscription_details", "metadata"),
        dig(invoice, "subscription", "metadata"),
        dig(invoice, "parent", "subscription_details", "subscription", "metadata"),
        dig(invoice, "metadata"),
    )


def _invoice_payment_id(invoice: object) -> str | None:
    # A payment that failed first stays in the list beside the one that went through.
    payments = sorted(mappings(dig(invoice, "payments", "data")), key=lambda one: one.get("status") != "paid")
    places = [dig(invoice, "payment_intent"), *(dig(one, "payment", "payment_intent") for one in payments)]
    places += [dig(invoice, "charge"), *(dig(one, "payment", "charge") for one in payments)]
    return next((found for place in places if (found := id_of(place))), None)


# Stripe counts these in whole units: https://docs.stripe.com/currencies#zero-decimal
_ZERO_DECIMAL = re.compile("bif|clp|djf|gnf|jpy|kmf|krw|mga|pyg|rwf|ugx|vnd|vuv|xaf|xof|xpf")


def _buyer(who: Who) -> str:
    # As it may be quoted: an id with a line break in it would forge a second line of the log.
    return shown(who.user_id or who.customer_id or "an unknown user")


def _money(cents: int, currency: str) -> str:
    if _ZERO_DECIMAL.fullmatch(currency):
        return f"{cents:,} {currency.upper()}"
    amount = f"{cents // 100:,}.{cents % 100:02}"
    return f"${amount}" if currency == "usd" else f"{amount} {currency.upper()}"


_READERS: Mapping[str, Callable[[Json, Json, Catalog], Intention]] = {
    "checkout.session.completed": _read_session,
    "checkout.session.async_payment_succeeded": _read_session,
    "invoice.paid": _read_invoice,
    "invoice.payment_succeeded": _read_invoice,
}
