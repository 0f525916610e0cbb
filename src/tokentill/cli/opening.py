"""Opening: which database a command works on, where it needs more or less than an open till."""

from collections.abc import Iterator
from contextlib import contextmanager

from tokentill.settings import Settings


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """Lend the URL that the settings name, else that of the embedded PostgreSQL, which runs meanwhile.

    Raises: EmbeddedPostgresError.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    from tokentill.store import embedded

    server = embedded.start(settings.home, bin_dir=settings.pg_bin)
    try:
        yield server.url
    finally:
        server.close()
