"""Subscriptions stand as the newest news says, in whatever order it comes; trials, spells without pay, pauses, ends."""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import START, Clock
from tests.services.breaking import Fault, Killed, open_breakable
from tests.services.news import PLAN, Event, a_year, invoice, seen, understand
from tokentill import Till
from tokentill.core.plans.catalog import CYCLE
from tokentill.errors import Conflict, SubscriptionNotFound
from tokentill.samples.stripe import checkout_pack


@pytest.fixture(autouse=True)
def _understood(monkeypatch: pytest.MonkeyPatch) -> None:
    understand(monkeypatch)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def told(till: Till, *events: Event) -> list[str]:
    return [till.receive_stripe_event(event).state for event in events]


def lots(till: Till, user: str = "ann") -> list[tuple[Any, ...]]:
    return sorted((lot.kind, lot.remaining, str(lot.expires_at)) for lot in till.lots(user))


def cycles(till: Till, user: str = "ann") -> list[int]:
    """The numbers of the cycles that were given, in the order of the journal."""
    rows = till.history(user, limit=200)[::-1]
    return [int(str(row.detail["cycle_number"])) for row in rows if row.kind == "drip"]


def stands(till: Till, subscription_id: str = "sub_1", user: str = "ann") -> tuple[Any, ...]:
    found = till.find_subscription(user, subscription_id)
    return found.status, found.stripe_status, found.status_at


def event_states(till: Till) -> dict[str, int]:
    with psycopg.connect(till.url) as conn:
        return dict(conn.execute("SELECT state, count(*) FROM stripe_events GROUP BY state").fetchall())


# -- how it stands ----------------------------------------------------------------------------------------------------


def test_the_newest_news_counts_though_it_comes_first(till: Till) -> None:
    told(till, seen("canceled", START + days(3)), seen("past_due", START + days(1)), seen("active", START + days(2)))

    assert stands(till) == ("canceled", "canceled", START + days(3))
    assert event_states(till) == {"handled": 3}


def test_news_told_twice_is_one_state(till: Till) -> None:
    event = seen("past_due", START)
    told(till, event, event)

    with psycopg.connect(till.url) as conn:
        assert conn.execute("SELECT count(*) FROM subscription_states").fetchone() == (1,)


def test_the_subscriptions_news_makes_it_known_so_that_an_invoice_needs_no_user(till: Till) -> None:
    told(till, seen("active", START, period_start=START, customer_id=None))

    assert told(till, invoice(START, is_first=True, user_id=None, customer_id=None)) == ["handled"]
    assert cycles(till) == [1]


def test_news_without_a_plan_is_kept_and_found_when_the_subscription_is_known(till: Till) -> None:
    told(till, seen("past_due", START + days(29), plan_key=None))
    assert till.subscriptions("ann") == []

    told(till, invoice(START, is_first=True))

    assert stands(till)[0] == "past_due"


def test_news_of_a_stranger_has_failed_and_is_kept_and_counts_once_somebody_is_known(till: Till, clock: Clock) -> None:
    strange = seen("canceled", START + days(40), user_id=None, customer_id="cus_9")
    assert told(till, strange) == ["failed"]
    clock.now = START + days(400)

    assert told(till, a_year(START, is_first=True, customer_id="cus_9")) == ["handled"]

    assert stands(till) == ("canceled", "canceled", START + days(40))
    till.drip_due()
    assert cycles(till) == [1, 2]
    assert event_states(till) == {"handled": 2}


def test_an_announced_plan_is_remembered_and_counts_from_its_paid_period(till: Till, clock: Clock) -> None:
    told(till, invoice(START, is_first=True), seen("active", START + days(5), plan_key="vision_pro_annual"))
    found = till.find_subscription("ann", "sub_1")
    assert (found.plan_key, found.announced_plan_key) == (PLAN, "vision_pro_annual")

    clock.now = START + days(29)
    upgrade = invoice(
        START + days(28), days(365), interval=("year", 1), unit_cents=99_900, price_id="vision_pro_annual"
    )
    told(till, upgrade)

    assert till.find_subscription("ann", "sub_1").plan_key == "vision_pro_annual"


def test_an_old_invoice_told_late_does_not_bring_the_old_plan_back(till: Till, clock: Clock) -> None:
    clock.now = START + days(60)
    upgrade = invoice(
        START + days(40), days(365), interval=("year", 1), unit_cents=99_900, price_id="vision_pro_annual"
    )
    told(till, invoice(START, is_first=True), upgrade, invoice(START + CYCLE))

    found = till.find_subscription("ann", "sub_1")
    assert (found.plan_key, found.anchor) == ("vision_pro_annual", START + days(40))
    assert [lot[:2] for lot in lots(till)] == [("drip", 375_000), ("drip", 375_000), ("subscription", 5_000_000)]


# -- trials -----------------------------------------------------------------------------------------------------------


def trial(at: datetime = START, **more: Any) -> Event:
    said = {"stripe_status": "trialing", "is_trial": True, "trial_starts_at": START, "trial_ends_at": START + days(7)}
    return seen("active", at, **{**said, "period_start": START, **more})


def test_a_trial_gives_what_the_catalog_says_once(till: Till) -> None:
    told(till, trial(), trial(START + days(1)))

    assert lots(till) == [("trial", 1_000_000, str(START + days(56)))]
    assert till.history("ann")[0].detail["source"] == "trial"


def test_the_apps_own_call_and_stripes_news_of_one_trial_are_one_fact(till: Till, clock: Clock) -> None:
    till.grant_trial_tokens("ann", 500, days=14, subscription_id="sub_1")
    told(till, trial())
    assert lots(till) == [("trial", 500, str(START + days(14)))]

    told(till, trial(subscription_id="sub_2"))
    clock.advance(days=1)
    again = till.grant_trial_tokens("ann", subscription_id="sub_2")
    assert again.is_replay
    assert len(lots(till)) == 2


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_trial_told_provisionally_ends_when_its_exact_beginning_says(
    till: Till, clock: Clock, order: Iterable[int]
) -> None:
    clock.now = START + days(2)
    events = [
        seen(None, START + days(1), is_trial=True, occurred_at=START + timedelta(minutes=7)),
        seen(None, START + days(1), is_trial=True, occurred_at=START + timedelta(minutes=9)),
        trial(START + days(1)),
    ]
    told(till, *(events[number] for number in order))

    assert lots(till) == [("trial", 1_000_000, str(START + days(56)))]


def test_a_corrected_trial_is_in_the_audit_log(till: Till) -> None:
    told(till, seen(None, START, is_trial=True, occurred_at=START - days(1)), trial())

    with psycopg.connect(till.url) as conn:
        acts = conn.execute("SELECT act, detail ->> 'expires_at' FROM audit_log").fetchall()
    assert acts == [("redate", (START + days(56)).isoformat())]


def test_of_a_trial_that_is_over_by_now_there_is_nothing_to_grant(till: Till, clock: Clock) -> None:
    clock.now = START + days(56)

    event = till.receive_stripe_event(trial())

    assert (event.state, "nothing to grant" in (event.detail or "")) == ("handled", True)
    assert till.subscriptions("ann")[0].trial_ends_at == START + days(7)
    assert till.lots("ann") == []


def test_the_first_paid_period_after_a_trial_is_cycle_1_and_anchors_the_count(till: Till, clock: Clock) -> None:
    told(till, trial())
    clock.now = START + days(7)

    told(till, invoice(START + days(7)))

    found = till.find_subscription("ann", "sub_1")
    assert (cycles(till), found.anchor, found.anchor_cycle) == ([1], START + days(7), 1)
    assert till.balance("ann").balance == 1_375_000


def test_a_trial_of_somebody_unknown_is_granted_when_they_are_known(till: Till) -> None:
    assert told(till, trial(user_id=None)) == ["failed"]

    told(till, seen("active", START + days(1), subscription_id="sub_other"))

    assert lots(till) == [("trial", 1_000_000, str(START + days(56)))]
    assert event_states(till) == {"handled": 2}


# -- a year paid at once, driven by our clock --------------------------------------------------------------------------


def test_a_paid_year_gives_its_first_cycle_at_once_and_the_others_at_their_time(till: Till, clock: Clock) -> None:
    clock.now = START + timedelta(hours=2)
    told(till, a_year(START, is_first=True))
    assert cycles(till) == [1]
    assert till.drip_due().receipts == ()
    assert (till.find_subscription("ann", "sub_1").billed_by) == "clock"

    clock.now = START + CYCLE
    assert len(till.drip_due().receipts) == 1
    clock.now = START + days(900)
    till.drip_due()

    assert cycles(till) == list(range(1, 14))


def test_news_of_nobody_is_acted_on_though_the_process_dies_when_somebody_is_known(database: str, clock: Clock) -> None:
    """Whoever makes a customer known acts on what waited for that, unless they die on the way: then the worker does."""
    fault = Fault()
    with open_breakable(database, fault, clock=clock) as till:
        for step in itertools.count(1):
            who: dict[str, Any] = {"customer_id": f"cus_{step}", "subscription_id": f"sub_{step}"}
            told(till, seen("active", START, user_id=None, period_start=START, **who))
            fault.arm(step, "after", kills=True)
            paid = checkout_pack(
                session_id=f"cs_{step}", at=START, user_id=f"m{step}", customer_id=who["customer_id"]
            )  # fmt: skip
            with suppress(Killed):
                till.receive_stripe_event(paid)
            if fault.steps_left:
                break
            fault.disarm()
            for _ in range(2):
                clock.advance(minutes=10)
                till.retry_due_stripe_events()
            assert [(kept.type, kept.detail) for kept in till.stripe_events(state="failed")] == []
            assert [found.status for found in till.subscriptions(f"m{step}")] == ["active"]
    assert fault.broken_count > 4


def test_a_paid_year_is_caught_up_as_if_nobody_had_been_away(till: Till, clock: Clock) -> None:
    clock.now = START + CYCLE * 5
    told(till, a_year(START, is_first=True))
    till.drip_due()

    assert lots(till) == [("drip", 375_000, str(START + CYCLE * number)) for number in (6, 7, 8, 9)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_paid_years_in_either_order_give_26_cycles_each_from_its_own_beginning(
    till: Till, clock: Clock, order: tuple[int, int]
) -> None:
    clock.now = START + days(900)
    years = [a_year(START, is_first=True), a_year(START + days(365))]
    for number in order:
        told(till, years[number])
        till.drip_due()

    assert sorted(cycles(till)) == list(range(1, 27))
    starts = {
        row.detail["cycle_number"]: row.effective_at for row in till.history("ann", limit=200) if row.kind == "drip"
    }
    assert starts[14] == START + days(365)
    assert till.find_subscription("ann", "sub_1").paid_until == START + days(730)


def test_the_shares_of_a_year_add_up_to_what_was_paid(till: Till, clock: Clock, database: str) -> None:
    clock.now = START + days(400)
    told(till, a_year(START, is_first=True))
    till.drip_due()

    with psycopg.connect(database) as conn:
        sql = "SELECT sum(paid_cents), count(DISTINCT payment_id), count(*) FROM token_lots"
        assert conn.execute(sql).fetchone() == (99_900, 1, 13)


def test_what_falls_due_while_past_due_waits_until_it_is_paid(till: Till, clock: Clock) -> None:
    told(till, a_year(START, is_first=True), seen("past_due", START + days(20)))
    clock.now = START + days(60)
    assert till.drip_due().receipts == ()

    told(till, seen("active", START + days(59)))
    till.drip_due()

    assert cycles(till) == [1, 2, 3]


def test_what_was_given_before_the_news_came_stays_given(till: Till, clock: Clock) -> None:
    told(till, a_year(START, is_first=True))
    clock.now = START + days(30)
    till.drip_due()

    told(till, seen("canceled", START + days(20)))
    clock.now = START + days(90)
    till.drip_due()

    assert cycles(till) == [1, 2]


def test_news_that_comes_while_drips_are_given_is_not_slept_through(till: Till, clock: Clock, database: str) -> None:
    """Between reading what is due and saying when to look again, the subscription becomes active again."""
    told(till, a_year(START, is_first=True), seen("past_due", START + days(20)))
    clock.now = START + days(60)
    from tokentill.store import subscriptions

    with till.context.connection() as conn:
        read_before = subscriptions.find(conn, till.subscriptions("ann")[0].user_id, "sub_1")
    assert read_before is not None
    told(till, seen("active", START + days(59)))
    with till.context.connection() as conn:
        subscriptions.wait_until(conn, read_before, None)

    assert len(till.drip_due().receipts) == 2


# -- ours alone -------------------------------------------------------------------------------------------------------


def test_a_paused_subscription_leaves_cycles_out_and_goes_on_with_the_next(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    clock.now = START + days(30)
    till.drip_due()
    till.pause_subscription("bob", "gift", actor="eve", reason="on leave")
    clock.now = START + days(60)
    assert till.drip_due().receipts == ()

    till.resume_subscription("bob", "gift", actor="eve")
    assert till.drip_due().receipts == ()
    clock.now = START + CYCLE * 3
    till.drip_due()

    assert cycles(till, "bob") == [1, 2, 4]


def test_a_worker_that_was_away_all_the_time_gives_the_same(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    clock.now = START + days(31)
    till.pause_subscription("bob", "gift")
    clock.now = START + days(60)
    till.resume_subscription("bob", "gift")
    clock.now = START + CYCLE * 3
    till.drip_due()

    assert cycles(till, "bob") == [1, 2, 4]


def test_a_canceled_subscription_gives_no_more_and_what_it_gave_lives_on(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    till.cancel_subscription("bob", "gift")
    clock.now = START + days(60)

    assert till.drip_due().receipts == ()
    assert till.balance("bob").balance == 375_000
    with pytest.raises(Conflict, match="canceled"):
        till.drip_tokens_28day("bob", "gift")
    with pytest.raises(Conflict, match="final"):
        till.resume_subscription("bob", "gift")


def test_each_act_is_audited_once_however_often_it_is_asked_for(till: Till) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    for _ in range(2):
        till.pause_subscription("bob", "gift", actor="eve", reason="on leave")

    with psycopg.connect(till.url) as conn:
        acts = conn.execute("SELECT actor, act, detail FROM audit_log").fetchall()
    assert acts == [("eve", "pause_subscription", {"subscription_id": "gift", "reason": "on leave"})]


def test_one_users_pause_is_no_others(till: Till, clock: Clock) -> None:
    for user in ("bob", "zoe"):
        till.drip_tokens_28day(user, "gift", driven_by="clock")
    till.pause_subscription("bob", "gift")

    assert stands(till, "gift", "zoe")[0] == "active"
    clock.now = START + CYCLE
    till.drip_due()
    assert (cycles(till, "bob"), cycles(till, "zoe")) == ([1], [1, 2])


def test_stripes_subscriptions_are_changed_in_stripe(till: Till) -> None:
    told(till, a_year(START, is_first=True), seen("active", START, subscription_id="sub_2", customer_id=None))
    for subscription_id in ("sub_1", "sub_2"):
        with pytest.raises(Conflict, match="Stripe"):
            till.pause_subscription("ann", subscription_id)


def test_what_the_app_gives_by_itself_has_no_clock_to_pause(till: Till) -> None:
    till.drip_tokens_28day("bob", "sub")

    with pytest.raises(Conflict, match="no clock"):
        till.pause_subscription("bob", "sub")


def test_nobody_can_change_what_they_do_not_have(till: Till) -> None:
    with pytest.raises(SubscriptionNotFound):
        till.cancel_subscription("bob", "gift")


# -- preview ----------------------------------------------------------------------------------------------------------


def test_a_preview_says_what_will_be_in_the_books(till: Till, clock: Clock) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    coming = till.preview("bob", "gift", cycles=5)
    for one in coming:
        clock.now = one.owed_at
        (receipt,) = till.drip_due().receipts
        row = till.history("bob", limit=1)[0]
        assert (receipt.balance_after, one.cycle_number) == (one.balance_after, row.detail["cycle_number"])
        for name in ("rollover_from_previous", "rollover_cycles_count", "expired_tokens"):
            assert getattr(one, name) == row.detail[name]
        assert one.expires_at in [lot.expires_at for lot in till.lots("bob")]
    assert [one.expired_tokens for one in coming] == [0, 0, 0, 375_000, 375_000]


def test_a_preview_changes_nothing(till: Till) -> None:
    till.drip_tokens_28day("bob", "gift", driven_by="clock")
    before = (till.history("bob"), till.subscriptions("bob"))
    till.preview("bob", cycles=20)

    assert (till.history("bob"), till.subscriptions("bob")) == before


def test_after_what_is_paid_for_each_cycle_waits_for_its_payment(till: Till) -> None:
    told(till, a_year(START, is_first=True))

    coming = till.preview("ann", "sub_1", cycles=14)

    assert [one.waits_for for one in coming] == ["time"] * 12 + ["payment"] * 2
    assert coming[12].starts_at == START + days(365)


def test_of_a_paused_or_canceled_subscription_nothing_is_coming(till: Till) -> None:
    told(till, invoice(START, is_first=True), seen("active", START, cancel_at=START + days(30)))
    assert [one.cycle_number for one in till.preview("ann", "sub_1")] == [2]

    told(till, seen("canceled", START + days(30)))
    assert till.preview("ann", "sub_1") == []


# -- any order --------------------------------------------------------------------------------------------------------


def story(number: int) -> list[Event]:
    """A trial, its first paid period, a payment that failed, and the end, about a subscription of its own."""
    sub: dict[str, Any] = {
        "subscription_id": f"sub_{number}",
        "user_id": f"user {number}",
        "customer_id": f"cus_{number}",
    }
    stranger: dict[str, Any] = sub | {"user_id": None}
    paid = START + days(7)
    return [
        trial(START, **sub),
        seen(None, START + timedelta(minutes=1), is_trial=True, occurred_at=START + timedelta(minutes=1), **stranger),
        seen("active", paid, period_start=paid, **stranger),
        invoice(paid, **sub),
        seen("past_due", paid + CYCLE, **stranger),
        seen("canceled", paid + CYCLE + days(20), **stranger),
    ]


def facts_of(till: Till, user: str) -> tuple[Any, ...]:
    (found,) = till.subscriptions(user)
    return (found.status, found.stripe_status, found.status_at, found.plan_key, found.anchor, found.billed_by,
            found.paid_until, found.trial_starts_at, found.trial_ends_at)  # fmt: skip


@pytest.mark.timeout(400)
def test_every_order_of_six_events_ends_in_one_state(till: Till, clock: Clock) -> None:
    """720 orders, each about a subscription of its own; side by side, so that they share commits."""
    clock.now = START + days(55)

    def play(number: int, order: tuple[int, ...]) -> tuple[Any, ...]:
        events = story(number)
        for place in order:
            till.receive_stripe_event(events[place])
        return facts_of(till, f"user {number}"), tuple(lots(till, f"user {number}"))

    orders = list(itertools.permutations(range(6)))
    with ThreadPoolExecutor(16) as pool:
        ends = set(pool.map(play, range(len(orders)), orders))

    assert event_states(till) == {"handled": 720 * 6}
    ((facts, left),) = ends
    assert facts[:3] == ("canceled", "canceled", START + days(7) + CYCLE + days(20))
    assert left == (
        ("drip", 375_000, str(START + days(7) + CYCLE * 4)),
        ("trial", 1_000_000, str(START + days(56))),
    )
