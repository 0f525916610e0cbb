"""A server that is killed with -9 in the middle of load has done everything that it acknowledged, once.

The client is an outside program: it talks HTTP, and writes each acknowledgement down (fsync) before it goes on.
"""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import IO

import httpx2
import psycopg
import pytest

from tokentill import Till

ADMIN_KEY = "a key that only this test knows"
ROUNDS = 20
CALLERS = 8


class Server:
    """`till serve` as a process of its own, on a free port."""

    def __init__(self, database: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tokentill.cli import main; main()", "serve", "--port", "0"],
            env={**os.environ, "TILL_DATABASE_URL": database, "TILL_ADMIN_KEY": ADMIN_KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "listening on " in line:
                self.url = line.split("listening on ")[1].strip()
                return
        raise AssertionError("the server ended before it listened")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def spend(client: httpx2.Client, url: str, key: str, user: str) -> dict[str, object] | None:
    """Spend one token; None: no answer came, so nobody knows yet whether it happened."""
    try:
        answer = client.post(
            f"{url}/v1/usage",
            json={"user_id": user, "action_type": "chat_conversation", "tokens": 1},
            headers={"Idempotency-Key": key, "Authorization": f"Bearer {ADMIN_KEY}"},
        )
    except httpx2.HTTPError:
        return None
    assert answer.status_code == 201, answer.text
    body: dict[str, object] = answer.json()
    return body


def write_down(book: IO[str], lock: threading.Lock, key: str, answer: dict[str, object]) -> None:
    with lock:
        book.write(json.dumps({"key": key, "seq": answer["seq"], "user": answer["user_id"]}) + "\n")
        book.flush()
        os.fsync(book.fileno())


@pytest.mark.timeout(300)
def test_twenty_kills_lose_and_double_no_acknowledged_spend(database: str, tmp_path: Path) -> None:
    users = [f"member {n}" for n in range(CALLERS)]
    with Till(database) as till:
        for user in users:
            till.grant_tokens(user, 1_000_000)
    chance = random.Random(20)
    book_path = tmp_path / "acknowledged.jsonl"
    lock = threading.Lock()
    numbers = iter(range(10**9))
    asked: set[tuple[str, str]] = set()
    unanswered: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    with book_path.open("a") as book:
        for _ in range(ROUNDS):
            server = Server(database)
            deadline_count = chance.randint(20, 150)  # The kill falls in the middle of that many acknowledgements.
            acknowledged = threading.Semaphore(0)
            killed = threading.Event()

            def load(user: str, server: Server = server, killed: threading.Event = killed,
                     acknowledged: threading.Semaphore = acknowledged) -> None:  # fmt: skip
                with httpx2.Client(timeout=30) as client:
                    while not killed.is_set():
                        with lock:
                            key = f"key {next(numbers)}"
                            asked.add((key, user))
                        answer = spend(client, server.url, key, user)
                        if answer is None:
                            unanswered.put((key, user))
                            return
                        write_down(book, lock, key, answer)
                        acknowledged.release()

            threads = [threading.Thread(target=load, args=(user,)) for user in users]
            for thread in threads:
                thread.start()
            for _ in range(deadline_count):
                acknowledged.acquire()
            server.kill()
            killed.set()
            for thread in threads:
                thread.join()

        # What was never answered is asked again, as a client must: it may have happened, or not.
        server = Server(database)
        retried = 0
        with httpx2.Client(timeout=30) as client:
            while not unanswered.empty():
                key, user = unanswered.get()
                answer = spend(client, server.url, key, user)
                assert answer is not None
                write_down(book, lock, key, answer)
                retried += 1
        server.kill()

    acknowledgements = [json.loads(line) for line in book_path.read_text().splitlines()]
    assert retried > 0, "no kill fell into a request: this test would prove nothing"
    assert {(ack["key"], ack["user"]) for ack in acknowledgements} == asked
    with psycopg.connect(database) as conn:
        rows = Counter(conn.execute("SELECT external_id, u.seq FROM token_usage u JOIN token_accounts USING (user_id)"))
    assert rows == Counter((ack["user"], ack["seq"]) for ack in acknowledgements), "each of them once, and nothing else"
    with Till(database) as till:
        assert till.reconcile().findings == ()
        assert sum(till.balance(user).lifetime_tokens_used for user in users) == len(asked)
