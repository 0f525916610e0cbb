"""Numbers as people type them: separators count only where they separate thousands."""

from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.http.conftest import row_counts
from tokentill.core.checks import decimal_of, ungrouped
from tokentill.core.money import minor_units

ODD = ["1,00", "1_00", "1,0000", ",100", "100,", "1,,000", "1,000_000", "1_000,000", "12345,678", "1 000"]


@pytest.mark.parametrize(("text", "number"), [("1,000", 1000), ("1_000", 1000), ("1,000,000", 10**6), ("0007", 7)])
def test_separated_thousands_are_taken(till: Run, text: str, number: int) -> None:
    assert till("grant", "m", text, "--json").json["balance_after"] == number


@pytest.mark.parametrize("text", [*ODD, "１００", "٣", "1.5", "1e3", "+", "", "0x10", "nan"])
def test_an_odd_number_of_tokens_is_refused_everywhere(till: Run, database: str, text: str) -> None:
    till("grant", "m", 5000)
    before = row_counts(database)

    for args in (
        ("grant", "m", text), ("deduct", "m", text), ("spend", "m", text, "chat_conversation"),
        ("spend", "m", "-", "chat_conversation", "--input-tokens", text),
        ("spend", "m", "-", "chat_conversation", "--output-tokens", text),
        ("hold", "m", text, "chat_conversation"), ("capture", "m", "x", text),
        ("actions", "set", "chat_conversation", "--max-tokens", text),
        ("actions", "set", "chat_conversation", "--charge", "fixed", "--fixed-tokens", text),
        ("stripe", "preview-refund", "pi_1", text),
    ):  # fmt: skip
        ran = till(*args)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), (args, ran)
    assert row_counts(database) == before


@pytest.mark.parametrize("text", ODD)
def test_an_odd_amount_is_refused_everywhere(till: Run, database: str, text: str) -> None:
    till("grant", "m", 5000)
    before = row_counts(database)

    for args in (
        ("spend", "m", "1", "chat_conversation", "--cost", text),
        ("actions", "set", "chat_conversation", "--multiplier", text),
        ("actions", "set", "chat_conversation", "--model-multiplier", f"gpt-5={text}"),
        ("actions", "set", "essay", "--charge", "cost_plus", "--markup", text, "--cents-per-million-tokens", "5"),
        ("actions", "set", "essay", "--charge", "cost_plus", "--markup", "2", "--cents-per-million-tokens", text),
        ("prices", "set", "gpt-5", "--provider", "openai", "--input", text),
        ("prices", "set", "gpt-5", "--provider", "openai", "--pool", f"seconds={text}"),
        ("prices", "update", "--max-change", text),
    ):  # fmt: skip
        ran = till(*args)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), (args, ran)
    assert row_counts(database) == before


def test_amounts_with_separated_thousands_are_taken(till: Run) -> None:
    row = till("prices", "set", "gpt-5", "--provider", "openai", "--input", "1,250.5", "--json").json

    assert row["prices"]["input_uncached"] == "1250.5"


@pytest.mark.parametrize(
    ("text", "cents"),
    [("1,234.50", 123_450), ("1234.5", 123_450), ("-5.00", -500), (" 7 ", 700), ("1,50", None), ("1_0", None),
     ("1.234,50", None), ("1e3", None), ("NaN", None), ("1.005", None), ("", None)],
)  # fmt: skip
def test_money_of_a_file_is_what_it_says_or_nothing(text: str, cents: int | None) -> None:
    assert minor_units(text, "usd") == cents


def test_programs_numbers_have_no_separators() -> None:
    assert (ungrouped("-1,000.25"), ungrouped("1,00")) == ("-1000.25", None)
    assert decimal_of("1e3") == Decimal(1000)
    with pytest.raises(InvalidOperation):
        decimal_of("1_000")


def test_a_price_list_that_separates_oddly_is_no_toml(till: Run, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    for number in ("1,00", "1__0", '"1,000"'):
        file.write_text(f'[packs.mega]\nname = "M"\nprice_cents = {number}\ntokens = 5\n', encoding="utf-8")
        ran = till("catalog", "load", file)
        assert (ran.status, ran.err.count("\n")) == (2, 1), ran
