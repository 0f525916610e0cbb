"""How an object looks in an API version: the world keeps each object once, in the newest shape, and what older versions
show besides under names that begin with `_`.

Two borders matter here. Before 2022-11-15 a payment intent carried its charges, and a charge its refunds. Until
2025-03-31 (basil) an invoice named its subscription, payment intent and charge, these named their invoice, and a
subscription had its period itself; since then an invoice says so under `parent` and `payments`, and the period is
that of the subscription's items.
"""

from collections.abc import Callable
from typing import Any

ANCIENT = "2020-08-27"
OLD = "2024-04-10"
NEW = "2026-06-24.dahlia"

CHARGES_LEFT = "2022-11-15"
BASIL = "2025-03-31"

Object = dict[str, Any]
Find = Callable[[str], Object | None]


def listed(objects: list[Object], url: str, *, has_more: bool = False) -> Object:
    return {"object": "list", "data": objects, "has_more": has_more, "url": url}


def render(value: Any, version: str, find: Find) -> Any:
    """Return a copy of an object, and of all within it, as `version` shows it."""
    if isinstance(value, list):
        return [render(item, version, find) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {key: render(item, version, find) for key, item in value.items() if not key.startswith("_")}
    shape = _SHAPES.get(value.get("object", ""))
    if shape is not None:
        shape(value, shown, version, find)
    return shown


def _payment_intent(kept: Object, shown: Object, version: str, find: Find) -> None:
    if version < BASIL:
        shown["invoice"] = kept["_invoice"]
    if version < CHARGES_LEFT:
        del shown["latest_charge"]
        charges = [render(charge, version, find) for charge in map(find, kept["_charges"]) if charge]
        shown["charges"] = listed(charges, f"/v1/charges?payment_intent={kept['id']}")


def _charge(kept: Object, shown: Object, version: str, find: Find) -> None:
    if version < BASIL:
        shown["invoice"] = kept["_invoice"]
    if version < CHARGES_LEFT:
        refunds = [render(refund, version, find) for refund in map(find, reversed(kept["_refunds"])) if refund]
        shown["refunds"] = listed(refunds, f"/v1/charges/{kept['id']}/refunds")


def _invoice(kept: Object, shown: Object, version: str, find: Find) -> None:
    del shown["payments"]
    if version >= BASIL:
        return
    details = (shown.pop("parent") or {}).get("subscription_details") or {}
    del shown["total_taxes"]
    shown |= {
        "charge": kept["_charge"],
        "paid": kept["status"] == "paid",
        "paid_out_of_band": False,
        "payment_intent": kept["_payment_intent"],
        "subscription": details.get("subscription"),
        "subscription_details": {"metadata": details.get("metadata")},
        "tax": None,
        "total_tax_amounts": [],
    }


def _line(kept: Object, shown: Object, version: str, find: Find) -> None:
    if version >= BASIL:
        return
    details = shown.pop("parent")["subscription_item_details"]
    pricing = shown.pop("pricing")
    shown.pop("taxes")
    price = render(find(pricing["price_details"]["price"]), version, find)
    shown |= {
        "plan": _plan_of(price),
        "price": price,
        "proration": details["proration"],
        "proration_details": {"credited_items": None},
        "subscription": details["subscription"],
        "subscription_item": details["subscription_item"],
        "tax_amounts": [],
        "tax_rates": [],
        "type": "subscription",
    }


def _subscription(kept: Object, shown: Object, version: str, find: Find) -> None:
    if version < BASIL:
        item = kept["items"]["data"][0]
        shown |= {key: item[key] for key in ("current_period_start", "current_period_end")}
        shown["plan"] = _plan_of(shown["items"]["data"][0]["price"])
        shown["quantity"] = item["quantity"]


def _subscription_item(kept: Object, shown: Object, version: str, find: Find) -> None:
    shown["plan"] = _plan_of(shown["price"])
    if version < BASIL:
        del shown["current_period_start"], shown["current_period_end"]


def _session(kept: Object, shown: Object, version: str, find: Find) -> None:
    # Shown to those who ask for them: `expand`, or their own list.
    del shown["line_items"]
    if version < BASIL:
        del shown["adaptive_pricing"], shown["collected_information"]


def _plan_of(price: Object) -> Object:
    recurring = price["recurring"] or {}
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "currency": price["currency"],
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "metadata": price["metadata"],
        "product": price["product"],
        "usage_type": "licensed",
    }


_SHAPES: dict[str, Callable[[Object, Object, str, Find], None]] = {
    "charge": _charge,
    "checkout.session": _session,
    "invoice": _invoice,
    "line_item": _line,
    "payment_intent": _payment_intent,
    "subscription": _subscription,
    "subscription_item": _subscription_item,
}
