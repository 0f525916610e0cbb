"""Charges, refunds, disputes and payment intents, and the events that tell how the money of a payment stands."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from tokentill.samples.stripe.envelopes import NEW, OLDEST, ApiVersion, Payload, sibling, whole_event


def payment_intent(
    *,
    payment_intent_id: str,
    at: datetime,
    user_id: str | None,
    pack_key: str | None = "power",
    amount_cents: int = 9_900,
    currency: str = "usd",
    charge_id: str | None = None,
    invoice_id: str | None = None,
    customer_id: str | None = None,
    email: str | None = None,
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "payment_intent.succeeded",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a payment intent that succeeded.

    Its metadata names the user and, unless `pack_key` is None, the pack; `metadata` adds to it. `invoice_id`: the
    invoice it paid, which versions from 2025-03-31 on do not say.
    """
    named = {"user_id": user_id, "pack_id": pack_key}
    charge = charge_id or _charge_of(payment_intent_id)
    intent: Payload = {
        "id": payment_intent_id,
        "object": "payment_intent",
        "amount": amount_cents,
        "amount_capturable": 0,
        "amount_received": amount_cents,
        "canceled_at": None,
        "capture_method": "automatic",
        "client_secret": None,
        "confirmation_method": "automatic",
        "created": int(at.timestamp()),
        "currency": currency,
        "customer": customer_id,
        "description": None,
        "last_payment_error": None,
        "livemode": False,
        "metadata": {key: value for key, value in named.items() if value is not None} | dict(metadata or {}),
        "next_action": None,
        "payment_method": sibling("pm", payment_intent_id),
        "payment_method_types": ["card"],
        "receipt_email": email,
        "setup_future_usage": None,
        "status": "succeeded",
    }
    if api_version == OLDEST:
        paid = _charge_object(
            charge, payment_intent_id, at, amount_cents, currency, customer_id=customer_id, api_version=api_version
        )
        intent["charges"] = {"object": "list", "data": [paid], "has_more": False, "total_count": 1}
    else:
        intent["latest_charge"] = charge
    if api_version != NEW:
        intent["invoice"] = invoice_id
    return whole_event(event_type, intent, at=at, event_id=event_id, api_version=api_version)


def charge_refunded(
    *,
    payment_intent_id: str | None,
    at: datetime,
    refunded_cents: int,
    amount_cents: int = 9_900,
    currency: str = "usd",
    charge_id: str | None = None,
    invoice_id: str | None = None,
    customer_id: str | None = None,
    email: str | None = None,
    metadata: Mapping[str, str] | None = None,
    refunds: Sequence[Payload] = (),
    api_version: ApiVersion = NEW,
    event_type: str = "charge.refunded",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a charge of which `refunded_cents` have gone back, all its refunds together.

    `refunds` are refund objects (`refund_object`), newest first; only `OLDEST` shows them by itself. `invoice_id`: the
    invoice it paid, which versions from 2025-03-31 on do not say. A charge of the very old kind has no payment
    intent; then `charge_id` must be given.
    """
    assert charge_id or payment_intent_id, "a charge has a name"
    charge = _charge_object(
        charge_id or _charge_of(payment_intent_id or ""),
        payment_intent_id,
        at,
        amount_cents,
        currency,
        customer_id=customer_id,
        api_version=api_version,
    )
    charge |= {
        "amount_refunded": refunded_cents,
        "billing_details": {"address": None, "email": email, "name": None, "phone": None},
        "metadata": dict(metadata or {}),
        "refunded": refunded_cents == amount_cents,
    }
    if api_version == OLDEST:
        charge["refunds"] = {"object": "list", "data": list(refunds), "has_more": False, "total_count": len(refunds)}
    if api_version != NEW:
        charge["invoice"] = invoice_id
    snapshot = f"{refunded_cents}_{int(at.timestamp())}"
    return whole_event(event_type, charge, at=at, event_id=event_id, api_version=api_version, snapshot=snapshot)


def refund(
    *,
    refund_id: str,
    payment_intent_id: str | None,
    at: datetime,
    amount_cents: int = 9_900,
    currency: str = "usd",
    status: str | None = "succeeded",
    charge_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "refund.created",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a refund as it stands; versions before 2024-10-28 tell of it as `charge.refund.updated`."""
    told = refund_object(
        refund_id=refund_id,
        payment_intent_id=payment_intent_id,
        at=at,
        amount_cents=amount_cents,
        currency=currency,
        status=status,
        charge_id=charge_id,
        metadata=metadata,
        api_version=api_version,
    )
    snapshot = f"{status}_{int(at.timestamp())}"
    return whole_event(event_type, told, at=at, event_id=event_id, api_version=api_version, snapshot=snapshot)


def refund_object(
    *,
    refund_id: str,
    payment_intent_id: str | None,
    at: datetime,
    amount_cents: int = 9_900,
    currency: str = "usd",
    status: str | None = "succeeded",
    charge_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    api_version: ApiVersion = NEW,
) -> Payload:
    """Build the refund itself, as a charge or a list of the API holds it."""
    told: Payload = {
        "id": refund_id,
        "object": "refund",
        "amount": amount_cents,
        "balance_transaction": sibling("txn", refund_id),
        "charge": charge_id or (_charge_of(payment_intent_id) if payment_intent_id else None),
        "created": int(at.timestamp()),
        "currency": currency,
        "metadata": dict(metadata or {}),
        "payment_intent": payment_intent_id,
        "reason": "requested_by_customer",
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    if status == "failed":
        told |= {"failure_balance_transaction": sibling("txn_back", refund_id), "failure_reason": "unknown"}
    if api_version == NEW:
        told["destination_details"] = {"type": "card", "card": {"type": "refund", "reference_status": "pending"}}
    return told


def dispute(
    *,
    dispute_id: str,
    payment_intent_id: str | None,
    at: datetime,
    amount_cents: int = 9_900,
    currency: str = "usd",
    status: str = "needs_response",
    moved_cents: Sequence[int] = (),
    settled_in: str | None = None,
    charge_id: str | None = None,
    api_version: ApiVersion = NEW,
    event_type: str = "charge.dispute.created",
    event_id: str | None = None,
) -> Payload:
    """Build the event of a dispute as it stands.

    `moved_cents` is what its balance transactions say, in the currency in which Stripe settles with the account
    (`settled_in`; None: that of the charge): below zero withdrawn, above zero reinstated. Its fee is beside that.
    """
    told: Payload = {
        "id": dispute_id,
        "object": "dispute",
        "amount": amount_cents,
        "balance_transactions": [
            {
                "id": sibling(f"txn_{number}", dispute_id),
                "object": "balance_transaction",
                "amount": cents,
                "created": int(at.timestamp()),
                "currency": settled_in or currency,
                "description": "Chargeback withdrawal" if cents < 0 else "Chargeback reversal",
                "exchange_rate": None,
                "fee": 1_500 if cents < 0 else 0,
                "net": cents - (1_500 if cents < 0 else 0),
                "reporting_category": "dispute" if cents < 0 else "dispute_reversal",
                "source": dispute_id,
                "status": "pending",
                "type": "adjustment",
            }
            for number, cents in enumerate(moved_cents, 1)
        ],
        "charge": charge_id or (_charge_of(payment_intent_id) if payment_intent_id else None),
        "created": int(at.timestamp()),
        "currency": currency,
        "evidence": {},
        "evidence_details": {"due_by": None, "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": status.startswith("warning"),
        "livemode": False,
        "metadata": {},
        "payment_intent": payment_intent_id,
        "reason": "fraudulent",
        "status": status,
    }
    if api_version == NEW:
        told["enhanced_eligibility_types"] = []
    snapshot = f"{status}_{int(at.timestamp())}"
    return whole_event(event_type, told, at=at, event_id=event_id, api_version=api_version, snapshot=snapshot)


def _charge_of(payment_intent_id: str) -> str:
    return sibling("ch", payment_intent_id.removeprefix("pi_"))


def _charge_object(
    charge_id: str,
    payment_intent_id: str | None,
    at: datetime,
    amount_cents: int,
    currency: str,
    *,
    customer_id: str | None,
    api_version: ApiVersion,
) -> Payload:
    charge: Payload = {
        "id": charge_id,
        "object": "charge",
        "amount": amount_cents,
        "amount_captured": amount_cents,
        "amount_refunded": 0,
        "balance_transaction": sibling("txn", charge_id),
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "captured": True,
        "created": int(at.timestamp()),
        "currency": currency,
        "customer": customer_id,
        "disputed": False,
        "failure_code": None,
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": payment_intent_id,
        "receipt_email": None,
        "refunded": False,
        "status": "succeeded",
    }
    if api_version == OLDEST:
        charge["refunds"] = {"object": "list", "data": [], "has_more": False, "total_count": 0}
    return charge
