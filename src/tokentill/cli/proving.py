"""The command that proves the books."""

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tokentill.cli import show
from tokentill.cli.show import AsJson
from tokentill.core.reconciliation import Finding
from tokentill.services.reconciling import Proof
from tokentill.till import Till

SHOWN_MAX = 100


def reconcile(json: AsJson = False) -> None:
    """Prove the books of every account, and show where they do not hold. Changes nothing.

    Exits with 1 when anything is found.
    """
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
    show.table("Findings", columns, [_finding(finding) for finding in shown])
    more = f" (the first {SHOWN_MAX} are shown; --json has all)" if len(proof.findings) > SHOWN_MAX else ""
    show.line(f"{show.counted(len(proof.findings), 'finding')}{more} in {looked_at}.")
    for meaning in sorted({f"{finding.check}: {finding.meaning}" for finding in proof.findings}):
        show.line(meaning)


def _counted(count: int, what: str) -> str:
    return f"{count:,} usage rows" if what == "usage" else show.counted(count, what.removesuffix("s"))


def _finding(finding: Finding) -> list[object]:
    return [finding.law, finding.check, finding.user_id, finding.seq, finding.expected, finding.found]
