"""A year of four subscriptions, with a worker that is always there, and with one that is away for weeks.

A 28-day plan that Stripe bills every cycle; an annual plan, at once; a plan that drips and is paid by the year, driven
by our clock, with a spell without pay and a pause; and a gift by our clock, which is paused and canceled. Events come
late and twice where the worker is away. In the end both years are the same: every grant, every expiry, every balance.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import START, Clock, url_of
from tests.services.news import Event, a_year, invoice, seen, understand
from tokentill import Till
from tokentill.core.plans.catalog import CYCLE

HALF_AN_HOUR = timedelta(minutes=30)
YEAR = timedelta(days=365)
DAY = timedelta(days=1)
USERS = ("monthly", "annual", "yearly", "gift")

Happening = tuple[datetime, Callable[[Till], object]]


@pytest.fixture(autouse=True)
def _understood(monkeypatch: pytest.MonkeyPatch) -> None:
    understand(monkeypatch)


def news() -> list[tuple[datetime, Event]]:
    """What Stripe says, and when it happened."""
    monthly: dict[str, Any] = {"subscription_id": "sub_monthly", "user_id": "monthly", "customer_id": "cus_monthly"}
    annual: dict[str, Any] = {"subscription_id": "sub_annual", "user_id": "annual", "customer_id": "cus_annual"}
    yearly: dict[str, Any] = {"subscription_id": "sub_yearly", "user_id": "yearly", "customer_id": "cus_yearly"}
    at_once: dict[str, Any] = {"interval": ("year", 1), "unit_cents": 99_900, "price_id": "vision_pro_annual"}
    told: list[Event] = [
        seen("active", START, period_start=START, **monthly),
        *(invoice(START + CYCLE * number, is_first=number == 0, **monthly) for number in range(14)),
        invoice(START, YEAR, is_first=True, **annual, **at_once),
        invoice(START + YEAR, YEAR, **annual, **at_once),
        seen("active", START, period_start=START, **yearly),
        a_year(START, is_first=True, **yearly),
        seen("past_due", START + DAY * 100, **yearly),
        seen("active", START + DAY * 150, **yearly),
        seen("paused", START + DAY * 200, **yearly),
        seen("active", START + DAY * 260, **yearly),
        a_year(START + YEAR, **yearly),
    ]
    return [(datetime.fromtimestamp(event["created"], START.tzinfo), event) for event in told]


def acts() -> list[Happening]:
    """What the app and its people do, each at its time: they are there when the worker is not."""
    return [
        (START, lambda till: till.drip_tokens_28day("gift", "for a friend", driven_by="clock")),
        (START + DAY * 120, lambda till: till.pause_subscription("gift", "for a friend")),
        (START + DAY * 180, lambda till: till.resume_subscription("gift", "for a friend")),
        (START + DAY * 300, lambda till: till.cancel_subscription("gift", "for a friend")),
    ]


def live(till: Till, clock: Clock, *, away: list[tuple[int, int]]) -> None:
    """Live through the year. While the worker is away (days, half-open) no event is acted on and nothing drips."""
    happenings = acts()
    waiting: list[Event] = []
    events = news()
    for day in range(402):
        end_of_day = START + DAY * (day + 1)
        is_away = any(first <= day < last for first, last in away)
        for at, act in [one for one in happenings if START + DAY * day <= one[0] < end_of_day]:
            clock.now = at
            act(till)
        clock.now = end_of_day - HALF_AN_HOUR
        waiting += [event for at, event in events if START + DAY * day <= at < end_of_day]
        if is_away:
            continue
        if len(waiting) > 3:  # After a while away everything comes at once, in no order, and some of it twice.
            waiting = [*reversed(waiting), *waiting[::2]]
        for event in waiting:
            assert till.receive_stripe_event(event).state == "handled"
        waiting = []
        till.drip_due()
    clock.now = START + DAY * 402
    for user in USERS:
        till.sweep(user)


def books(till: Till) -> dict[str, Any]:
    """What must be the same: all that was given and lost, and for when; not when it was written."""
    found: dict[str, Any] = {}
    for user in USERS:
        rows = till.history(user, limit=1000)
        found[user] = (
            sorted((row.type, row.tokens, str(row.effective_at), str(row.detail.get("cycle_number"))) for row in rows),
            sorted((lot.kind, lot.cycle_number, lot.remaining, str(lot.expires_at)) for lot in till.lots(user)),
            till.balance(user).balance,
            [(one.status, one.status_at, one.paid_until, one.plan_key) for one in till.subscriptions(user)],
        )
    return found


def given(till: Till, user: str) -> list[int]:
    """The days on which a cycle of this user began that was given."""
    rows = (row for row in till.history(user, limit=1000) if row.kind == "drip")
    return sorted((row.effective_at - START).days for row in rows)


def test_a_year_with_a_worker_that_was_away_equals_the_year_with_one_that_was_there(
    database: str, server_url: str, template: str, clock: Clock
) -> None:
    other = "till_test_another_year"
    with psycopg.connect(make_conninfo(server_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {other} TEMPLATE {template}".encode())
        try:
            with Till(database, clock=clock) as there:
                live(there, clock, away=[])
                on_time, days = books(there), {user: given(there, user) for user in USERS}
                assert there.reconcile().findings == ()
            later = Clock()
            with Till(url_of(server_url, other), clock=later) as away:
                live(away, later, away=[(3, 20), (50, 111), (130, 170), (190, 275), (290, 340), (362, 370)])
                late = books(away)
                assert away.reconcile().findings == ()
        finally:
            conn.execute(f"DROP DATABASE {other} WITH (FORCE)".encode())

    assert late == on_time
    cycle_days = [28 * number for number in range(15)]
    assert days["monthly"] == cycle_days[:14]
    # Days 112 and 140 waited for the payment of day 150; 224 and 252 fell into the pause; the second year counts anew.
    assert days["yearly"] == [day for day in cycle_days[:13] if day not in (224, 252)] + [365, 393]
    assert days["gift"] == [day for day in cycle_days if day < 300 and day not in (140, 168)]
    assert on_time["annual"][2] == 5_000_000
