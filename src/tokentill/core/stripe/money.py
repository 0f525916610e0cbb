"""What Stripe tells of the money of one payment: that it came, went back, or is disputed.

Each meaning is how the money stood, never what changed: `core.ledger.reversals` works from all that is known of a
payment. Ids may be expanded objects, and a charge or payment intent that is expanded tells more names of the payment.
"""

from collections.abc import Iterable, Mapping, Sequence

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus
from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.invoices import invoice_metadata
from tokentill.core.stripe.meanings import (
    DisputeSeen,
    MoneySeen,
    PackPaid,
    RefundSeen,
    Who,
)
from tokentill.core.stripe.payloads import (
    CENTS_MAX,
    QUANTITY_MAX,
    Json,
    cents_of,
    currency_of,
    dig,
    each_once,
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
    whole_of,
)
from tokentill.core.stripe.sales import PACK_FIELDS, PACK_NAME_FIELDS, buyer, offer_named

_REFUND_STATUSES: Mapping[str | None, RefundStatus] = {
    "pending": "pending",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
}

_DISPUTE_STATUSES: Mapping[str | None, DisputeStatus] = {
    "needs_response": "open",
    "under_review": "open",
    "won": "won",
    "lost": "lost",
    # Inquiries, and what was settled before it became a dispute, move no money of their own.
    "warning_needs_response": "harmless",
    "warning_under_review": "harmless",
    "warning_closed": "harmless",
    "prevented": "harmless",
    "charge_refunded": "harmless",
}

_FUNDS_MOVED = ("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated")


def read_payment_intent(event: Json, intent: Json, catalog: Catalog) -> PackPaid:
    """Read a payment intent that succeeded, for hosts that sell packs without a checkout.

    Only what names its pack itself is a sale: any other intent belongs to a checkout or an invoice, whose own event
    grants. There is no subtotal here, so what was received must be a whole multiple of the price, and that says how
    many.
    """
    metadata = intent.get("metadata")
    packs = list(catalog.packs.values())
    pack = offer_named((metadata,), PACK_FIELDS, packs)
    if pack is None:
        unknown = first_text((metadata,), PACK_NAME_FIELDS)
        ignore(
            f"the catalog has no pack {shown(unknown)}"
            if unknown
            else "the payment intent names no pack; a checkout or an invoice says what it paid"
        )
    if id_of(intent.get("invoice")):
        ignore("the payment intent paid an invoice, whose own event says what for")
    if intent.get("status") not in (None, "succeeded"):
        ignore(f"the payment intent's status is {shown(intent.get('status'))}; waits until it succeeds")
    payment_id = require(id_of(intent.get("id")), "the payment intent has no id")
    currency = require(currency_of(intent.get("currency")), "the payment intent has no currency")
    received = require(cents_of(intent.get("amount_received")), "the payment intent has no amount_received")
    if currency != pack.currency or received == 0 or pack.price_cents == 0 or received % pack.price_cents != 0:
        ignore(f"{received:,} {currency} are no whole multiple of the price of pack {pack.key}")
    quantity = received // pack.price_cents
    if quantity > QUANTITY_MAX:
        give_up("a quantity of packs is out of range")
    charges = mappings(dig(intent, "charges", "data"))  # Newest first: the one that succeeded.
    charge = intent.get("latest_charge") or (charges[0] if charges else None)
    occurred_at = time_of(event.get("created")) or time_of(intent.get("created"))
    return PackPaid(
        who=buyer(
            (metadata,),
            customer=intent.get("customer"),
            emails=(intent.get("receipt_email"), dig(charge, "billing_details", "email")),
        ),
        session_id=None,
        payment_id=payment_id,
        items=((pack.key, quantity),),
        amount_paid_cents=received,
        currency=currency,
        occurred_at=require(occurred_at, "neither event nor payment intent says when it was created"),
        charge_id=id_of(charge),
    )


def read_charge(event: Json, charge: Json, catalog: Catalog) -> MoneySeen:
    """Read a charge of which something was refunded: how much in all, and by which refunds where it shows them.

    Versions before 2022-11-15 show the newest ten refunds.
    """
    require(id_of(charge.get("id")), "the charge has no id")
    currency = require(currency_of(charge.get("currency")), "the charge has no currency")
    refunds = (_refund(raw, currency) for raw in mappings(dig(charge, "refunds", "data")))
    return _money_seen(
        event,
        intent=charge.get("payment_intent"),
        charge=charge,
        amount_cents=require(cents_of(charge.get("amount")), "the charge has no amount"),
        currency=currency,
        refunded_cents=require(cents_of(charge.get("amount_refunded")), "the charge has no amount_refunded"),
        refunds=tuple(refund for refund in refunds if refund is not None),
    )


def read_refund(event: Json, raw: Json, catalog: Catalog) -> MoneySeen:
    """Read a refund as it stands. What has neither payment intent nor charge gave back no payment."""
    currency = require(currency_of(raw.get("currency")), "the refund has no currency")
    if event.get("type") == "refund.failed":
        raw = {**raw, "status": raw.get("status") or "failed"}
    refund = require(_refund(raw, currency), "the refund has no id, no amount or no known status")
    intent, charge = raw.get("payment_intent"), raw.get("charge")
    if not id_of(intent) and not id_of(charge):
        ignore(f"refund {shown(refund.refund_id)} gives back no payment: it has neither payment intent nor charge")
    amount = cents_of(dig(charge, "amount"))
    return _money_seen(
        event, intent=intent, charge=charge, beside=(raw.get("metadata"),), amount_cents=amount, currency=currency,
        refunds=(refund,),
    )  # fmt: skip


def _refund(raw: Json, currency: str) -> RefundSeen | None:
    refund_id, amount = id_of(raw.get("id")), cents_of(raw.get("amount"))
    # Refunds of the early years have no status: they succeeded.
    status = _REFUND_STATUSES.get(text_of(raw.get("status") or "succeeded"))
    if refund_id is None or amount is None or status is None:
        return None
    return RefundSeen(
        refund_id=refund_id,
        amount_cents=amount,
        currency=currency_of(raw.get("currency")) or currency,
        status=status,
    )


def read_dispute(event: Json, raw: Json, catalog: Catalog) -> MoneySeen:
    """Read a dispute as it stands: how much it withdrew so far, and how much of that came back."""
    dispute_id = require(id_of(raw.get("id")), "the dispute has no id")
    currency = require(currency_of(raw.get("currency")), "the dispute has no currency")
    amount = require(cents_of(raw.get("amount")), "the dispute has no amount")
    status: DisputeStatus = require(
        _DISPUTE_STATUSES.get(text_of(raw.get("status"))), f"the dispute's status is {shown(raw.get('status'))}"
    )
    intent, charge = raw.get("payment_intent"), raw.get("charge")
    if not id_of(intent) and not id_of(charge):
        give_up("the dispute has neither a payment intent nor a charge")
    withdrawn, reinstated = _moved(raw, event.get("type"), status, amount, currency)
    if withdrawn > CENTS_MAX:
        give_up("the dispute's balance transactions are out of range")
    return _money_seen(
        event,
        intent=intent,
        charge=charge,
        amount_cents=cents_of(dig(charge, "amount")),
        currency=currency_of(dig(charge, "currency")),
        dispute=DisputeSeen(
            dispute_id=dispute_id,
            amount_cents=amount,
            currency=currency,
            status=status,
            withdrawn_cents=withdrawn,
            reinstated_cents=reinstated,
        ),
    )


def _moved(raw: Json, event_type: object, status: DisputeStatus, amount: int, currency: str) -> tuple[int, int]:
    """Return what a dispute has withdrawn and reinstated, in its own currency; never more back than was taken.

    Its balance transactions say so, if it shows any. They may be in the currency in which Stripe settles with the
    account; then each withdrawal took the disputed amount. Without them its status or the event says it. What is won
    comes back, though its transaction may follow later.
    """
    transactions = mappings(raw.get("balance_transactions"))
    amounts = [whole_of(one.get("amount")) or 0 for one in transactions]
    taken = [-cents for cents in amounts if cents < 0]
    withdrawn, reinstated = sum(taken), sum(cents for cents in amounts if cents > 0)
    if not withdrawn and not reinstated:
        withdrawn = 0 if status == "harmless" and event_type not in _FUNDS_MOVED else amount
    elif any(currency_of(one.get("currency")) not in (None, currency) for one in transactions):
        withdrawn, reinstated = _in_its_own_currency(taken, reinstated, amount)
        if status == "won":
            reinstated = withdrawn  # What differs is the rate.
    if reinstated == 0 and (status == "won" or event_type == "charge.dispute.funds_reinstated"):
        reinstated = withdrawn
    return max(withdrawn, reinstated), reinstated


def _in_its_own_currency(taken: Sequence[int], returned: int, amount: int) -> tuple[int, int]:
    """Scale what moved to the disputed amount: what came back pays the withdrawals off, first the first."""
    reinstated = 0
    for cents in taken:
        back = min(returned, cents)
        reinstated += amount * back // cents
        returned -= back
    return (amount * len(taken), reinstated) if taken else (amount, amount)


def _money_seen(
    event: Json,
    *,
    intent: object,
    charge: object,
    beside: Iterable[object] = (),
    amount_cents: int | None,
    currency: str | None,
    refunded_cents: int | None = None,
    refunds: tuple[RefundSeen, ...] = (),
    dispute: DisputeSeen | None = None,
) -> MoneySeen:
    """Put together what is seen of a payment, under all the names that its intent and its charge tell."""
    if id_of(intent) is None:
        intent = dig(charge, "payment_intent")
    invoice = dig(charge, "invoice") or dig(intent, "invoice")
    names = each_once(id_of(intent), id_of(charge), id_of(invoice))
    return MoneySeen(
        payment_id=names[0],
        names=names,
        who=_payer(intent, charge, invoice, beside),
        seen_at=seen_at(event),
        amount_cents=amount_cents,
        currency=currency,
        refunded_cents=refunded_cents,
        refunds=refunds,
        dispute=dispute,
    )


def _payer(intent: object, charge: object, invoice: object, beside: Iterable[object]) -> Who:
    customers = (dig(charge, "customer"), dig(intent, "customer"), dig(invoice, "customer"))
    return buyer(
        (dig(charge, "metadata"), dig(intent, "metadata"), *invoice_metadata(invoice), *beside),
        customer=next((customer for customer in customers if id_of(customer)), None),
        emails=(dig(charge, "billing_details", "email"), dig(charge, "receipt_email")),
    )
