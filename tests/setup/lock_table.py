"""What the lock's packages need and which wheels they have, as a table in git: `make lock` writes it.

A lock holds hashes, and says neither which wheel a hash is of nor what a package requires. With the table,
`test_lock.py` can judge the lock for every Python and platform without a network.
"""

import json
import sys
import tomllib
import urllib.error
import urllib.request
import zipfile
from email.parser import HeaderParser
from io import BytesIO
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("lock_table.json")


def row(package: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table for a package of a pylock.toml (PEP 751)."""
    wheels = package["wheels"]
    metadata = HeaderParser().parsestr(fetched_metadata(min(wheels, key=lambda wheel: int(wheel["size"]))["url"]))
    return {
        "name": package["name"],
        "version": package["version"],
        "requires_python": metadata.get("Requires-Python", ""),
        "requires": metadata.get_all("Requires-Dist", []),
        "wheels": {wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"] for wheel in wheels},
    }


def fetched_metadata(url: str) -> str:
    """Return a wheel's METADATA: from beside the wheel where the index has it there (PEP 658), else from within."""
    try:
        with urllib.request.urlopen(url + ".metadata") as answer:  # noqa: S310  # an index's own link
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
    with urllib.request.urlopen(url) as answer, zipfile.ZipFile(BytesIO(answer.read())) as wheel:  # noqa: S310
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return wheel.read(name).decode()


if __name__ == "__main__":
    packages = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["packages"]
    TABLE.write_text(json.dumps([row(package) for package in packages], indent=1) + "\n", "utf-8")
