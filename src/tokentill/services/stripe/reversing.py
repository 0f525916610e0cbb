"""Reversing: what money moved back (or returned) takes tokens back (or returns them).

How the money stands is written first, and committed: refunds and disputes as their newest snapshots say, whether or
not anybody knows yet what the payment bought. Then a `Reverse` lets the tokens follow: it is decided from the whole
state, so it does not matter which event asks for it, how often, or in which order. Whoever grants something for a
payment asks, too: its refund may have come first. What a crash leaves between the two steps, `settle_due` finds.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from uuid import UUID

from tokentill.core.companions import Companion, EventHandled, MoneySettled
from tokentill.core.ledger.commands import Reverse
from tokentill.core.ledger.expiry import expire
from tokentill.core.ledger.reversal_rules import Step, plan
from tokentill.core.ledger.reversals import Bought, MoneyBack
from tokentill.core.stripe.events import describe
from tokentill.core.stripe.meanings import MoneySeen
from tokentill.core.users import User
from tokentill.errors import InvalidAmount, PaymentNotFound
from tokentill.services.context import Context
from tokentill.services.stripe.inquiring import invoices_paid_by
from tokentill.store import accounts, companions, inbox, payments
from tokentill.store.inbox import InboxEvent
from tokentill.store.payments import Owners


def reverse(context: Context, event: InboxEvent, seen: MoneySeen) -> None:
    """Write down how the money stands, and let the tokens follow. The event is handled when they have."""
    with context.connection() as conn:
        payments.note_money(conn, seen, now=context.clock())
    if not settle(context, seen.payment_id, EventHandled(event_id=event.event_id, detail=describe(seen))):
        detail = f"{describe(seen)}: kept; nothing was granted for this payment yet"
        with context.connection() as conn:
            inbox.settle(conn, event.event_id, state="handled", detail=detail, now=context.clock())


def settle(context: Context, payment_id: str, *beside: Companion) -> bool:
    """Let the tokens of a payment follow its money; False: nobody was granted anything for it.

    `beside` is written with the rows, or alone where there is nothing to post. Tokens that another payment's reversal
    had taken, and that come back, may be what that one's own refunds ask for: then it follows, too.
    """
    owners, is_posted = _settle_one(context, payment_id, beside)
    done = {payment_id}
    while is_posted:
        with context.connection() as conn:
            others = [name for name in payments.unsettled_of(conn, owners.user_ids) if name not in done]
        done.update(others)
        posted = [_settle_one(context, name)[1] for name in others]
        is_posted = any(posted)
    return bool(owners.user_ids)


def _settle_one(context: Context, payment_id: str, beside: tuple[Companion, ...] = ()) -> tuple[Owners, bool]:
    """Return whose it is, and whether anything was posted."""
    is_posted = False
    with context.connection() as conn:
        owners = payments.owners(conn, payment_id)
    for user_id in owners.user_ids:
        command = Reverse(user=User(user_id), payment_id=payment_id, policies=context.policies)
        is_last = user_id == owners.user_ids[-1]
        written: tuple[Companion, ...] = (MoneySettled(revisions=owners.revisions), *beside) if is_last else ()
        receipt = context.engine.submit(command, at=context.clock(), companions=written).result()
        is_posted |= receipt is not None
        if receipt is None and is_last:
            with context.connection() as conn:
                companions.write(conn, user_id, written, seq=None, now=context.clock())
    return owners, is_posted


def settle_known(context: Context, *payment_ids: str) -> None:
    """Take back what was refunded before we heard of these payments: Stripe promises no order."""
    if payment_ids:
        with context.connection() as conn:
            unsettled = payments.unsettled_among(conn, payment_ids)
        for payment_id in unsettled:
            settle(context, payment_id)


def settle_due(context: Context) -> int:
    """Settle every payment whose money is ahead of the books; return how many there were. Safe to repeat.

    Raises: StripeUnavailable when Stripe has to be asked and does not answer; what could be settled is.
    """
    count = _settle_all(context)
    return count + _settle_all(context) if _learn_names(context) else count


def _learn_names(context: Context) -> int:
    """Ask Stripe which invoices were paid by payments that moved back and are nobody's; return how many it told.

    Versions from 2025-03-31 on do not say it in the invoice's own events, and an endpoint may not take those that do.
    """
    if context.stripe is None:
        return 0
    with context.connection() as conn:
        asking = payments.nobodys(conn)
    count = 0
    for payment_id in asking:
        invoices = invoices_paid_by(context.stripe, payment_id)
        with context.connection() as conn:
            payments.write_asked(conn, payment_id, invoices, now=context.clock())
        count += len(invoices)
    return count


def _settle_all(context: Context) -> int:
    count, last = 0, ""
    while True:
        with context.connection() as conn:
            waiting = payments.unsettled(conn, after=last)
        if not waiting:
            return count
        for payment_id in waiting:
            count += settle(context, payment_id)
        last = waiting[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What refunding so much more of a payment would do to the tokens of one user. Nothing was written."""

    payment_id: str
    user: User
    amount_cents: int
    currency: str | None
    paid_cents: int
    back: MoneyBack  # As it stands today.
    steps: tuple[Step, ...]
    balance_before: int
    balance_after: int

    @property
    def from_lots_tokens(self) -> int:
        """Unspent tokens of the payment that would go."""
        return sum(step.from_lot_tokens for step in self.steps)

    @property
    def owed_tokens(self) -> int:
        """Spent tokens that would be taken from elsewhere, into debt if need be."""
        return sum(step.owed_tokens for step in self.steps)

    @property
    def forgiven_tokens(self) -> int:
        """Spent tokens that the refund policy forgives."""
        return sum(step.target.forgiven_tokens - step.bought.forgiven_tokens for step in self.steps)

    @property
    def sentence(self) -> str:
        """What would happen, in a line: "takes 120,000 unspent, 30,000 already spent → debt"."""
        parts = [f"takes {self.from_lots_tokens:,} unspent"]
        if self.owed_tokens:
            parts.append(f"{self.owed_tokens:,} already spent → debt")
        if self.forgiven_tokens:
            parts.append(f"{self.forgiven_tokens:,} already spent → forgiven")
        return ", ".join(parts)

    def told(self) -> dict[str, object]:
        """Return it as the edges tell it."""
        return {
            "payment_id": self.payment_id, "user_id": self.user.name, "amount_cents": self.amount_cents,
            "currency": self.currency, "paid_cents": self.paid_cents, "refunded_cents": self.back.refunded_cents,
            "from_lots_tokens": self.from_lots_tokens, "owed_tokens": self.owed_tokens,
            "forgiven_tokens": self.forgiven_tokens, "balance_before": self.balance_before,
            "balance_after": self.balance_after, "sentence": self.sentence,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LotReport:
    """One lot that a payment bought, and what reversals have done about it so far."""

    lot: int
    kind: str
    granted: int
    taken_tokens: int  # From the lot itself.
    owed_tokens: int  # Taken elsewhere, into debt if need be.
    forgiven_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReport:
    """How a payment stands: what was paid, what moved back, and what became of its tokens."""

    payment_id: str
    names: tuple[str, ...]  # All the names it is known by, as Stripe has them.
    user: User
    paid_cents: int
    currency: str | None
    back: MoneyBack
    is_settled: bool  # Whether the books have followed the money.
    lots: tuple[LotReport, ...]

    def told(self) -> dict[str, object]:
        """Return it as the edges tell it."""
        return {
            "payment_id": self.payment_id, "names": self.names, "user_id": self.user.name,
            "paid_cents": self.paid_cents, "currency": self.currency, **asdict(self.back),
            "is_settled": self.is_settled, "lots": [asdict(lot) for lot in self.lots],
        }  # fmt: skip


def report(context: Context, payment_id: str) -> PaymentReport:
    """Say how a payment stands, by any of its names. Raises: PaymentNotFound."""
    user_id, found = find(context, payment_id)
    with context.connection() as conn:
        return PaymentReport(
            payment_id=payment_id,
            names=payments.names(conn, payment_id),
            user=accounts.load(conn, [user_id])[user_id].user,
            paid_cents=found.paid_cents,
            currency=payments.currency(conn, payment_id),
            back=found.back,
            is_settled=not payments.unsettled_among(conn, [payment_id]),
            lots=tuple(
                LotReport(
                    lot=one.lot.lot, kind=one.lot.kind, granted=one.lot.granted, taken_tokens=one.from_lot_tokens,
                    owed_tokens=one.owed_tokens, forgiven_tokens=one.forgiven_tokens,
                )
                for one in found.lots
            ),
        )  # fmt: skip


def preview_refund(context: Context, payment_id: str, amount_cents: int, *, at: datetime) -> Preview:
    """Say what refunding `amount_cents` more would take. Uses the very function that would take it.

    Raises: PaymentNotFound when nothing was granted for this payment, InvalidAmount when so much is not left of it.
    """
    user_id, found = find(context, payment_id)
    with context.connection() as conn:
        account = accounts.load(conn, [user_id])[user_id]
        currency = payments.currency(conn, payment_id)
    at, back = max(at, account.last_at), found.back
    left = found.paid_cents - back.refunded_cents - back.lost_cents - back.disputed_cents
    if not 0 < amount_cents <= left:
        detail = f"Of {found.paid_cents:,} cents {max(left, 0):,} are left to refund; {amount_cents:,} are not."
        raise InvalidAmount(detail, left_cents=max(left, 0))
    refunded = replace(found, back=replace(back, refunded_cents=back.refunded_cents + amount_cents))
    command = Reverse(user=account.user, payment_id=payment_id, policies=context.policies)
    steps = plan(account, command, refunded, at)
    balance = expire(account, at=at)[0].balance
    taken = sum(step.from_lot_tokens + step.owed_tokens for step in steps)
    return Preview(
        payment_id=payment_id,
        user=account.user,
        amount_cents=amount_cents,
        currency=currency,
        paid_cents=found.paid_cents,
        back=found.back,
        steps=tuple(steps),
        balance_before=balance,
        balance_after=balance - taken,
    )


def find(context: Context, payment_id: str) -> tuple[UUID, Bought]:
    """Return whose payment this is and all that is known of it. Raises: PaymentNotFound."""
    with context.connection() as conn:
        for user_id in payments.owners(conn, payment_id).user_ids:
            found = payments.bought(conn, Reverse(user=User(user_id), payment_id=payment_id))
            if found is not None:
                return user_id, found
    raise PaymentNotFound(f"Nothing was granted for payment {payment_id[:100]!r}.", payment_id=payment_id[:100])
