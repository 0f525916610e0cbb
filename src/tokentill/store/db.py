"""Connections, and what the driver's errors mean to us.

Everything runs as the role `till_service`, which cannot change a journal row; only migrations run as `till_owner`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from tokentill.errors import (
    BadSetting,
    DatabaseUnavailable,
    InvalidRequest,
    SchemaMissing,
    TillError,
    UnsafePostgres,
)
from tokentill.store import packing

Conn = psycopg.Connection[TupleRow]

SERVER_VERSION_MIN = 150000

# What another process's commit can cause: forget what we believed, load again, decide again.
RETRYABLE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)
# The connection is gone, or the server is on its way down or up, or no longer the one that is written to.
LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


def connect(url: str, *, role: str | None = "till_service", autocommit: bool = False) -> Conn:
    """Open a connection whose session runs as `role` in UTC.

    Raises: DatabaseUnavailable when nobody answers, BadSetting when the URL cannot be read, SchemaMissing when the
    role does not exist yet.
    """
    try:
        conn = psycopg.connect(conninfo(url, role), autocommit=autocommit, prepare_threshold=2)
        packing.register(conn)
        return conn
    except psycopg.OperationalError as error:
        # libpq reports a bad startup option as a failed connection, without an SQLSTATE.
        if role is not None and f'role "{role}" does not exist' in str(error):
            raise SchemaMissing("The database has no tokentill schema yet: run `till migrate`.") from None
        if role is not None and f'permission denied to set role "{role}"' in str(error):
            detail = f"This database user may not act as {role}: as an administrator, GRANT {role} TO it."
            raise BadSetting(detail) from None
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {_one_line(error)}") from error


def connect_lane(url: str) -> Conn:
    """Open a connection for a lane of the engine: transactions begin when told to. Raises as `connect`.

    A lane says the same few things all day, so they are planned once, and for full tables: every way but by the indexes
    is ruled out, or a plan that was made while a table was empty would go on reading all of it.
    """
    conn = connect(url, autocommit=True)
    conn.execute(
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;"
        " SET enable_mergejoin = off"
    )
    return conn


def require_safe(conn: Conn, *, allow_unsafe: bool) -> None:
    """Refuse a server that would lose acknowledged writes in a crash, or that is too old.

    Raises: UnsafePostgres, BadSetting.
    """
    if conn.info.server_version < SERVER_VERSION_MIN:
        raise BadSetting(f"PostgreSQL 15 or newer is needed; this server is {conn.info.server_version // 10000}.")
    if allow_unsafe:
        return
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    sql = "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name"
    unsafe = [name for (name,) in conn.execute(sql, [list(settings)])]
    conn.rollback()
    if unsafe:
        raise UnsafePostgres(
            f"{', '.join(unsafe)} is off on this server: a crash would lose writes that were acknowledged. Turn it on, "
            "or set TILL_ALLOW_UNSAFE_POSTGRES=1 for a database that may be lost."
        )


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, for readers and small writers. The engine has its own ways."""
    try:
        yield
    except TillError:
        raise
    except psycopg.errors.UndefinedTable as error:
        raise SchemaMissing(
            f"The database's schema is not this tokentill's ({_one_line(error)}): run `till migrate`."
        ) from error
    except LOST as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {_one_line(error)}") from error
    except psycopg.DataError as error:
        raise InvalidRequest(f"PostgreSQL cannot store this: {_one_line(error)}") from error


def fixed(sql: str) -> LiteralString:
    """Mark text that was read from our own files, or built from constants of ours, as safe to execute."""
    return sql


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def pool(url: str, *, size_max: int = 4) -> ConnectionPool[Conn]:
    """Return a small pool for readers and companions; the engine has a connection of its own."""
    return ConnectionPool(
        conninfo(url, "till_service"),
        kwargs={"prepare_threshold": 2},
        min_size=1,
        max_size=size_max,
        timeout=10,
        configure=packing.register,
        check=ConnectionPool.check_connection,
        open=True,
        name="till-readers",
    )


def conninfo(url: str, role: str | None, *, search_path: str | None = None) -> str:
    """Return what libpq connects with: as `role`, in UTC. Raises: BadSetting when the URL cannot be read."""
    try:
        given = conninfo_to_dict(url)
        options = f"{given.get('options') or ''} -c timezone=UTC" + (f" -c role={role}" if role else "")
        options += f" -c search_path={search_path}" if search_path else ""
        defaults = {"application_name": "tokentill", "connect_timeout": "10"}
        return make_conninfo("", **{**defaults, **given, "options": options.strip()})
    except psycopg.ProgrammingError as error:
        raise BadSetting(f"TILL_DATABASE_URL is no PostgreSQL URL: {_one_line(error)}") from None
