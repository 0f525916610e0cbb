"""A process that spends until it is killed, and writes down what it asked and what was acknowledged.

`recovering` starts and kills it. The book has a line for each: `? KEY NUMBER TIME` before a spend is asked,
`! KEY SEQ TIME` once it was acknowledged. Times are of the machine's monotonic clock, so that other processes can
compare them. What the book's earlier writers left unanswered is asked again first, with the same keys, as every client
must.
"""

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tokentill.bench.filling import member
from tokentill.bench.load import ACTION, CALLS
from tokentill.errors import Unavailable
from tokentill.ids import Uuid7s
from tokentill.till import Till

PAUSE_SECONDS = 0.02  # Before asking again what was answered "unavailable".


@dataclass(slots=True)
class Book:
    """What the lines say so far. `read` goes on where it stopped; half a line is left for later."""

    path: Path
    asked: dict[str, tuple[int, float]] = field(default_factory=dict)  # Key: number of the spend, and when.
    acknowledged: dict[str, tuple[int, float]] = field(default_factory=dict)  # Key: seq, and when at first.
    contradictions: list[str] = field(default_factory=list)  # Keys that were answered with two seqs.
    _offset: int = 0

    def read(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            what, key, number, at = line.split()
            if what == "?":
                self.asked.setdefault(key, (int(number), float(at)))
            elif self.acknowledged.setdefault(key, (int(number), float(at)))[0] != int(number):
                self.contradictions.append(key)

    @property
    def unanswered(self) -> dict[str, int]:
        return {key: number for key, (number, _) in self.asked.items() if key not in self.acknowledged}


async def _spend(till: Till, task: dict[str, object], ended: threading.Event) -> None:
    book = Book(Path(str(task["book"])))
    book.read()
    accounts, new_id, again = int(str(task["accounts"])), Uuid7s(), list(book.unanswered.items())
    number = len(book.asked)
    out = os.open(book.path, os.O_WRONLY | os.O_APPEND)

    async def caller() -> None:
        nonlocal number
        while not ended.is_set():
            if again:
                key, mine = again.pop()
            else:
                key, mine = str(new_id()), number
                number += 1
                os.write(out, f"? {key} {mine} {time.monotonic()}\n".encode())
            command = till.asking.spend(
                member(mine % accounts), None, ACTION, idempotency_key=key, **CALLS[mine % len(CALLS)]
            )  # fmt: skip
            while True:
                try:
                    receipt = await till.submit(command)
                    break
                except Unavailable:
                    await asyncio.sleep(PAUSE_SECONDS)
            assert receipt is not None
            os.write(out, f"! {key} {receipt.seq} {time.monotonic()}\n".encode())

    await asyncio.gather(*(caller() for _ in range(int(str(task["callers"])))))
    os.close(out)


def main() -> None:
    task = json.loads(sys.stdin.readline())
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    with Till(task["url"]) as till:
        uvloop.run(_spend(till, task, ended))


if __name__ == "__main__":
    main()
