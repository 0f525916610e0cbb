"""Selling through Stripe: one session for one intention whatever breaks, and prices that are found again.

Through the real `stripe` library, against a double of Stripe's API on loopback.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tests.stripe_double import StripeDouble
from tests.stripe_double.server import Mood
from tokentill import Till
from tokentill.core.plans.catalog import EXAMPLE
from tokentill.core.plans.price_lists import as_json
from tokentill.errors import (
    BadSetting,
    CustomerNotFound,
    IdempotencyConflict,
    StripeRefused,
    StripeUnavailable,
    SwitchedOff,
    UnknownPack,
)
from tokentill.settings import Settings
from tokentill.stripe.calling import StripeApi, plain

THANKS = "https://app.example/thanks"


@pytest.fixture
def double(clock: Clock) -> Iterator[StripeDouble]:
    with StripeDouble(clock=clock) as double:
        yield double


@pytest.fixture
def till(database: str, clock: Clock, double: StripeDouble) -> Iterator[Till]:
    stripe = StripeApi(double.api_key, api_base=double.url, timeout_seconds=2, retries_max=0)
    with Till(database, clock=clock, stripe=stripe) as till:
        yield till
        assert till.reconcile().findings == ()


def buy(till: Till, pack: str = "mega", key: str | None = "k", **more: Any) -> Any:
    return till.checkout("auth0|ann", pack=pack, success_url=THANKS, idempotency_key=key, **more)


def sessions(double: StripeDouble) -> list[Any]:
    return double.of_kind("checkout.session")


# --- Checkout ---


def test_a_pack_that_is_paid_at_the_checkout_is_granted_once(till: Till, double: StripeDouble) -> None:
    made = buy(till, quantity=2)

    double.pay(made.session_id)
    double.hand(till.receive_stripe_event, seed=1)

    assert made.url == f"https://checkout.stripe.com/c/pay/{made.session_id}"
    assert (made.expires_at - till.clock()).days == 1
    assert till.balance("auth0|ann").balance == 2 * EXAMPLE.pack("mega").tokens
    [lot] = till.lots("auth0|ann")
    assert (lot.kind, lot.paid_cents, lot.currency) == ("purchase", 39_800, "usd")


@pytest.mark.parametrize("plan", ["vision_pro_28day", "vision_pro_annual"])
def test_a_plan_that_is_paid_at_the_checkout_gives_its_first_period_once(
    till: Till, double: StripeDouble, plan: str
) -> None:
    made = till.checkout("auth0|ann", plan=plan, success_url=THANKS)

    double.pay(str(made.session_id))
    double.hand(till.receive_stripe_event, seed=2)

    assert till.balance("auth0|ann").balance == EXAMPLE.plan(plan).tokens


def test_asked_again_it_is_the_same_session(till: Till, double: StripeDouble) -> None:
    first, again = buy(till), buy(till)

    assert (again.session_id, again.url, again.expires_at) == (first.session_id, first.url, first.expires_at)
    assert (first.is_replay, again.is_replay) == (False, True)
    assert len(double.asked) == 1, "the second answer is ours"


def test_without_a_key_each_checkout_is_another(till: Till, double: StripeDouble) -> None:
    assert buy(till, key=None).session_id != buy(till, key=None).session_id
    assert len(sessions(double)) == 2


def test_the_same_key_with_another_request_is_a_conflict(till: Till, double: StripeDouble) -> None:
    buy(till)

    with pytest.raises(IdempotencyConflict):
        buy(till, quantity=2)
    with pytest.raises(IdempotencyConflict):
        buy(till, pack="power")
    assert till.checkout("bob", pack="power", success_url=THANKS, idempotency_key="k").session_id
    assert len(sessions(double)) == 2


@pytest.mark.parametrize("mood", ["error", "rate_limit", "cut", "cut_after"])
def test_whatever_breaks_at_stripe_a_repeat_gives_one_session(till: Till, double: StripeDouble, mood: Mood) -> None:
    double.break_next(1, mood)

    with pytest.raises(StripeUnavailable) as caught:
        buy(till)
    made = buy(till)

    assert caught.value.retryable
    assert [session["id"] for session in sessions(double)] == [made.session_id]


def test_after_a_crash_before_the_answer_was_written_it_is_the_same_session(till: Till, double: StripeDouble) -> None:
    """The catalog was edited and the customer became known meanwhile: what Stripe is asked stays the same."""
    first = buy(till)
    with psycopg.connect(till.url) as conn:  # As the row stood when Stripe had been asked.
        conn.execute("UPDATE checkouts SET state = 'asked', session_id = NULL, url = NULL, expires_at = NULL")
        conn.execute("INSERT INTO stripe_customers VALUES ('cus_x', till_user_id('auth0|ann'), now())")
    changed: Any = as_json(EXAMPLE)
    changed["packs"]["mega"]["price_cents"] = 1
    till.edit_catalog(changed, created_by="bob")

    again = buy(till)

    assert (again.session_id, again.url) == (first.session_id, first.url)
    assert len(double.asked) == 2 and len(sessions(double)) == 1


def test_asked_by_many_at_once_it_is_one_session(till: Till, double: StripeDouble) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: buy(till), range(16)))

    assert {each.session_id for each in made} == {session["id"] for session in sessions(double)}
    assert len(sessions(double)) == 1


def test_a_refusal_is_stripes_own_sentence_and_uses_up_no_key(till: Till, double: StripeDouble) -> None:
    changed: Any = as_json(EXAMPLE)
    changed["packs"]["mega"]["stripe_price_id"] = "price_gone"
    till.edit_catalog(changed, created_by="bob")

    with pytest.raises(StripeRefused, match="Stripe refuses it: No such price: 'price_gone'") as caught:
        buy(till)
    till.edit_catalog(as_json(EXAMPLE) | {"packs": {"mega": as_json(EXAMPLE)["packs"]["mega"]}}, created_by="bob")  # type: ignore[index]
    corrected, again = buy(till, quantity=2), buy(till, quantity=2)

    assert caught.value.fields["stripe_code"] == "resource_missing"
    assert corrected.session_id == again.session_id
    keys = [asked.key for asked in double.asked]
    assert len(set(keys)) == 2, "Stripe remembers what it answered to the first"


def test_no_transaction_is_open_while_stripe_is_asked(
    till: Till, double: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def look() -> None:
        with psycopg.connect(till.url) as conn:
            sql = """
                SELECT state FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                   AND (xact_start IS NOT NULL OR state <> 'idle')
            """
            seen.append(tuple(state for (state,) in conn.execute(sql)))

    def looking(method: Any) -> Any:
        def act(*args: Any, **more: Any) -> Any:
            look()
            return method(*args, **more)

        return act

    for name in ("make_session", "make_portal", "make_product", "make_price"):
        monkeypatch.setattr(double, name, looking(getattr(double, name)))

    till.sync_catalog(created_by="bob")
    made = buy(till)
    double.pay(made.session_id)
    double.hand(till.receive_stripe_event)
    till.portal("auth0|ann", return_url=THANKS)

    assert len(seen) == 12, "five products, five prices, a session, a portal"
    assert set(seen) == {()}


def test_a_known_customer_buys_as_such(till: Till, double: StripeDouble) -> None:
    double.pay(buy(till, key="first").session_id)
    double.hand(till.receive_stripe_event)

    second = buy(till, key="second", email="other@example.com")

    customers = {session["customer"] for session in sessions(double)}
    assert len(customers) == 1 and customers != {None}
    assert double.objects[second.session_id]["customer_email"] is None


def test_what_is_not_sold_is_not_asked_of_stripe(till: Till, double: StripeDouble) -> None:
    till.edit_catalog({}, created_by="bob")

    for pack in ("mega", "nothing"):
        with pytest.raises(UnknownPack):
            buy(till, pack=pack)
    assert double.asked == []


def test_without_a_key_selling_is_off_and_says_how_to_turn_it_on(database: str, clock: Clock) -> None:
    with Till(database, clock=clock) as till:
        for ask in (
            lambda: buy(till),
            lambda: till.portal("ann", return_url=THANKS),
            lambda: till.sync_catalog(created_by="bob"),
        ):
            with pytest.raises(SwitchedOff, match="set TILL_STRIPE_API_KEY"):
                ask()


def test_a_key_that_stripe_does_not_accept_is_a_setting_to_mend(
    database: str, clock: Clock, double: StripeDouble
) -> None:
    with (
        Till(database, clock=clock, stripe=StripeApi("sk_test_other", api_base=double.url)) as till,
        pytest.raises(BadSetting, match="Stripe does not accept TILL_STRIPE_API_KEY: Invalid API Key"),
    ):
        buy(till)


def test_a_stripe_that_does_not_answer_is_unavailable(database: str, clock: Clock, double: StripeDouble) -> None:
    double.break_next(1, "silence_after")
    stripe = StripeApi(double.api_key, api_base=double.url, timeout_seconds=0.2, retries_max=0)
    with Till(database, clock=clock, stripe=stripe) as till:
        with pytest.raises(StripeUnavailable, match="Stripe cannot be reached"):
            buy(till)
        assert buy(till).session_id == sessions(double)[0]["id"]
    assert len(sessions(double)) == 1


def test_the_library_repeats_by_itself_with_the_same_key(database: str, clock: Clock, double: StripeDouble) -> None:
    double.break_next(1, "cut_after")
    with Till(database, clock=clock, stripe=StripeApi(double.api_key, api_base=double.url)) as till:
        assert buy(till).session_id == sessions(double)[0]["id"]
    assert len(double.asked) == 2 and len({asked.key for asked in double.asked}) == 1


# --- The portal ---


def test_the_portal_is_that_of_the_users_customer(till: Till, double: StripeDouble) -> None:
    double.pay(buy(till).session_id)
    double.hand(till.receive_stripe_event)

    url = till.portal("auth0|ann", return_url="https://app.example/account")

    [portal] = double.of_kind("billing_portal.session")
    assert (portal["url"], portal["return_url"]) == (url, "https://app.example/account")
    assert portal["customer"] == double.of_kind("checkout.session")[0]["customer"]


def test_who_never_bought_has_no_portal(till: Till, double: StripeDouble) -> None:
    till.grant_tokens("bob", 5)

    for user in ("bob", "nobody"):
        with pytest.raises(CustomerNotFound, match=f"{user} is no customer in Stripe yet"):
            till.portal(user, return_url=THANKS)
    assert double.asked == []


# --- Products and prices ---


def test_syncing_makes_what_is_missing_once(till: Till, double: StripeDouble) -> None:
    steps = till.sync_catalog(created_by="bob")

    assert [(step.offer_key, step.what, step.is_new, step.is_change) for step in steps[:2]] == [
        ("vision_pro_28day", "product", True, False), ("vision_pro_28day", "price", True, True)
    ]  # fmt: skip
    assert len(steps) == 10
    made = {price["id"]: price for price in double.of_kind("price")}
    for offer in till.catalog.offers():
        assert offer.stripe_price_id is not None
        price = made.pop(offer.stripe_price_id)
        assert (price["unit_amount"], price["lookup_key"]) == (offer.price_cents, offer.key)
        recurring = price["recurring"]
        assert (recurring and (recurring["interval"], recurring["interval_count"])) == {
            "vision_pro_28day": ("day", 28), "vision_pro_annual": ("year", 1)
        }.get(offer.key)  # fmt: skip
    assert made == {} and len(double.of_kind("product")) == 5


def test_syncing_again_changes_nothing(till: Till, double: StripeDouble) -> None:
    till.sync_catalog(created_by="bob")
    before, made = till.read_catalog(), len(double.objects)

    steps = till.sync_catalog(created_by="bob")

    assert (till.read_catalog(), len(double.objects)) == (before, made)
    assert [(step.what, step.is_new, step.is_change) for step in steps] == [("price", False, False)] * 5


def test_a_dry_run_asks_stripe_and_makes_nothing(till: Till, double: StripeDouble) -> None:
    steps = till.sync_catalog(created_by="bob", dry_run=True)

    assert [step.is_new for step in steps] == [True] * 10
    assert (till.read_catalog(), double.objects) == ((1, EXAMPLE), {})
    assert {asked.method for asked in double.asked} == {"GET"}


@pytest.mark.parametrize("path", ["/v1/products", "/v1/prices"])
@pytest.mark.parametrize("mood", ["error", "cut_after"])
def test_cut_off_in_the_middle_syncing_makes_nothing_twice(
    till: Till, double: StripeDouble, mood: Mood, path: str
) -> None:
    done: list[Any] = []

    def cut_off(step: Any) -> None:
        done.append(step)
        if len(done) == 4:  # Two offers of five are done.
            double.break_next(1, mood, path=path)

    with pytest.raises(StripeUnavailable):
        till.sync_catalog(created_by="bob", on_step=cut_off)
    assert (len(done), till.catalog) == (4, EXAMPLE)
    till.sync_catalog(created_by="bob")

    assert (len(double.of_kind("product")), len(double.of_kind("price"))) == (5, 5)
    assert all(offer.stripe_price_id for offer in till.catalog.offers())


def test_what_is_there_already_is_matched_page_after_page(till: Till, double: StripeDouble, clock: Clock) -> None:
    ours = double.make_product({"name": "Mega", "metadata": {"product_key": "mega"}})
    price = double.make_price({"product": ours["id"], "currency": "usd", "unit_amount": "19900"})
    for number in range(120):  # Newest first: ours is on the second page.
        clock.advance(seconds=1)
        other = double.make_product({"name": f"Other {number}"})
        double.make_price({"product": other["id"], "currency": "usd", "unit_amount": "19900"})

    till.sync_catalog(created_by="bob")

    assert till.catalog.pack("mega").stripe_price_id == price["id"]
    assert len(double.of_kind("price")) == 121 + 4


def test_another_price_is_a_new_price_of_the_same_product_and_the_old_one_still_names_the_offer(
    till: Till, double: StripeDouble
) -> None:
    till.sync_catalog(created_by="bob")
    old = till.catalog.pack("mega").stripe_price_id
    changed: Any = as_json(EXAMPLE)
    changed["packs"]["mega"]["price_cents"] = 24_900
    till.edit_catalog(changed, created_by="bob")
    between = till.catalog.pack("mega")

    till.sync_catalog(created_by="bob")

    after = till.catalog.pack("mega")
    assert (between.stripe_price_id, between.price_ids) == (None, (old,))
    assert after.stripe_price_id not in (None, old) and after.price_ids == (after.stripe_price_id, old)
    newer, older = double.objects[str(after.stripe_price_id)], double.objects[str(old)]
    assert (newer["unit_amount"], newer["product"], newer["lookup_key"]) == (24_900, older["product"], "mega")
    assert older["active"], "nothing is archived"


def test_what_is_retired_gets_no_price(till: Till, double: StripeDouble) -> None:
    till.edit_catalog({"packs": {"mega": {"name": "M", "price_cents": 5, "tokens": 5}}}, created_by="bob")

    steps = till.sync_catalog(created_by="bob")

    assert {step.offer_key for step in steps} == {"mega"}
    assert len(double.of_kind("price")) == 1


def test_a_checkout_sells_by_the_synced_price(till: Till, double: StripeDouble) -> None:
    till.sync_catalog(created_by="bob")
    made = till.checkout("auth0|ann", plan="vision_pro_28day", success_url=THANKS)

    double.pay(str(made.session_id))
    double.hand(till.receive_stripe_event)

    assert len(double.of_kind("price")) == 5, "none was made for the session"
    assert till.balance("auth0|ann").balance == 375_000


# --- The edge ---


def test_the_librarys_objects_come_out_as_plain_json(double: StripeDouble) -> None:
    made = double.client().v1.products.create({"name": "Mega", "metadata": {"product_key": "mega"}})

    assert type(plain(made)["metadata"]) is dict
    assert plain(made) == double.objects[made.id]


@pytest.mark.parametrize(
    "base",
    [
        "http://api.stripe.example",
        "http://10.0.0.1:80",
        "ftp://127.0.0.1",
        "stripe",
        "http://[",
        "https://x.example/?a",
    ],
)
def test_the_key_never_goes_in_the_clear_over_a_network(base: str) -> None:
    with pytest.raises(BadSetting, match="TILL_STRIPE_API_BASE must"):
        Settings.read({"TILL_STRIPE_API_BASE": base})


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:12111", "http://localhost:1/", "http://[::1]:5", "https://api.stripe.com"]
)
def test_loopback_and_https_are_taken_as_bases(base: str) -> None:
    assert Settings.read({"TILL_STRIPE_API_BASE": base}).stripe_api_base == base.rstrip("/")


@pytest.mark.parametrize("key", ["pk_test_1", "whsec_1", "sk_test 1", "sk_tést"])
def test_what_is_no_secret_key_is_refused(key: str) -> None:
    with pytest.raises(BadSetting, match="TILL_STRIPE_API_KEY must be a secret key"):
        Settings.read({"TILL_STRIPE_API_KEY": key})
    assert Settings.read({"TILL_STRIPE_API_KEY": " sk_test_1 "}).stripe_api_key == "sk_test_1"
