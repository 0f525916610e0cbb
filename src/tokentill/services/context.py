"""What the services work with: one engine, some connections, the catalog, and the edge's clock and ids."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.core.catalog import Catalog
from tokentill.engine import Engine
from tokentill.store.db import Conn, translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    engine: Engine
    pool: ConnectionPool[Connection[TupleRow]]
    catalog: Catalog
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        """Lend a connection: committed at the end, rolled back on an error.

        Raises: DatabaseUnavailable, SchemaMissing.
        """
        with translated(), self.pool.connection() as conn:
            yield conn
