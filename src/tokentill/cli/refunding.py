"""Commands about money that moves back: how a payment stands, what a refund would take. They change nothing."""

from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import cents_of
from tokentill.cli.show import AsJson
from tokentill.core.money import money
from tokentill.services.stripe.reversing import PaymentReport
from tokentill.till import Till

PaymentArg = Annotated[
    str, typer.Argument(metavar="PAYMENT", help="Any name of it: a payment intent, charge, invoice or session.")
]


def payment(payment: PaymentArg, json: AsJson = False) -> None:
    """Show how a payment stands: what was paid, what moved back, and what became of the tokens it bought."""
    with Till.connect() as till:
        report = till.payment(payment)
    if json:
        show.as_json(report.told())
        return
    show.facts(report.payment_id, _facts(report))
    columns = {"lot": "right", "kind": "left"} | dict.fromkeys(("granted", "taken", "owed", "forgiven"), "right")
    rows: list[list[object]] = [
        [lot.lot, lot.kind, *map(show.tokens, (lot.granted, lot.taken_tokens, lot.owed_tokens, lot.forgiven_tokens))]
        for lot in report.lots
    ]
    empty = "It bought no tokens."
    show.table("What it bought, and what was taken back", columns, rows, empty=empty)


def _facts(report: PaymentReport) -> dict[str, object]:
    currency, back = report.currency or "", report.back
    facts: dict[str, object] = {
        "user": report.user.name,
        "names": ", ".join(report.names),
        "paid": money(report.paid_cents, currency),
    }
    if back.refunded_cents:
        facts["refunded"] = money(back.refunded_cents, currency)
    if back.lost_cents:
        facts["lost in disputes"] = money(back.lost_cents, currency)
    if back.disputed_cents:
        facts["in dispute"] = money(back.disputed_cents, currency)
    if not report.is_settled:
        facts["books"] = "behind; the worker will settle it"
    return facts


def preview_refund(
    payment: PaymentArg,
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="How much more to refund, in whole cents: 2500 is $25.00.")
    ],
    json: AsJson = False,
) -> None:
    """Say what refunding so much of a payment would take back. Changes nothing, here or in Stripe."""
    cents = cents_of(amount)
    with Till.connect() as till:
        preview = till.preview_refund(payment, cents)
    if json:
        show.as_json(preview.told())
        return
    currency = preview.currency or ""
    of = f"{money(preview.amount_cents, currency)} of {money(preview.paid_cents, currency)}"
    show.line(f"Refunding {of} to {preview.user.name} {preview.sentence}.")
    show.line(f"balance {preview.balance_before:,} -> {preview.balance_after:,}")
