"""Subscriptions: their periods, and the invoices that pay them."""

import calendar
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from tests.stripe_double.account import DAY, flag, required
from tests.stripe_double.money_acts import MoneyActs
from tests.stripe_double.shapes import Object, listed


class SubscriptionActs(MoneyActs):
    """What time does, and members who change their minds."""

    def subscribe(
        self, customer: str, price: str, *, quantity: int = 1, metadata: Mapping[str, str] | None = None,
        trial_end: int | None = None, discount_cents: int = 0, email: str | None = None,
    ) -> Object:  # fmt: skip
        """Begin a subscription and pay its first invoice, or begin its trial."""
        with self.lock:
            sold, start = self.get(price, "price"), self.now()
            end = trial_end or after(start, sold["recurring"])
            subscription_id = self._id("sub")
            subscription = self._add({
                "id": subscription_id, "object": "subscription", "application": None,
                "automatic_tax": {"enabled": False}, "billing_cycle_anchor": end if trial_end else start,
                "cancel_at": None, "cancel_at_period_end": False, "canceled_at": None,
                "cancellation_details": {"comment": None, "feedback": None, "reason": None},
                "collection_method": "charge_automatically", "created": start, "currency": sold["currency"],
                "customer": customer, "days_until_due": None, "default_payment_method": None, "description": None,
                "discounts": [], "ended_at": None,
                "items": listed(
                    [{
                        "id": self._id("si"), "object": "subscription_item", "created": start,
                        "current_period_start": start, "current_period_end": end, "metadata": {}, "price": sold,
                        "quantity": quantity, "subscription": subscription_id,
                    }], f"/v1/subscription_items?subscription={subscription_id}",
                ),
                "latest_invoice": None, "livemode": self.livemode, "metadata": dict(metadata or {}),
                "pause_collection": None, "pending_setup_intent": None, "schedule": None, "start_date": start,
                "status": "trialing" if trial_end else "incomplete", "test_clock": None, "trial_end": trial_end,
                "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
                "trial_start": start if trial_end else None, "_email": email,
            })  # fmt: skip
            self._emit("customer.subscription.created", subscription)
            invoice = self._bill(subscription, "subscription_create", discount_cents=discount_cents)
            self.pay_invoice(invoice["id"])
            return subscription

    def renew(self, subscription_id: str, *, paid: bool = True, discount_cents: int = 0) -> Object:
        """The next period begins (a trial ends) and is billed; the invoice is paid, or its card declined."""
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            item = subscription["items"]["data"][0]
            before = {key: item[key] for key in ("current_period_start", "current_period_end")}
            start = item["current_period_end"]
            item |= {"current_period_start": start, "current_period_end": after(start, item["price"]["recurring"])}
            if subscription["status"] == "trialing":
                before["status"] = "trialing"
                subscription["status"] = "active"
            self._emit("customer.subscription.updated", subscription, before)
            invoice = self._bill(subscription, "subscription_cycle", discount_cents=discount_cents)
            if subscription["pause_collection"] is None:
                (self.pay_invoice if paid else self.decline_invoice)(invoice["id"])
            return invoice

    def pay_invoice(self, invoice_id: str) -> Object:
        """The invoice is paid, at once or after all."""
        with self.lock:
            invoice = self.get(invoice_id, "invoice")
            assert invoice["status"] == "open", f"{invoice_id} is {invoice['status']}"
            if invoice["amount_due"] > 0:
                intent = self._intent_of_invoice(invoice)
                charge = self._succeed(intent)
                invoice["_charge"] = charge["id"]
                paid = invoice["payments"]["data"][0]
                paid |= {"amount_paid": invoice["amount_due"], "status": "paid"}
                paid["status_transitions"]["paid_at"] = self.now()
            invoice |= {
                "amount_paid": invoice["amount_due"], "amount_remaining": 0, "attempted": True, "status": "paid",
                "attempt_count": invoice["attempt_count"] + (invoice["amount_due"] > 0),
            }  # fmt: skip
            invoice["status_transitions"]["paid_at"] = self.now()
            self._emit("invoice.paid", invoice)
            self._emit("invoice.payment_succeeded", invoice)
            if invoice["amount_due"] > 0 and self.api_version >= "2025-03-31":
                self._emit("invoice_payment.paid", invoice["payments"]["data"][0])
            subscription = self.objects[invoice["parent"]["subscription_details"]["subscription"]]
            if subscription["status"] in ("incomplete", "past_due", "unpaid"):
                before = {"status": subscription["status"]}
                subscription["status"] = "active"
                self._emit("customer.subscription.updated", subscription, before)
            return invoice

    def decline_invoice(self, invoice_id: str) -> Object:
        """The card is declined; the subscription is past due."""
        with self.lock:
            invoice = self.get(invoice_id, "invoice")
            self._decline(self._intent_of_invoice(invoice))
            invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
            self._emit("invoice.payment_failed", invoice)
            subscription = self.objects[invoice["parent"]["subscription_details"]["subscription"]]
            if subscription["status"] == "active":
                subscription["status"] = "past_due"
                self._emit("customer.subscription.updated", subscription, {"status": "active"})
            return invoice

    def void_invoice(self, invoice_id: str) -> Object:
        with self.lock:
            invoice = self.get(invoice_id, "invoice")
            invoice["status"] = "void"
            invoice["status_transitions"]["voided_at"] = self.now()
            self._emit("invoice.voided", invoice)
            return invoice

    def cancel(self, subscription_id: str, *, at_period_end: bool = False) -> Object:
        """End the subscription now, or say that it ends with its period (`end` then ends it)."""
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            if not at_period_end:
                return self.end(subscription_id)
            end = subscription["items"]["data"][0]["current_period_end"]
            before = {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
            subscription |= {"cancel_at": end, "cancel_at_period_end": True, "canceled_at": self.now()}
            self._emit("customer.subscription.updated", subscription, before)
            return subscription

    def keep(self, subscription_id: str) -> Object:
        """Take back that it ends with its period."""
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            before = {key: subscription[key] for key in ("cancel_at", "cancel_at_period_end", "canceled_at")}
            subscription |= {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
            self._emit("customer.subscription.updated", subscription, before)
            return subscription

    def end(self, subscription_id: str) -> Object:
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            subscription["canceled_at"] = subscription["canceled_at"] or self.now()
            subscription |= {"status": "canceled", "ended_at": self.now()}
            self._emit("customer.subscription.deleted", subscription)
            return subscription

    def trial_will_end(self, subscription_id: str) -> Object:
        """Three days before a trial ends, Stripe says so."""
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            self._emit("customer.subscription.trial_will_end", subscription)
            return subscription

    def pause(self, subscription_id: str) -> Object:
        """A trial ended without a payment method: the subscription is paused, and nothing is billed."""
        return self._status(subscription_id, "paused", "customer.subscription.paused")

    def resume(self, subscription_id: str, *, bills: bool = True) -> Object:
        """A paused subscription goes on, with a period that begins now."""
        with self.lock:
            item = self.get(subscription_id, "subscription")["items"]["data"][0]
            item["current_period_start"] = self.now()
            item["current_period_end"] = after(self.now(), item["price"]["recurring"])
            subscription = self._status(subscription_id, "active", "customer.subscription.resumed")
            if bills:
                self.pay_invoice(self._bill(subscription, "subscription_cycle")["id"])
            return subscription

    def pause_collection(self, subscription_id: str, behavior: str | None = "void") -> Object:
        """Invoices are made but not paid; None: collect again."""
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            before = {"pause_collection": subscription["pause_collection"]}
            subscription["pause_collection"] = behavior and {"behavior": behavior, "resumes_at": None}
            self._emit("customer.subscription.updated", subscription, before)
            return subscription

    def give_up(self, subscription_id: str) -> Object:
        """All retries of a past-due invoice failed: unpaid."""
        return self._status(subscription_id, "unpaid")

    def change_plan(self, subscription_id: str, price: str) -> Object:
        """Another price from now on. Another rhythm is billed at once, from now; the same one prorates later."""
        with self.lock:
            subscription, sold = self.get(subscription_id, "subscription"), self.get(price, "price")
            item = subscription["items"]["data"][0]
            before = {"items": deepcopy(subscription["items"])}
            is_new_rhythm = sold["recurring"] != item["price"]["recurring"]
            item["price"] = sold
            if is_new_rhythm:
                subscription["billing_cycle_anchor"] = self.now()
                item["current_period_start"] = self.now()
                item["current_period_end"] = after(self.now(), sold["recurring"])
            self._emit("customer.subscription.updated", subscription, self.shown(before))
            if is_new_rhythm:
                self.pay_invoice(self._bill(subscription, "subscription_update")["id"])
            return subscription

    def update_subscription(self, subscription: Object, params: Mapping[str, Any]) -> Object:
        with self.lock:
            if "cancel_at_period_end" in params:
                is_ending = flag(params["cancel_at_period_end"], False)
                if is_ending != subscription["cancel_at_period_end"]:
                    act = (lambda name: self.cancel(name, at_period_end=True)) if is_ending else self.keep
                    act(subscription["id"])
            if items := params.get("items"):
                self.change_plan(subscription["id"], required(items[0], "price"))
            return self._update(subscription, params, texts=("description",))

    def _status(self, subscription_id: str, status: str, *event_types: str) -> Object:
        with self.lock:
            subscription = self.get(subscription_id, "subscription")
            before = {"status": subscription["status"]}
            subscription["status"] = status
            self._emit("customer.subscription.updated", subscription, before)
            for event_type in event_types:
                self._emit(event_type, subscription)
            return subscription

    def _bill(self, subscription: Object, billing_reason: str, *, discount_cents: int = 0) -> Object:
        """Make the invoice of the subscription's present period, and finalize it."""
        item, now = subscription["items"]["data"][0], self.now()
        price, invoice_id = item["price"], self._id("in")
        amount = 0 if subscription["status"] == "trialing" else price["unit_amount"] * item["quantity"]
        discounts = [{"amount": discount_cents, "discount": "di_double"}] if discount_cents else []
        due = amount - discount_cents
        length = item["current_period_end"] - item["current_period_start"]
        line = {
            "id": self._id("il"), "object": "line_item", "amount": amount, "currency": price["currency"],
            "description": f"{item['quantity']} × {self.objects[price['product']]['name']}",
            "discount_amounts": discounts, "discountable": True, "discounts": [], "invoice": invoice_id,
            "livemode": self.livemode, "metadata": dict(subscription["metadata"]),
            "parent": {
                "invoice_item_details": None,
                "subscription_item_details": {
                    "invoice_item": None, "proration": False, "proration_details": None,
                    "subscription": subscription["id"], "subscription_item": item["id"],
                },
                "type": "subscription_item_details",
            },
            "period": {"start": item["current_period_start"], "end": item["current_period_end"]},
            "pricing": {
                "price_details": {"price": price["id"], "product": price["product"]}, "type": "price_details",
                "unit_amount_decimal": price["unit_amount_decimal"],
            },
            "quantity": item["quantity"], "taxes": [],
        }  # fmt: skip
        customer = self.objects[subscription["customer"]]
        invoice = self._add({
            "id": invoice_id, "object": "invoice", "account_country": "US", "amount_due": due, "amount_paid": 0,
            "amount_remaining": due, "amount_shipping": 0, "attempt_count": 0, "attempted": False,
            "auto_advance": True, "automatic_tax": {"enabled": False, "liability": None, "status": None},
            "billing_reason": billing_reason, "collection_method": "charge_automatically", "created": now,
            "currency": price["currency"], "customer": customer["id"], "customer_email": customer["email"],
            "customer_name": customer["name"], "customer_tax_exempt": "none", "default_payment_method": None,
            "description": None, "discounts": [], "due_date": None, "ending_balance": None, "footer": None,
            "lines": listed([line], f"/v1/invoices/{invoice_id}/lines") | {"total_count": 1},
            "livemode": self.livemode, "metadata": {}, "next_payment_attempt": None, "number": None,
            "parent": {
                "quote_details": None,
                "subscription_details": {
                    "metadata": dict(subscription["metadata"]), "subscription": subscription["id"],
                },
                "type": "subscription_details",
            },
            "payments": listed([], f"/v1/invoice_payments?invoice={invoice_id}"),
            # These look back from the invoice's making; what is paid is the period of its line.
            "period_start": now if billing_reason == "subscription_create" else now - length, "period_end": now,
            "starting_balance": 0, "status": "draft",
            "status_transitions": {"finalized_at": None, "marked_uncollectible_at": None, "paid_at": None,
                                   "voided_at": None},
            "subtotal": amount, "subtotal_excluding_tax": amount, "test_clock": None, "total": due,
            "total_discount_amounts": discounts, "total_excluding_tax": due, "total_taxes": [], "_charge": None,
            "_payment_intent": None,
        })  # fmt: skip
        subscription["latest_invoice"] = invoice_id
        self._emit("invoice.created", invoice)
        invoice |= {"status": "open"}
        invoice["status_transitions"]["finalized_at"] = now
        self._emit("invoice.finalized", invoice)
        return invoice

    def _intent_of_invoice(self, invoice: Object) -> Object:
        if invoice["_payment_intent"] is not None:
            return self.objects[invoice["_payment_intent"]]
        # Stripe gives a subscription's payment intents none of its metadata.
        intent = self._make_intent(invoice["amount_due"], invoice["currency"], invoice["customer"], {}, invoice["id"])
        invoice["_payment_intent"] = intent["id"]
        payment = self._add({
            "id": self._id("inpay"), "object": "invoice_payment", "amount_paid": None,
            "amount_requested": invoice["amount_due"], "created": self.now(), "currency": invoice["currency"],
            "invoice": invoice["id"], "is_default": True, "livemode": self.livemode,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"}, "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        })  # fmt: skip
        invoice["payments"]["data"].append(payment)
        return intent


def after(start: int, recurring: Mapping[str, Any]) -> int:
    """The end of a period: days and weeks by the second, months and years by the calendar."""
    count: int = recurring["interval_count"]
    if recurring["interval"] in ("day", "week"):
        return start + count * DAY * (7 if recurring["interval"] == "week" else 1)
    months = count * (12 if recurring["interval"] == "year" else 1)
    moment = datetime.fromtimestamp(start, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    end = moment.replace(year=year, month=month + 1, day=day)
    return int(end.timestamp())
