"""The two sides of a comparison with Stripe: what Stripe tells, and what the books hold.

`stripe.comparison.compare` compares them. Stripe's side comes from its API or from an exported file, and may tell a
part only; every object names its payment by all names that it knows.

Units: `_cents` whole minor units of `currency` (lower case); `_tokens` whole tokens.
Times: aware UTC.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus

One = TypeVar("One")


# --- What Stripe tells ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPayment:
    """One attempt to take money, as Stripe shows it: a charge, or an intent."""

    payment_id: str
    names: frozenset[str]  # Its own id included.
    amount_cents: int
    currency: str
    is_paid: bool
    status: str  # In Stripe's words, for people.
    created_at: datetime
    refunded_cents: int | None = None
    customer_id: str | None = None
    user_id: str | None = None  # The app's own id of the buyer, as a metadata field or a checkout names it.
    product: str | None = None  # What was sold, as a metadata field names it.


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRefund:
    refund_id: str
    names: frozenset[str]  # Of its payment.
    amount_cents: int
    currency: str
    status: RefundStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldDispute:
    dispute_id: str
    names: frozenset[str]  # Of its payment.
    amount_cents: int
    currency: str
    status: DisputeStatus
    moved_cents: int | None  # Withdrawn less reinstated; None: the source does not say.


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What Stripe tells of a time. None: this source does not tell of such things."""

    payments: tuple[ToldPayment, ...] | None = None
    refunds: tuple[ToldRefund, ...] | None = None
    disputes: tuple[ToldDispute, ...] | None = None
    links: tuple[frozenset[str], ...] = ()  # Names of one payment that further objects told: a checkout, an invoice.

    @property
    def names(self) -> frozenset[str]:
        """Every name of a payment that occurs in it."""
        told: list[ToldPayment | ToldRefund | ToldDispute] = []
        for part in (self.payments, self.refunds, self.disputes):
            told += part or ()
        return frozenset().union(*(one.names for one in told), *self.links)

    def with_more(self, more: "Told") -> "Told":
        """Return both together; what is in both counts once."""
        return Told(
            payments=_both(self.payments, more.payments, lambda one: one.payment_id),
            refunds=_both(self.refunds, more.refunds, lambda one: one.refund_id),
            disputes=_both(self.disputes, more.disputes, lambda one: one.dispute_id),
            links=(*self.links, *more.links),
        )


class StripeSide(Protocol):
    """Where Stripe's side comes from. Both may take long, and must not be called within a transaction."""

    is_complete: bool  # `look_up` can ask for what was not listed.

    def listed(self) -> Told: ...

    def look_up(self, ids: Sequence[str]) -> Told:
        """Tell of these, by their ids; what does not exist is left out."""


def _both(
    first: tuple[One, ...] | None, second: tuple[One, ...] | None, key: Callable[[One], Hashable]
) -> tuple[One, ...] | None:
    if first is None or second is None:
        return first if second is None else second
    return tuple({key(one): one for one in (*first, *second)}.values())


# --- What the books hold ---


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedPayment:
    payment_id: str
    user_id: UUID | None
    amount_cents: int | None
    currency: str | None
    refunded_cents: int | None
    is_in_window: bool  # It was paid in the time that Stripe was asked about.


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedRefund:
    refund_id: str
    payment_id: str
    amount_cents: int
    currency: str
    status: RefundStatus
    is_in_window: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedDispute:
    dispute_id: str
    payment_id: str
    amount_cents: int
    currency: str
    status: DisputeStatus
    withdrawn_cents: int
    reinstated_cents: int
    is_in_window: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedLot:
    """A lot that a payment bought, and what reversals have posted against it."""

    user_id: UUID
    lot: int
    names: frozenset[str]  # Of the payment that bought it.
    granted: int
    unspent_tokens: int  # Left, taken back from it, or expired.
    expired_tokens: int
    paid_cents: int | None
    currency: str | None
    posted_tokens: int  # Taken back in all, net of what was given back.


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckEvent:
    """An event of the inbox that granted nothing: it failed, or was ignored."""

    event_id: str
    type: str
    state: str
    detail: str
    names: frozenset[str]

    @property
    def is_not_ours(self) -> bool:
        return self.state == "ignored" and "catalog" in self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    payments: tuple[BookedPayment, ...] = ()
    refunds: tuple[BookedRefund, ...] = ()
    disputes: tuple[BookedDispute, ...] = ()
    lots: tuple[BookedLot, ...] = ()
    events: tuple[StuckEvent, ...] = ()
    links: tuple[frozenset[str], ...] = ()
    customers: Mapping[str, UUID] = field(default_factory=dict)  # Those of the payments told that the till knows.
