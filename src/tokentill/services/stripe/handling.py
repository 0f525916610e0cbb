"""Handling: acts on events of the inbox that are stored, and writes what became of each.

Events come in batches. Those that have a name in common (a customer, a subscription, a payment, a user) are acted on
one after the other, in the order given; the others at the same time.

What happens to an event:

* nothing to do, or of another mode than the till's: ignored, with the reason;
* not to be understood, nobody's, refused, or a bug of ours: failed, with the reason, and tried again by itself
  (`core.retries`), by hand, or as soon as its customer is known;
* an outage, or this process dies: it stays received, and `retry_due` takes it up.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import assert_never

from tokentill.core.plans.catalog import Catalog
from tokentill.core.retries import next_attempt_at
from tokentill.core.stripe.meanings import (
    Intention,
    MoneySeen,
    PackPaid,
    PeriodPaid,
    SubscriptionSeen,
    SubscriptionStarted,
)
from tokentill.core.stripe.payloads import Ignored, Unclear
from tokentill.core.users import User
from tokentill.errors import TillError, Unavailable
from tokentill.services.context import Context
from tokentill.services.stripe.following import follow
from tokentill.services.stripe.granting import AskedPack, ask_packs, end_packs, grant_period, start_subscription
from tokentill.services.stripe.inquiring import Meaning, meaning_of
from tokentill.services.stripe.reversing import reverse, settle_known
from tokentill.store import customers, inbox
from tokentill.store.customers import Known
from tokentill.store.db import Conn
from tokentill.store.inbox import InboxEvent, Settlement

AT_ONCE = 4  # Events of a batch that need several steps each, and so a thread of their own.
# What is written down also while nobody knows whose it is.
OF_NOBODY = (MoneySeen, SubscriptionSeen)

log = logging.getLogger("tokentill.receiving")


@dataclass(frozen=True, slots=True)
class _Task:
    event: InboxEvent
    meaning: Intention
    user: User | None = None  # None: not known, or not needed.


def handle_all(
    context: Context, found: Sequence[tuple[InboxEvent, Meaning]], *, is_retry: bool = False
) -> dict[str, InboxEvent]:
    """Act on stored events, and write what became of them.

    Raises: Unavailable when the database does not answer; what was not settled stays as it was.
    """
    catalog = context.catalog  # Once for the batch, and before a connection is taken.
    settlements: list[Settlement] = []
    tasks: list[_Task] = []
    events = {event.event_id: event for event, _ in found}
    with context.connection() as conn:
        known = _known(conn, found)
        known_before = set(known.of_customer)
        decided = context.livemode if context.livemode is not None else inbox.livemode(conn)
        for event, meaning in found:
            if isinstance(meaning, Ignored):
                settlements.append(Settlement(event.event_id, "ignored", meaning.reason))
                continue
            if decided is None and _can_act(meaning, known):
                decided = inbox.decide_livemode(conn, event.livemode, now=context.clock())
            if decided is not None and event.livemode != decided:
                settlements.append(_of_another_mode(context, event))
            elif isinstance(meaning, Unclear):
                settlements.append(_failed(context, event, meaning.reason))
            else:
                tasks.append(_Task(event, meaning))
    carried_out: list[_Task] = []
    while tasks:
        turn, tasks = _next_turn(tasks)
        turn = [replace(task, user=_whose(task.meaning, known)) for task in turn]
        settlements += _take_turn(context, catalog, turn)
        carried_out += turn
        if tasks:  # What was just done may say whose the rest is.
            with context.connection() as conn:
                known = _known(conn, [(task.event, task.meaning) for task in tasks])
    with context.connection() as conn:
        if settlements:
            inbox.settle_all(conn, settlements, now=context.clock())
        fates = inbox.fates(conn, events)
    if not is_retry:
        failed = {settlement.event_id for settlement in settlements}
        newly_known = {
            task.meaning.who.customer_id
            for task in carried_out
            if task.user is not None and task.event.event_id not in failed
        } - known_before
        _retry_failed(context, catalog, {customer_id for customer_id in newly_known if customer_id is not None})
    return {event_id: replace(event, **fates[event_id]) for event_id, event in events.items()}


def _next_turn(tasks: Sequence[_Task]) -> tuple[list[_Task], list[_Task]]:
    """Take those that have no name in common with one before them; return them and the rest, in order."""
    turn, rest, names = list[_Task](), list[_Task](), set[str]()
    for task in tasks:
        own = _names(task.meaning)
        (turn if names.isdisjoint(own) else rest).append(task)
        names |= own
    return turn, rest


def _names(meaning: Intention) -> set[str]:
    """Return all that an event is about, by its ids."""
    who = meaning.who
    names = {who.user_id and f"user {who.user_id}", who.customer_id}
    match meaning:
        case PackPaid():
            names |= {meaning.session_id, meaning.payment_id, meaning.charge_id, meaning.stripe_invoice_id}
        case SubscriptionStarted():
            names |= {meaning.session_id, meaning.subscription_id, meaning.invoice_id, meaning.payment_id}
        case PeriodPaid():
            names |= {meaning.subscription_id, meaning.invoice_id, meaning.payment_id, *meaning.names}
        case SubscriptionSeen():
            names |= {meaning.subscription_id}
        case MoneySeen():
            names |= {meaning.payment_id, *meaning.names}
        case _:  # pragma: no cover
            assert_never(meaning)
    return {name for name in names if name is not None}


def _take_turn(context: Context, catalog: Catalog, turn: Sequence[_Task]) -> list[Settlement]:
    """Carry out tasks that have nothing to do with each other, all at the same time; return what failed."""
    settlements: list[Settlement | None] = []
    asked: list[tuple[_Task, PackPaid, AskedPack]] = []
    others: list[_Task] = []
    for task in turn:
        if task.user is None and not isinstance(task.meaning, OF_NOBODY):
            reason = "Nobody knows whose this is: no user id, no known customer."
            settlements.append(_failed(context, task.event, reason))
        elif isinstance(task.meaning, PackPaid):
            assert task.user is not None
            try:
                asked.append((task, task.meaning, ask_packs(context, catalog, task.event, task.user, task.meaning)))
            except Exception as error:  # noqa: BLE001  whatever it is, it must be kept with the event
                settlements.append(_failure(context, task.event, error))
        else:
            others.append(task)
    if len(others) == 1:
        settlements.append(_carry_out(context, others[0]))
    elif others:
        with ThreadPoolExecutor(min(AT_ONCE, len(others)), thread_name_prefix="till-receiving") as pool:
            settlements += pool.map(lambda task: _carry_out(context, task), others)
    for task, sale, pack in asked:
        try:
            end_packs(context, sale, pack)
        except Exception as error:  # noqa: BLE001  whatever it is, it must be kept with the event
            settlements.append(_failure(context, task.event, error))
    try:
        settle_known(context, *(sale.payment_id for _, sale, _ in asked))
    except Exception:  # What was sold is in the books; `settle_due` finds what is not settled.
        log.exception("%d payments wait to be settled", len(asked))
    return [settlement for settlement in settlements if settlement is not None]


def _carry_out(context: Context, task: _Task) -> Settlement | None:
    event, meaning, user = task.event, task.meaning, task.user
    try:
        match meaning:
            case SubscriptionStarted():
                assert user is not None
                start_subscription(context, event, user, meaning)
            case PeriodPaid():
                assert user is not None
                grant_period(context, event, user, meaning)
            case SubscriptionSeen():
                follow(context, event, user, meaning)
            case MoneySeen():
                reverse(context, event, meaning)
            case _:  # pragma: no cover
                raise AssertionError(meaning)
    except Exception as error:  # noqa: BLE001  whatever it is, it must be kept with the event
        return _failure(context, event, error)
    return None


def _known(conn: Conn, found: Iterable[tuple[InboxEvent, Meaning]]) -> Known:
    intentions = [meaning for _, meaning in found if not isinstance(meaning, Ignored | Unclear)]
    subscriptions = {meaning.subscription_id for meaning in intentions if not isinstance(meaning, PackPaid | MoneySeen)}
    sales = [meaning for meaning in intentions if isinstance(meaning, PackPaid)]
    of_customers = {meaning.who.customer_id for meaning in intentions if meaning.who.customer_id is not None}
    payments = {name for sale in sales for name in (sale.payment_id, sale.session_id) if name is not None}
    return customers.known(conn, subscriptions=subscriptions, payments=payments, customers=of_customers)


def _can_act(meaning: Meaning, known: Known) -> bool:
    if isinstance(meaning, Ignored | Unclear):
        return False
    return isinstance(meaning, OF_NOBODY) or _whose(meaning, known) is not None


def _whose(meaning: Intention, known: Known) -> User | None:
    """Whose it is: a known subscription or payment stays its user's, or each of two users would be granted the same;
    else the ids that the app gave Stripe, else the customer.
    """
    if isinstance(meaning, PackPaid):
        for name in (meaning.payment_id, meaning.session_id):
            if name is not None and name in known.of_payment:
                return known.of_payment[name]
    elif not isinstance(meaning, MoneySeen):
        user = known.of_subscription.get(meaning.subscription_id)
        if user is not None:
            return user
    if meaning.who.user_id is not None:
        return User.of(meaning.who.user_id)
    return known.of_customer.get(meaning.who.customer_id or "")


def _retry_failed(context: Context, catalog: Catalog, customer_ids: set[str]) -> None:
    """Now that these customers are known, act on what they paid for while nobody knew whose it was."""
    if not customer_ids:
        return
    with context.connection() as conn:
        waiting = inbox.failed_of_customers(conn, customer_ids)
    if waiting:
        handle_all(
            context, [(event, meaning_of(context.stripe, catalog, event.payload)) for event in waiting], is_retry=True
        )


def handle(context: Context, found: Sequence[tuple[InboxEvent, Meaning]]) -> dict[str, InboxEvent]:
    """Act on a batch; if a bug of ours breaks it, on each event alone, so that one keeps nobody else waiting.

    Raises: Unavailable.
    """
    if not found:
        return {}
    try:
        return handle_all(context, found)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it must be kept with the event
        if len(found) > 1:
            return {event.event_id: handle(context, [(event, of)])[event.event_id] for event, of in found}
        [(event, _)] = found
        with context.connection() as conn:
            inbox.settle_all(conn, [_broken(context, event, error)], now=context.clock())
            return {event.event_id: replace(event, **inbox.fates(conn, [event.event_id])[event.event_id])}


# --- What became of an event ---


def _of_another_mode(context: Context, event: InboxEvent) -> Settlement:
    mode, other = ("live", "test") if event.livemode else ("test", "live")
    if context.livemode is not None:
        return Settlement(event.event_id, "ignored", f"of {mode} mode, and the settings are for {other} mode")
    said = f"of {mode} mode, and the first event acted on was of {other} mode"
    return _failed(context, event, f"{said}: set TILL_STRIPE_MODE to say which counts")


def _failure(context: Context, event: InboxEvent, error: Exception) -> Settlement | None:
    """Return what an error makes of an event. None: an outage, and it stays as it is."""
    if isinstance(error, Unavailable):
        log.warning("event %s waits to be acted on: %s", ascii(event.event_id), error.detail)
        return None
    if isinstance(error, TillError):
        return _failed(context, event, f"{error.code}: {error.detail}")
    return _broken(context, event, error)


def _broken(context: Context, event: InboxEvent, error: Exception) -> Settlement:
    log.error("event %s failed", ascii(event.event_id), exc_info=error)
    return _failed(context, event, f"an error of ours ({type(error).__name__}); it is in the log")


def _failed(context: Context, event: InboxEvent, reason: str) -> Settlement:
    reason = reason.encode("utf-8", "replace").decode().replace("\0", "")  # It may quote what no text column holds.
    return Settlement(event.event_id, "failed", reason, next_attempt_at(event.attempts + 1, at=context.clock()))
