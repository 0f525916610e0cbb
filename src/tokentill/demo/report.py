"""What the demo found when the story was over: one value, which the pages print and `--json` writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tokentill.core.ledger.lots import Lot
from tokentill.core.users import User
from tokentill.core.values import asdict
from tokentill.demo import queries
from tokentill.demo.acts import Member
from tokentill.demo.queries import Asked
from tokentill.services.accounts.reconciling import Proof
from tokentill.store.reports import BalanceReport, Entry
from tokentill.till import Till

HISTORY_MAX = 10_000


@dataclass(frozen=True, slots=True)
class MemberReport:
    """One member at the end: `lots` are those with tokens left, first to burn first; `history` is oldest first."""

    member: Member
    balance: BalanceReport
    lots: Sequence[Lot]
    history: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Report:
    at: datetime
    members: Sequence[MemberReport]
    asked: Sequence[Asked]
    proof: Proof

    @property
    def is_good(self) -> bool:
        """Whether the books are proved and every query was answered."""
        return self.proof.is_proved and all(asked.answer.error is None for asked in self.asked)


def make(till: Till, members: Sequence[Member]) -> Report:
    """Read everything back, ask the app's queries, and prove the books."""
    found = [
        MemberReport(
            member,
            till.balance(member.user_id),
            till.lots(member.user_id),
            till.history(member.user_id, limit=HISTORY_MAX)[::-1],
        )
        for member in members
    ]
    with till.context.connection() as conn:
        asked = list(queries.ask(conn, members))
    return Report(till.clock(), found, asked, till.reconcile())


def as_json(report: Report, *, requests_count: int, seconds: float) -> str:
    """Return the report as one JSON document."""
    document = {
        "members": [_member(member) for member in report.members],
        "queries": [_query(asked) for asked in report.asked],
        "findings": [asdict(finding) for finding in report.proof.findings],
        "proof": dict(report.proof.counts),
        "requests": requests_count,
        "seconds": round(seconds, 2),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=_plain)


def _member(report: MemberReport) -> dict[str, Any]:
    return {
        "user_id": report.member.user_id,
        "uuid": User.of(report.member.user_id).user_id,
        "name": report.member.name,
        "balance": report.balance.balance,
        "next_expiry_at": report.balance.next_expiry_at,
        "next_expiry_tokens": report.balance.next_expiry_tokens,
        "lots": [asdict(lot) for lot in report.lots],
        "history": [asdict(entry) for entry in report.history],
    }


def _query(asked: Asked) -> Mapping[str, Any]:
    return {
        "source": asked.statement.source,
        "number": asked.statement.number,
        "search_path": asked.statement.search_path,
        "user_id": asked.about.user_id if asked.about else None,
        "sql": asked.sql,
        "columns": asked.answer.columns,
        "rows": asked.answer.rows,
        "error": asked.answer.error,
    }


def _plain(value: object) -> str:
    """Times in ISO 8601; uuids, and numbers with exact fractions, as texts."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
