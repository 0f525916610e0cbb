"""`till reconcile --stripe`: from Stripe's API (its double) and from exported files, to findings and an exit status."""

import csv
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, Run
from tests.conftest import Clock
from tests.stripe_double import StripeDouble
from tokentill import Till
from tokentill.core.stripe.meanings import MoneySeen, RefundSeen, Who
from tokentill.services.stripe import reversing
from tokentill.store import payments

PACK = {"user_id": "alice", "pack_id": "power"}
POWER = {"currency": "usd", "unit_amount": 9_900, "product_data": {"name": "Power"}}
ROW = dict[str, object]


@dataclass
class Shop:
    """A till, the Stripe that it sells through, and the command on both."""

    till: Till
    stripe: StripeDouble
    clock: Clock
    run: Run

    def reconcile(self, *args: object) -> Ran:
        return self.run("reconcile", "--stripe", *args)

    def checks(self, *args: object) -> list[str]:
        ran = self.reconcile("--json", *args)
        found = ran.json
        assert ran.status == (0 if found["agrees"] else 1)
        return sorted(finding["check"] for finding in found["findings"])

    def deliver(self, seed: int | None = None) -> None:
        self.stripe.hand(self.receive, seed=seed)

    def receive(self, event: dict[str, Any]) -> None:
        self.till.receive_stripe_event(event)

    def lose(self) -> None:
        """What Stripe has sent so far never arrives."""
        self.stripe.new_events()

    def sell_pack(self, user: str | None = "alice", **more: Any) -> dict[str, Any]:
        params: dict[str, Any] = {
            "mode": "payment", "success_url": "https://app.example.com", "metadata": {"pack_id": "power"},
            "line_items": [{"price_data": POWER}], **({"client_reference_id": user} if user else {}), **more,
        }  # fmt: skip
        return self.stripe.pay(self.stripe.make_session(params)["id"])

    def sell_plan(self, user: str = "alice") -> dict[str, Any]:
        data = {
            "currency": "usd", "unit_amount": 9_900, "product_data": {"name": "Vision Pro"},
            "recurring": {"interval": "day", "interval_count": 28},
        }  # fmt: skip
        params: dict[str, Any] = {
            "mode": "subscription", "success_url": "https://app.example.com", "client_reference_id": user,
            "line_items": [{"price_data": data}], "subscription_data": {"metadata": {"user_id": user}},
        }  # fmt: skip
        return self.stripe.pay(self.stripe.make_session(params)["id"])


@pytest.fixture
def shop(till: Run, database: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with StripeDouble(clock=clock) as stripe, Till(database, clock=clock) as opened:
        monkeypatch.setenv("TILL_STRIPE_API_KEY", stripe.api_key)
        monkeypatch.setenv("TILL_STRIPE_API_BASE", stripe.url)
        yield Shop(opened, stripe, clock, till)
        assert opened.reconcile().findings == ()


# --- By the API ---


def test_when_everything_arrived_the_sides_agree(shop: Shop) -> None:
    shop.sell_pack()
    subscription = shop.sell_plan("bob")["subscription"]
    for _ in range(2):
        shop.clock.advance(days=28)
        shop.stripe.renew(subscription)
    shop.deliver(seed=3)

    ran = shop.reconcile()

    assert (ran.status, ran.out) == (0, "Stripe and the books agree: 4 payments, 0 refunds, 0 disputes.\n")
    assert shop.reconcile("--json").json == {
        "agrees": True, "counts": {"payments": 4, "refunds": 0, "disputes": 0, "not_ours": 0}, "not_compared": [],
        "findings": [],
    }  # fmt: skip


def test_a_sale_whose_events_were_lost_is_found_with_its_buyer(shop: Shop) -> None:
    shop.sell_pack()
    shop.deliver()
    lost = shop.sell_pack("bob")
    shop.lose()

    ran = shop.reconcile()

    assert ran.status == 1
    assert "not_granted" in ran.out and shop.stripe.charge_of(lost["id"])["id"] in ran.out
    assert "$99.00 on 2026-01-05 by bob" in ran.out
    assert "1 finding in 2 payments, 0 refunds, 0 disputes." in ran.out
    assert "not_granted: paid in Stripe, and nothing was granted for it" in ran.out


def test_a_renewal_whose_events_were_lost_is_found_by_its_subscription(shop: Shop) -> None:
    subscription = shop.sell_plan()["subscription"]
    shop.deliver()
    shop.clock.advance(days=28)
    shop.stripe.renew(subscription)
    shop.lose()

    assert shop.checks() == ["not_granted"]


def test_what_is_granted_for_a_payment_that_never_was_is_found(shop: Shop) -> None:
    shop.till.record_token_pack_purchase("alice", "power", payment_intent_id="pi_made_up")
    declined = shop.stripe.make_session(
        {"mode": "payment", "success_url": "https://app.example.com",
         "line_items": [{"price_data": POWER}]}
    )  # fmt: skip
    shop.stripe.fail(declined["id"])
    intent = shop.stripe.of_kind("payment_intent")[0]["id"]
    shop.till.record_token_pack_purchase("alice", "power", payment_intent_id=intent)

    found = shop.reconcile("--json").json["findings"]

    assert {(one["check"], one["subject"]) for one in found} == {("not_paid", "pi_made_up"), ("not_paid", intent)}
    assert {one["books"] for one in found} == {"2,000,000 tokens granted for $99.00"}


def test_another_price_than_stripe_took_is_found(shop: Shop) -> None:
    intent = shop.stripe.pay_intent(19_900)["id"]
    shop.lose()
    shop.till.record_token_pack_purchase("alice", "power", payment_intent_id=intent)

    assert shop.checks() == ["amount"]


def test_refunds_and_disputes_agree_once_they_are_known(shop: Shop) -> None:
    one, other = shop.sell_pack(), shop.sell_pack("bob")
    shop.deliver()
    shop.stripe.refund(one["id"], 3_000)
    failing = shop.stripe.refund(one["id"], 1_000)
    dispute = shop.stripe.dispute(other["id"])
    assert shop.checks() == ["dispute_unknown", "refund_unknown", "refund_unknown"]

    shop.deliver()
    assert shop.checks() == []

    shop.stripe.fail_refund(failing["id"])
    shop.stripe.close_dispute(dispute["id"], "won")
    assert shop.checks() == ["dispute_differs", "refund_differs"]

    shop.clock.advance(seconds=1)
    shop.deliver()
    assert shop.reconcile().out == "Stripe and the books agree: 2 payments, 2 refunds, 1 dispute.\n"


def test_tokens_that_did_not_follow_a_refund_are_found(shop: Shop) -> None:
    sold = shop.sell_pack()
    shop.deliver()
    refund = shop.stripe.refund(sold["id"], 3_000)
    seen = MoneySeen(
        payment_id=sold["payment_intent"], names=(sold["payment_intent"],), who=Who(), seen_at=shop.clock.now,
        refunds=(RefundSeen(refund_id=refund["id"], amount_cents=3_000, currency="usd", status="succeeded"),),
    )  # fmt: skip
    with shop.till.context.connection() as conn:
        payments.note_money(conn, seen, now=shop.clock.now)

    found = shop.reconcile("--json").json["findings"]
    assert [(one["check"], one["books"]) for one in found] == [("tokens", "0 tokens taken back")]
    assert found[0]["stripe"] == "606,061 tokens for $30.00 of its money"

    reversing.settle_due(shop.till.context)
    assert shop.checks() == []


def test_an_event_that_failed_is_shown_beside_its_payment(shop: Shop) -> None:
    shop.sell_pack(None)
    shop.deliver()

    found = {one["check"]: one for one in shop.reconcile("--json").json["findings"]}

    assert found.keys() == {"event_failed", "not_granted"}
    assert "Nobody knows whose this is" in found["event_failed"]["books"]


def test_what_else_the_host_sells_is_counted_only(shop: Shop) -> None:
    shop.stripe.pay_intent(5_000)
    shop.sell_pack(metadata={"pack_id": "t_shirt"})
    shop.deliver()

    ran = shop.reconcile()

    assert (ran.status, ran.out) == (
        0, "Stripe and the books agree: 0 payments, 0 refunds, 0 disputes (2 payments in Stripe of other things).\n",
    )  # fmt: skip


def test_only_the_time_and_the_customer_asked_for_are_compared(shop: Shop) -> None:
    customers = [shop.stripe.make_customer({"email": f"{name}@example.com"})["id"] for name in ("a", "b")]
    shop.sell_pack("alice", customer=customers[0])
    shop.clock.advance(days=10)
    shop.sell_pack("bob", customer=customers[1])
    shop.lose()
    shop.till.record_token_pack_purchase("carol", "power", payment_intent_id="pi_made_up")

    assert shop.checks() == ["not_granted", "not_granted", "not_paid"]
    assert shop.checks("--until", "2026-01-06") == ["not_granted"]
    assert shop.checks("--since", "2026-01-06") == ["not_granted", "not_paid"]
    assert shop.checks("--since", "2026-02-01") == []
    assert shop.checks("--customer", customers[0]) == ["not_granted"]


def test_a_refund_of_an_older_payment_is_compared_with_it(shop: Shop) -> None:
    sold = shop.sell_pack()
    shop.deliver()
    shop.clock.advance(days=60)
    shop.stripe.refund(sold["id"], 3_000)

    assert shop.checks("--since", "2026-03-01") == ["refund_unknown"]
    shop.deliver()
    assert shop.checks("--since", "2026-03-01") == []
    assert shop.checks("--until", "2026-02-01") == []


def test_what_the_books_learnt_in_this_time_of_older_things_is_looked_up(shop: Shop) -> None:
    pack, plan = shop.sell_pack(), shop.sell_plan("bob")
    lost = shop.stripe.dispute(pack["id"])
    shop.deliver()
    shop.clock.advance(days=100)
    shop.stripe.close_dispute(lost["id"], "lost")
    shop.stripe.refund(plan["invoice"], 5_000)
    shop.deliver()
    unheard = shop.sell_pack("carol")
    shop.lose()
    shop.clock.advance(days=30)
    shop.till.record_token_pack_purchase("carol", "power", session_id=unheard["id"])

    assert shop.checks("--since", "2026-04-01") == []
    looked_up = [asked.path.split("/")[-1] for asked in shop.stripe.asked if "_double" in asked.path]
    assert lost["id"] in looked_up
    assert shop.checks("--since", "2026-05-10") == []
    looked_up = [asked.path.split("/")[-1] for asked in shop.stripe.asked if "_double" in asked.path]
    assert unheard["id"] in looked_up


def test_every_page_is_read_and_an_api_that_stumbles_is_asked_again(shop: Shop) -> None:
    for _ in range(105):
        shop.stripe.pay_intent(9_900, metadata=PACK)
    shop.stripe.break_next(1, "error", path="/v1/charges")

    assert shop.checks() == ["not_granted"] * 105
    pages = [asked.params for asked in shop.stripe.asked if asked.path == "/v1/charges"]
    assert ["starting_after" in params for params in pages] == [False, False, True]


def test_stripe_that_cannot_be_reached_is_one_clear_line(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_STRIPE_API_KEY", "sk_test_another")
    ran = shop.reconcile()
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "TILL_STRIPE_API_KEY" in ran.err

    shop.stripe.break_next(3, "cut")
    monkeypatch.setenv("TILL_STRIPE_API_KEY", shop.stripe.api_key)
    ran = shop.reconcile()
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "till: Stripe cannot be reached: Unexpected error communicating with Stripe.\n"

    monkeypatch.delenv("TILL_STRIPE_API_KEY")
    ran = shop.reconcile()
    assert ran.status == 1
    assert "set TILL_STRIPE_API_KEY, or give files" in ran.err


@pytest.mark.parametrize("args", [("--since", "2026-01-01"), ("--customer", "cus_1"), ("--csv", "x.csv")])
def test_what_to_compare_with_stripe_needs_stripe(till: Run, args: Sequence[str]) -> None:
    ran = till("reconcile", *args)

    assert ran.status == 2
    assert "add --stripe" in ran.err


def test_times_in_the_wrong_order_are_refused(till: Run) -> None:
    ran = till("reconcile", "--stripe", "--since", "2026-02-01", "--until", "2026-01-01")

    assert ran.status == 2
    assert "--until must come after --since" in ran.err


# --- By files ---


def decimal(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02}"


def moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def payments_row(charge: dict[str, Any]) -> ROW:
    """A row of the dashboard's export of payments."""
    status = "Refunded" if charge["refunded"] else "Paid" if charge["paid"] else "Failed"
    return {
        "id": charge["id"], "Created date (UTC)": moment(charge["created"]), "Amount": decimal(charge["amount"]),
        "Amount Refunded": decimal(charge["amount_refunded"]), "Currency": charge["currency"],
        "Captured": str(charge["captured"]).lower(), "Converted Amount": "1.00", "Converted Currency": "eur",
        "Mode": "Test", "Status": status, "Customer ID": charge["customer"] or "",
        "Invoice ID": charge["_invoice"] or "",
        "PaymentIntent ID": charge["payment_intent"], "user_id (metadata)": charge["metadata"].get("user_id", ""),
        "Description": 'A "pack", for one',
    }  # fmt: skip


def refunds_row(refund: dict[str, Any]) -> ROW:
    return {
        "id": refund["id"], "Amount": decimal(refund["amount"]), "Currency": refund["currency"],
        "Status": refund["status"], "Charge": refund["charge"], "Created (UTC)": moment(refund["created"]),
    }  # fmt: skip


def disputes_row(dispute: dict[str, Any]) -> ROW:
    return {
        "Charge ID": dispute["charge"], "Dispute Amount": decimal(dispute["amount"]), "Status": dispute["status"],
        "Dispute Currency": dispute["currency"], "Disputed on (UTC)": moment(dispute["created"]), "id": dispute["id"],
        "Reason": dispute["reason"],
    }  # fmt: skip


def balance_row(transaction: dict[str, Any]) -> ROW:
    """A row of the itemised balance report."""
    return {
        "balance_transaction_id": transaction["id"], "created_utc": moment(transaction["created"]),
        "currency": "eur", "gross": "1.00", "reporting_category": transaction["reporting_category"],
        "source_id": transaction["source"], "customer_facing_amount": decimal(transaction["amount"]),
        "customer_facing_currency": transaction["currency"], "payment_intent_id": transaction["_intent"],
    }  # fmt: skip


def written(path: Path, rows: Sequence[ROW], *, seed: int = 0, delimiter: str = ",") -> Path:
    """Write rows as CSV, their columns in an order of the seed's choice."""
    columns = list(rows[0])
    random.Random(seed).shuffle(columns)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, columns, delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture
def exported(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """Options that name files with all that Stripe has by now; the API is not to be had."""
    monkeypatch.delenv("TILL_STRIPE_API_KEY")
    makers: dict[str, tuple[str, Callable[[dict[str, Any]], ROW]]] = {
        "payments": ("charge", payments_row), "refunds": ("refund", refunds_row), "disputes": ("dispute", disputes_row),
    }  # fmt: skip

    def export(*names: str, **how: Any) -> list[object]:
        options: list[object] = []
        for name in names:
            kind, row_of = makers[name]
            if rows := [row_of(one) for one in shop.stripe.of_kind(kind)]:
                options += ["--csv", written(tmp_path / f"{name}.csv", rows, **how)]
        return options

    return export


def test_files_in_any_order_of_columns_agree_with_the_books(shop: Shop, exported: Callable[..., list[object]]) -> None:
    one, other = shop.sell_pack(), shop.sell_pack("bob")
    shop.deliver()
    shop.stripe.refund(one["id"], 3_000)
    shop.stripe.dispute(other["id"])
    shop.deliver()

    for seed, delimiter in enumerate((",", ";", "\t")):
        assert shop.checks(*exported("payments", "refunds", "disputes", seed=seed, delimiter=delimiter)) == []
    assert shop.checks(*exported("payments")) == []
    assert shop.stripe.asked == []


def test_what_no_file_tells_of_is_said_not_to_be_compared(shop: Shop, exported: Callable[..., list[object]]) -> None:
    sold = shop.sell_pack()
    shop.deliver()
    shop.stripe.dispute(sold["id"])
    shop.deliver()

    ran, told = shop.reconcile(*exported("payments")), shop.reconcile("--json", *exported("payments")).json
    assert ran.out.splitlines()[0] == "The files do not tell of disputes: not compared."
    assert ran.out.splitlines()[1] == "Stripe and the books agree: 1 payment, 0 refunds, 0 disputes."
    assert (told["not_compared"], told["counts"]["disputes"]) == (["disputes"], 0)
    assert shop.reconcile("--json", *exported("payments", "disputes")).json["not_compared"] == []
    assert shop.reconcile("--json", *exported("disputes")).json["not_compared"] == ["payments", "refunds"]


def test_files_show_what_the_books_do_not_have_and_the_other_way_round(
    shop: Shop, exported: Callable[..., list[object]]
) -> None:
    customer = shop.stripe.make_customer({"email": "a@example.com"})["id"]
    first = shop.sell_pack("alice", customer=customer)
    shop.deliver()
    shop.clock.advance(hours=1)
    shop.till.record_token_pack_purchase("carol", "power", payment_intent_id="pi_made_up")
    shop.clock.advance(hours=1)
    shop.sell_pack("alice", customer=customer)
    shop.lose()
    shop.stripe.refund(first["id"], 3_000)

    assert shop.checks(*exported("payments")) == ["not_granted", "not_paid", "refunded"]
    assert shop.checks(*exported("payments", "refunds")) == ["not_granted", "not_paid", "refund_unknown"]
    assert shop.checks(*exported("refunds")) == []  # They name their charges alone, and only payments say whose.
    assert shop.checks(*exported("payments"), "--until", "2026-01-05T12:30Z") == ["refunded"]


def test_a_balance_report_tells_payments_and_refunds_in_the_buyers_currency(shop: Shop, tmp_path: Path) -> None:
    sold = shop.sell_pack()
    shop.deliver()
    shop.stripe.refund(sold["id"], 3_000)
    rows = [
        balance_row({**one, "_intent": sold["payment_intent"]}) for one in shop.stripe.of_kind("balance_transaction")
    ]
    report = written(tmp_path / "balance.csv", rows)

    assert shop.checks("--csv", report) == ["refund_unknown"]
    shop.deliver()
    assert shop.checks("--csv", report) == []


def test_yen_have_no_hundredths(shop: Shop, tmp_path: Path) -> None:
    sold = shop.sell_pack(line_items=[{"price_data": {**POWER, "currency": "jpy", "unit_amount": 15_000}}])
    shop.deliver()
    row = {"id": "ch_yen", "Created (UTC)": "2026-01-05 12:00", "Amount": "15000", "Currency": "JPY", "Status": "Paid",
           "Payment Intent ID": sold["payment_intent"]}  # fmt: skip

    assert shop.checks("--csv", written(tmp_path / "a.csv", [row])) == []
    assert shop.checks("--csv", written(tmp_path / "b.csv", [{**row, "Amount": "150"}])) == ["amount"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "names no column"),
        ("name,colour\nx,red\n", "names no column"),
        ("id,Amount,Currency,Created (UTC)\n", "there is no payment, refund or dispute in it"),
        ("id,Amount\nch_1,1.00\n", ":2: none of the columns created_date, created"),
        ("id,Amount,Currency,Created (UTC)\nch_1,1.005,usd,2026-01-05\n", "'1.005' is no amount in usd"),
        ("id,Amount,Currency,Created (UTC)\nch_1,1.00,usd,soon\n", "'soon' is no time"),
        ("id,Amount,Currency,Created (UTC)\npo_1,1.00,usd,2026-01-05\n", "'po_1' is the id of no payment"),
        ("id,Amount,Currency,Created (UTC)\nre_1,1.00,usd,2026-01-05\n", "neither its charge nor"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(till: Run, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "export.csv"
    path.write_text(content, "utf-8")

    ran = till("reconcile", "--stripe", "--csv", path)

    assert ran.status != 0
    assert "export.csv" in ran.err and words in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_that_is_not_there_is_one_clear_line(till: Run, tmp_path: Path) -> None:
    ran = till("reconcile", "--stripe", "--csv", tmp_path / "none.csv")

    assert ran.status != 0
    assert "none.csv: No such file" in ran.err
