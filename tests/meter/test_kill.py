"""kill -9 at each step of a metered call: no hold outlives its time, and nothing is charged twice."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import Clock
from tests.meter.conftest import ACTION, USER, calls
from tests.meter.killing import KEY, STEPS
from tests.meter.providers import Provider
from tokentill import Till
from tokentill.meter.metered import TTL
from tokentill.samples import llm_shapes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def now_till(database: str) -> Iterator[tuple[Till, Clock]]:
    """A till whose clock stands at what is now for the process that will be killed."""
    clock = Clock(datetime.now(UTC))
    with Till(database, clock=clock) as till:
        till.grant_tokens(USER, 100_000)
        yield till, clock
        assert till.reconcile().findings == ()


# A wrapped client's calls are metered by the same steps; only its streams are its own.
@pytest.mark.parametrize(("how", "step"), [*(("with", step) for step in STEPS), ("wrapped", "in the call")])
def test_a_killed_call_frees_its_hold_by_time_and_is_charged_once(
    now_till: tuple[Till, Clock], database: str, provider: Provider, step: str, how: str
) -> None:
    till, clock = now_till
    kill_at(step, how, database, provider)

    is_held = step in ("after hold", "in the call", "before capture")
    is_charged = step == "after capture"
    assert (till.balance(USER).held > 0) == is_held
    assert [call["tokens"] for call in calls(till)] == ([160] if is_charged else [])

    clock.now = max(clock.now, datetime.now(UTC)) + TTL
    assert till.balance(USER).held == 0
    if how == "with":
        with till.meter(USER, ACTION, idempotency_key=KEY) as meter:
            meter.record(llm_shapes.openai_chat())
        assert [call["tokens"] for call in calls(till)] == [160]
        assert till.balance(USER).held == 0


def kill_at(step: str, how: str, database: str, provider: Provider) -> None:
    """Run a metering process until it has got to the step, and kill it there."""
    command = [sys.executable, "-m", "tests.meter.killing", database, provider.url, step, how]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
        process.wait(30)


def test_a_program_that_ends_while_streams_are_open_is_charged_for_what_was_seen(
    now_till: tuple[Till, Clock], database: str, provider: Provider
) -> None:
    command = [sys.executable, "-m", "tests.meter.killing", database, provider.url, "exit in the call", ""]
    subprocess.run(command, cwd=ROOT, timeout=60, check=True)

    for call in (written := calls(now_till[0])):
        assert (call["estimated"], call["success"]) == (True, True) and 0 < call["tokens"] < 160
    assert len(written) == 2 and now_till[0].balance(USER).held == 0
