"""The ledger's README tells one account's history. This plays it, and looks for each row's figures in the text."""

from pathlib import Path

import tokentill
from tests.core import make
from tokentill.core.ledger.commands import Command

README = Path(tokentill.__file__).parent / "core" / "ledger" / "README.md"


def test_the_readmes_account_is_what_the_ledger_decides() -> None:
    book, told = make.Book(), " ".join(README.read_text("utf-8").split())
    hold = make.place(200)
    asked: list[Command] = [
        make.grant(300, expires_at=make.NOW + make.days(55)),
        make.pack(500),
        make.spend(350),
        hold,
        make.capture(hold.hold_id, 120),
        make.spend(400, on_insufficient="record"),
        make.grant(100),
    ]
    rows = []
    for command in asked:
        book.do(command)
        if command is hold:
            assert book.account.available(make.NOW) == 250 and "`available` is 250" in told
        else:
            rows.append(book.rows[-1])

    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows[2:]:
        change = row.balance_after - row.balance_before
        sign = "+" if change > 0 else "−"
        before, after = (str(balance).replace("-", "−") for balance in (row.balance_before, row.balance_after))
        assert f"Row {row.seq}: {sign}{abs(change)}, {before} → {after}" in told
    assert rows[2].lot_moves == ((1, -300), (2, -50)) and "lot 1 −300, lot 2 −50" in told
    assert rows[4].debt_change == 70 and "the other 70 are owed" in told
    assert rows[5].lot_moves == ((6, 30),) and "lot 6 opens with 30" in told
