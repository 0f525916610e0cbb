"""Showing: tables for people, JSON for programs. Times in UTC, tokens with thousands separators.

Whatever a user or Stripe wrote is shown without its control characters: a reason must not drive the terminal.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokentill.core.users import User
from tokentill.core.values import Value, asdict
from tokentill.store.journal import Receipt

AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
WIDTH_ELSEWHERE = 200  # In a file or a pipe nobody wraps lines.

Cell = object


def console(*, is_error: bool = False) -> Console:
    stream = sys.stderr if is_error else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDTH_ELSEWHERE)


def as_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def plain(value: object) -> Any:
    """Return `value` as JSON has it: times as RFC 3339 in UTC, ids and amounts of money as texts."""
    if isinstance(value, Value) or (is_dataclass(value) and not isinstance(value, type)):
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


def receipt(found: Receipt, user: str) -> dict[str, object]:
    """Return a receipt for JSON, under the caller's own id of the user."""
    fields = asdict(found)
    is_replay = fields.pop("is_replay")
    return {"id": found.id, **fields, "user_id": User.of(user).name, "replayed": is_replay}


def line(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def table(title: str, columns: Mapping[str, str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table; `columns` says each one's name and whether it is flushed "left" or "right"."""
    found = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for name, side in columns.items():
        found.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        found.add_row(*(_cell(cell) for cell in row))
    console().print(found)


def facts(title: str, rows: Mapping[str, Cell]) -> None:
    """Print what is known of one thing, a line each."""
    found = Table(title=Text(printable(title)), title_justify="left", title_style="bold", show_header=False, box=None)
    found.add_column(style="dim")
    found.add_column(justify="left", overflow="fold")
    for name, cell in rows.items():
        found.add_row(name, _cell(cell))
    console().print(found)


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


def _cell(cell: Cell) -> Text:
    if isinstance(cell, bool):
        return Text("yes" if cell else "no")
    return cell if isinstance(cell, Text) else Text(printable("" if cell is None else str(cell)))
