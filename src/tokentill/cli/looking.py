"""Commands that look: balance, history. They change nothing."""

from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import UserArg
from tokentill.cli.show import AsJson
from tokentill.core.ledger.lots import Lot
from tokentill.core.users import User
from tokentill.store.reports import BalanceReport, Entry
from tokentill.till import Till


def balance(user: UserArg, json: AsJson = False) -> None:
    """Show what a user holds now, and the lots it consists of, first to burn first."""
    with Till.connect() as till:
        report, lots = till.balance(user), till.lots(user)
    if json:
        from tokentill.http.bodies import BalanceView, LotsView

        show.as_json({**show.view(BalanceView.of(report)), **show.view(LotsView.of(lots, user))})
        return
    show.facts(report.name, _facts(report))
    columns = {"lot": "right", "kind": "left", "remaining": "right", "granted": "right", "expires": "left"}
    empty = "No lot has tokens left: `till grant USER TOKENS`, a purchase or a drip opens one."
    show.table("Lots, first to burn first", columns, [_lot(lot) for lot in lots], empty=empty)


def _facts(report: BalanceReport) -> dict[str, object]:
    rows: dict[str, object] = {
        "balance": show.tokens(report.balance),
        "available": show.tokens(report.available),
    }
    if report.held:
        rows["held"] = show.tokens(report.held)
    if report.debt:
        rows["debt"] = show.tokens(report.debt)
    if report.next_expiry_at:
        expiring = show.tokens(report.next_expiry_tokens)
        rows["next expiry"] = f"{expiring} on {show.moment(report.next_expiry_at)}"
    rows["granted in all"] = show.tokens(report.lifetime_tokens_granted)
    rows["used in all"] = show.tokens(report.lifetime_tokens_used)
    return rows


def _lot(lot: Lot) -> list[object]:
    return [lot.lot, lot.kind, show.tokens(lot.remaining), show.tokens(lot.granted), show.moment(lot.expires_at)]


def history(
    user: UserArg,
    limit: Annotated[int, typer.Option("--limit", help="How many rows, newest first.")] = 20,
    before: Annotated[int | None, typer.Option("--before", help="Go on before this row.")] = None,
    json: AsJson = False,
) -> None:
    """Show a user's journal: every change of the balance, newest first."""
    with Till.connect() as till:
        entries = till.history(user, limit=limit, before_seq=before)
    name = User.of(user).name
    if json:
        from tokentill.http.bodies import HistoryView

        shown = show.view(HistoryView.of(entries, user, next_cursor=None))
        show.as_json({"user_id": name, "entries": shown["entries"]})
        return
    columns = {"row": "right", "when": "left", "what": "left", "tokens": "right", "balance": "right", "why": "left"}
    empty = f"No rows of {name} come before that." if before else f"{name} has no rows yet."
    show.table(name, columns, [_entry(entry) for entry in entries], empty=empty)
    if entries and entries[-1].seq > 1:
        show.line(f"{show.counted(entries[-1].seq - 1, 'earlier row')}: --before {entries[-1].seq}")


def _entry(entry: Entry) -> list[object]:
    detail = entry.detail
    named = ("reason", "token_pack_id", "subscription_id", "model_used", "error_message", "source")
    why = next((str(detail[name]) for name in named if detail.get(name)), "")
    if entry.kind == "drip":
        why = f"cycle {detail.get('cycle_number')} of {why}"
    what = f"{entry.type}, late" if detail.get("late") else entry.type
    return [
        entry.seq, show.moment(entry.created_at), what, show.tokens(entry.tokens, is_signed=True),
        show.tokens(entry.balance_after), why,
    ]  # fmt: skip
