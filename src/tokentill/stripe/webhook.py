"""Webhooks: whether a body comes from Stripe, and the event that it holds.

The signature is checked on the raw bytes, before anything is read out of them. `at` comes in: Stripe's own verifier
asks the machine for the time, takes any time in the future and, in some versions, an empty secret; here, neither
passes.
"""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from stripe import SignatureVerificationError, WebhookSignature

from tokentill.core.checks import is_storable
from tokentill.errors import BadSignature, MalformedBody, SwitchedOff

TOLERANCE_SECONDS = 300
DEPTH_MAX = 100  # Stripe's own events are some ten levels deep.


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


def parse_event(payload: bytes) -> dict[str, object]:
    """Return the JSON object in `payload`. Raises: MalformedBody, also for what jsonb cannot hold."""
    event = parse_json(payload)
    if not isinstance(event, dict):
        raise MalformedBody("The body is JSON, but not an object.")
    require_storable(event)
    return event


def parse_json(payload: bytes) -> object:
    """Return the JSON in `payload`, whatever it is. Raises: MalformedBody."""
    try:
        return json.loads(payload.decode("utf-8-sig"), parse_constant=_no_json, parse_float=_finite)
    except UnicodeDecodeError:
        raise MalformedBody("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        raise MalformedBody(detail) from None
    except ValueError:
        raise MalformedBody("The body holds a number of thousands of digits.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def require_storable(value: object) -> None:
    """Refuse what is JSON but what PostgreSQL's jsonb cannot hold. Raises: MalformedBody."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise MalformedBody(f"The body is nested too deeply: over {DEPTH_MAX} levels.")
        below: list[object] = []
        for found in level:
            if isinstance(found, str) and not is_storable(found):
                raise MalformedBody("A text in the body holds a NUL or half of a surrogate pair: it cannot be stored.")
            if isinstance(found, dict):
                below += [*found, *found.values()]
            elif isinstance(found, list):
                below += found
        level = below


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


def _no_json(constant: str) -> NoReturn:
    raise MalformedBody(f"The body is not JSON: {constant} is no JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise MalformedBody(f"The number {text[:40]} in the body is out of range.")
    return number
