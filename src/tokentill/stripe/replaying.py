"""Replaying: reads Stripe events from files, one at a time, so that they can be received again.

A `.jsonl` file has one event per line; any other is one JSON document: an event, a list of events, or Stripe's own
list object (`{"object": "list", "data": […]}`). A folder is searched for `.json` and `.jsonl` files, and its
events come sorted by their `created`, then by path: what was saved in any order is told in the order it happened.

What cannot be read is found, too, with the error: one bad line must not hide the rest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokentill.errors import MalformedBody
from tokentill.stripe.parsing import parse_json, require_storable

LINES = (".jsonl", ".ndjson")
DOCUMENTS = (".json",)
NEVER = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One event in a file, or what is wrong there: exactly one of `event` and `error` is given."""

    path: Path
    number: int | None = None  # The line, or the place in the list, from 1. None: the file is one event.
    event: dict[str, object] | None = None
    error: str | None = None

    @property
    def place(self) -> str:
        return str(self.path) if self.number is None else f"{self.path}:{self.number}"


def read(paths: Iterable[Path]) -> Iterator[Found]:
    """Yield the events of these files and folders, argument by argument. Raises: nothing, whatever they hold."""
    for path in paths:
        yield from _read_folder(path) if path.is_dir() else _read_file(path)


def _read_folder(folder: Path) -> Iterator[Found]:
    """Two passes, so that a large folder need not fit into memory: the order first, then each event in its turn."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in LINES + DOCUMENTS and path.is_file())
    order = sorted(
        (_created(found), number, (found.number or 1) - 1, offset)
        for number, path in enumerate(files)
        for found, offset in _located(path)
    )
    # Small files of one event each are the rule; of lists, the latest few stay parsed while their events take turns.
    document = lru_cache(maxsize=8)(lambda number: list(_read_file(files[number])))
    for _, number, position, offset in order:
        if offset is not None:
            yield _line_at(files[number], position + 1, offset)
        elif position < len(events := document(number)):  # It may have changed between the passes.
            yield events[position]


def _created(found: Found) -> int:
    """What is malformed comes last."""
    created = found.event.get("created") if found.event else None
    return created if isinstance(created, int) and not isinstance(created, bool) else NEVER


def _located(path: Path) -> Iterator[tuple[Found, int | None]]:
    """Yield what is in a file, and where its line begins if it is one of lines."""
    if path.suffix.lower() not in LINES:
        yield from ((found, None) for found in _read_file(path))
        return
    try:
        with path.open("rb") as lines:
            offset = 0
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _found(path, number, line), offset
                offset += len(line)
    except OSError as error:
        yield Found(path=path, error=error.strerror or str(error)), None


def _read_file(path: Path) -> Iterator[Found]:
    if path.suffix.lower() in LINES:
        yield from (found for found, _ in _located(path))
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        yield Found(path=path, error=error.strerror or str(error))
        return
    yield from _read_document(path, content)


def _line_at(path: Path, number: int, offset: int) -> Found:
    try:
        with path.open("rb") as lines:
            lines.seek(offset)
            return _found(path, number, lines.readline())
    except OSError as error:
        return Found(path=path, number=number, error=error.strerror or str(error))


def _read_document(path: Path, content: bytes) -> Iterator[Found]:
    try:
        document = parse_json(content)
    except MalformedBody as error:
        yield Found(path=path, error=_said(error))
        return
    if isinstance(document, dict) and document.get("object") == "list" and isinstance(document.get("data"), list):
        document = document["data"]
    if isinstance(document, list):
        for number, item in enumerate(document, start=1):
            yield _checked(path, number, item)
    else:
        yield _checked(path, None, document)


def _found(path: Path, number: int, line: bytes) -> Found:
    try:
        return _checked(path, number, parse_json(line))
    except MalformedBody as error:
        return Found(path=path, number=number, error=_said(error))


def _checked(path: Path, number: int | None, value: object) -> Found:
    if not isinstance(value, dict):
        return Found(path=path, number=number, error="This is JSON, but not an object.")
    try:
        require_storable(value)
    except MalformedBody as error:
        return Found(path=path, number=number, error=_said(error))
    return Found(path=path, number=number, event=value)


def _said(error: MalformedBody) -> str:
    return error.detail.replace("The body", "This").replace("in the body", "in it")
