"""An account: its objects, its ids, and the events that it sends. What happens to the objects is told elsewhere."""

import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

from tests.stripe_double.shapes import NEW, Object, render

Clock = Callable[[], datetime]

DAY = 86_400


class StripeError(Exception):
    """What the API answers instead of an object."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None,
        error_type: str = "invalid_request_error",
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        told = {"code": code, "message": message, "param": param, "type": error_type}
        self.body = {"error": {key: value for key, value in told.items() if value is not None}}


class Account:
    """One Stripe account in test mode.

    `names_payments` lets the events of the newest versions show an invoice's payments. Stripe leaves them out, as it
    does whatever is shown to `expand` alone, and tells them by `invoice_payment.paid`.
    """

    def __init__(
        self, *, clock: Clock, api_version: str = NEW, salt: str = "", names_payments: bool = False,
        livemode: bool = False,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.api_version = api_version  # Of events made from now on.
        self.names_payments = names_payments
        self.livemode = livemode
        self.lock = threading.RLock()
        self.objects: dict[str, Object] = {}
        self.events: list[Object] = []
        self.by_request: tuple[str | None, str | None] = (None, None)  # (request, idempotency key) now being served.
        self._salt = salt
        self._counts: dict[str, int] = {}

    # --- Looking ---

    def now(self) -> int:
        return int(self.clock().timestamp())

    def find(self, object_id: str) -> Object | None:
        return self.objects.get(object_id)

    def get(self, object_id: str, kind: str, *, param: str = "id", is_path: bool = False) -> Object:
        """Raises: StripeError, as Stripe says that there is no such thing."""
        found = self.objects.get(object_id)
        if found is None or found["object"] != kind:
            message = f"No such {kind.replace('.', ' ').replace('_', ' ')}: '{object_id}'"
            raise StripeError(404 if is_path else 400, message, code="resource_missing", param=param)
        return found

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind, newest first, as Stripe lists them."""
        found = [
            (one["created"], place, one) for place, one in enumerate(self.objects.values()) if one["object"] == kind
        ]
        return [one for _, _, one in sorted(found, key=lambda each: each[:2], reverse=True)]

    def shown(self, kept: Object, version: str | None = None) -> Object:
        """An object as an API version shows it."""
        shown: Object = render(kept, version or self.api_version, self.find)
        return shown

    # --- For those who act on it ---

    def _id(self, prefix: str) -> str:
        self._counts[prefix] = self._counts.get(prefix, 0) + 1
        return f"{prefix}_double{self._salt}{self._counts[prefix]:06d}"

    def _add(self, kept: Object) -> Object:
        self.objects[kept["id"]] = kept
        return kept

    def _update(self, kept: Object, params: Mapping[str, Any], *, texts: tuple[str, ...]) -> Object:
        with self.lock:
            changes = {key: params[key] or None for key in texts if key in params}
            if "active" in params:
                changes["active"] = flag(params["active"], True)
            if "metadata" in params:
                # As Stripe merges it: an empty text takes a key away.
                merged = kept["metadata"] | dict(params["metadata"] or {})
                changes["metadata"] = {key: value for key, value in merged.items() if value != ""}
            before = {key: kept[key] for key, value in changes.items() if kept[key] != value}
            kept |= changes
            if before:
                name = {"subscription": "customer.subscription"}.get(kept["object"], kept["object"])
                self._emit(f"{name}.updated", kept, before)
            return kept

    def _emit(self, event_type: str, kept: Object, before: Object | None = None) -> None:
        version = self.api_version
        shown = self.shown(kept, version)
        if kept["object"] == "invoice" and version >= "2025-03-31" and self.names_payments:
            shown["payments"] = self.shown(kept["payments"], version)
        data = {"object": deepcopy(shown)} | ({"previous_attributes": deepcopy(before)} if before else {})
        request_id, key = self.by_request
        self.events.append(self._add({
            "id": self._id("evt"), "object": "event", "api_version": version, "created": self.now(), "data": data,
            "livemode": self.livemode, "pending_webhooks": 1,
            "request": {"id": request_id, "idempotency_key": key}, "type": event_type,
        }))  # fmt: skip


# --- Parameters ---


def required(params: Mapping[str, Any], name: str) -> Any:
    if params.get(name) in (None, ""):
        raise StripeError(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    return params[name]


def whole(value: Any, name: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise StripeError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name) from None


def flag(value: Any, otherwise: bool) -> bool:
    return otherwise if value is None else value in (True, "true")
