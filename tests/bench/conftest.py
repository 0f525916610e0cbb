"""A small `till bench` on the tests' server."""

from typing import Any

import pytest

from tests.cli.conftest import Ran, Run, bare
from tokentill.bench.baselines import running

__all__ = ["bare"]

SMALL = ("--accounts", 40, "--callers", 16, "--rows", 300, "--seconds", 0.3, "--runs", 1)
TINY: dict[str, Any] = {"accounts": 40, "callers": 16, "rows": 300, "seconds": 0.3, "runs": 1}


@pytest.fixture
def bench(bare: Run, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`till bench …` with few rows and callers; baselines with few connections."""
    monkeypatch.setattr(running, "HAND_CONNECTIONS", (2,))
    monkeypatch.setattr(running, "PGBENCH_CLIENTS", (2,))

    def call(name: str, *args: object) -> Ran:
        return bare("bench", name, *args, "--url", server_url)

    return call
