"""The price book in the database: seeded, edited in new rows, brought up to date, and what it lacks."""

from collections.abc import Callable
from dataclasses import replace as replaced
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Clock
from tests.core.prices.book import seeded
from tokentill import Till
from tokentill.core.prices.book import PriceBook, as_text
from tokentill.core.prices.changes import compare
from tokentill.core.usage.pools import Pools
from tokentill.core.values import replace
from tokentill.errors import Conflict, InvalidText, ModelNotFound, PriceChangeTooLarge, PriceNotFound
from tokentill.services.calls import price_book
from tokentill.store.db import connect
from tokentill.store.price_seed import Offered, offered

MILLION = Pools(input_uncached=1_000_000)
AT = datetime(2026, 11, 1, tzinfo=UTC)


def cost(till: Till, model: str, provider: str = "openai", **about: Any) -> Decimal | None:
    book = till.read_price_book()
    return book.price(MILLION, provider=provider, model=model, **({"occurred_at": AT} | about)).cost_cents


def test_a_new_database_has_the_book_that_its_seed_was_made_from(till: Till) -> None:
    book = till.read_price_book()

    assert book.revision == 1
    unwritten = {"created_at": None, "created_by": ""}
    assert [replace(row, **unwritten) for row in book.rows()] == seeded().rows()
    assert {key: replace(row, **unwritten) for key, row in book.models.items()} == seeded().models


def test_an_override_counts_from_its_date_on_until_it_is_withdrawn(till: Till) -> None:
    before = cost(till, "gpt-4o")
    row = till.set_price("openai", "gpt-4o-2024-08-06", {"input_uncached": "200"}, created_by="ann", effective_from=AT)

    assert (row.price_id, row.model, row.revision, row.created_by) == (1_000_001, "gpt-4o", 2, "ann")
    assert cost(till, "gpt-4o") == 200
    assert cost(till, "gpt-4o", occurred_at=datetime(2026, 10, 31, tzinfo=UTC)) == before == 250

    till.withdraw_price("openai", "gpt-4o", created_by="ann")
    assert cost(till, "gpt-4o") == before
    with pytest.raises(PriceNotFound):
        till.withdraw_price("openai", "gpt-4o", created_by="ann")
    assert till.read_price_book().by_id(row.price_id) == row  # For the calls that it was reckoned with.
    with psycopg.connect(till.url) as conn:
        acts = conn.execute("SELECT actor, act, detail ->> 'revision' FROM audit_log ORDER BY created_at, detail")
        assert sorted(acts.fetchall()) == [("ann", "edit prices", "2"), ("ann", "edit prices", "3")]


def test_saying_the_same_again_writes_nothing(till: Till) -> None:
    first = till.set_price("openai", "gpt-4o", {"input_uncached": "200"}, created_by="ann")
    again = till.set_price("openai", "gpt-4o", {"input_uncached": "200.0"}, created_by="bob")
    model = till.put_model("vllm", "our-llama", aliases=["llama"], created_by="ann")

    assert again == first
    assert till.put_model("vllm", "our-llama", aliases=["llama"], created_by="bob") == model
    assert till.read_price_book().revision == 3


def test_of_two_edits_at_the_same_moment_one_is_refused(till: Till) -> None:
    stale = till.read_price_book()
    till.set_price("openai", "gpt-4o", {"input_uncached": "200"}, created_by="ann")

    with pytest.raises(Conflict, match="edited meanwhile"):
        price_book.set_price(
            till.context, stale, provider="openai", model="gpt-4o", rates={"input_uncached": "1"}, actor="bob"
        )
    assert cost(till, "gpt-4o") == 200


def test_a_model_of_ones_own_has_the_price_that_it_is_given(till: Till) -> None:
    with pytest.raises(ModelNotFound, match="till prices add"):
        till.set_price("vllm", "our/llama", {"input_uncached": "5"}, created_by="ann")
    till.put_model("vllm", "our/llama", aliases=["llama"], created_by="ann")
    assert cost(till, "llama", "vllm") is None
    till.set_price("vllm", "llama", {"input_uncached": "5"}, created_by="ann")

    assert cost(till, "LLAMA", "vllm") == 5
    with pytest.raises(Conflict, match="our/llama already"):
        till.put_model("vllm", "other", aliases=["Llama"], created_by="ann")
    with pytest.raises(InvalidText):
        till.put_model("no such/provider", "m", created_by="ann")
    # Azure only borrows OpenAI's list: a price of its own needs a model of its own.
    with pytest.raises(ModelNotFound):
        till.set_price("azure", "gpt-5", {"input_uncached": "5"}, created_by="ann")


def test_a_retired_model_still_has_a_cost_and_its_names(till: Till) -> None:
    retired = till.put_model("openai", "gpt-4o", is_active=False, created_by="ann")

    assert (retired.is_active, retired.source) == (False, "own")
    assert cost(till, "gpt-4o-2024-08-06") == 250


# -- Updates -----------------------------------------------------------------------------------------------------


def with_prices(found: Offered, change: Callable[[Decimal], Decimal]) -> Offered:
    """What a later genai-prices might say: GPT-4o's input at another price, and a model more."""
    prices = [
        replace(row, prices={**(row.prices or {}), "input_uncached": as_text(change(Decimal(250)))})
        if (row.provider, row.model, row.service_tier) == ("openai", "gpt-4o", None)
        else row
        for row in found.prices
    ]
    model = replace(found.models[0], provider="openai", model="gpt-next", aliases=(), match=None, position=999)
    new = replace(found.prices[0], provider="openai", model="gpt-next", prices={"input_uncached": "1"})
    return replaced(found, models=(*found.models, model), prices=(*prices, new))


def differences(book: PriceBook, found: Offered) -> Any:
    return compare(book, found.models, found.prices, version="99", at=AT)


def test_an_update_that_says_the_same_writes_nothing(till: Till) -> None:
    found = till.price_differences()

    if found.version != "0.2.3":
        pytest.skip("the book was seeded from another version of genai-prices")
    assert found.is_nothing
    assert till.update_prices(found, created_by="ann") == 1


def test_an_update_brings_what_is_new_and_keeps_what_is_gone_and_what_was_overridden(till: Till) -> None:
    # The book as it is stands for the installed version: what the update brings is then the change alone.
    base = Offered("1", tuple(till.read_price_book().models.values()), tuple(till.read_price_book().rows()))
    found = differences(till.read_price_book(), with_prices(base, lambda cents: cents * Decimal("1.2")))

    assert [(row.model, row.pool, row.before, row.after, row.percent) for row in found.changed] == [
        ("gpt-4o", "input_uncached", "250", "300", Decimal("20.0"))
    ]
    assert [row.model for row in found.added] == ["gpt-next"]
    assert till.update_prices(found, created_by="ann", max_change_percent=Decimal(20)) == 2
    assert [cost(till, model) for model in ("gpt-4o", "gpt-next")] == [Decimal(300), Decimal(1)]

    till.set_price("openai", "gpt-4o", {"input_uncached": "7"}, created_by="ann")
    doubled = differences(till.read_price_book(), with_prices(base, lambda cents: cents * 3))
    assert [row.is_hidden for row in doubled.changed] == [True]
    with pytest.raises(PriceChangeTooLarge, match="gpt-4o input_uncached: 300 to 750"):
        till.update_prices(doubled, created_by="ann")
    with pytest.raises(Conflict, match="edited meanwhile"):  # It was compared with the book of before.
        till.update_prices(found, created_by="ann")
    assert till.update_prices(doubled, created_by="ann", force=True) == 4
    assert cost(till, "gpt-4o") == 7
    assert [row.model for row in till.check_prices().hiding] == ["gpt-4o"]

    without = Offered("1", base.models[1:], base.prices)
    gone = differences(till.read_price_book(), without)
    assert base.models[0] in gone.removed
    assert all(row.model != base.models[0].model for row in gone.models)


@pytest.mark.parametrize(
    ("before", "after", "percent", "is_large"),
    [
        ("100", "150", "50.0", False),
        ("100", "49", "-51.0", True),
        ("100", None, None, True),
        (None, "100", None, False),  # It had no cost; now it has one.
        ("0", "1", None, True),
        ("1", "0", "-100.0", True),
        ("100", [{"above": 0, "price": "100"}, {"above": 9, "price": "160"}], "60.0", True),
    ],
)
def test_the_largest_change_of_a_price_counts(before: Any, after: Any, percent: str | None, is_large: bool) -> None:
    found = offered()
    row = next(row for row in found.prices if row.model == "whisper-1" and row.provider == "openai")
    model = next(each for each in found.models if (each.provider, each.model) == (row.provider, row.model))

    def priced(rate: Any) -> Any:
        return replace(row, prices={"images": "1"} if rate is None else {"images": "1", "seconds": rate})

    book = PriceBook(1, [model], [priced(before)])
    [change] = compare(book, [model], [priced(after)], version="99", at=AT).changed

    assert change.pool == "seconds"
    assert change.percent == (None if percent is None else Decimal(percent))
    assert change.exceeds(Decimal(50)) is is_large


# -- What the book lacks -----------------------------------------------------------------------------------------


def test_calls_without_a_cost_are_named_until_they_are_long_past(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 1000)
    for model in ("gpt-nonesuch", "gpt-nonesuch", "mine"):
        till.spend("ann", None, "chat_conversation", model_used=model, input_tokens=1)
    till.spend("ann", 1, "chat_conversation", model_used="gpt-4o")  # Of what, no price list can say.

    called, other = till.check_prices().unpriced
    assert (called.model, called.calls, called.reason) == ("gpt-nonesuch", 2, "unknown_model")
    assert other.model == "mine"
    till.put_model("vllm", "mine", created_by="ann")
    till.set_price("vllm", "mine", {"input_uncached": "1", "output_text": "1"}, created_by="ann")
    assert [each.reason for each in till.check_prices().unpriced] == ["unknown_model", None]
    till.reprice(clock.now - timedelta(days=1), until=clock.now + timedelta(days=1), created_by="ann")
    assert till.check_prices().unpriced == (called,)
    clock.advance(days=31)
    assert till.check_prices().unpriced == ()


def test_prices_in_use_that_nobody_has_confirmed_for_long_are_named(till: Till, clock: Clock) -> None:
    till.grant_tokens("ann", 1000)
    old = till.set_price("openai", "gpt-4o", {"input_uncached": "200"}, created_by="ann")
    clock.advance(days=100)
    till.spend("ann", 1, "chat_conversation", model_used="gpt-4o", cost_estimate="0.2")
    with psycopg.connect(till.url) as conn:  # As a priced spend writes it.
        conn.execute("UPDATE token_usage SET price_id = %s", [old.price_id])

    found = till.check_prices(older_than_days=99)
    assert [(each.price, each.calls) for each in found.aged] == [(old, 1)]
    assert found.unpriced == ()
    assert till.check_prices(older_than_days=100).aged == ()


# -- What the tables refuse --------------------------------------------------------------------------------------


def test_the_service_may_not_change_what_was_written(till: Till) -> None:
    with connect(till.url, autocommit=True) as conn:
        for table in ("ai_models", "ai_prices"):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET created_by = 'x'"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(statement.encode())


def test_the_tables_refuse_a_price_that_makes_no_sense(till: Till) -> None:
    for change, constraint in (
        ("service_tier = 'Batch'", "ai_prices_tier"),
        ("prices = '[]'", "ai_prices_prices_are_named"),
        ("prices = NULL", "ai_prices_only_overrides_are_withdrawn"),
        ("source = 'hearsay'", "ai_prices_source"),
        ("daily_from = '10:00'", "ai_prices_window_is_whole"),
    ):
        with psycopg.connect(till.url) as conn, pytest.raises(psycopg.errors.CheckViolation) as caught:
            conn.execute(f"UPDATE ai_prices SET {change} WHERE price_id = 1".encode())
        assert caught.value.diag.constraint_name == constraint
