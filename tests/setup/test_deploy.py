"""What deploy/ holds works as far as a machine without docker and systemd's rights can tell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = (DEPLOY / "tokentill.service").read_text("utf-8")
    unit = tmp_path / "tokentill.service"
    unit.write_text(text.replace("/opt/tokentill/bin/till", str(Path(sys.executable).with_name("till"))), "utf-8")

    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)

    own = [line for line in done.stderr.splitlines() if "tokentill" in line]
    assert (done.returncode, own) == (0, []), done.stderr


def test_the_container_file_installs_the_lock_as_the_makefile_does() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    for option in ("--no-deps", "--require-hashes", "--only-binary :all:"):
        assert option in dockerfile and option in (REPOSITORY / "Makefile").read_text("utf-8")
    assert re.search(r"^USER tokentill$", dockerfile, re.MULTILINE)
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for name in copied.split():
            assert (REPOSITORY / name).exists(), name


def test_the_commands_of_the_container_file_make_a_till(tmp_path: Path) -> None:
    """All RUN steps of the first stage, in its order, in a folder of their own."""
    stage = (DEPLOY / "Dockerfile").read_text("utf-8").split("\nFROM ")[1]
    venv, src = tmp_path / "venv", tmp_path / "src"
    src.mkdir()
    for step, rest in re.findall(r"^(COPY|RUN) (.+)$", stage, re.MULTILINE):
        if step == "COPY":
            *names, _ = rest.split()
            for name in names:
                source = REPOSITORY / name
                ignored = shutil.ignore_patterns("site", "__pycache__")
                shutil.copytree(source, src / name, ignore=ignored) if source.is_dir() else shutil.copy(source, src)
            continue
        command = rest.replace("/opt/tokentill", str(venv)).replace("python -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(command, shell=True, cwd=src, capture_output=True, text=True, check=False)  # noqa: S602
        if re.search(r"Max retries|NewConnectionError|Temporary failure", done.stderr):
            pytest.skip("no package index answers")
        assert done.returncode == 0, done.stdout + done.stderr

    assert subprocess.run([venv / "bin/till", "--help"], capture_output=True, check=False).returncode == 0
    assert list(venv.glob("lib/*/site-packages/tokentill/site/index.html"))
