"""Clients under whom servers are killed with -9: outside programs that keep a book of what they were told.

A client talks HTTP, and writes each acknowledgement down (fsync) before it goes on.
"""

import contextlib
import json
import os
import queue
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import httpx2
import psycopg

from tests.engine.processes import ADMIN_KEY, Server
from tokentill import Till
from tokentill.store.embedded import EmbeddedServer

CALLERS = 8
USERS = [f"member {n}" for n in range(CALLERS)]
PATIENCE_SECONDS = 60


@dataclass
class Client:
    """Asks, and keeps a book of what was acknowledged: a line of JSON for each."""

    book: IO[str]
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: set[tuple[str, str]] = field(default_factory=set)
    unanswered: "queue.SimpleQueue[tuple[str, str]]" = field(default_factory=queue.SimpleQueue)
    acknowledged: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def spend_until(self, is_over: threading.Event, url: str, user: str) -> None:
        """Spend, one token after the other, until nobody answers any more."""
        with httpx2.Client(timeout=PATIENCE_SECONDS) as http:
            while not is_over.is_set():
                with self.lock:
                    key = f"key {len(self.asked)}"
                    self.asked.add((key, user))
                if not self.ask(http, url, key, user):
                    self.unanswered.put((key, user))

    def ask(self, http: httpx2.Client, url: str, key: str, user: str) -> bool:
        """Spend one token; false: no answer came, so nobody knows yet whether it happened."""
        spent = self.post(http, f"{url}/v1/usage", key, user_id=user, action_type="chat_conversation", tokens=1)
        if spent is None:
            return False
        self.write_down(key=key, seq=spent["seq"], user=spent["user_id"])
        return True

    def post(self, http: httpx2.Client, url: str, key: str, **body: object) -> Any:
        """Return what was answered; none: nobody answered, or nobody who could do it."""
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {ADMIN_KEY}"}
        try:
            answer = http.post(url, json=body, headers=headers)
        except httpx2.HTTPError:
            return None
        if answer.status_code == 503:
            return None
        assert answer.is_success, answer.text
        return answer.json()

    def write_down(self, **acknowledged: object) -> None:
        with self.lock:
            self.book.write(json.dumps(acknowledged) + "\n")
            self.book.flush()
            os.fsync(self.book.fileno())
        self.acknowledged.release()

    def load(self, url: str, count: int, kill: Callable[[], None]) -> None:
        """Let all callers spend, and kill in the middle, after so many acknowledgements."""
        is_over = threading.Event()
        threads = [threading.Thread(target=self.spend_until, args=(is_over, url, user)) for user in USERS]
        for thread in threads:
            thread.start()
        for _ in range(count):
            assert self.acknowledged.acquire(timeout=PATIENCE_SECONDS), "the server does nothing any more"
        kill()
        is_over.set()
        for thread in threads:
            thread.join()

    def ask_again(self, url: str) -> int:
        """Ask again what was never answered, as a client must: it may have happened, or not. Returns how often."""
        count = 0
        with httpx2.Client(timeout=PATIENCE_SECONDS) as http:
            while not self.unanswered.empty():
                key, user = self.unanswered.get()
                assert self.ask(http, url, key, user)
                count += 1
        return count


def grant_everybody(url: str) -> None:
    with Till(url) as till:
        for user in USERS:
            till.grant_tokens(user, 1_000_000)


def play(client: Client, postgres: EmbeddedServer, rounds: Sequence[str], chance: random.Random) -> int:
    """Load, and kill "app", "postmaster" or "both" in each round; ask again what was left open. Returns how often."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(postgres.url))
        for victims in rounds:

            def kill(victims: str = victims, server: Server = server) -> None:
                if victims != "app":
                    os.kill(postgres.pid, signal.SIGKILL)
                if victims != "postmaster":
                    server.kill()

            client.load(server.url, chance.randint(20, 80), kill)
            if victims != "postmaster":
                wait_for(postgres.url)
                server = stack.enter_context(Server(postgres.url))
        return client.ask_again(server.url)


def wait_for(url: str) -> None:
    """Wait until the watcher has started the server again, and it has recovered."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(0.05)
        else:
            return
