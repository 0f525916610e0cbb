"""A process that meters one call and stops at a given step, for somebody to kill it there.

    python -m tests.meter.killing DATABASE_URL PROVIDER_URL STEP

It says "here" when it has got there. At the step "exit in the call" it ends by itself.
"""

import sys
from typing import Any

from openai import OpenAI

from tests.meter.conftest import ACTION, USER
from tokentill import Till
from tokentill.meter import Meter
from tokentill.meter.openai import meter_openai

KEY = "one call"
STEPS = ("before hold", "after hold", "in the call", "before capture", "after capture")


def stop() -> None:
    print("here", flush=True)  # noqa: T201 - whoever kills it listens
    sys.stdin.read()


class Stopping:
    """A till at which the process stops before or after what it asks."""

    def __init__(self, till: Till, step: str) -> None:
        self._till, self._step = till, step

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._till, name)
        if name not in self._step:
            return asked

        def ask(*args: Any, **details: Any) -> Any:
            if self._step.startswith("before"):
                stop()
            answer = asked(*args, **details)
            if self._step.startswith("after"):
                stop()
            return answer

        return ask


left_open: list[Any] = []


def leave(database: str, provider: str) -> None:
    """End while two streams are open."""
    till = Till(database)
    client = OpenAI(api_key="sk-test", base_url=f"{provider}/v1", max_retries=0)
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "I want a house."}], "stream": True}
    left_open.append(meter_openai(client, till, user=USER, action=ACTION).chat.completions.create(**asked))
    left_open.append(Meter(till, USER, ACTION, estimate=9).open().watch(client.chat.completions.create(**asked)))
    for stream in left_open:
        next(stream), next(stream), next(stream)


def main(database: str, provider: str, step: str, how: str) -> None:
    if step == "exit in the call":
        leave(database, provider)
        return
    with Till(database) as till:
        stopping: Any = Stopping(till, step)
        client = OpenAI(api_key="sk-test", base_url=f"{provider}/v1", max_retries=0)
        messages: Any = [{"role": "user", "content": "I want a house."}]
        if how == "wrapped":
            metered = meter_openai(client, stopping, user=USER, action=ACTION)
            for _ in metered.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
                if step == "in the call":
                    stop()
        else:
            with Meter(stopping, USER, ACTION, idempotency_key=KEY) as meter:
                meter.record(client.chat.completions.create(model="gpt-4o", messages=messages))
                if step == "in the call":
                    stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
