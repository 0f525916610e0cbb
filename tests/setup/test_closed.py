"""The lock is closed: what it names is all that is needed, on every Python and platform that tokentill is for."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.setup.lock_table import TABLE

REPOSITORY = Path(__file__).parents[2]
EXTRAS = ("embedded", "dev", "docs")

# The first of 3.11 is Debian 12's: some packages draw a line between that and its later releases.
PYTHONS = ["3.11.2", "3.11.14", "3.12.12", "3.13.9", "3.14.0"]
GLIBC = range(36, 16, -1)  # Debian 12's and older.
PLATFORMS = {
    "linux-x86_64": [*(f"manylinux_2_{minor}_x86_64" for minor in GLIBC), "manylinux2014_x86_64", "linux_x86_64"],
    "linux-aarch64": [*(f"manylinux_2_{minor}_aarch64" for minor in GLIBC), "manylinux2014_aarch64", "linux_aarch64"],
    "darwin-arm64": list(mac_platforms((14, 0), "arm64")),
}


def environment(python: str, platform: str) -> dict[str, str]:
    system, _, machine = platform.partition("-")
    return {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_version": python,
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "platform_machine": machine,
        "extra": "",
    }


def tags(python: str, platform: str) -> set[Tag]:
    major, minor = (int(part) for part in python.split(".")[:2])
    platforms = PLATFORMS[platform]
    return {*cpython_tags((major, minor), platforms=platforms), *compatible_tags((major, minor), platforms=platforms)}


def locked(text: str) -> Iterator[tuple[Requirement, set[str]]]:
    """Yield each requirement of a lock and its hashes."""
    for entry in re.split(r"\n(?=\S)", text.strip()):
        requirement, *hashes = re.split(r"\s*\\\n\s+--hash=sha256:", entry)
        yield Requirement(requirement), set(hashes)


def gaps(lock: str, table: list[dict[str, Any]], roots: list[Requirement], python: str, platform: str) -> list[str]:
    """Return what an install of `lock` without resolving would lack on that Python and platform."""
    here, fitting, faults = environment(python, platform), tags(python, platform), []
    rows = {(canonicalize_name(row["name"]), row["version"]): row for row in table}
    pinned: dict[str, dict[str, Any]] = {}
    for requirement, hashes in locked(lock):
        if requirement.marker is not None and not requirement.marker.evaluate(here):
            continue
        name, version = canonicalize_name(requirement.name), str(requirement.specifier).removeprefix("==")
        if name in pinned:
            faults.append(f"{name}: pinned twice")
        row = rows.get((name, version))
        if row is None:
            faults.append(f"{name}=={version}: not in the table; make lock writes both")
            continue
        pinned[name] = row
        if not SpecifierSet(row["requires_python"]).contains(python):
            faults.append(f"{name}=={version}: wants Python {row['requires_python']}")
        wheels = {file: hash_ for file, hash_ in row["wheels"].items() if parse_wheel_filename(file)[3] & fitting}
        if not wheels:
            faults.append(f"{name}=={version}: no wheel")
        faults += [f"{file}: its hash is not in the lock" for file in wheels if wheels[file] not in hashes]

    seen: set[tuple[str, str]] = set()
    waiting = [(root, "") for root in roots]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**here, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in pinned:
            faults.append(f"{requirement}: not pinned")
            continue
        if not requirement.specifier.contains(pinned[name]["version"], prereleases=True):
            faults.append(f"{requirement}: pinned at {pinned[name]['version']}")
        for each in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, each))
            waiting += [(Requirement(needed), each) for needed in pinned[name]["requires"]]
    return [*faults, *(f"{name}: nothing needs it" for name in pinned.keys() - {name for name, _ in seen})]


@pytest.fixture(scope="module")
def lock() -> str:
    return (REPOSITORY / "requirements.lock").read_text("utf-8")


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return list(json.loads(TABLE.read_text("utf-8")))


@pytest.fixture(scope="module")
def roots() -> list[Requirement]:
    """What the project asks for with the extras that are locked, and what builds it."""
    given = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    offered = given["project"]["optional-dependencies"]
    extras = (text for extra in EXTRAS for text in offered[extra])
    asked = [*given["build-system"]["requires"], *given["project"]["dependencies"], *extras]
    return [Requirement(text) for text in asked]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_closed(
    lock: str, table: list[dict[str, Any]], roots: list[Requirement], python: str, platform: str
) -> None:
    assert gaps(lock, table, roots, python, platform) == []


def test_a_gap_is_found(lock: str, table: list[dict[str, Any]], roots: list[Requirement]) -> None:
    """Each planted fault is told: no pin, an old pin, an extra's requirement gone, a hash gone, a row gone."""

    def found(changed: str, rows: list[dict[str, Any]] = table) -> list[str]:
        return gaps(changed, rows, roots, "3.12.12", "linux-x86_64")

    entry = next(entry for entry in re.split(r"\n(?=\S)", lock) if entry.startswith("psycopg-pool"))
    assert any("psycopg-pool" in fault and "not pinned" in fault for fault in found(lock.replace(entry + "\n", "")))
    assert any(
        "its hash is not in the lock" in fault
        for fault in found(re.sub(r"--hash=sha256:\w{8}", "--hash=sha256:00000000", lock))
    )
    fewer = [row for row in table if row["name"] != "anyio"]
    assert any("not in the table" in fault for fault in found(lock, fewer))
    older = [{**row, "version": "0.1"} if row["name"] == "anyio" else row for row in table]
    assert any(
        "pinned at 0.1" in fault
        for fault in found(re.sub(r"^anyio==\S+", "anyio==0.1", lock, flags=re.MULTILINE), older)
    )
