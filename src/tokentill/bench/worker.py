"""One of several processes that spend on one database; `spending` starts them and reads what they say.

Says "ready" when its till is open, waits for a word, says "warm" when it has warmed up, then tells what it did.
"""

import json
import os
import sys
import time

from tokentill.bench import load, meters
from tokentill.bench.meters import Reading
from tokentill.ids import utc_now
from tokentill.till import Till


def main() -> None:
    task = json.loads(sys.stdin.readline())
    users = load.choose(
        task["accounts"], task["distribution"], seed=task["seed"], part=task["part"], parts=task["parts"]
    )  # fmt: skip
    with Till(task["url"]) as till:
        spends = load.Spends(till, users, task["keys"], is_priced=task["is_priced"])
        _say("ready")
        if not sys.stdin.readline():
            return
        has_said = False

        def read() -> Reading:
            nonlocal has_said
            if not has_said:
                has_said = True
                _say("warm")
            return Reading(
                time.perf_counter(), utc_now(), 0, meters.cpu_us(os.getpid()), None, meters.batches_of(till)
            )  # fmt: skip

        driven = load.drive(
            spends.once, read, callers=task["callers"], warm_up=task["warm_up"], seconds=task["seconds"]
        )  # fmt: skip
    assert driven.started is not None and driven.ended is not None
    _say(json.dumps({
        "ops_per_s": driven.ops_per_s, "measured": len(driven.waits), "acknowledged": driven.acknowledged,
        "waits": [round(wait, 6) for wait in driven.waits], "batches": driven.ended.batches - driven.started.batches,
    }))  # fmt: skip


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
