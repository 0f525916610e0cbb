"""Generates `schema.sql`: the schema that the migrations leave, as one readable file.

`make schema` writes it; a test holds that it is true. It is for people: a review shows a change of the schema as a
diff.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tokentill.store import embedded, embedded_files
from tokentill.store.migrate import migrate

FILE = Path(__file__).parent / "schema.sql"

_HEADER = "-- Generated from the migrations by `make schema`; do not edit. It is read by people, never executed.\n\n"
# What differs between servers and dump programs, and says nothing about the schema.
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict.*|)$")


def dump(url: str, *, pg_dump: Path) -> str:
    """Return the schema of the database at `url` in pg_dump's words, without its noise."""
    command = [str(pg_dump), "--schema-only", "--no-owner", "--dbname", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise RuntimeError(f"pg_dump failed: {done.stderr.strip()}")
    statements = "\n".join(line for line in done.stdout.splitlines() if not _NOISE.match(line))
    return _HEADER + re.sub(r";\n", ";\n\n", statements).strip() + "\n"


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="till-schema-", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)  # As root, the server runs as a user that must get in here.
        with embedded.start(home) as server:
            migrate(server.url)
            FILE.write_text(dump(server.url, pg_dump=embedded_files.binaries() / "pg_dump"))
    sys.stdout.write(f"wrote {FILE.name}\n")


if __name__ == "__main__":
    main()
