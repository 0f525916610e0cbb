"""Runs the demo as people do, in a process of its own: once for `--json`, then once more for its pages.

Both runs are shared by all tests that look at them.
"""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

Json = dict[str, Any]


def demo() -> Json:
    """What `till demo --json` writes: one document, and nothing beside it."""
    return _document(_run(as_json=True))


def pages() -> str:
    """What `till demo` prints where it is not on a terminal, when it is run once more."""
    demo()
    return _output(_run(as_json=False))


def member(name: str) -> Json:
    return next(one for one in demo()["members"] if one["name"] == name)


@functools.cache
def _document(done: "subprocess.CompletedProcess[str]") -> Json:
    document: Json = json.loads(_output(done))
    return document


def _output(done: "subprocess.CompletedProcess[str]") -> str:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@functools.cache  # Of a run that failed, too: every test that looks at it says so, and none repeats it.
def _run(*, as_json: bool) -> "subprocess.CompletedProcess[str]":
    code = f"from tokentill.demo.play import main; raise SystemExit(main(as_json={as_json}))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=100,
    )  # fmt: skip


@functools.cache
def _environment() -> dict[str, str]:
    if given := os.environ.get("TILL_TEST_DATABASE_URL"):
        return {**os.environ, "TILL_DATABASE_URL": given, "TILL_ALLOW_UNSAFE_POSTGRES": "1"}
    # Not pytest's own folder: as root, the server runs as a user that may not look into it.
    home = Path(tempfile.mkdtemp(prefix="till-demo-", dir="/tmp"))
    home.chmod(0o755)
    atexit.register(_remove, home)
    return {key: value for key, value in os.environ.items() if key != "TILL_DATABASE_URL"} | {"TILL_HOME": str(home)}


def _remove(home: Path) -> None:
    """The server stops by itself after its last user; until it has, its folder may fill again."""
    for _ in range(50):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(0.1)
