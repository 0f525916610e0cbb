"""Stripe's side and the books: equal sides give no finding, and whatever differs gives one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import ALICE, NOW
from tokentill.core.ledger.reversals import DisputeStatus, Policies, RefundStatus
from tokentill.core.money import minor_units, money
from tokentill.core.stripe.comparison.compare import CHECKS, Comparison, compare
from tokentill.core.stripe.comparison.sides import (
    Booked,
    BookedDispute,
    BookedLot,
    BookedPayment,
    BookedRefund,
    StuckEvent,
    Told,
    ToldDispute,
    ToldPayment,
    ToldRefund,
)

BOB = UUID(int=7)
CENTS, TOKENS = 10_000, 1_000


def told_payment(number: int = 1, **rest: object) -> ToldPayment:
    fields = {
        "payment_id": f"ch_{number}", "names": frozenset({f"ch_{number}", f"pi_{number}"}), "amount_cents": CENTS,
        "currency": "usd", "is_paid": True, "status": "succeeded", "created_at": NOW, "refunded_cents": 0,
        "customer_id": f"cus_{number}", "user_id": "alice", "product": "power",
    }  # fmt: skip
    return ToldPayment(**{**fields, **rest})  # type: ignore[arg-type]  # named after the fields


def booked_payment(number: int = 1, **rest: object) -> BookedPayment:
    fields = {
        "payment_id": f"pi_{number}", "user_id": ALICE.user_id, "amount_cents": CENTS, "currency": "usd",
        "refunded_cents": None, "is_in_window": True,
    }  # fmt: skip
    return BookedPayment(**{**fields, **rest})  # type: ignore[arg-type]  # named after the fields


def booked_lot(number: int = 1, **rest: object) -> BookedLot:
    fields = {
        "user_id": ALICE.user_id, "lot": number, "names": frozenset({f"pi_{number}"}), "granted": TOKENS,
        "unspent_tokens": TOKENS, "expired_tokens": 0, "paid_cents": CENTS, "currency": "usd", "posted_tokens": 0,
    }  # fmt: skip
    return BookedLot(**{**fields, **rest})  # type: ignore[arg-type]  # named after the fields


def told_refund(cents: int, status: RefundStatus = "succeeded", number: int = 1, refund_id: str = "re_1") -> ToldRefund:
    names = frozenset({f"pi_{number}"})
    return ToldRefund(refund_id=refund_id, names=names, amount_cents=cents, currency="usd", status=status)


def booked_refund(
    cents: int, status: RefundStatus = "succeeded", number: int = 1, refund_id: str = "re_1"
) -> BookedRefund:
    return BookedRefund(
        refund_id=refund_id, payment_id=f"pi_{number}", amount_cents=cents, currency="usd", status=status,
        is_in_window=True,
    )  # fmt: skip


def told_dispute(
    cents: int = CENTS, status: DisputeStatus = "lost", number: int = 1, moved_cents: int | None = CENTS
) -> ToldDispute:
    return ToldDispute(
        dispute_id=f"du_{number}", names=frozenset({f"ch_{number}"}), amount_cents=cents, currency="usd",
        status=status, moved_cents=moved_cents,
    )  # fmt: skip


def booked_dispute(
    cents: int = CENTS, status: DisputeStatus = "lost", number: int = 1, withdrawn: int = CENTS, reinstated: int = 0
) -> BookedDispute:
    return BookedDispute(
        dispute_id=f"du_{number}", payment_id=f"ch_{number}", amount_cents=cents, currency="usd", status=status,
        withdrawn_cents=withdrawn, reinstated_cents=reinstated, is_in_window=True,
    )  # fmt: skip


def told(**parts: object) -> Told:
    return Told(**{"payments": (told_payment(),), "refunds": (), "disputes": (), **parts})  # type: ignore[arg-type]


def booked(**parts: object) -> Booked:
    return Booked(**{"payments": (booked_payment(),), "lots": (booked_lot(),), **parts})  # type: ignore[arg-type]


def differences(there: Told, here: Booked, *, is_complete: bool = True) -> Comparison:
    return compare(there, here, policies=Policies(), is_complete=is_complete)


def checks(there: Told, here: Booked, *, is_complete: bool = True) -> list[str]:
    return [finding.check for finding in differences(there, here, is_complete=is_complete).findings]


NOTHING = Booked()


# --- What agrees ---


def test_equal_sides_agree() -> None:
    found = differences(told(), booked())

    assert found.agrees
    assert found.counts == {"payments": 1, "refunds": 0, "disputes": 0, "not_ours": 0}


def test_a_payment_is_found_under_names_that_only_others_join() -> None:
    # The charge of a renewal knows its intent; an invoice knows the intent; the books know invoice and cycle.
    there = told(links=(frozenset({"pi_1", "in_1"}),))
    here = Booked(
        payments=(booked_payment(payment_id="in_1"),),
        lots=(booked_lot(names=frozenset({"sub_1#2"})),),
        links=(frozenset({"in_1", "sub_1#2"}),),
    )

    assert checks(there, here) == []
    assert checks(told(), here) == ["not_granted", "not_paid"]


def test_what_a_host_sells_besides_is_counted_and_not_found() -> None:
    other = told_payment(user_id=None, product=None)

    assert differences(told(payments=(other,)), NOTHING).counts["not_ours"] == 1
    assert checks(told(payments=(other,)), NOTHING) == []
    assert checks(told(payments=(other,)), Booked(customers={"cus_1": BOB})) == ["not_granted"]


def test_what_the_catalog_does_not_have_is_not_ours() -> None:
    ignored = StuckEvent(
        event_id="evt_1", type="checkout.session.completed", state="ignored", detail="the catalog has no pack 'shirt'",
        names=frozenset({"cs_1", "pi_1"}),
    )  # fmt: skip

    assert checks(told(), Booked(events=(ignored,))) == []
    assert checks(told(), Booked(events=(replace(ignored, detail="payment_status is unpaid"),))) == ["not_granted"]


def test_a_payment_that_failed_asks_for_nothing() -> None:
    assert checks(told(payments=(told_payment(is_paid=False),)), NOTHING) == []


def test_a_second_try_that_was_paid_is_one_payment() -> None:
    failed = told_payment(payment_id="ch_0", names=frozenset({"ch_0", "pi_1"}), is_paid=False)

    assert checks(told(payments=(failed, told_payment())), booked()) == []


def test_what_cost_nothing_is_no_payment() -> None:
    here = Booked(payments=(booked_payment(payment_id="cs_1", amount_cents=0),),
                  lots=(booked_lot(names=frozenset({"cs_1"}), paid_cents=0),))  # fmt: skip

    assert checks(told(payments=()), here) == []


def test_a_sum_on_the_charge_is_enough_where_the_books_know_no_refund_by_itself() -> None:
    here = booked(payments=(booked_payment(refunded_cents=3_000),), lots=(booked_lot(posted_tokens=300),))

    assert checks(told(refunds=(told_refund(3_000),)), here) == []
    assert checks(told(refunds=(told_refund(3_001),)), here) == ["refund_unknown"]


def test_what_expired_counts_as_gone_whether_it_was_taken_before_or_after() -> None:
    there = told(refunds=(told_refund(5_000),))
    taken = booked_lot(unspent_tokens=TOKENS, expired_tokens=500, posted_tokens=500)
    died = booked_lot(unspent_tokens=TOKENS, expired_tokens=TOKENS, posted_tokens=0)

    for lot in (taken, died):
        assert checks(there, booked(lots=(lot,), refunds=(booked_refund(5_000),))) == []


# --- What differs, one by one ---

REFUNDED = booked(refunds=(booked_refund(3_000),), lots=(booked_lot(posted_tokens=300),))
LOST = booked(disputes=(booked_dispute(),), lots=(booked_lot(posted_tokens=TOKENS),))

PLANTED: dict[str, tuple[Told, Booked, list[str]]] = {
    "paid and not granted": (told(), NOTHING, ["not_granted"]),
    "paid, known, and not granted": (told(), Booked(payments=(booked_payment(user_id=None),)), ["not_granted"]),
    "granted and not paid": (told(payments=()), booked(), ["not_paid"]),
    "granted for a payment that failed": (
        told(payments=(told_payment(is_paid=False, status="failed"),)), booked(), ["not_paid"]),
    "another amount": (told(payments=(told_payment(amount_cents=9_900),)), booked(), ["amount"]),
    "another amount on the lot": (told(), booked(lots=(booked_lot(paid_cents=9_900),)), ["amount"]),
    "another currency": (told(payments=(told_payment(currency="eur"),)), booked(), ["currency"]),
    "a refund the books do not have": (told(refunds=(told_refund(3_000),)), booked(), ["refund_unknown"]),
    "a refund Stripe does not have": (told(), REFUNDED, ["refund_missing"]),
    "a refund of another amount": (told(refunds=(told_refund(3_100),)), REFUNDED, ["refund_differs"]),
    "a refund that failed since": (told(refunds=(told_refund(3_000, "failed"),)), REFUNDED, ["refund_differs"]),
    "another sum refunded, told by the charge": (
        told(payments=(told_payment(refunded_cents=3_100),), refunds=None), REFUNDED, ["refunded"]),
    "a dispute the books do not have": (told(disputes=(told_dispute(),)), booked(), ["dispute_unknown"]),
    "a dispute Stripe does not have": (told(), LOST, ["dispute_missing"]),
    "a dispute that was won since": (
        told(disputes=(told_dispute(status="won", moved_cents=0),)), LOST, ["dispute_differs"]),
    "a dispute of which other money moved": (
        told(disputes=(told_dispute(moved_cents=9_000),)), LOST, ["dispute_differs"]),
    "tokens not taken back": (
        told(refunds=(told_refund(3_000),)), booked(refunds=(booked_refund(3_000),)), ["tokens"]),
    "too many tokens taken back": (
        told(refunds=(told_refund(3_000),)),
        booked(refunds=(booked_refund(3_000),), lots=(booked_lot(posted_tokens=301),)), ["tokens"]),
    "tokens not given back when the refund failed": (
        told(refunds=(told_refund(3_000, "failed"),)),
        booked(refunds=(booked_refund(3_000, "failed"),), lots=(booked_lot(posted_tokens=300),)), ["tokens"]),
    "an event that failed": (
        told(),
        Booked(events=(StuckEvent(event_id="evt_1", type="invoice.paid", state="failed", detail="nobody",
                                  names=frozenset({"pi_1"})),)), ["event_failed", "not_granted"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found_by_its_name(name: str) -> None:
    there, here, expected = PLANTED[name]

    assert sorted(checks(there, here)) == expected


def test_a_year_of_which_one_cycle_was_given_and_half_of_the_money_returned_differs_in_nothing() -> None:
    """What the cycles to come have their part of was paid already."""
    first = booked_lot(names=frozenset({"pi_1", "sub_1#1"}), paid_cents=CENTS // 13, posted_tokens=TOKENS // 2)
    half = CENTS // 2
    there = told(payments=(told_payment(refunded_cents=half),), refunds=(told_refund(half),))

    assert checks(there, booked(lots=(first,), refunds=(booked_refund(half),))) == []


def test_every_check_is_planted() -> None:
    assert {check for _, _, expected in PLANTED.values() for check in expected} == CHECKS.keys()


def test_a_finding_shows_both_sides() -> None:
    found = differences(told(payments=(told_payment(amount_cents=9_900),)), booked()).findings[0]

    assert (found.subject, found.user_id, found.stripe, found.books) == (
        "pi_1", ALICE.user_id, "$99.00", "$100.00",
    )  # fmt: skip
    assert found.meaning == "Stripe and the books disagree about what was paid"


def test_who_paid_for_nothing_is_named() -> None:
    found = differences(told(), NOTHING).findings[0]

    assert (found.subject, found.stripe, found.books) == (
        "ch_1", "$100.00 on 2026-01-05 by alice", "nothing granted"
    )  # fmt: skip


# --- What a source does not tell ---


def test_an_export_of_refunds_alone_says_nothing_about_payments() -> None:
    there = Told(refunds=(told_refund(3_000),))

    assert checks(there, REFUNDED, is_complete=False) == []
    assert checks(there, booked(), is_complete=False) == ["refund_unknown"]


def test_outside_of_the_time_told_a_file_is_not_expected_to_have_it() -> None:
    old = Booked(payments=(booked_payment(is_in_window=False),), lots=(booked_lot(),))
    refund = replace(booked_refund(3_000), is_in_window=False)

    assert checks(told(payments=()), old, is_complete=False) == []
    assert checks(told(payments=()), old, is_complete=True) == ["not_paid"]
    assert checks(told(payments=()), booked(), is_complete=False) == ["not_paid"]
    here = booked(refunds=(refund,), lots=(booked_lot(posted_tokens=300),))
    assert checks(told(), here, is_complete=False) == []
    assert checks(told(), here, is_complete=True) == ["refund_missing"]


# --- Always ---


@st.composite
def equal_sides(draw: st.DrawFn) -> tuple[Told, Booked]:
    """Some payments with refunds and a dispute each, as both sides would know them when nothing went wrong."""
    there: dict[str, list[object]] = {"payments": [], "refunds": [], "disputes": []}
    here: dict[str, list[object]] = {"payments": [], "refunds": [], "disputes": [], "lots": []}
    for number in range(1, draw(st.integers(1, 4)) + 1):
        cents, granted = draw(st.integers(1, 50_000)), draw(st.integers(1, 5_000))
        refunds = draw(st.lists(st.tuples(st.integers(1, cents), st.sampled_from(["succeeded", "failed"])), max_size=3))
        lost = draw(st.none() | st.integers(1, cents))
        gone = sum(amount for amount, status in refunds if status == "succeeded") + (lost or 0)
        taken = -(-granted * min(gone, cents) // cents)  # Nothing was spent: the whole target comes from the lot.
        there["payments"].append(told_payment(number, amount_cents=cents))
        here["payments"].append(booked_payment(number, amount_cents=cents))
        here["lots"].append(
            booked_lot(number, granted=granted, unspent_tokens=granted, paid_cents=cents, posted_tokens=taken)
        )
        for place, (amount, status) in enumerate(refunds):
            there["refunds"].append(told_refund(amount, status, number, f"re_{number}_{place}"))  # type: ignore[arg-type]
            here["refunds"].append(booked_refund(amount, status, number, f"re_{number}_{place}"))  # type: ignore[arg-type]
        if lost is not None:
            there["disputes"].append(told_dispute(lost, "lost", number, lost))
            here["disputes"].append(booked_dispute(lost, "lost", number, lost))
    return (
        Told(**{part: tuple(ones) for part, ones in there.items()}),  # type: ignore[arg-type]
        Booked(**{part: tuple(ones) for part, ones in here.items()}),  # type: ignore[arg-type]
    )


@given(equal_sides())
def test_equal_books_have_no_finding(sides: tuple[Told, Booked]) -> None:
    assert differences(*sides).findings == ()


CHANGES: dict[str, Callable[[object], object]] = {
    "amount_cents": lambda cents: int(str(cents)) + 1,
    "currency": lambda currency: "eur" if currency == "usd" else "usd",
    "status": lambda status: {"succeeded": "failed", "failed": "succeeded", "lost": "won"}[str(status)],
    "is_paid": lambda is_paid: not is_paid,
    "moved_cents": lambda cents: int(str(cents)) - 1,
    "withdrawn_cents": lambda cents: int(str(cents)) + 1,
    "reinstated_cents": lambda cents: int(str(cents)) + 1,
    "paid_cents": lambda cents: int(str(cents)) + 1,
    "posted_tokens": lambda tokens: int(str(tokens)) + 1,
}
# What these say in words, or of another kind, is compared with nothing.
NOT_COMPARED = {("payments", "status"), ("payments", "refunded_cents")}


@given(equal_sides(), st.data())
def test_whatever_single_thing_changes_on_either_side_is_found(sides: tuple[Told, Booked], data: st.DataObject) -> None:
    side: Any = data.draw(st.sampled_from(sides))
    parts = [name for name in ("payments", "refunds", "disputes", "lots") if getattr(side, name, None)]
    part = data.draw(st.sampled_from(parts))
    ones = list(getattr(side, part))
    place = data.draw(st.integers(0, len(ones) - 1))
    fields = [name for name in ones[place].__dataclass_fields__ if name in CHANGES and (part, name) not in NOT_COMPARED]
    changed = data.draw(st.sampled_from([*fields, "gone"]))
    if changed == "gone":
        del ones[place]
        # A row that says what the lot says too is missed by nobody.
        if (part, side) == ("payments", sides[1]):
            return
    else:
        ones[place] = replace(ones[place], **{changed: CHANGES[changed](getattr(ones[place], changed))})
    altered = replace(side, **{part: tuple(ones)})

    there, here = (altered, sides[1]) if side is sides[0] else (sides[0], altered)
    assert differences(there, here).findings != ()


# --- Money ---


@pytest.mark.parametrize(
    ("text", "currency", "cents"),
    [
        ("99.00", "usd", 9_900), ("1,234.5", "eur", 123_450), ("500", "jpy", 500), ("1.234", "kwd", 1_234),
        ("-12.30", "usd", -1_230), ("0", "usd", 0),
    ],
)  # fmt: skip
def test_amounts_of_people_become_minor_units(text: str, currency: str, cents: int) -> None:
    assert minor_units(text, currency) == cents


@pytest.mark.parametrize(("text", "currency"), [("", "usd"), ("abc", "usd"), ("1.005", "usd"), ("1.5", "jpy"),
                                                ("NaN", "usd"), ("Infinity", "usd")])  # fmt: skip
def test_what_is_no_amount_or_finer_than_its_currency_is_none(text: str, currency: str) -> None:
    assert minor_units(text, currency) is None


@given(st.integers(-(10**12), 10**12), st.sampled_from(["usd", "eur", "jpy", "kwd"]))
def test_what_is_shown_can_be_read_again(cents: int, currency: str) -> None:
    shown = money(cents, currency).replace("$", "").removesuffix(f" {currency.upper()}")

    assert minor_units(shown, currency) == cents


def test_a_time_is_shown_by_its_day() -> None:
    late = told_payment(created_at=NOW + timedelta(days=1))

    assert "2026-01-06" in differences(told(payments=(late,)), NOTHING).findings[0].stripe
