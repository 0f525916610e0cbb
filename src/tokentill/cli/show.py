"""Showing: tables for people, JSON for programs. Times in UTC, tokens with thousands separators.

Whatever a user or Stripe wrote is shown without its control characters: a reason must not drive the terminal.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokentill.core.values import asdict

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDTH_ELSEWHERE = 200  # In a file or a pipe nobody wraps lines.
FOLDED_WIDTH_MIN = 12  # A column of texts that is narrower is no longer read.
_IN_ASCII = str.maketrans({"→": "->", "…": "...", "–": "-", "’": "'"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said on the line for whichever command it is."""

    is_json: bool


def is_json(ctx: typer.Context) -> bool:
    """Whether `--json` stood anywhere on the line."""
    return isinstance(ctx.obj, Wanted) and ctx.obj.is_json


def _or_elsewhere(ctx: typer.Context, value: bool) -> bool:
    return value or is_json(ctx)


AsJson = Annotated[bool, typer.Option("--json", callback=_or_elsewhere, help="Answer with one JSON document.")]

_WHOLE = re.compile(r"[-+$.,:0-9]*|never|[0-9]{4}-[0-9-]+ [0-9:]+ UTC")  # Numbers and times.

Cell = object


def console(*, is_error: bool = False) -> Console:
    stream = sys.stderr if is_error else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDTH_ELSEWHERE)


def as_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=not _is_unicode()) + "\n")


def plain(value: object) -> Any:
    """Return `value` as JSON has it: times as RFC 3339 in UTC, ids and amounts of money as texts."""
    if isinstance(value, Struct) or (is_dataclass(value) and not isinstance(value, type)):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def view(found: "BaseModel | Struct") -> dict[str, Any]:
    """Return what the API answers, for JSON: one thing has the same names here and there."""
    shown: dict[str, Any] = plain(found if isinstance(found, Struct) else found.model_dump())
    return shown


def line(text: str) -> None:
    sys.stdout.write(_written(printable(text)) + "\n")


def table(title: str, columns: Mapping[str, str], rows: Sequence[Sequence[Cell]], *, empty: str) -> None:
    """Print a table, or where there are no rows the sentence `empty`, if it says anything.

    `columns` says each one's name and whether it is flushed "left" or "right". On a terminal that is too narrow for
    them, columns without a value vanish and long texts fold; where that is not enough, each row is a block of lines.
    Numbers and times are never broken.
    """
    if not rows:
        if empty:
            line(empty)
        return
    shown = [[_cell(cell) for cell in row] for row in rows]
    out = console()
    if out.is_terminal:
        named = list(columns)
        kept = [at for at in range(len(named)) if any(row[at].plain for row in shown)]
        columns = {named[at]: columns[named[at]] for at in kept}
        shown = [[row[at] for at in kept] for row in shown]
    natural = [
        max(cell_len(part) for text in (name, *(row[at].plain for row in shown)) for part in text.split("\n") or [""])
        for at, name in enumerate(columns)
    ]
    is_whole = [
        side == "right" or all(_WHOLE.fullmatch(row[at].plain) for row in shown)
        for at, side in enumerate(columns.values())
    ]
    least = sum(
        width if whole else min(width, FOLDED_WIDTH_MIN) for width, whole in zip(natural, is_whole, strict=True)
    )
    if least + 2 * len(natural) - 1 > out.width:
        _blocks(out, title, list(columns), shown)
        return
    found = Table(
        title=Text(printable(title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    for (name, side), whole, width in zip(columns.items(), is_whole, natural, strict=True):
        found.add_column(
            name, justify="right" if side == "right" else "left", overflow="fold", no_wrap=whole,
            min_width=width if whole else min(width, FOLDED_WIDTH_MIN),
        )  # fmt: skip
    for row in shown:
        found.add_row(*row)
    _print(out, found)


def _blocks(out: Console, title: str, names: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print each row as lines of a name and a value."""
    found = Table(
        title=Text(printable(title)), title_justify="left", title_style="bold", show_header=False, box=None,
        padding=(0, 2, 0, 0),
    )  # fmt: skip
    found.add_column(style="dim", no_wrap=True)
    found.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            found.add_row("", "")
        for name, cell in zip(names, row, strict=True):
            if cell.plain:
                found.add_row(name, cell)
    _print(out, found)


def _print(out: Console, found: Table) -> None:
    """Print without the spaces that end lines: they are nothing to read, and wrap where a terminal is resized."""
    with out.capture() as captured:
        out.print(found)
    for each in captured.get().splitlines():
        sys.stdout.write(_written(each.rstrip()) + "\n")


def facts(title: str, rows: Mapping[str, Cell]) -> None:
    """Print what is known of one thing, a line each."""
    found = Table(title=Text(printable(title)), title_justify="left", title_style="bold", show_header=False, box=None)
    found.add_column(style="dim")
    found.add_column(justify="left", overflow="fold")
    for name, cell in rows.items():
        found.add_row(name, _cell(cell))
    _print(console(), found)


def flush() -> None:
    """Let whoever reads our output see it now."""
    sys.stdout.flush()


def tokens(count: int, *, is_signed: bool = False) -> str:
    return f"{count:+,}" if is_signed else f"{count:,}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(at: datetime | None, *, otherwise: str = "never") -> str:
    return otherwise if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "utf-8").lower().replace("-", "").startswith("utf")


def _written(text: str) -> str:
    """Return a text as stdout's encoding can hold it at its best; what is left, the stream escapes."""
    return text if _is_unicode() else text.translate(_IN_ASCII)


def _cell(cell: Cell) -> Text:
    if isinstance(cell, bool):
        return Text("yes" if cell else "no")
    return cell if isinstance(cell, Text) else Text(printable("" if cell is None else str(cell)))
