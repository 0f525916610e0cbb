"""The doctor: looks at everything that must be right, and says what to do about what is not. Changes nothing."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import typer
from rich.text import Text

from tokentill.cli import show
from tokentill.cli.opening import database_url
from tokentill.cli.show import AsJson
from tokentill.core.findings import Finding
from tokentill.errors import SchemaMissing, TillError
from tokentill.ids import utc_now
from tokentill.services.jobs.working import JOBS
from tokentill.settings import Settings
from tokentill.store import books, db, findings, inbox, jobs, migrate, prices, sessions
from tokentill.store.db import Conn

ACCOUNTS_MAX = 1_000  # Proved by the doctor; `till reconcile` proves all.
FREE_BYTES_MIN = 2**30

State = Literal["green", "yellow", "red"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. Red: it does not work, or money and tokens are at stake."""

    name: str
    state: State
    found: str
    advice: str = ""


def doctor(json: AsJson = False) -> None:
    """Check settings, database, schema, inbox, books and disk, and say what to do. Changes nothing.

    Exits with 1 when anything is red.
    """
    checks = list(_examine())
    is_well = all(check.state != "red" for check in checks)
    if json:
        show.as_json({"is_well": is_well, "checks": checks})
    else:
        columns = {"": "left", "what": "left", "found": "left", "what to do": "left"}
        show.table("till doctor", columns, [_row(check) for check in checks], empty="")
    if not is_well:
        raise typer.Exit(1)


def _row(check: Check) -> list[object]:
    return [Text(check.state, style=check.state), check.name, check.found, check.advice]


def _examine() -> Iterator[Check]:
    try:
        settings = Settings.read()
    except TillError as error:
        yield Check("settings", "red", error.detail, "Correct the variable; docs/reference/settings.md has them all.")
        return
    yield from _settings(settings)
    yield from _disk(settings)
    try:
        with database_url(settings) as url:
            yield from _database(settings, url)
    except TillError as error:
        advice = "" if settings.database_url is None else "Is TILL_DATABASE_URL right, and does the server run?"
        yield Check("database", "red", error.detail, advice)


def _settings(settings: Settings) -> Iterator[Check]:
    if settings.database_url is None:
        yield Check("database setting", "green", f"embedded PostgreSQL in {settings.home}")
    else:
        yield Check("database setting", "green", masked(settings.database_url))
    if settings.admin_key is None:
        yield Check("admin key", "yellow", "not set: the API is off", "Set TILL_ADMIN_KEY.")
    else:
        yield Check("admin key", "green", "set")
    secrets_count = len(settings.stripe_webhook_secrets)
    if secrets_count == 0:
        yield Check("webhook secret", "yellow", "not set: the webhook is off", "Set TILL_STRIPE_WEBHOOK_SECRET.")
    else:
        yield Check("webhook secret", "green", f"{secrets_count} set")
    if settings.stripe_api_key is None:
        yield Check("Stripe API key", "yellow", "not set: nothing is sold from here", "Set TILL_STRIPE_API_KEY.")
    else:
        where = f", for {settings.stripe_api_base}" if settings.stripe_api_base else ""
        yield Check("Stripe API key", "green", f"set{where}")


def _disk(settings: Settings) -> Iterator[Check]:
    if settings.database_url is not None:
        return  # The database's disk is not ours to see.
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:,.1f} GiB free at {place}"
    advice = "Make room: PostgreSQL stops when the disk is full."
    yield Check("disk", "green", found) if free >= FREE_BYTES_MIN else Check("disk", "red", found, advice)


def _database(settings: Settings, url: str) -> Iterator[Check]:
    with db.translated(), db.connect(url, role=None) as conn:
        how = "" if sessions.has_session(conn) else ", through a pooler, each transaction on its own"
        yield Check("database", "green", f"PostgreSQL {_version(conn)} answers{how}")
        yield _durability(settings, conn)
        try:
            migrate.require_current(conn)
        except SchemaMissing as error:
            if settings.database_url is None:  # Whatever opens the embedded database next will migrate it.
                yield Check("schema", "yellow", "not there yet", "Nothing: the next command makes it.")
            else:
                yield Check("schema", "red", error.detail)
            return
        except TillError as error:
            yield Check("schema", "red", error.detail)
            return
        yield Check("schema", "green", f"up to date ({migrate.shipped()[-1].name})")
    with db.translated(), db.connect(url) as conn:
        yield _inbox(conn)
        yield _mode(settings, conn)
        yield _prices(settings, conn)
        yield _findings(conn)
        yield _jobs(conn, utc_now())
        yield _books(conn)


def _version(conn: Conn) -> str:
    number = conn.info.server_version
    return f"{number // 10000}.{number % 10000}"


def _durability(settings: Settings, conn: Conn) -> Check:
    try:
        db.require_safe(conn, allow_unsafe=False)
    except TillError as error:
        state: State = "yellow" if settings.allow_unsafe_postgres else "red"
        return Check("durability", state, error.detail)
    return Check("durability", "green", "fsync, full_page_writes and synchronous_commit are on")


def _inbox(conn: Conn) -> Check:
    counts = inbox.counts(conn)
    found = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items())) or "no events yet"
    oldest = inbox.oldest_open(conn)
    if oldest is not None:
        found += f"; the oldest not handled is of {show.moment(oldest)}"
    if counts.get("failed"):
        advice = (
            "Somebody may have paid without getting tokens: `till stripe list --state failed` says why; then retry."
        )
        return Check("Stripe inbox", "red", found, advice)
    if counts.get("received"):
        advice = "Stored but not acted on: the worker will in a few minutes, or `till stripe retry EVENT` now."
        return Check("Stripe inbox", "yellow", found, advice)
    return Check("Stripe inbox", "green", found)


def _jobs(conn: Conn, now: datetime) -> Check:
    """Nothing is lost while no worker runs, but whoever has a drip due waits for it: yellow, and red for errors."""
    runs = jobs.last_runs(conn)
    failed = {name: run.error for name, run in runs.items() if run.error is not None}
    if failed:
        name, error = next(iter(failed.items()))
        advice = "It is tried again by itself; the log of `till serve` or `till worker` says more."
        return Check("jobs", "red", f"{name} failed: {error}", advice)
    advice = "Keep `till serve` or `till worker` running, or run `till worker --once` from cron."
    if not runs:
        return Check("jobs", "yellow", "none has ever run", advice)
    late = [job.name for job in JOBS if job.name not in runs or now - runs[job.name].started_at > job.late]
    if late:
        return Check("jobs", "yellow", f"late: {', '.join(late)}", advice)
    partly = {name: run.counts["failed"] for name, run in runs.items() if run.counts.get("failed")}
    if partly:
        found = ", ".join(f"{name}: {count:,} failed" for name, count in partly.items())
        return Check("jobs", "red", found, "The log of `till serve` or `till worker` names them, and says why.")
    return Check("jobs", "green", f"all ran; the latest {show.moment(max(run.started_at for run in runs.values()))}")


def _mode(settings: Settings, conn: Conn) -> Check:
    decided = inbox.livemode(conn)
    first = None if decided is None else "live" if decided else "test"
    if settings.stripe_mode is None:
        if first is None:
            return Check("Stripe mode", "green", "the first event will decide")
        return Check("Stripe mode", "green", f"{first}, by the first event that was acted on")
    if first not in (None, settings.stripe_mode):
        advice = f"The books hold grants of {first} mode: right only if they were meant to be kept."
        return Check("Stripe mode", "yellow", f"{settings.stripe_mode}, but the first events were of {first}", advice)
    return Check("Stripe mode", "green", f"{settings.stripe_mode}, by the settings")


def _prices(settings: Settings, conn: Conn) -> Check:
    book = prices.load(conn)
    if not book.models:
        advice = "`till prices update` fills it from the installed genai-prices."
        return Check("price book", "red", "empty: no call has a cost", advice)
    found = f"{len(book.models):,} models, revision {book.revision:,}"
    if settings.fallback_model is None:
        return Check("price book", "green", f"{found}; without a price: {settings.unknown_model}")
    if not book.knows(settings.fallback_model):
        advice = "Correct TILL_FALLBACK_MODEL: a name that `till prices show` knows, with its provider before a slash."
        return Check("price book", "red", f"{found}; the fallback {settings.fallback_model} is none of them", advice)
    return Check("price book", "green", f"{found}; without a price: as {settings.fallback_model}")


def _findings(conn: Conn) -> Check:
    count = findings.open_count(conn)
    if count:
        advice = "See `till findings`, set right what is not, then `till findings close ID`."
        return Check("findings", "yellow", f"{count:,} open", advice)
    return Check("findings", "green", "none open")


def _books(conn: Conn) -> Check:
    """Prove all books, or the first of so many equal ranges of user ids that one holds about ACCOUNTS_MAX."""
    books.begin_snapshot(conn)
    accounts_count = books.counts(conn)["accounts"]
    first, last = books.slices(-(-accounts_count // ACCOUNTS_MAX) or 1)[0]
    found_wrong: list[Finding] = list(books.check(conn, first, last))
    part = "" if accounts_count <= ACCOUNTS_MAX else f"about {ACCOUNTS_MAX:,} of "
    looked_at = part + show.counted(accounts_count, "account")
    if found_wrong:
        found = f"{show.counted(len(found_wrong), 'finding')} in {looked_at}"
        return Check("books", "red", found, "Run `till reconcile` to see them.")
    return Check("books", "green", f"proved for {looked_at}")


def masked(url: str) -> str:
    """Return a database URL without its password. Of an odd URL, rather too much is hidden than too little."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^/?#:@]*:).*@", r"\1***@", url))
