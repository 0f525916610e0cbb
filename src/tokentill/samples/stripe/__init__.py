"""Stripe events as Stripe would send them, built by hand: for the demo, the tests and a dry run of a webhook.

Three API versions, because what an object says of the others moved between them: `OLDEST` (2020-08-27: a charge
carries its refunds, a payment intent its charges), `OLD` (2024-04-10) and `NEW` (2026-06-24.dahlia: an invoice and a
charge no longer know each other, a subscription's periods are those of its items). Each builder returns a whole
event, fresh dicts all through, so that a test may bend one field and keep the rest. Ids that are not given are made
from those that are: the checkout `cs_test_1` is paid by `pi_1` with the charge `ch_1`, the invoice `in_1` by
`pi_in_1` with `ch_in_1`.

Nothing here asks for the time: every moment comes in. Units: `_cents` whole minor units. Times: aware UTC.
"""

from tokentill.samples.stripe.checkouts import PaymentStatus, checkout_pack, checkout_subscription
from tokentill.samples.stripe.envelopes import NEW, OLD, OLDEST, ApiVersion, Payload, sign
from tokentill.samples.stripe.invoices import Interval, invoice_failed, invoice_paid, invoice_payment
from tokentill.samples.stripe.money import charge_refunded, dispute, payment_intent, refund, refund_object
from tokentill.samples.stripe.subscriptions import subscription

__all__ = [
    "NEW",
    "OLD",
    "OLDEST",
    "ApiVersion",
    "Interval",
    "Payload",
    "PaymentStatus",
    "charge_refunded",
    "checkout_pack",
    "checkout_subscription",
    "dispute",
    "invoice_failed",
    "invoice_paid",
    "invoice_payment",
    "payment_intent",
    "refund",
    "refund_object",
    "sign",
    "subscription",
]
