"""Inquiring: asks Stripe's API for what a webhook does not tell. No transaction is open meanwhile.

A checkout's event never shows its cart. Mostly its metadata names the pack and its amount proves how many; for a cart
of several packs nothing does, and only the API can say. Without a key for it, an event is read as it is.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import Intention
from tokentill.core.stripe.payloads import Ignored, Unclear, id_of
from tokentill.core.stripe.sessions import session_without_cart
from tokentill.errors import Misconfigured, StripeRefused, StripeUnavailable

log = logging.getLogger("tokentill.receiving")

Meaning = Intention | Ignored | Unclear


class Lists(Protocol):
    """Stripe's API, as far as it lists things (`stripe.calling`)."""

    def list_all(
        self, what: str, params: Mapping[str, Any] | None = None, *, of: str | None = None
    ) -> Iterable[dict[str, Any]]: ...


def wants_cart(api: Lists | None, catalog: Catalog, payload: Mapping[str, object]) -> bool:
    """Whether the API has to be asked what this event is about."""
    return api is not None and session_without_cart(payload, catalog) is not None


def meaning_of(api: Lists | None, catalog: Catalog, payload: Mapping[str, object]) -> Meaning:
    """Return what an event means, having asked for its cart if need be. Raises: nothing.

    If Stripe does not answer, the event is unclear for now: it will be tried again.
    """
    session_id = session_without_cart(payload, catalog) if api is not None else None
    if api is None or session_id is None:
        return interpreted(catalog, payload)
    try:
        lines = list(api.list_all("checkout.sessions.line_items", of=session_id))
    except StripeRefused as error:  # Not a session of this account, or the key may not read it.
        log.warning("Stripe does not show the cart of %s: %s", ascii(session_id), error.detail)
        return interpreted(catalog, payload)
    except (StripeUnavailable, Misconfigured) as error:
        return Unclear(reason=f"what was in the cart is not known: {error.detail}")
    data: Any = payload["data"]
    session = {**data["object"], "line_items": {"data": lines, "has_more": False}}
    return interpreted(catalog, {**payload, "data": {**data, "object": session}})


def invoices_paid_by(api: Lists, payment_intent_id: str) -> list[str]:
    """Return the invoices that a payment intent paid. Raises: StripeUnavailable, Misconfigured."""
    paid_by = {"payment": {"type": "payment_intent", "payment_intent": payment_intent_id}}
    try:
        found = list(api.list_all("invoice_payments", paid_by))
    except StripeRefused as error:  # Not of this account, or the key may not read it.
        log.warning("Stripe does not show what %s paid: %s", ascii(payment_intent_id), error.detail)
        return []
    return [invoice for one in found if (invoice := id_of(one.get("invoice")))]


def interpreted(catalog: Catalog, payload: Mapping[str, object]) -> Meaning:
    """Return what an event means by itself. Raises: nothing."""
    try:
        return interpret(payload, catalog)
    except Exception:  # It promises to raise nothing; but an event that was paid for must be kept even so.
        log.exception("an event could not be interpreted")
        return Unclear(reason="an error of ours while interpreting; it is in the log")
