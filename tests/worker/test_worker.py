"""`till worker`, and the worker within `till serve`: real processes on a real database."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.engine.processes import Process, Server, environment, till_command
from tests.worker import killing
from tests.worker.processes import TILL, Worker, drips, number, subscribe, wait_until
from tokentill import Till
from tokentill.services.jobs.working import JOBS
from tokentill.store import jobs
from tokentill.store.db import connect


def proved(database: str) -> bool:
    with Till(database) as till:
        return till.reconcile().findings == ()


def test_what_fell_due_while_nobody_worked_is_given_at_once(database: str, tmp_path: Path) -> None:
    subscribe(database, 3, cycles=5)

    with Worker(database, tmp_path / "log") as worker:
        worker.started()
        wait_until(lambda: number(database, "SELECT count(*) FROM job_runs") == len(JOBS), "all jobs ran")
        assert drips(database) == 15
        status = worker.stop()

    assert status == 0
    assert "Traceback" not in worker.log.read_text() and "ERROR" not in worker.log.read_text()
    assert number(database, "SELECT count(*) FROM till_jobs.procrastinate_workers") == 0, "it has signed off"
    assert number(database, "SELECT count(*) FROM till_jobs.procrastinate_jobs") == 0, "nothing is left lying"
    assert proved(database)


def test_the_job_that_runs_is_finished_before_the_worker_ends(database: str, tmp_path: Path) -> None:
    subscribe(database, 40, cycles=13)

    with Worker(database, tmp_path / "log") as worker:
        wait_until(lambda: drips(database) > 40, "the first cycles are given")
        status = worker.stop()

    assert status == 0
    assert drips(database) == 40 * 13
    assert number(database, "SELECT count(*) FROM job_runs WHERE job = 'drips' AND error IS NULL") == 1


def test_once_does_what_is_due_and_ends(database: str) -> None:
    subscribe(database, 2, cycles=3)

    first, second = till_command(database, "worker", "--once"), till_command(database, "worker", "--once")

    assert [ran["job"] for ran in first["jobs"]] == [job.name for job in JOBS]
    assert first["jobs"][0] == {"job": "drips", "counts": {"drips": 4, "tokens": 1_500_000, "failed": 0}, "error": None}
    assert second["jobs"][0]["counts"]["drips"] == 0


def test_once_says_when_a_job_could_not_be_done(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("REVOKE DELETE ON usage_keys FROM till_service; REVOKE SELECT ON usage_keys FROM till_service")

    ran = subprocess.run(
        [*TILL, "worker", "--once", "--json"], env=environment(TILL_DATABASE_URL=database),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    failed = {said["job"]: said["error"] for said in json.loads(ran.stdout)["jobs"] if said["error"]}
    assert (ran.returncode, list(failed)) == (1, ["keys"])
    assert "permission denied" in failed["keys"]


def test_two_workers_give_each_cycle_once(database: str, tmp_path: Path) -> None:
    subscribe(database, 30, cycles=6)

    with Worker(database, tmp_path / "one") as one, Worker(database, tmp_path / "two") as two:
        wait_until(lambda: drips(database) == 180, "all cycles are given")
        assert (one.started().stop(), two.started().stop()) == (0, 0)

    assert proved(database)
    assert "ERROR" not in one.log.read_text() + two.log.read_text()


def test_another_worker_finishes_what_a_killed_one_began(database: str, tmp_path: Path) -> None:
    subscribe(database, 200, cycles=13)

    with Worker(database, tmp_path / "log") as killed:
        wait_until(lambda: drips(database) > 250, "the first cycles are given")
        killed.kill()
    assert 250 < drips(database) < 2_600, "it was killed in the middle"
    with Worker(database, tmp_path / "log") as other:
        wait_until(lambda: drips(database) == 2_600, "all cycles are given")
        assert other.started().stop() == 0

    killing.prove(database, subscriptions=200, cycles=13)


@pytest.mark.timeout(300)
def test_eight_workers_killed_again_and_again_give_each_cycle_once(database: str, tmp_path: Path) -> None:
    """At full size: `python -m tests.worker.killing`."""
    killed = killing.play(database, tmp_path, subscriptions=150, cycles=13, workers=8, kills=8, seed=4)

    assert killed == 8
    killing.prove(database, subscriptions=150, cycles=13)


# -- within `till serve` -----------------------------------------------------------------------------------------------


def readiness(url: str) -> dict[str, Any]:
    answer = httpx2.get(f"{url}/readyz", timeout=60)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def test_a_server_gives_what_is_due(database: str) -> None:
    subscribe(database, 3, cycles=5)

    with Server(database) as server:
        wait_until(lambda: drips(database) == 15, "all cycles are given")
        assert readiness(server.url)["jobs"] == {"running": True}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_of_several_serving_processes_one_runs_the_jobs(database: str) -> None:
    subscribe(database, 3, cycles=5)
    command = ["-c", "from tokentill.cli import main; main()", "serve", "--port", "0", "--workers", "2"]

    with Process(command, environment(TILL_DATABASE_URL=database), "listening on ") as server:
        wait_until(lambda: drips(database) == 15, "all cycles are given")
        wait_until(lambda: number(database, "SELECT count(*) FROM till_jobs.procrastinate_workers") == 1, "one works")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_a_server_that_is_told_not_to_runs_no_jobs(database: str) -> None:
    command = ["-c", "from tokentill.cli import main; main()", "serve", "--port", "0", "--no-worker"]

    with Process(command, environment(TILL_DATABASE_URL=database), "listening on ") as server:
        assert "jobs" not in readiness(server.said)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0

    assert number(database, "SELECT count(*) FROM job_runs") == 0


@contextlib.contextmanager
def no_way_to_the_queue(database: str) -> Iterator[None]:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("REVOKE UPDATE ON till_jobs.procrastinate_jobs FROM till_service")
        yield
        conn.execute("GRANT UPDATE ON till_jobs.procrastinate_jobs TO till_service")


def test_a_server_outlives_its_worker_says_so_and_starts_it_anew(database: str) -> None:
    with Server(database) as server:
        wait_until(lambda: readiness(server.url)["jobs"] == {"running": True}, "the worker runs")
        with no_way_to_the_queue(database):
            wait_until(lambda: "error" in readiness(server.url)["jobs"], "the worker has ended")
            said = readiness(server.url)["jobs"]
            assert said["running"] is False and "permission denied" in said["error"], said
            assert httpx2.get(f"{server.url}/healthz").status_code == 200
        wait_until(lambda: readiness(server.url)["jobs"] == {"running": True}, "the worker is back")


# -- the doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_says_how_the_jobs_fare(database: str) -> None:
    def jobs_as_found() -> tuple[str, str]:
        ran = subprocess.run(
            [*TILL, "doctor", "--json"], env=environment(TILL_DATABASE_URL=database),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return next((c["state"], c["found"]) for c in json.loads(ran.stdout)["checks"] if c["name"] == "jobs")

    assert jobs_as_found() == ("yellow", "none has ever run")
    till_command(database, "worker", "--once")
    assert jobs_as_found()[0] == "green"
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE job_runs SET started_at = %s WHERE job = 'sweep'", [datetime.now(UTC) - timedelta(days=1)])
    assert jobs_as_found() == ("yellow", "late: sweep")
    with connect(database) as conn:
        conn.execute("""UPDATE job_runs SET started_at = finished_at, counts = '{"drips": 1, "failed": 2}'""")
        conn.commit()
        assert jobs_as_found()[0] == "red" and "drips: 2 failed" in jobs_as_found()[1]
        last = jobs.last_runs(conn)["keys"]
        conn.execute("UPDATE job_runs SET error = 'No room.' WHERE job = %s", [last.job])
    assert jobs_as_found() == ("red", "keys failed: No room.")
