"""What goes wrong on the way: errors for programs, full disks, closed pipes, odd locales, files that are none."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tokentill.settings import environment_with

TILL = [sys.executable, "-c", "from tokentill.cli import main; main()"]
Start = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def start(till: Run, database: str) -> Start:
    """`till` as a process of its own; bob has a long journal."""
    till("grant", "bob", 1000)

    def call(*args: str | bytes, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        env = environment_with(TILL_DATABASE_URL=database, **options.pop("env", {}))
        if "stdout" not in options:
            options["capture_output"] = True
        return subprocess.run([*TILL, *args], env=env, check=False, timeout=60, **options)

    return call


@pytest.mark.parametrize(
    "args", [("--json", "balance", "ann"), ("balance", "--json", "ann"), ("balance", "ann", "--json")]
)
def test_json_may_stand_anywhere(till: Run, args: tuple[str, ...]) -> None:
    till("grant", "ann", 7)

    assert till(*args).json["balance"] == 7


def test_json_of_a_group_below_may_stand_anywhere(till: Run) -> None:
    for args in (("--json", "stripe", "list"), ("stripe", "--json", "list"), ("stripe", "list", "--json")):
        assert till(*args).json == {"events": []}
    for line in (("--json", "findings"), ("findings", "--json")):
        assert till(*line).json == {"findings": []}


def test_what_comes_after_two_dashes_is_meant_as_it_stands(till: Run) -> None:
    till("grant", "7", "--", "--json")  # No user of that name, and no number.

    assert till("grant", "--", "--json", 5).out == "Granted 5 tokens. --json: 0 → 5 (row 1).\n"


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (("balance", "nobody"), 1, {"code": "account_not_found"}),
        (("deduct", "ann", "30"), 1, {"code": "insufficient_tokens", "shortfall_tokens": 20, "available_tokens": 10}),
        (("grant", "ann", "1,00"), 2, {"code": "invalid_amount", "field": "tokens"}),
        (("grant", "ann"), 2, {"code": "invalid_request", "field": "tokens"}),
        (("grant", "ann", "5", "--reason"), 2, {"code": "invalid_request", "field": "--reason"}),
        (("balance", "ann", "--limt", "5"), 2, {"code": "invalid_request", "field": "--limt"}),
        (("history", "ann", "--limit", "many"), 2, {"code": "invalid_request", "field": "--limit"}),
        (("blance", "ann"), 2, {"code": "invalid_request"}),
        ((), 2, {"code": "invalid_request"}),
        (("stripe",), 2, {"code": "invalid_request"}),
        (("stripe", "checkout", "ann", "nonesuch", "--success-url", "https://a.example/"), 1, {"code": "switched_off"}),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_is_json_where_json_is_asked_for(
    till: Run, args: tuple[str, ...], status: int, told: dict[str, object]
) -> None:
    till("grant", "ann", 10)

    for line in (("--json", *args), (*args, "--json")):
        ran = till(*line)
        found = json.loads(ran.err)
        assert (ran.status, ran.out, ran.err.count("\n")) == (status, "", 1)
        assert {"code", "detail"} <= set(found)
        assert found | told == found


def test_a_misspelt_word_is_answered_with_its_neighbour(bare: Run) -> None:
    assert bare("blance", "x").err == (
        "till: No such command 'blance'. Did you mean 'balance'? `till --help` says what it takes.\n"
    )
    assert bare("history", "x", "--limt", 3).err == (
        "till: No such option: --limt. Did you mean --limit? `till history --help` says what it takes.\n"
    )


def test_a_full_disk_is_told_in_one_line(start: Start, database: str) -> None:
    with Path("/dev/full").open("w") as full:
        for args in (["grant", "bob", "5"], ["balance", "bob"], ["--help"], ["version", "--json"]):
            ran = start(*args, stdout=full, stderr=subprocess.PIPE)
            assert (ran.returncode, ran.stderr.count(b"\n")) == (1, 1), ran
            assert b"The output cannot be written: No space left on device." in ran.stderr
        mute = start("balance", "nobody", stdout=subprocess.PIPE, stderr=full)
    assert (mute.returncode, mute.stdout) == (1, b"")

    assert json.loads(start("balance", "bob", "--json").stdout)["balance"] == 1005, "what it said it had done"


def test_a_closed_pipe_is_quiet(start: Start, till: Run) -> None:
    for _ in range(300):
        till("grant", "bob", 1, "--reason", "r" * 200)
    for args in (["history", "bob", "--limit", "300"], ["history", "bob", "--json"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        ran = start(*args, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert (ran.returncode, ran.stderr) == (0, b""), args


def test_closed_streams_do_no_harm(start: Start) -> None:
    line = f"exec '{sys.executable}' -c 'from tokentill.cli import main; main()' grant bob 5 <&- >&- 2>&-"

    assert subprocess.run(["sh", "-c", line], check=False, timeout=60).returncode in (0, 1)
    assert start("version", stdin=subprocess.DEVNULL).returncode == 0


def test_an_interrupt_ends_it_quietly(database: str, tmp_path: Path) -> None:
    """It comes while the command reads a file that nobody writes."""
    os.mkfifo(fifo := tmp_path / "fifo")
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + TILL[-1]  # Whatever we were.
    process = subprocess.Popen(
        [sys.executable, "-c", script, "catalog", "load", fifo],
        env=environment_with(TILL_DATABASE_URL=database), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with fifo.open("w"):  # Which waits until it is read.
        process.send_signal(signal.SIGINT)

        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


ODD_LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
]


@pytest.mark.parametrize("env", ODD_LOCALES, ids=str)
def test_names_of_any_script_pass_any_locale(start: Start, till: Run, env: dict[str, str]) -> None:
    name = "zoë-東京"

    granted = start("grant", name.encode(), "5", "--reason", "Grüße …".encode(), env=env)
    shown = start("history", name.encode(), env=env)
    told = start("history", name.encode(), "--json", env=env)

    assert (granted.returncode, granted.stderr) == (0, b"")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert json.loads(told.stdout)["user_id"] == name
    assert till("history", name, "--json").json["entries"][0]["detail"]["reason"] == "Grüße …"


def test_bytes_that_are_no_text_are_refused(start: Start) -> None:
    ran = start("grant", b"\xff\xfe", "5", "--json")

    assert (ran.returncode, ran.stdout) == (2, b"")
    assert json.loads(ran.stderr)["code"].startswith("invalid_")


FILES = [
    (("catalog", "load"), b"[packs", 2), (("catalog", "load"), b"\xff\xfe", 2), (("catalog", "load"), b"", 2),
    (("catalog", "load"), b"a = 1\x00", 2), (("stripe", "replay"), b"{", 1), (("stripe", "replay"), b"\xff", 1),
    (("reconcile", "--stripe", "--csv"), b"\xff\xfe", 2), (("reconcile", "--stripe", "--csv"), b"", 2),
    (("reconcile", "--stripe", "--csv"), b"a,b\n1,2\n", 2),
    (("actions", "set", "essay", "--system-prompt-file"), b"\xff", 2),
]  # fmt: skip


@pytest.mark.parametrize(("args", "content", "status"), FILES)
def test_a_file_that_is_none_is_told_in_one_line(
    till: Run, tmp_path: Path, args: tuple[str, ...], content: bytes, status: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    ran = till(*args, file)

    assert (ran.status, (ran.out + ran.err).count("\n"), "Traceback" in ran.err) == (status, 1, False), ran


@pytest.mark.parametrize(
    "args",
    [("catalog", "load"), ("stripe", "replay"), ("reconcile", "--stripe", "--csv"),
     ("actions", "set", "essay", "--system-prompt-file")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_one_line(till: Run, tmp_path: Path, args: tuple[str, ...]) -> None:
    ran = till(*args, tmp_path / "nonesuch")
    assert "nonesuch" in (said := ran.out + ran.err) and said.count("\n") == 1

    if args == ("stripe", "replay"):  # It takes folders, and the rest goes on.
        assert ran.status == 1
    else:
        assert ran.status == 2
        ran = till(*args, tmp_path)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), ran


def test_a_mistake_of_ours_is_json_too(till: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: 1 / 0)

    ran = till("grant", "ann", 5, "--json")

    assert (ran.status, ran.out) == (1, "")
    assert "ZeroDivisionError: division by zero" in ran.err
    assert json.loads(ran.err.splitlines()[-1])["code"] == "internal_error"
