"""The commands of docs/how-to/back-up.md, run as they stand: what is restored has the same rows, and proved books."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.http.conftest import row_counts
from tokentill import Till
from tokentill.store import embedded
from tokentill.store.embedded_files import binaries
from tokentill.store.migrate import migrate

BLOCKS = re.findall(
    r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs/how-to/back-up.md").read_text("utf-8"), re.DOTALL
)
DUMP, RESTORE, PACK, UNPACK = BLOCKS


def run(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{binaries(None)}:{os.environ['PATH']}"
    command = ["bash", "-euc", script]
    given = {**os.environ, **env, "PATH": path}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def homes() -> Iterator[Path]:
    """A folder for homes that the embedded server's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="till-backup-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def sell(till: Till) -> None:
    for number in range(5):
        till.grant_tokens(f"member-{number}", 100 + number)
        till.record_admin_deduction(f"member-{number}", 40)


def test_a_dump_restored_on_another_server_has_proved_books(till: Till, database: str, homes: Path) -> None:
    sell(till)
    done = run(DUMP, homes, TILL_DATABASE_URL=database)
    assert done.returncode == 0, done.stderr
    with embedded.start(homes / "other") as other:
        done = run(RESTORE, homes, RESTORED_URL=other.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert row_counts(other.url) == row_counts(database)

        with psycopg.connect(other.url) as conn:
            conn.execute("UPDATE token_accounts SET balance = balance + 1")
        assert run("till reconcile", homes, TILL_DATABASE_URL=other.url).returncode == 1
        other.close(wait=True)


def test_a_copied_home_has_proved_books(homes: Path) -> None:
    with embedded.start(homes / "home") as server:
        migrate(server.url)
        with Till(server.url) as till:
            sell(till)
        counts = row_counts(server.url)
        server.close(wait=True)

    for script in (PACK, UNPACK):
        done = run(
            script, homes, TILL_HOME=str(homes / "home"), RESTORED_HOME=str(homes / "restored"), TILL_DATABASE_URL=""
        )
        assert done.returncode == 0, done.stdout + done.stderr

    with embedded.start(homes / "restored") as server:
        assert row_counts(server.url) == counts
        server.close(wait=True)
