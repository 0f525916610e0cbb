"""The double answers the real `stripe` library as Stripe does."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
import stripe

from tests.conftest import Clock
from tests.stripe_double import ANCIENT, NEW, OLD, StripeDouble, mixed
from tests.stripe_double.server import Mood, parse_form

SECRET = "whsec_double"
SUCCESS = "https://app.example.com/thanks"


@pytest.fixture
def double(clock: Clock) -> Iterator[StripeDouble]:
    with StripeDouble(clock=clock) as double:
        yield double


@pytest.fixture
def client(double: StripeDouble) -> stripe.StripeClient:
    return double.client()


def sell(client: stripe.StripeClient, cents: int = 9_900, **recurring: Any) -> stripe.Price:
    product = client.v1.products.create({"name": "Power", "metadata": {"pack": "power"}})
    params: Any = {"product": product.id, "unit_amount": cents, "currency": "usd"}
    return client.v1.prices.create(params | ({"recurring": recurring} if recurring else {}))


def checkout(client: stripe.StripeClient, price: stripe.Price, mode: str = "payment", **more: Any) -> Any:
    params: Any = {"mode": mode, "line_items": [{"price": price.id, "quantity": 1}], "success_url": SUCCESS, **more}
    return client.v1.checkout.sessions.create(params)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def ids_in(value: Any) -> set[str]:
    """Every id that an object names."""
    if isinstance(value, dict):
        return {one for item in value.values() for one in ids_in(item)}
    if isinstance(value, list):
        return {one for item in value for one in ids_in(item)}
    return {value} if isinstance(value, str) and "_double" in value and " " not in value else set()


# --- The API ---


def test_forms_are_read_as_stripe_reads_them() -> None:
    form = "items[0][price]=a&items[1][price]=b&expand[]=x&expand[]=y&metadata[user_id]=u&created[gte]=1&name=n%26m"

    assert parse_form(form) == {
        "items": [{"price": "a"}, {"price": "b"}],
        "expand": ["x", "y"],
        "metadata": {"user_id": "u"},
        "created": {"gte": "1"},
        "name": "n&m",
    }


def test_what_was_made_can_be_found_again(client: stripe.StripeClient) -> None:
    price = sell(client, interval="day", interval_count=28)

    found = client.v1.prices.retrieve(price.id)
    assert (found.unit_amount, found.currency, found.recurring and found.recurring.interval_count) == (9_900, "usd", 28)
    assert client.v1.products.retrieve(str(price.product)).metadata.to_dict() == {"pack": "power"}


def test_prices_are_found_by_their_lookup_key_which_one_has_at_a_time(client: stripe.StripeClient) -> None:
    price = sell(client)
    client.v1.prices.update(price.id, {"lookup_key": "power"})
    assert [one.id for one in client.v1.prices.list({"lookup_keys": ["power", "mega"]}).data] == [price.id]

    params: Any = {"product": price.product, "unit_amount": 10_900, "currency": "usd", "lookup_key": "power"}
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        client.v1.prices.create(params)
    newer = client.v1.prices.create(params | {"transfer_lookup_key": True})
    client.v1.prices.update(price.id, {"active": False})

    assert [one.id for one in client.v1.prices.list({"lookup_keys": ["power"]}).data] == [newer.id]
    assert [one.id for one in client.v1.prices.list({"active": False}).data] == [price.id]


def test_metadata_is_merged_and_an_empty_text_takes_a_key_away(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "Power", "metadata": {"a": "1", "b": "2"}})

    changed = client.v1.products.update(product.id, {"metadata": {"a": "", "c": "3"}})

    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}


def test_long_lists_come_in_pages_newest_first(client: stripe.StripeClient, clock: Clock) -> None:
    made = []
    for number in range(25):
        clock.advance(seconds=number % 2)
        made.append(client.v1.customers.create({"email": f"{number}@example.com"}).id)

    page = client.v1.customers.list({"limit": 10})
    assert [one.id for one in page.data] == made[:-11:-1]
    assert page.has_more
    assert [one.id for one in page.auto_paging_iter()] == made[::-1]


def test_lists_may_be_bounded_by_time(client: stripe.StripeClient, clock: Clock) -> None:
    first = client.v1.customers.create({"email": "a@example.com"})
    later = int(clock.advance(days=1).timestamp())
    second = client.v1.customers.create({"email": "b@example.com"})

    assert [one.id for one in client.v1.customers.list({"created": {"gte": later}}).data] == [second.id]
    assert [one.id for one in client.v1.customers.list({"created": {"lt": later}}).data] == [first.id]


def test_what_is_wrong_is_answered_as_stripe_answers_it(double: StripeDouble, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as missing:
        client.v1.products.retrieve("prod_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        client.v1.products.create({"name": "Power", "colour": "red"})  # type: ignore[typeddict-unknown-key]
    assert (unknown.value.http_status, unknown.value.code, unknown.value.param) == (400, "parameter_unknown", "colour")
    with pytest.raises(stripe.AuthenticationError):
        double.client(api_key="sk_test_wrong").v1.products.list()


def test_the_same_key_answers_the_same_and_another_request_under_it_is_refused(
    double: StripeDouble, client: stripe.StripeClient
) -> None:
    first = client.v1.products.create({"name": "Power"}, {"idempotency_key": "k1"})
    again = client.v1.products.create({"name": "Power"}, {"idempotency_key": "k1"})

    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(double.of_kind("product")) == 1
    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "Mega"}, {"idempotency_key": "k1"})


@pytest.mark.parametrize("mood", ["error", "rate_limit", "cut", "cut_after", "silence", "silence_after"])
def test_whatever_breaks_a_retry_with_the_same_key_does_it_once(double: StripeDouble, mood: Mood) -> None:
    client = double.client(timeout_seconds=0.3)
    double.break_next(1, mood, path="/v1/customers")

    with pytest.raises((stripe.APIError, stripe.RateLimitError, stripe.APIConnectionError)):
        client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "k1"})
    assert len(double.of_kind("customer")) == (1 if mood.endswith("_after") else 0)
    client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "k1"})

    assert len(double.of_kind("customer")) == 1
    assert [asked.key for asked in double.asked] == ["k1", "k1"]


def test_the_library_retries_by_itself_with_a_key_of_its_own(double: StripeDouble) -> None:
    double.break_next(1, "cut_after")

    double.client(retries_max=1).v1.customers.create({"email": "a@example.com"})

    assert len(double.of_kind("customer")) == 1
    assert len({asked.key for asked in double.asked}) == 1
    assert len(double.asked) == 2


# --- What happens ---


def test_a_checkout_names_its_payment_its_buyer_and_its_cart(double: StripeDouble, client: stripe.StripeClient) -> None:
    session = checkout(
        client, sell(client), client_reference_id="alice", metadata={"pack_id": "power"},
        payment_intent_data={"metadata": {"user_id": "alice"}},
    )  # fmt: skip
    assert (session.status, session.payment_status, session.url[:8]) == ("open", "unpaid", "https://")

    double.pay(session.id)
    paid = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items", "payment_intent.latest_charge"]})

    assert (paid.status, paid.payment_status, paid.client_reference_id) == ("complete", "paid", "alice")
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert isinstance(paid.payment_intent.latest_charge, stripe.Charge)
    assert paid.payment_intent.latest_charge.metadata.to_dict() == {"user_id": "alice"}
    assert paid.line_items is not None
    assert [(item.quantity, item.amount_total) for item in paid.line_items.data] == [(1, 9_900)]
    assert types(double.events)[-4:] == [
        "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed",
    ]  # fmt: skip


def test_a_bank_debit_is_paid_or_fails_days_later(double: StripeDouble, client: stripe.StripeClient) -> None:
    price = sell(client)
    one, other = checkout(client, price), checkout(client, price)
    double.pay_async(one.id)
    double.pay_async(other.id)
    assert double.objects[one.id]["payment_status"] == "unpaid"

    double.settle_async(one.id)
    double.settle_async(other.id, succeeded=False)

    assert double.objects[one.id]["payment_status"] == "paid"
    assert double.objects[other.id]["payment_status"] == "unpaid"
    sent = types(double.events)
    assert sent.count("checkout.session.completed") == 2
    assert "checkout.session.async_payment_succeeded" in sent
    assert sent[-1] == "checkout.session.async_payment_failed"


def test_refunds_add_up_on_their_charge_and_a_failed_one_is_taken_back(
    double: StripeDouble, client: stripe.StripeClient
) -> None:
    intent = double.pay_intent(10_000)
    first = client.v1.refunds.create({"payment_intent": intent["id"], "amount": 3_000})
    double.refund(intent["id"], 7_000, status="pending")
    charge = client.v1.charges.list({"payment_intent": intent["id"]}).data[0]
    assert (charge.amount_refunded, charge.refunded) == (10_000, True)
    with pytest.raises(stripe.InvalidRequestError, match="already been refunded"):
        client.v1.refunds.create({"payment_intent": intent["id"]})

    double.fail_refund(first.id)

    charge = client.v1.charges.retrieve(charge.id)
    assert (charge.amount_refunded, charge.refunded) == (7_000, False)
    assert {refund.status for refund in client.v1.refunds.list({"charge": charge.id}).data} == {"failed", "pending"}
    assert types(double.events)[-3:] == ["refund.failed", "refund.updated", "charge.refund.updated"]


def test_a_dispute_withdraws_the_money_and_one_that_is_won_brings_it_back(
    double: StripeDouble, client: stripe.StripeClient
) -> None:
    intent = double.pay_intent(10_000)
    dispute = double.dispute(intent["id"])
    double.close_dispute(dispute["id"], "won")

    found = client.v1.disputes.list({"payment_intent": intent["id"]}).data[0]
    assert found.status == "won"
    assert [moved.amount for moved in found.balance_transactions] == [-10_000, 10_000]
    assert types(double.events)[-4:] == [
        "charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ]  # fmt: skip


def test_an_inquiry_moves_no_money_until_it_becomes_a_dispute(double: StripeDouble) -> None:
    intent = double.pay_intent(10_000)
    inquiry = double.dispute(intent["id"], inquiry=True)
    assert (inquiry["status"], inquiry["balance_transactions"]) == ("warning_needs_response", [])

    double.escalate_dispute(inquiry["id"])

    assert inquiry["status"] == "needs_response"
    assert [moved["amount"] for moved in inquiry["balance_transactions"]] == [-10_000]


def test_a_subscription_bills_each_period_from_where_the_last_one_ended(
    double: StripeDouble, client: stripe.StripeClient, clock: Clock
) -> None:
    price = sell(client, interval="day", interval_count=28)
    session = double.pay(
        checkout(client, price, "subscription", subscription_data={"metadata": {"user_id": "alice"}}).id
    )
    start = clock.now
    for _ in range(2):
        clock.advance(days=28)
        double.renew(session["subscription"])

    invoices = client.v1.invoices.list({"subscription": session["subscription"]}).data[::-1]
    assert [one.billing_reason for one in invoices] == ["subscription_create", *["subscription_cycle"] * 2]
    periods = [(line.period.start, line.period.end) for one in invoices for line in one.lines.data]
    edges = [int((start + timedelta(days=28 * number)).timestamp()) for number in range(4)]
    assert periods == list(pairwise(edges))
    paid = client.v1.invoice_payments.list({"invoice": str(invoices[0].id)}).data[0]
    intent = str(paid.payment.payment_intent)
    asked: Any = {"payment": {"type": "payment_intent", "payment_intent": intent}}
    assert [one.invoice for one in client.v1.invoice_payments.list(asked).data] == [invoices[0].id]


def test_a_declined_renewal_is_past_due_until_it_is_paid(double: StripeDouble, client: stripe.StripeClient) -> None:
    price = sell(client, interval="day", interval_count=28)
    subscription = double.pay(checkout(client, price, "subscription").id)["subscription"]
    invoice = double.renew(subscription, paid=False)
    assert double.objects[subscription]["status"] == "past_due"

    double.pay_invoice(invoice["id"])

    assert double.objects[subscription]["status"] == "active"
    sent = types(double.events)
    assert sent.index("invoice.payment_failed") < len(sent) - 1 - sent[::-1].index("invoice.paid")


def test_a_trial_pays_nothing_until_it_ends(double: StripeDouble, client: stripe.StripeClient) -> None:
    price = sell(client, interval="day", interval_count=28)
    asked = checkout(client, price, "subscription", subscription_data={"trial_period_days": 14})
    session = double.pay(asked.id)
    subscription = double.objects[session["subscription"]]
    assert (session["payment_status"], subscription["status"]) == ("no_payment_required", "trialing")
    assert double.objects[session["invoice"]]["amount_paid"] == 0

    renewed = double.renew(subscription["id"])

    assert (subscription["status"], renewed["amount_paid"], renewed["status"]) == ("active", 9_900, "paid")


def test_a_subscription_can_be_paused_resumed_changed_and_ended(
    double: StripeDouble, client: stripe.StripeClient
) -> None:
    price, annual = sell(client, interval="day", interval_count=28), sell(client, 99_900, interval="year")
    subscription = double.pay(checkout(client, price, "subscription").id)["subscription"]
    double.new_events()

    double.pause(subscription)
    double.resume(subscription, bills=False)
    double.change_plan(subscription, annual.id)
    client.v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    client.v1.subscriptions.cancel(subscription)

    sent = types(double.new_events())
    assert [one for one in sent if one.startswith("customer.subscription") and not one.endswith("updated")] == [
        "customer.subscription.paused", "customer.subscription.resumed", "customer.subscription.deleted",
    ]  # fmt: skip
    assert double.objects[double.objects[subscription]["latest_invoice"]]["billing_reason"] == "subscription_update"
    assert client.v1.subscriptions.retrieve(subscription).status == "canceled"


def test_what_else_may_happen_to_a_subscription_is_told_by_its_events(
    double: StripeDouble, client: stripe.StripeClient, clock: Clock
) -> None:
    price = sell(client, interval="month")
    subscription = double.pay(checkout(client, price, "subscription").id)["subscription"]
    double.new_events()

    double.trial_will_end(subscription)
    double.cancel(subscription, at_period_end=True)
    double.keep(subscription)
    double.pause_collection(subscription)
    clock.advance(days=31)
    unpaid = double.renew(subscription)
    double.pause_collection(subscription, None)
    double.decline_invoice(unpaid["id"])
    double.give_up(subscription)
    double.void_invoice(unpaid["id"])

    events = double.new_events()
    assert types(events)[0] == "customer.subscription.trial_will_end"
    told = [one["data"] for one in events if one["type"] == "customer.subscription.updated"]
    assert [data["object"]["cancel_at_period_end"] for data in told[:2]] == [True, False]
    assert [bool(data["object"]["pause_collection"]) for data in told[2:5]] == [True, True, False]
    assert [data["object"]["status"] for data in told[-2:]] == ["past_due", "unpaid"]
    assert told[-1]["previous_attributes"] == {"status": "past_due"}
    assert types(events)[-1] == "invoice.voided"
    assert "invoice.paid" not in types(events)


def test_months_end_with_the_month(double: StripeDouble, client: stripe.StripeClient, clock: Clock) -> None:
    clock.advance(days=26)  # The 31st of January.
    price = sell(client, interval="month")
    subscription = double.pay(checkout(client, price, "subscription").id)["subscription"]

    item = double.objects[subscription]["items"]["data"][0]
    assert datetime.fromtimestamp(item["current_period_end"], UTC) == datetime(2026, 2, 28, 12, 0, tzinfo=UTC)


def test_a_refund_may_wait_and_then_succeed_or_be_canceled(double: StripeDouble) -> None:
    intent = double.pay_intent(10_000)["id"]
    first, second = (double.refund(intent, 1_000, status="pending") for _ in range(2))

    double.settle_refund(first["id"])
    double.cancel_refund(second["id"])

    assert (first["status"], second["status"]) == ("succeeded", "canceled")
    assert double.charge_of(intent)["amount_refunded"] == 1_000
    assert types(double.events)[-2:] == ["refund.updated", "charge.refund.updated"]


def test_a_checkout_that_nobody_pays_expires_and_one_with_a_full_discount_needs_no_payment(
    double: StripeDouble, client: stripe.StripeClient
) -> None:
    price = sell(client)
    left, free = checkout(client, price), checkout(client, price)

    client.v1.checkout.sessions.expire(left.id)
    double.pay(free.id, discount_cents=9_900)

    assert client.v1.checkout.sessions.retrieve(left.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match="can be expired"):
        client.v1.checkout.sessions.expire(left.id)
    paid = double.objects[free.id]
    assert (paid["payment_status"], paid["payment_intent"], paid["amount_subtotal"]) == (
        "no_payment_required", None, 9_900,
    )  # fmt: skip


def test_the_portal_is_for_customers_that_there_are(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"email": "a@example.com"})

    session = client.v1.billing_portal.sessions.create({"customer": customer.id, "return_url": SUCCESS})

    assert session.url.startswith("https://")
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.billing_portal.sessions.create({"customer": "cus_none", "return_url": SUCCESS})


def test_every_cent_has_its_balance_transaction(double: StripeDouble, client: stripe.StripeClient) -> None:
    intent = double.pay_intent(10_000)["id"]
    double.fail_refund(double.refund(intent, 4_000)["id"])
    double.close_dispute(double.dispute(intent)["id"], "won")

    moved = [one.amount for one in client.v1.balance_transactions.list().data]

    assert sorted(moved) == [-10_000, -4_000, 4_000, 10_000, 10_000]


# --- Versions and events ---


def test_the_newest_version_tells_an_invoices_payments_by_an_event_of_their_own_or_if_asked(clock: Clock) -> None:
    with StripeDouble(clock=clock, names_payments=True) as double:
        a_year(double)
        invoice = next(one["data"]["object"] for one in double.events if one["type"] == "invoice.paid")
        asked = double.client().v1.invoices.retrieve(invoice["id"], {"expand": ["payments"]})

        told = invoice["payments"]["data"][0]["payment"]
        assert asked.payments is not None
        assert asked.payments.data[0].payment.payment_intent == told["payment_intent"]


def a_year(double: StripeDouble) -> None:
    """A bit of everything."""
    client = double.client()
    price = sell(client, interval="day", interval_count=28)
    session = double.pay(checkout(client, price, "subscription").id)
    double.refund(session["id"], 1_000)
    double.fail_refund(double.refund(session["id"], 500)["id"])
    double.close_dispute(double.dispute(session["id"])["id"], "lost")
    double.renew(session["subscription"])
    double.cancel(session["subscription"])


@pytest.mark.parametrize("version", [ANCIENT, OLD, NEW])
def test_an_event_names_only_what_there_is(clock: Clock, version: str) -> None:
    with StripeDouble(clock=clock, api_version=version) as double:
        a_year(double)

        assert {event["api_version"] for event in double.events} == {version}
        named = set().union(*(ids_in(event["data"]) for event in double.events))
        items = {one["items"]["data"][0]["id"] for one in double.of_kind("subscription")}
        lines = {one["lines"]["data"][0]["id"] for one in double.of_kind("invoice")}
        cart = {one["line_items"]["data"][0]["id"] for one in double.of_kind("checkout.session")}
        assert {one for one in named if "/" not in one} <= double.objects.keys() | items | lines | cart
        assert not [key for event in double.events for key in keys_in(event) if key.startswith("_")]


def keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys_in(item)


def test_each_version_says_in_its_own_way_what_an_invoice_pays(clock: Clock) -> None:
    told = {}
    for version in (ANCIENT, OLD, NEW):
        with StripeDouble(clock=clock, api_version=version) as double:
            a_year(double)
            told[version] = {event["type"]: event["data"]["object"] for event in double.events}

    for version in (ANCIENT, OLD):
        invoice, charge = told[version]["invoice.paid"], told[version]["charge.refunded"]
        assert invoice["subscription"].startswith("sub_")
        assert invoice["payment_intent"].startswith("pi_")
        assert charge["invoice"].startswith("in_")
        assert "current_period_end" in told[version]["customer.subscription.updated"]
    assert [refund["amount"] for refund in told[ANCIENT]["charge.refunded"]["refunds"]["data"]] == [500, 1_000]
    assert "refunds" not in told[OLD]["charge.refunded"]
    invoice = told[NEW]["invoice.paid"]
    assert not {"subscription", "payment_intent", "charge", "payments"} & invoice.keys()
    assert invoice["parent"]["subscription_details"]["subscription"].startswith("sub_")
    assert told[NEW]["invoice_payment.paid"]["payment"]["payment_intent"].startswith("pi_")
    assert "invoice" not in told[NEW]["charge.refunded"]
    assert "current_period_end" in told[NEW]["customer.subscription.updated"]["items"]["data"][0]


def test_an_event_keeps_the_state_of_its_moment(double: StripeDouble) -> None:
    intent = double.pay_intent(10_000)
    double.refund(intent["id"], 1_000)
    double.refund(intent["id"], 2_000)

    amounts = [one["data"]["object"]["amount_refunded"] for one in double.events if one["type"] == "charge.refunded"]
    assert amounts == [1_000, 3_000]


def test_a_seed_gives_one_order_with_each_event_at_least_once() -> None:
    events = [{"id": f"evt_{number}"} for number in range(20)]

    sent = mixed(events, seed=7)

    assert sent == mixed(events, seed=7)
    assert sent != mixed(events, seed=8)
    assert {event["id"] for event in sent} == {event["id"] for event in events}
    assert len(sent) > len(events)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A webhook that checks signatures and is out of order for its first visitor; its address, and what it accepted."""
    refused: list[str] = []
    accepted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"])).decode()
            stripe.WebhookSignature.verify_header(payload, self.headers["Stripe-Signature"], SECRET)
            (accepted if refused else refused).append(json.loads(payload)["id"])
            self.send_response(200 if accepted else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/webhook", accepted
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_events_arrive_signed_and_what_is_refused_comes_again(
    double: StripeDouble, webhook: tuple[str, list[str]]
) -> None:
    url, accepted = webhook
    double.pay_intent(10_000)
    sent = [event["id"] for event in double.events]

    letters = double.deliver(url, SECRET)

    assert [letter.event_id for letter in letters] == [*sent, sent[0]]
    assert [letter.status for letter in letters] == [503, 200, 200, 200]
    assert accepted == [*sent[1:], sent[0]]
    assert double.deliver(url, SECRET) == []
