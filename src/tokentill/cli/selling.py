"""Commands that sell through Stripe: a checkout, the billing portal, and the products and prices there."""

from typing import Annotated

import typer
from rich.text import Text

from tokentill.cli import show
from tokentill.cli.given import By, KeyOption, UserArg, actor
from tokentill.cli.show import AsJson
from tokentill.services.stripe.selling import Step
from tokentill.till import Till


def checkout(
    user: UserArg,
    offer: Annotated[str, typer.Argument(metavar="PACK|PLAN", help="What is sold, by its key in the catalog.")],
    success_url: Annotated[str, typer.Option("--success-url", help="Where the buyer comes back to after paying.")],
    cancel_url: Annotated[str | None, typer.Option("--cancel-url", help="The same without paying.")] = None,
    quantity: Annotated[int, typer.Option("--quantity", help="How many packs.")] = 1,
    email: Annotated[str | None, typer.Option("--email", help="Filled in for a buyer who is new to Stripe.")] = None,
    trial_days: Annotated[int | None, typer.Option("--trial-days", help="The plan begins with a trial.")] = None,
    promotion_codes: Annotated[bool, typer.Option("--promotion-codes", help="Let the buyer enter a code.")] = False,
    key: KeyOption = None,
    json: AsJson = False,
) -> None:
    """Make a checkout at Stripe and print where the buyer can pay. The webhook grants when it is paid."""
    with Till.connect() as till:
        is_plan = offer in till.catalog.plans
        made = till.checkout(
            user, pack=None if is_plan else offer, plan=offer if is_plan else None, quantity=quantity,
            success_url=success_url, cancel_url=cancel_url, email=email, trial_days=trial_days,
            allow_promotion_codes=promotion_codes, idempotency_key=key,
        )  # fmt: skip
    if json:
        show.as_json(
            {"checkout_id": made.checkout_id, "session_id": made.session_id, "url": made.url,
             "expires_at": made.expires_at, "replayed": made.is_replay}
        )  # fmt: skip
    else:
        show.line(str(made.url))


def portal(
    user: UserArg,
    return_url: Annotated[str, typer.Option("--return-url", help="Where the portal leads back to.")],
    json: AsJson = False,
) -> None:
    """Print the address of Stripe's billing portal for a user. It is good for some minutes."""
    with Till.connect() as till:
        url = till.portal(user, return_url=return_url)
    if json:
        show.as_json({"url": url})
    else:
        show.line(url)


def sync_catalog(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would find and make; change nothing.")
    ] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Find or make a product and a price in Stripe for all that is on sale, and note the prices in the catalog.

    Archives nothing. Run again, it finds what is there and changes nothing.
    """
    with Till.connect() as till:
        steps = till.sync_catalog(created_by=actor(by), dry_run=dry_run)
        revision, _ = till.read_catalog()
    if json:
        show.as_json({"is_dry_run": dry_run, "revision": revision, "steps": steps})
        return
    columns = {"offer": "left", "what": "left", "": "left", "in Stripe": "left", "catalog": "left"}
    empty = "Nothing is on sale: `till catalog load FILE` brings a price list."
    show.table("till stripe sync-catalog", columns, [_row(step, dry_run) for step in steps], empty=empty)
    made, noted = sum(step.is_new for step in steps), sum(step.is_change for step in steps)
    would = "would be " if dry_run else ""
    show.line(f"{made:,} {would}made in Stripe, {noted:,} {would}noted in the catalog (revision {revision}).")


def _row(step: Step, is_dry_run: bool) -> list[object]:
    done = ("would make" if is_dry_run else "made") if step.is_new else "found"
    noted = ("would be noted" if is_dry_run else "noted") if step.is_change else ""
    return [step.offer_key, step.what, Text(done, style="yellow" if step.is_new else ""), step.stripe_id or "-", noted]
