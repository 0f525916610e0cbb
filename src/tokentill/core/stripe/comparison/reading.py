"""What Stripe's API answers, as what Stripe tells: from charges, refunds, disputes, checkouts and invoices to values.

The counterpart of `core.stripe.events` for reconciliation: it reads how things stand, not what happened. Payloads are
those of today's API; what cannot be read is left out, since there is nothing to compare it with.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus
from tokentill.core.stripe.comparison.sides import ToldDispute, ToldPayment, ToldRefund
from tokentill.core.stripe.payloads import (
    Json,
    cents_of,
    currency_of,
    dig,
    first_text,
    id_of,
    mappings,
    text_of,
    time_of,
    whole_of,
)
from tokentill.core.stripe.sales import PACK_NAME_FIELDS, USER_FIELDS

PRODUCT_FIELDS = (*PACK_NAME_FIELDS, "plan", "plan_key", "plan_id")

REFUND_STATUSES: Mapping[str, RefundStatus] = {
    "pending": "pending",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
}
DISPUTE_STATUSES: Mapping[str, DisputeStatus] = {
    "needs_response": "open",
    "under_review": "open",
    "won": "won",
    "lost": "lost",
    "warning_needs_response": "harmless",
    "warning_under_review": "harmless",
    "warning_closed": "harmless",
    "prevented": "harmless",
    "charge_refunded": "harmless",
}


def names_of(*values: object) -> frozenset[str]:
    """Return the ids among these, whether given themselves or as expanded objects."""
    return frozenset(found for value in values if (found := id_of(value)))


def charge_of(raw: Json, *, beside: tuple[object, ...] = ()) -> ToldPayment | None:
    """Read a charge. `beside` is further metadata of the same payment: its checkout's, its subscription's."""
    intent = raw.get("payment_intent")
    charge_id, amount, currency = id_of(raw.get("id")), cents_of(raw.get("amount")), currency_of(raw.get("currency"))
    if charge_id is None or amount is None or currency is None:
        return None
    is_paid = raw.get("paid") is True and raw.get("captured") is not False and raw.get("status") != "failed"
    metadata = (raw.get("metadata"), dig(intent, "metadata"), *beside)
    captured = cents_of(raw.get("amount_captured"))
    return ToldPayment(
        payment_id=charge_id,
        names=names_of(raw, intent, raw.get("invoice")),
        amount_cents=amount if captured is None or not is_paid else captured,
        currency=currency,
        is_paid=is_paid,
        status=text_of(raw.get("status")) or "of unknown status",
        created_at=time_of(raw.get("created")) or datetime.fromtimestamp(0, UTC),
        refunded_cents=cents_of(raw.get("amount_refunded")),
        customer_id=id_of(raw.get("customer")),
        user_id=first_text(metadata, USER_FIELDS),
        product=first_text(metadata, PRODUCT_FIELDS),
    )


def intent_of(raw: Json) -> ToldPayment | None:
    """Read a payment intent with its latest charge expanded; one that was never charged is a payment that failed."""
    charge = raw.get("latest_charge")
    if isinstance(charge, Mapping):
        return charge_of({**charge, "payment_intent": raw})
    intent_id, amount, currency = id_of(raw.get("id")), cents_of(raw.get("amount")), currency_of(raw.get("currency"))
    if intent_id is None or amount is None or currency is None:
        return None
    return ToldPayment(
        payment_id=intent_id,
        names=frozenset({intent_id}),
        amount_cents=amount,
        currency=currency,
        is_paid=False,
        status=text_of(raw.get("status")) or "of unknown status",
        created_at=time_of(raw.get("created")) or datetime.fromtimestamp(0, UTC),
        customer_id=id_of(raw.get("customer")),
    )


def refund_of(raw: Json) -> ToldRefund | None:
    """Read a refund; None: it cannot be read, or gave back no payment."""
    refund_id, amount, currency = id_of(raw.get("id")), cents_of(raw.get("amount")), currency_of(raw.get("currency"))
    # Refunds of the early years have no status: they succeeded.
    status = REFUND_STATUSES.get(text_of(raw.get("status")) or "succeeded")
    names = names_of(raw.get("payment_intent"), raw.get("charge"), dig(raw, "charge", "payment_intent"))
    if refund_id is None or amount is None or currency is None or status is None or not names:
        return None
    return ToldRefund(refund_id=refund_id, names=names, amount_cents=amount, currency=currency, status=status)


def dispute_of(raw: Json) -> ToldDispute | None:
    """Read a dispute; None: it cannot be read."""
    dispute_id, amount = id_of(raw.get("id")), cents_of(raw.get("amount"))
    currency, status = currency_of(raw.get("currency")), DISPUTE_STATUSES.get(text_of(raw.get("status")) or "")
    names = names_of(raw.get("payment_intent"), raw.get("charge"), dig(raw, "charge", "payment_intent"))
    if dispute_id is None or amount is None or currency is None or status is None or not names:
        return None
    return ToldDispute(
        dispute_id=dispute_id,
        names=names,
        amount_cents=amount,
        currency=currency,
        status=status,
        moved_cents=_moved(raw, status, currency),
    )


def _moved(raw: Json, status: DisputeStatus, currency: str) -> int | None:
    """Return what is gone by now; None: that cannot be told."""
    if status == "won":
        return 0  # Its transaction may follow later.
    transactions = mappings(raw.get("balance_transactions"))
    if not transactions and status != "harmless":
        return None
    if any(currency_of(one.get("currency")) != currency for one in transactions):
        return None  # In the currency of settlement, sums say nothing about the dispute's own.
    return -sum(whole_of(one.get("amount")) or 0 for one in transactions)


def session_names(raw: Json) -> frozenset[str]:
    """Return the names that a checkout gives its payment."""
    return names_of(raw, raw.get("payment_intent"), raw.get("invoice"))


def invoice_names(raw: Json) -> frozenset[str]:
    """Return the names that an invoice gives its payments."""
    paid = [dig(one, "payment") for one in mappings(dig(raw, "payments", "data")) if one.get("status") == "paid"]
    of_payments = (dig(one, key) for one in paid for key in ("payment_intent", "charge"))
    return names_of(raw, raw.get("payment_intent"), raw.get("charge"), *of_payments)


def invoice_metadata(raw: Json) -> tuple[object, ...]:
    """Return what says whose an invoice is: its subscription's metadata, then its own."""
    return (
        dig(raw, "parent", "subscription_details", "metadata"),
        dig(raw, "subscription_details", "metadata"),
        raw.get("metadata"),
    )
