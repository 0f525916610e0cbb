"""What the services work with: one engine, some connections, the catalog in force, and the edge's clock and ids."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.core.ledger.reversals import Policies
from tokentill.core.plans.catalog import Catalog
from tokentill.engine import Engine
from tokentill.errors import DatabaseUnavailable
from tokentill.services.stripe.inquiring import Lists
from tokentill.store.db import Conn, translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    engine: Engine
    pool: ConnectionPool[Connection[TupleRow]]
    catalog_in_force: Callable[[], Catalog]
    policies: Policies = field(default_factory=Policies)
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
    usage_keys_kept: timedelta = timedelta(hours=72)  # How long a retry of a spend is recognised.
    stripe_of: Callable[[], Lists | None] = lambda: None  # Its library is slow to load: not before it is asked.
    livemode: bool | None = None  # Which mode of Stripe counts, as the settings say. None: the first event's.

    @property
    def catalog(self) -> Catalog:
        """The catalog in force now: whoever decides several things by it asks once. Raises: DatabaseUnavailable."""
        return self.catalog_in_force()

    @property
    def stripe(self) -> Lists | None:
        """Stripe's API, where it may be asked. None: events tell what they tell."""
        return self.stripe_of()

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        """Lend a connection: committed at the end, rolled back on an error.

        Raises: DatabaseUnavailable (also when the till is closed), SchemaMissing.
        """
        if self.pool.closed:
            raise DatabaseUnavailable("The till is closed.")
        with translated(), self.pool.connection() as conn:
            yield conn
