"""Runs the baselines, each at its best, and compares the till with them."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokentill.bench.children import kill_group
from tokentill.bench.ground import Ground
from tokentill.bench.meters import Meter, cores
from tokentill.bench.options import Options
from tokentill.bench.proving import BenchFailed
from tokentill.errors import EmbeddedPostgresError
from tokentill.settings import environment_with
from tokentill.store import embedded

HAND_CONNECTIONS = (8, 16, 32, 64)
PGBENCH_CLIENTS = (8, 32, 64)
COPY_ROWS_PER_S = 120_000  # More than any machine of this kind writes: how many rows are packed for a second.

# What was measured on a machine with 2 cores and a quiet disk (docs/explanation/performance.md), with full rows for
# `copy`, a narrower row for the others; nothing comparable was measured for `by_hand`. A second.
READING = {"pgbench": 7_448.0, "copy": 81_000.0}
READING_HOT = {"pgbench": 2_323.0, "copy": 81_000.0}
BARE_READING_MS = 0.52  # pgbench with one client: 1,933 transactions a second.
MUCH = 0.7  # Of the reading: what falls below is explained.

_SCRIPT = Path(__file__).with_name("pgbench.sql")


class BaselineFailed(BenchFailed):
    """A baseline could not be run; its own words are in the message."""


class Baselines:
    """The baselines on a database of their own: they break the books. The first measuring finds each one's best."""

    def __init__(self, here: Ground, url: str, options: Options) -> None:
        self._url = url
        self._options = options
        self._pgbench = _pgbench(here.bin_dir)
        self._hand_connections: tuple[int, ...] = HAND_CONNECTIONS
        self._pgbench_clients: tuple[int, ...] = PGBENCH_CLIENTS
        self._copied = options.rows

    def measure(self) -> dict[str, Any]:
        """Measure each baseline once; of those with several numbers of connections, the best.

        Raises: BaselineFailed.
        """
        hand = {count: self._by_hand(count) for count in self._hand_connections}
        best = max(hand, key=lambda count: float(hand[count]["ops_per_s"]))
        self._hand_connections = (best,)
        measured: dict[str, Any] = {
            "by_hand": {**hand[best], "connections": best},
            "copy": self._copy(),
            "bare": self._python("bare", *self._of_accounts(), *self._of_time()),
        }
        if self._pgbench is None:
            measured["pgbench"] = {"skipped": "no pgbench in the embedded server's folder, nor PostgreSQL's own"}
        else:
            pgbench = {count: self._by_pgbench(self._pgbench, count) for count in self._pgbench_clients}
            best = max(pgbench, key=lambda count: float(pgbench[count]["ops_per_s"]))
            self._pgbench_clients = (best,)
            measured["pgbench"] = {**pgbench[best], "clients": best}
        return measured

    def _by_hand(self, connections: int) -> dict[str, Any]:
        return self._python("by_hand", *self._of_accounts(), *self._of_time(), "--connections", str(connections))

    def _copy(self) -> dict[str, Any]:
        rows = max(int(COPY_ROWS_PER_S * self._options.seconds), 10 * 1024)
        found = self._python(
            "copy_limit", "--accounts", str(self._options.accounts), "--lots", str(self._options.lots),
            "--first", str(self._copied), "--rows", str(rows), *self._of_time(),
        )  # fmt: skip
        self._copied += rows
        return found

    def _python(self, name: str, *args: str) -> dict[str, Any]:
        command = [sys.executable, "-m", f"tokentill.bench.baselines.{name}", self._url, *args]
        said, busy = self._run(name, command)
        return {**json.loads(said), "cores": busy}

    def _by_pgbench(self, pgbench: Path, clients: int) -> dict[str, Any]:
        hot, zipf = (self._options.distribution == name for name in ("hot", "zipf"))
        accounts = 1 if hot else self._options.accounts
        seconds = max(1, round(self._options.seconds))  # It knows whole seconds only.
        command = [
            str(pgbench), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds),
            "-D", f"accounts={accounts}", "-D", f"zipf={int(zipf)}", "-f", str(_SCRIPT), self._url,
        ]  # fmt: skip
        said, busy = self._run("pgbench", command)
        tps = re.search(r"tps = ([\d.]+)", said)
        if tps is None or "number of failed transactions: 0 " not in said:
            raise BaselineFailed(f"pgbench did not do what it should:\n{said}")
        return {"ops_per_s": round(float(tps[1]), 1), "cores": busy}

    def _run(self, name: str, command: list[str]) -> tuple[str, dict[str, Any]]:
        """Return what it printed, and how busy it kept clients and server."""
        with Meter(self._url) as meter:
            before = meter.read()
            # A group of its own: a Ctrl-C is ours, and ends the child by the `with` block.
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
                env=environment_with(PGCONNECT_TIMEOUT="10"),
            ) as process:  # fmt: skip
                try:
                    said, complaint = process.communicate()
                except BaseException:
                    kill_group(process)
                    raise
            after = meter.read()
        if process.returncode:
            raise BaselineFailed(f"{name} ended with status {process.returncode}:\n{complaint or said}")
        return said, cores(before, after)

    def _of_accounts(self) -> list[str]:
        return ["--accounts", str(self._options.accounts), "--distribution", self._options.distribution]

    def _of_time(self) -> list[str]:
        return ["--seconds", str(self._options.seconds)]


def compared(report: dict[str, Any], baselines: dict[str, Any], *, is_hot: bool = False) -> dict[str, Any]:
    """Return `baselines`, `ratios` to them, and `notes` on those that are far below what was once measured.

    `ratios.bare` is the till's lone latency in units of the bare one: less is better. Of the others, more is better.
    """
    ratios: dict[str, float | None] = {
        name: round(report["ops_per_s"] / found["ops_per_s"], 3) if "ops_per_s" in found else None
        for name, found in baselines.items()
        if name != "bare"
    }
    ratios["bare"] = round(report["lone"]["p50_ms"] / baselines["bare"]["p50_ms"], 3)
    notes = [
        f"{name} reached {found:,.0f}/s, {found / reading:.0%} of the {reading:,.0f}/s that a quiet machine "
        f"with 2 cores once reached; {_busy(baselines[name]['cores'])}"
        for name, reading in (READING_HOT if is_hot else READING).items()
        if (found := baselines[name].get("ops_per_s")) is not None and found < MUCH * reading
    ]
    if baselines["bare"]["p50_ms"] > BARE_READING_MS / MUCH:
        notes.append(
            f"bare took {baselines['bare']['p50_ms']:.2f} ms; pgbench once took {BARE_READING_MS} ms, in C rather than "
            "Python: a slower driver, disk or machine"
        )
    return {"ratios": ratios, "baselines": baselines, "notes": notes}


def _busy(cores: dict[str, float | None]) -> str:
    """Say what held a baseline back, as far as its CPU tells."""
    if cores["server"] is None:
        return "the server is elsewhere, and its CPU cannot be seen from here"
    count, used = os.cpu_count() or 1, cores["server"] + (cores["clients"] or 0)
    shared = f"server {cores['server']:.2f} and clients {cores['clients']:.2f} of {count} cores"
    if used > 0.85 * count:
        return f"the cores were full ({shared}): they are slower ones, or the rows are wider"
    return f"the cores were not full ({shared}): others use this machine, or its disk syncs slowly"


def _pgbench(bin_dir: Path | None) -> Path | None:
    """Return a pgbench: the embedded server's, else one that is on the path or in PostgreSQL's usual folders."""
    with suppress(EmbeddedPostgresError):  # The server is somebody else's, and no wheel is installed.
        if (own := (bin_dir or embedded.binaries()) / "pgbench").is_file():
            return own
    usual = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), key=lambda path: -int(path.parts[-3]))
    on_path = shutil.which("pgbench")
    return Path(on_path) if on_path else next(iter(usual), None)
