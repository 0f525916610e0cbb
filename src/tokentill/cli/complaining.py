"""Complaining: what an error looks like on a terminal and to a program, and the streams that it is told on.

A person reads one line on stderr: `till: ` and what happened. Under `--json` the line is one JSON object with the
`code`, the `detail` and the error's own fields, as the API's problems have them; stdout stays empty then.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException

from tokentill.cli import show
from tokentill.errors import TillError

OUTPUT_FAILED, INTERNAL = "output_failed", "internal_error"  # Codes of what no error of the till causes.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_STREAMS = ("stdin", "stdout", "stderr")


def of_till(error: TillError, *, is_json: bool) -> None:
    complain(error.code, error.detail, error.fields, is_json=is_json)


def of_usage(error: TyperException, *, is_json: bool) -> None:
    """Complain about a line that cannot be meant so."""
    context = getattr(error, "ctx", None)
    told = error.format_message().rstrip().replace("Value error, ", "")  # As pydantic begins, which nobody asked.
    if "\n" in told:  # `till` or one of its groups alone: its help page.
        if not is_json:
            _write(f"{told}\n")
            return
        told = "Missing command."
    option = getattr(error, "option_name", None)
    param = getattr(error, "param", None)
    field = option or (None if param is None else param.opts[-1] if param.opts[-1].startswith("-") else param.name)
    if possible := getattr(error, "possibilities", None):
        told = f"{told.partition(' (Possible')[0]}. Did you mean {' or '.join(possible)}?"
    asked = f" `{context.command_path} --help` says what it takes." if context is not None else ""
    detail = f"{told if told.endswith(('.', '?')) else f'{told}.'}{asked}"
    complain("invalid_request", detail, {} if field is None else {"field": field}, is_json=is_json)


def of_output(error: OSError, *, is_json: bool) -> None:
    """Complain that the answer could not be written: what was asked for has been done."""
    detail = (
        f"The output cannot be written: {error.strerror or error}. What the command does is done all the same: look "
        "before you repeat it, or repeat it with the same --key."
    )
    complain(OUTPUT_FAILED, detail, {}, is_json=is_json)


def of_bug(error: Exception, *, is_json: bool) -> None:
    """Complain about what nobody expected, under its traceback."""
    detail = f"An error of ours: {type(error).__name__}. The lines above say where; please report them."
    complain(INTERNAL, detail, {}, is_json=is_json)


def complain(code: str, detail: str, fields: Mapping[str, object], *, is_json: bool) -> None:
    if is_json:
        told = {"code": code, "detail": detail} | {
            name: fields[name] for name in fields if name not in ("code", "detail")
        }
        _write(json.dumps(show.plain(told)) + "\n")
    else:
        _write(show.printable(f"till: {detail}") + "\n")


def is_about_output(error: OSError) -> bool:
    """Whether it is our own output that has no room, rather than a file that the error names."""
    return error.filename is None and error.errno in _FULL


def _write(text: str) -> None:
    with suppress(OSError):  # Nobody can be told then; the exit status still says it.
        sys.stderr.write(text)
        sys.stderr.flush()


# --- The streams of a process ---


def prepare_streams() -> None:
    """Let whatever was started with closed streams, or with an encoding that lacks a letter, print all the same."""
    for name in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115  It stays.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not complain once more."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def arguments_of(argv: Sequence[str]) -> list[str]:
    """Return the arguments as UTF-8, whatever the locale took them for."""
    if sys.getfilesystemencoding() == "utf-8":
        return list(argv)
    return [os.fsencode(each).decode("utf-8", "surrogateescape") for each in argv]


def without_json(args: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without `--json`, which may stand anywhere before a `--`, and whether it was there."""
    end = args.index("--") if "--" in args else len(args)
    rest: list[Any] = [each for each in args[:end] if each != "--json"]
    return [*rest, *args[end:]], len(rest) < end
