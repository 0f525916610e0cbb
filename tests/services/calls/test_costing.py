"""What a call costs, in cents and in tokens: by the price in force when it happened, and never 0 by mistake."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import psycopg
import pytest

from tests.conftest import START, Clock
from tokentill import Till
from tokentill.errors import InsufficientTokens, InvalidRequest, InvalidText, UnknownModel
from tokentill.services.calls.costing import UnknownModels
from tokentill.store.findings import OpenFinding

USED = {"input_uncached": 1_000, "cache_read": 2_000, "output_text": 100}


@pytest.fixture
def shop(till: Till) -> Till:
    """A till where ann has tokens, and a model of our own costs 100, 10 and 400 cents a million, 200, … since May."""
    till.grant_tokens("ann", 1_000_000)
    sell(till, "llama-at-home", input_uncached="100", cache_read="10", output_text="400")
    sell(till, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="200", output_text="400")
    till.asking.learn()
    return till


def sell(till: Till, model: str, *, since: datetime | None = None, **prices: str) -> None:
    """Put a price into the book, as another process would."""
    with psycopg.connect(till.url) as conn:
        [(revision,)] = conn.execute("SELECT max(revision) + 1 FROM ai_edits").fetchall()
        conn.execute("INSERT INTO ai_edits VALUES (%s, %s, 'test')", [revision, START])
        conn.execute(
            "INSERT INTO ai_models (provider, model, revision, aliases, position, is_active, source, created_at,"
            " created_by) VALUES ('home', %s, %s, '{}', 0, true, 'own', %s, 'test')", [model, revision, START],
        )  # fmt: skip
        conn.execute(
            "INSERT INTO ai_prices (price_id, provider, model, effective_from, prices, source, revision, created_at,"
            " created_by) VALUES (%s, 'home', %s, %s, %s, 'override', %s, %s, 'test')",
            [5_000_000 + revision, model, since, psycopg.types.json.Jsonb(prices), revision, START],
        )  # fmt: skip


def opened(till: Till, clock: Clock, **changes: Any) -> Till:
    return Till(till.url, clock=clock, **changes)


def last(till: Till, user: str = "ann") -> dict[str, Any]:
    """What the journal says of the latest call."""
    entry = till.history(user, limit=1)[0]
    return {"tokens": entry.tokens, **entry.detail}


def findings(till: Till) -> list[OpenFinding]:
    return till.findings()


def test_a_call_costs_what_the_price_book_says_and_its_row_says_by_which_price(shop: Till) -> None:
    shop.spend("ann", None, "chat_conversation", provider="openai", model_used="gpt-4o-2024-08-06", pools=USED)

    row = last(shop)
    # Published: $2.50, $1.25 and $10.00 a million.
    assert Decimal(row["cost_estimate"]) == Decimal("0.6")
    assert row["pools"] == USED
    assert row["price_id"] > 0
    assert shop.balance("ann").lifetime_cost == Decimal("0.6")


def test_what_the_caller_says_it_cost_outranks_the_price_book(shop: Till) -> None:
    shop.spend(
        "ann", None, "chat_conversation", provider="openai", model_used="gpt-4o", pools=USED, cost_estimate="0.25"
    )

    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.25")
    assert "price_id" not in last(shop)


@pytest.mark.parametrize(
    ("occurred_at", "cents"),
    [(datetime(2025, 4, 30, 23, 59, tzinfo=UTC), "0.1"), (datetime(2025, 5, 1, tzinfo=UTC), "0.2")],
)
def test_when_it_happened_picks_the_price_and_todays_lots_pay(shop: Till, occurred_at: datetime, cents: str) -> None:
    used = {"input_uncached": 1_000}

    shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools=used, occurred_at=occurred_at)

    assert Decimal(last(shop)["cost_estimate"]) == Decimal(cents)
    assert shop.balance("ann").balance == 999_000


def test_counts_alone_are_priced_as_text_of_which_nothing_was_cached(shop: Till) -> None:
    shop.spend(
        "ann", None, "chat_conversation", provider="openai", model_used="gpt-4o", input_tokens=1_000, output_tokens=100
    )

    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.35")


def test_a_capture_is_priced_by_the_model_that_the_hold_names(shop: Till) -> None:
    hold = shop.hold("ann", 5_000, "chat_conversation", model="llama-at-home")

    shop.capture("ann", hold.hold_id, pools={"input_uncached": 1_000})

    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.2")
    assert last(shop)["model_used"] == "llama-at-home"


def test_a_capture_is_priced_by_the_provider_that_the_hold_names(shop: Till) -> None:
    hold = shop.hold("ann", 5_000, "chat_conversation", model="llama-at-home", provider="home")
    other = shop.hold("ann", 5_000, "chat_conversation", model="llama-at-home", provider="groq")

    for one in (hold, other):
        shop.capture("ann", one.hold_id, pools={"input_uncached": 1_000})

    [elsewhere, at_home] = [entry.detail for entry in shop.history("ann", limit=2)]
    assert (at_home["provider"], Decimal(str(at_home["cost_estimate"]))) == ("home", Decimal("0.2"))
    assert elsewhere["provider"] == "groq"
    assert "cost_estimate" not in elsewhere


# -- What is not known -------------------------------------------------------------------------------------------


def test_an_unknown_model_is_recorded_without_a_cost_and_found_once(shop: Till, clock: Clock) -> None:
    for _ in range(3):
        shop.spend("ann", None, "chat_conversation", model_used="nobodys-model", pools=USED)
        clock.advance(minutes=1)

    assert "cost_estimate" not in last(shop)
    assert last(shop)["tokens"] == -3_100
    [found] = findings(shop)
    assert (found.kind, found.subject) == ("unknown_model", "nobodys-model")


def test_a_refused_spend_of_an_unknown_model_does_not_keep_the_next_one_from_being_found(
    shop: Till, clock: Clock
) -> None:
    shop.grant_tokens("bob", 1)
    with pytest.raises(InsufficientTokens):
        shop.spend("bob", None, "chat_conversation", model_used="nobodys-model", pools=USED)
    clock.advance(minutes=1)

    shop.spend("ann", None, "chat_conversation", model_used="nobodys-model", pools=USED)

    assert [found.kind for found in findings(shop)] == ["unknown_model"]


def test_where_unknown_models_are_refused_nothing_is_asked_of_them_but_what_has_happened_is_recorded(
    shop: Till, clock: Clock
) -> None:
    with opened(shop, clock, unknown_models=UnknownModels(policy="refuse")) as strict:
        strict.set_action("essay", model="nobodys-model", created_by="ann")
        for refused in (
            lambda: strict.hold("ann", 10, "chat_conversation", model="nobodys-model"),
            lambda: strict.hold("ann", 10, "essay"),
            lambda: strict.spend("ann", None, "chat_conversation", model_used="nobodys-model", pools=USED),
        ):
            with pytest.raises(UnknownModel, match="till prices set"):
                refused()
        assert strict.balance("ann").balance == 1_000_000

        hold = strict.hold("ann", 10, "chat_conversation", model="gpt-4o")
        strict.capture("ann", hold.hold_id, model_used="nobodys-model", pools=USED)
        strict.track_token_usage("ann", "chat_conversation", model_used="nobodys-model", pools=USED)

    assert shop.balance("ann").balance == 1_000_000 - 6_200
    assert [found.kind for found in findings(shop)] == ["unknown_model"]


def test_where_unknown_models_fall_back_they_cost_what_that_one_does_and_are_found(shop: Till, clock: Clock) -> None:
    with opened(
        shop, clock, unknown_models=UnknownModels(policy="fallback", fallback="openrouter/openai/gpt-4o")
    ) as mild:
        mild.spend("ann", None, "chat_conversation", model_used="nobodys-model", pools=USED)

    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.85")  # OpenRouter has no price for cached tokens.
    [found] = findings(shop)
    assert found.found == "priced as openrouter/openai/gpt-4o"


def test_a_model_is_named_by_a_text_that_can_be_kept(till: Till) -> None:
    names: list[Any] = [7, ["gpt-4o"], "m" * 256, "gpt\x004o", "\ud800"]
    for name in names:
        for used in ({"tokens_used": 1}, {"pools": USED}):
            with pytest.raises(InvalidText, match="model_used"):
                till.track_token_usage("ann", "chat_conversation", model_used=name, **used)


def test_a_pool_without_a_price_leaves_the_whole_without_a_cost(shop: Till) -> None:
    shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools={**USED, "audio_in": 7})

    assert "cost_estimate" not in last(shop)
    [found] = findings(shop)
    assert found.kind == "unpriced_usage"
    assert "audio_in" in found.expected


def test_names_that_callers_make_up_do_not_flood_the_findings(shop: Till, clock: Clock) -> None:
    for number in range(40):
        shop.spend("ann", 1, "chat_conversation", model_used=f"made-up-{number}", pools={"input_uncached": 1})

    assert len(shop.findings(include_closed=True, limit=100)) == 20


# -- From a provider's answer ------------------------------------------------------------------------------------


def test_a_providers_answer_is_all_that_need_be_sent(shop: Till) -> None:
    answer = {
        "id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "service_tier": "default", "choices": [],
        "usage": {"prompt_tokens": 3_000, "completion_tokens": 100, "total_tokens": 3_100,
                  "prompt_tokens_details": {"cached_tokens": 2_000}},
    }  # fmt: skip

    shop.spend("ann", None, "chat_conversation", provider="openai", response=answer)

    row = last(shop)
    assert row["pools"] == USED
    assert (row["model_used"], row["provider_request_id"], row["provider"]) == (answer["model"], "chatcmpl-1", "openai")
    assert Decimal(row["cost_estimate"]) == Decimal("0.6")
    assert row["tokens"] == -3_100
    hold = shop.hold("ann", 5, "chat_conversation").hold_id
    for beside in ({"output_tokens": 1}, {"pools": {"output_text": 1}}):  # Which of the two would count?
        with pytest.raises(InvalidRequest, match="instead"):
            shop.spend("ann", None, "chat_conversation", provider="openai", response=answer, **beside)
        with pytest.raises(InvalidRequest, match="instead"):
            shop.capture("ann", hold, provider="openai", response=answer, **beside)


def test_a_batchs_answer_is_priced_as_a_batch(shop: Till, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 1, tzinfo=UTC)  # Of batches before October the price list says nothing.
    answer = {
        "model": "claude-sonnet-4-5-20250929", "type": "message",
        "usage": {"input_tokens": 1_000, "output_tokens": 100, "service_tier": "batch"},
    }  # fmt: skip

    shop.spend("ann", None, "chat_conversation", provider="anthropic", response=answer)

    assert last(shop)["service_tier"] == "batch"
    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.225")  # Half of 0.3 + 0.15.


def test_an_answer_that_contradicts_itself_is_charged_by_the_stated_fallback_kept_and_found(shop: Till) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
             "prompt_tokens_details": {"cached_tokens": 99}}  # fmt: skip

    shop.spend(
        "ann", None, "chat_conversation", provider="openai", model_used="gpt-4o", response={"id": "r1", "usage": usage}
    )

    row = last(shop)
    assert row["tokens"] < 0
    assert row["estimated"] is True
    assert row["metadata"]["raw_usage"]["usage"] == usage
    [found] = findings(shop)
    assert (found.kind, found.subject.partition(":")[0]) == ("unreadable_usage", "openai/gpt-4o")
    assert "r1" in found.found


def test_an_answer_without_any_usage_is_no_reason_to_charge_nothing(shop: Till) -> None:
    with pytest.raises(InvalidRequest, match="tokens_used"):
        shop.spend("ann", None, "chat_conversation", provider="openai", model_used="gpt-4o", response={"id": "r1"})
    with pytest.raises(InvalidRequest, match="provider"):
        shop.spend("ann", None, "chat_conversation", response={"usage": {}})

    hold = shop.hold("ann", 500, "chat_conversation")
    shop.capture("ann", hold.hold_id, provider="openai", response={"id": "r1"})
    assert last(shop)["tokens"] == -500
    assert last(shop)["estimated"] is True


# -- Edits -------------------------------------------------------------------------------------------------------


def test_another_process_edit_counts_within_seconds(shop: Till, clock: Clock) -> None:
    def cost() -> Decimal:
        shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools={"input_uncached": 1_000})
        return Decimal(last(shop)["cost_estimate"])

    assert cost() == Decimal("0.2")
    sell(shop, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="300")
    assert cost() == Decimal("0.2"), "what is in memory, for some seconds"

    clock.advance(seconds=6)

    assert cost() == Decimal("0.3")


def test_what_cannot_be_read_of_an_edit_stops_no_spend(shop: Till, clock: Clock) -> None:
    shop.asking.warm_up()
    sell(shop, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="300")
    with psycopg.connect(shop.url) as conn:
        conn.execute("""UPDATE ai_prices SET prices = '{"input_uncached": 300}' WHERE price_id > 5000000""")
    clock.advance(seconds=6)

    shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools={"input_uncached": 1_000})

    assert Decimal(last(shop)["cost_estimate"]) == Decimal("0.2")


# -- Corrections -------------------------------------------------------------------------------------------------


@pytest.fixture
def wrong(shop: Till) -> Till:
    """The shop when a price turns out to have been another: a hundred calls were recorded with the wrong cost."""
    for number in range(3):
        shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools={"input_uncached": 1_000})
        shop.spend("ann", None, "chat_conversation", model_used="later-known", pools={"input_uncached": 10 + number})
    shop.spend("ann", None, "chat_conversation", model_used="llama-at-home", pools=USED, cost_estimate="7")
    sell(shop, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="150", output_text="400")
    sell(shop, "later-known", input_uncached="100")
    return shop


def reprice(till: Till, **changes: Any) -> dict[str, tuple[int, int, Decimal, Decimal]]:
    report = till.reprice(START - timedelta(days=1), until=START + timedelta(days=1), created_by="ann", **changes)
    return {one.model: (one.calls, one.corrected, one.cost_before, one.cost_after) for one in report}


def test_a_correction_is_a_row_of_its_own_with_the_difference(wrong: Till) -> None:
    before = wrong.balance("ann")
    told = {
        "later-known": (3, 3, Decimal(0), Decimal("0.0033")),
        "llama-at-home": (4, 3, Decimal("7.6"), Decimal("7.45")),  # One was stated, and stays.
    }

    assert reprice(wrong, is_dry_run=True) == told
    assert wrong.balance("ann") == before, "a dry run writes nothing"
    assert reprice(wrong) == told

    after = wrong.balance("ann")
    assert after.balance == before.balance
    assert after.lifetime_cost == Decimal("7.4533")
    assert last(wrong)["tokens"] == 0
    assert {"corrects_seq", "price_id", "cost_estimate"} <= last(wrong).keys()


def test_correcting_again_corrects_nothing_and_back_again_corrects_back(wrong: Till) -> None:
    reprice(wrong)
    seq = wrong.balance("ann").seq

    assert {corrected for _, corrected, _, _ in reprice(wrong).values()} == {0}
    assert wrong.balance("ann").seq == seq

    sell(wrong, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="200", output_text="400")
    assert reprice(wrong, model="llama-at-home") == {"llama-at-home": (4, 3, Decimal("7.45"), Decimal("7.6"))}
    assert wrong.balance("ann").lifetime_cost == Decimal("7.6033")


BY_COST: dict[str, Any] = {"charge": "cost_plus", "markup": "2", "cents_per_million_tokens": 1_000}


@pytest.fixture
def by_cost(shop: Till, clock: Clock) -> Till:
    """The shop when one call was charged 400 tokens by its cost, and two were not; then their rules were changed."""

    def ask(action: str, **said: Any) -> None:
        shop.spend("ann", said.pop("tokens", None), action, model_used="llama-at-home", pools={"input_uncached": 1_000})

    shop.set_action("essay", **BY_COST, created_by="ann")
    ask("essay")
    held = shop.hold("ann", 900, "essay", model="llama-at-home")
    shop.capture("ann", held.hold_id, 77, pools={"input_uncached": 1_000})
    ask("chat_conversation")
    clock.advance(minutes=1)
    shop.set_action("essay", markup="1000", created_by="ann")
    shop.set_action("chat_conversation", **BY_COST, created_by="ann")
    return shop


def charge_again(till: Till) -> list[tuple[str, int, int, int]]:
    report = till.reprice(START - timedelta(days=1), until=START + timedelta(days=1), charges=True, created_by="ann")
    return [(one.action_type, one.corrected, one.tokens_more, one.tokens_fewer) for one in report]


def test_tokens_follow_the_cost_and_no_other_rule_than_the_call_was_charged_by(by_cost: Till) -> None:
    assert charge_again(by_cost) == [("chat_conversation", 0, 0, 0), ("essay", 0, 0, 0)]
    before = by_cost.balance("ann").balance

    for cents, more, fewer in (("300", 200, 0), ("100", 0, 400)):
        sell(by_cost, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached=cents)
        assert charge_again(by_cost) == [("chat_conversation", 1, 0, 0), ("essay", 2, more, fewer)]

    assert by_cost.balance("ann").balance == before + 200
    assert charge_again(by_cost) == [("chat_conversation", 0, 0, 0), ("essay", 0, 0, 0)]


def test_what_came_back_before_a_stop_counts_even_if_prices_change_before_the_next_try(by_cost: Till) -> None:
    before = by_cost.balance("ann").balance
    sell(by_cost, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="50")
    with psycopg.connect(by_cost.url, autocommit=True) as conn:
        conn.execute("REVOKE INSERT ON token_usage FROM till_service")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            charge_again(by_cost)
        conn.execute("GRANT INSERT ON token_usage TO till_service")
    assert by_cost.balance("ann").balance == before + 300

    sell(by_cost, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="100")
    for _ in range(2):
        charge_again(by_cost)

    assert by_cost.balance("ann").balance == before + 200


def test_a_host_that_reckons_with_few_digits_corrects_no_more(wrong: Till) -> None:
    wrong.spend(
        "ann", None, "chat_conversation", model_used="llama-at-home", pools={"input_uncached": 123_456},
        occurred_at=START - timedelta(hours=1),
    )  # fmt: skip
    sell(wrong, "llama-at-home", since=datetime(2025, 5, 1, tzinfo=UTC), input_uncached="170", output_text="400")
    reprice(wrong)

    with localcontext(prec=3):
        report = reprice(wrong)

    assert {corrected for _, corrected, _, _ in report.values()} == {0}


def test_a_report_counts_no_call_for_a_correction(wrong: Till) -> None:
    def counted() -> list[tuple[Any, ...]]:
        with psycopg.connect(wrong.url) as conn:
            return conn.execute(
                "SELECT action_type, count(*), sum(cost_estimate) FROM unified.token_usage"
                " WHERE model_used IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()

    [(_, calls, cost)] = counted()
    reprice(wrong)

    assert counted() == [("chat_conversation", calls, cost), ("cost_correction", 6, Decimal("-0.1467"))]
