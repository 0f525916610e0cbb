"""What an invoice of a subscription means: a period that was paid, a trial, or a payment that failed.

An invoice's own `period_start` and `period_end` are never believed: they look back. The period is that of its line.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NoReturn

from tokentill.core.plans.catalog import Catalog, Plan
from tokentill.core.stripe.meanings import MoneySeen, PeriodPaid, SubscriptionSeen, Who
from tokentill.core.stripe.payloads import (
    Json,
    cents_of,
    currency_of,
    dig,
    each_once,
    give_up,
    id_of,
    ignore,
    mappings,
    require,
    seen_at,
    shown,
    text_of,
    time_of,
    whole_of,
)
from tokentill.core.stripe.sales import Line, buyer, plan_doubt, plan_sold, read_line


def read_invoice(event: Json, invoice: Json, catalog: Catalog) -> PeriodPaid | SubscriptionSeen:
    """Read a paid invoice: which plan's period does it pay?

    The period is that of the line of a subscription that is no proration. Prorations grant nothing, so of an update
    (`billing_reason` subscription_update) counts only a line that pays a whole period: when the interval changes or
    a trial is ended early, Stripe bills the new period at once, and no other invoice will come for it. A first
    invoice that charges nothing for a plan that costs something tells of a trial.
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

    subscription_id, lines, line, plan = _plan_billed(invoice, currency, catalog)
    raws = mappings(dig(invoice, "lines", "data"))
    if not _is_paid_for(invoice, line, amount_paid, raws):
        if billing_reason != "subscription_create" or plan.price_cents == 0 or line.is_free or line.amount_cents != 0:
            ignore(f"nothing is charged for this period of plan {plan.key}: a trial, or a price of nothing")
        return _trial(event, invoice, subscription_id, lines, line, plan)

    period = require(line.period, "the line of the plan has no period")
    is_whole = period[1] - period[0] >= plan.cycle - timedelta(days=1)
    if billing_reason == "subscription_update" and not is_whole:
        ignore("the update pays a part of a period, and that grants nothing")
    paid_at = time_of(dig(invoice, "status_transitions", "paid_at"))
    occurred_at = paid_at or time_of(event.get("created")) or time_of(invoice.get("created"))
    return PeriodPaid(
        who=_invoice_who(invoice, lines),
        invoice_id=invoice_id,
        subscription_id=subscription_id,
        plan_key=plan.key,
        is_first=billing_reason == "subscription_create",
        period_start=period[0],
        period_end=period[1],
        amount_paid_cents=amount_paid,
        currency=currency,
        payment_id=invoice_payment_id(invoice),
        occurred_at=require(occurred_at, "neither invoice nor event says when it was paid"),
        names=_payment_names(invoice),
        doubts=plan_doubt(plan, line),
    )


def read_failed_invoice(event: Json, invoice: Json, catalog: Catalog) -> SubscriptionSeen:
    """Read an invoice whose payment failed: its subscription is past due, whatever Stripe calls that.

    Its period is not told: what is unpaid starts nothing.
    """
    billing_reason = text_of(invoice.get("billing_reason"))
    if billing_reason not in ("subscription_create", "subscription_cycle"):
        ignore(f"a payment failed for {shown(billing_reason)}: that stops no period of a plan")
    status = invoice.get("status")
    if status not in (None, "open"):
        ignore(f"a payment failed, but the invoice's status is {shown(status)}: nothing is due")
    currency = require(currency_of(invoice.get("currency")), "the invoice has no currency")
    subscription_id, lines, _, plan = _plan_billed(invoice, currency, catalog)
    return SubscriptionSeen(
        who=_invoice_who(invoice, lines),
        subscription_id=subscription_id,
        plan_key=plan.key,
        status="past_due",
        seen_at=seen_at(event),
        occurred_at=time_of(invoice.get("created")) or seen_at(event),
    )


def read_voided_invoice(event: Json, invoice: Json, catalog: Catalog) -> NoReturn:
    ignore("the invoice was voided: it grants nothing and takes nothing; nobody will pay it any more")


def read_invoice_payment(event: Json, told: Json, catalog: Catalog) -> MoneySeen:
    """Read which payment intent or charge paid an invoice; since 2025-03-31 neither of the two names the other."""
    invoice_id = require(id_of(told.get("invoice")), "the invoice payment has no invoice")
    payment = told.get("payment")
    names = each_once(id_of(dig(payment, "payment_intent")), id_of(dig(payment, "charge")))
    if not names and dig(payment, "type") == "payment_record":
        ignore("the invoice was paid outside Stripe: no refund of it will come from here")
    if not names:
        give_up("the invoice payment has neither a payment intent nor a charge")
    return MoneySeen(payment_id=names[0], names=each_once(*names, invoice_id), who=Who(), seen_at=seen_at(event))


def _plan_billed(invoice: Json, currency: str, catalog: Catalog) -> tuple[str, list[Line], Line, Plan]:
    """Return the subscription that the invoice bills, its lines, and which of these is a plan's, and whose."""
    raws = mappings(dig(invoice, "lines", "data"))
    lines = [read_line(raw, currency) for raw in raws if _is_subscription(raw) and not _is_proration(raw)]
    is_cut_off = dig(invoice, "lines", "has_more") is True
    if not lines and not is_cut_off and any(_is_proration(raw) for raw in raws):
        ignore("the invoice has prorations only, and these grant nothing")
    if not lines:
        give_up("the invoice shows no line with a period of a subscription")
    subscription_id = require(_invoice_subscription_id(invoice, lines), "the invoice has no subscription")
    line, plan = plan_sold(lines, invoice_metadata(invoice), catalog, is_cut_off=is_cut_off)
    return subscription_id, lines, line, plan


def _trial(
    event: Json, invoice: Json, subscription_id: str, lines: Iterable[Line], line: Line, plan: Plan
) -> SubscriptionSeen:
    starts_at, ends_at = require(line.period, "the line of the plan has no period")
    return SubscriptionSeen(
        who=_invoice_who(invoice, lines),
        subscription_id=subscription_id,
        plan_key=plan.key,
        status="active",
        stripe_status="trialing",
        seen_at=seen_at(event),
        is_trial=True,
        trial_starts_at=starts_at,
        trial_ends_at=ends_at,
        period_start=starts_at,
        period_end=ends_at,
        occurred_at=starts_at,
    )


def _is_paid_for(invoice: Json, line: Line, amount_paid: int, raws: Iterable[Json]) -> bool:
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


def _invoice_subscription_id(invoice: Json, lines: Iterable[Line]) -> str | None:
    places = [invoice.get("subscription"), dig(invoice, "parent", "subscription_details", "subscription")]
    for line in lines:
        places += [line.raw.get("subscription"), dig(line.raw, "parent", "subscription_item_details", "subscription")]
    return next((found for place in places if (found := id_of(place))), None)


def _invoice_who(invoice: Json, lines: Iterable[Line]) -> Who:
    return buyer(
        (
            *invoice_metadata(invoice),
            *(line.raw.get("metadata") for line in lines),
            dig(invoice, "payment_intent", "metadata"),
        ),
        customer=invoice.get("customer"),
        emails=(invoice.get("customer_email"),),
    )


def invoice_metadata(invoice: object) -> tuple[object, ...]:
    """Return every place of an invoice that carries the subscription's metadata, then its own."""
    return (
        dig(invoice, "subscription_details", "metadata"),
        dig(invoice, "parent", "subscription_details", "metadata"),
        dig(invoice, "subscription", "metadata"),
        dig(invoice, "parent", "subscription_details", "subscription", "metadata"),
        dig(invoice, "metadata"),
    )


def invoice_payment_id(invoice: object) -> str | None:
    """Return the payment intent that paid an invoice, else the charge. None: not told, or paid otherwise."""
    intents, charges = _payments(invoice)
    return next(iter((*intents, *charges)), None)


def _payment_names(invoice: Json) -> tuple[str, ...]:
    intents, charges = _payments(invoice)
    return (*intents, *charges)


def _payments(invoice: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the payment intents and the charges that an invoice names, first what went through."""
    # A payment that failed first stays in the list beside the one that went through.
    payments = sorted(mappings(dig(invoice, "payments", "data")), key=lambda one: one.get("status") != "paid")
    intents = [dig(invoice, "payment_intent"), *(dig(one, "payment", "payment_intent") for one in payments)]
    charges = [dig(invoice, "charge"), *(dig(one, "payment", "charge") for one in payments)]
    charges += [dig(intent, "latest_charge") for intent in intents]
    return each_once(*map(id_of, intents)), each_once(*map(id_of, charges))
