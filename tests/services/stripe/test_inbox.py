"""The inbox keeps what cannot be done yet, tries it again, and never mixes modes; and whatever comes twice is one."""

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import START, Clock
from tests.selling import sell_packs
from tests.services.stripe import delivering
from tokentill import Till
from tokentill.core.keys import Key
from tokentill.core.stripe.meanings import Doubt, PackPaid, Who
from tokentill.core.users import User
from tokentill.errors import EventNotFound, FindingNotFound, MalformedBody, Unavailable
from tokentill.ids import Uuid7s
from tokentill.samples.stripe import checkout_pack, checkout_subscription
from tokentill.services.stripe import granting
from tokentill.store import inbox
from tokentill.store.inbox import InboxEvent

Event = Mapping[str, Any]


def pack(number: int = 1, user: str | None = "ann", **more: Any) -> Event:
    return checkout_pack(**{"session_id": f"cs_{number}", "at": START, "user_id": user, **more})


def live(event: Event) -> Event:
    return {**event, "livemode": True}


def given(till: Till, user: str = "ann") -> list[int]:
    return [row.tokens for row in till.history(user)[::-1] if row.tokens > 0]


def rows(till: Till, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(till.url) as conn:
        return conn.execute(sql.encode()).fetchall()


# --- Whose it is ---


def test_a_stranger_is_granted_when_an_admin_says_who_it_is(till: Till) -> None:
    kept = till.receive_stripe_event(pack(user=None, customer_id="cus_9"))
    assert (kept.state, kept.attempts, kept.next_attempt_at) == ("failed", 1, START + timedelta(minutes=1))
    assert "Nobody knows whose this is" in (kept.detail or "")

    [event] = till.link_stripe_customer("cus_9", "auth0|42", linked_by="root")

    assert (event.state, event.attempts, event.next_attempt_at, event.user_name) == ("handled", 2, None, "auth0|42")
    assert till.balance("auth0|42").external_id == "auth0|42", "the link knows the caller's own id"
    [(actor, act, detail)] = rows(till, "SELECT actor, act, detail FROM audit_log")
    assert (actor, act) == ("root", "link_customer")
    assert detail == {"customer_id": "cus_9", "user": "auth0|42", "before": None}


def test_an_admins_link_replaces_what_was_known_and_leaves_what_was_granted(till: Till) -> None:
    till.receive_stripe_event(pack(1, customer_id="cus_9"))

    assert till.link_stripe_customer("cus_9", "bob") == []
    till.receive_stripe_event(pack(2, user=None, customer_id="cus_9"))

    assert (given(till, "ann"), given(till, "bob")) == ([2_000_000], [2_000_000])
    [(before,)] = rows(till, "SELECT detail ->> 'before' FROM audit_log")
    assert UUID(before) == User.of("ann").user_id


def test_a_payment_stays_its_users_when_the_customer_is_linked_to_another(till: Till) -> None:
    """Two events about one payment grant once: the second one, too, where it could be somebody else's by now."""
    paid: dict[str, Any] = {"user": None, "customer_id": "cus_9", "payment_intent_id": "pi_1"}
    till.link_stripe_customer("cus_9", "ann")
    till.receive_stripe_event(pack(event_id="evt_1", **paid))
    till.link_stripe_customer("cus_9", "bob")

    kind = "checkout.session.async_payment_succeeded"
    again = till.receive_stripe_event(pack(event_id="evt_2", event_type=kind, **paid))

    assert (again.state, again.user_name, given(till, "ann")) == ("handled", "ann", [2_000_000])
    assert rows(till, "SELECT count(*) FROM token_lots") == [(1,)]


def test_the_apps_own_id_outranks_the_known_customer_and_metadata(till: Till) -> None:
    till.receive_stripe_event(pack(1, user="ann", customer_id="cus_9"))
    event = dict(pack(2, user="meta", customer_id="cus_9"))
    event["data"]["object"]["client_reference_id"] = "bob"

    till.receive_stripe_event(event)

    assert (given(till, "ann"), given(till, "bob")) == ([2_000_000], [2_000_000])


# --- Trying again ---


def test_what_failed_is_tried_again_by_back_off_and_at_last_only_by_hand(till: Till, clock: Clock) -> None:
    kept = till.receive_stripe_event(pack(user=None, customer_id="cus_9"))
    attempts = 1
    while kept.next_attempt_at is not None:
        clock.now = kept.next_attempt_at - timedelta(seconds=1)
        assert till.retry_due_stripe_events() == []
        clock.advance(seconds=1)
        [kept] = till.retry_due_stripe_events()
        attempts += 1
        assert (kept.state, kept.attempts) == ("failed", attempts)

    assert (attempts, clock.now - START) == (15, timedelta(days=8, hours=20, minutes=36))
    clock.advance(days=365)
    assert till.retry_due_stripe_events() == []
    [tried] = till.retry_stripe_events([kept.event_id])
    assert tried.attempts == 16
    till.link_stripe_customer("cus_9", "ann")
    assert given(till) == [2_000_000]


def test_retrying_names_what_is_not_there_and_then_does_nothing(till: Till) -> None:
    kept = till.receive_stripe_event(pack(user=None))

    with pytest.raises(EventNotFound):
        till.retry_stripe_events([kept.event_id, "evt_none"])

    assert till.stripe_event(kept.event_id).attempts == 1


def test_what_was_handled_is_not_done_again_by_hand(till: Till) -> None:
    event = till.receive_stripe_event(pack())

    [again] = till.retry_stripe_events([event.event_id])

    assert again == till.stripe_event(event.event_id) == event
    assert given(till) == [2_000_000]


STORE_AND_DIE = """
import json, os, signal, sys
from tests.selling import sell_packs
from tokentill import Till
from tokentill.services.stripe import receiving

till = Till(sys.argv[1])
payload = json.loads(sys.argv[2])
receiving.store_all(till.context, [receiving.arrival_of(till.context, till.catalog, payload)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_stored_is_done_by_the_next(till: Till, clock: Clock) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STORE_AND_DIE, till.url, json.dumps(pack())], timeout=120, check=False
    )
    assert ended.returncode == -9
    [(received_at, state)] = rows(till, "SELECT received_at, state FROM stripe_events")
    assert state == "received"

    clock.now = received_at + timedelta(minutes=4)
    assert till.retry_due_stripe_events() == [], "its process may still be about to"
    clock.advance(minutes=1)
    [event] = till.retry_due_stripe_events()

    assert event.state == "handled"
    assert given(till) == [2_000_000]


def test_an_outage_after_storing_loses_nothing(till: Till, database: str, clock: Clock) -> None:
    with Till(database, clock=clock) as failing:
        failing.context.engine.close()
        for receive in (failing.receive_stripe_event, lambda event: failing.submit_stripe_event(event).result(60)):
            assert receive(pack()).state == "received"

    assert till.retry_due_stripe_events() == []
    clock.advance(minutes=5)
    [event] = till.retry_due_stripe_events()
    assert (event.state, given(till)) == ("handled", [2_000_000])


def test_workers_at_the_same_time_take_different_events(till: Till, database: str) -> None:
    for number in range(6):
        till.receive_stripe_event(pack(number, user=None))
    at = START + timedelta(minutes=1)
    how: dict[str, Any] = {"at": at, "left_since": START, "until": at + timedelta(minutes=5), "limit": 4}

    with psycopg.connect(database) as one, psycopg.connect(database) as other:
        first, second = inbox.claim_due(one, **how), inbox.claim_due(other, **how)
        third = inbox.claim_due(other, **how)

    assert [len(first), len(second), len(third)] == [4, 2, 0]
    assert {event.event_id for event in (*first, *second)} == {event.event_id for event in till.stripe_events()}


def test_a_bug_of_ours_fails_one_event_and_not_its_neighbours(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = checkout_subscription(
        session_id="cs_s", subscription_id="sub_1", at=START, user_id="bob", plan_key="vision_pro_28day"
    )
    monkeypatch.setattr("tokentill.services.stripe.handling.start_subscription", lambda *given: 1 // 0)

    answers = [till.submit_stripe_event(event) for event in (pack(1), bad, pack(2))]

    assert [answer.result(60).state for answer in answers] == ["handled", "failed", "handled"]
    assert till.stripe_event(bad["id"]).detail == "an error of ours (ZeroDivisionError); it is in the log"
    monkeypatch.undo()
    assert [event.state for event in till.retry_failed_stripe_events()] == ["handled"]


# --- Test and live ---


def test_the_first_event_acted_on_decides_the_mode_and_the_other_mode_waits(till: Till, database: str) -> None:
    ignored = {"id": "evt_i", "type": "moon.risen", "livemode": True, "data": {"object": {}}}
    stranger = live(pack(0, user=None))
    assert [till.receive_stripe_event(event).state for event in (ignored, stranger)] == ["ignored", "failed"]
    till.receive_stripe_event(pack(1))

    kept = till.receive_stripe_event(live(pack(2)))

    assert (kept.state, given(till)) == ("failed", [2_000_000])
    assert "TILL_STRIPE_MODE" in (kept.detail or "")
    with Till(database, clock=lambda: START, stripe_mode="live") as for_live:
        [granted] = for_live.retry_stripe_events([kept.event_id])
        assert granted.state == "handled", "the setting outranks what was decided"
    assert given(till) == [2_000_000] * 2


@pytest.mark.parametrize("mode", ["test", "live"])
def test_the_setting_ignores_the_other_mode_with_a_reason(database: str, mode: Any) -> None:
    with Till(database, clock=lambda: START, stripe_mode=mode) as till:
        events = [till.receive_stripe_event(event) for event in (pack(1), live(pack(2)))]
        unclear = till.receive_stripe_event({"id": "evt_u", "type": "invoice.paid", "livemode": mode != "live"})

    states = {event.livemode: event.state for event in events}
    assert states == {mode == "live": "handled", mode != "live": "ignored"}
    other = "test" if mode == "live" else "live"
    assert f"of {other} mode, and the settings are for {mode} mode" in {event.detail for event in events}
    assert unclear.state == "ignored", "of the other mode, whatever it is about"


def test_a_payload_that_does_not_say_its_mode_is_of_test_mode(database: str) -> None:
    event = dict(pack())
    del event["livemode"]
    with Till(database, clock=lambda: START, stripe_mode="live") as till:
        assert till.receive_stripe_event(event).state == "ignored"


def test_one_batch_of_both_modes_does_not_mix_them(till: Till) -> None:
    answers = [till.submit_stripe_event(event) for event in (live(pack(1)), pack(2), live(pack(3)), pack(4))]

    assert [answer.result(60).state for answer in answers] == ["handled", "failed", "handled", "failed"]
    assert given(till) == [2_000_000] * 2


# --- Findings ---


def sale(quantity: int = 1, *doubts: Doubt) -> PackPaid:
    return PackPaid(
        who=Who(client_reference_id="ann"), session_id="cs_1", payment_id="pi_1", items=(("power", quantity),),
        amount_paid_cents=9_900, currency="usd", occurred_at=START, doubts=doubts,
    )  # fmt: skip


def stored(till: Till) -> InboxEvent:
    return till.receive_stripe_event({"id": "evt_f", "type": "moon.risen", "data": {"object": {}}})


def test_a_doubt_is_a_finding_once_and_the_tokens_are_granted(till: Till) -> None:
    doubts = (Doubt(expected="9,900 usd for power", found="9,900 eur"), Doubt(expected="one", found="two"))
    for _ in range(2):
        sell_packs(till, stored(till), User.of("ann"), sale(1, *doubts))

    [finding] = till.findings()
    assert (finding.kind, finding.subject, finding.user_id) == ("payment_amount", "cs_1", User.of("ann").user_id)
    assert (finding.expected, finding.found) == ("9,900 usd for power; one", "9,900 eur; two")
    assert given(till) == [2_000_000]


def test_another_number_of_tokens_for_what_was_granted_is_a_finding(till: Till) -> None:
    for quantity in (1, 1, 2, 2):
        sell_packs(till, stored(till), User.of("ann"), sale(quantity))

    [finding] = till.findings()
    assert (finding.kind, finding.subject) == ("granted_differs", "cs_1/power")
    assert finding.expected.startswith("4,000,000 tokens") and finding.found.startswith("2,000,000 tokens")
    assert given(till) == [2_000_000], "the first stands"


def test_a_finding_is_closed_once_and_by_somebody(till: Till) -> None:
    sell_packs(till, stored(till), User.of("ann"), sale(1, Doubt(expected="a", found="b")))
    [finding] = till.findings()

    closed = [till.close_finding(finding.id, closed_by=who) for who in ("root", "late")]

    assert [each.closed_by for each in closed] == ["root", "root"]
    assert till.findings() == [] and till.findings(include_closed=True) == closed[:1]
    assert rows(till, "SELECT actor, act FROM audit_log") == [("root", "close_finding")]
    with pytest.raises(FindingNotFound):
        till.close_finding(UUID(int=0))


# --- Many at once ---


def test_what_arrives_together_keeps_its_order_where_it_matters(till: Till) -> None:
    """The second event of each pair does not say whose it is: only the first tells."""
    events = []
    for number in range(40):
        told = {"customer_id": f"cus_{number}"}
        events += [pack(number, f"user-{number}", **told), pack(1_000 + number, None, **told)]

    answers = [till.submit_stripe_event(event) for event in events]

    assert {answer.result(60).state for answer in answers} == {"handled"}
    assert all(given(till, f"user-{number}") == [2_000_000] * 2 for number in range(40))
    assert till.context.engine.stats().batches < 60, "and many were committed together"


def test_an_event_that_cannot_be_stored_keeps_no_other_from_it(till: Till) -> None:
    bad = {**pack(2), "note": "a\0b"}

    good, refused, also_good = [till.submit_stripe_event(event) for event in (pack(1), bad, pack(3))]

    assert (good.result(60).state, also_good.result(60).state) == ("handled", "handled")
    assert refused.exception(60) is not None
    with pytest.raises(MalformedBody):
        till.submit_stripe_event({**pack(2), "note": "\ud800"}).result(60)


def test_a_closed_till_takes_in_nothing_and_has_finished_what_it_took(database: str, till: Till) -> None:
    other = Till(database, clock=lambda: START)
    answers = [other.submit_stripe_event(pack(number)) for number in range(20)]
    other.close()

    assert {answer.result(0).state for answer in answers} == {"handled"}
    with pytest.raises(Unavailable):
        other.submit_stripe_event(pack(21))


PURCHASES, DELIVERIES, WORKERS = 1_000, 10, 8


def deliver_all(till: Till, other: Till, count: int) -> set[str]:
    """Each purchase is told by two events, five times each, by eight workers at two tills, all at the same time."""
    events = []
    for number in range(count):
        completed = pack(number, f"user-{number % 50}")
        told_again = {"id": f"evt_again_{number}", "type": "checkout.session.async_payment_succeeded"}
        events += [completed, {**completed, **told_again}]

    def work(worker: int) -> set[str]:
        at = (till, other)[worker % 2]
        mine = [events[n % len(events)] for n in range(worker, count * DELIVERIES, WORKERS)]
        mine = mine if worker % 4 < 2 else mine[::-1]
        states = set[str]()
        for first in range(0, len(mine), 100):  # So many wait at a time, as connections would.
            answers = [at.submit_stripe_event(event) for event in mine[first : first + 100]]
            states |= {answer.result(120).state for answer in answers}
        return states

    with ThreadPoolExecutor(WORKERS) as pool:
        return set().union(*pool.map(work, range(WORKERS)))


def purchases(till: Till) -> int:
    [(count,)] = rows(till, "SELECT count(*) FROM token_transactions")
    assert isinstance(count, int)
    return count


def test_ten_deliveries_of_each_purchase_to_eight_workers_grant_each_once(till: Till, database: str) -> None:
    with Till(database, clock=lambda: START) as other:
        assert deliver_all(till, other, PURCHASES) == {"handled"}

    assert purchases(till) == PURCHASES
    assert rows(till, "SELECT state, count(*) FROM stripe_events GROUP BY state") == [("handled", 2 * PURCHASES)]


def test_without_the_key_of_the_fact_they_would_be_granted_more(
    till: Till, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a till that only remembers which events it has seen."""
    new_id = Uuid7s()
    monkeypatch.setattr(granting, "pack_keys", lambda *fact: [Key.fresh(new_id())])

    with Till(database, clock=lambda: START) as other:
        deliver_all(till, other, 100)

    assert purchases(till) > 100


# Small here; at full size by `python -m tests.services.stripe.delivering`.
SMALL = {"purchases": 100, "deliveries": 10, "workers": WORKERS}


@pytest.mark.timeout(180)
def test_ten_deliveries_of_each_purchase_to_eight_processes_grant_each_once(till: Till, database: str) -> None:
    assert delivering.deliver(database, **SMALL) == ["['handled']"] * WORKERS

    assert delivering.grants(database) == (100, 100)


@pytest.mark.timeout(180)
def test_without_the_unique_key_eight_processes_grant_more(database: str) -> None:
    """The control: all that keeps them from it is one constraint of the database."""
    delivering.without_the_unique_key(database)

    delivering.deliver(database, **SMALL)

    made, of = delivering.grants(database)
    assert made > of == 100
