"""Stripe's events become tokens once: duplicated, out of order, of several API versions, and of strangers."""

import itertools
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import START, Clock
from tokentill import Till
from tokentill.core.plans.catalog import CYCLE
from tokentill.errors import MalformedBody
from tokentill.samples.stripe import checkout_pack, checkout_subscription, invoice_paid

VERSIONS = ("2024-04-10", "2026-06-24.dahlia")
Event = Mapping[str, Any]


def checkout(plan: str = "vision_pro_28day", *, at: datetime = START, **more: Any) -> Event:
    amount = 9_900 if plan == "vision_pro_28day" else 99_900
    given = {"session_id": "cs_sub", "subscription_id": "sub_1", "user_id": "ann", "invoice_id": "in_1",
             "amount_cents": amount, "plan_key": plan, "customer_id": "cus_1"}  # fmt: skip
    return checkout_subscription(at=at, **{**given, **more})


def invoice(cycle: int = 1, *, start: datetime = START, **more: Any) -> Event:
    begins = start + CYCLE * (cycle - 1)
    given = {
        "invoice_id": f"in_{cycle}", "subscription_id": "sub_1", "user_id": "ann", "customer_id": "cus_1",
        "period_start": begins, "period_end": begins + CYCLE, "at": begins + timedelta(hours=1),
        "billing_reason": "subscription_create" if cycle == 1 else "subscription_cycle",
    }  # fmt: skip
    return invoice_paid(**{**given, **more})


def lots(till: Till, user: str = "ann") -> list[tuple[Any, ...]]:
    return [(lot.kind, lot.cycle_number, lot.remaining, lot.expires_at) for lot in till.lots(user)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_paid_pack_is_a_purchase_for_ever(till: Till, version: Any) -> None:
    event = checkout_pack(
        session_id="cs_1", at=START, user_id="ann", payment_intent_id="pi_1", email="ann@example.com",
        api_version=version,
    )  # fmt: skip

    assert till.receive_stripe_event(event).state == "handled"

    [row] = till.history("ann")
    assert (row.type, row.tokens) == ("purchase", 2_000_000)
    assert row.detail["stripe_payment_intent_id"] == "pi_1"
    assert row.detail["amount_paid_cents"] == 9_900
    assert till.lots("ann")[0].expires_at is None
    assert till.balance("ann").email == "ann@example.com"
    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT payment_id, amount_cents, session_id FROM payments").fetchall() == [
            ("pi_1", 9_900, "cs_1")
        ]


def test_the_same_event_twice_grants_once(till: Till) -> None:
    event = checkout_pack(session_id="cs_1", at=START, user_id="ann")

    states = [till.receive_stripe_event(event).state for _ in range(3)]

    assert states == ["handled"] * 3
    assert len(till.history("ann")) == 1


def test_eight_deliveries_at_once_grant_once(till: Till, database: str, clock: Clock) -> None:
    event = checkout_pack(session_id="cs_1", at=START, user_id="ann")
    with Till(database, clock=clock) as other, ThreadPoolExecutor(8) as pool:
        events = list(pool.map(lambda n: (till, other)[n % 2].receive_stripe_event(event), range(8)))

    assert {event.state for event in events} == {"handled"}
    assert len(till.history("ann")) == 1


def test_the_webhook_and_the_apps_own_call_about_one_session_grant_once(till: Till) -> None:
    till.record_token_pack_purchase("ann", "power", session_id="cs_1")

    till.receive_stripe_event(checkout_pack(session_id="cs_1", at=START, user_id="ann"))

    assert till.balance("ann").balance == 2_000_000


def test_an_unpaid_checkout_waits_for_its_money(till: Till) -> None:
    unpaid = checkout_pack(session_id="cs_1", at=START, user_id="ann", payment_status="unpaid")
    assert till.receive_stripe_event(unpaid).state == "ignored"

    paid = json.loads(json.dumps(checkout_pack(session_id="cs_1", at=START, user_id="ann")))
    paid["type"], paid["id"] = "checkout.session.async_payment_succeeded", "evt_async"
    assert till.receive_stripe_event(paid).state == "handled"

    assert till.balance("ann").balance == 2_000_000


@pytest.mark.parametrize("version", VERSIONS)
def test_a_28_day_plan_drips_with_each_paid_invoice(till: Till, clock: Clock, version: Any) -> None:
    till.receive_stripe_event(checkout(api_version=version))
    for cycle in range(1, 7):
        clock.now = START + CYCLE * (cycle - 1) + timedelta(hours=1)
        assert till.receive_stripe_event(invoice(cycle, api_version=version)).state == "handled"

    drips = [row for row in till.history("ann") if row.kind == "drip"][::-1]
    assert [row.detail["cycle_number"] for row in drips] == [1, 2, 3, 4, 5, 6]
    assert [row.detail["rollover_cycles_count"] for row in drips] == [0, 1, 2, 3, 3, 3]
    assert [row.detail["expired_tokens"] for row in drips] == [0, 0, 0, 0, 375_000, 375_000]
    assert till.balance("ann").balance == 4 * 375_000


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_checkout_and_invoices_in_any_order_end_in_the_same_lots(till: Till, clock: Clock, order: tuple[int]) -> None:
    """The session was created ten minutes before the first paid period begins: the invoice's dates win."""
    clock.advance(days=29)
    events = [checkout(at=START - timedelta(minutes=10)), invoice(1), invoice(2)]
    for number in order:
        assert till.receive_stripe_event(events[number]).state == "handled"

    assert lots(till) == [
        ("drip", 1, 375_000, START + CYCLE * 4),
        ("drip", 2, 375_000, START + CYCLE * 5),
    ]


def test_an_annual_plan_lives_until_its_paid_period_ends(till: Till, clock: Clock) -> None:
    till.receive_stripe_event(checkout("vision_pro_annual"))
    assert lots(till) == [("subscription", 1, 5_000_000, START + timedelta(days=365))]

    a_year: dict[str, Any] = {"period_start": START, "period_end": START + timedelta(days=366), "unit_cents": 99_900}
    till.receive_stripe_event(invoice(1, interval=("year", 1), price_id="price_annual", **a_year))

    assert lots(till) == [("subscription", 1, 5_000_000, START + timedelta(days=366))]
    assert len(till.history("ann")) == 1


def test_the_annual_renewal_leaves_what_was_there(till: Till, clock: Clock) -> None:
    """The system before this one overwrote the balance here."""
    till.receive_stripe_event(checkout("vision_pro_annual"))
    till.receive_stripe_event(checkout_pack(session_id="cs_p", at=START, user_id="ann"))
    till.spend("ann", 4_000_000, "chat_conversation")
    second_year = START + timedelta(days=365)
    clock.now = second_year + timedelta(hours=2)
    till.receive_stripe_event(
        invoice(
            2, interval=("year", 1), price_id="price_annual", unit_cents=99_900,
            period_start=second_year, period_end=second_year + timedelta(days=365),
        )
    )  # fmt: skip

    assert lots(till) == [
        ("subscription", 2, 5_000_000, second_year + timedelta(days=365)),
        ("purchase", None, 2_000_000, None),
    ]


def test_a_known_customer_needs_no_user_id(till: Till) -> None:
    till.receive_stripe_event(checkout())

    event = invoice(2, user_id=None, at=START)

    assert till.receive_stripe_event(event).state == "handled"
    assert till.balance("ann").balance == 750_000


def test_a_strangers_event_is_kept_as_failed_and_granted_once_somebody_is_known(till: Till) -> None:
    event = checkout_pack(session_id="cs_1", at=START, user_id=None, customer_id="cus_9")
    kept = till.receive_stripe_event(event)
    assert (kept.state, kept.attempts) == ("failed", 1)

    till.receive_stripe_event(checkout_pack(session_id="cs_2", at=START, user_id="zoe", customer_id="cus_9"))

    assert till.receive_stripe_event(event).state == "handled"
    assert till.balance("zoe").balance == 4_000_000


def test_what_we_do_not_act_on_is_stored_with_a_reason(till: Till) -> None:
    event = {"id": "evt_x", "type": "radar.early_fraud_warning.created", "created": 1767225605, "data": {"object": {}}}

    kept = till.receive_stripe_event(event)

    assert (kept.state, kept.payload) == ("ignored", event)
    assert kept.detail


@pytest.mark.parametrize("payload", [{}, {"id": "evt"}, {"id": 5, "type": "x"}, {"id": "e" * 300, "type": "x"}])
def test_what_is_no_event_is_refused_and_not_stored(till: Till, payload: Event) -> None:
    with pytest.raises(MalformedBody):
        till.receive_stripe_event(payload)
    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT count(*) FROM stripe_events").fetchone() == (0,)


def test_replaying_everything_twice_changes_nothing(till: Till, clock: Clock) -> None:
    clock.advance(days=200)
    events = [
        checkout(),
        *(invoice(cycle) for cycle in range(1, 8)),
        checkout_pack(session_id="p", at=START, user_id="ann"),
    ]
    for event in events:
        till.receive_stripe_event(event)
    before = till.history("ann")

    for event in reversed(events):
        till.receive_stripe_event(event)

    assert till.history("ann") == before


def test_the_event_is_handled_exactly_when_the_tokens_are_in_the_books(till: Till, database: str) -> None:
    """Handling dies before COMMIT: neither the grant nor the state is there, and the next delivery does both."""
    event = checkout_pack(session_id="cs_1", at=START, user_id="ann")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("ALTER TABLE payments ADD CONSTRAINT for_now CHECK (amount_cents < 0) NOT VALID")
        kept = till.receive_stripe_event(event)
        conn.execute("ALTER TABLE payments DROP CONSTRAINT for_now")
        assert kept.state == "failed"
        assert conn.execute("SELECT count(*) FROM token_transactions").fetchone() == (0,)

    assert till.receive_stripe_event(event).state == "handled"
    assert till.balance("ann").balance == 2_000_000


SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "stripe"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="skipped: no recorded events beside the project")
def test_recorded_events_of_every_version_are_taken(till: Till, clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    events = [json.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.json"))]

    states = {till.receive_stripe_event(event).state for event in events}

    assert states == {"handled", "ignored"}
    given = [row.tokens for row in till.history("user-0001") if row.tokens > 0]
    assert sorted(given) == [375_000, 375_000, 2_000_000], "two periods and a pack, told in two versions each"


def given(till: Till, user: str = "ann") -> list[int]:
    return [row.tokens for row in till.history(user)[::-1] if row.tokens > 0]


def a_year(start: datetime, **more: Any) -> Event:
    return invoice(
        2, interval=("year", 1), price_id="price_annual", unit_cents=99_900, at=start + timedelta(minutes=1),
        period_start=start, period_end=start + timedelta(days=365), **more,
    )  # fmt: skip


def test_a_change_of_plan_counts_anew_and_leaves_the_lots_it_gave(till: Till, clock: Clock) -> None:
    for cycle in (1, 2):
        clock.now = START + CYCLE * (cycle - 1) + timedelta(hours=1)
        till.receive_stripe_event(invoice(cycle))
    dripped = lots(till)
    upgrade = START + timedelta(days=40)
    clock.now = upgrade + timedelta(hours=1)

    upgraded = a_year(upgrade, invoice_id="in_up", billing_reason="subscription_update")
    told_twice = {**upgraded, "id": "evt_again", "type": "invoice.payment_succeeded"}
    assert [till.receive_stripe_event(event).state for event in (upgraded, told_twice)] == ["handled"] * 2

    assert [lot for lot in lots(till) if lot[0] == "drip"] == dripped
    assert given(till) == [375_000, 375_000, 5_000_000]
    clock.now = upgrade + timedelta(days=365, hours=1)
    till.receive_stripe_event(a_year(upgrade + timedelta(days=365), invoice_id="in_renewal"))
    till.receive_stripe_event({**invoice(2), "id": "evt_old", "type": "invoice.payment_succeeded"})
    assert given(till) == [375_000, 375_000, 5_000_000, 5_000_000]


def test_a_new_billing_day_pays_a_period_of_its_own(till: Till, clock: Clock) -> None:
    till.receive_stripe_event(invoice(1))
    clock.now = START + timedelta(days=10, hours=1)
    reset = invoice(1, start=START + timedelta(days=10), invoice_id="in_reset", billing_reason="subscription_update")

    till.receive_stripe_event(reset)
    till.receive_stripe_event({**reset, "id": "evt_again"})

    assert lots(till) == [
        ("drip", 1, 375_000, START + CYCLE * 4),
        ("drip", 2, 375_000, START + timedelta(days=10) + CYCLE * 4),
    ]


def test_a_checkout_that_is_told_when_the_count_has_begun_anew_gives_nothing_twice(till: Till, clock: Clock) -> None:
    """Its cycle is the one that its own invoice gave, however far from there the count goes on by now."""
    till.receive_stripe_event(invoice(1))
    resumed = START + timedelta(days=100)
    clock.now = resumed + timedelta(hours=1)
    till.receive_stripe_event(invoice(1, start=resumed, invoice_id="in_2", billing_reason="subscription_update"))

    till.receive_stripe_event(checkout(at=START - timedelta(minutes=2)))

    assert given(till) == [375_000, 375_000]


def test_a_known_subscription_stays_its_users(till: Till) -> None:
    till.receive_stripe_event(checkout(user_id="ann"))
    till.receive_stripe_event(invoice(1, user_id="somebody else"))

    assert given(till) == [375_000]
    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT count(*) FROM token_accounts").fetchone() == (1,)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_period_is_given_once_in_whatever_order_it_is_told(till: Till, clock: Clock, order: tuple[int]) -> None:
    clock.now = START + CYCLE * 2 + timedelta(days=1)
    events = [checkout(), invoice(1), invoice(2), invoice(3)]
    for number in order:
        assert till.receive_stripe_event(events[number]).state == "handled"

    assert sorted(str(lot.expires_at) for lot in till.lots("ann")) == [str(START + CYCLE * n) for n in (4, 5, 6)]


def test_the_apps_call_by_payment_and_the_webhook_by_session_are_one_purchase(till: Till) -> None:
    till.record_token_pack_purchase("ann", "power", payment_intent_id="pi_7", idempotency_key="ours")

    event = checkout_pack(session_id="cs_7", at=START, user_id="ann", payment_intent_id="pi_7")
    assert till.receive_stripe_event(event).state == "handled"
    till.record_token_pack_purchase("ann", "power", session_id="cs_7")

    assert given(till) == [2_000_000]


def test_what_a_customer_paid_for_before_we_knew_them_is_given_when_we_do(till: Till) -> None:
    kept = till.receive_stripe_event(invoice(1, user_id=None, customer_id="cus_5"))
    assert kept.state == "failed"

    till.receive_stripe_event(checkout(customer_id="cus_5"))

    with psycopg.connect(till.url) as conn:
        sql = "SELECT state, count(*) FROM stripe_events GROUP BY state"
        assert conn.execute(sql).fetchall() == [("handled", 2)]
    assert given(till) == [375_000]


def test_a_pack_that_cost_nothing_is_granted_once(till: Till) -> None:
    """A full discount: no payment intent, so session and payment have one name."""
    event = checkout_pack(
        session_id="cs_free", at=START, user_id="ann", discount_cents=9_900, payment_status="no_payment_required"
    )

    assert [till.receive_stripe_event(event).state for _ in range(2)] == ["handled"] * 2
    assert given(till) == [2_000_000]
