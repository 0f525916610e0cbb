"""Stripe promises no order: every order of the same events ends in the same lots, expiries, debt and balance.

Each permutation is one member's story in one database, through inbox, engine and journal. Spends that have happened
are recorded between the events, at the same places in every story.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import START, Clock
from tokentill import Till
from tokentill.core.ledger.reversals import Policies
from tokentill.core.plans.catalog import CYCLE
from tokentill.samples.stripe import (
    NEW,
    OLD,
    ApiVersion,
    charge_refunded,
    checkout_pack,
    checkout_subscription,
    dispute,
    invoice_paid,
    invoice_payment,
    refund,
)

Event = Mapping[str, Any]
ORDERS = list(itertools.permutations(range(6)))
PACK, PRICE = 2_000_000, 9_900
SOONER = START + timedelta(days=90)


def at(minutes: int) -> Any:
    return START + timedelta(minutes=minutes)


def pack_story(name: str, end: str, version: ApiVersion) -> list[Event]:
    """A pack is paid late, two refunds of a quarter, a dispute over another quarter, and how that ended."""
    payment: dict[str, Any] = {"payment_intent_id": f"pi_{name}", "api_version": version}
    session: dict[str, Any] = {**payment, "session_id": f"cs_{name}", "user_id": name}
    quarter = PRICE // 4
    disputed: dict[str, Any] = {**payment, "dispute_id": f"du_{name}", "amount_cents": quarter}
    return [
        checkout_pack(at=at(0), payment_status="unpaid", event_id=f"evt_1_{name}", **session),
        checkout_pack(
            at=at(5), event_type="checkout.session.async_payment_succeeded", event_id=f"evt_2_{name}", **session
        ),
        refund(refund_id=f"re_1_{name}", amount_cents=quarter, at=at(10), event_id=f"evt_3_{name}", **payment),
        refund(refund_id=f"re_2_{name}", amount_cents=quarter, at=at(20), event_id=f"evt_4_{name}", **payment),
        dispute(at=at(30), status="needs_response", event_id=f"evt_5_{name}", **disputed),
        dispute(
            at=at(40), status=end, event_type="charge.dispute.closed", event_id=f"evt_6_{name}", **disputed
        ),
    ]  # fmt: skip


def charge_story(name: str, end: str, version: ApiVersion) -> list[Event]:
    """The same told by the charge's own sums, which grow: an older one that comes later says nothing new."""
    payment: dict[str, Any] = {"payment_intent_id": f"pi_{name}", "api_version": version}
    story = pack_story(name, end, version)
    quarter = PRICE // 4
    story[2] = charge_refunded(refunded_cents=quarter, at=at(10), event_id=f"evt_3_{name}", **payment)
    story[3] = charge_refunded(refunded_cents=2 * quarter, at=at(20), event_id=f"evt_4_{name}", **payment)
    return story


def plan_story(name: str, end: str, version: ApiVersion) -> list[Event]:
    """A subscription's checkout, its invoice and, where the invoice does not say it, which payment paid that."""
    payment: dict[str, Any] = {"payment_intent_id": f"pi_{name}", "api_version": version}
    story: list[Event] = [
        checkout_subscription(
            session_id=f"cs_{name}", subscription_id=f"sub_{name}", at=at(-2), user_id=name, invoice_id=f"in_{name}",
            plan_key="vision_pro_28day", customer_id=f"cus_{name}", api_version=version, event_id=f"evt_1_{name}",
        ),
        invoice_paid(
            invoice_id=f"in_{name}", subscription_id=f"sub_{name}", user_id=name, customer_id=f"cus_{name}",
            period_start=START, period_end=START + CYCLE, at=at(1), billing_reason="subscription_create",
            payment_intent_id=f"pi_{name}", api_version=version, event_id=f"evt_2_{name}",
        ),
        invoice_payment(
            invoice_id=f"in_{name}", payment_intent_id=f"pi_{name}", at=at(1), event_id=f"evt_3_{name}",
        ),
        refund(refund_id=f"re_{name}", amount_cents=PRICE // 4, at=at(10), event_id=f"evt_4_{name}", **payment),
        dispute(
            dispute_id=f"du_{name}", amount_cents=PRICE // 4, at=at(30), event_id=f"evt_5_{name}", **payment,
        ),
        dispute(
            dispute_id=f"du_{name}", amount_cents=PRICE // 4, at=at(40), status=end,
            event_type="charge.dispute.closed", event_id=f"evt_6_{name}", **payment,
        ),
    ]  # fmt: skip
    return story


def play(till: Till, name: str, events: Sequence[Event], spends: Sequence[int]) -> Any:
    """Tell the events in this order, with spends between; return how the account stands."""
    till.grant_tokens(name, 200_000, expires_at=SOONER)
    for number, event in enumerate(events):
        kept = till.receive_stripe_event(event)
        assert kept.state in ("handled", "ignored"), kept.detail
        if number < len(spends):
            till.track_token_usage(name, "chat_conversation", spends[number])
    return standing(till, name)


def standing(till: Till, name: str) -> Any:
    balance = till.balance(name)
    lots = [(lot.kind, lot.granted, lot.remaining, lot.expires_at, lot.cycle_number) for lot in till.lots(name)]
    return balance.balance, balance.debt, sorted(lots, key=str)


def every_order(
    till: Till, story: Callable[[str, str, ApiVersion], list[Event]], end: str, version: ApiVersion,
    spends: Sequence[int],
) -> list[Any]:  # fmt: skip
    def one(number: int) -> Any:
        name = f"m{number}"
        events = story(name, end, version)
        return play(till, name, [events[place] for place in ORDERS[number]], spends)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(len(ORDERS))))


# 200,000 of the 800,000 are a gift's, the rest the pack's (or, while it is not there, debt that it pays).
SPENDS = (200_000, 250_000, 50_000, 150_000, 150_000)
DEBT = Policies(refund="debt", dispute="debt")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("policies", "story", "end", "version"),
    [
        pytest.param(Policies(), pack_story, "lost", NEW, id="lost-mixed"),
        pytest.param(DEBT, pack_story, "lost", NEW, id="lost-debt"),
        pytest.param(Policies(freezes=True), charge_story, "won", OLD, id="won-freezing"),
    ],
)
def test_720_orders_of_a_packs_events_end_alike(
    database: str, clock: Clock, policies: Policies, story: Any, end: str, version: ApiVersion
) -> None:
    """2,000,000 bought, 600,000 of them spent. Lost: 1,500,000 should be gone, and 100,000 of those were spent."""
    clock.advance(hours=1)
    with Till(database, policies=policies, clock=clock) as till:
        ends = every_order(till, story, end, version, SPENDS)
        assert till.reconcile().findings == ()

    left: list[Any] = [("purchase", PACK, 400_000, None, None)]
    expected = (-100_000, 100_000, []) if end == "lost" else (400_000, 0, left)
    wrong = {ORDERS[number]: found for number, found in enumerate(ends) if found != expected}
    assert not wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("end", "version"), [("lost", NEW), ("won", OLD)])
def test_720_orders_of_a_subscriptions_events_end_alike(
    database: str, clock: Clock, end: str, version: ApiVersion
) -> None:
    """Where an invoice does not say what paid it, the refund of that payment still finds the cycle it bought."""
    clock.advance(hours=1)
    with Till(database, clock=clock) as till:
        ends = every_order(till, plan_story, end, version, (50_000, 50_000, 50_000, 50_000, 50_000))
        assert till.reconcile().findings == ()

    left = 375_000 - 93_750 * (2 if end == "lost" else 1) - 50_000
    expected = (left, 0, [("drip", 375_000, left, START + CYCLE * 4, 1)])
    wrong = {ORDERS[number]: found for number, found in enumerate(ends) if found != expected}
    assert not wrong
