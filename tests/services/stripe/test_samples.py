"""Sample events of every type, as each generation of Stripe's API writes them, go through the inbox into the books.

What each of them means, `tests/core/stripe/test_samples.py` says; here they are acted on, and acted on again.
"""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tokentill import Till

Event = dict[str, Any]

MADE = Path(__file__).parents[2] / "core" / "stripe" / "samples"
RECORDED = Path(__file__).parents[3] / ".." / "shared" / "samples" / "stripe"

# All that counts: who has what, since when and until when, what they paid, how their subscriptions stand.
BOOKS = (
    "SELECT user_id, balance, debt, seq, frozen_at FROM token_accounts ORDER BY 1",
    "SELECT * FROM token_lots ORDER BY user_id, lot",
    "SELECT user_id, seq, token_amount, lot_moves, debt_change FROM token_transactions ORDER BY 1, 2",
    "SELECT user_id, seq, drip_amount, lot_moves, cycle_number FROM token_drips ORDER BY 1, 2",
    "SELECT payment_id, user_id, amount_cents, currency, session_id, invoice_id FROM payments ORDER BY 1",
    "SELECT refund_id, payment_id, amount_cents, status FROM payment_refunds ORDER BY 1",
    "SELECT dispute_id, payment_id, status, withdrawn_cents, reinstated_cents FROM payment_disputes ORDER BY 1",
    """SELECT user_id, subscription_id, plan_key, status, stripe_status, anchor, cycle_number, next_drip_at, paid_until
         FROM token_subscriptions ORDER BY 1, 2""",
)


def samples(folder: Path) -> list[Event]:
    """All events of a folder, under ids of their own, in the order in which they were made."""
    found = [{**json.loads(path.read_text()), "id": f"evt_{path.stem}"} for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda event: event["created"])


def books(till: Till) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(till.url) as conn:
        return [conn.execute(sql.encode()).fetchall() for sql in BOOKS]


def take_in(till: Till, clock: Clock, events: Sequence[Event]) -> None:
    """Receive all; what could not be done yet is done when its turn comes. Nothing fails for good."""
    for event in events:
        till.receive_stripe_event(event)
    clock.advance(minutes=10)
    till.retry_due_stripe_events()
    unfinished = [kept for state in ("received", "failed") for kept in till.stripe_events(state=state)]
    assert [(kept.event_id, kept.detail) for kept in unfinished] == []


@pytest.fixture
def clock() -> Clock:
    """After all of the samples."""
    return Clock(datetime(2027, 1, 1, tzinfo=UTC))


FOLDERS = pytest.mark.parametrize(
    "folder",
    [
        pytest.param(MADE, id="made"),
        pytest.param(
            RECORDED, id="recorded", marks=pytest.mark.skipif(not RECORDED.is_dir(), reason="they are not at hand")
        ),
    ],
)


@FOLDERS
def test_every_version_is_taken_and_taking_it_twice_changes_nothing(till: Till, clock: Clock, folder: Path) -> None:
    events = samples(folder)
    take_in(till, clock, events)
    before = books(till)
    assert before[1], "something was granted"

    again = [event | {"id": f"{event['id']}_again"} for event in events]
    take_in(till, clock, events[::-1])
    take_in(till, clock, again[::-1])
    till.retry_stripe_events([event["id"] for event in events])

    for was, now in zip(before, books(till), strict=True):
        assert now == was


@pytest.mark.parametrize("seed", range(3))
def test_how_the_money_stands_is_the_newest_samples_word_whatever_comes_first(
    till: Till, database: str, clock: Clock, seed: int
) -> None:
    """The samples of one refund and one dispute contradict each other, as snapshots of different moments do."""
    events = [event for event in samples(MADE) if event["type"].startswith(("charge.", "refund."))]
    shuffled = events[:]
    random.Random(seed).shuffle(shuffled)
    money = (
        "SELECT refund_id, payment_id, amount_cents, status FROM payment_refunds ORDER BY 1",
        "SELECT dispute_id, payment_id, status, withdrawn_cents, reinstated_cents FROM payment_disputes ORDER BY 1",
    )
    take_in(till, clock, events)
    with psycopg.connect(database) as conn:
        expected = [conn.execute(sql).fetchall() for sql in money]
        conn.execute("TRUNCATE payment_refunds, payment_disputes, payments, payment_links, stripe_events")

    take_in(till, clock, shuffled)

    with psycopg.connect(database) as conn:
        assert [conn.execute(sql).fetchall() for sql in money] == expected
