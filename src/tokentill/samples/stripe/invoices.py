"""Invoices of subscriptions, and the events that tell of them."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from tokentill.samples.stripe.envelopes import NEW, ApiVersion, Payload, sibling, whole_event

Interval = tuple[str, int]


def invoice_paid(
    *,
    invoice_id: str,
    subscription_id: str,
    at: datetime,
    period_start: datetime,
    period_end: datetime,
    user_id: str | None,
    billing_reason: str = "subscription_cycle",
    price_id: str = "price_28day",
    interval: Interval = ("day", 28),
    unit_cents: int = 9_900,
    amount_cents: int | None = None,
    discount_cents: int = 0,
    currency: str = "usd",
    payment_intent_id: str | None = None,
    customer_id: str | None = None,
    email: str | None = None,
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "invoice.paid",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a subscription's invoice that was paid, with one line: the period [start, end).

    `unit_cents` is what the price says, `amount_cents` what the line charges (None: the same); a trial's line
    charges 0. `metadata` adds to the subscription's, which names the user. The invoice's own period looks back from
    its making, as Stripe's does: it is not the period that is paid.
    """
    charged = unit_cents if amount_cents is None else amount_cents
    paid = charged - discount_cents
    created, paid_at = int(at.timestamp()), int(at.timestamp()) + 2
    known = ({} if user_id is None else {"user_id": user_id}) | dict(metadata or {})
    is_first = billing_reason == "subscription_create"
    length = int(period_end.timestamp()) - int(period_start.timestamp())
    discounts = [{"amount": discount_cents, "discount": "di_full"}] if discount_cents else []
    line: Payload = {
        "id": sibling("il", invoice_id),
        "object": "line_item",
        "amount": charged,
        "currency": currency,
        "description": "1 x Vision Pro",
        "discount_amounts": discounts,
        "discountable": True,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": False,
        "metadata": dict(known),
        "period": {"start": int(period_start.timestamp()), "end": int(period_end.timestamp())},
        "quantity": 1,
    }
    invoice: Payload = {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "amount_due": paid,
        "amount_paid": paid,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "attempt_count": 1,
        "attempted": True,
        "auto_advance": False,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_reason": billing_reason,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "customer": customer_id,
        "customer_email": email,
        "customer_name": None,
        "customer_tax_exempt": "none",
        "default_payment_method": None,
        "description": None,
        "discounts": [],
        "due_date": None,
        "ending_balance": 0,
        "lines": {
            "object": "list",
            "data": [line],
            "has_more": False,
            "total_count": 1,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": False,
        "metadata": {},
        "number": None,
        "period_start": created if is_first else created - length,
        "period_end": created,
        "starting_balance": 0,
        "status": "paid",
        "status_transitions": {
            "finalized_at": created,
            "marked_uncollectible_at": None,
            "paid_at": paid_at,
            "voided_at": None,
        },
        "subtotal": charged,
        "subtotal_excluding_tax": charged,
        "test_clock": None,
        "total": paid,
        "total_discount_amounts": [dict(one) for one in discounts],
        "total_excluding_tax": paid,
    }
    payment_intent = (payment_intent_id or sibling("pi", invoice_id)) if paid > 0 else None
    if api_version != NEW:
        line |= _old_line(subscription_id, price_id, interval, unit_cents, currency)
        invoice |= {
            "charge": sibling("ch", invoice_id) if payment_intent else None,
            "paid": True,
            "paid_out_of_band": False,
            "payment_intent": payment_intent,
            "subscription": subscription_id,
            "subscription_details": {"metadata": known},
            "tax": None,
            "total_tax_amounts": [],
        }
    else:
        line |= _new_line(subscription_id, price_id, unit_cents)
        invoice |= {
            "parent": {
                "type": "subscription_details",
                "quote_details": None,
                "subscription_details": {"metadata": known, "subscription": subscription_id},
            },
            "payments": {
                "object": "list",
                "data": [invoice_payment_object(invoice_id, payment_intent, paid, currency, created)]
                if payment_intent
                else [],
                "has_more": False,
            },
            "total_taxes": None,
        }
    return whole_event(event_type, invoice, at=at, event_id=event_id, api_version=api_version)


def invoice_failed(
    paid: Payload,
    *,
    at: datetime | None = None,
    attempt_count: int = 1,
    status: Literal["open", "void", "uncollectible"] = "open",
    event_type: str = "invoice.payment_failed",
    event_id: str | None = None,
) -> Payload:
    """Build the event of an invoice whose payment failed, from the event that `invoice_paid` makes of it once paid.

    With `status="void"` and `event_type="invoice.voided"`: of one that nobody will pay any more. `at` None: when the
    invoice was made.
    """
    invoice: Payload = copy.deepcopy(paid["data"]["object"])
    made_at = at or datetime.fromtimestamp(invoice["created"], UTC)
    invoice |= {
        "amount_paid": 0,
        "amount_remaining": invoice["amount_due"],
        "attempt_count": attempt_count,
        "next_payment_attempt": int(made_at.timestamp()) + 259_200 if status == "open" else None,
        "status": status,
    }
    invoice["status_transitions"] |= {"paid_at": None}
    if status == "void":
        invoice["status_transitions"] |= {"voided_at": int(made_at.timestamp())}
    if "payments" in invoice:
        for payment in invoice["payments"]["data"]:
            payment |= {"amount_paid": None, "status": "open" if status == "open" else "canceled"}
            payment["status_transitions"] |= {"paid_at": None}
    else:
        invoice["paid"] = False
    return whole_event(
        event_type,
        invoice,
        at=made_at,
        event_id=event_id,
        api_version=paid["api_version"],
        snapshot=str(attempt_count),
    )


def invoice_payment(
    *,
    invoice_id: str,
    payment_intent_id: str,
    at: datetime,
    amount_cents: int = 9_900,
    currency: str = "usd",
    api_version: ApiVersion = NEW,
    event_type: str = "invoice_payment.paid",
    event_id: str | None = None,
) -> Payload:
    """Build the event that tells which payment intent paid an invoice. Versions before 2025-03-31 have none."""
    payment = invoice_payment_object(invoice_id, payment_intent_id, amount_cents, currency, int(at.timestamp()))
    return whole_event(event_type, payment, at=at, event_id=event_id, api_version=api_version)


def _old_line(subscription_id: str, price_id: str, interval: Interval, unit_cents: int, currency: str) -> Payload:
    every, count = interval
    return {
        "plan": {
            "id": price_id,
            "object": "plan",
            "active": True,
            "amount": unit_cents,
            "currency": currency,
            "interval": every,
            "interval_count": count,
        },
        "price": {
            "id": price_id,
            "object": "price",
            "active": True,
            "billing_scheme": "per_unit",
            "currency": currency,
            "lookup_key": None,
            "metadata": {},
            "product": sibling("prod", price_id),
            "recurring": {"interval": every, "interval_count": count, "usage_type": "licensed"},
            "type": "recurring",
            "unit_amount": unit_cents,
            "unit_amount_decimal": str(unit_cents),
        },
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": subscription_id,
        "subscription_item": sibling("si", subscription_id),
        "tax_amounts": [],
        "tax_rates": [],
        "type": "subscription",
    }


def _new_line(subscription_id: str, price_id: str, unit_cents: int) -> Payload:
    return {
        "parent": {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": None,
                "subscription": subscription_id,
                "subscription_item": sibling("si", subscription_id),
            },
        },
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price_id, "product": sibling("prod", price_id)},
            "unit_amount_decimal": str(unit_cents),
        },
        "taxes": [],
    }


def invoice_payment_object(
    invoice_id: str, payment_intent: str, paid_cents: int, currency: str, created: int
) -> Payload:
    return {
        "id": sibling("inpay", invoice_id),
        "object": "invoice_payment",
        "amount_paid": paid_cents,
        "amount_requested": paid_cents,
        "created": created,
        "currency": currency,
        "invoice": invoice_id,
        "is_default": True,
        "livemode": False,
        "payment": {"type": "payment_intent", "payment_intent": payment_intent},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": created + 2},
    }
