"""The objects of one Stripe account, and what buyers, banks and time do to them.

Each act changes the objects and then sends the events that Stripe sends for it, in one of Stripe's API versions. Ids
are consistent: what a checkout made is named by its charge, its refunds and its disputes. Nothing here asks for the
time: the clock is passed in. Amounts are whole minor units. Every method may be called from any thread.

`account.py` keeps the objects, `catalog_acts.py`, `money_acts.py` and `subscription_acts.py` say what can happen to
them; a checkout, which needs all three, is here.
"""

from collections.abc import Mapping
from typing import Any

from tests.stripe_double.account import DAY, Clock, StripeError, required, whole
from tests.stripe_double.shapes import Object, listed
from tests.stripe_double.subscription_acts import SubscriptionActs

__all__ = ["Clock", "StripeError", "World"]


class World(SubscriptionActs):
    """One Stripe account with all that can happen to it."""

    def make_session(self, params: Mapping[str, Any]) -> Object:
        with self.lock:
            mode = required(params, "mode")
            if params.get("ui_mode", "hosted") == "hosted":
                required(params, "success_url")
            items = [self._item(item) for item in required(params, "line_items")]
            prices = [item["price"] for item in items]
            if mode == "subscription" and not any(price["recurring"] for price in prices):
                message = "You must provide at least one recurring price in `subscription` mode when using prices."
                raise StripeError(400, message, param="line_items")
            if mode == "payment" and any(price["recurring"] for price in prices):
                message = "You specified `payment` mode but passed a recurring price."
                raise StripeError(400, message, param="line_items")
            if len({price["currency"] for price in prices}) != 1:
                raise StripeError(400, "All line items must have the same currency.", param="line_items")
            if (customer := params.get("customer")) is not None:
                self.get(customer, "customer", param="customer")
            data = params.get("subscription_data") or {}
            is_trial = "trial_period_days" in data or "trial_end" in data
            subtotal = 0 if is_trial else sum(item["amount_subtotal"] for item in items)
            session_id = self._id("cs_live" if self.livemode else "cs_test")
            return self._add({
                "id": session_id, "object": "checkout.session", "adaptive_pricing": {"enabled": False},
                "after_expiration": None, "allow_promotion_codes": params.get("allow_promotion_codes"),
                "amount_subtotal": subtotal, "amount_total": subtotal,
                "automatic_tax": {"enabled": False, "liability": None, "status": None},
                "billing_address_collection": None, "cancel_url": params.get("cancel_url"),
                "client_reference_id": params.get("client_reference_id"), "client_secret": None,
                "collected_information": None, "consent": None, "consent_collection": None, "created": self.now(),
                "currency": prices[0]["currency"], "custom_fields": [], "customer": customer,
                "customer_creation": None if customer or mode == "subscription" else params.get(
                    "customer_creation", "if_required"),
                "customer_details": None, "customer_email": params.get("customer_email"),
                "expires_at": whole(params.get("expires_at", self.now() + DAY), "expires_at"), "invoice": None,
                "line_items": listed(items, f"/v1/checkout/sessions/{session_id}/line_items"),
                "livemode": self.livemode, "locale": params.get("locale"),
                "metadata": dict(params.get("metadata") or {}), "mode": mode, "payment_intent": None,
                "payment_link": None,
                "payment_method_collection": "always" if mode == "subscription" else "if_required",
                "payment_method_types": ["card"], "payment_status": "unpaid", "setup_intent": None,
                "shipping_cost": None, "status": "open", "submit_type": None, "subscription": None,
                "success_url": params.get("success_url"),
                "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
                "ui_mode": params.get("ui_mode", "hosted"),
                "url": f"https://checkout.stripe.com/c/pay/{session_id}", "_is_trial": is_trial,
                "_payment_intent_data": dict(params.get("payment_intent_data") or {}), "_subscription_data": dict(data),
            })  # fmt: skip

    def pay(self, session_id: str, *, email: str = "buyer@example.com", discount_cents: int = 0) -> Object:
        """The buyer pays with a card, at once. `discount_cents` is what a promotion code takes off."""
        with self.lock:
            session = self._open_session(session_id, email, discount_cents)
            if session["mode"] == "subscription":
                return self._begin_subscription(session)
            if session["amount_total"] == 0:
                session |= {"payment_status": "no_payment_required", "status": "complete"}
            else:
                intent = self._intent_of(session)
                self._succeed(intent)
                session |= {"payment_intent": intent["id"], "payment_status": "paid", "status": "complete"}
            self._emit("checkout.session.completed", session)
            return session

    def pay_async(self, session_id: str, *, email: str = "buyer@example.com", discount_cents: int = 0) -> Object:
        """The buyer pays by a bank debit: complete, but unpaid until `settle_async`."""
        with self.lock:
            session = self._open_session(session_id, email, discount_cents)
            intent = self._intent_of(session)
            intent["status"] = "processing"
            self._emit("payment_intent.processing", intent)
            session |= {"payment_intent": intent["id"], "status": "complete"}
            self._emit("checkout.session.completed", session)
            return session

    def settle_async(self, session_id: str, *, succeeded: bool = True) -> Object:
        """The bank says yes or no, days later."""
        with self.lock:
            session = self.get(session_id, "checkout.session")
            intent = self.get(session["payment_intent"], "payment_intent")
            if succeeded:
                self._succeed(intent)
                session["payment_status"] = "paid"
                self._emit("checkout.session.async_payment_succeeded", session)
            else:
                self._decline(intent)
                self._emit("checkout.session.async_payment_failed", session)
            return session

    def fail(self, session_id: str) -> Object:
        """The buyer's card is declined; the session stays open."""
        with self.lock:
            session = self.get(session_id, "checkout.session")
            self._decline(self._intent_of(session))
            return session

    def expire(self, session_id: str) -> Object:
        """Nobody paid in time."""
        with self.lock:
            session = self.get(session_id, "checkout.session")
            session |= {"status": "expired", "url": None}
            self._emit("checkout.session.expired", session)
            return session

    def _open_session(self, session_id: str, email: str, discount_cents: int) -> Object:
        session = self.get(session_id, "checkout.session")
        assert session["status"] == "open", f"{session_id} is {session['status']}"
        if session["mode"] == "subscription" or session["customer_creation"] == "always":
            session["customer"] = session["customer"] or self.make_customer({"email": email})["id"]
        session["amount_total"] = session["amount_subtotal"] - discount_cents
        session["total_details"]["amount_discount"] = discount_cents
        session["customer_details"] = {
            "address": None, "email": email, "name": None, "phone": None, "tax_exempt": "none", "tax_ids": [],
        }  # fmt: skip
        session["url"] = None
        return session

    def _item(self, given: Mapping[str, Any]) -> Object:
        if data := given.get("price_data"):
            price = self.make_price(data)
        else:
            price = self.get(required(given, "price"), "price", param="line_items[0][price]")
        if not price["active"]:
            raise StripeError(400, "The price specified is inactive. This field only accepts active prices.")
        quantity = whole(given.get("quantity", 1), "quantity")
        amount = price["unit_amount"] * quantity
        return {
            "id": self._id("li"), "object": "item", "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0,
            "amount_total": amount, "currency": price["currency"],
            "description": self.objects[price["product"]]["name"], "metadata": {}, "price": price,
            "quantity": quantity,
        }  # fmt: skip

    def _begin_subscription(self, session: Object) -> Object:
        data = session["_subscription_data"]
        item = next(one for one in session["line_items"]["data"] if one["price"]["recurring"])
        trial_end = data.get("trial_end") and int(data["trial_end"])
        if days := data.get("trial_period_days"):
            trial_end = self.now() + int(days) * DAY
        discount = session["total_details"]["amount_discount"]
        subscription = self.subscribe(
            session["customer"], item["price"]["id"], quantity=item["quantity"],
            metadata=dict(data.get("metadata") or {}), trial_end=trial_end, discount_cents=discount,
            email=session["customer_details"]["email"],
        )  # fmt: skip
        session |= {
            "subscription": subscription["id"], "invoice": subscription["latest_invoice"], "status": "complete",
            "payment_status": "no_payment_required" if trial_end or session["amount_total"] == 0 else "paid",
        }  # fmt: skip
        self._emit("checkout.session.completed", session)
        return session
