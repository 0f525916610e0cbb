"""Golden samples: whole events of each type, as each generation of Stripe's API writes them, and what they mean.

The samples in `samples/` are made up, and owe nothing to the builders of `tokentill.samples`. One story runs through
them: user-7 buys the power pack (`cs_made_power`, `pi_made_power`, `ch_made_power`) and subscribes (`sub_made`).
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus
from tokentill.core.plans.catalog import EXAMPLE
from tokentill.core.stripe import events
from tokentill.core.stripe.events import describe, interpret
from tokentill.core.stripe.meanings import (
    DisputeSeen,
    Doubt,
    Intention,
    MoneySeen,
    PackPaid,
    PeriodPaid,
    RefundSeen,
    SubscriptionSeen,
    SubscriptionStarted,
    Who,
)
from tokentill.core.stripe.payloads import Ignored

SAMPLES = Path(__file__).parent / "samples"
RECORDED_SAMPLES = Path(__file__).parents[3] / "../shared/samples/stripe"

T = datetime(2026, 1, 1, tzinfo=UTC)
SOON = timedelta(seconds=6)
CYCLE = timedelta(days=28)
DAY = timedelta(days=1)

BUYER = Who(client_reference_id="user-7", customer_id="cus_made", email="seven@example.com")
MEMBER = Who(metadata_user_id="user-7", customer_id="cus_made")
PAYER = Who(customer_id="cus_made", email="seven@example.com")
BILLED = replace(MEMBER, email="seven@example.com")

PACK = PackPaid(
    who=BUYER,
    session_id="cs_made_power",
    payment_id="pi_made_power",
    items=(("power", 1),),
    amount_paid_cents=9_900,
    currency="usd",
    occurred_at=T,
)
START = SubscriptionStarted(
    who=BUYER,
    session_id="cs_made_sub",
    subscription_id="sub_made",
    plan_key="vision_pro_28day",
    amount_paid_cents=9_900,
    currency="usd",
    occurred_at=T - timedelta(seconds=60),
)
FIRST = PeriodPaid(
    who=BILLED,
    invoice_id="in_made_1",
    subscription_id="sub_made",
    plan_key="vision_pro_28day",
    is_first=True,
    period_start=T,
    period_end=T + CYCLE,
    amount_paid_cents=9_900,
    currency="usd",
    payment_id="pi_made_1",
    occurred_at=T + timedelta(seconds=4),
    names=("pi_made_1", "ch_made_1"),
)
RENEWAL = replace(
    FIRST,
    invoice_id="in_made_2",
    is_first=False,
    period_start=T + CYCLE,
    period_end=T + 2 * CYCLE,
    payment_id="pi_made_2",
    occurred_at=T + CYCLE + timedelta(seconds=4),
    names=("pi_made_2", "ch_made_2"),
)
PAST_DUE = SubscriptionSeen(
    who=BILLED,
    subscription_id="sub_made",
    plan_key="vision_pro_28day",
    status="past_due",
    seen_at=T + CYCLE + SOON,
    occurred_at=T + CYCLE,
)
ACTIVE = SubscriptionSeen(
    who=MEMBER,
    subscription_id="sub_made",
    plan_key="vision_pro_28day",
    status="active",
    stripe_status="active",
    seen_at=T + timedelta(seconds=2),
    period_start=T,
    period_end=T + CYCLE,
    occurred_at=T,
)
TRIAL = replace(
    ACTIVE,
    stripe_status="trialing",
    is_trial=True,
    trial_starts_at=T,
    trial_ends_at=T + 14 * DAY,
    period_end=T + 14 * DAY,
)
TRIAL_INVOICE = replace(TRIAL, who=BILLED, seen_at=T + SOON)
CHARGE = MoneySeen(
    payment_id="pi_made_power",
    names=("pi_made_power", "ch_made_power"),
    who=PAYER,
    seen_at=T + 3 * DAY,
    amount_cents=9_900,
    currency="usd",
    refunded_cents=2_500,
)


def refunds(*ids: str, status: RefundStatus = "succeeded") -> tuple[RefundSeen, ...]:
    return tuple(RefundSeen(refund_id=one, amount_cents=2_500, currency="usd", status=status) for one in ids)


def refunded(day: int, status: RefundStatus) -> MoneySeen:
    return MoneySeen(
        payment_id="pi_made_power",
        names=("pi_made_power", "ch_made_power"),
        who=Who(),
        seen_at=T + day * DAY,
        currency="usd",
        refunds=refunds("re_made_1", status=status),
    )


def disputed(seen_at: datetime, status: DisputeStatus, withdrawn: int, reinstated: int = 0) -> MoneySeen:
    return MoneySeen(
        payment_id="pi_made_power",
        names=("pi_made_power", "ch_made_power"),
        who=Who(),
        seen_at=seen_at,
        dispute=DisputeSeen(
            dispute_id="dp_made",
            amount_cents=9_900,
            currency="usd",
            status=status,
            withdrawn_cents=withdrawn,
            reinstated_cents=reinstated,
        ),
    )


WAITS = "payment_status is unpaid; waits for checkout.session.async_payment_succeeded"
FAILED = "the payment of this checkout failed: it grants nothing and takes nothing; a later success still counts"
EXPIRED = "the checkout expired: it grants nothing and takes nothing; a later success still counts"
VOIDED = "the invoice was voided: it grants nothing and takes nothing; nobody will pay it any more"
NAMELESS = "the payment intent names no pack; a checkout or an invoice says what it paid"

# By version, then the type of the event, then what is special about it.
GOLDEN: dict[str, Intention | Ignored] = {
    "2020-08-27__checkout.session.completed__pack": PACK,
    "2020-08-27__checkout.session.completed__subscription": replace(START, occurred_at=T),
    "2020-08-27__invoice.payment_succeeded__first": FIRST,
    "2020-08-27__invoice.paid__renewal": RENEWAL,
    "2020-08-27__invoice.payment_failed": PAST_DUE,
    "2020-08-27__customer.subscription.created": ACTIVE,
    "2020-08-27__customer.subscription.updated__past_due": replace(
        ACTIVE,
        status="past_due",
        stripe_status="past_due",
        seen_at=T + CYCLE + timedelta(seconds=7),
        period_start=T + CYCLE,
        period_end=T + 2 * CYCLE,
    ),
    "2020-08-27__customer.subscription.trial_will_end": replace(TRIAL, seen_at=T + 11 * DAY),
    "2020-08-27__customer.subscription.deleted": replace(
        ACTIVE, status="canceled", stripe_status="canceled", seen_at=T + 20 * DAY, cancel_at=T + 20 * DAY
    ),
    "2020-08-27__charge.refunded": replace(CHARGE, refunded_cents=5_000, refunds=refunds("re_made_2", "re_made_1")),
    "2020-08-27__charge.refund.updated": refunded(4, "succeeded"),
    "2020-08-27__charge.dispute.created": disputed(T + 20 * DAY, "open", 9_900),
    "2020-08-27__charge.dispute.closed__lost": disputed(T + 60 * DAY, "lost", 9_900),
    "2020-08-27__payment_intent.succeeded": replace(PACK, who=BILLED, session_id=None, charge_id="ch_made_power"),
    "2022-11-15__checkout.session.completed__three_packs": replace(
        PACK, items=(("power", 3),), amount_paid_cents=24_750
    ),
    "2022-11-15__checkout.session.completed__unpaid": Ignored(reason=WAITS),
    "2022-11-15__checkout.session.async_payment_succeeded": replace(PACK, occurred_at=T + 5 * DAY),
    "2022-11-15__checkout.session.async_payment_failed": Ignored(reason=FAILED),
    "2022-11-15__invoice.paid__trial": TRIAL_INVOICE,
    "2022-11-15__customer.subscription.paused": replace(
        TRIAL,
        status="paused",
        stripe_status="paused",
        seen_at=T + 14 * DAY,
        period_start=T + 14 * DAY,
        period_end=T + 14 * DAY + CYCLE,
    ),
    "2022-11-15__customer.subscription.resumed": replace(
        TRIAL,
        stripe_status="active",
        seen_at=T + 30 * DAY,
        period_start=T + 30 * DAY,
        period_end=T + 30 * DAY + CYCLE,
    ),
    "2022-11-15__charge.refunded": CHARGE,
    "2022-11-15__charge.dispute.funds_withdrawn": disputed(T + 20 * DAY + timedelta(seconds=1), "open", 9_900),
    "2022-11-15__charge.dispute.closed__inquiry": disputed(T + 90 * DAY, "harmless", 0),
    "2022-11-15__payment_intent.succeeded__of_an_invoice": Ignored(reason=NAMELESS),
    "2024-04-10__checkout.session.expired": Ignored(reason=EXPIRED),
    "2024-04-10__checkout.session.completed__in_euro": replace(
        PACK,
        amount_paid_cents=9_000,
        currency="eur",
        doubts=(Doubt(expected="9,900 usd for power", found="9,000 eur"),),
    ),
    "2024-04-10__invoice.paid__to_a_year": replace(
        FIRST,
        invoice_id="in_made_3",
        plan_key="vision_pro_annual",
        is_first=False,
        period_start=T + 10 * DAY,
        period_end=T + 375 * DAY,
        amount_paid_cents=93_536,
        payment_id="pi_made_3",
        occurred_at=T + 10 * DAY + timedelta(seconds=4),
        names=("pi_made_3", "ch_made_3"),
    ),
    "2024-04-10__invoice.voided": Ignored(reason=VOIDED),
    "2024-04-10__customer.subscription.updated__collection_paused": replace(
        ACTIVE, status="paused", seen_at=T + 5 * DAY
    ),
    "2024-04-10__charge.refunded__of_an_invoice": replace(
        CHARGE,
        payment_id="pi_made_2",
        names=("pi_made_2", "ch_made_2", "in_made_2"),
        seen_at=T + 40 * DAY,
        refunded_cents=9_900,
    ),
    "2024-04-10__charge.refund.updated__failed": refunded(5, "failed"),
    "2024-04-10__charge.dispute.funds_reinstated": disputed(T + 60 * DAY + timedelta(seconds=1), "won", 9_900, 9_900),
    "2024-04-10__charge.dispute.closed__won": disputed(T + 60 * DAY, "won", 9_900, 9_900),
    "2025-03-31.basil__checkout.session.completed__subscription": replace(START, invoice_id="in_made_1"),
    # Since then an invoice shows its payments only to who asks for them; `invoice_payment.paid` tells them.
    "2025-03-31.basil__invoice.paid__renewal": replace(RENEWAL, payment_id=None, names=()),
    "2025-03-31.basil__invoice.payment_succeeded__trial": TRIAL_INVOICE,
    "2025-03-31.basil__invoice_payment.paid": MoneySeen(
        payment_id="pi_made_2",
        names=("pi_made_2", "in_made_2"),
        who=Who(),
        seen_at=T + CYCLE + timedelta(seconds=5),
    ),
    "2025-03-31.basil__customer.subscription.created__trial": TRIAL,
    "2025-03-31.basil__customer.subscription.updated__ends_with_its_period": replace(
        ACTIVE, seen_at=T + 3 * DAY, cancel_at=T + CYCLE
    ),
    "2025-03-31.basil__charge.refunded": replace(CHARGE, refunded_cents=9_900),
    "2025-03-31.basil__refund.created": refunded(3, "pending"),
    "2025-03-31.basil__charge.dispute.updated": disputed(T + 25 * DAY, "open", 9_900),
    "2026-06-24.dahlia__checkout.session.completed__pack": PACK,
    "2026-06-24.dahlia__checkout.session.completed__trial": replace(
        TRIAL,
        who=BUYER,
        seen_at=T,
        trial_starts_at=None,
        trial_ends_at=None,
        period_start=None,
        period_end=None,
        occurred_at=T - timedelta(seconds=60),
    ),
    "2026-06-24.dahlia__invoice.paid__first": replace(FIRST, names=("pi_made_1",)),
    "2026-06-24.dahlia__invoice.payment_failed": PAST_DUE,
    "2026-06-24.dahlia__customer.subscription.created__incomplete": replace(
        ACTIVE, status="past_due", stripe_status="incomplete"
    ),
    "2026-06-24.dahlia__customer.subscription.deleted": replace(
        ACTIVE, status="canceled", stripe_status="canceled", seen_at=T + CYCLE, cancel_at=T + CYCLE
    ),
    "2026-06-24.dahlia__refund.updated__expanded_charge": replace(
        refunded(4, "succeeded"), who=PAYER, amount_cents=9_900
    ),
    "2026-06-24.dahlia__refund.failed": refunded(5, "failed"),
    "2026-06-24.dahlia__charge.dispute.created__settled_in_euro": disputed(T + 20 * DAY, "open", 9_900),
    "2026-06-24.dahlia__charge.dispute.closed__won_in_euro": disputed(T + 60 * DAY, "won", 9_900, 9_900),
    "2026-06-24.dahlia__charge.dispute.closed__prevented": disputed(T + 21 * DAY, "harmless", 0),
    "2026-06-24.dahlia__payment_intent.succeeded__three_packs": replace(
        PACK,
        who=MEMBER,
        session_id=None,
        items=(("power", 3),),
        amount_paid_cents=29_700,
        charge_id="ch_made_power",
    ),
    "2026-06-24.dahlia__payment_intent.succeeded__of_a_checkout": Ignored(reason=NAMELESS),
}


def test_every_sample_has_its_meaning() -> None:
    assert {path.stem if path.suffix == ".json" else path.name for path in SAMPLES.iterdir()} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_sample_means_what_its_version_says(name: str) -> None:
    event = json.loads((SAMPLES / f"{name}.json").read_text())

    assert [event["api_version"], event["type"]] == name.split("__")[:2]
    assert interpret(event, EXAMPLE) == GOLDEN[name]


RECORDED = {
    "2024-04-10__charge_refunded_partial_50pct": "refund of $49.50 of $99.00 for pi_comp_0001",
    "2024-04-10__checkout_completed_payment_paid": "pack power for user-0001, $99.00",
    "2024-04-10__checkout_completed_subscription": "start of plan vision_pro_28day for user-0001, $99.00",
    "2024-04-10__dispute_created_needs_response": "dispute dp_comp_0001 over $99.00 is open",
    "2024-04-10__invoice_paid_subscription_create": (
        "first period of plan vision_pro_28day for user-0001, 2026-01-01 to 2026-01-29, $99.00"
    ),
    "2024-04-10__invoice_paid_subscription_cycle_1": (
        "period of plan vision_pro_28day for user-0001, 2026-01-29 to 2026-02-26, $99.00"
    ),
    "2024-04-10__subscription_created": "subscription sub_comp_0001 is active",
    "2026-06-24.dahlia__checkout_completed_payment_paid": "pack power for user-0001, $99.00",
    "2026-06-24.dahlia__checkout_completed_subscription": "start of plan vision_pro_28day for user-0001, $99.00",
    "2026-06-24.dahlia__invoice_paid_subscription_create": (
        "first period of plan vision_pro_28day for user-0001, 2026-01-01 to 2026-01-29, $99.00"
    ),
    "2026-06-24.dahlia__invoice_paid_subscription_cycle_1": (
        "period of plan vision_pro_28day for user-0001, 2026-01-29 to 2026-02-26, $99.00"
    ),
    "charge.refunded__2020-08-27__rubymock__5086bc34": "refund of $1.00 of $1.00 for ch_000000000000000000000000",
    "checkout.session.completed__2020-08-27__djstripe__bfeea3c5": (
        "ignored: payment_status is unpaid; waits for checkout.session.async_payment_succeeded"
    ),
    "customer.subscription.created__2020-08-27__rubymock__a961ff23": (
        "subscription sub_000000000000000000000000 is active; no plan of the catalog"
    ),
}


@pytest.mark.skipif(not RECORDED_SAMPLES.is_dir(), reason="the sample events are not at hand")
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_event_means_what_it_meant(name: str) -> None:
    event = json.loads((RECORDED_SAMPLES / f"{name}.json").read_text())

    assert describe(interpret(event, EXAMPLE)) == RECORDED[name]


def test_the_page_of_events_names_every_type_that_is_read_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "stripe-events.md").read_text("utf-8")
    table = page.split("\n## ")[0]

    assert set(re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE)) == set(events._READERS)


def test_every_type_that_is_read_has_a_sample() -> None:
    assert {name.split("__")[1] for name in GOLDEN} == set(events._READERS)
