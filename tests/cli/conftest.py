"""`till` as it is run on a command line, in this process, against a fresh database."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tokentill.cli.app import run


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.err == "", self.err
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def bare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`till` where no database is named."""
    for name in (
        "TILL_DATABASE_URL", "TILL_ADMIN_KEY", "TILL_STRIPE_WEBHOOK_SECRET", "TILL_STRIPE_MODE",
        "TILL_ALLOW_UNSAFE_POSTGRES", "TILL_STRIPE_API_KEY", "TILL_STRIPE_API_BASE",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)

    def call(*args: object) -> Ran:
        capsys.readouterr()
        status = run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


@pytest.fixture
def till(bare: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`till` on a migrated database with nothing in its books."""
    monkeypatch.setenv("TILL_DATABASE_URL", database)
    return bare
