"""Loads: many callers who ask one account at the same time, in threads of this process or of one of their own.

    python -m tests.engine.loads '{"url": …, "kind": "tokentill", "tills": 1, "count": 200, "threads": 50, …}'

prints "ready" when its tills are open, begins at the first line it is sent, and prints what its callers heard.
"""

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.engine.processes import Reply
from tests.engine.wrong_tills import WRONG_TILLS, WrongTill
from tokentill import Till, TillError
from tokentill.core.calls import Call
from tokentill.core.keys import Key
from tokentill.core.ledger.commands import Charge, Spend
from tokentill.core.users import User


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a load asks for."""

    url: str
    kind: str = "tokentill"  # Or one of `wrong_tills`.
    tills: int = 1  # Opened side by side in this process; the callers use them by turns.
    count: int = 200
    threads: int = 50
    user: str = "alice"
    tokens: int = 100
    key: str | None = None  # With {n} for the caller's number; none: each spend is another.
    poison: dict[str, Any] | None = None  # What the caller in the middle asks for beside, past the edge's checks.


def at_once(ask: Callable[[int], Reply], count: int, threads: int) -> list[Reply]:
    """Call `ask(0)` … `ask(count - 1)` from so many threads, which begin together; return what each heard."""
    barrier = threading.Barrier(threads)

    def caller(number: int) -> list[Reply]:
        barrier.wait()
        return [ask(n) for n in range(number, count, threads)]

    with ThreadPoolExecutor(threads) as pool:
        return [reply for replies in pool.map(caller, range(threads)) for reply in replies]


def ask_till(till: Till, task: Task, number: int) -> Reply:
    """Spend as the task says; return what the caller heard."""
    key = None if task.key is None else task.key.format(n=number)
    try:
        if task.poison is not None and number == task.count // 2:
            call = Call(action_type="chat_conversation", **task.poison)
            command = Spend(User.of(task.user), Key.fresh(till.context.new_id()), call, Charge(task.tokens))
            receipt = till.submit(command).result()
        else:
            receipt = till.spend(task.user, task.tokens, "chat_conversation", idempotency_key=key)
    except TillError as error:
        return {"ok": False, "error": error.code}
    assert receipt is not None
    return {
        "ok": True, "is_replay": receipt.is_replay, "seq": receipt.seq, "id": receipt.id,
        "balance_after": receipt.balance_after, "created_at": receipt.created_at.isoformat(),
    }  # fmt: skip


def ask_wrong_till(till: WrongTill, task: Task) -> Reply:
    return {"ok": True} if till.spend(task.tokens) else {"ok": False, "error": "insufficient_tokens"}


def run(task: Task, on_ready: Callable[[], None] = lambda: None) -> list[Reply]:
    """Open the tills, say so, and carry out the load."""
    with ExitStack() as stack:
        if task.kind == "tokentill":
            tills = [stack.enter_context(Till(task.url)) for _ in range(task.tills)]
            on_ready()
            return at_once(lambda n: ask_till(tills[n % len(tills)], task, n), task.count, task.threads)
        wrong = stack.enter_context(WRONG_TILLS[task.kind](task.url))
        on_ready()
        return at_once(lambda _: ask_wrong_till(wrong, task), task.count, task.threads)


def _ready() -> None:
    print("ready", flush=True)  # noqa: T201  whoever started us reads it
    sys.stdin.readline()


if __name__ == "__main__":
    print(json.dumps(run(Task(**json.loads(sys.argv[1])), _ready)), flush=True)  # noqa: T201  the same
