"""Migrations: numbered SQL files, forward only, each applied once, each in a transaction of its own.

`till migrate` calls `migrate`; everything else calls `require_current` first. Both say what to do about a database
that is older, newer, changed, or somebody else's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import psycopg
from psycopg import sql as pgsql

from tokentill.errors import (
    BadSetting,
    DatabaseUnavailable,
    LegacyTables,
    SchemaChanged,
    SchemaMissing,
    SchemaNewer,
)
from tokentill.store.db import Conn, connect, fixed

ROLES = ("till_owner", "till_service")
OUR_TABLES = ("token_accounts", "token_lots", "token_transactions", "token_drips", "token_usage")

_LOCK = 0x7111_0001  # Of migrations, among this database's advisory locks.


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """Return the migrations of this version, in order."""
    folder = resources.files("tokentill.store").joinpath("migrations")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in files]


def migrate(
    url: str, *, lock_timeout_seconds: int = 10, on_step: Callable[[str], None] = lambda name: None
) -> list[str]:
    """Bring the database at `url` to this version's schema; return the names of what was applied.

    Creates the roles `till_owner` and `till_service` where they are missing. Safe to run from several processes at
    once: one works, the others wait for it and find nothing to do.

    Raises: LegacyTables when the database has token tables of another system (touches nothing), SchemaNewer,
    SchemaChanged, DatabaseUnavailable when somebody holds the lock for too long.
    """
    # The lock is a transaction's, on a connection of its own: behind a pooler a session's lock would be nobody's.
    with connect(url, role=None) as guard, connect(url, role=None, autocommit=True) as conn:
        guard.execute(fixed(f"SET LOCAL lock_timeout = '{lock_timeout_seconds}s'"))
        guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            guard.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        except psycopg.errors.LockNotAvailable:
            detail = (
                f"Another `till migrate` has held the lock for {lock_timeout_seconds} s; try again when it is done."
            )
            raise DatabaseUnavailable(detail) from None
        try:
            return _migrate(conn, on_step, lock_timeout_seconds)
        except psycopg.errors.LockNotAvailable as error:
            detail = f"A table is locked by somebody else for more than {lock_timeout_seconds} s: {error}"
            raise DatabaseUnavailable(detail) from None
        finally:
            guard.rollback()


def _migrate(conn: Conn, on_step: Callable[[str], None], lock_timeout_seconds: int) -> list[str]:
    applied = _applied(conn, role="till_owner")
    if applied is None:
        _refuse_legacy(conn)
        _prepare(conn)
        applied = {}
    pending = _pending(applied)
    names = []
    for migration in pending:
        with conn.transaction():
            conn.execute(fixed(f"SET LOCAL lock_timeout = '{lock_timeout_seconds}s'"))
            conn.execute("SET LOCAL ROLE till_owner")
            conn.execute(fixed(migration.sql))
            conn.execute(
                "INSERT INTO till_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )
        names.append(migration.name)
        on_step(migration.name)
    return names


def require_current(conn: Conn) -> None:
    """Raise SchemaMissing, SchemaNewer or SchemaChanged unless the database has exactly this version's schema."""
    applied = _applied(conn)
    conn.rollback()
    if applied is None:
        raise SchemaMissing("The database has no tokentill schema yet: run `till migrate`.")
    pending = _pending(applied)
    if pending:
        raise SchemaMissing(f"The database lacks {len(pending)} migrations of this version: run `till migrate`.")


def _applied(conn: Conn, *, role: str | None = None) -> dict[int, tuple[str, str]] | None:
    """Return name and checksum by number; None: this database has never been migrated. Reads as `role`."""
    if conn.execute("SELECT to_regclass('till_migrations')").fetchone() == (None,):
        return None
    with conn.transaction():
        if role is not None:  # A login that inherits nothing of its roles may not read otherwise.
            conn.execute(_sql("SET LOCAL ROLE {}", role))
        rows = conn.execute("SELECT number, name, checksum FROM till_migrations").fetchall()
    return {number: (name, checksum) for number, name, checksum in rows}


def _pending(applied: dict[int, tuple[str, str]]) -> list[Migration]:
    ours = {migration.number: migration for migration in shipped()}
    newer = sorted(set(applied) - set(ours))
    if newer:
        name = applied[newer[-1]][0]
        raise SchemaNewer(f"The database was migrated by a newer tokentill (it has {name}): upgrade this one.")
    for number, (name, checksum) in applied.items():
        if checksum != ours[number].checksum:
            raise SchemaChanged(
                f"Migration {name} was applied with another text than this version ships: use the version that applied "
                "it, or restore the file; an applied migration is never edited."
            )
    return [ours[number] for number in sorted(set(ours) - set(applied))]


def _refuse_legacy(conn: Conn) -> None:
    sql = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_table_is_visible(oid) ORDER BY relname"
    found = [name for (name,) in conn.execute(sql, [list(OUR_TABLES)])]
    if found:
        raise LegacyTables(
            f"The database already has {', '.join(found)}, which tokentill did not make. Nothing was touched. "
            "`till import-legacy` is the way in: it reads such tables and keeps every row.",
            tables=found,
        )


def _prepare(conn: Conn) -> None:
    """Make the two roles, what they may create, and the table of migrations.

    Only what is missing is done: whoever owns the database but no roles needs an administrator for the roles alone.
    """
    try:
        with conn.transaction():
            for role in ROLES:
                _make_role(conn, role)
            for statement in _missing(conn):
                conn.execute(statement)
            conn.execute("SET LOCAL ROLE till_owner")
            conn.execute(
                "CREATE TABLE till_migrations (number integer PRIMARY KEY, name text NOT NULL, "
                "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT statement_timestamp())"
            )
    except psycopg.errors.InsufficientPrivilege as error:
        script = "\n".join(f"{statement.as_string(conn)};" for statement in _missing(conn))
        raise BadSetting(
            f"This database user may not prepare the database ({error.diag.message_primary}). Let an administrator run "
            f"this in it, then `till migrate` again:\n{script}"
        ) from None


def _missing(conn: Conn) -> list[pgsql.Composed]:
    """Return the statements that this user and the two roles still need, in an order in which they can be run."""
    sql = """
        SELECT current_user::text, current_database()::text,
               ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY(%(roles)s)),
               ARRAY(SELECT rolname::text FROM pg_roles
                      WHERE rolname = ANY(%(roles)s) AND pg_has_role(current_user, oid, %(may_set)s)),
               (SELECT has_database_privilege(oid, current_database(), 'CREATE') FROM pg_roles
                 WHERE rolname = 'till_owner'),
               (SELECT has_schema_privilege(oid, 'public', 'CREATE') AND has_schema_privilege(oid, 'public', 'USAGE')
                  FROM pg_roles WHERE rolname = 'till_owner')
    """
    # Since 16 a membership may come without the right to SET ROLE; before, there is no such thing to ask for.
    may_set = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    row = conn.execute(sql, {"roles": list(ROLES), "may_set": may_set}).fetchone()
    assert row is not None
    me, database, there, mine, may_create, may_in_public = row
    missing = [_sql("CREATE ROLE {} NOLOGIN", role) for role in ROLES if role not in there]
    missing += [_sql("GRANT {} TO {}", role, me) for role in ROLES if role not in mine]
    if not may_create:
        missing.append(_sql("GRANT CREATE ON DATABASE {} TO till_owner", database))
    if not may_in_public:
        missing.append(_sql("GRANT CREATE, USAGE ON SCHEMA public TO till_owner"))
    return missing


def _sql(statement: str, *names: str) -> pgsql.Composed:
    return pgsql.SQL(fixed(statement)).format(*map(pgsql.Identifier, names))


def _make_role(conn: Conn, role: str) -> None:
    """Roles belong to the whole server: another database's migration may make the same one at this moment."""
    if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        return
    try:
        with conn.transaction():
            conn.execute(_sql("CREATE ROLE {} NOLOGIN", role))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        pass
