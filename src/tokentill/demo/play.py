"""`till demo`: plays months of seven members against a real server, shows what became of them, proves the books."""

import sys
import time
from datetime import datetime, timedelta

import httpx2
from rich.console import Console

from tokentill.demo import pages, report
from tokentill.demo.player import Player, Surprise
from tokentill.demo.stage import ADMIN_KEY, WEBHOOK_SECRET, Stage, stage
from tokentill.demo.story import DAYS, MEMBERS, SHOWN_ABOUT, STORY
from tokentill.ids import utc_now


def main(*, as_json: bool = False, keep_serving: bool | None = None) -> int:
    """Run the demo; return the exit status: 0 when the books are proved and every query of the app was answered.

    `as_json` writes one JSON document to stdout instead of pages. `keep_serving` None asks on a terminal, and does not
    serve on anything else.

    Raises: Misconfigured, DatabaseUnavailable when there is no database to play on.
    """
    began = time.monotonic()
    console = pages.console(is_quiet=as_json)
    first_day = _midnight(utc_now()) - timedelta(days=DAYS)
    with stage(STORY[0], first_day) as at:
        pages.show_step(console, "database and server", seconds=time.monotonic() - began)
        try:
            began_playing = time.monotonic()
            played = _play(at, first_day, console)
            pages.show_step(console, f"{DAYS} days played", seconds=time.monotonic() - began_playing)
        except Surprise as surprise:
            sys.stderr.write(f"The demo went wrong. {surprise}\n")
            return 1
        found = report.make(at.till, MEMBERS)
        seconds = time.monotonic() - began
        if as_json:
            document = report.as_json(found, requests_count=played.requests_count, seconds=seconds)
            sys.stdout.write(f"{document}\n")
            sys.stdout.flush()
        else:
            pages.show(console, found, shown_about=SHOWN_ABOUT, requests_count=played.requests_count, seconds=seconds)
        if _wants_to_serve(keep_serving, is_quiet=as_json):
            _serve(at, Console(stderr=True) if as_json else console)
    return 0 if found.is_good else 1


def _play(at: Stage, first_day: datetime, console: Console) -> Player:
    """Play the story, a line for each act; then let the clock run. Raises: Surprise."""
    pages.show_opening(console, first_day, utc_now(), MEMBERS)
    with httpx2.Client(base_url=at.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30) as client:
        player = Player(client, at.till, clock=at.clock, first_day=first_day, secret=WEBHOOK_SECRET)
        for line in player.play(STORY):
            pages.show_line(console, line, first_day)
        at.clock.let_go()
    return player


def _wants_to_serve(keep_serving: bool | None, *, is_quiet: bool) -> bool:
    if keep_serving is not None:
        return keep_serving
    if is_quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input("\nKeep serving, to look around? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False


def _serve(at: Stage, console: Console) -> None:
    """Leave the server up until Ctrl-C."""
    pages.show_serving(console, at.url, ADMIN_KEY, MEMBERS[0])
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nClosed. Another run begins from the start.")


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
