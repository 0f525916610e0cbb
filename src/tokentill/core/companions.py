"""Companions: typed rows that must be true together with a command's journal rows, and commit with them.

The inbox says "handled" exactly when the grant is in the books; a payment, a subscription's state, an admin's act are
never there without the rows that they explain, nor the other way round. None of them holds a balance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHandled:
    """This Stripe event has done what it asked for."""

    event_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSeen:
    """Money that came in for this user."""

    payment_id: str
    names: tuple[str, ...] = ()  # What else it is called: a session, an invoice, a charge, a cycle (`cycle_name`).
    amount_cents: int | None = None
    currency: str | None = None
    customer_id: str | None = None
    session_id: str | None = None
    invoice_id: str | None = None
    paid_at: datetime
    period_start: datetime | None = None  # Of the invoice: then what it paid for is in the books.


def cycle_name(subscription_id: str, cycle_number: int) -> str:
    """Return the name by which a payment knows the cycle that it bought."""
    return f"{subscription_id}#{cycle_number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneySettled:
    """The books have followed what was known of these payments at these revisions."""

    revisions: tuple[tuple[str, int], ...]  # (payment_id, revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSeen:
    """This Stripe customer is this user; the first one to be told stays."""

    customer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleGranted:
    """The subscription's latest cycle; a smaller number than is known already changes nothing."""

    subscription_id: str
    cycle_number: int
    next_drip_at: datetime | None = None  # Our clock gives more of this paid period, and the next then.


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSeen:
    """The member's e-mail or name, where an event or an admin told it."""

    email: str | None = None
    display_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that does not fit and that somebody should look at; each kind once for each subject."""

    id: UUID
    kind: str
    subject: str  # The object in Stripe.
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An act that somebody must be able to answer for."""

    id: UUID
    actor: str
    act: str
    detail: Mapping[str, object] = field(default_factory=dict)


Companion = EventHandled | PaymentSeen | MoneySettled | CustomerSeen | CycleGranted | ProfileSeen | Found | Audited
