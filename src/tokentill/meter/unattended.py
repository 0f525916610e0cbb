"""What becomes of a metered call while its caller is not looking.

Its hold is renewed while it runs, its capture is told again where the till could not be reached, and what a program
leaves open is settled as it ends. Meters are known weakly: one that nobody holds any more is not renewed.
"""

import asyncio
import atexit
import time
import weakref
from collections.abc import Coroutine
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tokentill.meter.background import background
from tokentill.meter.tills import is_async, run, run_async

if TYPE_CHECKING:
    from tokentill.meter.metered import Meter

TELLS_MAX_SECONDS = 3600.0  # How long a capture that could not be delivered is tried again.
_EXIT_SECONDS = 5.0  # How long a program that ends waits for the till to be told.


def renew(known: "weakref.ref[Meter]") -> float | None:
    """Renew a call's hold, if anybody still has its meter; say in how many seconds to do so again."""
    meter = known()
    return None if meter is None else run(meter.renewing(), meter.till)


async def arenew(known: "weakref.ref[Meter]", seconds: float | None) -> None:
    """The same as a task of a loop, for as long as it is needed."""
    while seconds is not None:
        await asyncio.sleep(seconds)
        meter = known()
        if meter is None:
            return
        seconds = await run_async(meter.renewing(), meter.till)
        del meter


def tell_again(meter: "Meter", since: float) -> float | None:
    """Tell the till of a call that is over, and say when to try again; `since` is when it was over."""
    try:
        run(meter.settling(), meter.till)
    except Exception as error:
        if not meter.is_for_later(error):
            raise
        return meter.renews_seconds if time.monotonic() - since < TELLS_MAX_SECONDS else None
    return None


def settle_quietly(meter: "Meter") -> None:
    """Settle as a job of the background."""
    meter.settle()


# Calls that are running, and those that ended lately.
running: "weakref.WeakSet[Meter]" = weakref.WeakSet()


@cache
def await_exit() -> None:
    """Have `_settle_at_exit` called before whatever has been registered by now: the till must still be there for it."""
    atexit.register(_settle_at_exit)


def _settle_at_exit() -> None:
    """Charge what was seen of streams that the program leaves open as it ends, and tell what is still to be told."""
    for meter in list(running):
        if meter.has_anything_to_tell and not is_async(meter.till):
            meter.broke_off("The program ended.")
            background.later(0, partial(settle_quietly, meter))
    background.wait(_EXIT_SECONDS)


_tasks: set["asyncio.Task[None]"] = set()  # The loop itself holds its tasks weakly.


def spawn(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Start a task of this loop that nobody need keep."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task
