"""Processes that a bench starts: each reads its task as JSON from stdin, and answers with JSON on stdout, line by line.

They end with the bench: their stdin closes, and whoever leaves the `with` block kills what is left.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tokentill.bench.proving import BenchFailed
from tokentill.settings import environment_with


class Child:
    """A Python module as a process of its own, outside the terminal's Ctrl-C: we end it ourselves."""

    def __init__(
        self, module: str, *args: str, task: dict[str, Any] | None = None, is_quiet: bool = False,
        **environment: str,
    ) -> None:  # fmt: skip
        self.name = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL if is_quiet else None, env=environment_with(**environment), process_group=0,
        )  # fmt: skip
        if task is not None:
            self.tell(json.dumps(task))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return the next line. Raises: ChildFailed when there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ChildFailed(f"{self.name} ended with status {self.process.wait()} before it answered.")
        return line.rstrip("\n")

    def answer(self) -> Any:
        return json.loads(self.hear())

    def stop(self) -> None:
        """Ask it to finish and stop (SIGTERM), and wait until it has."""
        self.process.terminate()
        self.process.communicate(timeout=60)

    def end(self) -> None:
        """Kill it and what it has started, if they still run. Idempotent."""
        kill_group(self.process)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a process that leads a group of its own, and the whole group; wait for the leader."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class ChildFailed(BenchFailed):
    """A process of the bench ended before its time; what it said on stderr is above."""
