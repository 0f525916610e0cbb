"""Granting: what was paid for in Stripe becomes tokens, once, whichever message of it comes first.

The key of a grant is the business fact (this session's pack, this subscription's cycle), never the event's id, so
a duplicate, a checkout beside its first invoice, or two events about one payment grant once. Who comes first grants;
who comes later corrects what the first could not know. The event counts as handled in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokentill.core.companions import (
    Audited,
    Companion,
    CustomerSeen,
    EventHandled,
    Found,
    PaymentSeen,
    ProfileSeen,
    cycle_name,
)
from tokentill.core.ledger.commands import Grant, Paid, Redate
from tokentill.core.plans.catalog import Catalog
from tokentill.core.plans.clocks import number_begun_at
from tokentill.core.plans.subscriptions import Subscription, cycle_at, lot_expires_at
from tokentill.core.stripe.events import describe
from tokentill.core.stripe.meanings import Doubt, Intention, PackPaid, PeriodPaid, SubscriptionStarted, Who
from tokentill.core.users import User
from tokentill.engine import Answer
from tokentill.services.accounts.asking import pack_keys
from tokentill.services.context import Context
from tokentill.services.plans.dripping import establish, place_period, submit_cycle
from tokentill.services.stripe.reversing import settle_known
from tokentill.store import companions, inbox, payments, subscriptions
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt


@dataclass(frozen=True, slots=True)
class AskedPack:
    """A pack on its way through the engine, and what is written with it."""

    command: Grant
    beside: tuple[Companion, ...]
    answer: Answer[Receipt | None]


def ask_packs(context: Context, catalog: Catalog, event: InboxEvent, user: User, sale: PackPaid) -> AskedPack:
    """Ask for one lot for each pack in the cart, and do not wait for the last: so many sales can commit together.

    The event counts as handled with that last one, which `end_packs` waits for. Then the money side is to be settled.
    """
    payment = PaymentSeen(
        payment_id=sale.payment_id,
        names=(sale.charge_id,) if sale.charge_id else (),
        amount_cents=sale.amount_paid_cents,
        currency=sale.currency,
        customer_id=sale.who.customer_id,
        session_id=sale.session_id,
        invoice_id=sale.stripe_invoice_id,
        paid_at=sale.occurred_at,
    )
    shares = _shares(catalog, sale)
    last = len(sale.items) - 1
    for number, (pack_name, quantity) in enumerate(sale.items):
        pack = catalog.pack(pack_name)
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
        doubts = doubted(context, sale.doubts, sale.session_id or sale.payment_id)
        with_the_last: tuple[Companion, ...] = (*doubts, handled(event, sale)) if number == last else ()
        beside = (*seen(sale.who), payment, *with_the_last)
        answer = context.engine.submit(command, at=context.clock(), companions=beside)
        asked = AskedPack(command, beside, answer)
        if number < last:
            end_packs(context, sale, asked)
    return asked


def end_packs(context: Context, sale: PackPaid, asked: AskedPack) -> Receipt:
    """Wait until a pack is in the books, and write what this event knows beyond the first about the sale.

    A repeat that would have granted another number of tokens than the first did is a finding.
    """
    receipt, command, beside = asked.answer.result(), asked.command, asked.beside
    assert receipt is not None, command
    if receipt.is_replay and receipt.tokens != command.tokens:
        differs = Found(
            id=context.new_id(),
            kind="granted_differs",
            subject=f"{sale.session_id or sale.payment_id}/{command.token_pack_id}",
            expected=f"{command.tokens:,} tokens, as this event says",
            found=f"{receipt.tokens:,} tokens, granted before by row {receipt.id}",
        )
        beside = (differs, *beside)
    _catch_up_companions(context, command.user, receipt, beside)
    return receipt


def doubted(context: Context, doubts: Sequence[Doubt], subject: str) -> tuple[Found, ...]:
    """Return the finding that what was paid is not what the catalog asks, if it is not."""
    if not doubts:
        return ()
    expected, found = "; ".join(doubt.expected for doubt in doubts), "; ".join(doubt.found for doubt in doubts)
    return (Found(id=context.new_id(), kind="payment_amount", subject=subject, expected=expected, found=found),)


def _shares(catalog: Catalog, sale: PackPaid) -> list[int]:
    """Share what was paid among the packs by their prices; the last one takes what rounding leaves."""
    prices = [catalog.pack(name).price_cents * quantity for name, quantity in sale.items]
    total = sum(prices)
    shares = [sale.amount_paid_cents * price // total if total else 0 for price in prices[:-1]]
    return [*shares, sale.amount_paid_cents - sum(shares)]


def start_subscription(context: Context, event: InboxEvent, user: User, start: SubscriptionStarted) -> None:
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
    with context.connection() as conn:
        history = subscriptions.history(conn, subscription)
    number = number_begun_at(subscription, plan, history, start.occurred_at)
    paid = Paid(
        amount_cents=start.amount_paid_cents,
        currency=start.currency,
        payment_id=start.payment_id or start.invoice_id or start.session_id,
        session_id=start.session_id,
        invoice_id=start.invoice_id,
    )
    payment = PaymentSeen(
        payment_id=start.payment_id or start.invoice_id or start.session_id,
        names=(cycle_name(start.subscription_id, number),),
        amount_cents=start.amount_paid_cents,
        currency=start.currency,
        customer_id=start.who.customer_id,
        session_id=start.session_id,
        invoice_id=start.invoice_id,
        paid_at=start.occurred_at,
    )
    doubts = doubted(context, start.doubts, start.session_id)
    beside = (*seen(start.who), payment, *doubts, handled(event, start))
    receipt = submit_cycle(
        context, user, subscription, plan, cycle_at(subscription, number, plan.cycle), at=context.clock(), paid=paid,
        metadata=_metadata(event), companions=beside,
    ).result()  # fmt: skip
    _catch_up_companions(context, user, receipt, beside)
    settle_known(context, payment.payment_id)


def grant_period(context: Context, event: InboxEvent, user: User, period: PeriodPaid) -> None:
    """A paid invoice: the first cycle of the period that it bills; of a longer one our clock gives the others.

    If a checkout gave that cycle already, only its dates change.
    """
    with context.connection() as conn:
        if payments.is_invoice_known(conn, user.user_id, period.invoice_id):
            detail = f"{describe(period)}: its tokens are in the books already"
            inbox.settle(conn, event.event_id, state="handled", detail=detail, now=context.clock())
            return
    plan = context.catalog.plan(period.plan_key)
    wanted = Subscription(
        user_id=user.user_id,
        external_id=user.external_id,
        subscription_id=period.subscription_id,
        plan_key=plan.key,
        billed_by="stripe",
        anchor=period.period_start,
        is_anchor_known=False,
        stripe_customer_id=period.who.customer_id,
    )
    subscription, placed = place_period(context, wanted, plan, period)
    cycle = placed.cycle(placed.first_cycle)
    paid = Paid(
        amount_cents=placed.cents_of(placed.first_cycle),
        currency=period.currency,
        payment_id=period.payment_id or period.invoice_id,
        invoice_id=period.invoice_id,
    )
    payment = PaymentSeen(
        payment_id=period.payment_id or period.invoice_id,
        names=(*period.names, cycle_name(period.subscription_id, cycle.number)),
        amount_cents=period.amount_paid_cents,
        currency=period.currency,
        customer_id=period.who.customer_id,
        invoice_id=period.invoice_id,
        paid_at=period.occurred_at,
        period_start=period.period_start,
    )
    doubts = doubted(context, period.doubts, period.invoice_id)
    beside = (*seen(period.who), payment, *doubts, handled(event, period))
    receipt = submit_cycle(
        context, user, subscription, plan, cycle, at=context.clock(), paid=paid, metadata=_metadata(event),
        next_drip_at=cycle.ends_at if placed.cycles_count > 1 else None, companions=beside,
    ).result()  # fmt: skip
    if receipt is not None and receipt.is_replay:
        redate(context, event, user, Redate(
            user=user, subscription_id=period.subscription_id, cycle_number=cycle.number,
            expires_at=lot_expires_at(cycle, plan),
        ))  # fmt: skip
    _catch_up_companions(context, user, receipt, beside)
    settle_known(context, payment.payment_id)


def redate(context: Context, event: InboxEvent, user: User, redate: Redate) -> None:
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


def seen(who: Who) -> tuple[Companion, ...]:
    seen: list[Companion] = []
    if who.customer_id is not None:
        seen.append(CustomerSeen(customer_id=who.customer_id))
    if who.email is not None:
        seen.append(ProfileSeen(email=who.email))
    return tuple(seen)


def handled(event: InboxEvent, meaning: Intention) -> EventHandled:
    return EventHandled(event_id=event.event_id, detail=describe(meaning))


def _metadata(event: InboxEvent, quantity: int = 1) -> dict[str, object]:
    return {"stripe_event_id": event.event_id} | ({"quantity": quantity} if quantity != 1 else {})
