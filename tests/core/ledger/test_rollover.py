"""Drips as the ledger decides them: what they give, what rolls over, what a cap takes, what is lost and reported."""

from tests.core.make import NOW, Book, boundary, days, drip, grant, pack, record, spend, sweep
from tokentill.core.ledger.journal import DripRow, Row, Transaction


def report(row: DripRow) -> tuple[int, int, int]:
    """What a drip says about the cycles before it: rolled over, from how many cycles, expired."""
    return row.rollover_from_previous, row.rollover_cycles_count, row.expired_tokens


def expirations(rows: list[Row]) -> list[tuple[int, int]]:
    """(lot, tokens) of every expiration row, in the order of the journal."""
    lost = (row for row in rows if isinstance(row, Transaction) and row.transaction_type == "expiration")
    return [(row.lot_moves[0][0], -row.token_amount) for row in lost]


def dripped(cycles: int, *, tokens: int = 100, cap: int | None = None, rollover_cycles: int = 3) -> Book:
    """A book with this many drips, each given at its boundary."""
    book = Book()
    for cycle in range(1, cycles + 1):
        book.do(drip(cycle, tokens, cap=cap, rollover_cycles=rollover_cycles), at=boundary(cycle))
    return book


# -- what a drip gives and reports -------------------------------------------------------------------------------------


def test_a_drip_opens_a_lot_and_says_which_period_it_is_for() -> None:
    book = Book()
    row = book.do(drip(2, 100), at=boundary(2))

    assert (row.drip_date, row.billing_period_start, row.billing_period_end) == (boundary(2), boundary(2), boundary(3))
    assert (row.balance_before, row.drip_amount, row.balance_after) == (0, 100, 100)
    assert (row.lot, row.lot_moves, row.debt_change) == (1, ((1, 100),), 0)
    (lot,) = book.account.lots
    assert (lot.kind, lot.subscription_id, lot.cycle_number, lot.expires_at) == ("drip", "monthly", 2, boundary(6))


def test_a_drip_that_was_paid_for_keeps_the_payment_with_its_lot() -> None:
    paid = pack(1, payment_id="pi_1").paid
    book = Book.of(drip(1, paid=paid))

    (lot,) = book.account.lots
    assert (lot.paid_cents, lot.currency, lot.payment_id) == (9_900, "usd", "pi_1")


def test_the_first_drip_rolls_nothing_over_and_not_itself_either() -> None:
    assert report(Book().do(drip(1))) == (0, 0, 0)


def test_unspent_tokens_roll_over_and_are_counted_by_cycle() -> None:
    book = dripped(3)
    book.do(spend(30), at=boundary(3))

    assert report(book.do(drip(4), at=boundary(4))) == (270, 3, 0)


def test_a_cycle_that_was_spent_to_the_end_counts_no_more() -> None:
    book = dripped(2)
    book.do(spend(100), at=boundary(2))

    assert report(book.do(drip(3), at=boundary(3))) == (100, 1, 0)


def test_after_three_more_cycles_the_rest_expires_at_the_boundary_and_the_drip_says_so() -> None:
    book = dripped(4)

    row = book.do(drip(5), at=boundary(5))

    assert report(row) == (300, 3, 100)
    assert expirations(book.rows) == [(1, 100)]
    assert book.balance == 400


def test_rollover_and_loss_are_reported_for_six_cycles_in_a_row() -> None:
    rows = [row for row in dripped(6).rows if isinstance(row, DripRow)]

    assert [report(row) for row in rows] == [
        (0, 0, 0), (100, 1, 0), (200, 2, 0), (300, 3, 0), (300, 3, 100), (300, 3, 100),
    ]  # fmt: skip


def test_a_loss_is_reported_once_whoever_wrote_its_expiration() -> None:
    """Swept long before the drip that reports it, and not again by the one after."""
    book = dripped(4)
    book.do(sweep(), at=boundary(5))

    assert report(book.do(drip(5), at=boundary(5) + days(1))) == (300, 3, 100)
    assert report(book.do(drip(6), at=boundary(6))) == (300, 3, 100)
    assert sum(tokens for _, tokens in expirations(book.rows)) == 200


def test_a_drip_that_is_caught_up_counts_what_its_boundary_saw() -> None:
    """Cycle 1 died at boundary 5: the drip of cycle 4, given after that, still rolls it over; cycle 5's does not."""
    book = dripped(3)
    late = boundary(5) + days(2)

    assert report(book.do(drip(4), at=late)) == (300, 3, 0)
    assert report(book.do(drip(5), at=late)) == (300, 3, 100)


def test_a_drip_that_is_caught_up_starts_when_its_cycle_did() -> None:
    row = Book().do(drip(1), at=NOW + days(3))

    assert row.effective_at == NOW


def test_a_drip_before_its_boundary_is_spendable_at_once() -> None:
    book = Book.of(drip(1), at=NOW - days(1))

    assert book.do(spend(100), at=NOW - days(1)).lot_moves == ((1, -100),)


def test_a_drip_whose_whole_life_has_passed_leaves_at_the_next_change() -> None:
    book = Book.of(drip(1), at=boundary(9))

    assert book.account.available(boundary(9)) == 0
    book.do(sweep(), at=boundary(9))
    assert (book.balance, book.left) == (0, {})


def test_two_subscriptions_roll_over_apart() -> None:
    book = Book.of(drip(1, subscription_id="a"), drip(1, 50, subscription_id="b"))

    assert report(book.do(drip(2, subscription_id="a"), at=boundary(2))) == (100, 1, 0)
    assert report(book.do(drip(2, subscription_id="b"), at=boundary(2))) == (50, 1, 0)


def test_one_subscriptions_drip_does_not_report_anothers_loss() -> None:
    book = Book.of(drip(1, subscription_id="a", rollover_cycles=0), drip(1, 50, subscription_id="b"))

    assert report(book.do(drip(2, subscription_id="b"), at=boundary(2))) == (50, 1, 0)
    assert report(book.do(drip(2, subscription_id="a"), at=boundary(2))) == (0, 0, 100)


def test_packs_and_gifts_are_no_rollover() -> None:
    book = Book.of(pack(1_000), grant(500), drip(1))

    assert report(book.do(drip(2), at=boundary(2))) == (100, 1, 0)


def test_a_packs_tokens_survive_any_number_of_renewals() -> None:
    book = Book.of(pack(1_000))
    for cycle in range(1, 12):
        book.do(drip(cycle, rollover_cycles=0), at=boundary(cycle))

    assert book.left[1] == 1_000


def test_what_is_owed_is_paid_from_the_drip_and_only_the_rest_rolls_over() -> None:
    book = Book.of(grant(10), record(40))

    row = book.do(drip(1))

    assert (row.lot_moves, row.debt_change, row.balance_after) == (((3, 70),), -30, 70)
    assert report(book.do(drip(2), at=boundary(2))) == (70, 1, 0)


# -- the cap on what rolls over ----------------------------------------------------------------------------------------


def test_above_the_cap_the_soonest_to_expire_goes_first() -> None:
    book = dripped(2)

    row = book.do(drip(3, cap=150), at=boundary(3))

    assert report(row) == (150, 2, 50)
    assert expirations(book.rows) == [(1, 50)]
    assert book.left == {1: 50, 2: 100, 4: 100}


def test_the_trim_is_an_expiration_at_the_boundary_however_late_the_drip_comes() -> None:
    book = dripped(2)
    book.do(drip(3, cap=150), at=boundary(3) + days(2))

    (trim,) = (row for row in book.rows if isinstance(row, Transaction))
    assert (trim.effective_at, trim.token_amount) == (boundary(3), -50)
    assert trim.metadata == {"kind": "drip", "cycle_number": 1}


def test_a_trim_is_reported_by_its_own_drip_and_by_no_later_one() -> None:
    book = dripped(2)
    book.do(drip(3, cap=150), at=boundary(3))

    assert report(book.do(drip(4), at=boundary(4))) == (250, 3, 0)


def test_what_rolls_over_up_to_the_cap_stays() -> None:
    book = dripped(2)

    assert report(book.do(drip(3, cap=200), at=boundary(3))) == (200, 2, 0)


def test_a_cap_of_nothing_rolls_nothing_over() -> None:
    book = dripped(2)

    row = book.do(drip(3, cap=0), at=boundary(3))

    assert report(row) == (0, 0, 200)
    assert book.left == {5: 100}


def test_a_cycle_that_the_cap_takes_whole_counts_no_more() -> None:
    book = dripped(2)

    assert report(book.do(drip(3, cap=60), at=boundary(3))) == (60, 1, 140)


def test_a_drip_that_is_caught_up_keeps_to_the_cap_though_the_tokens_have_died_since() -> None:
    """Cycle 1 died at boundary 3. At boundary 2 it was alive, and 60 of its 100 tokens rolled over."""
    book = Book.of(drip(1, rollover_cycles=1))

    assert report(book.do(drip(2, rollover_cycles=1, cap=60), at=boundary(3))) == (60, 1, 40)
    assert report(book.do(drip(3, rollover_cycles=1, cap=60), at=boundary(3))) == (60, 1, 100)
    assert expirations(book.rows) == [(1, 100), (3, 40)]


def test_the_cap_leaves_packs_gifts_and_other_subscriptions_alone() -> None:
    book = Book.of(pack(1_000), grant(500, expires_at=boundary(9)), drip(1, subscription_id="other"), drip(1))

    book.do(drip(2, cap=0), at=boundary(2))

    assert book.left == {1: 1_000, 2: 500, 3: 100, 6: 100}
