"""Products, prices, customers and portals: what the API makes because it is asked to."""

from collections.abc import Mapping
from typing import Any

from tests.stripe_double.account import Account, StripeError, flag, required, whole
from tests.stripe_double.shapes import Object


class CatalogActs(Account):
    """What can be sold, and to whom."""

    def make_product(self, params: Mapping[str, Any]) -> Object:
        with self.lock:
            name = required(params, "name")
            if (given := params.get("id")) in self.objects:
                raise StripeError(400, "Product already exists.", code="resource_already_exists", param="id")
            product = self._add({
                "id": given or self._id("prod"), "object": "product", "active": flag(params.get("active"), True),
                "attributes": [], "created": self.now(), "default_price": None,
                "description": params.get("description"), "images": [], "livemode": self.livemode,
                "marketing_features": [], "metadata": dict(params.get("metadata") or {}), "name": name,
                "package_dimensions": None, "shippable": None, "statement_descriptor": None,
                "tax_code": params.get("tax_code"), "type": "service", "unit_label": params.get("unit_label"),
                "updated": self.now(), "url": params.get("url"),
            })  # fmt: skip
            self._emit("product.created", product)
            if data := params.get("default_price_data"):
                product["default_price"] = self.make_price({**data, "product": product["id"]})["id"]
            return product

    def update_product(self, product: Object, params: Mapping[str, Any]) -> Object:
        return self._update(product, params, texts=("name", "description", "default_price", "url", "unit_label"))

    def make_price(self, params: Mapping[str, Any]) -> Object:
        with self.lock:
            currency = str(required(params, "currency")).lower()
            if "product" not in params and "product_data" not in params:
                raise StripeError(400, "Missing required param: product.", code="parameter_missing", param="product")
            amount = whole(required(params, "unit_amount"), "unit_amount")
            product_id = params.get("product") or self.make_product(params["product_data"])["id"]
            self.get(product_id, "product", param="product")
            self._free_lookup_key(params)
            recurring = params.get("recurring")
            price = self._add({
                "id": self._id("price"), "object": "price", "active": flag(params.get("active"), True),
                "billing_scheme": "per_unit", "created": self.now(), "currency": currency,
                "custom_unit_amount": None, "livemode": self.livemode, "lookup_key": params.get("lookup_key"),
                "metadata": dict(params.get("metadata") or {}), "nickname": params.get("nickname"),
                "product": product_id, "recurring": recurring and {
                    "interval": required(recurring, "interval"),
                    "interval_count": whole(recurring.get("interval_count", 1), "recurring[interval_count]"),
                    "meter": None, "trial_period_days": None, "usage_type": "licensed",
                },
                "tax_behavior": params.get("tax_behavior", "unspecified"), "tiers_mode": None,
                "transform_quantity": None, "type": "recurring" if recurring else "one_time",
                "unit_amount": amount, "unit_amount_decimal": str(amount),
            })  # fmt: skip
            self._emit("price.created", price)
            return price

    def update_price(self, price: Object, params: Mapping[str, Any]) -> Object:
        with self.lock:
            self._free_lookup_key(params, but=price["id"])
            return self._update(price, params, texts=("lookup_key", "nickname", "tax_behavior"))

    def _free_lookup_key(self, params: Mapping[str, Any], *, but: str | None = None) -> None:
        key = params.get("lookup_key")
        for price in self.of_kind("price") if key else ():
            if price["lookup_key"] == key and price["id"] != but:
                if not flag(params.get("transfer_lookup_key"), False):
                    message = f"A price (`{price['id']}`) already uses that lookup key."
                    raise StripeError(400, message, param="lookup_key")
                price["lookup_key"] = None

    def make_customer(self, params: Mapping[str, Any]) -> Object:
        with self.lock:
            customer = self._add({
                "id": self._id("cus"), "object": "customer", "address": None, "balance": 0, "created": self.now(),
                "currency": None, "default_source": None, "delinquent": False,
                "description": params.get("description"), "discount": None, "email": params.get("email"),
                "invoice_prefix": "DOUBLE", "livemode": self.livemode,
                "metadata": dict(params.get("metadata") or {}), "name": params.get("name"),
                "phone": params.get("phone"), "preferred_locales": [], "shipping": None, "tax_exempt": "none",
                "test_clock": None,
            })  # fmt: skip
            self._emit("customer.created", customer)
            return customer

    def update_customer(self, customer: Object, params: Mapping[str, Any]) -> Object:
        return self._update(customer, params, texts=("email", "name", "description", "phone"))

    def make_portal(self, params: Mapping[str, Any]) -> Object:
        with self.lock:
            customer = self.get(required(params, "customer"), "customer", param="customer")
            portal_id = self._id("bps")
            return self._add({
                "id": portal_id, "object": "billing_portal.session",
                "configuration": params.get("configuration", "bpc_double"), "created": self.now(),
                "customer": customer["id"], "flow": None, "livemode": self.livemode,
                "locale": params.get("locale"), "on_behalf_of": None, "return_url": params.get("return_url"),
                "url": f"https://billing.stripe.com/p/session/{portal_id}",
            })  # fmt: skip
