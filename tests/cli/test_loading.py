"""A command loads what it needs: each of these libraries costs every command a tenth of a second or more."""

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tokentill.settings import environment_with

SLOW = ("stripe", "procrastinate", "fastapi", "uvicorn", "genai_prices", "httpx2")


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("balance", "ann"),
        ("stripe", "list"),
        ("reconcile",),
        ("prices", "list"),
        ("version", "--json"),
        ("balance", "ann", "--json"),
        ("findings", "--json"),
        ("prices", "list", "--json"),
    ],
)
def test_no_command_loads_a_library_that_it_does_not_use(till: Run, database: str, args: tuple[str, ...]) -> None:
    till("grant", "ann", 10)
    script = (
        f"import sys; from tokentill.cli.app import run; status = run({args!r}); "
        f"assert status == 0, status; sys.exit(', '.join(set({SLOW!r}) & set(sys.modules)))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60,
        env=environment_with(TILL_DATABASE_URL=database, TILL_STRIPE_API_KEY="sk_test_unused"),
    )  # fmt: skip

    assert ran.stderr.strip() == ""
