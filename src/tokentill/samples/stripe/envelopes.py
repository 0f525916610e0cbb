"""What every Stripe event of the samples is wrapped in: its envelope, its version, its signature."""

import hashlib
import hmac
from datetime import datetime
from typing import Any, Literal

ApiVersion = Literal["2020-08-27", "2024-04-10", "2026-06-24.dahlia"]
OLDEST: ApiVersion = "2020-08-27"
OLD: ApiVersion = "2024-04-10"
NEW: ApiVersion = "2026-06-24.dahlia"

Payload = dict[str, Any]


def whole_event(
    event_type: str,
    payload: Payload,
    *,
    at: datetime,
    event_id: str | None,
    api_version: ApiVersion,
    snapshot: str | None = None,
) -> Payload:
    """Wrap an object as an event that Stripe made five seconds after `at`.

    One object has events of several types, and each event its own id; where one type comes several times,
    `snapshot` tells them apart.
    """
    made_up = sibling(
        "evt", "_".join((payload["id"], event_type.replace(".", "_"), *((snapshot,) if snapshot else ())))
    )
    return {
        "id": event_id or made_up,
        "object": "event",
        "api_version": api_version,
        "created": int(at.timestamp()) + 5,
        "data": {"object": payload},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }


def sign(payload: bytes, secret: str, at: datetime) -> str:
    """Return the `Stripe-Signature` header of a payload as sent at `at`.

    Sign the very bytes that are sent: the same JSON written another way has another signature.
    Source: https://docs.stripe.com/webhooks#verify-manually
    """
    timestamp = int(at.timestamp())
    signed = str(timestamp).encode() + b"." + payload
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def sibling(prefix: str, object_id: str) -> str:
    """Return an id of another kind made from one we have: the same in every run, and told apart at a glance."""
    return f"{prefix}_{object_id.removeprefix('cs_test_')}"
