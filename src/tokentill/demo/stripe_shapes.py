"""Stripe events as Stripe would send them, built by hand: for the demo, the tests and a dry run of a webhook.

Two API versions, because what an invoice says of its subscription, payment and prices moved between them: `OLD`
(2024-04-10) and `NEW` (2026-06-24.dahlia). Each builder returns a whole event, fresh dicts all through, so that a
test may bend one field and keep the rest.

Nothing here asks for the time: every moment comes in. Units: `_cents` whole minor units. Times: aware UTC.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

ApiVersion = Literal["2024-04-10", "2026-06-24.dahlia"]
OLD: ApiVersion = "2024-04-10"
NEW: ApiVersion = "2026-06-24.dahlia"

Payload = dict[str, Any]
PaymentStatus = Literal["paid", "unpaid", "no_payment_required"]
Interval = tuple[str, int]


def checkout_pack(
    *,
    session_id: str,
    at: datetime,
    user_id: str | None,
    pack_key: str | None = "power",
    amount_cents: int = 9_900,
    discount_cents: int = 0,
    currency: str = "usd",
    payment_intent_id: str | None = None,
    customer_id: str | None = None,
    email: str | None = None,
    payment_status: PaymentStatus = "paid",
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "checkout.session.completed",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a checkout of token packs.

    `amount_cents` is the price before the discount. The metadata names the user and, unless `pack_key` is None, the
    pack; `metadata` adds to it. A session that is paid gets a payment intent, made up from its id if none is given.
    """
    named = {"user_id": user_id, "pack_id": pack_key}
    session = _session(
        session_id=session_id,
        at=at,
        user_id=user_id,
        mode="payment",
        amount_cents=amount_cents,
        discount_cents=discount_cents,
        currency=currency,
        customer_id=customer_id,
        email=email,
        payment_status=payment_status,
        metadata={key: value for key, value in named.items() if value is not None} | dict(metadata or {}),
        api_version=api_version,
    )
    if payment_status != "no_payment_required":
        session["payment_intent"] = payment_intent_id or _sibling("pi", session_id)
    return _event(event_type, session, at=at, event_id=event_id, api_version=api_version)


def checkout_subscription(
    *,
    session_id: str,
    subscription_id: str,
    at: datetime,
    user_id: str | None,
    invoice_id: str | None = None,
    plan_key: str | None = None,
    amount_cents: int = 9_900,
    discount_cents: int = 0,
    currency: str = "usd",
    customer_id: str | None = None,
    email: str | None = None,
    payment_status: PaymentStatus = "paid",
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "checkout.session.completed",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a checkout that begins a subscription.

    For a trial, pass `amount_cents=0` and `payment_status="no_payment_required"`: that is how Stripe shows one.
    """
    named = {"user_id": user_id, "plan": plan_key}
    session = _session(
        session_id=session_id,
        at=at,
        user_id=user_id,
        mode="subscription",
        amount_cents=amount_cents,
        discount_cents=discount_cents,
        currency=currency,
        customer_id=customer_id,
        email=email,
        payment_status=payment_status,
        metadata={key: value for key, value in named.items() if value is not None} | dict(metadata or {}),
        api_version=api_version,
    )
    session["subscription"] = subscription_id
    session["invoice"] = invoice_id or _sibling("in", session_id)
    session["payment_method_collection"] = "always"
    return _event(event_type, session, at=at, event_id=event_id, api_version=api_version)


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
        "id": _sibling("il", invoice_id),
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
    payment_intent = (payment_intent_id or _sibling("pi", invoice_id)) if paid > 0 else None
    if api_version == OLD:
        line |= _old_line(subscription_id, price_id, interval, unit_cents, currency)
        invoice |= {
            "charge": _sibling("ch", invoice_id) if payment_intent else None,
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
                "data": [_invoice_payment(invoice_id, payment_intent, paid, currency, created)]
                if payment_intent
                else [],
                "has_more": False,
            },
            "total_taxes": None,
        }
    return _event(event_type, invoice, at=at, event_id=event_id, api_version=api_version)


def sign(payload: bytes, secret: str, at: datetime) -> str:
    """Return the `Stripe-Signature` header of a payload as sent at `at`.

    Sign the very bytes that are sent: the same JSON written another way has another signature.
    Source: https://docs.stripe.com/webhooks#verify-manually
    """
    timestamp = int(at.timestamp())
    signed = str(timestamp).encode() + b"." + payload
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def _event(
    event_type: str, payload: Payload, *, at: datetime, event_id: str | None, api_version: ApiVersion
) -> Payload:
    # One object has events of several types, and each event its own id.
    made_up = _sibling("evt", f"{payload['id']}_{event_type.replace('.', '_')}")
    return {
        "id": event_id or made_up,
        "object": "event",
        "api_version": api_version,
        "created": int(at.timestamp()) + 5,
        "data": {"object": payload},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }


def _session(
    *,
    session_id: str,
    at: datetime,
    user_id: str | None,
    mode: Literal["payment", "subscription"],
    amount_cents: int,
    discount_cents: int,
    currency: str,
    customer_id: str | None,
    email: str | None,
    payment_status: PaymentStatus,
    metadata: dict[str, str],
    api_version: ApiVersion,
) -> Payload:
    created = int(at.timestamp())
    session: Payload = {
        "id": session_id,
        "object": "checkout.session",
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": amount_cents,
        "amount_total": amount_cents - discount_cents,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://app.example.com/cancel",
        "client_reference_id": user_id,
        "consent": None,
        "created": created,
        "currency": currency,
        "custom_fields": [],
        "customer": customer_id,
        "customer_creation": None,
        "customer_details": {
            "address": None,
            "email": email,
            "name": None,
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "customer_email": None,
        "expires_at": created + 86_400,
        "invoice": None,
        "livemode": False,
        "locale": None,
        "metadata": metadata,
        "mode": mode,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": None,
        "payment_method_types": ["card"],
        "payment_status": payment_status,
        "setup_intent": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "complete",
        "submit_type": None,
        "subscription": None,
        "success_url": "https://app.example.com/success",
        "total_details": {"amount_discount": discount_cents, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": None,
    }
    if api_version == NEW:
        session |= {
            "adaptive_pricing": {"enabled": False},
            "collected_information": None,
            "discounts": [],
            "origin_context": None,
            "permissions": None,
            "wallet_options": None,
        }
    return session


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
            "product": _sibling("prod", price_id),
            "recurring": {"interval": every, "interval_count": count, "usage_type": "licensed"},
            "type": "recurring",
            "unit_amount": unit_cents,
            "unit_amount_decimal": str(unit_cents),
        },
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": subscription_id,
        "subscription_item": _sibling("si", subscription_id),
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
                "subscription_item": _sibling("si", subscription_id),
            },
        },
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price_id, "product": _sibling("prod", price_id)},
            "unit_amount_decimal": str(unit_cents),
        },
        "taxes": [],
    }


def _invoice_payment(invoice_id: str, payment_intent: str, paid_cents: int, currency: str, created: int) -> Payload:
    return {
        "id": _sibling("inpay", invoice_id),
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


def _sibling(prefix: str, object_id: str) -> str:
    """Return an id of another kind made from one we have: the same in every run, and told apart at a glance."""
    return f"{prefix}_{object_id.removeprefix('cs_test_')}"
