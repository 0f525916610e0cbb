"""Proving: at the end of every bench, laws 1 and 2 over the whole database, and that it holds what was acknowledged."""

from typing import Any

from tokentill.bench.options import Tell
from tokentill.till import Till

SHOWN_MAX = 20


class BenchFailed(Exception):
    """There are no figures; the message says why."""


class BooksWrong(BenchFailed):
    """The figures are void: the books do not hold, or not what was acknowledged. Whoever benches must see this."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("THE BOOKS ARE WRONG, and so the figures are void:\n" + "\n".join(faults))


def prove(url: str, *, rows_before: int, acknowledged: int, held: int = 0, tell: Tell) -> dict[str, Any]:
    """Prove the books, and that usage grew by exactly what was acknowledged; changes nothing.

    `held` is how many holds were acknowledged: so many there must be.

    Raises: BooksWrong.
    """
    tell("proving the books")
    with Till(url) as till:
        proof = till.reconcile()
    faults = [
        f"{finding.check} of {finding.user_id} at {finding.seq}: expected {finding.expected}, found {finding.found}"
        for finding in proof.findings[:SHOWN_MAX]
    ]
    if len(proof.findings) > SHOWN_MAX:
        faults.append(f"… and {len(proof.findings) - SHOWN_MAX:,} findings more")
    written = proof.counts["usage"] - rows_before
    if written != acknowledged:
        faults.append(f"{acknowledged:,} spends were acknowledged, {written:,} are in the database")
    if proof.counts["holds"] != held:
        faults.append(f"{held:,} holds were acknowledged, {proof.counts['holds']:,} are in the database")
    if faults:
        raise BooksWrong(faults)
    return {
        "proved": True,
        "findings": 0,
        "usage_rows": proof.counts["usage"],
        "holds": held,
        "acknowledged": acknowledged,
    }
