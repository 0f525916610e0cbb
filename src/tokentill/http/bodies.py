"""What the API takes and answers but for the hot routes, as pydantic models. They go no further than the routes.

Strict: a number of tokens is a JSON integer, never "100", 100.0 or true. Whether it is in range is the till's to say
(`core.checks`), so that every edge refuses it with the same words.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

from tokentill.core.checks import TOKENS_MAX
from tokentill.core.ledger.lots import Lot
from tokentill.core.plans.subscriptions import Subscription
from tokentill.core.users import User
from tokentill.services.plans.previewing import ComingCycle
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt
from tokentill.store.reports import BalanceReport, Entry

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _text_of_time(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.match(value):
        raise ValueError("must be a time like 2026-01-05T12:00:00Z")
    return value


def _exact(value: object) -> object:
    # Before the union: its own complaint would be three, one for each kind.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number, or a text with one")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time that exists in UTC") from None


def _whole(minimum: int) -> Any:
    # Documented here, checked by the till.
    return Field(json_schema_extra={"minimum": minimum, "maximum": TOKENS_MAX})


SignedTokens = Annotated[StrictInt, _whole(-TOKENS_MAX)]
Moment = Annotated[AwareDatetime, BeforeValidator(_text_of_time), AfterValidator(_in_utc)]
ExactNumber = Annotated[StrictInt | StrictFloat | StrictStr, BeforeValidator(_exact)]
UtcMoment = Annotated[datetime, AfterValidator(_in_utc)]


class Body(BaseModel):
    """What is sent. A name that is not known is refused: it would be a typing error that nobody sees."""

    model_config = ConfigDict(extra="forbid")


class AdjustBody(Body):
    user_id: StrictStr = Field(validation_alias=AliasChoices("user_id", "userId"))
    tokens: SignedTokens = Field(
        validation_alias=AliasChoices("tokens", "delta"), description="Positive adds, negative deducts."
    )
    reason: StrictStr = Field(description="Why: kept in the journal and the audit log.")
    force: StrictBool = Field(False, description="Deduct even what is not there, into debt.")


class ReceiptView(BaseModel):
    """A journal row, just written or, on a repeated request, written then."""

    id: str
    user_id: str
    seq: int
    kind: str
    type: str
    tokens: int = Field(description="Signed: positive when the account gained.")
    balance_before: int
    balance_after: int
    effective_at: UtcMoment
    created_at: UtcMoment

    @classmethod
    def of(cls, receipt: Receipt, user_id: str) -> "ReceiptView":
        return cls(
            id=receipt.id, user_id=User.of(user_id).name, seq=receipt.seq, kind=receipt.kind, type=receipt.type,
            tokens=receipt.tokens, balance_before=receipt.balance_before, balance_after=receipt.balance_after,
            effective_at=receipt.effective_at, created_at=receipt.created_at,
        )  # fmt: skip


class BalanceView(BaseModel):
    """What an account holds now; what is due is not shown. A negative balance is debt."""

    user_id: str
    balance: int
    available: int
    held: int
    debt: int
    next_expiry_at: UtcMoment | None
    next_expiry_tokens: int
    lifetime_tokens_granted: int
    lifetime_tokens_used: int
    lifetime_cost: str = Field(description="In cents, with fractions.")
    seq: int = Field(description="Of the account's latest journal row.")

    @classmethod
    def of(cls, report: BalanceReport) -> "BalanceView":
        return cls(
            user_id=report.name, balance=report.balance, available=report.available, held=report.held,
            debt=report.debt, next_expiry_at=report.next_expiry_at, next_expiry_tokens=report.next_expiry_tokens,
            lifetime_tokens_granted=report.lifetime_tokens_granted, lifetime_tokens_used=report.lifetime_tokens_used,
            lifetime_cost=str(report.lifetime_cost), seq=report.seq,
        )  # fmt: skip


class LotMove(BaseModel):
    lot: int
    tokens: int


class EntryView(BaseModel):
    """One journal row, whichever of the three journals it is in."""

    seq: int
    kind: Literal["transaction", "drip", "usage"]
    type: str = Field(description="The transaction_type, drip, or the action_type.")
    tokens: int = Field(description="Signed: positive when the account gained.")
    balance_before: int
    balance_after: int
    debt_change: int
    lot_moves: list[LotMove]
    effective_at: UtcMoment
    created_at: UtcMoment
    detail: dict[str, Any]


class HistoryView(BaseModel):
    """One page of an account's journal, newest first."""

    user_id: str
    entries: list[EntryView]
    next_cursor: str | None = Field(description="Pass it as cursor to go on; null at the end.")

    @classmethod
    def of(cls, entries: Sequence[Entry], user_id: str, *, next_cursor: str | None) -> "HistoryView":
        shown = [
            EntryView(
                seq=entry.seq, kind=entry.kind, type=entry.type, tokens=entry.tokens,
                balance_before=entry.balance_before, balance_after=entry.balance_after, debt_change=entry.debt_change,
                lot_moves=[LotMove(lot=lot, tokens=tokens) for lot, tokens in entry.lot_moves],
                effective_at=entry.effective_at, created_at=entry.created_at, detail=dict(entry.detail),
            )
            for entry in entries
        ]  # fmt: skip
        return cls(user_id=User.of(user_id).name, entries=shown, next_cursor=next_cursor)


class LotView(BaseModel):
    lot: int
    kind: str
    granted: int
    remaining: int
    priority: int
    effective_at: UtcMoment
    expires_at: UtcMoment | None = Field(description="Exclusive; null: never.")
    paid_cents: int | None
    currency: str | None
    payment_id: str | None
    subscription_id: str | None
    cycle_number: int | None


class LotsView(BaseModel):
    """The lots that have tokens left, first to burn first."""

    user_id: str
    lots: list[LotView]

    @classmethod
    def of(cls, lots: Sequence[Lot], user_id: str) -> "LotsView":
        names = LotView.model_fields
        shown = [LotView(**{name: getattr(lot, name) for name in names}) for lot in lots]
        return cls(user_id=User.of(user_id).name, lots=shown)


class SubscriptionView(BaseModel):
    """A subscription as it stands by all that was told of it."""

    subscription_id: str
    plan_key: str
    status: Literal["active", "past_due", "paused", "canceled"]
    stripe_status: str | None = Field(description="As Stripe calls it; null: it is none of Stripe's.")
    status_at: UtcMoment | None = Field(description="Since when it stands so; null: since it began.")
    billed_by: Literal["stripe", "clock"]
    anchor: UtcMoment
    anchor_cycle: int
    cycle_number: int | None = Field(description="The latest cycle that was given.")
    paid_until: UtcMoment | None
    trial_starts_at: UtcMoment | None
    trial_ends_at: UtcMoment | None
    cancel_at: UtcMoment | None = Field(description="When it will end, if that is known.")
    announced_plan_key: str | None = Field(description="The plan of the next paid period, as far as Stripe has told.")

    @classmethod
    def of(cls, found: Subscription) -> "SubscriptionView":
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class SubscriptionsView(BaseModel):
    """A user's subscriptions, oldest first."""

    user_id: str
    subscriptions: list[SubscriptionView]

    @classmethod
    def of(cls, found: Sequence[Subscription], user_id: str) -> "SubscriptionsView":
        return cls(user_id=User.of(user_id).name, subscriptions=[SubscriptionView.of(one) for one in found])


class SteerBody(Body):
    reason: StrictStr | None = Field(None, description="Why: kept in the audit log.")


class ComingCycleView(BaseModel):
    subscription_id: str
    plan_key: str
    cycle_number: int
    waits_for: Literal["time", "payment"]
    owed_at: UtcMoment
    starts_at: UtcMoment
    ends_at: UtcMoment
    expires_at: UtcMoment
    tokens: int
    rollover_from_previous: int
    rollover_cycles_count: int
    expired_tokens: int
    balance_after: int


class PreviewView(BaseModel):
    """The coming cycles, as they will be given if nothing is spent until then."""

    user_id: str
    cycles: list[ComingCycleView]

    @classmethod
    def of(cls, coming: Sequence[ComingCycle], user_id: str) -> "PreviewView":
        names = ComingCycleView.model_fields
        shown = [ComingCycleView(**{name: getattr(one, name) for name in names}) for one in coming]
        return cls(user_id=User.of(user_id).name, cycles=shown)


class EventView(BaseModel):
    """A Stripe event, and what became of it."""

    event_id: str
    state: Literal["received", "handled", "ignored", "failed"]
    detail: str | None

    @classmethod
    def of(cls, event: InboxEvent) -> "EventView":
        return cls(event_id=event.event_id, state=event.state, detail=event.detail)  # type: ignore[arg-type]  # a CHECK


class WorkerView(BaseModel):
    """One of several processes behind one address, and what it did with the commands that it was asked for."""

    number: int
    of: int
    pid: int
    own: int = Field(description="Commands about its own accounts, from its callers.")
    received: int = Field(description="Commands about its own accounts, from other workers.")
    passed_on: int = Field(description="Commands about other workers' accounts, passed on to them.")
    taken_over: int = Field(description="The same, carried out here because the other worker was not there.")


class JobsView(BaseModel):
    """The part of the process that runs the jobs: drips, retries, expiries."""

    running: bool
    error: str | None = Field(None, description="Why it does not run; it tries again by itself.")


class HealthView(BaseModel):
    status: Literal["ok"] = "ok"
    version: str
    worker: WorkerView | None = Field(None, description="Which one answers, where there are several.")
    jobs: JobsView | None = Field(None, description="How the jobs fare, where this process runs them.")
