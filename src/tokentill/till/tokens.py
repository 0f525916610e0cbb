"""What moves tokens: grants, purchases, drips, deductions, spends and holds."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from tokentill.core import checks
from tokentill.core.calls import CallFields, OnInsufficient, one_model
from tokentill.core.companions import Companion, PaymentSeen
from tokentill.core.ledger.commands import Grant
from tokentill.core.ledger.holds import TTL_DEFAULT, HoldReceipt
from tokentill.core.plans.subscriptions import Subscription
from tokentill.core.users import User
from tokentill.errors import Unavailable, UnknownPlan
from tokentill.services.accounts.asking import signed
from tokentill.services.calls.calling import Ttl, WhichHold, Who
from tokentill.services.plans import dripping
from tokentill.services.plans.dripping import DripRun
from tokentill.services.stripe import reversing
from tokentill.store.journal import Receipt
from tokentill.till.base import Base

if TYPE_CHECKING:
    from tokentill.meter import Meter


class MeterOptions(TypedDict, total=False):
    """The options of `tokentill.meter.Meter`, which says what each does."""

    model: str | None
    model_used: str | None  # Another name of `model`.
    provider: str | None
    estimate: int
    max_output: int | None
    minimum: int | None
    idempotency_key: str | None
    metadata: Mapping[str, Any] | None
    ttl: timedelta
    raises: bool


class Tokens(Base):
    """Gives, takes and spends tokens."""

    def grant_tokens(
        self,
        user: Who,
        tokens: int,
        *,
        reason: str | None = None,
        created_by: str | None = None,
        expires_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        email: str | None = None,
    ) -> Receipt:
        """Give tokens; opens the account if need be. They live for ever unless `expires_at` is given.

        Raises: InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.grant(
            user, tokens, reason=reason, created_by=created_by, expires_at=expires_at, metadata=metadata,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return self._carry_out(command, *self._profile(email), *self._audited("grant", created_by, reason, tokens))

    def record_admin_deduction(
        self,
        user: Who,
        tokens: int,
        *,
        reason: str | None = None,
        created_by: str | None = None,
        force: bool = False,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Take tokens away. `tokens` is positive; `force` takes more than there is, into debt.

        Raises: InsufficientTokens, AccountNotFound, InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.deduct(
            user, tokens, reason=reason, created_by=created_by, force=force, metadata=metadata,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return self._carry_out(command, *self._audited("deduct", created_by, reason, -tokens))

    def record_token_pack_purchase(
        self,
        user: Who,
        pack: str,
        *,
        quantity: int = 1,
        amount_paid_cents: int | None = None,
        currency: str | None = None,
        payment_intent_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Record a pack that was paid for and give its tokens, which live for ever.

        One session (or payment intent) buys each pack once, whether a webhook or this call reports it first.
        `amount_paid_cents` defaults to the catalog's price.

        Raises: UnknownPack, InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.purchase(
            user, pack, quantity=quantity, amount_paid_cents=amount_paid_cents, currency=currency,
            payment_intent_id=payment_intent_id, session_id=session_id, metadata=metadata,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        receipt = self._carry_out(command, *_payment_of(command, self.clock()))
        if command.paid is not None and command.paid.payment_id is not None:
            # Its refund may have come first. The purchase is in the books: an outage now is `settle_due`'s to mend.
            with suppress(Unavailable):
                reversing.settle_known(self.context, command.paid.payment_id)
        return receipt

    def grant_annual_tokens(
        self, user: Who, subscription_id: str, *, plan: str | None = None, cycle_number: int | None = None
    ) -> Receipt:
        """Give a year's tokens of an annual subscription, once per year; they live until that year ends.

        The first call starts the subscription's first year. What the account holds already stays.

        Raises: UnknownPlan, InvalidRequest, InvalidTime when that year has not begun.
        """
        return self._give_cycle(user, subscription_id, plan, "annual", cycle_number, None)

    def drip_tokens_28day(
        self,
        user: Who,
        subscription_id: str,
        *,
        plan: str | None = None,
        cycle_number: int | None = None,
        driven_by: Literal["caller", "clock"] | None = None,
    ) -> Receipt:
        """Give the tokens of one 28-day cycle, by default the one that is running; each cycle is given once.

        The first call starts cycle 1. With `driven_by="clock"` further cycles fall due by themselves (`drip_due`);
        otherwise each is given when its payment, or the caller, says so. A subscription that is known stays as it is.

        Raises: UnknownPlan, InvalidRequest, InvalidTime when that cycle has not begun, Conflict when the subscription
        is known with another plan or driven another way than the call says.
        """
        return self._give_cycle(user, subscription_id, plan, "drip", cycle_number, driven_by)

    def grant_trial_tokens(
        self,
        user: Who,
        tokens: int | None = None,
        *,
        days: int | None = None,
        subscription_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Give a trial's tokens: by default 1,000,000 for 56 days. One subscription has one trial.

        Raises: InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.trial(
            user, tokens, days=days, subscription_id=subscription_id, metadata=metadata,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return self._carry_out(command)

    def track_token_usage(
        self,
        user: Who,
        action_type: str,
        tokens_used: int | None = None,
        *,
        on_insufficient: OnInsufficient = "record",
        idempotency_key: str | None = None,
        **said: Unpack[CallFields],
    ) -> Receipt:
        """Record an AI operation that has happened, even if the account goes into debt by it.

        `said` is what `spend` takes. Tokens: input + output where given, else `tokens_used`, else the action's fixed
        value; a failed operation (`success=False`) is recorded and costs nothing.

        Raises: AccountNotFound, UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        return self.spend(
            user, tokens_used, action_type, on_insufficient=on_insufficient, idempotency_key=idempotency_key, **said
        )

    def spend(
        self,
        user: Who,
        tokens: int | None,
        action_type: str,
        *,
        on_insufficient: OnInsufficient = "refuse",
        idempotency_key: str | None = None,
        **said: Unpack[CallFields],
    ) -> Receipt:
        """Take an AI operation's tokens; refused when the account cannot cover them.

        `said` is what is known of the call (`tokentill.core.calls.CallFields`): model_used (or model), provider,
        service_tier, input_tokens, output_tokens, pools or the provider's response, cost_estimate (cents), success,
        error_message, estimated, usage_note, raw_usage, provider_request_id, metadata, occurred_at.

        Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, InvalidRequest, IdempotencyConflict;
        TypeError for a keyword that there is not.
        """
        return self._carry_out(
            self.asking.spend(
                user, tokens, action_type, on_insufficient=on_insufficient, idempotency_key=idempotency_key, **said
            )
        )

    def hold(
        self,
        user: Who,
        tokens: int,
        action_type: str,
        *,
        ttl: Ttl = TTL_DEFAULT,
        model: str | None = None,
        model_used: str | None = None,
        provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> HoldReceipt:
        """Set tokens aside for a call whose size is not known yet, for `ttl` (10 minutes; 1 second to 24 hours).

        No other spend that may be refused can reach them. A hold that nobody ends frees itself by time. Repeated with
        the same key, the hold is answered as it stands.

        Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.hold(
            user,
            tokens,
            action_type,
            ttl=ttl,
            model=one_model(model, model_used),
            provider=provider,
            metadata=metadata,
            idempotency_key=idempotency_key,
        )
        return self._about_hold(command)

    def renew(self, user: Who, hold_id: WhichHold, *, ttl: Ttl = TTL_DEFAULT) -> HoldReceipt:
        """Let an open hold live for `ttl` from now, if it would not live longer anyway. Safe to repeat.

        Raises: HoldNotFound, HoldClosed, AccountFrozen, AccountNotFound, InvalidRequest.
        """
        return self._about_hold(self.asking.renew(user, hold_id, ttl=ttl))

    def capture(
        self,
        user: Who,
        hold_id: WhichHold,
        tokens: int | None = None,
        *,
        action_type: str | None = None,
        on_insufficient: OnInsufficient = "record",
        idempotency_key: str | None = None,
        **said: Unpack[CallFields],
    ) -> Receipt:
        """Spend what a hold was placed for: less, as much, or more than was held; the rest is free again.

        `tokens` are taken as they are; without them, `input_tokens` and `output_tokens` are charged by the action's
        rule; without any of these, all that was held. `said` is what `spend` takes; `action_type` is the hold's unless
        given. What was held too little is recorded even into debt; `on_insufficient="refuse"` refuses it.
        Captured twice, a hold answers the first capture; an expired one is captured by a spend like any other.

        Raises: HoldNotFound, HoldClosed when it was voided, InsufficientTokens, AccountFrozen, AccountNotFound,
        UnknownAction, InvalidRequest, IdempotencyConflict; TypeError for a keyword that there is not.
        """
        return self._carry_out(
            self.asking.capture(
                user, hold_id, tokens, action_type=action_type, on_insufficient=on_insufficient,
                idempotency_key=idempotency_key, **said,
            )
        )  # fmt: skip

    def void(self, user: Who, hold_id: WhichHold) -> HoldReceipt:
        """Free a hold's tokens. Safe to repeat; one that has expired is free already.

        Raises: HoldNotFound, HoldClosed when it was captured, AccountNotFound, InvalidRequest.
        """
        return self._about_hold(self.asking.void(user, hold_id))

    def tokens_for(
        self, action_type: str, input_tokens: int, output_tokens: int | None, *, model: str | None = None,
        model_used: str | None = None, provider: str | None = None,
    ) -> int:  # fmt: skip
        """Return what a call of this size would take by its action's rule. Raises: UnknownAction, InvalidAmount.

        None of `output_tokens`: as many as the action's `max_tokens` allow, else 4,096.
        """
        named = one_model(model, model_used)
        return self.asking.tokens_for(action_type, input_tokens, output_tokens, model=named, provider=provider)

    def meter(self, user: Who, action: str, **options: Unpack[MeterOptions]) -> "Meter":
        """Return a meter for one AI call: `with till.meter("alice", "chat_conversation") as m:`, or `async with`.

        It holds the worst case before the call and captures what `m.record(response)` says afterwards. `options` are
        those of `tokentill.meter.Meter`.
        """
        from tokentill.meter import Meter

        return Meter(self, user.name if isinstance(user, User) else user, action, **options)

    def adjust_tokens(
        self, user: Who, tokens: int, *, reason: str, created_by: str, idempotency_key: str | None = None,
        force: bool = False,
    ) -> Receipt:  # fmt: skip
        """Add (positive) or deduct (negative) tokens, as the admin's page does. Raises as the two do."""
        User.of(user)  # The order of checks: who, how much, what for.
        tokens, reason = signed(tokens), checks.text(reason, "reason")
        if tokens > 0:
            return self.grant_tokens(
                user, tokens, reason=reason, created_by=created_by, idempotency_key=idempotency_key
            )
        return self.record_admin_deduction(
            user, -tokens, reason=reason, created_by=created_by, idempotency_key=idempotency_key, force=force
        )

    def drip_due(self, *, at: datetime | None = None) -> DripRun:
        """Give every cycle that our own clock owes. Safe to repeat."""
        return dripping.drip_due(self.context, at=at or self.clock())

    def sweep(self, user: Who) -> Receipt | None:
        """Write off what is due in one account. Reads need no sweep: they never show what is due."""
        return dripping.sweep(self.context, User.of(user), at=self.clock())

    def _give_cycle(
        self,
        user: Who,
        subscription_id: str,
        plan: str | None,
        kind: Literal["annual", "drip"],
        number: int | None,
        driven_by: Literal["caller", "clock"] | None,
    ) -> Receipt:
        who, now = User.of(user), self.clock()
        checked_id = checks.text(subscription_id, "subscription_id", length_max=255)
        if number is not None:
            number = checks.whole(number, "cycle_number", maximum=10_000)
        known = dripping.known(self.context, who, checked_id)
        catalog = self.catalog
        if plan is not None or known is None:
            sold = catalog.plan(plan) if plan is not None else catalog.only_plan(kind)
        else:
            sold = catalog.plan(known.plan_key)
        if sold.kind != kind:
            raise UnknownPlan(f"{sold.key!r} is of kind {sold.kind}; this gives tokens of kind {kind}.", plan=sold.key)
        billed_by = "clock" if driven_by == "clock" else "stripe" if driven_by or known is None else known.billed_by
        wanted = Subscription(
            user_id=who.user_id, external_id=who.external_id, subscription_id=checked_id, plan_key=sold.key,
            billed_by=billed_by, anchor=now,
        )  # fmt: skip
        return dripping.give_cycle(self.context, who, wanted, sold, cycle_number=number, at=now)


def _payment_of(grant: Grant, at: datetime) -> tuple[Companion, ...]:
    """What the money side must know of a purchase that a caller records, so that its refund finds it."""
    paid = grant.paid
    if paid is None or paid.payment_id is None:
        return ()
    return (
        PaymentSeen(
            payment_id=paid.payment_id, amount_cents=paid.amount_cents, currency=paid.currency,
            session_id=paid.session_id, paid_at=at,
        ),
    )  # fmt: skip
