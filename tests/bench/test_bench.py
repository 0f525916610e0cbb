"""Every bench runs, says what it promises, proves its books, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.bench.conftest import SMALL, TINY
from tests.cli.conftest import Run
from tests.conftest import url_of
from tokentill.bench import ground, recovering
from tokentill.bench.filling import fill, member
from tokentill.bench.options import Options
from tokentill.bench.proving import BooksWrong, prove
from tokentill.cli import bench as commands

MEASURED = {"ops_per_s", "p50_ms", "p99_ms", "cpu_us_per_op", "wal_bytes_per_op", "batches", "hot_share", "books"}


def databases(server_url: str, pid: int) -> list[str]:
    """The databases of a bench that ran as this process."""
    with psycopg.connect(make_conninfo(server_url, dbname="postgres")) as conn:
        sql = "SELECT datname FROM pg_database WHERE datname LIKE %s"
        return [name for (name,) in conn.execute(sql, [f"tokentill\\_bench\\_{pid}\\_%"])]


def test_spends_are_compared_with_every_baseline(bench: Run, server_url: str) -> None:
    report = bench("spend", *SMALL, "--json").json

    assert report.keys() >= MEASURED | {"ratios", "baselines", "notes", "lone", "runs_ops_per_s", "options", "machine"}
    assert set(report["ratios"]) == {"by_hand", "pgbench", "copy", "bare"}
    for name in ("by_hand", "pgbench", "copy"):
        assert report["ratios"][name] == pytest.approx(
            report["ops_per_s"] / report["baselines"][name]["ops_per_s"], abs=0.001
        )
    assert 1 <= report["batches"]["mean"] <= report["batches"]["max"] <= 16, "16 callers cannot commit more at once"
    assert report["books"]["usage_rows"] == 300 + report["books"]["acknowledged"]
    assert databases(server_url, os.getpid()) == []


@pytest.mark.parametrize("sharing", ["disjoint", "shared"])
def test_several_processes_are_exact(bench: Run, sharing: str) -> None:
    report = bench("spend", *SMALL, "--processes", 2, "--sharing", sharing, "--no-baselines", "--json").json

    assert report.keys() >= MEASURED
    assert len(report["processes_ops_per_s"]) == 2
    assert report["books"]["proved"]


def test_a_lone_caller_is_measured_by_its_latency(bench: Run) -> None:
    report = bench("spend", *SMALL, "--callers", 1, "--no-baselines", "--json").json

    assert report["lone"] == {name: report[name] for name in ("p50_ms", "p99_ms")}
    assert report["batches"]["max"] == 1


def test_http_is_measured_with_what_its_generator_cost(bench: Run) -> None:
    report = bench("http", *SMALL, "--json").json

    assert report.keys() >= MEASURED | {"requests_per_s", "generator_cpu_us_per_op"}
    assert report["books"]["acknowledged"] > 0


def test_webhooks_are_compared_with_bare_signature_checks(bench: Run) -> None:
    few = ("--accounts", 40, "--callers", 8, "--seconds", 0.5, "--runs", 1)
    report = bench("webhook", *few, "--json").json

    checks = report["baselines"]["bare_signature_checks_per_s"]
    assert report["ratios"]["bare_signature_checks"] == pytest.approx(report["ops_per_s"] / checks, abs=0.0001)
    assert report["books"]["purchases"] == report["sent"]["packs"] > 0
    assert report["books"]["events"] == report["sent"]["packs"] + report["sent"]["ignored"]


def test_growth_compares_with_an_empty_table(bench: Run) -> None:
    report = bench("growth", *SMALL, "--json").json

    assert report.keys() >= MEASURED | {"empty", "ratios"}
    assert report["books"]["usage_rows"] - report["books"]["acknowledged"] == 300
    assert report["books"]["empty"]["usage_rows"] == report["books"]["empty"]["acknowledged"]


def test_holds_are_compared_with_spends(bench: Run) -> None:
    report = bench("holds", *SMALL, "--json").json

    assert report.keys() >= MEASURED | {"spends_per_s", "ratios"}
    assert 0 < report["books"]["holds"] < report["books"]["acknowledged"], "and spends without holds"


def test_memory_is_told_per_account_and_per_lot(bench: Run) -> None:
    report = bench("memory", "--accounts", 2000, "--json").json

    assert 100 < report["bytes_per_account"] < 10_000
    assert 10 < report["bytes_per_further_lot"] < 2_000


def test_what_was_acknowledged_before_a_kill_is_there_once() -> None:
    options = Options(accounts=20, callers=8, rows=100, seconds=0.2, kills=1)

    report = recovering.run(options, lambda line: None)

    assert report["process"]["kills"] == report["server"]["kills"] == 1
    assert report["process"]["retried"] > 0, "the kill fell into no request: this proves nothing"
    assert report["asked"] == report["acknowledged"] == report["books"]["acknowledged"]


def test_somebody_elses_server_is_not_killed(bench: Run) -> None:
    report = bench(
        "recover", "--accounts", 20, "--callers", 8, "--rows", 0, "--seconds", 0.1, "--kills", 1, "--json"
    ).json

    assert report["server"] == {"skipped": "the server is not ours to kill"}


def test_a_balance_that_is_changed_by_hand_during_the_run_voids_the_figures(
    bench: Run, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plant(line: str) -> None:
        if "spends" in line:
            (name,) = databases(server_url, os.getpid())
            with psycopg.connect(url_of(server_url, name)) as conn:
                conn.execute("UPDATE token_accounts SET balance = balance + 1 WHERE user_id = %s", [member(7)])

    monkeypatch.setattr(commands, "_tell", plant)

    ran = bench("spend", *SMALL, "--distribution", "hot", "--no-baselines")

    assert ran.status == 1
    assert "THE BOOKS ARE WRONG" in ran.err and str(member(7)) in ran.err
    assert ran.out == "", "figures of wrong books are not shown"
    assert databases(server_url, os.getpid()) == []


def test_an_acknowledged_spend_that_is_not_there_is_found(database: str) -> None:
    fill(database, accounts=5, lots=1, rows=20, tell=lambda line: None)

    assert prove(database, rows_before=20, acknowledged=0, tell=lambda line: None)["proved"]
    with pytest.raises(BooksWrong, match="1 spends were acknowledged, 0 are in the database"):
        prove(database, rows_before=20, acknowledged=1, tell=lambda line: None)


def test_an_interrupted_bench_leaves_nothing(server_url: str) -> None:
    args = [str(arg) for arg in (*SMALL, "--seconds", 60, "--url", server_url, "--processes", 2, "--no-baselines")]
    with subprocess.Popen(
        [sys.executable, "-m", "tokentill.cli", "bench", "spend", *args], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "run 1 of 1" in line:
                break
        assert databases(server_url, process.pid) != []
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 130
    assert databases(server_url, process.pid) == []


def test_an_embedded_server_for_a_bench_goes_with_it() -> None:
    folders: list[str] = []

    def fail() -> None:
        with ground.opened(None) as here, psycopg.connect(here.server_url) as conn:
            folders.extend(conn.execute("SHOW data_directory").fetchone() or ())
            assert conn.execute("SHOW max_wal_size").fetchone() == ("8GB",)
            assert conn.execute("SHOW fsync").fetchone() == ("on",)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()

    assert folders and not Path(folders[0]).exists()


def test_options_are_small_enough_for_tests() -> None:
    assert Options(**TINY).warm_up_seconds <= TINY["seconds"]
