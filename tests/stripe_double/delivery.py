"""Delivery: events as Stripe sends them: signed, at least once, in no promised order.

A letter is one sending of one event. `mixed` makes letters of events: some twice or more, some late, in an order of
its own, all by a seed; `deliver` sends them over HTTP, and what is not answered with 2xx comes again later.
"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx2

from tests.stripe_double.shapes import Object
from tokentill.samples.stripe import sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One sending, and how it was answered."""

    event_id: str
    type: str
    status: int
    body: str


def mixed(events: Iterable[Object], *, seed: int, copies_max: int = 3, is_ordered: bool = False) -> list[Object]:
    """Return the events, each one to `copies_max` times, shuffled unless `is_ordered`. A seed gives one order."""
    chance = random.Random(seed)
    copies = [event for event in events for _ in range(chance.randint(1, copies_max))]
    if not is_ordered:
        chance.shuffle(copies)
    return copies


def deliver(
    events: Sequence[Object],
    url: str,
    secret: str,
    *,
    at: datetime,
    tries_max: int = 3,
    client: httpx2.Client | None = None,
) -> list[Letter]:
    """Post the events to a webhook, signed at `at`; one that is not answered with 2xx comes again after the others.

    Returns every sending. Raises: AssertionError when an event is refused `tries_max` times.
    """
    letters: list[Letter] = []
    waiting = [(event, 1) for event in events]
    own = client or httpx2.Client(timeout=30)
    try:
        while waiting:
            event, number = waiting.pop(0)
            payload = json.dumps(event, indent=2).encode()
            headers = {"Stripe-Signature": sign(payload, secret, at), "Content-Type": "application/json"}
            answer = own.post(url, content=payload, headers=headers)
            letters.append(
                Letter(event_id=event["id"], type=event["type"], status=answer.status_code, body=answer.text)
            )
            if not 200 <= answer.status_code < 300:
                assert number < tries_max, letters[-1]
                waiting.append((event, number + 1))
    finally:
        if client is None:
            own.close()
    return letters
