"""`till stripe …` and `till findings`: the inbox on a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.conftest import START
from tests.selling import sell_packs
from tokentill import Till
from tokentill.core.stripe.meanings import Doubt, PackPaid, Who
from tokentill.core.users import User
from tokentill.samples.stripe import checkout_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two events: ann's, and a stranger's."""
    ann: dict[str, Any] = {"session_id": "cs_1", "event_id": "evt_1", "user_id": "ann"}
    stranger: dict[str, Any] = {"session_id": "cs_2", "event_id": "evt_2", "user_id": None, "customer_id": "cus_2"}
    for number, told in enumerate((ann, stranger)):
        (tmp_path / f"{number}.json").write_text(json.dumps(checkout_pack(at=START, **told)))
    return tmp_path


def test_what_failed_is_seen_linked_and_granted(till: Run, folder: Path) -> None:
    assert till("stripe", "replay", folder).status == 1

    [failed] = till("stripe", "list", "--state", "failed", "--json").json["events"]
    assert (failed["event_id"], failed["customer_id"], failed["attempts"]) == ("evt_2", "cus_2", 1)
    assert failed["next_attempt_at"] is not None
    assert till("stripe", "retry", "--failed").status == 1
    linked = till("stripe", "link", "cus_2", "ann", "--by", "root")

    assert linked.status == 0
    assert linked.out.splitlines()[0] == "cus_2 is ann from now on; 1 event had waited for that:"
    assert linked.out.splitlines()[1].split()[:2] == ["handled", "evt_2"]
    again = till("stripe", "link", "cus_2", "ann")
    assert again.out == "cus_2 is ann from now on; no event had waited for that.\n"
    assert till("stripe", "link", "cus_2", "ann", "--json").json == {
        "customer_id": "cus_2", "user_id": "ann", "events": []
    }  # fmt: skip
    assert till("balance", "ann", "--json").json["balance"] == 4_000_000
    assert till("stripe", "retry", "--failed").out == "No event was waiting.\n"
    assert till("stripe", "retry", "evt_1", "--json").json["events"][0]["state"] == "handled"


@pytest.mark.parametrize("named", ["ann", "pi_3Abc", "cus_", "cus_2 ", "CUS_2", "cus_é"])
def test_who_is_no_customer_is_not_linked(till: Run, named: str) -> None:
    ran = till("stripe", "link", named, "ann")

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("till: CUSTOMER is the id of a customer in Stripe, like cus_9s6XKzkNRiz8i3, not ")


def test_the_list_is_narrowed_and_shown(till: Run, folder: Path) -> None:
    till("stripe", "replay", folder)

    assert "evt_1" in (shown := till("stripe", "list").out) and "evt_2" in shown
    for options in (("--user", "ann"), ("--state", "handled"), ("--since", "2026-01-01", "--state", "handled")):
        assert [event["event_id"] for event in till("stripe", "list", *options, "--json").json["events"]] == [
            "evt_1"
        ], options
    assert [event["event_id"] for event in till("stripe", "list", "--customer", "cus_2", "--json").json["events"]] == [
        "evt_2"
    ]
    assert till("stripe", "list", "--type", "invoice.paid", "--json").json == {"events": []}
    assert till("stripe", "list", "--since", "2999-01-01", "--json").json["events"] == []
    assert len(till("stripe", "list", "--limit", 1, "--json").json["events"]) == 1
    assert till("stripe", "list", "--state", "lost").status == 2


def test_an_event_is_shown_with_its_row_and_payload(till: Run, folder: Path) -> None:
    till("stripe", "replay", folder)

    told = till("stripe", "show", "evt_1", "--json").json
    shown = till("stripe", "show", "evt_1")

    assert (told["state"], told["meaning"], told["row"]["tokens"]) == (
        "handled", "pack power for ann, $99.00", 2_000_000
    )  # fmt: skip
    assert told["payload"]["id"] == "evt_1"
    assert "1: purchase, +2,000,000 tokens" in shown.out and '"checkout.session"' in shown.out
    assert till("stripe", "show", "evt_9").err == "till: There is no Stripe event evt_9 in the inbox.\n"


def test_a_retry_wants_events_or_all_that_failed(till: Run) -> None:
    assert till("stripe", "retry").status == till("stripe", "retry", "evt_1", "--failed").status == 2
    assert till("stripe", "retry", "evt_1").status == 1


def test_an_event_that_is_given_up_is_kept_with_its_reason_and_nobody_is_reminded(till: Run, tmp_path: Path) -> None:
    stranger = checkout_pack(session_id="cs_9", at=START, user_id=None, event_id="evt_9")
    (tmp_path / "one.json").write_text(json.dumps(stranger), encoding="utf-8")
    assert till("stripe", "replay", tmp_path).status == 1

    [told] = till("stripe", "ignore", "evt_9", "--reason", "the old shop", "--by", "zoe", "--json").json["events"]

    assert (told["state"], told["detail"]) == ("ignored", "given up by zoe: the old shop")
    assert till("stripe", "retry", "--failed", "--json").json["events"] == []
    assert till("stripe", "ignore", "evt_none", "--reason", "x").status == 1
    assert till("stripe", "retry", "evt_9", "--json").json["events"][0]["state"] == "failed", "it can be taken up again"


def test_the_mode_keeps_events_apart_when_they_are_replayed(
    till: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILL_STRIPE_MODE", "live")
    told = till("stripe", "replay", folder, "--json").json
    assert {(each["state"], each["detail"]) for each in told} == {
        ("ignored", "of test mode, and the settings are for live mode")
    }

    monkeypatch.setenv("TILL_STRIPE_MODE", "both")
    assert "TILL_STRIPE_MODE is test or live, not 'both'." in till("stripe", "list").err


def test_the_doctor_tells_the_mode_and_what_waits(till: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def checks() -> dict[str, tuple[str, str]]:
        return {check["name"]: (check["state"], check["found"]) for check in till("doctor", "--json").json["checks"]}

    assert checks()["Stripe mode"] == ("green", "the first event will decide")
    till("stripe", "replay", folder)
    seen = checks()
    assert seen["Stripe mode"] == ("green", "test, by the first event that was acted on")
    assert (
        seen["Stripe inbox"][0] == "red"
        and "1 failed, 1 handled; the oldest not handled is of" in seen["Stripe inbox"][1]
    )
    monkeypatch.setenv("TILL_STRIPE_MODE", "live")
    assert checks()["Stripe mode"] == ("yellow", "live, but the first events were of test")


def test_findings_are_listed_and_closed(till: Run, database: str) -> None:
    with Till(database) as opened:
        sale = PackPaid(
            who=Who(), session_id="cs_1", payment_id="pi_1", items=(("power", 1),), amount_paid_cents=1, currency="usd",
            occurred_at=START, doubts=(Doubt(expected="9,900 usd", found="1 usd"),),
        )  # fmt: skip
        event = opened.receive_stripe_event({"id": "evt_f", "type": "moon.risen"})
        sell_packs(opened, event, User.of("ann"), sale)
    [finding] = till("findings", "--json").json["findings"]
    assert (finding["user_id"], finding["subject"]) == ("ann", "cs_1")
    assert "payment_amount" in till("findings").out and "findings" in till("doctor").out

    assert till("findings", "close", finding["id"], "--by", "root").out == "closed by root: payment_amount of cs_1\n"

    assert till("findings", "--json").json == {"findings": []}
    assert till("findings").out == "There are no open findings; --all shows closed ones, too.\n"
    assert [each["closed_by"] for each in till("findings", "--all", "--limit", 5, "--json").json["findings"]] == [
        "root"
    ]
    assert till("findings", "close", "x").status == 2
