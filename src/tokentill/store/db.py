"""Connections, and what the driver's errors mean to us.

Everything runs as the role `till_service`, which cannot change a journal row; only migrations run as `till_owner`.
What else a connection is set to, and how that holds behind a pooler, is in `store.sessions`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

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
from tokentill.store import packing, sessions

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


def connect(
    url: str,
    *,
    role: str | None = "till_service",
    autocommit: bool = False,
    more: Mapping[str, str] = {},
) -> Conn:
    """Open a connection that acts as `role` (None: whoever logs in) with the settings that all our SQL relies on.

    `more` are settings beside those of `store.sessions`.

    Raises: DatabaseUnavailable when nobody answers, BadSetting when the URL cannot be read or the database cannot be
    what the till relies on, SchemaMissing when the role does not exist yet.
    """
    parameters, keeps_sessions = _parameters(url)
    try:
        conn = sessions.Connection.connect(make_conninfo("", **parameters), autocommit=autocommit, prepare_threshold=2)
    except psycopg.OperationalError as error:
        raise unreachable(error) from error
    try:
        sessions.hold(conn, role=role, schema="public", keeps_sessions=keeps_sessions, more=more)
        packing.register(conn)
    except BaseException as error:
        conn.close()
        if isinstance(error, psycopg.OperationalError):
            raise unreachable(error) from error
        raise
    return conn


def connect_lane(url: str) -> Conn:
    """Open a connection for a lane of the engine: transactions begin when told to. Raises as `connect`."""
    return connect(url, autocommit=True, more=sessions.LANE)


def unreachable(error: psycopg.Error) -> TillError:
    """Return what an attempt to connect failed with, as an error of ours."""
    said = _one_line(error)
    if "unsupported startup parameter" in said:
        return BadSetting(
            f"The pooler before PostgreSQL refuses a parameter of TILL_DATABASE_URL ({said.rpartition('FATAL: ')[2]}): "
            "take it out of the URL. The till itself sends none that a pooler would not take."
        )
    return DatabaseUnavailable(f"PostgreSQL does not answer: {said}")


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
    """Return a small pool for readers and companions; the engine has connections of its own."""
    parameters, keeps_sessions = _parameters(url)

    def configure(conn: Conn) -> None:
        assert isinstance(conn, sessions.Connection)
        sessions.hold(conn, role="till_service", schema="public", keeps_sessions=keeps_sessions)
        packing.register(conn)

    return ConnectionPool[Conn](
        make_conninfo("", **parameters),
        connection_class=sessions.Connection,
        kwargs={"prepare_threshold": 2},
        min_size=1,
        max_size=size_max,
        timeout=10,
        configure=configure,
        check=ConnectionPool.check_connection,
        open=True,
        name="till-readers",
    )


def pool_arguments(url: str, *, schema: str) -> dict[str, Any]:
    """Return what an AsyncConnectionPool of psycopg's takes, for a library that connects by itself."""
    parameters, keeps_sessions = _parameters(url)

    async def configure(conn: sessions.AsyncConnection) -> None:
        await sessions.hold_async(conn, role="till_service", schema=schema, keeps_sessions=keeps_sessions)

    return {
        "conninfo": make_conninfo("", **parameters),
        "connection_class": sessions.AsyncConnection,
        "configure": configure,
    }


POOLER = "till_pooler"  # What TILL_POOLER says, in the URL: so it goes wherever the URL goes.


def _parameters(url: str) -> tuple[dict[str, Any], bool]:
    """Return what libpq connects with, and whether a session is known to be kept. Raises: BadSetting."""
    bare, pooler = pooler_of(url)
    try:
        given = conninfo_to_dict(bare)
    except psycopg.ProgrammingError as error:
        raise BadSetting(f"TILL_DATABASE_URL is no PostgreSQL URL: {_one_line(error)}") from None
    defaults = {
        "application_name": "tokentill",
        "connect_timeout": "10",
        "options": "",  # Given, so that PGOPTIONS does not count: many poolers refuse whoever sends any.
    }
    return {**defaults, **given, "client_encoding": "UTF8"}, pooler == "session"


def pooler_of(url: str) -> tuple[str, str | None]:
    """Return the URL without our own parameter, and what that says: transaction, session or nothing."""
    bare, mark, query = url.partition("?")
    kept, found = [], None
    for part in query.split("&") if mark else ():
        name, _, value = part.partition("=")
        if name == POOLER:
            found = value
        else:
            kept.append(part)
    if found not in (None, "transaction", "session"):
        raise BadSetting(f"{POOLER} in the database's URL is transaction or session, not {found[:40]!r}.")
    return bare + ("?" + "&".join(kept) if kept else ""), found
