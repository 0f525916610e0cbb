"""What can happen in the demo's story: who is in it, and the few kinds of deed. Data only: `player` acts."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal

from tokentill.samples.stripe import ApiVersion

Shape = Literal["chat", "responses", "image", "transcription", "messages"]  # The last one is Anthropic's.


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Somebody with tokens. `user_id` is the app's own id of them."""

    user_id: str
    name: str
    about: str

    @property
    def email(self) -> str:
        return f"{self.name.lower()}@example.com"

    @property
    def customer_id(self) -> str:
        return f"cus_demo_{self.name.lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """A subscription as Stripe bills it: period n begins n − 1 periods after the first."""

    subscription_id: str
    plan_key: str
    price_id: str
    cents: int
    interval: tuple[str, int]
    period: timedelta
    begins: tuple[int, str]  # Day of the story (negative: before it) and time of day.

    def starts_at(self, first_day: datetime, number: int) -> datetime:
        return moment(first_day, *self.begins) + self.period * (number - 1)


# -- Deeds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscribesAtCheckout:
    """`checkout.session.completed` of a subscription. `session_day`: when the session was made, if it was not today."""

    billing: Billing
    api_version: ApiVersion
    session_day: int | None = None


@dataclass(frozen=True, slots=True)
class TriesPlan:
    """`checkout.session.completed` of a subscription that begins with a trial: nothing is due yet."""

    billing: Billing
    api_version: ApiVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionTold:
    """`customer.subscription.created` of a subscription that is on trial until its first period begins."""

    billing: Billing
    trial: timedelta
    api_version: ApiVersion


@dataclass(frozen=True, slots=True)
class InvoicePaid:
    """`invoice.paid` for period `number`. `ends_trial`: it is not the subscription's first invoice."""

    billing: Billing
    number: int
    api_version: ApiVersion
    ends_trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuysPack:
    """`checkout.session.completed` of a pack. `named`: how the metadata names it; None: only the amount tells."""

    session_id: str
    cents: int
    named: str | None
    api_version: ApiVersion
    is_paid: bool = True  # False: by a bank debit that takes some days.

    @property
    def name(self) -> str:
        """What the ids of its payment, refund and dispute have in common."""
        return self.session_id.removeprefix("cs_test_")


@dataclass(frozen=True, slots=True)
class PaymentArrives:
    """`checkout.session.async_payment_succeeded` for an earlier purchase that was not paid yet."""

    purchase: BuysPack


@dataclass(frozen=True, slots=True)
class Refunded:
    """`refund.created`: so many cents of an earlier purchase go back to the buyer."""

    purchase: BuysPack
    cents: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """The buyer's bank wants the money of an earlier purchase back (`open`), and how that ended."""

    purchase: BuysPack
    state: Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class SentAgain:
    """Stripe delivers its last event once more, signed anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsAi:
    """`count` like calls of one AI feature, one after the other. Tokens are the provider's own counts, per call."""

    action: str
    shape: Shape
    model: str
    count: int = 1
    tokens_in: int = 0  # Cached ones included.
    cached: int = 0
    tokens_out: int = 0  # Reasoning included.
    reasoning: int = 0
    seconds: int = 0
    error: str | None = None  # The call failed: recorded, and free.


@dataclass(frozen=True, slots=True)
class RequestedAgain:
    """The app repeats its last request to the till with the same Idempotency-Key: its answer got lost, say."""


@dataclass(frozen=True, slots=True)
class AdminAdjusts:
    """An admin adds (positive) or deducts (negative) tokens."""

    tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class TrialBegins:
    """The app gives the catalog's trial."""


@dataclass(frozen=True, slots=True)
class AppStartsPlan:
    """The app gives a plan that nobody pays for: from here on, cycles fall due by the till's own clock."""

    subscription_id: str


@dataclass(frozen=True, slots=True)
class WorkerRuns:
    """The worker does all that has fallen due since it last ran: drips, expiries, what was left lying."""


@dataclass(frozen=True, slots=True)
class LooksAtBalance:
    """Nothing but a look: reading must never need a sweep."""


Deed = (
    SubscribesAtCheckout | TriesPlan | SubscriptionTold | InvoicePaid | BuysPack | PaymentArrives | Refunded | Disputed
    | SentAgain | CallsAi | RequestedAgain | AdminAdjusts | TrialBegins | AppStartsPlan | WorkerRuns | LooksAtBalance
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens: on which day of the story, at what time, to whom, in plain words, and how."""

    day: int
    at: str
    who: Member
    says: str
    deed: Deed
    refused: bool = False  # Whether the till must refuse it with 402.

    def happens_at(self, first_day: datetime) -> datetime:
        return moment(first_day, self.day, self.at)


def moment(first_day: datetime, day: int, at: str) -> datetime:
    """Return that time of that day of the story; `first_day` is its midnight, in UTC."""
    of_day = time.fromisoformat(at)
    return first_day + timedelta(days=day, hours=of_day.hour, minutes=of_day.minute)
