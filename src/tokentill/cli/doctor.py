"""The doctor: looks at everything that must be right, and says what to do about what is not. Changes nothing."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import typer
from rich.text import Text

from tokentill.cli import show
from tokentill.cli.opening import database_url
from tokentill.cli.show import AsJson
from tokentill.core.reconciliation import Finding
from tokentill.errors import SchemaMissing, TillError
from tokentill.settings import Settings
from tokentill.store import books, db, inbox, migrate
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
        show.table("till doctor", columns, [_row(check) for check in checks])
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
        yield Check("database", "red", error.detail, "Is TILL_DATABASE_URL right, and does the server run?")


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
        yield Check("database", "green", f"PostgreSQL {_version(conn)} answers")
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
    if counts.get("failed"):
        advice = "Somebody may have paid without getting tokens: see `detail` in stripe_events, then replay the events."
        return Check("Stripe inbox", "red", found, advice)
    if counts.get("received"):
        return Check("Stripe inbox", "yellow", found, "Stored but not acted on: replay them (`till stripe replay`).")
    return Check("Stripe inbox", "green", found)


def _books(conn: Conn) -> Check:
    """Prove all books, or the first of so many equal ranges of user ids that one holds about ACCOUNTS_MAX."""
    books.begin_snapshot(conn)
    accounts_count = books.counts(conn)["accounts"]
    first, last = books.slices(-(-accounts_count // ACCOUNTS_MAX) or 1)[0]
    findings: list[Finding] = list(books.check(conn, first, last))
    part = "" if accounts_count <= ACCOUNTS_MAX else f"about {ACCOUNTS_MAX:,} of "
    looked_at = part + show.counted(accounts_count, "account")
    if findings:
        found = f"{show.counted(len(findings), 'finding')} in {looked_at}"
        return Check("books", "red", found, "Run `till reconcile` to see them.")
    return Check("books", "green", f"proved for {looked_at}")


def masked(url: str) -> str:
    """Return a database URL without its password. Of an odd URL, rather too much is hidden than too little."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^/?#:@]*:).*@", r"\1***@", url))
