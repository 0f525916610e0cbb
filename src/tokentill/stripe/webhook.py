"""Webhooks: whether a body comes from Stripe, and the event that it holds.

The signature is checked on the raw bytes, before anything is read out of them. `at` comes in: Stripe's own verifier
asks the machine for the time, takes any time in the future and, in some versions, an empty secret; here, neither
passes.
"""

from collections.abc import Sequence
from datetime import datetime

from stripe import SignatureVerificationError, WebhookSignature

from tokentill.errors import BadSignature, SwitchedOff
from tokentill.stripe.parsing import parse_event

TOLERANCE_SECONDS = 300


def verify(payload: bytes, header: str | None, *, secrets: Sequence[str], at: datetime) -> dict[str, object]:
    """Return the event in `payload`, signed with one of `secrets` at most 300 seconds from `at`.

    Raises: SwitchedOff when there is no secret to check with, BadSignature, MalformedBody.
    """
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise SwitchedOff("The Stripe webhook is off: set TILL_STRIPE_WEBHOOK_SECRET to the endpoint's signing secret.")
    if not header:
        raise BadSignature("The Stripe-Signature header is missing.")
    signed_at = _signed_at(header)
    if not any(_is_signed(payload, header, secret) for secret in usable):
        raise BadSignature("No signature in the Stripe-Signature header fits this body and the signing secret.")
    age = at.timestamp() - signed_at
    if abs(age) > TOLERANCE_SECONDS:
        where = "ago" if age > 0 else "in the future"
        detail = f"The signature was made {abs(age):,.0f} s {where}; at most {TOLERANCE_SECONDS} are allowed."
        raise BadSignature(detail)
    return parse_event(payload)


def _signed_at(header: str) -> int:
    times = [item[2:] for item in header.split(",") if item.startswith("t=")]
    # One only: the verifier reads the first, and nobody should have to know which one counts.
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        raise BadSignature("The Stripe-Signature header does not say when the body was signed (t=…).")
    return int(times[0])


def _is_signed(payload: bytes, header: str, secret: str) -> bool:
    if not header.isascii():
        return False
    try:
        WebhookSignature.verify_header(payload, header, secret)
    except (SignatureVerificationError, UnicodeDecodeError):
        return False
    return True
