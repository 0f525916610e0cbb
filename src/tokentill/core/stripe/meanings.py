"""What a Stripe event can mean for the till: values, made by `core.stripe.events` and acted on by the services.

Units: `_cents` whole minor units of `currency` (lower case ISO 4217).
Times: aware UTC.
"""

from dataclasses import dataclass
from datetime import datetime

from tokentill.core.ledger.reversals import DisputeStatus, RefundStatus
from tokentill.core.plans.subscriptions import SubscriptionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Every name that a payload gives its buyer."""

    client_reference_id: str | None = None
    metadata_user_id: str | None = None
    customer_id: str | None = None
    email: str | None = None

    @property
    def user_id(self) -> str | None:
        """The app's own id of the buyer. None: only a customer that is known already can say who it is."""
        return self.client_reference_id or self.metadata_user_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What was paid is not what the catalog asks. What was sold is granted all the same; someone should look."""

    expected: str  # "19,900 usd for mega"
    found: str  # "9,900 eur"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPaid:
    """Token packs were paid for, by a checkout or by a payment intent that names its pack."""

    who: Who
    session_id: str | None  # None: told by the payment intent alone.
    payment_id: str  # The payment intent, else the session: a checkout that cost nothing has no intent.
    items: tuple[tuple[str, int], ...]  # (pack key, quantity), each pack once, in the order of the cart.
    amount_paid_cents: int  # For the whole cart, after discounts, with tax.
    currency: str
    occurred_at: datetime
    stripe_invoice_id: str | None = None
    charge_id: str | None = None
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStarted:
    """A checkout began a plan and was paid. Its period is not known yet: `occurred_at` is the provisional start."""

    who: Who
    session_id: str
    subscription_id: str
    invoice_id: str | None = None
    plan_key: str
    amount_paid_cents: int
    currency: str
    payment_id: str | None = None
    occurred_at: datetime  # When the session was created.
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodPaid:
    """A period of a plan was paid, be it with money, with credit or with a discount."""

    who: Who
    invoice_id: str
    subscription_id: str
    plan_key: str
    is_first: bool
    period_start: datetime
    period_end: datetime  # Exclusive.
    amount_paid_cents: int
    currency: str
    payment_id: str | None = None  # A payment intent, else a charge.
    occurred_at: datetime
    names: tuple[str, ...] = ()  # Every payment intent and charge that paid this invoice.
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSeen:
    """How a subscription stood when Stripe made the event, and the trial that it began with, if any.

    Told by the subscription's own events and, as far as they go, by a checkout or invoice of a trial and by an
    invoice that could not be paid. None means that the payload does not say.
    """

    who: Who
    subscription_id: str
    plan_key: str | None = None  # None: no plan of the catalog, as far as the payload says.
    status: SubscriptionStatus | None = None  # Ours; None: the payload does not say.
    stripe_status: str | None = None  # As Stripe calls it: "trialing", "incomplete", "unpaid", …
    seen_at: datetime  # When Stripe made the event.
    is_trial: bool = False  # It begins (or began) with a trial.
    trial_starts_at: datetime | None = None
    trial_ends_at: datetime | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    cancel_at: datetime | None = None  # It will end then, or ended then.
    occurred_at: datetime  # When it began, as far as is known: the provisional start of a trial.


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundSeen:
    """A Refund object as it stood."""

    refund_id: str
    amount_cents: int
    currency: str
    status: RefundStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeSeen:
    """A dispute as it stood. What was withdrawn and what came back are sums so far, in the charge's currency."""

    dispute_id: str
    amount_cents: int
    currency: str
    status: DisputeStatus
    withdrawn_cents: int
    reinstated_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneySeen:
    """How the money of one payment stood when Stripe made the event: a charge, its refunds, a dispute.

    Says nothing about tokens: those follow from all that is known of the payment (`core.ledger.reversals`).
    """

    payment_id: str  # The payment intent, else the charge or the invoice.
    names: tuple[str, ...]  # All its names that the payload tells: payment intent, charge, invoice, session.
    who: Who
    seen_at: datetime  # When Stripe made the event: among snapshots of one object the newest counts.
    amount_cents: int | None = None  # What was charged, where the payload says it.
    currency: str | None = None
    refunded_cents: int | None = None  # As the charge says, in all; refund objects outrank it.
    refunds: tuple[RefundSeen, ...] = ()
    dispute: DisputeSeen | None = None


Intention = PackPaid | SubscriptionStarted | PeriodPaid | SubscriptionSeen | MoneySeen
