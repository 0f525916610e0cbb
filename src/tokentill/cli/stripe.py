"""Commands about Stripe's events."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.show import AsJson
from tokentill.core.catalog import EXAMPLE
from tokentill.core.stripe_events import describe, interpret
from tokentill.core.stripe_payloads import Ignored, Unclear
from tokentill.errors import MalformedBody
from tokentill.stripe.replaying import Found, read
from tokentill.till import Till

Outcome = dict[str, object]
Tell = Callable[[Found], Outcome]


def replay(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders with events.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what each event means; touch nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Receive Stripe events from files, as if Stripe sent them again. Each event happens once, however often it comes.

    A .jsonl file has one event per line; any other is one JSON document: an event, a list of events, or Stripe's own
    list object. A folder is searched for .json and .jsonl files, and all its events are told in the order of their
    `created`, then of their paths. Signatures are not asked for: whoever may run this may grant tokens anyway.

    Prints a line for each event: its state, id, type and detail. Exits with 1 when one failed or could not be read.
    """
    outcomes: list[Outcome] = []
    if dry_run:
        _each(paths, _meaning, outcomes, json)
    else:
        with Till.connect() as till:
            _each(paths, lambda found: _received(till, found), outcomes, json)
    if json:
        show.as_json(outcomes)
    elif not outcomes:
        show.line("There is no event in these files.")
    if any(outcome["state"] in ("failed", "malformed") for outcome in outcomes):
        raise typer.Exit(1)


def _each(paths: list[Path], tell: Tell, outcomes: list[Outcome], json: bool) -> None:
    for found in read(paths):
        outcome = tell(found) if found.error is None else _malformed(found, found.error)
        outcomes.append(outcome)
        if not json:
            named = outcome["event_id"] or outcome["place"]
            show.line(f"{outcome['state']!s:9}  {named}  {outcome['type'] or '-'}  {outcome['detail'] or ''}")


def _received(till: Till, found: Found) -> Outcome:
    assert found.event is not None, found
    try:
        event = till.receive_stripe_event(found.event)
    except MalformedBody as error:
        return _malformed(found, error.detail)
    return _outcome(found, event.state, event.event_id, event.type, event.detail)


def _meaning(found: Found) -> Outcome:
    """What an event would do, by the catalog alone: whether it was received before is not asked."""
    assert found.event is not None, found
    meaning = interpret(found.event, EXAMPLE)
    match meaning:
        case Ignored():
            state = "ignored"
        case Unclear():
            state = "failed"
        case _:
            state = "would do"
    return _outcome(found, state, found.event.get("id"), found.event.get("type"), describe(meaning))


def _malformed(found: Found, error: str) -> Outcome:
    return _outcome(found, "malformed", None, None, error)


def _outcome(found: Found, state: str, event_id: object, event_type: object, detail: str | None) -> Outcome:
    return {"place": found.place, "state": state, "event_id": event_id, "type": event_type, "detail": detail}
