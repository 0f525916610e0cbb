"""Whatever happens to members' money, however it is told, wherever the till breaks: tokens end in the closed form."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Clock
from tests.services.stripe.histories import ALL_POLICIES, Play, all_is_owed, anything, one_payment
from tokentill.core.ledger.reversals import Policies

OWING = Policies(refund="debt", dispute="debt")


@contextmanager
def playing(database: str, clock: Clock, policies: Policies) -> Iterator[Play]:
    play = Play(database, clock, policies)
    try:
        yield play
        assert play.fault.broken_count > 0
    finally:
        play.close()


@pytest.mark.timeout(300)
def test_where_all_is_owed_every_history_ends_in_the_closed_form(database: str, clock: Clock) -> None:
    with playing(database, clock, OWING) as play:
        for seed in range(10):
            all_is_owed(play, seed)


@pytest.mark.parametrize("policies", ALL_POLICIES, ids=str)
@pytest.mark.timeout(300)
def test_where_it_is_known_what_was_spent_every_policy_ends_in_its_closed_form(
    database: str, clock: Clock, policies: Policies
) -> None:
    with playing(database, clock, policies) as play:
        for seed in range(4):
            one_payment(play, seed)


@pytest.mark.parametrize("policies", [Policies(), Policies(refund="debt", dispute="forgive")], ids=str)
@pytest.mark.timeout(300)
def test_of_each_lot_is_gone_what_the_closed_form_says_for_what_was_spent_of_it(
    database: str, clock: Clock, policies: Policies
) -> None:
    with playing(database, clock, policies) as play:
        for seed in range(6):
            anything(play, seed)
