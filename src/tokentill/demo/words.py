"""How the demo says numbers, times, lots and journal rows to people."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from tokentill.core.ledger.lots import Lot
from tokentill.store.reports import Entry

_DATE_OF_MODEL = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


def number(tokens: int) -> str:
    return f"{tokens:,}".replace("-", "−")


def signed(tokens: int) -> str:
    return "" if tokens == 0 else f"+{tokens:,}" if tokens > 0 else number(tokens)


def counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def day(moment: datetime) -> str:
    return f"{moment:%d %b}"


def day_near(moment: datetime, now: datetime) -> str:
    """Say the day; with its year where that is not the present one."""
    return day(moment) if moment.year == now.year else date(moment)


def date(moment: datetime) -> str:
    return f"{moment:%d %b %Y}"


def dollars(cents: int) -> str:
    return f"${cents / 100:,.2f}" if cents % 100 else f"${cents // 100:,}"


def expiry(lot: Lot, now: datetime) -> str:
    """Say when a lot's tokens die: "24 Dec 2026, in 33 days"."""
    if lot.expires_at is None:
        return "never"
    return f"{date(lot.expires_at)}, in {counted((lot.expires_at - now).days, 'day')}"


def lot_name(lot: Lot, opened_by: Entry) -> str:
    """Say what a lot is: "power pack", "drip, cycle 5"."""
    pack = opened_by.detail.get("token_pack_id")
    if pack is not None:
        return f"{pack} pack"
    return f"{lot.kind}, cycle {lot.cycle_number}" if lot.cycle_number else lot.kind  # A trial's is 0.


def entry_detail(entry: Entry) -> str:
    """Say what a journal row's own type does not: who paid how much, what rolled over, which model."""
    detail = entry.detail
    if entry.kind == "drip":
        said = [f"cycle {detail['cycle_number']}"]
        if rolled := _int(detail["rollover_from_previous"]):
            said.append(f"{number(rolled)} rolled over")
        if expired := _int(detail["expired_tokens"]):
            said.append(f"{number(expired)} expired")
        return ", ".join(said)
    if entry.kind == "usage":
        if not detail.get("success", True):
            return f"failed: {detail.get('error_message')}"
        return _DATE_OF_MODEL.sub("", str(detail.get("model_used", "")))
    said = []
    if pack := detail.get("token_pack_id"):
        said.append(f"{pack} pack")
    if entry.type == "expiration":
        metadata = detail.get("metadata")
        facts = metadata if isinstance(metadata, Mapping) else {}
        cycle = facts.get("cycle_number")
        said.append(f"{facts.get('kind', 'lot')}" + (f", cycle {cycle}" if cycle else ""))
    elif entry.type == "refund":
        said += _reversed(detail["metadata"])
    elif entry.type == "grant" and not detail.get("reason"):
        said.append(str(detail["source"]))
    if paid := detail.get("amount_paid_cents"):
        said.append(dollars(_int(paid)))
    if reason := detail.get("reason"):
        said.append(f"“{reason}”")
    return ", ".join(said)


def _reversed(facts: object) -> list[str]:
    """Say how a payment's money stood, and what became of the tokens that were spent already."""
    assert isinstance(facts, Mapping), facts
    moved = (("refunded_cents", "refunded"), ("disputed_cents", "in dispute"), ("lost_cents", "lost in a dispute"))
    stood = [f"{dollars(_int(facts[name]))} {word}" for name, word in moved if facts[name]]
    spent = [f"{number(_int(facts[f'{word}_tokens']))} {word}" for word in ("forgiven", "pending")
             if facts[f"{word}_tokens"]]  # fmt: skip
    return [*(stood or ["dispute won"]), *spent]


def cell(value: object) -> str:
    """Say one value of a query's answer; numbers as SQL would, so that they can be copied."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case Decimal():
            return number(int(value)) if value == value.to_integral_value() else f"{value.normalize():f}"
        case int():
            return number(value)
        case UUID():
            return str(value)
        case dict() | list():
            return json.dumps(value, default=str)
    return str(value)


def _int(value: object) -> int:
    assert isinstance(value, int), value
    return value
