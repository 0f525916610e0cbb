"""What Stripe tells of the money of a payment: refunds, disputes, and intents that name their pack."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.stripe.reading import NOW, both_versions, ignored, money_seen, pack_paid, payload, selling, unclear
from tokentill.core.plans.catalog import EXAMPLE, Pack
from tokentill.core.stripe.events import interpret
from tokentill.core.stripe.meanings import DisputeSeen, MoneySeen, PackPaid, RefundSeen, Who
from tokentill.samples.stripe import (
    NEW,
    OLD,
    OLDEST,
    ApiVersion,
    Payload,
    charge_refunded,
    dispute,
    payment_intent,
    refund,
    refund_object,
)

SEEN_AT = NOW + timedelta(seconds=5)
every_version = pytest.mark.parametrize("version", [OLDEST, OLD, NEW])


def charge(**changes: Any) -> Payload:
    return charge_refunded(**{"payment_intent_id": "pi_1", "at": NOW, "refunded_cents": 2_500, **changes})


def refunded(**changes: Any) -> Payload:
    return refund(**{"refund_id": "re_1", "payment_intent_id": "pi_1", "at": NOW, "amount_cents": 2_500, **changes})


def disputed(**changes: Any) -> Payload:
    return dispute(**{"dispute_id": "du_1", "payment_intent_id": "pi_1", "at": NOW, **changes})


def intent(**changes: Any) -> Payload:
    return payment_intent(**{"payment_intent_id": "pi_1", "at": NOW, "user_id": "user-1", **changes})


def moved(event: Payload) -> tuple[int, int]:
    told = money_seen(event).dispute
    assert told is not None
    return told.withdrawn_cents, told.reinstated_cents


# --- Charges ---


@every_version
def test_a_charge_tells_what_was_refunded_in_all(version: ApiVersion) -> None:
    event = charge(customer_id="cus_1", email="a@example.com", metadata={"user_id": "user-1"}, api_version=version)

    assert interpret(event, EXAMPLE) == MoneySeen(
        payment_id="pi_1",
        names=("pi_1", "ch_1"),
        who=Who(metadata_user_id="user-1", customer_id="cus_1", email="a@example.com"),
        seen_at=SEEN_AT,
        amount_cents=9_900,
        currency="usd",
        refunded_cents=2_500,
    )


def test_a_charge_of_the_early_years_shows_its_refunds() -> None:
    first = refund_object(refund_id="re_1", payment_intent_id="pi_1", at=NOW, amount_cents=1_000, api_version=OLDEST)
    second = {**first, "id": "re_2", "amount": 1_500, "status": None, "currency": None}
    broken = [{**first, "id": None}, {**first, "amount": -1}, {**first, "status": "lost"}, None, "re_3"]
    event = charge(refunds=[first, second, *broken], api_version=OLDEST)

    assert money_seen(event).refunds == (
        RefundSeen(refund_id="re_1", amount_cents=1_000, currency="usd", status="succeeded"),
        RefundSeen(refund_id="re_2", amount_cents=1_500, currency="usd", status="succeeded"),
    )


def test_a_charge_tells_all_its_names() -> None:
    of_invoice = charge(invoice_id="in_1", api_version=OLD)
    without_intent = charge(payment_intent_id=None, charge_id="ch_old", api_version=OLDEST)
    expanded = charge()
    payload(expanded)["payment_intent"] = {"id": "pi_1", "invoice": {"id": "in_2"}, "customer": "cus_2"}

    assert money_seen(of_invoice).names == ("pi_1", "ch_1", "in_1")
    assert (money_seen(without_intent).payment_id, money_seen(without_intent).names) == ("ch_old", ("ch_old",))
    assert money_seen(expanded).names == ("pi_1", "ch_1", "in_2")
    assert money_seen(expanded).who.customer_id == "cus_2"


def test_a_payer_is_found_in_the_intent_or_the_invoice_that_is_expanded() -> None:
    by_intent, by_invoice = charge(), charge(api_version=OLD)
    payload(by_intent)["payment_intent"] = {"id": "pi_1", "metadata": {"user_id": "user-2"}}
    payload(by_invoice)["invoice"] = {"id": "in_1", "subscription_details": {"metadata": {"user_id": "user-3"}}}

    assert money_seen(by_intent).who.user_id == "user-2"
    assert money_seen(by_invoice).who.user_id == "user-3"


@pytest.mark.parametrize("wrong", [None, "", True, [], 10**30, -1, 1.5])
@pytest.mark.parametrize("field", ["id", "currency", "amount", "amount_refunded"])
def test_a_charge_without_what_a_refund_needs_is_unclear(field: str, wrong: Any) -> None:
    event = charge()
    payload(event)[field] = wrong

    assert unclear(event)


@pytest.mark.parametrize("make", [charge, refunded, disputed])
def test_what_does_not_say_when_it_was_seen_is_unclear(make: Any) -> None:
    """Among snapshots the newest counts: without its moment one could undo a newer one."""
    event = make()
    del event["created"]

    assert unclear(event) == "the event does not say when it was made"


# --- Refunds ---


@every_version
@pytest.mark.parametrize("event_type", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"])
def test_a_refund_tells_how_it_stands(event_type: str, version: ApiVersion) -> None:
    event = refunded(status="failed", event_type=event_type, metadata={"user_id": "user-1"}, api_version=version)

    assert interpret(event, EXAMPLE) == MoneySeen(
        payment_id="pi_1",
        names=("pi_1", "ch_1"),
        who=Who(metadata_user_id="user-1"),
        seen_at=SEEN_AT,
        currency="usd",
        refunds=(RefundSeen(refund_id="re_1", amount_cents=2_500, currency="usd", status="failed"),),
    )


@pytest.mark.parametrize("status", ["pending", "requires_action", "succeeded", "failed", "canceled"])
def test_a_refund_has_one_of_five_statuses(status: str) -> None:
    assert money_seen(refunded(status=status)).refunds[0].status == status


def test_a_refund_without_a_status_succeeded_unless_the_event_says_otherwise() -> None:
    assert money_seen(refunded(status=None, api_version=OLDEST)).refunds[0].status == "succeeded"
    assert money_seen(refunded(status=None, event_type="refund.failed")).refunds[0].status == "failed"
    assert "no known status" in unclear(refunded(status="lost"))


def test_a_refund_with_an_expanded_charge_tells_more() -> None:
    event = refunded()
    payload(event)["charge"] = payload(charge(customer_id="cus_1", invoice_id="in_1", api_version=OLD))
    del payload(event)["payment_intent"]
    told = money_seen(event)

    assert (told.payment_id, told.names) == ("pi_1", ("pi_1", "ch_1", "in_1"))
    assert (told.amount_cents, told.who.customer_id) == (9_900, "cus_1")
    # The charge's own sum is older news than the refund.
    assert told.refunded_cents is None


def test_a_refund_of_no_payment_is_ignored() -> None:
    assert "gives back no payment" in ignored(refunded(payment_intent_id=None))
    assert money_seen(refunded(payment_intent_id=None, charge_id="ch_9")).payment_id == "ch_9"


@pytest.mark.parametrize("field", ["id", "currency", "amount"])
def test_a_refund_without_what_it_needs_is_unclear(field: str) -> None:
    event = refunded()
    payload(event)[field] = None

    assert unclear(event)


# --- Disputes ---


@every_version
def test_a_dispute_tells_how_it_stands(version: ApiVersion) -> None:
    assert interpret(disputed(moved_cents=[-9_900], api_version=version), EXAMPLE) == MoneySeen(
        payment_id="pi_1",
        names=("pi_1", "ch_1"),
        who=Who(),
        seen_at=SEEN_AT,
        dispute=DisputeSeen(
            dispute_id="du_1",
            amount_cents=9_900,
            currency="usd",
            status="open",
            withdrawn_cents=9_900,
            reinstated_cents=0,
        ),
    )


HARMLESS = ["warning_needs_response", "warning_under_review", "warning_closed", "prevented", "charge_refunded"]


@pytest.mark.parametrize(
    ("stripe_status", "status", "without_transactions"),
    [
        ("needs_response", "open", (9_900, 0)),
        ("under_review", "open", (9_900, 0)),
        ("won", "won", (9_900, 9_900)),
        ("lost", "lost", (9_900, 0)),
        *((status, "harmless", (0, 0)) for status in HARMLESS),
    ],
)
def test_each_status_of_a_dispute(stripe_status: str, status: str, without_transactions: tuple[int, int]) -> None:
    event = disputed(status=stripe_status)
    told = money_seen(event).dispute

    assert told is not None and told.status == status
    assert moved(event) == without_transactions


@pytest.mark.parametrize(
    ("status", "transactions", "expected"),
    [
        ("needs_response", [-9_900], (9_900, 0)),
        ("lost", [-9_900], (9_900, 0)),
        ("won", [-9_900], (9_900, 9_900)),  # It is about to come back.
        ("won", [-9_900, 9_900], (9_900, 9_900)),
        ("won", [-9_900, 5_000], (9_900, 5_000)),  # A part was won.
        ("lost", [-9_900, 9_900, -9_900], (19_800, 9_900)),  # Won, and taken again.
        ("needs_response", [9_900], (9_900, 9_900)),  # Nothing comes back that was not taken.
        ("lost", [0], (9_900, 0)),
        ("charge_refunded", [-9_900, 9_900], (9_900, 9_900)),
        ("warning_closed", [-9_900], (9_900, 0)),
    ],
)
def test_balance_transactions_say_what_moved(status: str, transactions: list[int], expected: tuple[int, int]) -> None:
    assert moved(disputed(status=status, moved_cents=transactions)) == expected


@pytest.mark.parametrize(
    ("status", "transactions", "expected"),
    [
        ("needs_response", [-9_009], (9_900, 0)),
        ("won", [-9_009], (9_900, 9_900)),
        ("won", [-9_009, 8_950], (9_900, 9_900)),  # The rate has moved; the dispute was won whole.
        ("lost", [-9_009, 9_009, -9_111], (19_800, 9_900)),  # Won, and taken again at another rate.
        ("lost", [-9_009, 4_504, 4_505], (9_900, 9_900)),
        ("needs_response", [-9_009, 4_504], (9_900, 4_949)),
        ("needs_response", [-9_009, 9_999], (9_900, 9_900)),
        ("needs_response", [9_009], (9_900, 9_900)),
    ],
)
def test_what_moved_in_another_currency_is_scaled_to_the_dispute(
    status: str, transactions: list[int], expected: tuple[int, int]
) -> None:
    assert moved(disputed(status=status, moved_cents=transactions, settled_in="eur")) == expected


@pytest.mark.parametrize(
    ("event_type", "status", "transactions", "expected"),
    [
        ("funds_withdrawn", "needs_response", [], (9_900, 0)),
        ("funds_withdrawn", "warning_needs_response", [], (9_900, 0)),
        ("funds_reinstated", "under_review", [], (9_900, 9_900)),
        ("funds_reinstated", "under_review", [-9_900], (9_900, 9_900)),
        ("funds_reinstated", "warning_closed", [], (9_900, 9_900)),
        ("funds_reinstated", "won", [-9_900, 9_800], (9_900, 9_800)),
        ("updated", "under_review", [-9_900], (9_900, 0)),
        ("closed", "lost", [-9_900], (9_900, 0)),
    ],
)
def test_an_event_may_say_that_funds_moved(
    event_type: str, status: str, transactions: list[int], expected: tuple[int, int]
) -> None:
    event = disputed(status=status, moved_cents=transactions, event_type=f"charge.dispute.{event_type}")

    assert moved(event) == expected


@given(
    status=st.sampled_from(["needs_response", "won", "lost", *HARMLESS]),
    transactions=st.lists(st.integers(-20_000, 20_000), max_size=5),
    settled_in=st.sampled_from([None, "eur"]),
    event_type=st.sampled_from(["created", "closed", "funds_withdrawn", "funds_reinstated"]),
)
def test_never_more_comes_back_than_was_taken(
    status: str, transactions: list[int], settled_in: str | None, event_type: str
) -> None:
    withdrawn, reinstated = moved(
        disputed(
            status=status,
            moved_cents=transactions,
            settled_in=settled_in,
            event_type=f"charge.dispute.{event_type}",
        )
    )

    assert 0 <= reinstated <= withdrawn
    if status == "won" and (settled_in or not any(transactions)):
        assert reinstated == withdrawn


def test_a_dispute_with_an_expanded_charge_tells_what_was_charged() -> None:
    event = disputed(payment_intent_id=None)
    payload(event)["charge"] = payload(charge(amount_cents=12_000, customer_id="cus_1"))
    told = money_seen(event)

    assert (told.names, told.amount_cents, told.currency) == (("pi_1", "ch_1"), 12_000, "usd")
    assert told.who.customer_id == "cus_1"


@pytest.mark.parametrize("field", ["id", "currency", "amount", "status"])
@pytest.mark.parametrize("wrong", [None, "", True, [], 10**30])
def test_a_dispute_without_what_it_needs_is_unclear(field: str, wrong: Any) -> None:
    event = disputed()
    payload(event)[field] = wrong

    assert unclear(event)


def test_a_dispute_of_nothing_or_beyond_measure_is_unclear() -> None:
    assert "neither" in unclear(disputed(payment_intent_id=None))
    assert "out of range" in unclear(disputed(moved_cents=[-(2**62), -(2**62)]))


# --- Payment intents ---


@every_version
def test_an_intent_that_names_its_pack_buys_it(version: ApiVersion) -> None:
    event = intent(amount_cents=29_700, customer_id="cus_1", email="a@example.com", api_version=version)

    assert interpret(event, EXAMPLE) == PackPaid(
        who=Who(metadata_user_id="user-1", customer_id="cus_1", email="a@example.com"),
        session_id=None,
        payment_id="pi_1",
        items=(("power", 3),),
        amount_paid_cents=29_700,
        currency="usd",
        occurred_at=SEEN_AT,
        charge_id="ch_1",
    )


@both_versions
def test_an_intent_of_a_checkout_or_an_invoice_is_left_to_them(version: ApiVersion) -> None:
    assert "names no pack" in ignored(intent(pack_key=None, api_version=version))
    assert "no pack retreat" in ignored(intent(pack_key="retreat", api_version=version))
    assert "paid an invoice" in ignored(intent(invoice_id="in_1", api_version=OLD))


def test_only_a_whole_multiple_of_the_price_is_believed() -> None:
    gift = Pack(key="gift", name="Gift", price_cents=0, tokens=1)
    trifle = Pack(key="trifle", name="Trifle", price_cents=1, tokens=1)

    assert "no whole multiple" in ignored(intent(amount_cents=9_800))
    assert "no whole multiple" in ignored(intent(amount_cents=0))
    assert "no whole multiple" in ignored(intent(currency="eur"))
    assert "no whole multiple" in ignored(intent(pack_key="gift"), selling(packs=(gift,)))
    assert "quantity" in unclear(intent(pack_key="trifle", amount_cents=1_000_001), selling(packs=(trifle,)))


def test_an_intent_is_read_from_expanded_objects() -> None:
    event = intent(user_id=None)
    payload(event)["latest_charge"] = {"id": "ch_7", "billing_details": {"email": "b@example.com"}}
    payload(event)["customer"] = {"id": "cus_1", "metadata": {"user_id": "user-2"}}
    bare = intent()
    del payload(bare)["latest_charge"], bare["created"]
    told = pack_paid(event)

    assert told.charge_id == "ch_7"
    assert told.who == Who(metadata_user_id="user-2", customer_id="cus_1", email="b@example.com")
    assert replace(pack_paid(bare), occurred_at=SEEN_AT) == replace(pack_paid(intent()), charge_id=None)
    assert pack_paid(bare).occurred_at == NOW


@pytest.mark.parametrize("field", ["id", "currency", "amount_received"])
def test_an_intent_without_what_a_purchase_needs_is_unclear(field: str) -> None:
    event = intent()
    payload(event)[field] = None

    assert unclear(event)


def test_an_intent_that_has_not_succeeded_waits() -> None:
    event = intent()
    payload(event)["status"] = "processing"

    assert "waits" in ignored(event)
    del payload(event)["status"], payload(event)["created"], event["created"]
    assert "neither" in unclear(event)
