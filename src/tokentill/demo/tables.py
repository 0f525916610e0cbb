"""Tables of the demo: a member's lots, a member's latest rows, and the answer to a query, cut to the page's width."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from rich import box
from rich.table import Table

from tokentill.demo import words
from tokentill.demo.queries import Asked
from tokentill.demo.report import MemberReport
from tokentill.demo.words import number, signed
from tokentill.store.reports import Entry

CELL_MAX = 44
COLUMNS_SHOWN_WHOLE = 6  # An answer of so few columns is a chosen one: all of them are shown.


def lots(report: MemberReport, now: datetime) -> Table:
    """The lots that have tokens left, first to burn first."""
    opened = {entry.seq: entry for entry in report.history}
    table = _table()
    table.add_column("lot", justify="right")
    table.add_column("what it is", no_wrap=True)
    table.add_column("granted", justify="right")
    table.add_column("left", justify="right", style="bold")
    table.add_column("expires")
    table.add_column("paid", justify="right")
    for lot in report.lots:
        table.add_row(
            str(lot.lot), words.lot_name(lot, opened[lot.lot]), number(lot.granted), number(lot.remaining),
            words.expiry(lot, now), words.dollars(lot.paid_cents) if lot.paid_cents else "",
        )  # fmt: skip
    return table


def history(report: MemberReport, now: datetime, *, limit: int) -> Table:
    """The latest rows, newest first; like calls in a row share a line."""
    table = _table()
    table.add_column("seq", justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("balance", justify="right", style="bold", no_wrap=True)
    table.add_column("", style="dim")
    for run in _runs(report.history)[-limit:][::-1]:
        first, last = run[0], run[-1]
        table.add_row(
            str(last.seq) if first is last else f"{first.seq}–{last.seq}",
            words.day_near(last.effective_at, now),
            last.type if first is last else f"{len(run)} × {last.type}",
            signed(sum(entry.tokens for entry in run)) or "0",
            number(last.balance_after),
            words.entry_detail(last),
        )  # fmt: skip
    return table


def _runs(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Put like calls of one day that follow each other together; every other row stands alone."""

    def likeness(entry: Entry) -> tuple[object, ...]:
        if entry.kind != "usage":
            return (entry.seq,)
        return (entry.type, entry.effective_at.date(), entry.detail.get("success"))

    return [list(run) for _, run in groupby(entries, key=likeness)]


def answer(asked: Asked, *, limit: int, width: int) -> tuple[Table, str]:
    """The first rows of an answer, and a line that says what of it is not shown.

    Of a wide answer, the columns that say something in these rows come in their order while there is room.
    """
    rows = asked.answer.rows[:limit]
    chosen = _columns_that_fit(asked.answer.columns, rows, width)
    table = _table()
    for index in chosen:
        is_number = any(_is_number(row[index]) for row in rows)
        table.add_column(asked.answer.columns[index], justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cut(words.cell(row[index])) for index in chosen))

    hidden = [name for index, name in enumerate(asked.answer.columns) if index not in chosen]
    said = words.counted(len(asked.answer.rows), "row")
    if len(rows) < len(asked.answer.rows):
        said += f", {len(rows)} shown"
    if hidden:
        said += f"; columns not shown: {', '.join(hidden)}"
    return table, said


def _columns_that_fit(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> list[int]:
    every = list(range(len(columns)))
    if len(columns) <= COLUMNS_SHOWN_WHOLE:
        return every
    chosen, used = [], 0
    for index in every:
        values = [row[index] for row in rows]
        says_nothing = all(value is None for value in values) or columns[index].endswith("_id")
        if says_nothing or any(isinstance(value, UUID | dict | list) for value in values):
            continue
        wide = max(len(columns[index]), *(len(_cut(words.cell(value))) for value in values)) + 2
        if used + wide <= width:
            chosen.append(index)
            used += wide
    return chosen


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_MAX else f"{text[: CELL_MAX - 1]}…"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
