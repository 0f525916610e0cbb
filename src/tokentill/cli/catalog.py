"""Commands about the catalog: what is sold, and a new price list."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import By, actor
from tokentill.cli.show import AsJson
from tokentill.core.edits import Change
from tokentill.core.money import money
from tokentill.core.plans.catalog import Catalog, Offer, Plan
from tokentill.core.plans.price_lists import as_json
from tokentill.errors import InvalidCatalog
from tokentill.till import Till

FILE_BYTES_MAX = 2**20


def catalog_show(json: AsJson = False) -> None:
    """Show the catalog in force: plans, packs and the trial."""
    with Till.connect() as till:
        revision, found = till.read_catalog()
    if json:
        show.as_json({"revision": revision, **as_json(found)})
    else:
        _show(revision, found)


def catalog_load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole catalog, in TOML.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Make a price list the catalog, and show what that changes. What it leaves out is retired.

    Touches nothing that was granted; a running server sells by it from then on. Safe to repeat.
    """
    price_list = _read(file)
    with Till.connect() as till:
        who = actor(by)
        if not json and not dry_run:
            planned = till.edit_catalog(price_list, created_by=who, dry_run=True)
            _show_changes(planned.changes)
            done = till.edit_catalog(price_list, created_by=who, revision=planned.revision)
        else:
            done = till.edit_catalog(price_list, created_by=who, dry_run=dry_run)
    if json:
        show.as_json({"is_dry_run": dry_run, "revision": done.revision, "changes": done.changes})
        return
    if dry_run:
        _show_changes(done.changes)
    if not done.changes:
        show.line(f"The catalog says so already (revision {done.revision}).")
    elif dry_run:
        show.line("Nothing was changed: this was a dry run.")
    else:
        show.line(f"The catalog is at revision {done.revision} now.")


def _read(file: Path) -> dict[str, object]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidCatalog(f"{file} cannot be read: {error.strerror or error}.") from None
    if len(content) > FILE_BYTES_MAX:
        raise InvalidCatalog(f"{file} has {len(content):,} bytes; a price list has at most {FILE_BYTES_MAX:,}.")
    try:
        found = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidCatalog(f"{file} is no TOML: {str(error) or type(error).__name__}.") from None
    if not found:  # A file that was cut off would retire all that is sold.
        raise InvalidCatalog(f"{file} is empty: a price list has plans and packs.")
    return found


def _show(revision: int, found: Catalog) -> None:
    columns = {"key": "left", "name": "left", "kind": "left", "price": "right", "tokens": "right",
               "rollover": "left", "Stripe price": "left", "": "left"}  # fmt: skip
    offers = list(found.offers())
    show.table(f"Catalog, revision {revision}", columns, [_row(offer) for offer in offers], empty="")
    if not any(offer.is_active for offer in offers):
        show.line("Nothing is on sale: `till catalog load FILE` brings a price list.")
    show.line(f"A trial gives {show.tokens(found.trial_tokens)} tokens for {found.trial_days} days.")


def _row(offer: Offer) -> list[object]:
    rollover = ""
    if isinstance(offer, Plan) and offer.kind == "drip":
        cap = "" if offer.rollover_cap_tokens is None else f", at most {show.tokens(offer.rollover_cap_tokens)}"
        rollover = f"{show.counted(offer.rollover_cycles, 'cycle')}{cap}"
    price = money(offer.price_cents, offer.currency)
    retired = "" if offer.is_active else "retired"
    kind = f"{offer.kind} plan" if isinstance(offer, Plan) else "pack"
    return [offer.key, offer.name, kind, price, show.tokens(offer.tokens), rollover, offer.stripe_price_id, retired]


def _show_changes(changes: Sequence[Change]) -> None:
    if changes:
        columns = {"what": "left", "field": "left", "before": "left", "after": "left"}
        rows = [[each.what, each.field, _value(each.before), _value(each.after)] for each in changes]
        show.table("Changes", columns, rows, empty="")


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"  # As the file has it.
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)
