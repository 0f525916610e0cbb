"""A checkout's event shows no cart. Where nothing else proves what was in it, Stripe is asked."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Clock
from tests.stripe_double import StripeDouble
from tokentill import Till
from tokentill.stripe.calling import StripeApi

POWER, MEGA = 2_000_000, 5_000_000


@pytest.fixture
def double(clock: Clock) -> Iterator[StripeDouble]:
    with StripeDouble(clock=clock) as double:
        yield double


@pytest.fixture
def till(database: str, clock: Clock, double: StripeDouble) -> Iterator[Till]:
    stripe = StripeApi(double.api_key, api_base=double.url, timeout_seconds=2, retries_max=0)
    with Till(database, clock=clock, stripe=stripe) as till:
        yield till


def line(name: str, cents: int, quantity: int = 1) -> dict[str, Any]:
    price = {"currency": "usd", "unit_amount": cents, "product_data": {"name": name}}
    return {"price_data": price, "quantity": quantity}


def paid_cart(double: StripeDouble, *lines: dict[str, Any], metadata: dict[str, str] | None = None) -> Any:
    """A host's own checkout: it says who buys, and not what."""
    session = double.client().v1.checkout.sessions.create(
        {
            "mode": "payment", "line_items": list(lines), "success_url": "https://app.example/thanks",
            "client_reference_id": "ann", "metadata": metadata or {},
        }  # type: ignore[arg-type]  # the library's own types want every key spelt out
    )  # fmt: skip
    double.pay(session.id)
    return session.id


def granted(till: Till) -> list[tuple[int, int | None]]:
    return sorted((lot.granted, lot.paid_cents) for lot in till.lots("ann"))


def test_a_cart_of_several_packs_grants_each_with_its_share(till: Till, double: StripeDouble) -> None:
    paid_cart(double, line("Power Pack", 9_900, 2), line("Mega Pack", 19_900))

    double.hand(till.receive_stripe_event, seed=1)

    assert granted(till) == [(2 * POWER, 19_800), (MEGA, 19_900)]
    assert till.reconcile().findings == ()


def test_other_goods_in_the_cart_grant_nothing(till: Till, double: StripeDouble) -> None:
    paid_cart(double, line("Power Pack", 9_900), line("A mug", 1_200))

    double.hand(till.receive_stripe_event, seed=2)

    assert [lot.granted for lot in till.lots("ann")] == [POWER]


def test_what_metadata_proves_is_not_asked(till: Till, double: StripeDouble) -> None:
    paid_cart(double, line("Power Pack", 9_900, 3), metadata={"pack_id": "power"})
    before = len(double.asked)

    double.hand(till.receive_stripe_event, seed=3)

    assert [lot.granted for lot in till.lots("ann")] == [3 * POWER]
    assert len(double.asked) == before


def test_while_stripe_does_not_answer_the_event_waits_and_is_tried_again(
    till: Till, double: StripeDouble, clock: Clock
) -> None:
    paid_cart(double, line("Power Pack", 9_900), line("Mega Pack", 19_900))
    double.break_next(1, "error", path="/v1/checkout")
    [event] = [one for one in double.new_events() if one["type"] == "checkout.session.completed"]

    kept = till.receive_stripe_event(event)
    assert (kept.state, kept.attempts) == ("failed", 1)
    clock.advance(minutes=2)
    [again] = till.retry_due_stripe_events()

    assert again.state == "handled"
    assert len(granted(till)) == 2


def test_a_delivery_is_answered_before_stripe_is_asked(till: Till, double: StripeDouble) -> None:
    """Stored is all that Stripe wants to hear; and nobody else waits for its answer."""
    paid_cart(double, line("Power Pack", 9_900), line("Mega Pack", 19_900))
    [event] = [one for one in double.new_events() if one["type"] == "checkout.session.completed"]

    assert till.submit_stripe_event(event).result(60).state == "received"
    till.close()

    with Till(till.url, clock=till.clock) as later:
        assert len(granted(later)) == 2


def test_a_session_that_stripe_does_not_know_is_read_as_it_is(till: Till, double: StripeDouble) -> None:
    paid_cart(double, line("Power Pack", 9_900))
    [event] = [one for one in double.new_events() if one["type"] == "checkout.session.completed"]
    event["data"]["object"]["id"] = "cs_of_another_account"

    assert till.receive_stripe_event(event).state == "handled"
    assert [lot.granted for lot in till.lots("ann")] == [POWER]


def test_a_refund_finds_its_invoice_though_no_event_says_which_it_paid(till: Till, double: StripeDouble) -> None:
    """From 2025-03-31 on an invoice's events do not name its payment, and the endpoint may not take those that do."""
    made = till.checkout("ann", plan="vision_pro_28day", success_url="https://app.example/thanks")
    double.pay(str(made.session_id))
    [charge] = double.of_kind("charge")
    double.refund(charge["payment_intent"])
    for event in double.new_events():
        if event["type"] != "invoice_payment.paid":
            till.receive_stripe_event(event)
    assert till.balance("ann").balance == 375_000

    till.settle_money()

    assert till.balance("ann").balance == 0
    asked = len(double.asked)
    till.settle_money()
    assert len(double.asked) == asked, "what was told once is not asked again"
