"""The command that proves the books: by themselves, and against Stripe's."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tokentill.cli import show
from tokentill.cli.given import moment_of
from tokentill.cli.show import AsJson
from tokentill.core.findings import Finding
from tokentill.core.stripe.comparison.compare import Comparison, StripeFinding
from tokentill.errors import InvalidRequest, InvalidTime, SwitchedOff
from tokentill.services.accounts.reconciling import Proof
from tokentill.settings import Settings
from tokentill.stripe.exports import Exports
from tokentill.stripe.listing import Listing, OnProgress
from tokentill.till import Till

SHOWN_MAX = 100


def reconcile(
    stripe: Annotated[bool, typer.Option("--stripe", help="Compare with Stripe's payments instead.")] = False,
    since: Annotated[str | None, typer.Option("--since", help="With --stripe: payments from then on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="With --stripe: payments before then.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="With --stripe: of this customer alone.")] = None,
    csv: Annotated[
        list[Path] | None, typer.Option("--csv", help="With --stripe: files exported from Stripe, not its API.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Prove the books of every account, and show where they do not hold. Changes nothing.

    With --stripe: compare what was paid, refunded and disputed with Stripe, both ways. Stripe's API is asked with
    TILL_STRIPE_API_KEY; --csv reads files that its dashboard exported instead, and may be given several times.

    Exits with 1 when anything is found.
    """
    if stripe:
        _with_stripe(since, until, customer, csv or [], json)
        return
    if since or until or customer or csv:
        raise InvalidRequest("--since, --until, --customer and --csv say what to compare with Stripe: add --stripe.")
    with Till.connect() as till:
        proof = _with_progress(till)
    if json:
        findings = [
            {**show.plain(finding), "law": finding.law, "meaning": finding.meaning} for finding in proof.findings
        ]
        show.as_json({"is_proved": proof.is_proved, "counts": proof.counts, "findings": findings})
    else:
        _show(proof)
    if not proof.is_proved:
        raise typer.Exit(1)


def _with_progress(till: Till) -> Proof:
    columns = (TextColumn("Proving the books"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = show.console(is_error=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        return till.reconcile(on_progress=lambda done, total: progress.update(bar, completed=done, total=total))


def _show(proof: Proof) -> None:
    looked_at = ", ".join(_counted(count, what) for what, count in proof.counts.items())
    if proof.is_proved:
        show.line(f"The books are proved: {looked_at}; nothing disagrees.")
        return
    columns = {"law": "right", "check": "left", "user": "left", "row": "right", "expected": "left", "found": "left"}
    shown = proof.findings[:SHOWN_MAX]
    show.table("Findings", columns, [_finding(finding) for finding in shown], empty="")
    show.line(f"{_how_many(len(proof.findings))} in {looked_at}.")
    for meaning in sorted({f"{finding.check}: {finding.meaning}" for finding in proof.findings}):
        show.line(meaning)


def _counted(count: int, what: str) -> str:
    return show.counted(count, "usage row" if what == "usage" else what.removesuffix("s"))


def _how_many(count: int) -> str:
    more = f" (the first {SHOWN_MAX} are shown; --json has all)" if count > SHOWN_MAX else ""
    return show.counted(count, "finding") + more


def _finding(finding: Finding) -> list[object]:
    return [finding.law, finding.check, finding.user_id, finding.seq, finding.expected, finding.found]


# --- With Stripe ---


def _with_stripe(since: str | None, until: str | None, customer: str | None, csv: list[Path], json: bool) -> None:
    start, end = moment_of(since, "--since"), moment_of(until, "--until")
    if start is not None and end is not None and start >= end:
        raise InvalidTime("--until must come after --since.", field="--until")
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    console = show.console(is_error=True)
    with (
        Till.connect() as till,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("Asking Stripe", total=None)

        def count(what: str, number: int) -> None:
            progress.update(task, description=f"Reading {show.printable(what)}: {number:,}")

        side = _side(csv, start, end, customer, count)
        if isinstance(side, Exports):
            start, end = side.since, side.until
        comparison = till.reconcile_with_stripe(
            side, since=start, until=end, customer_id=customer,
            on_progress=lambda step: progress.update(task, description=step),
        )  # fmt: skip
    if json:
        findings = [{**show.plain(finding), "meaning": finding.meaning} for finding in comparison.findings]
        show.as_json(
            {"agrees": comparison.agrees, "counts": comparison.counts, "not_compared": comparison.not_compared,
             "findings": findings}
        )  # fmt: skip
    else:
        _show_comparison(comparison)
    if not comparison.agrees:
        raise typer.Exit(1)


def _side(
    csv: list[Path], since: datetime | None, until: datetime | None, customer: str | None, count: OnProgress
) -> Listing | Exports:
    if csv:
        return Exports(csv, since=since, until=until, customer_id=customer, on_progress=count)
    from tokentill.stripe.calling import StripeApi  # Here: no other way to prove the books needs Stripe's library.

    api = StripeApi.of(Settings.read())
    if api is None:
        raise SwitchedOff("Stripe's API is off: set TILL_STRIPE_API_KEY, or give files that it exported with --csv.")
    return Listing(api, since=since, until=until, customer_id=customer, on_progress=count)


def _show_comparison(comparison: Comparison) -> None:
    counts = dict(comparison.counts)
    not_ours = counts.pop("not_ours")
    compared = ", ".join(show.counted(count, what.removesuffix("s")) for what, count in counts.items())
    beside = f" ({show.counted(not_ours, 'payment')} in Stripe of other things)" if not_ours else ""
    if comparison.not_compared:
        show.line(f"The files do not tell of {' and '.join(comparison.not_compared)}: not compared.")
    if comparison.agrees:
        show.line(f"Stripe and the books agree: {compared}{beside}.")
        return
    columns = {"check": "left", "subject": "left", "user": "left", "Stripe": "left", "the books": "left"}
    shown = comparison.findings[:SHOWN_MAX]
    show.table("Stripe and the books", columns, [_difference(finding) for finding in shown], empty="")
    show.line(f"{_how_many(len(comparison.findings))} in {compared}{beside}.")
    for meaning in sorted({f"{finding.check}: {finding.meaning}" for finding in comparison.findings}):
        show.line(meaning)


def _difference(finding: StripeFinding) -> list[object]:
    return [finding.check, finding.subject, finding.user_id, finding.stripe, finding.books]
