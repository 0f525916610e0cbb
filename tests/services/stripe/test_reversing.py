"""Tokens follow the money of their payment: whatever is told of it first, by whom, and wherever a process died."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.conftest import START
from tokentill import Till
from tokentill.core.companions import PaymentSeen
from tokentill.core.ledger.commands import Reverse
from tokentill.core.ledger.reversals import Policies
from tokentill.core.plans.catalog import CYCLE
from tokentill.core.users import User
from tokentill.errors import DatabaseUnavailable
from tokentill.samples.stripe import OLD, charge_refunded, checkout_pack, dispute, invoice_paid, refund
from tokentill.services.stripe import reversing
from tokentill.store import payments

PACK, PRICE = 2_000_000, 9_900


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def buy(till: Till, number: int = 1) -> None:
    payment = f"pi_{number}"
    till.receive_stripe_event(
        checkout_pack(session_id=f"cs_{number}", user_id="ann", payment_intent_id=payment, at=START)
    )


def refunded(cents: int = PRICE, *, payment: str = "pi_1", minutes: int = 1, **more: Any) -> Any:
    return refund(refund_id=f"re_{payment}", payment_intent_id=payment, amount_cents=cents, at=at(minutes), **more)


def disputed(status: str, minutes: int) -> Any:
    kind = "charge.dispute.closed"
    return dispute(dispute_id="du_1", payment_intent_id="pi_1", at=at(minutes), status=status, event_type=kind)


def is_frozen(till: Till) -> bool:
    with till.context.connection() as conn:
        return conn.execute("SELECT frozen_at FROM token_accounts").fetchone() != (None,)


# --- What a payment was in all ---


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_refund_of_one_of_an_invoices_payments_is_a_part_of_the_invoice(till: Till, order: tuple[int, ...]) -> None:
    """$50.00 and $49.00 paid it together: a quarter of the $99.00 went back, and not half of the $50.00."""
    paid = invoice_paid(
        invoice_id="in_1", subscription_id="sub_1", user_id="ann", customer_id="cus_1", period_start=START,
        period_end=START + CYCLE, at=at(1), billing_reason="subscription_create", payment_intent_id="pi_1",
    )  # fmt: skip
    paid["data"]["object"]["payments"] = {
        "object": "list",
        "data": [
            {"status": "paid", "payment": {"type": "payment_intent", "payment_intent": name}}
            for name in ("pi_1", "pi_2")
        ],
    }
    told = [paid, charge_refunded(payment_intent_id="pi_1", at=at(2), refunded_cents=2_475, amount_cents=5_000)]

    for number in order:
        till.receive_stripe_event(told[number])

    assert till.balance("ann").balance == 375_000 * 3 // 4


def test_a_refund_of_which_only_the_charge_tells_counts_beside_the_others(till: Till) -> None:
    """Before 2024 Stripe told of a refund by itself only when it changed: of the first of two, when it has arrived."""
    buy(till)
    for minutes, cents in ((1, PRICE // 4), (2, PRICE // 2)):
        till.receive_stripe_event(
            charge_refunded(payment_intent_id="pi_1", at=at(minutes), refunded_cents=cents, api_version=OLD)
        )
    changed: dict[str, Any] = {"event_type": "charge.refund.updated", "api_version": OLD}

    till.receive_stripe_event(refunded(PRICE // 4, minutes=3, **changed))
    assert till.balance("ann").balance == PACK // 2

    till.receive_stripe_event(refunded(PRICE // 4, minutes=4, status="failed", **changed))
    assert till.balance("ann").balance == PACK * 3 // 4


# --- Two payments of one account ---


def spent_and_owed_by_another_pack(till: Till) -> None:
    """The first pack is spent and its dispute lost: what it owes is taken from the second, which is refunded then."""
    buy(till, 1)
    till.track_token_usage("ann", "chat_conversation", PACK)
    buy(till, 2)
    till.receive_stripe_event(disputed("lost", 1))
    till.receive_stripe_event(refunded(payment="pi_2", minutes=2))
    assert till.balance("ann").balance == 0


def test_what_comes_back_to_a_pack_that_was_refunded_meanwhile_goes_with_it(till: Till) -> None:
    spent_and_owed_by_another_pack(till)

    till.receive_stripe_event(disputed("won", 3))

    assert (till.balance("ann").balance, till.lots("ann")) == (0, [])
    assert till.payment("pi_2").is_settled


def test_it_does_so_even_if_the_process_dies_in_between(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    spent_and_owed_by_another_pack(till)
    submit = till.context.engine.submit

    def dies(command: Any, **more: Any) -> Any:
        if isinstance(command, Reverse) and command.payment_id != "pi_1":
            raise DatabaseUnavailable("The process dies here.")
        return submit(command, **more)

    with monkeypatch.context() as dying:
        dying.setattr(till.context.engine, "submit", dies)
        till.receive_stripe_event(disputed("won", 3))
    assert till.balance("ann").balance == PACK

    assert reversing.settle_due(till.context) > 0
    assert till.balance("ann").balance == 0
    assert reversing.settle_due(till.context) == 0


# --- Between what is known and what is settled ---


def test_what_is_bought_while_a_settlement_is_under_way_is_settled_after_it(till: Till) -> None:
    """Whoever settles says how much of the money's story that was: what the payment bought since is not part of it."""
    buy(till)
    till.receive_stripe_event(refunded())
    with till.context.connection() as conn:
        before = payments.owners(conn, "pi_1").revisions
        also = PaymentSeen(payment_id="pi_1", paid_at=START)
        payments.write_seen(conn, [(User.of("ann").user_id, also)], now=START)

        payments.write_settled(conn, before)

        assert payments.unsettled_among(conn, ["pi_1"]) == ["pi_1"]


def test_two_tills_take_turns_with_one_payment(till: Till, database: str) -> None:
    """Each has the account in memory as it left it, and meets what the other has posted."""
    buy(till)
    with Till(database, clock=lambda: START) as other:
        for number, each in enumerate((till, other, till, other)):
            told = refund(refund_id=f"re_{number}", payment_intent_id="pi_1", amount_cents=PRICE // 4, at=at(number))
            assert each.receive_stripe_event(told).state == "handled"

    assert till.balance("ann").balance == 0


def test_a_purchase_that_the_app_records_after_its_refund_is_taken_back_at_once(till: Till) -> None:
    till.receive_stripe_event(refunded())

    till.record_token_pack_purchase("ann", "power", payment_intent_id="pi_1")

    assert till.balance("ann").balance == 0


def test_freezing_ends_with_the_last_open_dispute(database: str, clock: Any) -> None:
    with Till(database, policies=Policies(freezes=True), clock=clock) as till:
        buy(till, 1)
        buy(till, 2)
        for number in (1, 2):
            till.receive_stripe_event(
                dispute(dispute_id=f"du_{number}", payment_intent_id=f"pi_{number}", at=at(number))
            )
        frozen = [is_frozen(till)]
        for number in (1, 2):
            won: dict[str, Any] = {"status": "won", "event_type": "charge.dispute.closed"}
            till.receive_stripe_event(
                dispute(dispute_id=f"du_{number}", payment_intent_id=f"pi_{number}", at=at(3), **won)
            )
            frozen.append(is_frozen(till))

        assert frozen == [True, True, False]
        assert till.reconcile().findings == ()
