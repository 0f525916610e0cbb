"""Listing: Stripe's side of a comparison, asked from its API page by page.

Charges are the payments; checkouts and invoices say how else a payment is called and whose it is. Refunds and disputes
are those made in the time asked for, each with its charge, which may be older.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from tokentill.core.stripe.comparison.reading import (
    charge_of,
    dispute_of,
    intent_of,
    invoice_metadata,
    invoice_names,
    refund_of,
    session_names,
)
from tokentill.core.stripe.comparison.sides import Told, ToldDispute, ToldPayment, ToldRefund
from tokentill.core.stripe.payloads import dig, id_of
from tokentill.errors import StripeRefused

# A checkout is paid within a day of its making, or a bank debit some days later; an invoice is tried for weeks.
CHECKOUT_LEAD = timedelta(days=15)
INVOICE_LEAD = timedelta(days=45)

Raw = dict[str, Any]
OnProgress = Callable[[str, int], None]  # (what is being listed, how many there are so far)


class Api(Protocol):
    """What is needed of `stripe.calling.StripeApi`."""

    def retrieve(self, what: str, stripe_id: str, params: Mapping[str, Any] | None = None) -> Raw: ...

    def list_all(self, what: str, params: Mapping[str, Any] | None = None) -> Iterator[Raw]: ...


class Listing:
    """Stripe's side by its API: complete, because what the books know besides can be looked up.

    Raises, from each of its methods: StripeUnavailable, StripeRefused, BadSetting.
    """

    is_complete = True

    def __init__(
        self,
        api: Api,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        customer_id: str | None = None,
        on_progress: OnProgress = lambda what, count: None,
    ) -> None:
        self._api = api
        self._since = since
        self._until = until
        self._customer = customer_id
        self._on_progress = on_progress

    def listed(self) -> Told:
        """List the payments, refunds and disputes of the time."""
        found = _Found()
        for session in self._all("checkout.sessions", lead=CHECKOUT_LEAD, takes_customer=True):
            found.add_session(session)
        for invoice in self._all("invoices", lead=INVOICE_LEAD, takes_customer=True, expand=["data.payments"]):
            found.add_invoice(invoice)
        for charge in self._all("charges", takes_customer=True, expand=["data.payment_intent"]):
            found.add_charge(charge)
        for refund in self._all("refunds", expand=["data.charge"]):
            if self._is_of_customer(refund):
                found.add_refund(refund)
        for dispute in self._all("disputes", expand=["data.charge"]):
            if self._is_of_customer(dispute):
                found.add_dispute(dispute)
        return found.told()

    def look_up(self, ids: Sequence[str]) -> Told:
        """Ask for these, one by one; what Stripe does not have is left out."""
        found = _Found()
        for count, stripe_id in enumerate(ids, start=1):
            self._on_progress("what only the books know", count)
            match stripe_id.split("_", maxsplit=1)[0]:
                case "pi":
                    found.add_intent(self._one("payment_intents", stripe_id, "latest_charge"))
                case "ch" | "py":
                    found.add_charge(self._one("charges", stripe_id, "payment_intent"))
                case "in":
                    self._add_invoice(found, self._one("invoices", stripe_id, "payments"))
                case "cs":
                    self._add_session(found, self._one("checkout.sessions", stripe_id))
                case "re" | "pyr":
                    found.add_refund(self._one("refunds", stripe_id, "charge"))
                case "du" | "dp":
                    found.add_dispute(self._one("disputes", stripe_id, "charge"))
        return found.told()

    def _add_session(self, found: "_Found", session: Raw | None) -> None:
        found.add_session(session)
        if intent := id_of(dig(session, "payment_intent")):
            found.add_intent(self._one("payment_intents", intent, "latest_charge"))
        if invoice := id_of(dig(session, "invoice")):
            self._add_invoice(found, self._one("invoices", invoice, "payments"))

    def _add_invoice(self, found: "_Found", invoice: Raw | None) -> None:
        found.add_invoice(invoice)
        for name in sorted(invoice_names(invoice)) if invoice else ():
            if name.startswith("pi_"):
                found.add_intent(self._one("payment_intents", name, "latest_charge"))

    def _all(
        self, what: str, *, lead: timedelta = timedelta(0), takes_customer: bool = False, expand: Sequence[str] = ()
    ) -> Iterator[Raw]:
        created: dict[str, int] = {}
        if self._since is not None:
            created["gte"] = int((self._since - lead).timestamp())
        if self._until is not None:
            created["lt"] = int(self._until.timestamp())
        params: dict[str, Any] = {"created": created} if created else {}
        if expand:
            params["expand"] = list(expand)
        if takes_customer and self._customer is not None:
            params["customer"] = self._customer
        title = what.rsplit(".", maxsplit=1)[-1]
        self._on_progress(title, 0)
        for count, raw in enumerate(self._api.list_all(what, params), start=1):
            self._on_progress(title, count)
            yield raw

    def _one(self, what: str, stripe_id: str, *expand: str) -> Raw | None:
        try:
            return self._api.retrieve(what, stripe_id, {"expand": list(expand)} if expand else None)
        except StripeRefused as error:
            if error.fields.get("stripe_code") == "resource_missing":
                return None
            raise

    def _is_of_customer(self, raw: Raw) -> bool:
        return self._customer is None or id_of(dig(raw, "charge", "customer")) == self._customer


class _Found:
    """What was found so far. Whatever comes twice counts once."""

    def __init__(self) -> None:
        self._payments: dict[str, ToldPayment] = {}
        self._refunds: dict[str, ToldRefund] = {}
        self._disputes: dict[str, ToldDispute] = {}
        self._links: list[frozenset[str]] = []
        self._metadata: dict[str, tuple[object, ...]] = {}  # By the names of payments: who and what, told elsewhere.

    def add_session(self, raw: Raw | None) -> None:
        if raw is not None:
            reference = {"user_id": raw.get("client_reference_id")}
            self._link(session_names(raw), (reference, raw.get("metadata")))

    def add_invoice(self, raw: Raw | None) -> None:
        if raw is not None:
            self._link(invoice_names(raw), invoice_metadata(raw))

    def add_charge(self, raw: object) -> None:
        self._add_payment(charge_of(raw, beside=self._said_of(raw)) if isinstance(raw, Mapping) else None)

    def add_intent(self, raw: Raw | None) -> None:
        self._add_payment(intent_of(raw) if raw is not None else None)

    def add_refund(self, raw: Raw | None) -> None:
        refund = refund_of(raw) if raw is not None else None
        if refund is not None:
            self._refunds[refund.refund_id] = refund
            self.add_charge(dig(raw, "charge"))

    def add_dispute(self, raw: Raw | None) -> None:
        dispute = dispute_of(raw) if raw is not None else None
        if dispute is not None:
            self._disputes[dispute.dispute_id] = dispute
            self.add_charge(dig(raw, "charge"))

    def told(self) -> Told:
        return Told(
            payments=tuple(self._payments.values()),
            refunds=tuple(self._refunds.values()),
            disputes=tuple(self._disputes.values()),
            links=tuple(self._links),
        )

    def _add_payment(self, payment: ToldPayment | None) -> None:
        if payment is not None:
            self._payments.setdefault(payment.payment_id, payment)

    def _link(self, names: frozenset[str], metadata: tuple[object, ...]) -> None:
        if len(names) > 1:
            self._links.append(names)
        # A checkout names its invoice, and the invoice its payment: what the first said holds for the last.
        said = (*(one for name in sorted(names) for one in self._metadata.get(name, ())), *metadata)
        for name in names:
            self._metadata[name] = said

    def _said_of(self, raw: object) -> tuple[object, ...]:
        names: Iterable[str | None] = (id_of(dig(raw, key)) for key in ("id", "payment_intent", "invoice"))
        return tuple(said for name in names if name for said in self._metadata.get(name, ()))
