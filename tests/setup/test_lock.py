"""Set-up keeps working: the lock has every wheel's hash, and is installed without resolving anything."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "requirements.lock"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# The command that sets up, as the Makefile has it.
LOCKED = re.findall(r"^LOCKED := (.+)$", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)[0].split()
OLD = ["install", "--require-hashes", "--requirement"]  # What it was, and failed with as soon as a package was newer.


def environment(python: str, **more: str) -> dict[str, str]:
    return {**default_environment(), "python_version": python, "python_full_version": f"{python}.0", **more}  # type: ignore[dict-item]  # texts all


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each requirement of the lock with its hashes."""
    joined = LOCK.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [
        (Requirement(line.split(" --hash=")[0].strip()), re.findall(r"--hash=sha256:(\w+)", line)) for line in lines
    ]


def pins(env: dict[str, str]) -> dict[str, str]:
    """The version that the lock names for each package, on such a machine."""
    found: dict[str, str] = {}
    for requirement, _ in locked():
        if requirement.marker is None or requirement.marker.evaluate(env):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is locked twice"
            found[name] = next(iter(requirement.specifier)).version
    return found


def pip(*arguments: str | Path, program: tuple[str, ...] = ("-m", "pip")) -> subprocess.CompletedProcess[str]:
    quiet = ("--disable-pip-version-check", "--no-input")
    command = [sys.executable, *program, *map(str, arguments), *quiet]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def require_index(done: subprocess.CompletedProcess[str]) -> None:
    """Skip where no package index answers."""
    if re.search(r"connection|Temporary failure|Max retries|timed out|ProxyError", done.stderr, re.IGNORECASE):
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("python", PYTHONS[1:])  # The first one is what these tests run on, or near enough.
def test_every_wheel_that_another_python_needs_is_in_the_lock(python: str, tmp_path: Path) -> None:
    env = environment(python)
    wanted = [(each, hashes) for each, hashes in locked() if each.marker is None or each.marker.evaluate(env)]
    # Without markers: pip reads those for the Python that it runs on.
    lines = [
        f"{each.name}{each.specifier} " + " ".join(f"--hash=sha256:{one}" for one in hashes) for each, hashes in wanted
    ]
    (tmp_path / "lock").write_text("\n".join(lines))
    manylinux = [f"manylinux_2_{minor}_{os.uname().machine}" for minor in (34, 28, 27, 24, 17, 12, 5)]
    platforms = [
        option for name in (*manylinux, f"manylinux2014_{os.uname().machine}") for option in ("--platform", name)
    ]

    report = tmp_path / "report"
    dry = ("--dry-run", "--ignore-installed", "--quiet", "--report", report, "--target", tmp_path / "there")
    elsewhere = ("--python-version", python, "--implementation", "cp", *platforms)
    done = pip(*LOCKED, tmp_path / "lock", *dry, *elsewhere)

    require_index(done)
    found = json.loads(report.read_text("utf-8"))["install"]
    assert {canonicalize_name(each["metadata"]["name"]) for each in found} == pins(env).keys()


def wheel(folder: Path, name: str, version: str, *requires: str) -> str:
    """Make a small wheel; return the sha256 of it."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {each}" for each in requires),
    ]
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "\n".join([*metadata, "Provides-Extra: toml", ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(file, "w") as archive:
        record = []
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(text)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder index that holds a newer version of a package that is locked, and that another wants with an extra."""
    index = tmp_path / "index"
    index.mkdir()
    lines = [
        f"measure==1.0 --hash=sha256:{wheel(index, 'measure', '1.0')}",
        f"runner==1.0 --hash=sha256:{wheel(index, 'runner', '1.0', 'measure[toml]>=1.0')}",
    ]
    wheel(index, "measure", "2.0")
    wheel(index, "runner", "2.0", "measure[toml]>=2.0")
    (tmp_path / "lock").write_text("\n".join(lines))
    return tmp_path


def installed(folder: Path) -> set[str]:
    return {path.name.removesuffix(".dist-info") for path in (folder / "there").glob("*.dist-info")}


@pytest.mark.parametrize("version", ["==23.0", "==23.2.1", ""])
def test_newer_versions_in_the_index_change_nothing(newer: Path, version: str, tmp_path: Path) -> None:
    require_index(pip("download", "--no-deps", "--dest", tmp_path / "pip", "pip" + version))
    program = (str(next((tmp_path / "pip").glob("*.whl")) / "pip"),)
    offline = ("--no-index", "--find-links", newer / "index", "--target", newer / "there")

    done = pip(*LOCKED, newer / "lock", *offline, program=program)

    assert done.returncode == 0, done.stderr
    assert installed(newer) == {"measure-1.0", "runner-1.0"}
    if version == "==23.2.1":  # That the fault is in this index, and seen by the command that set-up once was.
        assert "must have their versions pinned" in pip(*OLD, newer / "lock", *offline, program=program).stderr


def test_uv_installs_the_lock_as_well(newer: Path) -> None:
    require_index(pip("install", "--quiet", "--only-binary", ":all:", "--target", newer / "uv", "uv"))
    uv = str(newer / "uv" / "bin" / "uv")
    offline = ("--no-index", "--find-links", newer / "index", "--target", newer / "there")
    command = [uv, "pip", *LOCKED, newer / "lock", *offline]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    assert installed(newer) == {"measure-1.0", "runner-1.0"}
