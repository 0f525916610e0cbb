"""Subscriptions: where cycles begin, and when their tokens die."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.core.make import ALICE, NOW, boundary, days
from tokentill.core.plans.catalog import EXAMPLE, YEAR
from tokentill.core.plans.subscriptions import Cycle, Subscription, cycle_at, cycle_of, lot_expires_at

MONTHLY = Subscription(
    user_id=ALICE.user_id, subscription_id="monthly", plan_key="vision_pro_28day", billed_by="clock", anchor=NOW
)
PLAN = EXAMPLE.only_plan("drip")


# -- cycles ----------------------------------------------------------------------------------------------------------


def test_a_cycle_is_28_days_of_exactly_24_hours_across_the_change_to_summer_time() -> None:
    anchor = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
    cycle = cycle_at(replace(MONTHLY, anchor=anchor), 2)

    assert cycle == Cycle(2, datetime(2026, 4, 12, 12, 0, tzinfo=UTC), datetime(2026, 5, 10, 12, 0, tzinfo=UTC))


def test_cycles_count_the_same_from_an_anchor_written_in_another_zone() -> None:
    elsewhere = replace(MONTHLY, anchor=NOW.astimezone(timezone(timedelta(hours=-8))))

    assert cycle_at(elsewhere, 7) == cycle_at(MONTHLY, 7)


def test_one_cycle_ends_where_the_next_begins() -> None:
    assert cycle_at(MONTHLY, 3).ends_at == cycle_at(MONTHLY, 4).starts_at


def test_the_anchor_is_where_its_cycle_starts_whichever_that_is() -> None:
    moved = replace(MONTHLY, anchor=boundary(5), anchor_cycle=5)

    assert cycle_at(moved, 5).starts_at == boundary(5)
    assert cycle_at(moved, 1).starts_at == NOW


@pytest.mark.parametrize("beside", [timedelta(0), timedelta(seconds=90), -timedelta(days=1), timedelta(days=13)])
def test_a_paid_period_is_the_cycle_that_starts_nearest(beside: timedelta) -> None:
    assert cycle_of(MONTHLY, boundary(4) + beside) == 4


def test_a_paid_year_of_366_days_is_one_year() -> None:
    yearly = replace(MONTHLY, anchor=datetime(2027, 6, 1, tzinfo=UTC))

    assert cycle_of(yearly, datetime(2028, 6, 1, tzinfo=UTC), YEAR) == 2


def test_a_drips_tokens_die_after_its_own_cycle_and_three_more() -> None:
    assert lot_expires_at(cycle_at(MONTHLY, 1), PLAN) == boundary(5)


def test_without_rollover_they_die_with_their_cycle() -> None:
    assert lot_expires_at(cycle_at(MONTHLY, 1), replace(PLAN, rollover_cycles=0)) == boundary(2)


def test_an_annual_plans_tokens_die_when_the_year_ends_and_roll_over_nowhere() -> None:
    year = cycle_at(MONTHLY, 1, YEAR)

    assert lot_expires_at(year, EXAMPLE.only_plan("annual")) == NOW + days(365)
