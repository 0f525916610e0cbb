"""Each fault in the engine's recovery path is caught by the test that `faults` names for it.

A fault is planted in a copy of the source, and that test is run on the copy, just as it is. That it would pass without
the fault is what the rest of the run shows, where the same test runs on the source itself.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.faults import FAULTS, Fault, planted
from tests.engine.processes import REPOSITORY, environment

IS_FAILED = 1  # pytest's own: tests ran, and some failed. Not: no such test (4, 5), or it could not be read (2).


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_is_caught(fault: Fault, server_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=short"),
            *("--timeout=60", f"--basetemp={tmp_path / 'its own'}", fault.caught_by),
        ],
        env=environment(planted(fault, tmp_path), TILL_TEST_DATABASE_URL=server_url, TILL_TEST_WRITES="200"),
        cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert done.returncode == IS_FAILED, f"{fault.caught_by} does not catch that {fault.name}:\n{done.stdout}"
    assert fault.says in done.stdout, f"{fault.caught_by} fails, but not because {fault.name}:\n{done.stdout}"
