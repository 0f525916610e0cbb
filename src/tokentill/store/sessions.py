"""Sessions: what the till relies on in a connection is set and read back, whatever stands between it and PostgreSQL.

The environment (`PGTZ`, `PGOPTIONS`, …), a role's or a database's settings and a pooler may all say something else than
what our SQL and our arithmetic take for granted: who we are, that times are in UTC, how dates and texts are written.

Two ways to hold it:

* a session of our own: the settings are made once, right after connecting, and read back;
* behind a pooler that hands out a connection for each transaction, there is no session: what we set would stay behind
  for somebody else, and be gone for us. Each transaction begins with its settings (`SET LOCAL`), a statement outside
  of one gets one of its own, and nothing is prepared.

A pooler is recognised by its backend: it tells a process id of its own when we connect, and `pg_backend_pid()` tells
PostgreSQL's. That it keeps sessions cannot be seen from here, so it is believed only if it is said (TILL_POOLER).
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, LiteralString, Self

import psycopg
from psycopg import generators
from psycopg import sql as pgsql
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import TupleRow

from tokentill.errors import BadSetting, SchemaMissing

# What every statement of ours relies on, as PostgreSQL reads it back.
SETTINGS: Mapping[str, str] = {
    "timezone": "UTC",  # Or 28 days would be an hour more or less over a change of clocks.
    "datestyle": "ISO, YMD",  # The driver reads no other.
    "intervalstyle": "postgres",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "default_transaction_isolation": "read committed",  # Compare-and-set needs no more, and waits less.
}

# A lane says the same few things all day, so they are planned once, and for full tables: every way but by the indexes
# is ruled out, or a plan that was made while a table was empty would go on reading all of it.
LANE: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class _Begins:
    """A connection whose transactions may begin with settings of their own.

    What is overridden is psycopg's own: it has no public way to begin a transaction with more than BEGIN, and a second
    trip to the server for each would be one too many.
    """

    begins_with: bytes | None = None  # None: the session holds them.
    pgconn: Any

    def _get_tx_start_command(self) -> bytes:
        begin: bytes = super()._get_tx_start_command()  # type: ignore[misc]  # psycopg's, mixed in beside this
        return begin if self.begins_with is None else b"%s; %s" % (begin, self.begins_with)

    def _exec_command(self, command: Any, **options: Any) -> Generator[Any, Any, Any]:
        if self.begins_with is None or command != self._get_tx_start_command():
            try:
                return (yield from super()._exec_command(command, **options))  # type: ignore[misc]  # the same
            except psycopg.InternalError as error:
                if error.sqlstate is not None:
                    raise
                # Two answers to one COMMIT: the server's last word, and the end of the connection.
                self.pgconn.finish()
                raise psycopg.OperationalError(f"the connection was lost: {error}") from error
        self.pgconn.send_query(command)
        results = yield from generators.execute(self.pgconn)
        for result in results:
            if result.status != ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result)
        return results[-1]


class Connection(_Begins, psycopg.Connection[TupleRow]):  # type: ignore[misc]  # what _Begins overrides is untyped
    """A connection of the till's."""


class AsyncConnection(_Begins, psycopg.AsyncConnection[TupleRow]):  # type: ignore[misc]  # the same
    """The same for an event loop."""


class _Cursor(psycopg.Cursor[Any]):
    """A cursor that has no session: what is executed outside of a transaction gets one of its own."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        conn = self.connection
        if conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE:
            with conn.transaction():
                return super().execute(query, params, **options)
        return super().execute(query, params, **options)


def has_session(conn: psycopg.Connection[Any]) -> bool:
    """Whether what is set on this connection, or locked by it, is there in its next transaction."""
    return getattr(conn, "begins_with", None) is None


def hold(
    conn: Connection, *, role: str | None, schema: str, keeps_sessions: bool, more: Mapping[str, str] = {}
) -> None:
    """Make the connection what the till relies on, and read it back. `role` None: whoever logged in.

    Raises: SchemaMissing when the role does not exist, BadSetting when something cannot be had; then the connection is
    of no use. psycopg's errors when it is lost.
    """
    _require_utf8(conn)
    local = not keeps_sessions and _is_pooled(conn)
    if local:
        conn.begins_with = _settings(role, schema, more or {}, is_local=True)
        conn.prepare_threshold = None
        conn.cursor_factory = _Cursor
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED  # BEGIN says it: the default may be anybody's.
    try:
        with conn.transaction():
            if not local:
                conn.execute(_settings(role, schema, more or {}, is_local=False))
            read = conn.execute(_READ_BACK).fetchone()
    except psycopg.Error as error:
        raise _refused(error, role) from error
    _require_read_back(read or (), role, schema)


async def hold_async(conn: AsyncConnection, *, role: str, schema: str, keeps_sessions: bool) -> None:
    """The same for an event loop, where every statement is in a transaction anyway."""
    row = await (await conn.execute(_BACKEND)).fetchone()
    await conn.rollback()
    local = not keeps_sessions and row != (conn.info.backend_pid,)
    if local:
        conn.begins_with = _settings(role, schema, {}, is_local=True)
        conn.prepare_threshold = None
        await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    async with conn.transaction():
        if not local:
            await conn.execute(_settings(role, schema, {}, is_local=False))
        read = await (await conn.execute(_READ_BACK)).fetchone()
    _require_read_back(read or (), role, schema)


_BACKEND: LiteralString = "SELECT pg_backend_pid()"
_READ_BACK = ("SELECT current_user::text, current_schemas(false)::text[], "
              + ", ".join(f"current_setting('{name}')" for name in SETTINGS)).encode()  # fmt: skip


def _is_pooled(conn: psycopg.Connection[Any]) -> bool:
    told = conn.info.backend_pid
    row = conn.execute(_BACKEND).fetchone()
    conn.rollback()
    return row != (told,)


def _settings(role: str | None, schema: str, more: Mapping[str, str], *, is_local: bool) -> bytes:
    """Return the statements that make the settings, for a session or for the transaction they are in."""
    how = pgsql.SQL("SET LOCAL" if is_local else "SET")
    who = pgsql.SQL("NONE") if role is None else pgsql.Identifier(role)
    parts = [pgsql.SQL("{} ROLE {}").format(how, who),
             pgsql.SQL("{} search_path = {}").format(how, pgsql.Identifier(schema))]  # fmt: skip
    for name, value in {**SETTINGS, **more}.items():
        parts.append(pgsql.SQL("{} {} = {}").format(how, pgsql.Identifier(name), pgsql.Literal(value)))
    return pgsql.SQL("; ").join(parts).as_bytes(None)


def _require_utf8(conn: psycopg.Connection[Any]) -> None:
    encoding = conn.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise BadSetting(
            f"This database's encoding is {encoding}, and tokentill needs UTF8. Make one with: "
            f"CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0."
        )


def _refused(error: psycopg.Error, role: str | None) -> Exception:
    if role is not None and f'role "{role}" does not exist' in str(error):
        return SchemaMissing("The database has no tokentill schema yet: run `till migrate`.")
    if role is not None and f'permission denied to set role "{role}"' in str(error):
        return BadSetting(f"This database user may not act as {role}: as an administrator, GRANT {role} TO it.")
    return error


def _require_read_back(read: Sequence[object], role: str | None, schema: str) -> None:
    """Raise BadSetting when the server says otherwise than it was told: somebody between us did not pass it on."""
    who, schemas, *settings = read
    wrong = {name: found for (name, set_to), found in zip(SETTINGS.items(), settings, strict=True) if found != set_to}
    if role not in (None, who):
        wrong["role"] = who
    if isinstance(schemas, list) and schemas not in ([schema], []):  # Empty: the schema is not there yet.
        wrong["search_path"] = ", ".join(map(str, schemas))
    if wrong:
        name, value = next(iter(wrong.items()))
        raise BadSetting(
            f"The database does not keep what the till sets: {name} is {value!r}. If a pooler stands between, set "
            "TILL_POOLER=transaction."
        )
