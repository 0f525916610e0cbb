"""The ledger: what each command does to an account, and what it refuses."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.core.make import (
    ALICE,
    MOMENT,
    NOW,
    Book,
    annual,
    boundary,
    days,
    deduct,
    drip,
    grant,
    make_lot,
    pack,
    record,
    redate,
    spend,
    sweep,
)
from tokentill.core.findings import CHECKS, Finding
from tokentill.core.ledger.account import Account
from tokentill.core.ledger.commands import Command, Paid
from tokentill.core.ledger.decide import BALANCE_MAX, Decided, Refused, _check, decide
from tokentill.core.ledger.journal import Transaction
from tokentill.core.values import replace
from tokentill.errors import AccountFrozen, AccountNotFound, InsufficientTokens, InvalidAmount, InvalidTime


def the_row(book: Book, seq: int) -> Transaction:
    row = book.rows[seq - 1]
    assert isinstance(row, Transaction)
    return row


# -- accounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [grant(100), pack(100), drip(1)], ids=["grant", "pack", "drip"])
def test_grants_purchases_and_drips_open_an_account(command: Command) -> None:
    decision = decide(None, command, at=NOW)

    assert isinstance(decision, Decided)
    assert (decision.account.user_id, decision.account.external_id) == (ALICE.user_id, "alice")
    assert (decision.account.seq, decision.account.balance) == (1, 100)


@pytest.mark.parametrize("command", [spend(0), record(5), deduct(5), sweep(), redate(1, NOW)])
def test_everything_else_needs_one(command: Command) -> None:
    decision = decide(None, command, at=NOW)

    assert isinstance(decision, Refused)
    assert isinstance(decision.error, AccountNotFound)
    assert decision.error.fields == {"user_id": "alice"}


def test_an_accounts_own_time_never_runs_backwards() -> None:
    """A lot that was dead at the account's last decision stays dead for a decision dated before that."""
    book = Book.of(grant(100, expires_at=NOW + days(1)), grant(50))
    book.do(spend(0), at=NOW + days(2))

    row = book.do(spend(50), at=NOW)

    assert (row.occurred_at, book.account.last_at, book.balance) == (NOW + days(2), NOW + days(2), 0)


def test_a_lot_given_later_burns_for_a_spend_that_asks_for_an_earlier_moment() -> None:
    book = Book()
    book.do(grant(100), at=NOW)

    assert book.do(spend(100), at=NOW - days(1)).lot_moves == ((1, -100),)


# -- grants ------------------------------------------------------------------------------------------------------------


def test_a_grant_opens_a_lot_named_by_its_row() -> None:
    book = Book.of(grant(30), grant(100, priority=10, reason="welcome", created_by="bob", metadata={"a": 1}))

    row = the_row(book, 2)
    assert (row.transaction_type, row.source, row.token_amount) == ("grant", "admin", 100)
    assert (row.balance_before, row.balance_after, row.lot, row.lot_moves) == (30, 130, 2, ((2, 100),))
    assert (row.reason, row.created_by, row.metadata, row.effective_at) == ("welcome", "bob", {"a": 1}, NOW)
    assert (row.amount_paid_cents, row.currency, row.stripe_payment_intent_id) == (None, None, None)
    assert book.account.lot(2) == make_lot(2, 100, priority=10)
    assert book.account.lot(3) is None


def test_a_pack_keeps_what_was_paid_with_its_lot_and_its_row() -> None:
    paid = Paid(amount_cents=9_900, currency="usd", payment_id="pi_1", session_id="cs_1", invoice_id="in_1")
    book = Book.of(pack(100, paid=paid, token_pack_id="power"))

    row, (lot,) = the_row(book, 1), book.account.lots
    assert (row.transaction_type, row.source, row.token_pack_id) == ("purchase", "token_pack", "power")
    assert (row.amount_paid_cents, row.currency) == (9_900, "usd")
    assert (row.stripe_payment_intent_id, row.stripe_session_id, row.stripe_invoice_id) == ("pi_1", "cs_1", "in_1")
    assert (lot.paid_cents, lot.currency, lot.payment_id, lot.expires_at) == (9_900, "usd", "pi_1", None)


def test_a_session_that_stands_for_the_payment_is_no_payment_intent() -> None:
    book = Book.of(pack(100, payment_id="cs_1"))

    assert the_row(book, 1).stripe_payment_intent_id is None
    assert book.account.lots[0].payment_id == "cs_1"


def test_a_grant_takes_nothing_from_what_is_there() -> None:
    """An annual grant adds to the balance; the system before this one set it."""
    book = Book.of(pack(2_000), drip(1), annual(5_000, expires_at=NOW + days(365)))

    assert book.balance == 7_100
    assert book.left == {1: 2_000, 2: 100, 3: 5_000}


def test_a_grant_that_is_caught_up_keeps_its_own_time() -> None:
    book = Book.of(grant(100, effective_at=NOW - days(3)))

    assert the_row(book, 1).effective_at == book.account.lots[0].effective_at == NOW - days(3)


def test_no_lot_begins_in_the_future() -> None:
    book = Book.of(grant(100, effective_at=NOW + days(3)))

    assert book.account.lots[0].effective_at == NOW


def test_tokens_that_would_expire_before_they_can_be_spent_are_refused() -> None:
    assert isinstance(Book().refusal(grant(100, expires_at=NOW)), InvalidTime)
    assert Book().do(grant(100, expires_at=NOW + MOMENT)).token_amount == 100


def test_a_grant_that_was_over_before_it_was_caught_up_leaves_at_the_next_change() -> None:
    book = Book.of(grant(100, effective_at=NOW - days(9), expires_at=NOW - days(1)))

    assert (book.balance, book.account.available(NOW)) == (100, 0)
    book.do(sweep())
    assert book.balance == 0


@pytest.mark.parametrize("more", [grant, lambda tokens: drip(1, tokens)], ids=["grant", "drip"])
def test_a_balance_stays_countable(more: Callable[[int], Command]) -> None:
    book = Book.of(grant(BALANCE_MAX - 5))

    error = book.refusal(more(6))
    assert isinstance(error, InvalidAmount)
    assert error.fields == {"tokens": 6, "balance": BALANCE_MAX - 5}
    assert book.do(more(5)).balance_after == BALANCE_MAX


def test_room_is_made_by_what_is_due() -> None:
    book = Book.of(grant(BALANCE_MAX, expires_at=NOW + days(1)))

    assert book.do(grant(1), at=NOW + days(1)).balance_after == 1


# -- spending ----------------------------------------------------------------------------------------------------------


def test_a_spend_says_what_it_was_for_and_which_lots_it_drew() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)), grant(500))
    call = spend(
        130, model_used="gpt-4o", input_tokens=90, output_tokens=40, pools={"output_text": 40},
        cost_estimate=Decimal("0.5"), estimated=True, provider_request_id="req_1", metadata={"a": 1},
        occurred_at=NOW - days(1),
    )  # fmt: skip

    row = book.do(call)

    assert (row.seq, row.tokens_used, row.balance_before, row.balance_after) == (3, 130, 600, 470)
    assert (row.lot_moves, row.debt_change) == (((1, -100), (2, -30)), 0)
    assert (row.call.action_type, row.call.model_used, row.call.input_tokens, row.call.output_tokens) == (
        "chat_conversation", "gpt-4o", 90, 40,
    )  # fmt: skip
    assert (row.call.pools, row.call.cost_estimate, row.call.estimated) == ({"output_text": 40}, Decimal("0.5"), True)
    assert (row.call.provider_request_id, row.call.metadata, row.occurred_at) == ("req_1", {"a": 1}, NOW - days(1))
    assert row.idempotency_key == call.key.value
    assert book.left == {2: 470}


def test_a_spend_of_no_tokens_is_a_row_too() -> None:
    book = Book.of(grant(100))

    row = book.do(spend(0, success=False, error_message="timeout"))

    assert (row.seq, row.tokens_used, row.lot_moves, row.balance_after) == (2, 0, (), 100)
    assert (row.call.success, row.call.error_message) == (False, "timeout")


def test_a_spend_is_refused_by_the_first_token_too_many() -> None:
    book = Book.of(grant(100))

    error = book.refusal(spend(101))
    assert isinstance(error, InsufficientTokens)
    assert error.fields == {"requested_tokens": 101, "available_tokens": 100, "shortfall_tokens": 1}
    assert book.do(spend(100)).balance_after == 0


def test_a_refusal_changes_nothing_not_even_what_is_due() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)))
    before = book.account

    error = book.refusal(spend(1), at=NOW + days(1))

    assert error.fields["available_tokens"] == 0
    assert book.account == before
    assert len(book.rows) == 1


def test_the_dead_leave_before_a_spend_draws() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)), grant(50))

    row = book.do(spend(20), at=NOW + days(1))

    assert the_row(book, 3).transaction_type == "expiration"
    assert (row.seq, row.balance_before, row.lot_moves) == (4, 50, ((2, -20),))


def test_the_overdraft_limit_lends() -> None:
    book = Book.of(grant(100), overdraft_limit=30)

    error = book.refusal(spend(131))
    assert error.fields == {"requested_tokens": 131, "available_tokens": 100, "shortfall_tokens": 1}
    row = book.do(spend(130))
    assert (row.lot_moves, row.debt_change, row.balance_after) == (((1, -100),), 30, -30)
    assert isinstance(book.refusal(spend(1)), InsufficientTokens)


def test_in_debt_a_spend_of_nothing_is_still_recorded() -> None:
    book = Book.of(grant(100), record(130))

    assert book.do(spend(0)).balance_after == -30
    assert isinstance(book.refusal(spend(1)), InsufficientTokens)


def test_recorded_usage_goes_into_debt_in_full() -> None:
    book = Book.of(grant(100))

    row = book.do(record(130))

    assert (row.tokens_used, row.lot_moves, row.debt_change) == (130, ((1, -100),), 30)
    assert (book.balance, book.account.debt, book.left) == (-30, 30, {})


def test_a_frozen_account_refuses_spends_but_not_what_has_happened() -> None:
    book = Book.of(grant(100), frozen_at=NOW)

    error = book.refusal(spend(1))
    assert isinstance(error, AccountFrozen)
    assert error.fields == {"user_id": "alice"}
    assert book.do(record(1)).balance_after == 99
    assert book.do(deduct(1)).balance_after == 98


# -- debt --------------------------------------------------------------------------------------------------------------


def test_the_next_grant_repays_the_debt_and_only_the_rest_stays() -> None:
    book = Book.of(grant(10), record(40), grant(100))

    row = the_row(book, 3)
    assert (row.token_amount, row.lot_moves, row.debt_change) == (100, ((3, 70),), -30)
    assert (book.balance, book.account.debt, book.left) == (70, 0, {3: 70})


def test_a_grant_smaller_than_the_debt_opens_no_lot_that_is_open() -> None:
    book = Book.of(grant(10), record(40))

    decision = book.ask(grant(20))

    assert isinstance(decision, Decided)
    assert (the_row(book, 3).lot_moves, the_row(book, 3).debt_change) == ((), -20)
    assert (book.balance, book.account.debt, book.left) == (-10, 10, {})
    assert [lot.granted for lot in decision.opened] == [20]


def test_a_grant_of_just_the_debt_leaves_nothing_on_either_side() -> None:
    book = Book.of(grant(10), record(40), grant(30))

    assert (book.balance, book.account.debt, book.left) == (0, 0, {})


# -- deductions --------------------------------------------------------------------------------------------------------


def test_a_deduction_draws_in_burn_order() -> None:
    book = Book.of(pack(100), grant(100))

    row = book.do(deduct(130, reason="refund", created_by="bob", metadata={"a": 1}))

    assert (row.transaction_type, row.source, row.token_amount) == ("deduction", "admin", -130)
    assert (row.lot_moves, row.balance_after, row.effective_at) == (((2, -100), (1, -30)), 70, NOW)
    assert (row.reason, row.created_by, row.metadata) == ("refund", "bob", {"a": 1})


def test_a_deduction_never_borrows_unless_it_is_forced() -> None:
    """The overdraft limit is credit for spending, not for being taken from."""
    book = Book.of(grant(100), overdraft_limit=1_000)

    error = book.refusal(deduct(101))
    assert isinstance(error, InsufficientTokens)
    assert error.fields == {"requested_tokens": 101, "available_tokens": 100, "shortfall_tokens": 1}
    row = book.do(deduct(101, is_forced=True))
    assert (row.lot_moves, row.debt_change, row.balance_after) == (((1, -100),), 1, -1)


def test_a_deduction_never_takes_what_is_due() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)), grant(50))

    assert isinstance(book.refusal(deduct(51), at=NOW + days(1)), InsufficientTokens)
    assert book.do(deduct(50), at=NOW + days(1)).lot_moves == ((2, -50),)


# -- expiry ------------------------------------------------------------------------------------------------------------


def test_every_death_has_a_row_of_its_own_in_the_order_they_died() -> None:
    book = Book.of(
        grant(10, expires_at=NOW + days(3), priority=10),
        grant(20, kind="trial", source="trial", expires_at=NOW + days(1)),
        annual(30, expires_at=NOW + days(2), subscription_id="yearly", cycle_number=4),
        grant(40),
    )

    book.do(sweep(), at=NOW + days(9))

    lost = [the_row(book, seq) for seq in (5, 6, 7)]
    assert {row.transaction_type for row in lost} == {"expiration"}
    assert [(row.source, row.token_amount, row.lot_moves) for row in lost] == [
        ("trial", -20, ((2, -20),)), ("subscription", -30, ((3, -30),)), ("admin", -10, ((1, -10),)),
    ]  # fmt: skip
    assert [row.effective_at for row in lost] == [NOW + days(1), NOW + days(2), NOW + days(3)]
    assert [row.metadata for row in lost] == [
        {"kind": "trial"}, {"kind": "subscription", "cycle_number": 4}, {"kind": "admin"},
    ]  # fmt: skip
    assert [row.subscription_id for row in lost] == [None, "yearly", None]
    assert book.left == {4: 40}


def test_of_two_that_die_together_the_older_lot_goes_first() -> None:
    end = NOW + days(1)
    book = Book.of(grant(10, expires_at=end), grant(20, expires_at=end, priority=10))

    book.do(sweep(), at=end)

    assert [row.lot_moves for row in book.rows[2:]] == [((1, -10),), ((2, -20),)]


def test_tokens_can_be_spent_up_to_the_instant_before_they_expire() -> None:
    end = NOW + days(56)
    book = Book.of(grant(100, kind="trial", source="trial", expires_at=end))

    assert book.do(spend(60), at=end - MOMENT).balance_after == 40
    assert isinstance(book.refusal(spend(1), at=end), InsufficientTokens)


def test_sweeping_twice_finds_nothing_the_second_time() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)))

    assert book.do(sweep(), at=NOW + days(1)) is not None
    assert book.do(sweep(), at=NOW + days(1)) is None


def test_sweeping_leaves_packs_gifts_and_the_living_alone() -> None:
    book = Book.of(pack(100), grant(50), drip(1), annual(500, expires_at=NOW + days(365)))

    book.do(sweep(), at=boundary(5))

    assert book.left == {1: 100, 2: 50, 4: 500}


def test_what_is_due_is_not_available_even_before_a_sweep() -> None:
    book = Book.of(grant(100, expires_at=NOW + days(1)), grant(50))

    assert book.account.available(NOW + days(1) - MOMENT) == 150
    assert book.account.available(NOW + days(1)) == 50
    assert book.balance == 150


# -- a subscription's dates are corrected ----------------------------------------------------------------------------


def test_a_corrected_period_moves_the_end_of_that_cycles_lot_alone() -> None:
    book = Book.of(drip(1), drip(1, subscription_id="other"), pack(50))
    before = {lot.lot: lot for lot in book.account.lots}

    assert book.do(redate(1, boundary(5) + days(2))) is None

    after = {lot.lot: lot for lot in book.account.lots}
    assert after == {**before, 1: replace(before[1], expires_at=boundary(5) + days(2))}
    assert (book.balance, book.account.seq) == (250, 3)


def test_a_corrected_end_changes_what_burns_first() -> None:
    book = Book.of(drip(1), grant(100, expires_at=boundary(5) + days(1)))
    book.do(redate(1, boundary(5) + days(2)))

    assert [lot.lot for lot in book.account.lots] == [2, 1]
    assert book.do(spend(10)).lot_moves == ((2, -10),)


def test_no_lot_is_made_to_end_before_it_began() -> None:
    book = Book.of(drip(1))
    before = book.account

    book.do(redate(1, NOW))

    assert book.account == before


# -- the laws guard themselves -----------------------------------------------------------------------------------------


def test_a_decision_that_does_not_add_up_is_never_let_out() -> None:
    account = Book.of(grant(100)).account
    decided = decide(account, spend(30), at=NOW)
    assert isinstance(decided, Decided)
    (row,) = decided.rows
    wrong = [
        replace(decided, rows=(replace(row, seq=9),)),
        replace(decided, rows=(replace(row, balance_before=99, balance_after=69),)),
        replace(decided, rows=(replace(row, lot_moves=((1, -29),)),)),
        replace(decided, rows=()),
        replace(decided, account=replace(decided.account, balance=69)),
        replace(decided, account=replace(decided.account, lots=())),
        replace(decided, account=replace(decided.account, lots=(make_lot(1, 71),))),
    ]

    _check(account, decided)
    for one in wrong:
        with pytest.raises(AssertionError):
            _check(account, one)


def test_no_account_owes_tokens_and_has_some() -> None:
    owing = replace(Account.opened(ALICE), debt=5, balance=5, lots=(make_lot(1, 10),))

    with pytest.raises(AssertionError):
        _check(owing, Decided(owing))


# -- rows and findings name themselves -------------------------------------------------------------------------------


def test_a_row_says_which_journal_it_belongs_to() -> None:
    book = Book.of(grant(100), drip(1), spend(1))

    assert [row.kind for row in book.rows] == ["transaction", "drip", "usage"]


@pytest.mark.parametrize(("check", "law"), [("chain", 1), ("debt", 2), ("shown", 7)])
def test_a_finding_says_which_law_is_broken_and_how(check: str, law: int) -> None:
    finding = Finding(check=check, user_id=ALICE.user_id, seq=1, expected="a", found="b")

    assert finding.law == law
    assert finding.meaning == CHECKS[check][1]
