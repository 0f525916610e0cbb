"""`till reprice`: the cost of calls that have happened, looked at again."""

from dataclasses import asdict
from decimal import Decimal
from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import By, actor, moment_of
from tokentill.cli.show import AsJson
from tokentill.errors import InvalidTime
from tokentill.till import Till


def reprice(
    since: Annotated[str, typer.Option("--from", help="Calls from this date or time on.")],
    until: Annotated[str | None, typer.Option("--until", help="Calls before it. [default: now]")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Only of this model, by the name it was recorded by.")
    ] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only of this action.")] = None,
    charge: Annotated[
        bool, typer.Option("--charge", help="Let the tokens follow, where the action charges by cost (cost_plus).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be corrected, and write nothing.")
    ] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Correct what calls cost, where the price book knows better now. Writes the differences as rows of their own."""
    since_at = moment_of(since, "--from")
    if since_at is None:
        raise InvalidTime("--from must be a date or time.", field="--from")
    with Till.connect() as till:
        report = till.reprice(
            since_at, until=moment_of(until, "--until"), model=model, action_type=action, charges=charge,
            is_dry_run=dry_run, created_by=actor(by),
        )  # fmt: skip
    if json:
        show.as_json([asdict(one) for one in report])
        return
    columns = {"model": "left", "action": "left", "calls": "right", "to correct" if dry_run else "corrected": "right",
               "cost before": "right", "after": "right", "tokens": "right", "no price": "right", "as stated": "right",
               }  # fmt: skip
    rows = [
        [
            one.model, one.action_type, f"{one.calls:,}", f"{one.corrected:,}", _dollars(one.cost_before),
            _dollars(one.cost_after), f"{one.tokens_more - one.tokens_fewer:+,}" if charge else "–",
            f"{one.still_unpriced:,}", f"{one.stated:,}",
        ]
        for one in report
    ]  # fmt: skip
    empty = "No call of that time is like that: nothing to correct."
    show.table("Would be repriced" if dry_run else "Repriced", columns, rows, empty=empty)
    if dry_run and rows:
        show.line("Nothing was changed: this was a dry run.")


def _dollars(cents: Decimal) -> str:
    return f"${cents / 100:,.6f}"
