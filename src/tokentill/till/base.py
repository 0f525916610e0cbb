"""Opening a till, closing it, and what all that it does has in common."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.core import checks
from tokentill.core.companions import Audited, Companion, ProfileSeen
from tokentill.core.ledger.commands import HoldCommand, RowCommand
from tokentill.core.ledger.holds import HoldReceipt
from tokentill.core.ledger.reversals import Policies
from tokentill.core.plans.catalog import Catalog
from tokentill.core.users import User
from tokentill.engine import Answer, Engine
from tokentill.errors import HoldNotFound, SwitchedOff
from tokentill.ids import Uuid7s, utc_now
from tokentill.services.accounts.asking import Asking
from tokentill.services.calls.calling import WhichHold, Who, hold_of
from tokentill.services.calls.costing import UnknownModels
from tokentill.services.calls.rates import RatesInForce
from tokentill.services.context import Context
from tokentill.services.plans.cataloguing import InForce
from tokentill.services.stripe.batching import Arrivals
from tokentill.services.stripe.selling import Stripe
from tokentill.settings import Settings
from tokentill.store import db, embedded, holds, migrate
from tokentill.store.journal import Receipt


class Base:
    """A till that is open. `Till` has all that it does."""

    def __init__(
        self,
        url: str,
        *,
        catalog: Catalog | None = None,
        stripe: Stripe | None = None,
        stripe_of: Callable[[], Stripe | None] = lambda: None,
        policies: Policies | None = None,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], UUID] | None = None,
        allow_unsafe: bool = False,
        stripe_mode: Literal["test", "live"] | None = None,
        engine_of: Callable[..., Engine] = Engine,
        usage_key_hours: int = 72,
        unknown_models: UnknownModels | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a till on a migrated database. `clock` and `new_id` (UUIDv7s) are where time and ids come from.

        `catalog` is what is sold, whatever the database's catalog says; without it, the database's is in force.
        `stripe` is Stripe's API, or `stripe_of` returns it when it is first needed: its library takes long to load.
        Without either, nothing is sold through Stripe from here. `engine_of` makes the engine: a `RoutedEngine` where
        this till is one worker's of several. `usage_key_hours` is how long its worker keeps the keys of usage.
        `unknown_models` is what a call of a model without a price meets; else it is recorded, with a finding.
        Events of another `stripe_mode` are ignored; without it, the first one acted on decides.

        Raises: DatabaseUnavailable, SchemaMissing, SchemaNewer, UnsafePostgres.
        """
        self.url = url
        self.clock = clock
        new_id = new_id or Uuid7s()
        with db.connect(url) as conn:
            migrate.require_current(conn)
            db.require_safe(conn, allow_unsafe=allow_unsafe)
        self._on_close = on_close
        self._stripe_of = stripe_of if stripe is None else lambda: stripe
        pool: ConnectionPool[Connection[TupleRow]] = db.pool(url)
        engine = engine_of(lambda: db.connect_lane(url), clock=clock, new_id=new_id)
        self._in_force = InForce(lambda: db.connect(url, autocommit=True))
        in_force = self._in_force if catalog is None else lambda: catalog
        self.context = Context(
            engine=engine, pool=pool, catalog_in_force=in_force, policies=policies or Policies(), clock=clock,
            new_id=new_id, usage_keys_kept=timedelta(hours=usage_key_hours),
            stripe_of=self._stripe_of,
            livemode=None if stripe_mode is None else stripe_mode == "live",
        )  # fmt: skip
        self._arrivals = Arrivals(self.context)
        self.rates = RatesInForce(self.context.connection, clock)
        self.asking = Asking(
            catalog=in_force,
            rates=self.rates,
            unknown_models=unknown_models or UnknownModels(),
            new_id=new_id,
            clock=clock,
            hold_placed=self.find_hold,
        )

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        catalog: Catalog | None = None,
        stripe: Stripe | None = None,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], UUID] | None = None,
        engine_of: Callable[..., Engine] = Engine,
    ) -> Self:
        """Open the till at `url`, else at TILL_DATABASE_URL, else on the embedded PostgreSQL, which is started.

        The embedded database is migrated on the way; any other must have been (`till migrate`). Stripe's API is that of
        TILL_STRIPE_API_KEY, unless `stripe` is given.

        Raises: EmbeddedPostgresError and what `Till` raises.
        """
        settings = settings or Settings.read()
        policies = Policies(
            refund="debt" if settings.refund_policy == "debt" else "forgive",
            dispute="forgive" if settings.dispute_policy == "forgive" else "debt",
            freezes=settings.dispute_freezes,
        )
        url = url or settings.database_url
        options: dict[str, Any] = {
            "catalog": catalog, "stripe": stripe, "policies": policies, "clock": clock, "new_id": new_id,
            "engine_of": engine_of, "usage_key_hours": settings.usage_key_hours, "stripe_mode": settings.stripe_mode,
            "unknown_models": UnknownModels(policy=settings.unknown_model, fallback=settings.fallback_model),
            "stripe_of": cache(lambda: _stripe_of(settings)),
        }  # fmt: skip
        if url is not None:
            return cls(url, allow_unsafe=settings.allow_unsafe_postgres, **options)
        server = embedded.start(settings.home, bin_dir=settings.pg_bin)
        try:
            migrate.migrate(server.url)
            return cls(server.url, on_close=server.close, **options)
        except BaseException:
            server.close()
            raise

    def close(self) -> None:
        """Finish what was asked, then let go of the database. Idempotent."""
        self._arrivals.close()
        self.context.engine.close()
        self.context.pool.close()
        self._in_force.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    @property
    def stripe(self) -> Stripe:
        """Stripe's API. Raises: SwitchedOff without a key."""
        found = self._stripe_of()
        if found is None:
            raise SwitchedOff("Selling through Stripe is off: set TILL_STRIPE_API_KEY to a secret key of Stripe's API.")
        return found

    @property
    def catalog(self) -> Catalog:
        """The catalog in force now: edits of other processes count at once. Raises: DatabaseUnavailable."""
        return self.context.catalog

    def find_hold(self, user: Who, hold_id: WhichHold) -> HoldReceipt:
        """Return one hold as it is now, open or not. Raises: HoldNotFound."""
        who = User.of(user)
        held = hold_of(who, hold_id)
        with self.context.connection() as conn:
            found = holds.one(conn, who.user_id, held, at=self.clock())
        if found is None:
            raise HoldNotFound(f"{who.name} has no hold {held}.", hold_id=str(held))
        return found

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

    def _profile(self, email: str | None) -> tuple[Companion, ...]:
        checked = checks.text_or_none(email, "email", length_max=320)
        return (ProfileSeen(email=checked),) if checked else ()

    def _audited(self, act: str, actor: str | None, reason: str | None, tokens: int) -> tuple[Companion, ...]:
        if actor is None:
            return ()
        detail = {"tokens": tokens, "reason": reason}
        return (Audited(id=self.context.new_id(), actor=actor, act=act, detail=detail),)


def _stripe_of(settings: Settings) -> Stripe | None:
    if settings.stripe_api_key is None:
        return None
    from tokentill.stripe.calling import StripeApi  # Here, because the library takes its time to load.

    return StripeApi.of(settings)
