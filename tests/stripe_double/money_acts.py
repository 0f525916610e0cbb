"""Payments, and the money of them that moves back: refunds and disputes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Literal

from tests.stripe_double.account import DAY, StripeError
from tests.stripe_double.catalog_acts import CatalogActs
from tests.stripe_double.shapes import Object

RefundStatus = Literal["succeeded", "pending", "requires_action"]
DisputeEnd = Literal["won", "lost", "warning_closed"]


class MoneyActs(CatalogActs):
    """What cards and banks do."""

    # --- Payments ---

    def pay_intent(
        self, amount_cents: int, *, currency: str = "usd", customer: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        """An app of its own takes a payment, without a checkout."""
        with self.lock:
            intent = self._make_intent(amount_cents, currency, customer, dict(metadata or {}))
            self._succeed(intent)
            return intent

    def _intent_of(self, session: Object) -> Object:
        data = session["_payment_intent_data"]
        metadata = dict(data.get("metadata") or {})
        return self._make_intent(session["amount_total"], session["currency"], session["customer"], metadata)

    def _make_intent(
        self, amount: int, currency: str, customer: str | None, metadata: dict[str, str], invoice: str | None = None
    ) -> Object:
        intent = self._add({
            "id": self._id("pi"), "object": "payment_intent", "amount": amount, "amount_capturable": 0,
            "amount_received": 0, "application": None, "canceled_at": None, "cancellation_reason": None,
            "capture_method": "automatic", "confirmation_method": "automatic", "created": self.now(),
            "currency": currency, "customer": customer, "description": None, "last_payment_error": None,
            "latest_charge": None, "livemode": self.livemode, "metadata": metadata, "next_action": None,
            "payment_method": "pm_card_visa", "payment_method_types": ["card"], "receipt_email": None,
            "setup_future_usage": None, "statement_descriptor": None, "status": "requires_payment_method",
            "_charges": [], "_invoice": invoice,
        })  # fmt: skip
        self._emit("payment_intent.created", intent)
        return intent

    def _succeed(self, intent: Object) -> Object:
        charge = self._charge(intent, succeeded=True)
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        self._emit("charge.succeeded", charge)
        self._emit("payment_intent.succeeded", intent)
        return charge

    def _decline(self, intent: Object) -> None:
        charge = self._charge(intent, succeeded=False)
        intent |= {
            "status": "requires_payment_method",
            "last_payment_error": {
                "charge": charge["id"], "code": "card_declined", "decline_code": "generic_decline",
                "message": "Your card was declined.", "type": "card_error",
            },
        }  # fmt: skip
        self._emit("charge.failed", charge)
        self._emit("payment_intent.payment_failed", intent)

    def _charge(self, intent: Object, *, succeeded: bool) -> Object:
        amount = intent["amount"]
        charge = self._add({
            "id": self._id("ch"), "object": "charge", "amount": amount,
            "amount_captured": amount if succeeded else 0, "amount_refunded": 0, "application": None,
            "balance_transaction": None,
            "billing_details": {"address": None, "email": None, "name": None, "phone": None},
            "captured": succeeded, "created": self.now(), "currency": intent["currency"],
            "customer": intent["customer"], "description": intent["description"], "disputed": False,
            "failure_balance_transaction": None, "failure_code": None if succeeded else "card_declined",
            "failure_message": None if succeeded else "Your card was declined.", "fraud_details": {},
            "livemode": self.livemode, "metadata": dict(intent["metadata"]),
            "outcome": {"network_status": "approved_by_network" if succeeded else "declined_by_network"},
            "paid": succeeded, "payment_intent": intent["id"], "payment_method": "pm_card_visa",
            "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
            "receipt_email": None, "receipt_number": None, "receipt_url": None, "refunded": False, "review": None,
            "shipping": None, "source": None, "statement_descriptor": None,
            "status": "succeeded" if succeeded else "failed", "transfer_data": None, "_invoice": intent["_invoice"],
            "_refunds": [],
        })  # fmt: skip
        if succeeded:
            charge["balance_transaction"] = self._balance(amount, intent["currency"], charge["id"], "charge")
        intent["latest_charge"] = charge["id"]
        intent["_charges"].append(charge["id"])
        return charge

    def charge_of(self, payment: str) -> Object:
        """The charge that succeeded, by any name of its payment: charge, intent, session or invoice."""
        found = self.objects[payment]
        match found["object"]:
            case "charge":
                return found
            case "payment_intent":
                return self.objects[found["latest_charge"]]
            case "checkout.session":
                return self.charge_of(found["payment_intent"] or found["invoice"])
            case "invoice":
                return self.charge_of(found["_payment_intent"])
        raise AssertionError(payment)

    def _balance(self, amount: int, currency: str, source: str, kind: str, *, fee: int = 0) -> str:
        made = self._add({
            "id": self._id("txn"), "object": "balance_transaction", "amount": amount, "available_on": self.now(),
            "created": self.now(), "currency": currency, "description": None, "exchange_rate": None, "fee": fee,
            "fee_details": [], "net": amount - fee, "reporting_category": kind, "source": source,
            "status": "available", "type": "adjustment" if kind.startswith("dispute") else kind,
        })  # fmt: skip
        made_id: str = made["id"]
        return made_id

    # --- Money back ---

    def refund(
        self, payment: str, amount_cents: int | None = None, *, status: RefundStatus = "succeeded",
        metadata: Mapping[str, str] | None = None, reason: str | None = None,
    ) -> Object:  # fmt: skip
        """Give money back: all that is left of it, unless an amount is given.

        Raises: StripeError when more is asked than is left.
        """
        with self.lock:
            charge = self.charge_of(payment)
            left = charge["amount_captured"] - charge["amount_refunded"]
            amount = left if amount_cents is None else amount_cents
            if left == 0:
                message = f"Charge {charge['id']} has already been refunded."
                raise StripeError(400, message, code="charge_already_refunded")
            if not 0 < amount <= left:
                message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
                raise StripeError(400, message, param="amount")
            refund = self._add({
                "id": self._id("re"), "object": "refund", "amount": amount, "balance_transaction": None,
                "charge": charge["id"], "created": self.now(), "currency": charge["currency"],
                "destination_details": {"type": "card"}, "metadata": dict(metadata or {}),
                "payment_intent": charge["payment_intent"], "reason": reason, "receipt_number": None,
                "source_transfer_reversal": None, "status": status, "transfer_reversal": None,
            })  # fmt: skip
            refund["balance_transaction"] = self._balance(-amount, charge["currency"], refund["id"], "refund")
            charge["_refunds"].append(refund["id"])
            before = self._refunded(charge, amount)
            self._emit("refund.created", refund)
            self._emit("charge.refunded", charge, before)
            return refund

    def settle_refund(self, refund_id: str) -> Object:
        """A pending refund has arrived."""
        return self._end_refund(refund_id, "succeeded", "refund.updated", "charge.refund.updated")

    def fail_refund(self, refund_id: str) -> Object:
        """The money could not be given back, and is here again."""
        return self._end_refund(refund_id, "failed", "refund.failed", "refund.updated", "charge.refund.updated")

    def cancel_refund(self, refund_id: str) -> Object:
        return self._end_refund(refund_id, "canceled", "refund.updated", "charge.refund.updated")

    def _end_refund(self, refund_id: str, status: str, *event_types: str) -> Object:
        with self.lock:
            refund = self.get(refund_id, "refund")
            before = {"status": refund["status"]}
            assert refund["status"] not in ("failed", "canceled"), f"{refund_id} is {refund['status']}"
            refund["status"] = status
            if status != "succeeded":
                charge = self.objects[refund["charge"]]
                self._refunded(charge, -refund["amount"])
                refund["failure_reason"] = "expired_or_canceled_card" if status == "failed" else None
                refund["failure_balance_transaction"] = self._balance(
                    refund["amount"], refund["currency"], refund_id, "refund_failure"
                )
            for event_type in event_types:
                self._emit(event_type, refund, before)
            return refund

    def _refunded(self, charge: Object, amount: int) -> Object:
        before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        return before

    def dispute(
        self, payment: str, amount_cents: int | None = None, *, inquiry: bool = False, reason: str = "fraudulent"
    ) -> Object:
        """The buyer's bank disputes the payment: the money is withdrawn, unless it only inquires."""
        with self.lock:
            charge = self.charge_of(payment)
            charge["disputed"] = True
            dispute = self._add({
                "id": self._id("du"), "object": "dispute",
                "amount": charge["amount"] if amount_cents is None else amount_cents, "balance_transactions": [],
                "charge": charge["id"], "created": self.now(), "currency": charge["currency"],
                "enhanced_eligibility_types": [], "evidence": {},
                "evidence_details": {"due_by": self.now() + 7 * DAY, "has_evidence": False, "past_due": False,
                                     "submission_count": 0},
                "is_charge_refundable": inquiry, "livemode": self.livemode, "metadata": {},
                "payment_intent": charge["payment_intent"],
                "payment_method_details": {"card": {"brand": "visa", "case_type": "chargeback"}, "type": "card"},
                "reason": reason, "status": "warning_needs_response" if inquiry else "needs_response",
            })  # fmt: skip
            if not inquiry:
                self._move(dispute, -dispute["amount"], fee=1_500)
            self._emit("charge.dispute.created", dispute)
            if not inquiry:
                self._emit("charge.dispute.funds_withdrawn", dispute)
            return dispute

    def answer_dispute(self, dispute_id: str) -> Object:
        """Evidence is handed in: the bank looks at it."""
        with self.lock:
            dispute = self.get(dispute_id, "dispute")
            before = {"status": dispute["status"]}
            dispute["status"] = "warning_under_review" if dispute["status"].startswith("warning") else "under_review"
            self._emit("charge.dispute.updated", dispute, before)
            return dispute

    def escalate_dispute(self, dispute_id: str) -> Object:
        """An inquiry becomes a dispute."""
        with self.lock:
            dispute = self.get(dispute_id, "dispute")
            before = {"status": dispute["status"]}
            dispute |= {"status": "needs_response", "is_charge_refundable": False}
            self._move(dispute, -dispute["amount"], fee=1_500)
            self._emit("charge.dispute.updated", dispute, before)
            self._emit("charge.dispute.funds_withdrawn", dispute)
            return dispute

    def close_dispute(self, dispute_id: str, end: DisputeEnd) -> Object:
        """The bank has decided. Won: the money comes back."""
        with self.lock:
            dispute = self.get(dispute_id, "dispute")
            dispute["status"] = end
            self._emit("charge.dispute.closed", dispute)
            if end == "won":
                self._move(dispute, dispute["amount"])
                self._emit("charge.dispute.funds_reinstated", dispute)
            return dispute

    def _move(self, dispute: Object, amount: int, *, fee: int = 0) -> None:
        kind = "dispute" if amount < 0 else "dispute_reversal"
        moved = self._balance(amount, dispute["currency"], dispute["id"], kind, fee=fee)
        dispute["balance_transactions"].append(deepcopy(self.objects[moved]))
