"""The rates: what calls cost us (the price book) and what they take (the actions), as this process knows them.

A spend looks them up in memory. Edits of other processes are followed within seconds: whoever finds that the last look
is `FOLLOWED_EVERY` ago asks for the number of the latest edit, and reads what was edited only then. A name that is not
known is looked up at once, since it may just have been made.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tokentill.core.prices.actions import AiAction
from tokentill.core.prices.book import PriceBook
from tokentill.errors import TillError
from tokentill.store import actions, ai_edits, prices
from tokentill.store.db import Conn

FOLLOWED_EVERY = timedelta(seconds=5)
TOLD_MAX = 20  # Findings about names, from one look to the next: names come from callers, and may be anything.

log = logging.getLogger("tokentill.rates")


class _Books:
    """The price book in memory. Read when it is asked for the first time: most programs price nothing."""

    def __init__(self, connection: Callable[[], AbstractContextManager[Conn]]) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.known: PriceBook | None = None

    def at(self, revision: int) -> PriceBook:
        """Return the book of this edit or of a later one. Raises: DatabaseUnavailable."""
        known = self.known
        if known is not None and known.revision >= revision:
            return known
        with self._lock:
            if self.known is None or self.known.revision < revision:
                with self._connection() as conn:
                    self.known = prices.load(conn)
            return self.known


@dataclass(frozen=True, slots=True)
class Rates:
    """The actions and the price book of one moment."""

    actions: Mapping[str, AiAction]
    revision: int  # Of the latest edit.
    looked_at: datetime
    _books: _Books
    # What has been reported since: once is enough, but a report may have been refused along with its spend.
    _told: set[tuple[str, str]] = field(default_factory=set, compare=False)

    @property
    def book(self) -> PriceBook:
        """Raises: DatabaseUnavailable, where it is not in memory yet."""
        return self._books.at(self.revision)

    @property
    def is_book_read(self) -> bool:
        return self._books.known is not None and self._books.known.revision >= self.revision

    def tells(self, kind: str, subject: str) -> bool:
        """Whether this is to be reported now, and not lately."""
        if (kind, subject) in self._told or len(self._told) >= TOLD_MAX:
            return False
        self._told.add((kind, subject))
        return True


class RatesInForce:
    """The rates in force; `now` reads nothing from the database."""

    def __init__(
        self, connection: Callable[[], AbstractContextManager[Conn]], clock: Callable[[], datetime]
    ) -> None:  # fmt: skip
        """Read the actions. Raises: DatabaseUnavailable, SchemaMissing."""
        self._connection, self._clock = connection, clock
        self._lock = threading.Lock()
        self._books = _Books(connection)
        with connection() as conn:
            # The number before what it numbers: what is edited meanwhile is read again, and not missed.
            revision = ai_edits.revision(conn)
            self.now = Rates(actions.load(conn), revision, clock(), self._books)

    @property
    def is_fresh(self) -> bool:
        # Either way: a clock that was put back must not keep them for an hour.
        return abs(self._clock() - self.now.looked_at) < FOLLOWED_EVERY

    def followed(self) -> Rates:
        """Return them, having looked for edits if nobody has lately. Raises: nothing.

        Where the database cannot say, they stay as they are: what is asked next will find that out by itself.
        """
        if not self.is_fresh and self._lock.acquire(blocking=False):  # One looks; the others go on with what is known.
            try:
                self._look(afresh=False)
            except Exception as error:  # A row that was written by hand and makes no sense, say: it stops no spend.
                is_known = isinstance(error, TillError)
                log.warning(
                    "Whether prices or actions were edited is not known: %s",
                    error,
                    exc_info=None if is_known else error,
                )
                self.now = Rates(self.now.actions, self.now.revision, self._clock(), self._books)
            finally:
                self._lock.release()
        return self.now

    def read(self) -> Rates:
        """Read them afresh. Raises: DatabaseUnavailable."""
        with self._lock:
            self._look(afresh=True)
        return self.now

    def _look(self, *, afresh: bool) -> None:
        at, known = self._clock(), self.now
        with self._connection() as conn:
            revision = ai_edits.revision(conn)
            # A host may write its actions by hand, with no revision; there are few of them, unlike prices.
            found = actions.load(conn) if afresh or revision != known.revision else known.actions
        if self._books.known is not None:
            self._books.at(revision)
        self.now = Rates(found, revision, at, self._books)
