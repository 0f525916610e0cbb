"""The host's own table of profiles: what it shows of a balance is kept in step, in the transaction that changes it.

Where the host's database has a table `user_profiles` of its own, the till makes no view of that name (0006_views). Its
balance column is then as of the account's last change: tokens that have expired since are taken out with the next one.
A row that is missing is nobody's to make. What the host's table refuses (a CHECK, a trigger, a right) does not stop the
till: the books go on, and a finding says that the table has fallen behind.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg import sql as pgsql

from tokentill.core.companions import Found
from tokentill.errors import BadSetting
from tokentill.store import companions
from tokentill.store.db import LOST, RETRYABLE, Conn, connect, fixed

BALANCE, USED, COST = "vibe_assistant_tokens_remaining", "vibe_assistant_tokens_used", "vibe_assistant_total_cost"
_COLUMNS = "table_schema, table_name, user_column, balance_column, used_column, cost_column, is_text"
_NUMBERS = ("integer", "bigint", "numeric")
_IDS = {"uuid": False, "text": True, "character varying": True}

log = logging.getLogger("tokentill.store")


@dataclass(frozen=True, slots=True)
class Profiles:
    """A table of the host's, and the columns that the till keeps in step."""

    table_schema: str
    table_name: str
    user_column: str
    balance_column: str
    used_column: str | None
    cost_column: str | None
    is_text: bool

    @property
    def name(self) -> str:
        return f"{self.table_schema}.{self.table_name}.{self.balance_column}"

    @property
    def table(self) -> pgsql.Identifier:
        return pgsql.Identifier(self.table_schema, self.table_name)

    @property
    def kept(self) -> dict[str, str]:
        """What is written to each column."""
        columns = {self.balance_column: "a.balance", self.used_column: "a.lifetime_tokens_used",
                   self.cost_column: "a.lifetime_cost"}  # fmt: skip
        return {column: value for column, value in columns.items() if column is not None}

    @property
    def is_of(self) -> pgsql.Composed:
        """Whether a row `p` is of the account `a`."""
        theirs = "coalesce(a.external_id, a.user_id::text)" if self.is_text else "a.user_id"
        return pgsql.SQL("p.{} = {}").format(pgsql.Identifier(self.user_column), pgsql.SQL(fixed(theirs)))


def read(conn: Conn) -> Profiles | None:
    """Return the host's table that is kept in step; None: there is none."""
    row = conn.execute(f"SELECT {_COLUMNS} FROM host_profiles".encode()).fetchone()
    return Profiles(*row) if row else None


def keep(conn: Conn, profiles: Profiles, users: Sequence[UUID], *, new_id: Callable[[], UUID], now: datetime) -> None:
    """Write what these accounts have now; the caller is in the transaction that changed them.

    Raises: psycopg's errors for what is worth another try: a lost connection, a deadlock.
    """
    try:
        with conn.transaction():
            _update(conn, profiles, users)
        return
    except psycopg.IntegrityError as error:  # Before the others: a unique key of the host's is no reason to try again.
        refused: psycopg.Error = error
    except (*RETRYABLE, *LOST):
        raise
    except psycopg.Error as error:
        refused = error
    if len(users) > 1:  # One member's row is refused: the others' are not.
        for user in users:
            keep(conn, profiles, [user], new_id=new_id, now=now)
        return
    said = " ".join(str(refused).split())[:500]
    log.error("%s is not in step with its account: %s", profiles.name, ascii(said))
    found = Found(
        id=new_id(), kind="profile_behind", subject=profiles.name, expected="the account's balance", found=said
    )
    companions.write(conn, users[0], [found], seq=None, now=now)


def _update(conn: Conn, profiles: Profiles, users: Sequence[UUID] | None) -> int:
    """Write what these accounts (None: all) have; return how many rows of the host's there were."""
    values = pgsql.SQL(", ").join(
        pgsql.SQL("{} = {}").format(pgsql.Identifier(column), pgsql.SQL(fixed(value)))
        for column, value in profiles.kept.items()
    )
    # Sorted by nothing: the host writes one row at a time, and a deadlock with it is tried again.
    statement = pgsql.SQL("UPDATE {} AS p SET {} FROM token_accounts a WHERE {}").format(
        profiles.table, values, profiles.is_of
    )
    if users is None:
        return conn.execute(statement).rowcount
    return conn.execute(statement + pgsql.SQL(" AND a.user_id = ANY(%s)"), [sorted(users)]).rowcount


def differences(conn: Conn, profiles: Profiles, first: UUID, last: UUID) -> list[tuple[UUID, None, str, str]]:
    """Return user_id, nothing, the account's balance and what the host's table shows, where they differ."""
    statement = pgsql.SQL(
        "SELECT a.user_id, NULL, a.balance::text, coalesce(p.{}::text, 'nothing') "
        "FROM token_accounts a JOIN {} p ON {} WHERE a.user_id BETWEEN %s AND %s AND p.{} IS DISTINCT FROM a.balance"
    ).format(
        pgsql.Identifier(profiles.balance_column), profiles.table, profiles.is_of,
        pgsql.Identifier(profiles.balance_column),
    )  # fmt: skip
    try:
        with conn.transaction():
            return conn.execute(statement, [first, last]).fetchall()
    except psycopg.ProgrammingError as error:  # It is gone, or no longer ours to read.
        return [(first, None, f"{profiles.name} to compare with", " ".join(str(error).split()))]


def configure(url: str, named: str | None) -> Profiles | None:
    """Find the host's table, or take the one that is `named` (TABLE.COLUMN), and bring it in step; None: there is none.

    `none` ends it. A table that is kept in step already stays so unless another is named. Open tills notice when they
    connect anew.

    Raises: BadSetting when there is no such table or column, or a right is missing; then nothing has changed.
    """
    with connect(url, role=None) as conn:
        if named == "none":
            conn.execute("SET LOCAL ROLE till_owner")
            conn.execute("DELETE FROM host_profiles")
            return None
        conn.execute("SET LOCAL ROLE till_owner")
        known = read(conn)
        conn.execute("SET LOCAL ROLE NONE")
        if named is None and known is not None:
            return known
        found = _found(conn, named)
        if found is None:
            return None
        _take(conn, found)
        return found


def _found(conn: Conn, named: str | None) -> Profiles | None:
    *table, column = (named or f"user_profiles.{BALANCE}").split(".")
    if not 1 <= len(table) <= 2:
        raise BadSetting(f"Name it as TABLE.COLUMN or SCHEMA.TABLE.COLUMN, not {str(named)[:100]!r}.")
    schema, name = ("public", *table)[-2:]
    sql = """
        SELECT a.attname::text, format_type(a.atttypid, NULL), c.relkind::text
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
    """
    types = {column: kind for column, kind, _ in conn.execute(sql, [schema, name])}
    if named is None and types.get(column) is None:
        return None
    if types.get(column) not in _NUMBERS:
        said = "no such column" if types else "no such table"
        of = f"of type {types[column]}" if column in types else said
        raise BadSetting(
            f"{schema}.{name}.{column} cannot hold a balance: {of}; it must be bigint, integer or numeric."
        )
    user = next((each for each in ("user_id", "id") if types.get(each) in _IDS), None)
    if user is None:
        raise BadSetting(f"{schema}.{name} has no column user_id or id of type uuid or text: whose balance is it?")
    used, cost = (each if types.get(each) in _NUMBERS else None for each in (USED, COST))
    return Profiles(schema, name, user, column, used, cost, _IDS[types[user]])


def _take(conn: Conn, profiles: Profiles) -> None:
    """Let the service write these columns, and bring them in step now, as the service: so it is known to work."""
    columns = pgsql.SQL(", ").join(map(pgsql.Identifier, profiles.kept))
    sql = "SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass"
    is_guarded = conn.execute(sql, [profiles.table.as_string(conn)]).fetchone() == (True,)
    granting = [
        pgsql.SQL("GRANT USAGE ON SCHEMA {} TO till_service").format(pgsql.Identifier(profiles.table_schema)),
        pgsql.SQL("GRANT SELECT ({}, {}), UPDATE ({}) ON {} TO till_service").format(
            pgsql.Identifier(profiles.user_column), columns, columns, profiles.table
        ),
    ]
    if is_guarded:  # Or the service would see no row, and write to none, without a word.
        granting += [
            pgsql.SQL("DROP POLICY IF EXISTS till_keeps_in_step ON {}").format(profiles.table),
            pgsql.SQL("CREATE POLICY till_keeps_in_step ON {} TO till_service USING (true) WITH CHECK (true)").format(
                profiles.table
            ),
        ]
    try:
        for statement in granting:
            conn.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        conn.rollback()
        script = "\n".join(f"{statement.as_string(conn)};" for statement in granting)
        raise BadSetting(
            f"This database user may not let the till write to {profiles.name} ({error.diag.message_primary}). Let its "
            f"owner run this, then `till migrate` again:\n{script}"
        ) from None
    conn.execute("SET LOCAL ROLE till_owner")
    conn.execute("DELETE FROM host_profiles")
    places = ", ".join(["%s"] * len(astuple(profiles)))
    conn.execute(f"INSERT INTO host_profiles ({_COLUMNS}) VALUES ({places})".encode(), astuple(profiles))
    conn.execute("SET LOCAL ROLE till_service")
    try:
        _update(conn, profiles, None)
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.InternalError) as error:
        raise BadSetting(f"{profiles.name} does not take the balances: {' '.join(str(error).split())}") from None
