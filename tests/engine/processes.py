"""Real processes for the engine's tests: servers, loads, raw HTTP. Each may run from a tree with a planted fault."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import tokentill

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(tokentill.__file__).parents[1]  # The tree that this very run tests: ours, or one with a fault in it.
ADMIN_KEY = "a key that only this test knows"

Reply = dict[str, Any]  # What a caller heard: {"ok": true, "seq": …} or {"ok": false, "error": code}.


def environment(source: Path = SOURCE, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{REPOSITORY}", **more}


class Process:
    """A program that says in one line that it is ready; killed at the end of the `with` block if it still runs."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], ready: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], env=env, cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if ready in line:
                self.said = line.split(ready)[1].strip()
                return
        self.kill()
        raise RuntimeError(f"{command} ended before it was ready")

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Idempotent."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Listening(Process):
    """A program that serves at `url`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        super().__init__(command, env, "listening on ")
        self.url = self.said


class Server(Listening):
    """`till serve` on a free port."""

    def __init__(self, database: str, *, source: Path = SOURCE, **env: str) -> None:
        env = environment(source, TILL_DATABASE_URL=database, TILL_ADMIN_KEY=ADMIN_KEY, **env)
        command = ["-c", "from tokentill.cli import main; main()", "serve", "--port", "0"]
        super().__init__(command, env)


class WrongServer(Listening):
    """A wrong till (`wrong_tills`) that answers as `till serve` does."""

    def __init__(self, kind: str, database: str) -> None:
        super().__init__(["-m", "tests.engine.wrong_tills", kind, database], environment())


class Load(Process):
    """`tests.engine.loads` in a process of its own: opens its tills, says so, and asks when told to."""

    def __init__(self, task: Mapping[str, object], *, source: Path = SOURCE) -> None:
        super().__init__(["-m", "tests.engine.loads", json.dumps(dict(task))], environment(source), "ready")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def replies(self) -> list[Reply]:
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            raise RuntimeError("the load ended without a word")
        replies: list[Reply] = json.loads(said)
        return replies


def together(loads: Sequence[Load]) -> list[Reply]:
    """Let loads that are ready begin at once; return what all of them heard, and end them."""
    try:
        for load in loads:
            load.go()
        return [reply for load in loads for reply in load.replies()]
    finally:
        for load in loads:
            load.kill()


def till_command(database: str, *arguments: str) -> Reply:
    """Run `till … --json` to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", "from tokentill.cli import main; main()", *arguments, "--json"],
        env=environment(TILL_DATABASE_URL=database), check=True, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    reply: Reply = json.loads(done.stdout)
    return reply


# -- raw HTTP ---------------------------------------------------------------------------------------------------------


def usage_request(user: str, tokens: int, key: str, **more: object) -> bytes:
    """One whole `POST /v1/usage`, as bytes, on a connection that is not used again."""
    body = json.dumps({"user_id": user, "action_type": "chat_conversation", "tokens": tokens, **more}).encode()
    return (
        "POST /v1/usage HTTP/1.1\r\nHost: till\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {ADMIN_KEY}\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def post_at_once(urls: Sequence[str], requests: Iterable[bytes]) -> list[Reply]:
    """Open a connection for each request, by turns to each URL, and let all requests become whole at once."""
    waiting = []
    try:
        for number, request in enumerate(requests):
            address = urlsplit(urls[number % len(urls)])
            connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=60)
            waiting.append((connection, request))
            connection.sendall(request[:-1])
        for connection, request in waiting:
            connection.sendall(request[-1:])
        return [_reply(connection) for connection, _ in waiting]
    finally:
        for connection, _ in waiting:
            connection.close()


def _reply(connection: socket.socket) -> Reply:
    said = b""
    while chunk := connection.recv(65536):
        said += chunk
    head, _, body = said.partition(b"\r\n\r\n")
    status, read = int(head.split(b" ")[1]), json.loads(body)
    if status != 201:
        return {"ok": False, "error": read["code"]}
    return {"ok": True, "is_replay": b"idempotency-replayed: true" in head.lower(), **read}
