"""Stripe's own payloads, of old and new versions: a subscription's life from its trial to its end, in every order."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import START, Clock
from tokentill import Till
from tokentill.core.plans.catalog import CYCLE
from tokentill.samples.stripe import invoice_paid
from tokentill.samples.stripe.subscriptions import subscription

WEEK = timedelta(days=7)
SENT = timedelta(seconds=5)  # Stripe makes an event some seconds after what it tells.
VERSIONS = ("2024-04-10", "2026-06-24.dahlia")


def life(name: str, version: Any) -> list[dict[str, Any]]:
    """A week of trial, one paid cycle, a payment that failed, the end."""
    paid = START + WEEK
    ids: dict[str, Any] = {"subscription_id": f"sub_{name}", "user_id": name, "customer_id": f"cus_{name}",
                           "api_version": version}  # fmt: skip
    ever: dict[str, Any] = {**ids, "began_at": START, "trial_start": START, "trial_end": paid}
    trial: dict[str, Any] = {"period_start": START, "period_end": paid}
    cycle: dict[str, Any] = {"period_start": paid, "period_end": paid + CYCLE}
    late: dict[str, Any] = {"period_start": paid + CYCLE, "period_end": paid + CYCLE * 2}
    told = [
        subscription(at=START, status="trialing", event_type="customer.subscription.created", **trial, **ever),
        subscription(at=paid, **cycle, **ever),
        invoice_paid(invoice_id=f"in_{name}", at=paid + timedelta(hours=1), **cycle, **ids),
        subscription(at=paid + CYCLE, status="past_due", **late, **ever),
        subscription(
            at=paid + CYCLE + WEEK, status="canceled", event_type="customer.subscription.deleted",
            ended_at=paid + CYCLE + WEEK, canceled_at=paid + CYCLE + WEEK, **late, **ever,
        ),
    ]  # fmt: skip
    return [{**event, "id": f"evt_{number}_{name}"} for number, event in enumerate(told)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.timeout(300)
def test_every_order_of_a_subscriptions_life_ends_alike(till: Till, clock: Clock, version: str) -> None:
    clock.now = START + timedelta(days=50)

    def play(number: int, order: tuple[int, ...]) -> tuple[Any, ...]:
        name = f"member{number}"
        events = life(name, version)
        states = [till.receive_stripe_event(events[place]).state for place in order]
        (found,) = till.subscriptions(name)
        lots = tuple(sorted((lot.kind, lot.remaining, lot.expires_at) for lot in till.lots(name) if lot.expires_at))
        return (set(states) == {"handled"}, found.status, found.stripe_status, found.status_at, found.cancel_at,
                found.paid_until, found.trial_ends_at, found.plan_key, lots)  # fmt: skip

    orders = list(itertools.permutations(range(5)))
    with ThreadPoolExecutor(16) as pool:
        ends = set(pool.map(play, range(len(orders)), orders))

    end = START + WEEK + CYCLE + WEEK
    assert ends == {
        (
            True, "canceled", "canceled", end + SENT, end, START + WEEK + CYCLE, START + WEEK, "vision_pro_28day",
            (
                ("drip", 375_000, START + WEEK + CYCLE * 4),
                ("trial", 1_000_000, START + timedelta(days=56)),
            ),
        )
    }  # fmt: skip
