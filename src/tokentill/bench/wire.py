"""The load generator of `till bench http` and `webhook`: keep-alive connections that ask, read the answer, ask again.

A process of its own, so that what it costs can be told from what the server costs. It writes HTTP/1.1 by hand: a client
library would take more of the machine than the server under test. `serving` starts it and reads what it says.
"""

import asyncio
import json
import sys
import time
from array import array
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from tokentill.bench.hooks import Hooks
from tokentill.bench.load import ACTION, CALLS, choose
from tokentill.ids import Uuid7s

GRACE_SECONDS = 30.0  # For the last answers; a server that takes longer has lost them.


class Requests:
    """Makes the bytes of one request after the other."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._users = [str(user) for user in choose(task["accounts"], task["distribution"], seed=task["seed"])]
        self._calls = [json.dumps({"action_type": ACTION, **call}, default=str)[1:] for call in CALLS]
        self._batch = task["batch"]
        self._head = (
            f"POST {'/v1/usage' if self._batch == 1 else '/v1/usage/batch'} HTTP/1.1\r\n"
            f"Host: {urlsplit(task['server']).netloc}\r\nAuthorization: Bearer {task['admin_key']}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._new_id = Uuid7s()
        self._count = 0

    def next(self) -> bytes:
        key = self._new_id()
        if self._batch == 1:
            body = self._event("")
        else:
            body = f'{{"events": [{", ".join(self._event(self._new_id()) for _ in range(self._batch))}]}}'
        return f"{self._head}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def _event(self, key: object) -> str:
        number = self._count
        self._count += 1
        own_key = f'"idempotency_key": "{key}", ' if key else ""
        user, call = self._users[number % len(self._users)], self._calls[number % len(self._calls)]
        return f'{{{own_key}"user_id": "{user}", {call}'


class Load:
    """What all connections together have done."""

    def __init__(
        self, requests: Requests | Hooks, *, batch: int, warm_up: float, seconds: float, status: int = 201
    ) -> None:
        self.requests = requests
        self.batch = batch
        self._status = status  # Of a request that was accepted, where it is not one of many.
        self.begin = time.perf_counter() + warm_up
        self.end = self.begin + seconds
        self.waits = array("d")
        self.acknowledged = 0
        self.failures: list[str] = []
        self.is_warm = False

    def note(self, asked: float, status: int, body: bytes) -> None:
        answered = time.perf_counter()
        accepted = self._accepted(status, body)
        self.acknowledged += accepted
        if accepted < self.batch and len(self.failures) < 3:
            self.failures.append(f"{status}: {body[:300].decode(errors='replace')}")
        if answered >= self.begin:
            if not self.is_warm:
                self.is_warm = True
                say("warm")
            self.waits.append(answered - asked)

    def _accepted(self, status: int, body: bytes) -> int:
        if self.batch == 1:
            return int(status == self._status)
        return int(json.loads(body)["accepted"]) if status < 300 else 0


class Connection(asyncio.Protocol):
    """One connection: always one request on its way, until the time is over."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._length = -1  # Of the whole answer; -1: its head is not there yet.
        self._asked = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by descent.
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked >= self._load.end or self._load.failures:
            self._transport.close()
            return
        self._transport.write(self._load.requests.next())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            at = head.index(b"content-length:") + 15
            line_end = head.find(b"\r\n", at)
            self._length = end + 4 + int(head[at : line_end if line_end >= 0 else len(head)])
            self._body_at = end + 4
        if len(self._received) < self._length:
            return
        answer, self._received, self._length = bytes(self._received), bytearray(), -1
        self._load.note(self._asked, int(answer[9:12]), answer[self._body_at :])
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self._asked < self._load.end and not self._load.failures:
            self._load.failures.append(f"the server closed a connection: {error}")
        if not self.done.done():
            self.done.set_result(None)


async def drive(task: dict[str, Any]) -> Load:
    address = urlsplit(task["server"])
    times = {"warm_up": task["warm_up"], "seconds": task["seconds"]}
    if task.get("secret"):
        load = Load(Hooks(task), batch=1, status=200, **times)
    else:
        load = Load(Requests(task), batch=task["batch"], **times)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(load), address.hostname, address.port))[1]
        for _ in range(task["callers"])
    ]
    async with asyncio.timeout(task["warm_up"] + task["seconds"] + GRACE_SECONDS):
        await asyncio.gather(*(connection.done for connection in connections))
    return load


def main() -> None:
    load = uvloop.run(drive(json.loads(sys.stdin.readline())))
    took = time.perf_counter() - load.begin
    if not load.is_warm:
        say("warm")  # Whoever waits for it must go on to hear of the failure.
    say(json.dumps({
        "acknowledged": load.acknowledged, "measured": len(load.waits) * load.batch, "failures": load.failures,
        "ops_per_s": round(len(load.waits) * load.batch / took, 1),
        "waits": [round(wait, 6) for wait in load.waits],
        "counts": load.requests.counts if isinstance(load.requests, Hooks) else {},
    }))  # fmt: skip


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
