"""A database for the demo, made anew at each run, and the app's queries put to it. Used by `tokentill.demo` only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from tokentill.errors import BadSetting
from tokentill.store.db import Conn, connect, fixed

NAME = "tokentill_demo"
RUNS_MAX = 20  # Demos at the same time on one server: each takes the first name that nobody is using.


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned. A query that the database refused has an `error` and no rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    error: str | None = None


def make(server_url: str) -> str:
    """Make an empty database on the server, in place of what an earlier demo left there; return its URL.

    Touches no database of another name, and none that somebody is connected to.

    Raises: BadSetting when this user may not create databases or all names are in use, DatabaseUnavailable.
    """
    with connect(server_url, role=None, autocommit=True) as conn:
        for number in range(1, RUNS_MAX + 1):
            name = NAME if number == 1 else f"{NAME}_{number}"
            if _make(conn, name):
                return make_conninfo(server_url, dbname=name)
    raise BadSetting(f"{RUNS_MAX} demos are running on this server already.")


def _make(conn: Conn, name: str) -> bool:
    identifier = pgsql.Identifier(name)
    try:
        conn.execute(pgsql.SQL("DROP DATABASE IF EXISTS {}").format(identifier))
        conn.execute(pgsql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(identifier))
    except (psycopg.errors.ObjectInUse, psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return False
    except psycopg.errors.InsufficientPrivilege as error:
        detail = f"The demo needs a database of its own, and this user may not make one: {error.diag.message_primary}."
        raise BadSetting(detail) from None
    return True


def ask(conn: Conn, sql: str, *, search_path: str) -> Answer:
    """Put one of the app's queries to the database as it is written, with that search path. Changes nothing."""
    with _reading(conn, search_path):
        try:
            cursor = conn.execute(fixed(sql))
        except psycopg.Error as error:
            return Answer((), (), error=str(error).strip())
        columns = tuple(column.name for column in cursor.description or ())
        return Answer(columns, tuple(cursor.fetchall()))


@contextmanager
def _reading(conn: Conn, search_path: str) -> Iterator[None]:
    conn.rollback()
    try:
        conn.execute("SET TRANSACTION READ ONLY")
        conn.execute("SELECT set_config('search_path', %s, true)", [search_path])
        yield
    finally:
        conn.rollback()
