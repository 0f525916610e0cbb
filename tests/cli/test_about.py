"""`till` about itself: its version, its help, and what the tab key offers."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import tokentill
from tests.cli.conftest import Run
from tokentill.settings import environment_with
from tokentill.store import migrate

BIN = Path(sys.executable).parent


def test_the_version_is_said_by_command_and_option(bare: Run) -> None:
    for args in (["version"], ["--version"]):
        assert bare(*args).out == f"till {tokentill.__version__}\n"


def test_the_version_in_json_names_what_it_works_with(till: Run, database: str) -> None:
    for args in (["version", "--json"], ["--json", "version"], ["--version", "--json"], ["--json", "--version"]):
        told = till(*args).json
        assert told["version"] == tokentill.__version__
        assert told["schema"] == migrate.shipped()[-1].name
        assert told["python"] == platform.python_version()
        assert int(told["postgresql"].split(".")[0]) >= 15


def test_the_version_is_said_where_no_database_answers(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgresql://nobody@127.0.0.1:1/none", "postgresql://["):
        monkeypatch.setenv("TILL_DATABASE_URL", url)
        assert bare("version").status == 0
        assert bare("version", "--json").json["postgresql"] is None


def test_the_embedded_postgresql_is_asked_without_being_started(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILL_HOME", str(tmp_path))

    assert int(bare("version", "--json").json["postgresql"]) >= 15
    assert list(tmp_path.iterdir()) == []


def test_help_is_what_the_option_says(bare: Run) -> None:
    for words in ([], ["grant"], ["stripe"], ["stripe", "list"], ["findings", "close"]):
        assert bare("help", *words).out == bare(*words, "--help").out
    assert bare("help", "grant", "--json").json == {"command": "till grant", "help": bare("help", "grant").out[:-1]}


def test_help_of_what_is_none_says_what_there_is(bare: Run) -> None:
    assert (bare("help", "blance").status, "Did you mean 'balance'?" in bare("help", "blance").err) == (2, True)
    assert (bare("help", "stripe", "lst").status, "Did you mean 'list'?" in bare("help", "stripe", "lst").err) == (
        2, True,
    )  # fmt: skip
    assert bare("help", "grant", "x").err == (
        "till: `till grant` has no commands below it: `till help` has them all.\n"
    )


def test_till_alone_says_where_to_begin(bare: Run) -> None:
    for line in ("till demo", "till grant alice 1,000", "till serve", "till --install-completion"):
        assert line in bare().err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["bal"], ["balance"]),
        (["stripe", "li"], ["link", "list"]),
        (["ho"], ["hold", "holds"]),
        (["grant", "--rea"], ["--reason"]),
        (["spend", "ann", "5", "chat", "--on-insufficient", "re"], ["record", "refuse"]),
    ],
    ids=str,
)
def test_bash_completes(typed: list[str], offered: list[str]) -> None:
    path = f"{BIN}:{os.get_exec_path()[0]}:/usr/bin:/bin"
    script = subprocess.run(
        [BIN / "till"], env=environment_with(_TILL_COMPLETE="source_bash", PATH=path), capture_output=True, text=True,
        check=True, timeout=60,
    ).stdout  # fmt: skip
    words = " ".join(typed)
    line = f"{script}\nCOMP_WORDS=(till {words}); COMP_CWORD={len(typed)}; _till_completion till; "
    line += 'printf "%s\\n" "${COMPREPLY[@]}"'

    ran = subprocess.run(
        ["bash", "--norc", "-c", line], env=environment_with(PATH=path), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip

    assert (sorted(ran.stdout.split()), ran.stderr) == (offered, "")


def test_the_completion_script_can_be_had(bare: Run) -> None:
    ran = subprocess.run(
        [BIN / "till", "--show-completion", "bash"], capture_output=True, text=True, check=False, timeout=60,
        env=environment_with(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
    )  # fmt: skip

    assert ran.returncode == 0
    assert "complete -o default -F _till_completion till" in ran.stdout


def test_a_database_that_is_none_is_json_too(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, status, code in (
        ("postgresql://nobody@127.0.0.1:1/none", 1, "database_unavailable"),
        ("mysql://here/db", 1, "bad_setting"),
    ):
        monkeypatch.setenv("TILL_DATABASE_URL", url)
        ran = bare("--json", "balance", "ann")
        assert (ran.status, ran.out, json.loads(ran.err)["code"]) == (status, "", code)
