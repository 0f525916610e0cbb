"""Commands about findings: what does not fit, and somebody should look at."""

from typing import Annotated
from uuid import UUID

import typer

from tokentill.cli import show
from tokentill.cli.given import By, actor
from tokentill.cli.show import AsJson
from tokentill.errors import InvalidRequest
from tokentill.store.findings import OpenFinding
from tokentill.till import Till


def findings(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that were closed, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many, newest first.")] = 50,
    json: AsJson = False,
) -> None:
    """Show what does not fit, with both sides: a payment that is not what the catalog asks, say."""
    if ctx.invoked_subcommand is not None:
        return
    with Till.connect() as till:
        found = till.findings(include_closed=everything, limit=limit)
    if json:
        show.as_json({"findings": [_told(each) for each in found]})
        return
    columns = {"since": "left", "id": "left", "kind": "left", "subject": "left", "user": "left", "expected": "left",
               "found": "left", "closed": "left"}  # fmt: skip
    empty = "There are no findings." if everything else "There are no open findings; --all shows closed ones, too."
    show.table("Findings", columns, [_row(each) for each in found], empty=empty)


def close(
    finding: Annotated[str, typer.Argument(metavar="ID", help="The finding's id.")], by: By = None, json: AsJson = False
) -> None:
    """Note that somebody has looked at a finding; kept in the audit log. It is not found again."""
    try:
        finding_id = UUID(finding)
    except ValueError:
        raise InvalidRequest(f"ID must be the id of a finding, not {finding[:60]!r}.", field="id") from None
    with Till.connect() as till:
        closed = till.close_finding(finding_id, closed_by=actor(by))
    if json:
        show.as_json(_told(closed))
    else:
        show.line(f"closed by {closed.closed_by}: {closed.kind} of {closed.subject}")


def _told(finding: OpenFinding) -> dict[str, object]:
    from tokentill.http.routes.inbox_bodies import FindingView

    return show.view(FindingView.of(finding))


def _row(finding: OpenFinding) -> list[object]:
    closed = f"by {finding.closed_by}" if finding.closed_at is not None else ""
    return [
        show.moment(finding.created_at), finding.id, finding.kind, finding.subject, finding.user_name,
        finding.expected, finding.found, closed,
    ]  # fmt: skip
