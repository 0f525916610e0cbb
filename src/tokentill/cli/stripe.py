"""Commands about Stripe's events: what came, what became of it, and trying again."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from tokentill.cli import show
from tokentill.cli.given import By, UserArg, actor, moment_of
from tokentill.cli.show import AsJson
from tokentill.core.plans.catalog import Catalog
from tokentill.core.stripe.events import describe, interpret
from tokentill.core.stripe.payloads import Ignored, Unclear
from tokentill.core.users import User
from tokentill.errors import InvalidRequest, MalformedBody
from tokentill.store.inbox import STATES, InboxEvent
from tokentill.stripe.replaying import Found, read
from tokentill.till import Till

Outcome = dict[str, object]
_CUSTOMER = re.compile(r"g?cus_[A-Za-z0-9_]{1,250}")  # gcus_: who paid as a guest.
_NOTHING: Mapping[str, object] = {}
Tell = Callable[[Found], Outcome]


def replay(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders with events.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what each event means; touch nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Receive Stripe events from files, as if Stripe sent them again. Each event happens once, however often it comes.

    A .jsonl file has one event per line; any other is one JSON document: an event, a list of events, or Stripe's own
    list object. A folder is searched for .json and .jsonl files, and all its events are told in the order of their
    `created`, then of their paths. Signatures are not asked for: whoever may run this may grant tokens anyway.

    Prints a line for each event: its state, id, type and detail. Exits with 1 when one failed or could not be read.
    """
    outcomes: list[Outcome] = []
    if dry_run:
        with Till.connect() as till:
            catalog = till.catalog
        _each(paths, lambda found: _meaning(found, catalog), outcomes, json)
    else:
        with Till.connect() as till:
            _each(paths, lambda found: _received(till, found), outcomes, json)
    if json:
        show.as_json(outcomes)
    elif not outcomes:
        show.line("There is no event in these files.")
    if any(outcome["state"] in ("failed", "malformed") for outcome in outcomes):
        raise typer.Exit(1)


def _each(paths: list[Path], tell: Tell, outcomes: list[Outcome], json: bool) -> None:
    for found in read(paths):
        outcome = tell(found) if found.error is None else _malformed(found, found.error)
        outcomes.append(outcome)
        if not json:
            named = outcome["event_id"] or outcome["place"]
            show.line(f"{outcome['state']!s:9}  {named}  {outcome['type'] or '-'}  {outcome['detail'] or ''}")


def _received(till: Till, found: Found) -> Outcome:
    assert found.event is not None, found
    try:
        event = till.receive_stripe_event(found.event)
    except MalformedBody as error:
        return _malformed(found, error.detail)
    return _outcome(found, event.state, event.event_id, event.type, event.detail)


def _meaning(found: Found, catalog: Catalog) -> Outcome:
    """What an event would do, by the catalog alone: whether it was received before is not asked."""
    assert found.event is not None, found
    meaning = interpret(found.event, catalog)
    match meaning:
        case Ignored():
            state = "ignored"
        case Unclear():
            state = "failed"
        case _:
            state = "would do"
    return _outcome(found, state, found.event.get("id"), found.event.get("type"), describe(meaning))


def _malformed(found: Found, error: str) -> Outcome:
    return _outcome(found, "malformed", None, None, error)


def _outcome(found: Found, state: str, event_id: object, event_type: object, detail: str | None) -> Outcome:
    return {"place": found.place, "state": state, "event_id": event_id, "type": event_type, "detail": detail}


def list_events(
    state: Annotated[
        str | None, typer.Option("--state", help="Only these: received, handled, ignored, failed.")
    ] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this type, such as invoice.paid.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only those that were about this user.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Only of this Stripe customer.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only those received since: a date or time.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many, latest first.")] = 50,
    json: AsJson = False,
) -> None:
    """Show the inbox: what Stripe sent, latest first, and what became of it."""
    if state is not None and state not in STATES:
        raise InvalidRequest(f"--state is one of {', '.join(STATES)}, not {state[:40]!r}.", field="state")
    with Till.connect() as till:
        events = till.stripe_events(
            state=state, event_type=event_type, user=user, customer_id=customer, since=moment_of(since, "--since"),
            limit=limit,
        )  # fmt: skip
    if json:
        show.as_json({"events": [told(event) for event in events]})
        return
    columns = {"received": "left", "event": "left", "type": "left", "state": "left", "tries": "right", "detail": "left"}
    is_narrowed = any(each is not None for each in (state, event_type, user, customer, since))
    empty = (
        "No event is like that." if is_narrowed
        else "Stripe has sent nothing yet: its webhook goes to /v1/stripe/webhook of `till serve`."
    )  # fmt: skip
    show.table("Stripe inbox", columns, [_row(event) for event in events], empty=empty)


def show_event(
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id: evt_…")], json: AsJson = False
) -> None:
    """Show one event: what it means, what became of it, the journal row it caused, and all that Stripe said."""
    with Till.connect() as till:
        event = till.stripe_event(event_id)
        meaning = describe(interpret(event.payload, till.catalog))
        name, seq = event.user_name, event.seq
        rows = till.history(name, limit=1, before_seq=seq + 1) if name is not None and seq is not None else []
    row = rows[0] if rows else None
    if json:
        from tokentill.http.bodies import HistoryView
        from tokentill.http.routes.inbox_bodies import detail_of

        entries = HistoryView.of(rows, name, next_cursor=None).entries if name is not None else []
        show.as_json(show.view(detail_of(event, meaning=meaning, row=entries[0] if entries else None)))
        return
    facts: dict[str, object] = {**told(event), "meaning": meaning}
    facts |= {field: show.moment(getattr(event, field), otherwise="-") for field in facts if field.endswith("_at")}
    if row is not None:
        facts["row"] = f"{row.seq}: {row.type}, {show.tokens(row.tokens, is_signed=True)} tokens"
    show.facts(event.event_id, facts)
    show.as_json(event.payload)


def retry(
    event_ids: Annotated[list[str] | None, typer.Argument(metavar="EVENT...", help="Events to act on again.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed, oldest first.")] = False,
    json: AsJson = False,
) -> None:
    """Act on stored events again, also on ignored ones. What was handled stays as it is: nothing is granted twice.

    Prints a line for each event; exits with 1 when one failed again.
    """
    if bool(event_ids) == failed:
        raise InvalidRequest("Name the events to try again, or give --failed for all that failed.")
    with Till.connect() as till:
        _tell(till.retry_failed_stripe_events() if failed else till.retry_stripe_events(event_ids or []), json)


def ignore(
    event_ids: Annotated[list[str], typer.Argument(metavar="EVENT...", help="Events to give up on.")],
    reason: Annotated[str, typer.Option("--reason", help="Why: kept with the event and in the audit log.")],
    by: By = None,
    json: AsJson = False,
) -> None:
    """Give up on events that failed: they are not tried again, and the doctor does not remind of them any more.

    What was handled stays as it is. `till stripe retry EVENT` acts on them all the same, should it be needed.
    """
    with Till.connect() as till:
        _tell(till.ignore_stripe_events(event_ids, reason=reason, ignored_by=actor(by)), json)


def link(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer in Stripe: cus_…")],
    user: UserArg,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Say which user a Stripe customer is, and grant what it paid for while nobody knew.

    Replaces who it was before; what was granted stays where it is. Kept in the audit log. Prints a line for each event
    that had failed; exits with 1 when one failed again.
    """
    if not _CUSTOMER.fullmatch(customer):
        detail = f"CUSTOMER is the id of a customer in Stripe, like cus_9s6XKzkNRiz8i3, not {customer[:60]!r}."
        raise InvalidRequest(detail, field="customer_id")
    with Till.connect() as till:
        events = list(till.link_stripe_customer(customer, user, linked_by=actor(by)))
    name = User.of(user).name
    said = f"{customer} is {name} from now on; "
    said += f"{show.counted(len(events), 'event')} had waited for that:" if events else "no event had waited for that."
    _tell(events, json, said=said, beside={"customer_id": customer, "user_id": name})


def told(event: InboxEvent) -> dict[str, object]:
    """Return an event as the API does, without its payload."""
    from tokentill.http.routes.inbox_bodies import StripeEventView

    return show.view(StripeEventView.of(event))


def _row(event: InboxEvent) -> list[object]:
    return [
        show.moment(event.received_at), event.event_id, event.type, event.state, event.attempts, event.detail
    ]  # fmt: skip


def _tell(
    events: Iterable[InboxEvent], json: bool, *, said: str | None = None, beside: Mapping[str, object] = _NOTHING
) -> None:
    """Print what became of events, a line for each as soon as it is known, under what is `said` of all."""
    seen: list[InboxEvent] = []
    if said is not None and not json:
        show.line(said)
    for event in events:
        seen.append(event)
        if not json:
            show.line(f"{event.state:9}  {event.event_id}  {event.type}  {event.detail or ''}")
    if json:
        show.as_json({**beside, "events": [told(event) for event in seen]})
    elif not seen and said is None:
        show.line("No event was waiting.")
    if any(event.state in ("received", "failed") for event in seen):
        raise typer.Exit(1)
