"""Parsing: Stripe's JSON, from its webhooks or from files, as far as PostgreSQL can keep it.

Apart from `stripe.webhook`, because Stripe's library takes its time to load, and reading needs nothing of it.
"""

import json
import math
import re
from typing import NoReturn

from tokentill.core.checks import is_storable
from tokentill.errors import MalformedBody

DEPTH_MAX = 100  # Stripe's own events are some ten levels deep.
# In UTF-8, JSON can hold a NUL or half of a surrogate pair only by one of these escapes.
_DOUBTFUL = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def parse_event(payload: bytes) -> dict[str, object]:
    """Return the JSON object in `payload`. Raises: MalformedBody, also for what jsonb cannot hold."""
    event = parse_json(payload)
    if not isinstance(event, dict):
        raise MalformedBody("The body is JSON, but not an object.")
    # Nearly every event is cleared by a look at its bytes; the long way takes longer than all else that is done here.
    if _DOUBTFUL.search(payload) or payload.count(b"{") + payload.count(b"[") > DEPTH_MAX:
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


def _no_json(constant: str) -> NoReturn:
    raise MalformedBody(f"The body is not JSON: {constant} is no JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise MalformedBody(f"The number {text[:40]} in the body is out of range.")
    return number
