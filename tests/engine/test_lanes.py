"""Lanes of one process: an account is one lane's at a time, which saves conflicts; what is exact rests on no claim."""

from typing import Any

import pytest

from tokentill import InsufficientTokens, Till
from tokentill.engine.lane import Lane

ASKED, COVERED = 3_000, 1_000  # So many at once that a second lane joins in.
ROUNDS_MAX = 10  # In which two lanes must have met.


class Unclaimed(dict[int, int]):
    """Claims that nobody keeps: every lane takes what arrives for any account."""

    def setdefault(self, user: int, lane: int) -> int:
        return lane


@pytest.mark.parametrize("is_claimed", [True, False])
def test_two_lanes_of_a_process_race_only_without_claims_and_are_exact_all_the_same(
    database: str, monkeypatch: pytest.MonkeyPatch, is_claimed: bool
) -> None:
    conflicts: list[object] = []
    abandon = Lane._abandon

    def noted(lane: Lane, requests: Any) -> None:
        conflicts.append(requests)
        abandon(lane, requests)

    monkeypatch.setattr(Lane, "_abandon", noted)
    with Till(database) as till:
        if not is_claimed:
            engine = till.context.engine
            engine._inbox._at_work = Unclaimed()  # A fault, planted in the running till.
        for _ in range(ROUNDS_MAX):
            till.grant_tokens("alice", COVERED)
            spends = [till.asking.spend("alice", 1, "chat_conversation") for _ in range(ASKED)]

            answers = [till.submit(spend) for spend in spends]
            errors = [error for answer in answers if (error := answer.exception())]

            assert len(answers) - len(errors) == COVERED
            assert all(isinstance(error, InsufficientTokens) for error in errors)
            assert till.balance("alice").balance == 0
            if conflicts:
                break
        assert till.reconcile().findings == ()
    assert bool(conflicts) is not is_claimed
