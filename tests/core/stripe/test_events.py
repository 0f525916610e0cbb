"""What Stripe's events mean as a whole: which are read, what cannot be, and any JSON whatever as a property."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.stripe.reading import (
    CYCLE,
    NOW,
    cart_line,
    ignored,
    invoice,
    line,
    money_seen,
    pack_paid,
    pack_sale,
    payload,
    period_paid,
    start,
    started,
    subscription_seen,
    unclear,
    with_cart,
)
from tokentill.core.plans.catalog import EXAMPLE
from tokentill.core.stripe.events import describe, interpret
from tokentill.core.stripe.meanings import (
    Doubt,
    Intention,
    MoneySeen,
    PackPaid,
    PeriodPaid,
    SubscriptionSeen,
    SubscriptionStarted,
    Who,
)
from tokentill.core.stripe.payloads import Ignored, Unclear
from tokentill.samples.stripe import (
    OLD,
    OLDEST,
    Payload,
    charge_refunded,
    dispute,
    invoice_failed,
    invoice_payment,
    payment_intent,
    refund,
    refund_object,
    sign,
    subscription,
)

# --- What cannot be read ---


@pytest.mark.parametrize(
    "event_type",
    [
        "charge.succeeded",
        "customer.created",
        "customer.subscription.pending_update_applied",
        "invoice.finalized",
        "payment_intent.payment_failed",
        "v2.core.event_destination.ping",
    ],
)
def test_other_events_are_stored_and_not_acted_on(event_type: str) -> None:
    assert ignored({"type": event_type}) == f"{event_type} is stored, and not acted on"


def test_a_reason_can_always_be_stored() -> None:
    assert ignored({"type": "a\x00\ud800"}) == "unreadable is stored, and not acted on"
    assert ignored({"type": "é" * 100}).isascii()
    assert len(ignored({"type": "x" * 200})) < 120


def test_a_checkout_in_mode_setup_sells_nothing() -> None:
    event = pack_sale(payment_status="no_payment_required")
    payload(event)["mode"] = "setup"

    assert "setup" in ignored(event)


@pytest.mark.parametrize("wrong", [None, "", True, [], {}, 10**30, -1, 1.5, float("nan"), "\x00"])
@pytest.mark.parametrize("field", ["mode", "payment_status", "id", "currency", "amount_total"])
def test_a_session_without_what_a_purchase_needs_is_unclear(field: str, wrong: Any) -> None:
    for event in (pack_sale(), start()):
        payload(event)[field] = wrong
        assert unclear(event)


@pytest.mark.parametrize("field", ["billing_reason", "id", "currency", "amount_paid", "lines"])
def test_an_invoice_without_what_a_period_needs_is_unclear(field: str) -> None:
    nothings: tuple[Any, ...] = (None, "", 10**30, True, [], {})
    for wrong in nothings:
        event = invoice()
        payload(event)[field] = wrong
        assert unclear(event)


def test_a_status_that_is_no_status_is_unclear() -> None:
    event = invoice()
    payload(event)["status"] = ["paid"]

    assert "status is unreadable" in unclear(event)


def test_a_subscription_without_an_id_is_unclear() -> None:
    checkout, paid = start(), invoice()
    payload(checkout)["subscription"] = None
    payload(paid)["parent"] = None
    line(paid)["parent"]["subscription_item_details"]["subscription"] = {"object": "subscription"}

    assert "no subscription" in unclear(checkout)
    assert "no subscription" in unclear(paid)


@pytest.mark.parametrize(
    "period",
    [
        None,
        "2026",
        {},
        {"start": 1, "end": None},
        {"start": 2, "end": 1},
        {"start": 1, "end": 1},
        {"start": 1, "end": 10**12},
        {"start": -1, "end": 10},
        {"start": True, "end": 10},
    ],
)
def test_a_line_without_a_period_is_unclear(period: Any) -> None:
    event = invoice()
    line(event)["period"] = period

    assert unclear(event) == "the line of the plan has no period"


def test_an_event_without_an_object_or_a_type_is_unclear() -> None:
    assert unclear({}) == unclear({"type": None}) == "the event has no type"
    assert unclear({"type": "invoice.paid"}) == "the event has no data.object"
    assert unclear({"type": "invoice.paid", "data": {"object": []}}) == "the event has no data.object"


def test_a_moment_is_taken_from_the_next_best_place() -> None:
    sale, subscription, paid = pack_sale(), start(), invoice()
    del sale["created"], payload(subscription)["created"], payload(paid)["status_transitions"]

    assert pack_paid(sale).occurred_at == NOW
    assert started(subscription).occurred_at == NOW + timedelta(seconds=5)
    assert period_paid(paid).occurred_at == NOW + timedelta(seconds=5)
    del paid["created"]
    assert period_paid(paid).occurred_at == NOW
    del payload(sale)["created"], subscription["created"], payload(paid)["created"]
    for event in (sale, subscription, paid):
        assert "neither" in unclear(event)


# --- Anything whatever ---

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**30)
    | st.floats(allow_nan=True)
    | st.text(max_size=5)
    | st.sampled_from(["paid", "payment", "subscription", "power", "usd", "9900", "\x00", "\ud800", "year"])
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "data", "object", "price", "metadata", "plan", "amount"]), inner)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into nested JSON."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, inner in steps for found in [(*path, step), *places(inner, (*path, step))]]


EXPANDED = {"id": "x_1", "metadata": {"user_id": "u", "plan": "28day"}, "status": "active", "items": {"data": [{}]}}


def expanded_sale() -> Payload:
    event = with_cart(pack_sale(), cart_line(quantity=2), cart_line(lookup_key="mega"))
    payload(event).update({key: copy.deepcopy(EXPANDED) for key in ("customer", "payment_intent", "invoice")})
    return event


def expanded_start() -> Payload:
    event = start()
    payload(event).update({"subscription": copy.deepcopy(EXPANDED), "invoice": payload(invoice())})
    return event


def expanded_refund() -> Payload:
    event = refund(refund_id="re_1", payment_intent_id="pi_1", at=NOW)
    charge = payload(charge_refunded(payment_intent_id="pi_1", at=NOW, refunded_cents=100, api_version=OLD))
    payload(event).update({"charge": charge, "payment_intent": copy.deepcopy(EXPANDED)})
    return event


def sub(**changes: Any) -> Payload:
    defaults = {
        "subscription_id": "sub_1",
        "at": NOW,
        "period_start": NOW,
        "period_end": NOW + CYCLE,
        "user_id": "user-1",
    }
    return subscription(**{**defaults, **changes})


SHAPES: list[Callable[[], Payload]] = [
    pack_sale,
    expanded_sale,
    start,
    expanded_start,
    lambda: invoice(api_version=OLD),
    lambda: invoice(discount_cents=9_900),
    lambda: invoice_failed(invoice()),
    lambda: invoice(amount_cents=0, billing_reason="subscription_create", metadata={"plan": "28day"}),
    lambda: start(amount_cents=0, plan_key="28day", payment_status="no_payment_required"),
    lambda: invoice_payment(invoice_id="in_1", payment_intent_id="pi_1", at=NOW),
    lambda: sub(api_version=OLD, trial_start=NOW, trial_end=NOW + CYCLE),
    lambda: sub(cancel_at_period_end=True, pause_behavior="void"),
    expanded_refund,
    lambda: charge_refunded(
        payment_intent_id="pi_1",
        at=NOW,
        refunded_cents=100,
        refunds=[refund_object(refund_id="re_1", payment_intent_id="pi_1", at=NOW, api_version=OLDEST)],
        api_version=OLDEST,
    ),
    lambda: dispute(dispute_id="du_1", payment_intent_id="pi_1", at=NOW, moved_cents=[-9_900, 9_900]),
    lambda: dispute(dispute_id="du_1", payment_intent_id="pi_1", at=NOW, moved_cents=[-9, 8], settled_in="eur"),
    lambda: payment_intent(payment_intent_id="pi_1", at=NOW, user_id="user-1", api_version=OLDEST),
]


@settings(max_examples=500)
@given(data=st.data())
def test_whatever_stands_anywhere_there_is_an_answer(data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(SHAPES))()
    for _ in range(data.draw(st.integers(1, 4))):
        *path, last = data.draw(st.sampled_from(places(event) or [("type",)]))
        parent: Any = event
        for step in path:
            parent = parent[step]
        if data.draw(st.booleans()):
            parent[last] = data.draw(anything)
        elif isinstance(parent, dict):
            parent.pop(last, None)

    assert_sound(interpret(event, EXAMPLE))


@given(event=st.dictionaries(st.sampled_from(["type", "data", "created", "id"]), anything))
def test_any_json_object_has_an_answer(event: dict[str, Any]) -> None:
    assert_sound(interpret(event, EXAMPLE))


@pytest.mark.parametrize("wrong", [None, "text", 10**30, True, 1.5, float("nan"), float("inf"), [], {}, [[]], [{}]])
@pytest.mark.parametrize("make", SHAPES)
def test_each_place_may_hold_the_wrong_thing_or_nothing(make: Callable[[], Payload], wrong: Any) -> None:
    for *path, last in places(make()):
        event = make()
        parent: Any = event
        for step in path:
            parent = parent[step]
        parent[last] = copy.deepcopy(wrong)
        assert_sound(interpret(event, EXAMPLE))
        del parent[last]
        assert_sound(interpret(event, EXAMPLE))


def assert_sound(meaning: Intention | Ignored | Unclear) -> None:
    """What every answer promises to the service and to the database."""
    assert describe(meaning)
    match meaning:
        case Ignored() | Unclear():
            assert meaning.reason.isascii() and len(meaning.reason) < 200
        case PackPaid():
            assert meaning.items and all(key in EXAMPLE.packs and 0 < count <= 10**6 for key, count in meaning.items)
        case SubscriptionStarted():
            assert meaning.plan_key in EXAMPLE.plans
        case PeriodPaid():
            assert meaning.plan_key in EXAMPLE.plans and meaning.period_start < meaning.period_end
        case SubscriptionSeen():
            assert meaning.plan_key is None or meaning.plan_key in EXAMPLE.plans
            assert meaning.status is not None and not (meaning.is_trial and meaning.plan_key is None)
            assert (meaning.period_start is None) == (meaning.period_end is None)
            assert meaning.seen_at.tzinfo is meaning.occurred_at.tzinfo is UTC
        case MoneySeen():
            assert_money_is_sound(meaning)
    if isinstance(meaning, PackPaid | SubscriptionStarted | PeriodPaid):
        assert 0 <= meaning.amount_paid_cents < 2**63 and type(meaning.amount_paid_cents) is int
        assert meaning.occurred_at.tzinfo is UTC
        assert meaning.currency.islower() and len(meaning.currency) == 3


def assert_money_is_sound(seen: MoneySeen) -> None:
    assert seen.payment_id == seen.names[0] and len(set(seen.names)) == len(seen.names)
    assert seen.seen_at.tzinfo is UTC
    amounts = [seen.amount_cents, seen.refunded_cents, *(refund.amount_cents for refund in seen.refunds)]
    if seen.dispute is not None:
        assert seen.dispute.reinstated_cents <= seen.dispute.withdrawn_cents
        amounts += [seen.dispute.amount_cents, seen.dispute.withdrawn_cents, seen.dispute.reinstated_cents]
    assert all(amount is None or (type(amount) is int and 0 <= amount < 2**63) for amount in amounts)


# --- Describing, signing ---


def test_a_line_for_the_log() -> None:
    cart = replace(pack_paid(pack_sale()), items=(("power", 2), ("mega", 1)), amount_paid_cents=1_234_567)
    nobody = replace(cart, who=Who(email="secret@example.com"), currency="eur")
    yen = replace(cart, who=Who(customer_id="cus_1"), currency="jpy")

    assert describe(pack_paid(pack_sale())) == "pack power for user-1, $99.00"
    assert describe(cart) == "pack 2 x power + mega for user-1, $12,345.67"
    assert describe(nobody) == "pack 2 x power + mega for an unknown user, 12,345.67 EUR"
    assert describe(yen) == "pack 2 x power + mega for cus_1, 1,234,567 JPY"
    assert describe(started(start())) == "start of plan vision_pro_28day for user-1, $99.00"
    assert describe(period_paid(invoice())) == (
        "period of plan vision_pro_28day for user-1, 2026-01-01 to 2026-01-29, $99.00"
    )
    assert describe(period_paid(invoice(billing_reason="subscription_create"))).startswith("first period of plan")
    assert describe(pack_paid(pack_sale(user_id="a\nb"))) == "pack power for a\\nb, $99.00"
    assert describe(Ignored(reason="of no interest")) == "ignored: of no interest"
    assert describe(Unclear(reason="odd")) == "unclear: odd"


def test_a_line_for_what_is_seen_of_money_and_subscriptions() -> None:
    partly = charge_refunded(payment_intent_id="pi_1", at=NOW, refunded_cents=2_500)
    one = refund(refund_id="re_1", payment_intent_id="pi_1", at=NOW, amount_cents=2_500, status="failed")
    lost = dispute(dispute_id="du_1", payment_intent_id="pi_1", at=NOW, status="lost")
    link = invoice_payment(invoice_id="in_1", payment_intent_id="pi_1", at=NOW)

    assert describe(money_seen(partly)) == "refund of $25.00 of $99.00 for pi_1"
    assert describe(money_seen(one)) == "refund re_1 of $25.00 for pi_1: failed"
    assert describe(money_seen(lost)) == "dispute du_1 over $99.00 is lost"
    assert describe(money_seen(link)) == "pi_1 = in_1"
    assert describe(subscription_seen(sub(status="trialing"))) == "subscription sub_1 is trialing"
    assert describe(subscription_seen(sub(pause_behavior="void"))) == "subscription sub_1 is paused"
    assert describe(subscription_seen(invoice_failed(invoice()))) == "subscription sub_1 is past_due"
    assert describe(subscription_seen(sub(cancel_at_period_end=True))) == (
        "subscription sub_1 is active, ends 2026-01-29"
    )


def test_a_line_says_what_is_doubtful() -> None:
    doubt = Doubt(expected="19,900 usd for mega", found="9,900 eur")
    told = "; expected 19,900 usd for mega, found 9,900 eur"

    assert describe(replace(pack_paid(pack_sale()), doubts=(doubt,))).endswith(f"$99.00{told}")
    assert describe(replace(started(start()), doubts=(doubt,))).endswith(f"$99.00{told}")
    assert describe(replace(period_paid(invoice()), doubts=(doubt, doubt))).endswith(f"$99.00{told}{told}")


def test_a_signature_satisfies_stripes_own_verifier() -> None:
    stripe = pytest.importorskip("stripe")
    body = json.dumps(pack_sale()).encode()
    header = sign(body, "whsec_test", NOW)

    assert stripe.WebhookSignature.verify_header(body.decode(), header, "whsec_test", tolerance=None)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body.decode() + " ", header, "whsec_test", tolerance=None)


def test_events_of_one_object_have_ids_of_their_own() -> None:
    first, second = invoice(), invoice(event_type="invoice.payment_succeeded")

    assert first["id"] != second["id"]
    assert first["data"] == second["data"]
    assert pack_sale(event_id="evt_mine")["id"] == "evt_mine"
