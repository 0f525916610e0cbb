"""Checks: what every edge lets in, and what it refuses before a command is built."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest

from tokentill.core import checks
from tokentill.core.checks import METADATA_BYTES_MAX, TEXT_LENGTH_MAX, TOKENS_MAX
from tokentill.errors import InvalidAmount, InvalidText, InvalidTime

ENDLESS = 10**5_000  # More digits than Python writes out.

# -- whole numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 375_000, TOKENS_MAX])
def test_tokens_are_whole_numbers_that_every_json_reader_can_tell_apart(value: int) -> None:
    assert checks.whole(value) == value


@pytest.mark.parametrize(
    "value",
    [0, -1, TOKENS_MAX + 1, 1.0, 1.5, float("nan"), float("inf"), Decimal(1), "1", True, False, None, [1]],
)
def test_anything_else_is_no_number_of_tokens(value: object) -> None:
    with pytest.raises(InvalidAmount) as refused:
        checks.whole(value, "tokens")

    assert refused.value.fields == {"field": "tokens"}


def test_a_number_too_long_to_be_written_out_is_refused_all_the_same() -> None:
    for refuse in (checks.whole, checks.cost_or_none):
        with pytest.raises(InvalidAmount, match="a number of over 30 digits"):
            refuse(ENDLESS)


def test_the_least_and_the_most_can_be_set() -> None:
    assert checks.whole(-3, minimum=-3, maximum=-3) == -3
    with pytest.raises(InvalidAmount, match="must be from -3 to -3, not -4"):
        checks.whole(-4, minimum=-3, maximum=-3)


def test_a_number_that_may_be_missing_may_be_zero() -> None:
    assert checks.whole_or_none(None, "input_tokens") is None
    assert checks.whole_or_none(0, "input_tokens") == 0
    with pytest.raises(InvalidAmount):
        checks.whole_or_none(-1, "input_tokens")


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["reason", "", " ", "é" * TEXT_LENGTH_MAX, "🙂\n\t"])
def test_a_text_comes_back_as_it_was(value: str) -> None:
    assert checks.text_or_none(value, "reason") == value


def test_no_text_is_none() -> None:
    assert checks.text_or_none(None, "reason") is None


@pytest.mark.parametrize("value", [5, b"reason", "x" * (TEXT_LENGTH_MAX + 1), "a\x00b", "a\ud800b", "\udfff"])
def test_what_postgresql_cannot_hold_is_no_text(value: object) -> None:
    with pytest.raises(InvalidText) as refused:
        checks.text_or_none(value, "reason")

    assert refused.value.fields == {"field": "reason"}


def test_the_longest_text_can_be_set() -> None:
    assert checks.text_or_none("usd", "currency", length_max=3) == "usd"
    with pytest.raises(InvalidText, match="currency has 4 characters; at most 3 are kept"):
        checks.text_or_none("usdt", "currency", length_max=3)


def test_a_text_that_is_needed_has_something_in_it() -> None:
    assert checks.text("monthly", "subscription_id") == "monthly"
    for nothing in (None, "", " \t\n"):
        with pytest.raises(InvalidText, match="subscription_id is missing"):
            checks.text(nothing, "subscription_id")


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_metadata_comes_back_as_plain_json() -> None:
    given: dict[str, Any] = {"a": [1, 2.5, None, True], "é": {"b": "🙂"}}

    assert checks.metadata(given) == given
    assert checks.metadata(given) is not given
    assert checks.metadata(None) == {}


def test_metadata_may_speak_of_a_nul_without_holding_one() -> None:
    assert checks.metadata({"x": r"\u0000"}) == {"x": r"\u0000"}


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "value",
    [
        "text", [1], 5,
        {"x": float("nan")}, {"x": float("inf")}, {"x": {1, 2}}, {"x": datetime(2026, 1, 5, tzinfo=UTC)},
        {("a", "b"): 1}, {"x": "a\x00b"}, {"x": "\\\x00"}, {"a\x00b": 1},
        {"x": "\ud800"}, {"x": ENDLESS}, nested(100_000),
    ],
)  # fmt: skip
def test_metadata_that_json_or_postgresql_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidText):
        checks.metadata(value)


def test_metadata_is_measured_in_bytes() -> None:
    room = METADATA_BYTES_MAX - len('{"x": ""}')

    assert checks.metadata({"x": "a" * room})
    with pytest.raises(InvalidText, match="16,385 bytes"):
        checks.metadata({"x": "a" * (room + 1)})
    with pytest.raises(InvalidText, match="bytes"):
        checks.metadata({"x": "é" * room})


# -- times -------------------------------------------------------------------------------------------------------------


class Nowhere(tzinfo):
    """A zone that does not know its own offset."""

    def utcoffset(self, when: datetime | None) -> None:
        """Not known."""

    dst = tzname = utcoffset


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=45))])
def test_a_time_with_a_zone_is_a_moment(zone: tzinfo) -> None:
    moment = datetime(2026, 1, 5, tzinfo=zone)

    assert checks.moment_or_none(moment, "expires_at") == moment


def test_no_time_is_none() -> None:
    assert checks.moment_or_none(None, "expires_at") is None


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 5), datetime(2026, 1, 5, tzinfo=Nowhere()), "2026-01-05T00:00:00Z", 0],  # noqa: DTZ001
)
def test_a_time_without_a_zone_is_refused(value: object) -> None:
    with pytest.raises(InvalidTime):
        checks.moment_or_none(value, "expires_at")


# -- costs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (0, "0"), (3, "3"), (0.1, "0.1"), ("1.25", "1.25"), (Decimal("0.0000005"), "0"), (Decimal("0.0000015"), "2E-6"),
        (10**12, "1E+12"),
    ],
)  # fmt: skip
def test_a_cost_is_cents_with_six_decimals(value: object, cents: str) -> None:
    assert checks.cost_or_none(value) == Decimal(cents)


def test_no_cost_is_none_and_not_zero() -> None:
    assert checks.cost_or_none(None) is None


@pytest.mark.parametrize(
    "value", [-1, -0.01, 10**12 + 1, "a lot", "", "NaN", "sNaN", "Infinity", float("nan"), float("inf"), True, [1]]
)
def test_what_is_no_amount_of_money_is_no_cost(value: object) -> None:
    with pytest.raises(InvalidAmount):
        checks.cost_or_none(value)


# -- what a refusal shows ----------------------------------------------------------------------------------------------


def test_a_refusal_shows_what_it_was_given_but_never_all_of_a_long_one() -> None:
    with pytest.raises(InvalidAmount, match=r"not 'five'\.$"):
        checks.whole("five")
    with pytest.raises(InvalidAmount) as long_text:
        checks.whole("five" * 1000)
    with pytest.raises(InvalidAmount) as long_number:
        checks.whole(10**31)

    assert len(long_text.value.detail) < 120
    assert long_number.value.detail.endswith("not a number of over 30 digits.")


def test_metadata_nested_too_deeply_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(48):
        deep = {"in": deep}
    assert checks.metadata(deep) == deep
    with pytest.raises(InvalidText, match="nested deeper"):
        checks.metadata({"in": {"in": [deep]}})


def test_a_moment_is_told_in_utc_and_must_exist_there() -> None:
    east = timezone(timedelta(hours=14))
    assert checks.moment_or_none(datetime(2026, 1, 1, 14, tzinfo=east), "at") == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidTime, match="does not exist in UTC"):
        checks.moment_or_none(datetime.min.replace(tzinfo=east), "at")
