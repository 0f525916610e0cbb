"""Cataloguing: which catalog is in force, and editing it. An edit touches nothing that was granted."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from tokentill.core.edits import Change
from tokentill.core.plans.catalog import Catalog
from tokentill.core.plans.price_lists import changed_offers, changes, read
from tokentill.errors import Conflict, Unavailable
from tokentill.services.context import Context
from tokentill.store import catalog as catalogs
from tokentill.store.db import LOST, Conn, translated


class InForce:
    """The catalog in force. Called, it asks whether anybody has edited it and reads it only then.

    Asking each time is what lets a process follow another one's edits at once: a pack that is sold from this moment on
    may be paid for in the next. It costs one short query, on a connection of its own: whoever asks may hold one of the
    pool's already, and must not wait for a second.
    """

    def __init__(self, connect: Callable[[], Conn]) -> None:
        """`connect` opens a connection that is in autocommit."""
        self._connect = connect
        self._lock = threading.Lock()
        self._conn: Conn | None = None
        self._known: tuple[int, Catalog] | None = None
        self._is_closed = False

    def __call__(self) -> Catalog:
        """Return it. Raises: DatabaseUnavailable, SchemaMissing, Unavailable when it is closed."""
        with self._lock, translated():
            if self._is_closed:
                raise Unavailable("The till is closed.")
            try:
                return self._look()
            except LOST:  # The server may have been started anew since we asked last.
                self._let_go()
                return self._look()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._let_go()

    def _look(self) -> Catalog:
        if self._conn is None:
            self._conn = self._connect()
        if self._known is None or self._known[0] != catalogs.revision(self._conn):
            self._known = catalogs.load(self._conn)
        return self._known[1]

    def _let_go(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit of the catalog changed, or would change."""

    revision: int  # The one in force afterwards.
    catalog: Catalog
    changes: tuple[Change, ...]


def read_catalog(context: Context) -> tuple[int, Catalog]:
    """Return the catalog that the database has, and its revision. Raises: DatabaseUnavailable."""
    with context.connection() as conn:
        return catalogs.load(conn)


def edit(
    context: Context,
    price_list: Mapping[str, object],
    *,
    actor: str,
    revision: int | None = None,
    is_dry_run: bool = False,
) -> Edit:
    """Make a price list the catalog in force. One that changes nothing writes nothing.

    With `revision`, only if that is the catalog's: whoever edits by hand must not undo what another has written since.

    Raises: InvalidCatalog, Conflict (nothing was written).
    """
    while True:
        number, before = read_catalog(context)
        if revision is not None and revision != number:
            raise _edited_meanwhile(number)
        after = read(price_list, before)
        if is_dry_run:
            return Edit(number, after, tuple(changes(before, after)))
        done = write(context, number, before, after, actor=actor)
        if done is not None:
            return done


def write(context: Context, number: int, before: Catalog, after: Catalog, *, actor: str) -> Edit | None:
    """Write the versions of what differs, with an audit row. None: the catalog is not at revision `number` any more."""
    found = changes(before, after)
    if not found:
        return Edit(number, before, ())
    now = context.clock()
    with context.connection() as conn:
        version = catalogs.begin_revision(conn, number, created_by=actor, now=now)
        if version is None:
            return None
        for offer in changed_offers(before, after):
            catalogs.write_offer(conn, version, offer, created_by=actor, now=now)
        if (before.trial_tokens, before.trial_days) != (after.trial_tokens, after.trial_days):
            catalogs.write_trial(conn, version, after, created_by=actor, now=now)
        detail = {"revision": version, "changes": [asdict(change) for change in found]}
        catalogs.write_audit(conn, context.new_id(), actor=actor, detail=detail, now=now)
    return Edit(version, after, tuple(found))


def _edited_meanwhile(number: int) -> Conflict:
    return Conflict(
        f"The catalog has been edited meanwhile: it is at revision {number}. Look at it and edit that one.",
        revision=number,
    )
