"""What is given on a command line: arguments and options that several commands take."""

import getpass
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tokentill.core import checks
from tokentill.errors import InvalidAmount, InvalidText, InvalidTime


def tokens_of(text: str, name: str = "TOKENS") -> int:
    """Return a number of tokens; 1,000,000 and 1_000_000 are 1000000. Raises: InvalidAmount."""
    digits = checks.ungrouped(text) or ""
    if not (digits.isdigit() and len(digits) <= 30):
        field = "tokens" if name == "TOKENS" else name
        raise InvalidAmount(f"{name} must be a whole number like 1000 or 1,000, not {text[:60]!r}.", field=field)
    return checks.whole(int(digits), minimum=0)


def number_of(text: str | None, name: str) -> str | None:
    """Return an exact number without the separators of its thousands, or None. Raises: InvalidAmount."""
    if text is None or ("," not in text and "_" not in text):
        return text  # Whether it is a number, and one in range, is said by whoever it is for.
    number = checks.ungrouped(text)
    if number is None:
        raise InvalidAmount(f"{name} must be a number like 1.50 or 1,000, not {text[:60]!r}.", field=name)
    return number


def moment_of(text: str | None, name: str) -> datetime | None:
    """Return a time; without a zone it is in UTC, and a date is its first instant. Raises: InvalidTime."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        detail = f"{name} must be a date or time like 2026-12-31 or 2026-12-31T18:00Z, not {text[:60]!r}."
        raise InvalidTime(detail, field=name) from None
    try:
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise InvalidTime(f"{name} must be a time that exists in UTC, not {text[:60]!r}.", field=name) from None


def cents_of(text: str) -> int:
    """Return an amount of money in whole minor units. Raises: InvalidAmount."""
    digits = checks.ungrouped(text) or ""
    if not (digits.isdigit() and len(digits) <= 30):
        raise InvalidAmount(
            f"An amount is a whole number of cents: 2500 is $25.00; {text[:60]!r} is not one.", field="amount_cents"
        )
    return int(digits)


def object_of(text: str | None, name: str) -> dict[str, Any] | None:
    """Return a JSON object. Raises: InvalidText."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidText(f'{name} must be a JSON object like {{"a": 1}}, not {text[:60]!r}.', field=name)
    return found


def actor(by: str | None) -> str:
    """Return who acts: as given, else who runs this."""
    if by is not None:
        return checks.text(by, "--by", length_max=255)
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # This user id has no name.
        return "cli"


UserArg = Annotated[str, typer.Argument(metavar="USER", help="The user, by the id that your app gave.")]
TokensArg = Annotated[str, typer.Argument(metavar="TOKENS", help="How many, a whole number; 1,000 is 1000.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why: kept in the journal and the audit log.")]
By = Annotated[str | None, typer.Option("--by", help="Who does it. [default: cli: and your login name]")]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Idempotency key: the same command with the same key happens once.")
]
