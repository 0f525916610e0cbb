"""What a Stripe event means for the till: from a payload to an intention, to `Ignored` or to `Unclear`.

The receiving service calls `interpret` on each event of the inbox and does what the intention says. Payloads are
read as every API version from 2020-08-27 to 2026 writes them: ids may be expanded objects, and what an invoice says
of its subscription, payment and prices has moved over the years. Nothing here raises for what a payload holds: it
is the world's, and the inbox must be able to keep it.

Two sources are never believed: the `tokens` that metadata names (the catalog says how many), and an invoice's own
`period_start` and `period_end` (they look back: the paid period is that of its line).

What was sold decides, not what was paid: where the two do not fit, the meaning carries a `Doubt`, and grants all the
same. Discounts, tax, credit and prorations are no doubt.

Times: aware UTC.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from tokentill.core.money import money
from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.invoices import (
    read_failed_invoice,
    read_invoice,
    read_invoice_payment,
    read_voided_invoice,
)
from tokentill.core.stripe.meanings import (
    Doubt,
    Intention,
    MoneySeen,
    PackPaid,
    PeriodPaid,
    SubscriptionSeen,
    SubscriptionStarted,
    Who,
)
from tokentill.core.stripe.money import read_charge, read_dispute, read_payment_intent, read_refund
from tokentill.core.stripe.payloads import Ignored, Json, Settled, Unclear, dig, shown
from tokentill.core.stripe.sessions import read_expired_session, read_failed_session, read_session
from tokentill.core.stripe.subscriptions import read_subscription


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
            paid = money(meaning.amount_paid_cents, meaning.currency)
            return f"pack {packs} for {_buyer(meaning.who)}, {paid}{_doubtful(meaning.doubts)}"
        case SubscriptionStarted():
            paid = money(meaning.amount_paid_cents, meaning.currency)
            return f"start of plan {meaning.plan_key} for {_buyer(meaning.who)}, {paid}{_doubtful(meaning.doubts)}"
        case PeriodPaid():
            paid = money(meaning.amount_paid_cents, meaning.currency)
            which = "first period" if meaning.is_first else "period"
            days = f"{meaning.period_start:%Y-%m-%d} to {meaning.period_end:%Y-%m-%d}"
            plan = f"{which} of plan {meaning.plan_key} for {_buyer(meaning.who)}"
            return f"{plan}, {days}, {paid}{_doubtful(meaning.doubts)}"
        case SubscriptionSeen():
            # Stripe's word is the finer one, but for a pause of the collection, which it calls active.
            status = meaning.status if meaning.status == "paused" else meaning.stripe_status or meaning.status
            ends = "" if meaning.cancel_at is None else f", ends {meaning.cancel_at:%Y-%m-%d}"
            sells = "" if meaning.plan_key is not None else "; no plan of the catalog"
            return f"subscription {shown(meaning.subscription_id)} is {shown(status)}{ends}{sells}"
        case MoneySeen():
            return _money_line(meaning)
        case Ignored():
            return f"ignored: {meaning.reason}"
        case Unclear():
            return f"unclear: {meaning.reason}"
        case _:  # pragma: no cover
            assert_never(meaning)


def _money_line(seen: MoneySeen) -> str:
    payment = shown(seen.payment_id)
    if seen.dispute is not None:
        dispute = seen.dispute
        over = money(dispute.amount_cents, dispute.currency)
        return f"dispute {shown(dispute.dispute_id)} over {over} is {dispute.status}"
    if seen.refunded_cents is not None and seen.amount_cents is not None and seen.currency is not None:
        refunded = money(seen.refunded_cents, seen.currency)
        return f"refund of {refunded} of {money(seen.amount_cents, seen.currency)} for {payment}"
    if seen.refunds:
        refund = seen.refunds[0]
        amount = money(refund.amount_cents, refund.currency)
        return f"refund {shown(refund.refund_id)} of {amount} for {payment}: {refund.status}"
    return " = ".join(map(shown, seen.names))


def _doubtful(doubts: Iterable[Doubt]) -> str:
    return "".join(f"; expected {doubt.expected}, found {doubt.found}" for doubt in doubts)


def _buyer(who: Who) -> str:
    # As it may be quoted: an id with a line break in it would forge a second line of the log.
    return shown(who.user_id or who.customer_id or "an unknown user")


_READERS: Mapping[str, Callable[[Json, Json, Catalog], Intention]] = {
    "checkout.session.completed": read_session,
    "checkout.session.async_payment_succeeded": read_session,
    "checkout.session.async_payment_failed": read_failed_session,
    "checkout.session.expired": read_expired_session,
    "invoice.paid": read_invoice,
    "invoice.payment_succeeded": read_invoice,
    "invoice.payment_failed": read_failed_invoice,
    "invoice.voided": read_voided_invoice,
    "invoice_payment.paid": read_invoice_payment,
    "payment_intent.succeeded": read_payment_intent,
    "customer.subscription.created": read_subscription,
    "customer.subscription.updated": read_subscription,
    "customer.subscription.deleted": read_subscription,
    "customer.subscription.paused": read_subscription,
    "customer.subscription.resumed": read_subscription,
    "customer.subscription.trial_will_end": read_subscription,
    "charge.refunded": read_charge,
    "charge.refund.updated": read_refund,
    "refund.created": read_refund,
    "refund.updated": read_refund,
    "refund.failed": read_refund,
    "charge.dispute.created": read_dispute,
    "charge.dispute.updated": read_dispute,
    "charge.dispute.closed": read_dispute,
    "charge.dispute.funds_withdrawn": read_dispute,
    "charge.dispute.funds_reinstated": read_dispute,
}
