"""What failed is tried again ever more seldom, and in the end only by hand."""

from datetime import timedelta

import pytest

from tests.conftest import START
from tokentill.core.retries import next_attempt_at


def test_waits_grow_and_end() -> None:
    waits = [next_attempt_at(attempts, at=START) for attempts in range(1, 17)]

    minutes = [None if at is None else (at - START) / timedelta(minutes=1) for at in waits]
    assert minutes == [1, 5, 30, 120, 360, 720, *[1440] * 8, None, None]


def test_before_the_first_attempt_there_is_nothing_to_try_again() -> None:
    with pytest.raises(AssertionError):
        next_attempt_at(0, at=START)
