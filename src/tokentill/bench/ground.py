"""The ground that a bench stands on: databases of its own, on a server of its own unless another one is given.

Nothing of it is left when the `with` block ends, however it ends; a database that was there before is never touched.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql as pgsql

from tokentill.errors import BadSetting, DatabaseUnavailable
from tokentill.settings import Settings
from tokentill.store import embedded
from tokentill.store.migrate import migrate

# What the embedded server is told for a bench, beside what it always runs with (fsync and synchronous_commit on).
SERVER_SETTINGS = {
    "shared_buffers": f"{min(4096, embedded.memory_bytes() // 2**20 // 4)}MB",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "wal_buffers": "64MB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "max_connections": "200",
}
# On disk, where the temporary folder may be in memory: what is synced there proves nothing.
DISK = Path("/var/tmp")  # noqa: S108  A folder with a name that nobody can guess is made in it.

_numbers = itertools.count(1)


@dataclass(slots=True)
class Ground:
    """A server and the databases that were made on it."""

    server_url: str
    bin_dir: Path | None  # Of the embedded server; None: somebody else's.
    _made: list[str] = field(default_factory=list)

    def make(self) -> str:
        """Make an empty database with this version's schema; return its URL."""
        url = self._create(template=None)
        migrate(url)
        return url

    def copy_of(self, url: str) -> str:
        """Make a copy of a database that nobody is connected to; return its URL."""
        return self._create(template=_name_in(url))

    def drop(self, url: str) -> None:
        name = _name_in(url)
        assert name in self._made, name
        with self._connected() as conn:
            conn.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name)))
        self._made.remove(name)

    def drop_all(self) -> None:
        for name in list(self._made):
            self.drop(_named(self.server_url, name))

    def _create(self, *, template: str | None) -> str:
        name = f"tokentill_bench_{os.getpid()}_{next(_numbers)}"
        create = pgsql.SQL("CREATE DATABASE {}").format(pgsql.Identifier(name))
        if template is not None:
            # Files are copied as they are, rather than page by page through the write-ahead log.
            create += pgsql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(pgsql.Identifier(template))
        self._made.append(name)
        with self._connected() as conn:
            try:
                conn.execute(create)
            except psycopg.errors.InsufficientPrivilege as error:
                detail = "A bench needs databases of its own, and this user may not make one"
                raise BadSetting(f"{detail}: {error.diag.message_primary}.") from None
        return _named(self.server_url, name)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(self.server_url, autocommit=True, connect_timeout=10) as conn:
                yield conn
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {' '.join(str(error).split())}") from error


@contextmanager
def opened(url: str | None) -> Iterator[Ground]:
    """Lend the server at `url`, else an embedded one in a folder of its own; clear everything away at the end.

    Raises: BadSetting, DatabaseUnavailable, EmbeddedPostgresError.
    """
    if url is not None:
        if not url.startswith(("postgresql://", "postgres://")):
            raise BadSetting("--url must be a URL like postgresql://user@host:5432/name.")
        ground = Ground(url, None)
        try:
            yield ground
        finally:
            ground.drop_all()
        return
    folder = Path(tempfile.mkdtemp(prefix="tokentill-bench-", dir=DISK if DISK.is_dir() else None))
    try:
        folder.chmod(0o755)  # As root, the server runs as a user that must get in.
        bin_dir = Settings.read().pg_bin
        with embedded.start(folder / "home", bin_dir=bin_dir, server_settings=SERVER_SETTINGS) as server:
            yield Ground(server.url, embedded.binaries(bin_dir))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named(server_url: str, name: str) -> str:
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def _name_in(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
