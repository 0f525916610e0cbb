"""What the engine's tests share: a database server of a test's own, which it may kill."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokentill.store import embedded
from tokentill.store.embedded import EmbeddedServer
from tokentill.store.migrate import migrate


@pytest.fixture
def postgres() -> Iterator[EmbeddedServer]:
    """A migrated database on a server to kill."""
    home = Path(tempfile.mkdtemp(prefix="till-kill-", dir="/tmp"))
    home.chmod(0o755)
    server = embedded.start(home)
    migrate(server.url)
    yield server
    server.close(wait=True)
    shutil.rmtree(home, ignore_errors=True)
