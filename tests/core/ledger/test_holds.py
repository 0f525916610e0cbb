"""Holds: what they keep from whom, and how they end."""

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.make import (
    ALICE,
    MOMENT,
    NOW,
    Book,
    capture,
    days,
    deduct,
    fresh_key,
    grant,
    place,
    record,
    renew,
    spend,
    sweep,
    void,
)
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Command
from tokentill.core.ledger.decide import Refused, decide
from tokentill.core.ledger.holds import HoldReceipt, address_of
from tokentill.core.users import User
from tokentill.core.values import replace
from tokentill.errors import (
    AccountFrozen,
    AccountNotFound,
    HoldClosed,
    HoldNotFound,
    IdempotencyConflict,
    InsufficientTokens,
)

TEN_MINUTES = timedelta(minutes=10)


# -- placing -----------------------------------------------------------------------------------------------------------


def test_what_is_held_is_out_of_reach_and_still_in_the_balance() -> None:
    book = Book.of(grant(100))
    book.place(70)

    assert (book.balance, book.available()) == (100, 30)
    assert isinstance(book.refusal(spend(31)), InsufficientTokens)
    assert isinstance(book.refusal(deduct(31)), InsufficientTokens)
    assert isinstance(book.refusal(place(31)), InsufficientTokens)
    book.do(spend(30))


def test_placing_writes_no_journal_row() -> None:
    book = Book.of(grant(100))

    assert book.do(place(70)) is None
    assert book.account.seq == 1


def test_what_is_due_cannot_be_held() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)))

    assert isinstance(book.refusal(place(1), at=NOW + days(1)), InsufficientTokens)
    book.do(place(100), at=NOW + days(1) - MOMENT)


def test_a_hold_prolongs_no_lot() -> None:
    """It is of the account: when the tokens die under it, it stands uncovered."""
    book = Book.of(grant(100, expires_at=NOW + timedelta(minutes=5)))
    hold = book.place(80)
    later = NOW + timedelta(minutes=5)

    assert book.available(later) == -80
    assert isinstance(book.refusal(capture(hold, on_insufficient="refuse"), at=later), InsufficientTokens)
    assert book.do(capture(hold), at=later).debt_change == 80


def test_an_overdraft_may_be_held_as_it_may_be_spent() -> None:
    book = Book.of(grant(100), overdraft_limit=40)

    assert isinstance(book.refusal(place(141)), InsufficientTokens)
    book.place(140)
    assert isinstance(book.refusal(spend(1)), InsufficientTokens)


def test_a_frozen_account_places_and_renews_nothing_and_captures_what_it_promised() -> None:
    book = Book.of(grant(100))
    hold, other = book.place(50), book.place(10)
    frozen = Book(replace(book.account, frozen_at=NOW), holds=book.holds)

    assert isinstance(frozen.refusal(place(1)), AccountFrozen)
    assert isinstance(frozen.refusal(renew(hold)), AccountFrozen)
    assert frozen.do(capture(hold, 40, on_insufficient="refuse")).tokens_used == 40
    assert isinstance(frozen.refusal(capture(other, on_insufficient="refuse"), at=NOW + days(1)), AccountFrozen)
    assert frozen.do(void(other)) is None


def test_nobody_without_an_account_holds_anything() -> None:
    for command in (place(1), renew(UUID(int=1)), void(UUID(int=1)), capture(UUID(int=1))):
        decision = decide(None, command, at=NOW)
        assert isinstance(decision, Refused) and isinstance(decision.error, AccountNotFound)


def test_the_same_request_again_is_answered_with_the_hold_as_it_stands() -> None:
    book = Book.of(grant(100))
    request = place(100)
    book.do(request)
    again = book.ask(request)
    book.do(capture(request.hold_id, 60))
    after = book.ask(request)

    assert not isinstance(again, Refused) and again.hold is not None and again.hold.state == "placed"
    assert not isinstance(after, Refused) and after.hold is not None and after.hold.state == "captured"
    assert not after.is_hold_changed
    assert book.balance == 40


def test_the_same_key_for_another_hold_is_a_conflict() -> None:
    book = Book.of(grant(100))
    first, second = (Key.of_caller("k", {"tokens": tokens}) for tokens in (1, 2))
    book.do(place(1, key=first))

    assert isinstance(book.refusal(place(2, key=second)), IdempotencyConflict)


# -- capturing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "left"), [(0, 100), (40, 60), (70, 30), (90, 10), (130, -30)])
def test_a_capture_takes_what_the_call_took_and_frees_the_rest(tokens: int, left: int) -> None:
    book = Book.of(grant(100))
    hold = book.place(70)

    row = book.do(capture(hold, tokens))

    assert (row.tokens_used, row.hold_id, row.call.action_type) == (tokens, hold, "chat_conversation")
    assert (book.balance, book.available()) == (left, left)
    assert (book.holds[hold].state, book.holds[hold].captured_seq, book.holds[hold].closed_at) == (
        "captured",
        row.seq,
        NOW,
    )


def test_without_a_number_all_that_was_held_is_taken() -> None:
    book = Book.of(grant(100))
    hold = book.place(70, model="gpt-5")

    row = book.do(capture(hold))

    assert (row.tokens_used, row.call.model_used) == (70, "gpt-5")


def test_a_capture_says_better_what_it_was() -> None:
    book = Book.of(grant(100))
    hold = book.place(70, model="gpt-5")

    row = book.do(capture(hold, 1, action_type="vision_generation", model_used="gpt-6"))

    assert (row.call.action_type, row.call.model_used) == ("vision_generation", "gpt-6")


def test_a_capture_that_may_be_refused_reaches_its_own_hold_and_no_other() -> None:
    book = Book.of(grant(100), overdraft_limit=5)
    hold, _ = book.place(50), book.place(30)

    error = book.refusal(capture(hold, 76, on_insufficient="refuse"))

    assert isinstance(error, InsufficientTokens)
    assert (error.available_tokens, error.shortfall_tokens) == (70, 1)
    assert book.holds[hold].state == "placed" and book.account.held(NOW) == 80, "a refusal frees nothing"
    book.do(capture(hold, 75, on_insufficient="refuse"))


def test_an_expired_hold_is_captured_by_a_spend_like_any_other() -> None:
    book = Book.of(grant(100))
    hold = book.place(60)
    book.do(spend(90), at=NOW + TEN_MINUTES)

    assert isinstance(book.refusal(capture(hold, on_insufficient="refuse"), at=NOW + TEN_MINUTES), InsufficientTokens)
    assert book.do(capture(hold), at=NOW + TEN_MINUTES).balance_after == -50
    assert book.holds[hold].state == "captured"


def test_the_dead_leave_before_a_capture_draws() -> None:
    book = Book.of(grant(100, expires_at=NOW + timedelta(minutes=5)), grant(100))
    hold = book.place(150)

    row = book.do(capture(hold), at=NOW + timedelta(minutes=5))

    assert [type(each).__name__ for each in book.rows[-2:]] == ["Transaction", "UsageRow"]
    assert (row.lot_moves, row.debt_change) == (((2, -100),), 50)
    assert book.holds[hold].captured_seq == row.seq == 4


# -- renewing, voiding, expiring ---------------------------------------------------------------------------------------


def test_a_hold_is_open_until_the_very_instant_it_expires() -> None:
    book = Book.of(grant(100))
    hold = book.place(70)
    end = NOW + TEN_MINUTES

    assert (book.available(end - MOMENT), book.available(end)) == (30, 100)
    assert (book.holds[hold].state_at(end - MOMENT), book.holds[hold].state_at(end)) == ("placed", "expired")
    book.do(spend(100), at=end)


def test_renewing_lets_it_live_longer_and_never_shorter() -> None:
    book = Book.of(grant(100))
    hold = book.place(70)

    book.do(renew(hold, ttl=timedelta(minutes=4)), at=NOW + timedelta(minutes=5))
    assert book.holds[hold].expires_at == NOW + TEN_MINUTES
    book.do(renew(hold, ttl=TEN_MINUTES), at=NOW + timedelta(minutes=5))
    assert book.holds[hold].expires_at == NOW + timedelta(minutes=15)
    assert book.available(NOW + timedelta(minutes=14)) == 30


def test_only_an_open_hold_is_renewed() -> None:
    book = Book.of(grant(100))
    captured, voided, expired = book.place(10), book.place(10), book.place(10)
    book.do(capture(captured))
    book.do(void(voided))

    told = {hold: book.refusal(renew(hold), at=NOW + TEN_MINUTES) for hold in (captured, voided, expired)}

    assert all(isinstance(error, HoldClosed) for error in told.values())
    assert [error.fields["state"] for error in told.values()] == ["captured", "voided", "expired"]


def test_voiding_frees_everything_and_may_be_repeated() -> None:
    book = Book.of(grant(100))
    hold = book.place(70)

    book.do(void(hold))
    before = book.account
    book.do(void(hold), at=NOW + days(1))

    assert book.available() == 100
    assert book.account == before, "the second time there is nothing to write"
    assert book.holds[hold].closed_at == NOW


def test_what_has_expired_is_free_already() -> None:
    book = Book.of(grant(100))
    hold = book.place(70)

    decision = book.ask(void(hold), at=NOW + TEN_MINUTES)

    assert not isinstance(decision, Refused) and not decision.is_hold_changed
    assert book.holds[hold].state == "placed"


def test_how_a_hold_ended_stays_so() -> None:
    book = Book.of(grant(100))
    captured, voided = book.place(10), book.place(10)
    book.do(capture(captured))
    book.do(void(voided))

    assert isinstance(book.refusal(void(captured)), HoldClosed)
    assert isinstance(book.refusal(capture(voided)), HoldClosed)
    assert isinstance(book.refusal(capture(captured)), HoldClosed), "its key answers a repeat; the ledger never does it"


def test_a_hold_that_never_was_is_not_found() -> None:
    book = Book.of(grant(100))

    for command in (renew(UUID(int=1)), void(UUID(int=1)), capture(UUID(int=1))):
        assert isinstance(book.refusal(command), HoldNotFound)


@pytest.mark.parametrize(
    "command", [spend(1), grant(1), sweep(), place(1, ttl=days(1))], ids=lambda c: type(c).__name__
)
def test_an_account_forgets_holds_that_can_live_no_more(command: Command) -> None:
    """So it never grows with what is over: neither in memory nor when it is loaded."""
    book = Book.of(grant(100), grant(5, expires_at=NOW + timedelta(minutes=1)))
    over, lasting = book.place(10), book.place(10, ttl=days(2))

    book.do(command, at=NOW + TEN_MINUTES)

    open_ones = {hold.hold_id for hold in book.account.holds}
    assert lasting in open_ones and over not in open_ones


# -- always ------------------------------------------------------------------------------------------------------------

small = st.integers(1, 60)
askings = st.one_of(
    st.builds(spend, small), st.builds(deduct, small), st.builds(place, small), st.builds(grant, small)
)  # fmt: skip


@given(given_tokens=st.integers(1, 200), share=st.floats(0, 1), others=st.lists(askings, max_size=15))
def test_whatever_others_ask_for_first_what_is_held_is_there(
    given_tokens: int, share: float, others: list[Command]
) -> None:
    """No spend, deduction or hold that may be refused gets at it: its capture in full never is."""
    book = Book.of(grant(given_tokens))
    tokens = max(1, round(given_tokens * share))
    hold = book.place(tokens)
    for command in others:
        book.ask(command)

    assert book.available() >= 0
    assert book.do(capture(hold, on_insufficient="refuse")).tokens_used == tokens
    assert book.balance >= 0


@given(held=st.lists(small, min_size=1, max_size=6), recorded=st.integers(0, 300), taken=st.integers(0, 80))
def test_a_hold_that_is_voided_has_never_been(held: list[int], recorded: int, taken: int) -> None:
    gift, happened = grant(400), record(recorded)
    plain, holding = Book.of(gift), Book.of(gift)
    holds = [holding.place(tokens) for tokens in held]
    for book in (plain, holding):
        book.do(happened)
    for hold in holds:
        holding.do(void(hold))

    request = spend(taken)
    assert isinstance(plain.ask(request), Refused) == isinstance(holding.ask(request), Refused)
    assert (plain.balance, plain.left, plain.rows) == (holding.balance, holding.left, holding.rows)


@given(tokens=small, taken=st.integers(0, 120))
def test_placing_and_capturing_is_spending(tokens: int, taken: int) -> None:
    """The same balance, lots and debt as if the size had been known, and one row for it."""
    known, held = Book.of(grant(100)), Book.of(grant(100))
    known.do(record(taken))
    held.do(capture(held.place(tokens), taken))

    assert (known.balance, known.account.debt, known.left) == (held.balance, held.account.debt, held.left)
    assert len(known.rows) == len(held.rows)


# -- naming ------------------------------------------------------------------------------------------------------------


def test_an_id_names_the_account_and_the_hold() -> None:
    book = Book.of(grant(100))
    hold_id = book.place(70)
    receipt = HoldReceipt.of(book.holds[hold_id], ALICE, at=NOW)

    assert address_of(receipt.id) == (ALICE.user_id, hold_id)
    assert receipt.name == "alice"
    assert HoldReceipt.of(book.holds[hold_id], User(ALICE.user_id), at=NOW).name == str(ALICE.user_id)


@pytest.mark.parametrize("text", ["", "hold_", "hold_" + "0" * 63, "hold_" + "0" * 65, "hold_" + "G" * 64, "x" * 69])
def test_other_texts_name_nothing(text: str) -> None:
    assert address_of(text) is None


def test_a_key_is_a_holds_name() -> None:
    key = fresh_key()

    assert place(1, key=key).hold_id == UUID(bytes=key.value)
