"""Signed Stripe events as a busy shop sends them: what `till bench webhook` posts, and what its baseline checks.

Of ten deliveries, six are paid checkouts of a pack, three of them by people nobody has met; two are of types that the
till stores and ignores; two are events that were sent a while ago already.
"""

import hashlib
import hmac
import itertools
import json
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tokentill.bench.load import choose
from tokentill.core.plans.catalog import EXAMPLE
from tokentill.samples.stripe import checkout_pack

PATH = "/api/stripe/webhook"
PACK = "power"
PACK_CENTS = EXAMPLE.pack(PACK).price_cents
KINDS = ("new", "known", "ignored", "new", "known", "again", "new", "known", "ignored", "again")
AGAIN_AFTER = 512  # Deliveries: by then the first one was answered.

# What fills a session of a real shop beside what the till reads.
_REST: dict[str, Any] = {
    "adaptive_pricing": {"enabled": True},
    "after_expiration": {"recovery": {"allow_promotion_codes": False, "enabled": True, "expires_at": None,
                                      "url": None}},
    "branding_settings": {"background_color": "#ffffff", "border_style": "rounded", "button_color": "#0074d4",
                          "display_name": "Vision", "font_family": "default", "icon": None, "logo": None},
    "consent": {"promotions": None, "terms_of_service": "accepted"},
    "consent_collection": {"payment_method_reuse_agreement": None, "promotions": "none",
                           "terms_of_service": "required"},
    "custom_fields": [{"key": "company", "label": {"custom": "Company", "type": "custom"}, "optional": True,
                       "text": {"default_value": None, "maximum_length": None, "minimum_length": None,
                                "value": "Example Ltd"}, "type": "text"}],
    "custom_text": {"after_submit": None, "shipping_address": None,
                    "submit": {"message": "Tokens are in your account within seconds."},
                    "terms_of_service_acceptance": None},
    "invoice_creation": {"enabled": False, "invoice_data": {"account_tax_ids": None, "custom_fields": None,
                         "description": None, "footer": None, "issuer": None, "metadata": {},
                         "rendering_options": None}},
    "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
    "payment_method_configuration_details": {"id": "pmc_1OqTVf2eZvKYlo2CRZWPA1Yz", "parent": None},
    "phone_number_collection": {"enabled": False},
    "success_url": "https://app.example.com/account/tokens?paid=1&session_id={CHECKOUT_SESSION_ID}",
    "cancel_url": "https://app.example.com/account/tokens?paid=0&session_id={CHECKOUT_SESSION_ID}",
    "tax_id_collection": {"enabled": True, "required": "never"},
    "saved_payment_method_options": {"allow_redisplay_filters": ["always"], "payment_method_remove": "disabled",
                                     "payment_method_save": None},
}  # fmt: skip
_IGNORED = "payment_method.attached"


class Hooks:
    """Makes one signed delivery after the other; no two runs share an id."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._known = [str(user) for user in choose(task["accounts"], task["distribution"], seed=task["seed"])]
        self._run = f"{task['seed']}_{time.time_ns():x}"
        self._secret = task["secret"].encode()
        self._host = urlsplit(task.get("server", "")).netloc
        self._numbers = itertools.count()
        self._sent: deque[bytes] = deque()
        self._template = _template()
        self.counts = dict.fromkeys(("packs", "ignored", "again"), 0)

    def next(self) -> bytes:
        """Return the bytes of the next request."""
        body, header = self.signed()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Stripe-Signature: {header}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def signed(self) -> tuple[bytes, str]:
        """Return the next event as it is sent, and its signature: of the moment, also when it is sent again."""
        body = self._body()
        now = int(time.time())
        digest = hmac.new(self._secret, b"%d." % now + body, hashlib.sha256).hexdigest()
        return body, f"t={now},v1={digest}"

    def _body(self) -> bytes:
        number = next(self._numbers)
        kind = KINDS[number % len(KINDS)]
        if kind == "again" and len(self._sent) >= AGAIN_AFTER:
            self.counts["again"] += 1
            return self._sent.popleft()
        event = f"{self._run}_{number}"
        user = self._known[number % len(self._known)] if kind == "known" else f"auth0|{event}"
        # A known user comes back as the same customer.
        customer = user.replace("-", "")[:14] if kind == "known" else event
        body = self._template.replace(b"%EVENT%", event.encode()).replace(b"%USER%", user.encode())
        body = body.replace(b"%CUSTOMER%", customer.encode())
        if kind == "ignored":
            body = body.replace(b"checkout.session.completed", _IGNORED.encode())
            self.counts["ignored"] += 1
        else:
            self.counts["packs"] += 1
        if number % 2:
            self._sent.append(body)
        return body


def _template() -> bytes:
    event = checkout_pack(
        session_id="cs_live_%EVENT%", event_id="evt_%EVENT%", at=datetime.now(UTC), user_id="%USER%", pack_key=PACK,
        amount_cents=PACK_CENTS, payment_intent_id="pi_%EVENT%", customer_id="cus_%CUSTOMER%",
        email="%CUSTOMER%@example.com",
    )  # fmt: skip
    event["data"]["object"] |= _REST
    return json.dumps(event, indent=2).encode()  # Stripe indents.
