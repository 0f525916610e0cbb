"""Values of the hot path, made in C, and the dataclasses beside them: both copy, compare and tell their fields."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from uuid import UUID

import pytest

from tests.core.make import ALICE, NOW, make_lot
from tokentill.core import checks
from tokentill.core.keys import EventKeys, Key
from tokentill.core.ledger.holds import Hold, HoldReceipt
from tokentill.core.values import asdict, replace


@dataclass(frozen=True)
class Plain:
    name: str
    count: int = 1


def test_a_value_is_not_written_to() -> None:
    with pytest.raises(AttributeError):
        make_lot(1, 100).remaining = 99  # type: ignore[misc]


def test_a_copy_differs_in_what_was_changed_alone() -> None:
    lot = make_lot(1, 100)

    assert replace(lot, remaining=40) == make_lot(1, 40, granted=100)
    assert (lot.remaining, replace(Plain("a"), count=2)) == (100, Plain("a", 2))


def test_values_tell_their_fields_by_name_whatever_they_are_made_of() -> None:
    lot = asdict(make_lot(1, 100))

    assert (lot["lot"], lot["remaining"], lot["expires_at"]) == (1, 100, None)
    assert asdict(Plain("a", 2)) == {"name": "a", "count": 2}


def test_a_receipt_of_a_hold_is_the_same_the_second_time_it_is_given() -> None:
    hold = Hold(UUID(int=7), b"\0" * 16, 60, "chat_conversation", NOW, NOW + timedelta(minutes=10))
    first = HoldReceipt.of(hold, ALICE, at=NOW)
    again = HoldReceipt.of(hold, ALICE, at=NOW, is_replay=True)
    later = HoldReceipt.of(hold, ALICE, at=NOW + timedelta(minutes=10))

    assert {first, again} == {first}
    assert (later == first, later.state) == (False, "expired")


def test_events_of_a_batch_are_named_by_its_key_and_their_place() -> None:
    batch = "01941F29-7C00-7AAA-8BBB-123456789ABC"
    keys = EventKeys(batch)

    assert keys.of(3) == EventKeys(batch.lower()).of(3)
    assert len({keys.of(0), keys.of(1), EventKeys("another").of(0), EventKeys("another").of(1)}) == 4
    assert keys.of(0).startswith("01941f29-7c00-7"), "of the same time"
    assert Key.of_caller(keys.of(0), {}).value == UUID(keys.of(0)).bytes, "and a UUIDv7 to the till"


def test_a_whole_number_of_another_kind_is_taken_within_the_same_bounds() -> None:
    class Size(IntEnum):
        SMALL = 5

    assert checks.whole(Size.SMALL) == 5
