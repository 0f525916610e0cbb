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

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.core import checks
from tokentill.core.catalog import EXAMPLE, Catalog
from tokentill.core.commands import Command
from tokentill.core.companions import Audited, Companion, ProfileSeen
from tokentill.core.drips import Subscription
from tokentill.core.lots import Lot
from tokentill.core.pricing import AiAction
from tokentill.core.users import User
from tokentill.engine import Answer, Engine
from tokentill.errors import AccountNotFound, UnknownPlan
from tokentill.ids import Uuid7s, utc_now
from tokentill.services import dripping, explaining, receiving, reconciling
from tokentill.services.asking import Asking, Who, signed
from tokentill.services.context import Context
from tokentill.services.dripping import DripRun
from tokentill.services.explaining import Explanation
from tokentill.services.reconciling import Proof
from tokentill.settings import Settings
from tokentill.store import actions, db, embedded, migrate, reports
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
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a till on a migrated database. `clock` and `new_id` (UUIDv7s) are where time and ids come from.

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
        engine = Engine(lambda: db.connect(url), clock=clock, new_id=new_id)
        self.context = Context(engine=engine, pool=pool, catalog=catalog, clock=clock, new_id=new_id)
        self.asking = Asking(catalog=catalog, actions=self._actions_in_force, new_id=new_id, clock=clock)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        catalog: Catalog = EXAMPLE,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], UUID] | None = None,
    ) -> Self:
        """Open the till at `url`, else at TILL_DATABASE_URL, else on the embedded PostgreSQL, which is started.

        The embedded database is migrated on the way; any other must have been (`till migrate`).

        Raises: EmbeddedPostgresError and what `Till` raises.
        """
        settings = settings or Settings.read()
        url = url or settings.database_url
        if url is not None:
            return cls(url, catalog=catalog, clock=clock, new_id=new_id, allow_unsafe=settings.allow_unsafe_postgres)
        server = embedded.start(settings.home, bin_dir=settings.pg_bin)
        try:
            migrate.migrate(server.url)
            return cls(server.url, catalog=catalog, clock=clock, new_id=new_id, on_close=server.close)
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

    def submit(self, command: Command, *, companions: tuple[Companion, ...] = ()) -> Answer:
        """Ask for a command that `asking` built; the answer can be awaited, or blocked on with `.result()`."""
        return self.context.engine.submit(command, at=self.clock(), companions=companions)

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
        """Prove laws 1, 2 and 7 over every account. Changes nothing."""
        with self.context.connection() as conn:
            return reconciling.reconcile(conn, on_progress=on_progress)

    # -- within ------------------------------------------------------------------------------------------------------

    def _carry_out(self, command: Command, *beside: Companion) -> Receipt:
        if self.context.engine.is_own_thread:
            raise RuntimeError("A callback of an answer cannot wait for another one: use submit(), or another thread.")
        receipt = self.submit(command, companions=beside).result()
        assert receipt is not None, command
        return receipt

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
