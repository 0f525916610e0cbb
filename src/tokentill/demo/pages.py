"""What the demo prints for people: the story as it goes, then members, queries, the proof. 100 columns."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from tokentill.demo import tables
from tokentill.demo.acts import Member
from tokentill.demo.player import Line
from tokentill.demo.queries import Asked
from tokentill.demo.report import MemberReport, Report
from tokentill.demo.words import counted, date, day, dollars, number, signed

WIDTH = 100
HISTORY_SHOWN = 8
ROWS_SHOWN = 5
INDENT = 2


def console(*, is_quiet: bool) -> Console:
    """Return a console of at most 100 columns, and of exactly 100 where nobody sees its edge."""
    found = Console(highlight=False, quiet=is_quiet)
    return Console(
        highlight=False, quiet=is_quiet, width=min(found.width, WIDTH) if found.is_terminal else WIDTH
    )  # fmt: skip


def show_opening(to: Console, first_day: datetime, now: datetime, members: Sequence[Member]) -> None:
    to.print("\n[bold]tokentill[/bold]: a server, its PostgreSQL, and what happens to "
             f"{len(members)} members from {day(first_day)} to {date(now)}.\n")  # fmt: skip
    for member in members:
        to.print(f"  [bold]{member.name:<6}[/bold] {member.about}")
    to.print()
    to.print(Text(f"{'':<53}{'the till answers':<24}{'tokens':>11}{'balance':>11}", style="dim"))


def show_step(to: Console, what: str, *, seconds: float) -> None:
    """Print what has taken its time."""
    to.print(f"{what}: {seconds:.1f} s", style="dim", highlight=False)


def show_line(to: Console, line: Line, first_day: datetime) -> None:
    """Print one act: when, who, what happens, what the till answered, and what that did to the balance."""
    act = line.act
    text = Text()
    text.append(f"{day(act.happens_at(first_day)):<7}", style="dim")
    text.append(f"{act.who.name:<6}")
    text.append(f"{act.says:<40}")
    text.append(f"{line.answer:<24}", style="yellow" if act.refused else "dim")
    text.append(f"{signed(line.change_tokens) or '·':>11}", style="green" if line.change_tokens > 0 else "")
    text.append(f"{number(line.balance):>11}")
    to.print(text, no_wrap=True, overflow="ellipsis")


def show(
    to: Console, report: Report, *, shown_about: Mapping[str, Member], requests_count: int, seconds: float
) -> None:
    """Print everything that was found when the story was over."""
    to.print()
    for member in report.members:
        _show_member(to, member, report.at)
    to.rule("[bold]The app's own SQL, unchanged")
    for title, asked in _by_statement(report.asked, shown_about):
        _show_query(to, title, asked)
    _show_proof(to, report)
    to.print(f"[dim]{counted(requests_count, 'HTTP request')}, {seconds:.1f} s[/dim]\n")


def show_serving(to: Console, url: str, admin_key: str, member: Member) -> None:
    """Say where the server is and how to ask it."""
    to.print(f"\nServing on [bold]{url}[/bold] until Ctrl-C. For example:\n")
    to.print(f"  curl -H 'Authorization: Bearer {admin_key}' \\\n       {url}/v1/users/{member.user_id}/balance\n",
             soft_wrap=True)  # fmt: skip


def _show_member(to: Console, report: MemberReport, now: datetime) -> None:
    member, balance = report.member, report.balance
    to.rule(f"[bold]{member.name}[/bold]  [dim]{member.user_id}")
    to.print(f"{member.about[0].upper()}{member.about[1:]}.")
    expiry = "nothing expires"
    if balance.next_expiry_at is not None:
        expiry = f"next to expire: {number(balance.next_expiry_tokens)} on {date(balance.next_expiry_at)}"
    cost = dollars(round(Decimal(str(balance.lifetime_cost))))
    to.print(f"Balance [bold]{number(balance.balance)}[/bold]; {expiry}; AI calls cost {cost}.\n")
    _indented(to, tables.lots(report, now))
    _indented(to, tables.history(report, now, limit=HISTORY_SHOWN))


def _by_statement(every: Sequence[Asked], shown_about: Mapping[str, Member]) -> Iterator[tuple[str, Asked]]:
    """Yield each statement once, with a title; of one about each member in turn, the answer about one of them."""
    for statement, group in groupby(every, key=lambda asked: asked.statement):
        asked = list(group)
        shown = next((one for one in asked if one.about == shown_about.get(statement.source)), asked[0])
        title = statement.source + (f", statement {statement.number}" if statement.number > 1 else "")
        yield title + (f", about {shown.about.name}" if shown.about else ""), shown


def _show_query(to: Console, title: str, asked: Asked) -> None:
    where = "" if asked.statement.search_path == "public" else f"[dim]  search_path = {asked.statement.search_path}"
    to.print(f"\n[bold]{title}[/bold]{where}")
    for line in asked.sql.splitlines():
        if line.strip():
            to.print(Text(" " * INDENT + line, style="cyan"), no_wrap=True, overflow="ellipsis")
    to.print()
    if asked.answer.error is not None:
        to.print(f"  [bold red]failed:[/bold red] {asked.answer.error}", markup=True)
        return
    table, said = tables.answer(asked, limit=ROWS_SHOWN, width=to.width - INDENT)
    to.print(Padding(table, (0, 0, 0, INDENT), expand=False))
    to.print(Padding(Text(f"\n{said}", style="dim"), (0, 0, 0, INDENT), expand=False))


def _show_proof(to: Console, report: Report) -> None:
    counts, findings = report.proof.counts, report.proof.findings
    to.print()
    to.rule()
    for finding in findings:
        to.print(f"[bold red]finding[/bold red] {finding.check}, user {finding.user_id}, seq {finding.seq}: "
                 f"expected {finding.expected}, found {finding.found}")  # fmt: skip
    rows = counts["transactions"] + counts["drips"] + counts["usage"]
    style = "bold green" if not findings else "bold red"
    looked_at = f"{counted(counts['accounts'], 'account')}, {counted(rows, 'journal row')}"
    result = "books proved" if not findings else "books disagree"
    to.print(f"[{style}]{result}:[/{style}] {looked_at}, {counted(len(findings), 'finding')}")


def _indented(to: Console, what: RenderableType) -> None:
    to.print(Padding(what, (0, 0, 1, INDENT), expand=False))
