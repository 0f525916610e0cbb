"""`till serve --workers 2`: two real processes behind one address, as a client on the outside meets them."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tokentill import Till

ADMIN_KEY = "a key that only this test knows"
SERVE = [sys.executable, "-c", "from tokentill.cli import main; main()", "serve", "--port", "0"]


class Workers:
    """`till serve --workers 2` on a free port."""

    def __init__(self, database: str, log: Path) -> None:
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*SERVE, "--workers", "2"],
                env={**os.environ, "TILL_DATABASE_URL": database, "TILL_ADMIN_KEY": ADMIN_KEY},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first.startswith("listening on "), log.read_text()
        self.url = first.split()[-1]

    @property
    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def post(self, client: httpx2.Client, path: str, key: str = "", **body: object) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", **({"Idempotency-Key": key} if key else {})}
        return client.post(self.url + path, json=body, headers=headers)

    def spend(self, client: httpx2.Client, user: str, key: str, tokens: int = 1) -> httpx2.Response:
        return self.post(client, "/v1/usage", key, user_id=user, action_type="chat_conversation", tokens=tokens)

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[int, httpx2.Client]]:
        """A client of each worker, by its number: connections are opened until both have been met, and kept."""
        with contextlib.ExitStack() as stack:
            found: dict[int, httpx2.Client] = {}
            for _ in range(2_000):
                client = stack.enter_context(httpx2.Client(timeout=60))
                found[self.health(client)["number"]] = client
                if len(found) == 2:
                    yield found
                    return
            raise AssertionError(f"only {set(found)} answers")

    def health(self, client: httpx2.Client) -> dict[str, Any]:
        """What the worker at the other end says of itself."""
        said: dict[str, Any] = client.get(f"{self.url}/healthz").json()["worker"]
        return said

    def healths(self) -> dict[int, dict[str, Any]]:
        with self.clients() as clients:
            return {number: self.health(client) for number, client in clients.items()}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def workers(database: str, tmp_path: Path) -> Iterator[Workers]:
    if not sys.platform.startswith("linux"):
        pytest.skip("finds the workers in /proc")
    workers = Workers(database, tmp_path / "log")
    yield workers
    if workers.process.poll() is None:
        workers.stop()


@pytest.fixture
def ledger(database: str) -> Iterator[Till]:
    """A till of the test's own, on the same database."""
    with Till(database) as till:
        yield till
        assert till.reconcile().findings == ()


def test_of_two_hundred_parallel_spends_just_those_that_are_covered_succeed(workers: Workers, ledger: Till) -> None:
    ledger.grant_tokens("ann", 20)
    together = threading.Barrier(50)

    def spend_four(caller: int) -> list[int]:
        with httpx2.Client(timeout=60) as client:  # A connection each, so that both workers are asked.
            together.wait()
            return [workers.spend(client, "ann", f"{caller} {n}").status_code for n in range(4)]

    with ThreadPoolExecutor(50) as callers:
        statuses = Counter(status for each in callers.map(spend_four, range(50)) for status in each)

    assert statuses == {201: 20, 402: 180}
    assert ledger.balance("ann").balance == 0


def test_fifty_callers_with_one_key_have_one_answer(workers: Workers, ledger: Till) -> None:
    ledger.grant_tokens("ann", 20)
    together = threading.Barrier(50)

    def spend(_: int) -> tuple[int, str]:
        with httpx2.Client(timeout=60) as client:
            together.wait()
            answer = workers.spend(client, "ann", "one key")
            return answer.status_code, answer.text

    with ThreadPoolExecutor(50) as callers:
        answers = set(callers.map(spend, range(50)))

    assert len(answers) == 1 and next(iter(answers))[0] == 201
    assert ledger.balance("ann").balance == 19


def test_each_accounts_usage_is_written_by_one_worker(workers: Workers, ledger: Till) -> None:
    users = [f"member {n}" for n in range(40)]
    for user in users:
        ledger.grant_tokens(user, 100)
    before = workers.healths()

    def spend(user: str) -> None:
        with httpx2.Client(timeout=60) as client:
            for n in range(5):
                assert workers.spend(client, user, f"{n}").status_code == 201

    with ThreadPoolExecutor(20) as callers:
        list(callers.map(spend, users))

    after = workers.healths()
    done = {
        name: {number: after[number][name] - before[number][name] for number in after}
        for name in ("own", "received", "passed_on", "taken_over")
    }
    assert sum(done["own"].values()) + sum(done["received"].values()) == 200
    assert (done["received"][1], done["received"][2]) == (done["passed_on"][2], done["passed_on"][1])
    assert set(done["taken_over"].values()) == {0}


def test_a_hold_placed_through_one_worker_is_captured_through_the_other(workers: Workers, ledger: Till) -> None:
    """Whichever of the two owns the account: of twenty members, some are each one's."""
    users = [f"member {n}" for n in range(20)]
    for user in users:
        ledger.grant_tokens(user, 100)

    with workers.clients() as clients:
        for number, user in enumerate(users):
            here, there = clients[1 + number % 2], clients[2 - number % 2]
            place = {"user_id": user, "action_type": "chat_conversation", "tokens": 80, "metadata": {"call": user}}
            placed = workers.post(here, "/v1/holds", "place", **place)
            assert placed.status_code == 201, placed.text
            hold = placed.json()
            path = f"/v1/holds/{hold['id']}"

            again = workers.post(there, "/v1/holds", "place", **place)
            assert (again.json(), again.headers["Idempotency-Replayed"]) == (hold, "true")
            assert workers.post(there, "/v1/holds", "another", **place).json()["code"] == "insufficient_tokens"
            renewed = workers.post(there, f"{path}/renew", ttl_seconds=7_200).json()
            assert renewed["expires_at"] > hold["expires_at"]
            for client in (here, there):
                assert _holds(workers, client, user) == [renewed]
            captured = workers.post(there, f"{path}/capture", "capture", tokens=30)
            assert (captured.status_code, captured.json()["balance_after"]) == (200, 70)
            assert workers.post(here, f"{path}/capture").json() == captured.json()
            assert workers.post(here, f"{path}/void").json()["code"] == "hold_closed"
            for client in (here, there):
                assert _holds(workers, client, user) == []

        healths = [workers.health(client) for client in clients.values()]
    assert all(health["passed_on"] > 0 and health["own"] > 0 and health["taken_over"] == 0 for health in healths)
    assert {ledger.balance(user).available for user in users} == {70}


def _holds(workers: Workers, client: httpx2.Client, user: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    holds: list[dict[str, Any]] = client.get(f"{workers.url}/v1/users/{user}/holds", headers=headers).json()["holds"]
    return holds


@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_under_load_loses_and_doubles_nothing(workers: Workers, ledger: Till) -> None:
    users = [f"member {n}" for n in range(8)]
    for user in users:
        ledger.grant_tokens(user, 1_000_000)
    acknowledged: list[tuple[str, int]] = []
    progress = threading.Semaphore(0)
    is_over = threading.Event()

    def load(user: str) -> None:
        number = 0
        with httpx2.Client(timeout=60) as client:
            while not is_over.is_set():
                number += 1
                while True:  # As a client must: no answer, the same request again.
                    try:
                        answer = workers.spend(client, user, f"{number}")
                        break
                    except httpx2.HTTPError:
                        continue
                assert answer.status_code == 201, answer.text
                acknowledged.append((user, answer.json()["seq"]))
                progress.release()

    with ThreadPoolExecutor(len(users)) as callers:
        loads = [callers.submit(load, user) for user in users]
        killed = set()
        try:
            for _ in range(6):
                for _ in range(150):
                    assert progress.acquire(timeout=60)
                victim = workers.pids[0]  # The one that has lived longest: not the one just started.
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
            for _ in range(150):
                assert progress.acquire(timeout=60)
        finally:
            is_over.set()
        for each in loads:
            each.result()

    assert len(killed) > 1
    with psycopg.connect(ledger.url) as conn:
        rows = Counter(conn.execute("SELECT external_id, u.seq FROM token_usage u JOIN token_accounts USING (user_id)"))
    assert rows == Counter(acknowledged), "each of them once, and nothing else"
    assert {worker["pid"] for worker in workers.healths().values()}.isdisjoint(killed), "all are alive again"
    assert workers.stop() == 0


def test_the_workers_end_with_the_supervisor(workers: Workers) -> None:
    pids = workers.pids
    watched = [os.pidfd_open(pid) for pid in pids]
    workers.process.kill()
    workers.process.wait()

    for descriptor in watched:
        ended, _, _ = select.select([descriptor], [], [], 30)
        assert ended, "a worker goes on without its supervisor"
        os.close(descriptor)
    assert workers.process.stdout is not None
    workers.process.stdout.close()


def test_workers_that_cannot_start_are_an_error_and_no_loop(empty_database: str) -> None:
    ran = subprocess.run(
        [*SERVE, "--workers", "2", "--json"],
        env={**os.environ, "TILL_DATABASE_URL": empty_database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "till migrate" in ran.stderr


def test_the_announcement_is_the_same(database: str) -> None:
    process = subprocess.Popen(
        [*SERVE, "--workers", "2", "--json"],
        env={**os.environ, "TILL_DATABASE_URL": database, "TILL_ADMIN_KEY": ADMIN_KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert httpx2.get(f"{said['url']}/readyz").status_code == 200
    finally:
        process.terminate()
        status, rest = process.wait(30), process.stdout.read()
        process.stdout.close()
    assert (status, rest) == (0, "")
    assert said == {"url": said["url"], "api": True, "stripe_webhook": False, "stripe_api": False}
