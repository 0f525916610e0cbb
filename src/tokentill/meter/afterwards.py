"""Calls that are told of when they are over: recorded as usage that has happened, even into debt.

There was no hold, so nothing was refused before. Each call is told under a key of its own: heard of twice, by two
instrumentations of one call or by the same one again, it is charged once.
"""

import logging
import time
from functools import partial
from typing import Any
from uuid import UUID

from tokentill.core.usage.reading import Pools
from tokentill.meter.background import background
from tokentill.meter.counting import fitting
from tokentill.meter.tills import AnyTill, Ask, Steps, code_of, is_async, run

TRIES_SECONDS = 3600.0
_KEPT = {
    "model_used": 255, "provider_request_id": 255, "provider": 63, "service_tier": 63, "error_message": 500,
    "usage_note": 500,
}  # fmt: skip

log = logging.getLogger("tokentill.meter")


def told(till: AnyTill, user: str | UUID, action: str, *, key: str, pools: Pools | None, **facts: Any) -> Ask:
    """Return what to ask of a till about a call that is over. `facts` are keywords of `spend`."""
    counts = None if pools is None else pools.as_json() or None
    tokens = None if counts else 0  # Only of a failed call is nothing known; of any other, a guess is made before this.
    # A provider may say more than is kept. That must not make the call free.
    facts |= {name: fitting(facts[name], length_max) for name, length_max in _KEPT.items() if name in facts}
    details = {**facts, "pools": counts, "on_insufficient": "record", "idempotency_key": key[:255]}
    return Ask("spend", (user, tokens, action), details)


def tell_soon(till: AnyTill, ask: Ask) -> None:
    """Tell the till from the background, and go on trying while it is out of reach. An `AsyncTillClient` cannot."""
    if is_async(till):
        raise TypeError("An AsyncTillClient cannot be told from the background; use a TillClient.")
    background.later(0, partial(_tell, till, ask, time.monotonic()))


def is_known_already(error: Exception) -> bool:
    """Whether the till has heard of this call before, in other words."""
    return code_of(error) == "idempotency_conflict"


def _tell(till: AnyTill, ask: Ask, since: float) -> float | None:
    try:
        run(_steps(ask), till)
    except Exception as error:  # noqa: BLE001 - nobody is there to be told
        if is_known_already(error):
            return None
        if getattr(error, "retryable", False) and time.monotonic() - since < TRIES_SECONDS:
            return 10.0
        log.error("A call of %s could not be recorded: %s", ask.args[2], error)
    return None


def _steps(ask: Ask) -> Steps[None]:
    yield ask


def text_of(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
