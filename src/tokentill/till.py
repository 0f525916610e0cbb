"""Till: the object that users of the library hold.

    till = Till.connect()
    till.grant_tokens("alice", 10_000, reason="welcome")
    till.spend("alice", 250, "chat_conversation")
    till.balance("alice").available

Every method blocks until its answer is committed, and may be called from any thread. Writes take an
`idempotency_key`: repeated with the same key and the same request, they happen once and answer the same. From async
code, build a command and await it:

    receipt = await till.submit(till.asking.spend("alice", 250, "chat_conversation"))

A user is named by a UUID or by any text of up to 255 characters. Tokens are whole numbers; times are aware.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.core import checks
from tokentill.core.catalog import EXAMPLE, Catalog
from tokentill.core.commands import HoldCommand, RowCommand
from tokentill.core.companions import Audited, Companion, ProfileSeen
from tokentill.core.drips import Subscription
from tokentill.core.holds import TTL_DEFAULT, HoldReceipt
from tokentill.core.lots import Lot
from tokentill.core.pricing import AiAction
from tokentill.core.users import User
from tokentill.engine import Answer, Engine
from tokentill.errors import AccountNotFound, HoldNotFound, UnknownPlan
from tokentill.ids import Uuid7s, utc_now
from tokentill.services import dripping, explaining, receiving, reconciling
from tokentill.services.asking import Asking, Ttl, WhichHold, Who, hold_of, signed
from tokentill.services.context import Context
from tokentill.services.dripping import DripRun
from tokentill.services.explaining import Explanation
from tokentill.services.reconciling import Proof
from tokentill.settings import Settings
from tokentill.store import actions, db, embedded, holds, migrate, reports
from tokentill.store.inbox import InboxEvent
from tokentill.store.journal import Receipt
from tokentill.store.reports import BalanceReport, Entry


class Till:
    """Sells, grants and drips tokens, spends them, and explains every one. Use `Till.connect()`."""

    def __init__(
        self,
        url: str,
        *,
        catalog: Catalog = EXAMPLE,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], UUID] | None = None,
        allow_unsafe: bool = False,
        engine_of: Callable[..., Engine] = Engine,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a till on a migrated database. `clock` and `new_id` (UUIDv7s) are where time and ids come from.

        `engine_of` makes the engine: a `RoutedEngine` where this till is one worker's of several.

        Raises: DatabaseUnavailable, SchemaMissing, SchemaNewer, UnsafePostgres.
        """
        self.url = url
        self.clock = clock
        self.catalog = catalog
        new_id = new_id or Uuid7s()
        with db.connect(url) as conn:
            migrate.require_current(conn)
            db.require_safe(conn, allow_unsafe=allow_unsafe)
            self._actions: Mapping[str, AiAction] = actions.load(conn)
        self._on_close = on_close
        pool: ConnectionPool[Connection[TupleRow]] = db.pool(url)
        engine = engine_of(lambda: db.connect_lane(url), clock=clock, new_id=new_id)
        self.context = Context(engine=engine, pool=pool, catalog=catalog, clock=clock, new_id=new_id)
        self.asking = Asking(
            catalog=catalog,
            actions=self._actions_in_force,
            new_id=new_id,
            clock=clock,
            action_of_hold=lambda user, hold_id: self.find_hold(user, hold_id).action_type,
        )

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        catalog: Catalog = EXAMPLE,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], UUID] | None = None,
        engine_of: Callable[..., Engine] = Engine,
    ) -> Self:
        """Open the till at `url`, else at TILL_DATABASE_URL, else on the embedded PostgreSQL, which is started.

        The embedded database is migrated on the way; any other must have been (`till migrate`).

        Raises: EmbeddedPostgresError and what `Till` raises.
        """
        settings = settings or Settings.read()
        url = url or settings.database_url
        if url is not None:
            is_unsafe = settings.allow_unsafe_postgres
            return cls(url, catalog=catalog, clock=clock, new_id=new_id, allow_unsafe=is_unsafe, engine_of=engine_of)
        server = embedded.start(settings.home, bin_dir=settings.pg_bin)
        try:
            migrate.migrate(server.url)
            return cls(
                server.url, catalog=catalog, clock=clock, new_id=new_id, engine_of=engine_of, on_close=server.close
            )  # fmt: skip
        except BaseException:
            server.close()
            raise

    def close(self) -> None:
        """Finish what was asked, then let go of the database. Idempotent."""
        self.context.engine.close()
        self.context.pool.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- writing ------------------------------------------------------------------------------------------------------

    @overload
    def submit(self, command: RowCommand, *, companions: tuple[Companion, ...] = ()) -> Answer[Receipt | None]: ...

    @overload
    def submit(self, command: HoldCommand, *, companions: tuple[Companion, ...] = ()) -> Answer[HoldReceipt]: ...

    def submit(self, command: Any, *, companions: tuple[Companion, ...] = ()) -> Answer[Any]:
        """Ask for a command that `asking` built; the answer can be awaited, or blocked on with `.result()`."""
        return self.context.engine.submit(command, companions=companions)

    def submit_many(self, commands: Sequence[RowCommand]) -> list[Answer[Receipt | None]]:
        """Ask for many commands at once, in this order; each has its own answer, Overloaded if it must be."""
        return self.context.engine.submit_many(commands)

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
        return self._carry_out(command)

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

    def track_token_usage(self, user: Who, action_type: str, tokens_used: int | None = None, **details: Any) -> Receipt:
        """Record an AI operation that has happened, even if the account goes into debt by it.

        `details` are those of `spend`. Tokens: input + output where given, else `tokens_used`, else the action's fixed
        value; a failed operation (`success=False`) is recorded and costs nothing.

        Raises: AccountNotFound, UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        details.setdefault("on_insufficient", "record")
        return self.spend(user, tokens_used, action_type, **details)

    def spend(self, user: Who, tokens: int | None, action_type: str, **details: Any) -> Receipt:
        """Take an AI operation's tokens; refused when the account cannot cover them.

        `details` are the keywords of `Asking.spend`: model_used, input_tokens, output_tokens, pools, cost_estimate
        (cents), success, error_message, provider_request_id, metadata, occurred_at, idempotency_key, on_insufficient.

        Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        return self._carry_out(self.asking.spend(user, tokens, action_type, **details))

    def hold(
        self,
        user: Who,
        tokens: int,
        action_type: str,
        *,
        ttl: Ttl = TTL_DEFAULT,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> HoldReceipt:
        """Set tokens aside for a call whose size is not known yet, for `ttl` (10 minutes; 1 second to 24 hours).

        No other spend that may be refused can reach them. A hold that nobody ends frees itself by time. Repeated with
        the same key, the hold is answered as it stands.

        Raises: InsufficientTokens, AccountNotFound, AccountFrozen, UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        command = self.asking.hold(
            user, tokens, action_type, ttl=ttl, model=model, metadata=metadata, idempotency_key=idempotency_key
        )
        return self._about_hold(command)

    def renew(self, user: Who, hold_id: WhichHold, *, ttl: Ttl = TTL_DEFAULT) -> HoldReceipt:
        """Let an open hold live for `ttl` from now, if it would not live longer anyway. Safe to repeat.

        Raises: HoldNotFound, HoldClosed, AccountFrozen, AccountNotFound, InvalidRequest.
        """
        return self._about_hold(self.asking.renew(user, hold_id, ttl=ttl))

    def capture(self, user: Who, hold_id: WhichHold, tokens: int | None = None, **details: Any) -> Receipt:
        """Spend what a hold was placed for: less, as much, or more than was held; the rest is free again.

        `tokens` are taken as they are; without them, `input_tokens` and `output_tokens` are charged by the action's
        rule; without any of these, all that was held. `details` are those of `spend`, and `action_type`, which is the
        hold's unless given. What was held too little is recorded even into debt; `on_insufficient="refuse"` refuses it.
        Captured twice, a hold answers the first capture; an expired one is captured by a spend like any other.

        Raises: HoldNotFound, HoldClosed when it was voided, InsufficientTokens, AccountFrozen, AccountNotFound,
        UnknownAction, InvalidRequest, IdempotencyConflict.
        """
        return self._carry_out(self.asking.capture(user, hold_id, tokens, **details))

    def void(self, user: Who, hold_id: WhichHold) -> HoldReceipt:
        """Free a hold's tokens. Safe to repeat; one that has expired is free already.

        Raises: HoldNotFound, HoldClosed when it was captured, AccountNotFound, InvalidRequest.
        """
        return self._about_hold(self.asking.void(user, hold_id))

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

    def receive_stripe_event(self, payload: Mapping[str, object]) -> InboxEvent:
        """Store a Stripe event whose signature was checked, and act on it once. Raises: MalformedBody, Unavailable."""
        return receiving.receive(self.context, payload)

    # -- reading ------------------------------------------------------------------------------------------------------

    def balance(self, user: Who) -> BalanceReport:
        """Return what the account holds now: what is due is not shown. Raises: AccountNotFound."""
        who = User.of(user)
        with self.context.connection() as conn:
            report = reports.balance(conn, who.user_id, at=self.clock())
        if report is None:
            raise AccountNotFound(f"{who.name} has no account.", user_id=who.name)
        return report

    def lots(self, user: Who) -> list[Lot]:
        """Return the lots that have tokens left, first to burn first."""
        with self.context.connection() as conn:
            return reports.open_lots(conn, User.of(user).user_id, at=self.clock())

    def holds(self, user: Who, *, include_closed: bool = False) -> list[HoldReceipt]:
        """Return the account's open holds, or all of them, oldest first. Raises: AccountNotFound."""
        report = self.balance(user)
        with self.context.connection() as conn:
            who = User(report.user_id, report.external_id)
            return holds.listed(conn, who, at=self.clock(), include_closed=include_closed)

    def find_hold(self, user: Who, hold_id: WhichHold) -> HoldReceipt:
        """Return one hold as it is now, open or not. Raises: HoldNotFound."""
        who = User.of(user)
        held = hold_of(who, hold_id)
        with self.context.connection() as conn:
            found = holds.one(conn, who.user_id, held, at=self.clock())
        if found is None:
            raise HoldNotFound(f"{who.name} has no hold {held}.", hold_id=str(held))
        return found

    def history(self, user: Who, *, limit: int = 50, before_seq: int | None = None) -> list[Entry]:
        """Return the latest journal rows, newest first; pass the last one's seq to go on. Raises: AccountNotFound."""
        self.balance(user)
        limit = checks.whole(limit, "limit", maximum=10_000)
        with self.context.connection() as conn:
            return reports.history(conn, User.of(user).user_id, limit=limit, before_seq=before_seq)

    def explain(self, user: Who, *, at: datetime | None = None) -> Explanation:
        """Explain the balance, now or as it was at `at`: each lot, what drew on it, and the debt.

        Raises: AccountNotFound.
        """
        self.balance(user)
        with self.context.connection() as conn:
            return explaining.explain(conn, User.of(user).user_id, at=at, now=self.clock())

    def reconcile(self, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Proof:
        """Prove laws 1, 2 and 7 over every account, and 3 for holds. Changes nothing."""
        with self.context.connection() as conn:
            return reconciling.reconcile(conn, on_progress=on_progress)

    # -- within ------------------------------------------------------------------------------------------------------

    def _carry_out(self, command: RowCommand, *beside: Companion) -> Receipt:
        self._require_other_thread()
        receipt = self.submit(command, companions=beside).result()
        assert receipt is not None, command
        return receipt

    def _about_hold(self, command: HoldCommand) -> HoldReceipt:
        self._require_other_thread()
        return self.submit(command).result()

    def _require_other_thread(self) -> None:
        if self.context.engine.is_own_thread:
            raise RuntimeError("A callback of an answer cannot wait for another one: use submit(), or another thread.")

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
        if plan is not None or known is None:
            sold = self.catalog.plan(plan) if plan is not None else self.catalog.only_plan(kind)
        else:
            sold = self.catalog.plan(known.plan_key)
        if sold.kind != kind:
            raise UnknownPlan(f"{sold.key!r} is of kind {sold.kind}; this gives tokens of kind {kind}.", plan=sold.key)
        billed_by = "clock" if driven_by == "clock" else "stripe" if driven_by or known is None else known.billed_by
        wanted = Subscription(
            user_id=who.user_id, external_id=who.external_id, subscription_id=checked_id, plan_key=sold.key,
            billed_by=billed_by, anchor=now,
        )  # fmt: skip
        return dripping.give_cycle(self.context, who, wanted, sold, cycle_number=number, at=now)

    def _profile(self, email: str | None) -> tuple[Companion, ...]:
        checked = checks.text_or_none(email, "email", length_max=320)
        return (ProfileSeen(email=checked),) if checked else ()

    def _audited(self, act: str, actor: str | None, reason: str | None, tokens: int) -> tuple[Companion, ...]:
        if actor is None:
            return ()
        detail = {"tokens": tokens, "reason": reason}
        return (Audited(id=self.context.new_id(), actor=actor, act=act, detail=detail),)

    def _actions_in_force(self, afresh: bool) -> Mapping[str, AiAction]:
        if afresh:
            with self.context.connection() as conn:
                self._actions = actions.load(conn)
        return self._actions
