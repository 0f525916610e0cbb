"""Receiving: what Stripe says happened becomes tokens, once.

An event is stored first, whatever it is; then it is interpreted (`core.stripe_events`), and what it asks for goes to
the engine with the event's new state as a companion: the inbox says "handled" exactly when the tokens are in the books.
The key of a grant is the business fact (this session's pack, this subscription's cycle), never the event's id, so
a duplicate, a checkout beside its first invoice, or two events about one payment grant once.

Stripe promises no order. Whoever comes first grants; who comes later corrects what the first could not know.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import assert_never

from tokentill.core.commands import Grant, Paid, Redate
from tokentill.core.companions import (
    Audited,
    Companion,
    CustomerSeen,
    EventHandled,
    PaymentSeen,
    ProfileSeen,
)
from tokentill.core.drips import Cycle, Subscription, cycle_at, cycle_of, lot_expires_at
from tokentill.core.stripe_events import (
    Intention,
    PackPaid,
    PeriodPaid,
    SubscriptionStarted,
    Who,
    describe,
    interpret,
)
from tokentill.core.stripe_payloads import Ignored, Unclear
from tokentill.core.users import User
from tokentill.errors import MalformedBody, TillError, Unavailable
from tokentill.services.asking import pack_keys
from tokentill.services.context import Context
from tokentill.services.dripping import begin_anew, correct_anchor, establish, submit_cycle
from tokentill.store import accounts, companions, inbox, subscriptions
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt


def receive(context: Context, payload: Mapping[str, object]) -> InboxEvent:
    """Store an event and act on it; return it with what became of it. A known event is acted on once.

    Raises: MalformedBody when it is no Stripe event (nothing was stored); Unavailable when the database is (safe to
    send again).
    """
    event_id, event_type, created = payload.get("id"), payload.get("type"), payload.get("created")
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255 and isinstance(event_type, str)):
        raise MalformedBody("This is no Stripe event: it has no id or no type.")
    api_version, now = payload.get("api_version"), context.clock()
    with context.connection() as conn:
        event = inbox.receive(
            conn,
            payload,
            event_id=event_id,
            event_type=event_type[:255],
            api_version=api_version if isinstance(api_version, str) else None,
            livemode=payload.get("livemode") is True,
            occurred_at=_moment(created) or now,
            now=now,
        )
    return event if event.state in ("handled", "ignored") else handle(context, event)


def handle(context: Context, event: InboxEvent, *, is_retry: bool = False) -> InboxEvent:
    """Act on a stored event, and write what became of it."""
    meaning = interpret(event.payload, context.catalog)
    match meaning:
        case Ignored(reason=reason):
            return _settle(context, event, "ignored", reason)
        case Unclear(reason=reason):
            return _settle(context, event, "failed", reason)
    try:
        user = _user_of(context, meaning)
        if user is None:
            return _settle(context, event, "failed", "Nobody knows whose this is: no user id, no known customer.")
        _carry_out(context, event, user, meaning)
    except Unavailable:
        raise
    except TillError as error:
        return _settle(context, event, "failed", f"{error.code}: {error.detail}")
    if not is_retry and meaning.who.customer_id is not None:
        _retry_failed(context, meaning.who.customer_id)
    return _reread(context, event)


def _retry_failed(context: Context, customer_id: str) -> None:
    """Now that this customer is known, act on what it paid for while nobody knew whose it was."""
    with context.connection() as conn:
        waiting = inbox.failed_of_customer(conn, customer_id)
    for event in waiting:
        handle(context, event, is_retry=True)


def _carry_out(context: Context, event: InboxEvent, user: User, meaning: Intention) -> None:
    match meaning:
        case PackPaid():
            _sell_packs(context, event, user, meaning)
        case SubscriptionStarted():
            _start_subscription(context, event, user, meaning)
        case PeriodPaid():
            _grant_period(context, event, user, meaning)
        case _:  # pragma: no cover
            assert_never(meaning)


def _sell_packs(context: Context, event: InboxEvent, user: User, sale: PackPaid) -> None:
    """One lot for each pack in the cart. The event counts as handled with the last of them."""
    payment = PaymentSeen(
        payment_id=sale.payment_id,
        amount_cents=sale.amount_paid_cents,
        currency=sale.currency,
        customer_id=sale.who.customer_id,
        session_id=sale.session_id,
        invoice_id=sale.stripe_invoice_id,
        paid_at=sale.occurred_at,
    )
    shares = _shares(context, sale)
    for number, (pack_name, quantity) in enumerate(sale.items):
        pack = context.catalog.pack(pack_name)
        key, *aliases = pack_keys(pack.key, sale.session_id, sale.payment_id)
        paid = Paid(
            amount_cents=shares[number],
            currency=sale.currency,
            payment_id=sale.payment_id,
            session_id=sale.session_id,
            invoice_id=sale.stripe_invoice_id,
        )
        command = Grant(
            user=user, key=key, aliases=tuple(aliases), tokens=pack.tokens * quantity, kind="purchase",
            source="token_pack", transaction_type="purchase", paid=paid, token_pack_id=pack.key,
            metadata=_metadata(event, quantity),
        )  # fmt: skip
        is_last = number == len(sale.items) - 1
        beside = (*_seen(sale.who), payment, *((_handled(event, sale),) if is_last else ()))
        receipt = context.engine.submit(command, at=context.clock(), companions=beside).result()
        _catch_up_companions(context, user, receipt, beside)


def _shares(context: Context, sale: PackPaid) -> list[int]:
    """Share what was paid among the packs by their prices; the last one takes what rounding leaves."""
    prices = [context.catalog.pack(name).price_cents * quantity for name, quantity in sale.items]
    total = sum(prices)
    shares = [sale.amount_paid_cents * price // total if total else 0 for price in prices[:-1]]
    return [*shares, sale.amount_paid_cents - sum(shares)]


def _start_subscription(context: Context, event: InboxEvent, user: User, start: SubscriptionStarted) -> None:
    """A checkout of a subscription: its first cycle, from the session's time until an invoice tells the period."""
    plan = context.catalog.plan(start.plan_key)
    subscription = establish(
        context,
        Subscription(
            user_id=user.user_id,
            external_id=user.external_id,
            subscription_id=start.subscription_id,
            plan_key=plan.key,
            billed_by="stripe",
            anchor=start.occurred_at,
            is_anchor_known=False,
            stripe_customer_id=start.who.customer_id,
        ),
    )
    paid = Paid(
        amount_cents=start.amount_paid_cents,
        currency=start.currency,
        payment_id=start.payment_id,
        session_id=start.session_id,
        invoice_id=start.invoice_id,
    )
    beside = (*_seen(start.who), _handled(event, start))
    # If invoices came first, the count began with one of them, and this first cycle may lie before it.
    number = cycle_of(subscription, start.occurred_at, plan.cycle) if subscription.is_anchor_known else 1
    receipt = submit_cycle(
        context, user, subscription, plan, cycle_at(subscription, number, plan.cycle), at=context.clock(), paid=paid,
        metadata=_metadata(event), companions=beside,
    ).result()  # fmt: skip
    _catch_up_companions(context, user, receipt, beside)


def _grant_period(context: Context, event: InboxEvent, user: User, period: PeriodPaid) -> None:
    """A paid invoice: the cycle whose period it bills. If a checkout gave that cycle already, only its dates change."""
    with context.connection() as conn:
        if subscriptions.is_invoice_known(conn, user.user_id, period.invoice_id):
            detail = f"{describe(period)}: its tokens are in the books already"
            inbox.settle(conn, event.event_id, state="handled", detail=detail, now=context.clock())
            return
    plan = context.catalog.plan(period.plan_key)
    subscription = establish(
        context,
        Subscription(
            user_id=user.user_id,
            external_id=user.external_id,
            subscription_id=period.subscription_id,
            plan_key=plan.key,
            billed_by="stripe",
            anchor=period.period_start,
            # An invoice for a further cycle of a subscription that we have not met: its first was before our time.
            anchor_cycle=1 if period.is_first else 2,
            stripe_customer_id=period.who.customer_id,
        ),
    )
    if not subscription.is_anchor_known:
        number = cycle_of(subscription, period.period_start, plan.cycle)
        subscription = correct_anchor(context, subscription, Cycle(number, period.period_start, period.period_end))
    subscription = begin_anew(context, subscription, plan, period.period_start)
    number = cycle_of(subscription, period.period_start, plan.cycle)
    cycle = Cycle(number, period.period_start, period.period_end)
    paid = Paid(
        amount_cents=period.amount_paid_cents,
        currency=period.currency,
        payment_id=period.payment_id or period.invoice_id,
        invoice_id=period.invoice_id,
    )
    payment = PaymentSeen(
        payment_id=period.payment_id or period.invoice_id,
        amount_cents=period.amount_paid_cents,
        currency=period.currency,
        customer_id=period.who.customer_id,
        invoice_id=period.invoice_id,
        paid_at=period.occurred_at,
    )
    beside = (*_seen(period.who), payment, _handled(event, period))
    receipt = submit_cycle(
        context, user, subscription, plan, cycle, at=context.clock(), paid=paid, metadata=_metadata(event),
        companions=beside,
    ).result()  # fmt: skip
    if receipt is not None and receipt.is_replay:
        _redate(context, event, user, Redate(
            user=user, subscription_id=period.subscription_id, cycle_number=number,
            expires_at=lot_expires_at(cycle, plan),
        ))  # fmt: skip
    _catch_up_companions(context, user, receipt, beside)


def _redate(context: Context, event: InboxEvent, user: User, redate: Redate) -> None:
    """Let the cycle's lot end when its period says. Written, with its audit, only where it changes anything."""
    audited = Audited(
        id=context.new_id(),
        actor="stripe",
        act="redate",
        detail={
            "event_id": event.event_id,
            "subscription_id": redate.subscription_id,
            "cycle_number": redate.cycle_number,
            "expires_at": redate.expires_at.isoformat(),
        },
    )
    context.engine.submit(redate, at=context.clock(), companions=(audited,)).result()


def _catch_up_companions(context: Context, user: User, receipt: Receipt | None, beside: tuple[Companion, ...]) -> None:
    """What was granted before wrote no companions now: write what this event knows beyond the first one."""
    if receipt is not None and receipt.is_replay:
        with context.connection() as conn:
            companions.write(conn, user.user_id, beside, seq=receipt.seq, now=context.clock())


def _user_of(context: Context, meaning: Intention) -> User | None:
    """Whose it is: a known subscription stays its user's; else the ids that the app gave Stripe, else the customer."""
    subscription_id = None if isinstance(meaning, PackPaid) else meaning.subscription_id
    with context.connection() as conn:
        user_id = subscriptions.known_user(conn, subscription_id=subscription_id, customer_id=None)
        if user_id is None and meaning.who.user_id is not None:
            return User.of(meaning.who.user_id)
        if user_id is None:
            user_id = subscriptions.known_user(conn, subscription_id=None, customer_id=meaning.who.customer_id)
        if user_id is None:
            return None
        known = accounts.load(conn, [user_id]).get(user_id)
    return known.user if known else User.of(meaning.who.user_id or user_id)


def _seen(who: Who) -> tuple[Companion, ...]:
    seen: list[Companion] = []
    if who.customer_id is not None:
        seen.append(CustomerSeen(customer_id=who.customer_id))
    if who.email is not None:
        seen.append(ProfileSeen(email=who.email))
    return tuple(seen)


def _handled(event: InboxEvent, meaning: Intention) -> EventHandled:
    return EventHandled(event_id=event.event_id, detail=describe(meaning))


def _metadata(event: InboxEvent, quantity: int = 1) -> dict[str, object]:
    return {"stripe_event_id": event.event_id} | ({"quantity": quantity} if quantity != 1 else {})


def _settle(context: Context, event: InboxEvent, state: str, detail: str) -> InboxEvent:
    with context.connection() as conn:
        inbox.settle(conn, event.event_id, state=state, detail=detail, now=context.clock())
    return _reread(context, event)


def _reread(context: Context, event: InboxEvent) -> InboxEvent:
    with context.connection() as conn:
        found = inbox.find(conn, event.event_id)
    assert found is not None, event.event_id
    return found


def _moment(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 2**34:
        return None
    return datetime.fromtimestamp(seconds, UTC)
