"""Checkout Sessions, and the events that tell of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from tokentill.samples.stripe.envelopes import NEW, ApiVersion, Payload, sibling, whole_event

PaymentStatus = Literal["paid", "unpaid", "no_payment_required"]


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
        session["payment_intent"] = payment_intent_id or sibling("pi", session_id)
    if event_type == "checkout.session.expired":
        session["status"] = "expired"
    return whole_event(event_type, session, at=at, event_id=event_id, api_version=api_version)


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
    session["invoice"] = invoice_id or sibling("in", session_id)
    session["payment_method_collection"] = "always"
    return whole_event(event_type, session, at=at, event_id=event_id, api_version=api_version)


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
