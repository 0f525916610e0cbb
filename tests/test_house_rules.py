"""The house rules that a machine can hold: the arrows, where SQL lives, where time comes from, what errors promise.

Each rule is a function from a tree of files to what is wrong in it. It is put to this repository, and to a small tree
with a planted fault, so that a rule which has gone blind fails as well. Every rule has a named way out: a table below
whose entries say why.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tokentill import errors
from tokentill.errors import TillError

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "tokentill"

BELOW_EDGES = {"tokentill", "till", "services", "engine", "core", "errors", "settings", "ids", "tuning"}
EDGES = {"http", "admin", "portal", "worker", "cli", "stripe", "demo", "bench"}

# Which part may import which others, beside itself. "tokentill" is what `from tokentill import …` offers.
MAY_IMPORT = {
    "errors": set(),
    "ids": set(),
    "settings": {"errors"},
    "tuning": set(),
    "core": {"errors"},
    "store": {"core", "errors"},
    "engine": {"store", "core", "errors"},
    "services": {"engine", "store", "core", "errors"},
    "till": {"services", "engine", "store", "core", "errors", "settings", "ids"},  # Puts the others together.
    "tokentill": {"till", "errors"},
    "client": set(),
    "samples": set(),
    "meter": {"client", "core", "errors"},
} | {
    edge: EDGES | {"tokentill", "till", "services", "engine", "core", "errors", "settings", "ids", "tuning", "samples"}
    for edge in EDGES
}

# Which room of the core may import which others. What lies at the core's top is the ground, which all may import and
# which imports no room.
CORE_ROOMS_MAY_IMPORT: dict[str, set[str]] = {
    "ledger": set(),
    "plans": set(),
    "usage": set(),
    "prices": {"usage"},
    "stripe": {"plans", "ledger"},
}

# What an edge may take from the store: reads, values, and what happens before there is a till. Never a write.
EDGES_MAY_IMPORT_FROM_STORE = {
    "tokentill.store.reports": "reads go straight to the reports",
    "tokentill.store.journal.Receipt": "a value: what a write answers",
    "tokentill.store.inbox.InboxEvent": "a value: an event as it was received",
    "tokentill.store.inbox.STATES": "the names of its states",
    "tokentill.store.findings.OpenFinding": "a value: what does not fit",
    "tokentill.store.db.Conn": "a type",
    "tokentill.store.migrate": "`till migrate`, and whether the schema is current",
    "tokentill.store.profiles": "`till migrate` again: which table of the host's is kept in step",
    "tokentill.store.embedded": "somebody has to start the server",
    "tokentill.store.demo_database": "made for the demo",
    "tokentill.store.jobs.queue_arguments": "procrastinate connects by itself",
}

FILES_MAY_IMPORT = {
    ("cli/about.py", "tokentill.store"): "asks which PostgreSQL there is; no till is open",
    ("cli/doctor.py", "tokentill.store"): "examines databases on which no till would open; it only reads",
    (
        "till/base.py",
        "tokentill.stripe.calling",
    ): "the till is handed Stripe's API; connect() makes it from the settings",
    ("till/tokens.py", "tokentill.meter"): "hands itself to the meter",
    ("client/clients.py", "tokentill.meter"): "hands itself to the meter",
    ("bench/metering.py", "tokentill.meter"): "measures what it adds to a call",
    ("bench/metering.py", "tokentill.client"): "the same over HTTP",
}

# Parts of the standard library that touch the world: nothing for the core.
WORLDLY = {
    "asyncio", "concurrent", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip

# Below the edges, time and ids come in from outside.
CLOCKS_AND_CHANCE = re.compile(
    r"datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today|time\.(time|time_ns|localtime|gmtime)"
    r"|uuid\.uuid[1-9]|os\.urandom|(random|secrets)(\..+)?"
)
CLOCKS_AND_CHANCE_ALLOWED = {
    ("engine/lane.py", "random"): "jitter between retries; nothing rests on it",
    ("engine/lane.py", "random.Random"): "the same",
}

SQL_ALLOWED = {
    "bench": "it fills, measures and compares: none of that is the till's own work, and baselines read alone",
}

SQL = re.compile(r"\b(SELECT|INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+[\w.\"]+\s+SET)\s")

STATUSES = {
    errors.InvalidRequest: 422,
    errors.BadSignature: 400,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.MalformedBody: 400,
    errors.Unauthorized: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Insufficient: 402,
    errors.Unavailable: 503,
    errors.Misconfigured: 500,
    errors.TillError: 500,
}

# In pieces, or this file would name what it forbids.
UNWANTED = {
    "a package registry": re.compile(r"pypi" + r"\.org|python" + r"hosted\.org|https?://\S+/" + r"simple\b"),
    "an index option": re.compile(r"^\s*--(extra-)?" + r"index-url|^\s*--find" + r"-links", re.MULTILINE),
    "somebody's machine": re.compile(r"(?<![\w.~$}>-])/(root|work|workspace|home/\w+|Users/\w+|opt/py\w+)" + r"/\w"),
}


# --- Reading Python ---


def python_files(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package), ast.parse(path.read_text("utf-8"))


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to: its folder, or its name where it lies at the top."""
    first = path.parts[0].removesuffix(".py")
    return "tokentill" if first == "__init__" else first


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, full dotted name) of all that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = ["tokentill", *path.parts[:-1]][: len(path.parts) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def names_used(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, full dotted name) of what a file imports, and of what it uses of that: `time.time`, `os.environ`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from imports(path, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            attributes, base = [node.attr], node.value
            while isinstance(base, ast.Attribute):
                attributes.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name) and base.id in known:
                yield node.lineno, ".".join([known[base.id], *reversed(attributes)])


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string that is no docstring; an f-string with `x` where values go."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(pieces)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


# --- The rules ---


def arrow_faults(package: Path) -> list[str]:
    """Edges → services → engine → store → core → errors, and never back."""
    parts = {part_of(path.relative_to(package)) for path in package.rglob("*.py")}
    faults = [f"{part}: say in MAY_IMPORT what it may import" for part in sorted(parts - MAY_IMPORT.keys())]
    for path, tree in python_files(package):
        part = part_of(path)
        for line, name in imports(path, tree):
            root, _, rest = name.partition(".")
            if root != "tokentill":
                continue
            target = rest.split(".")[0]
            target = target if target in parts or target in MAY_IMPORT else "tokentill"
            if target == part or target in MAY_IMPORT.get(part, parts):
                continue
            if part in EDGES and reaches(name, EDGES_MAY_IMPORT_FROM_STORE):
                continue
            if any(path.as_posix() == file and reaches(name, [allowed]) for file, allowed in FILES_MAY_IMPORT):
                continue
            faults.append(f"{path}:{line}: {part} may not import {name}")
    return faults


def room_faults(package: Path) -> list[str]:
    """Stripe → plans and ledger, prices → usage, all → the ground; the ledger imports no other room."""
    core = package / "core"
    rooms = {path.parent.relative_to(core).parts[0] for path in core.rglob("*.py") if path.parent != core}
    faults = [f"core/{room}: say in CORE_ROOMS_MAY_IMPORT what it may import" for room in sorted(rooms - known_rooms())]
    for path, tree in python_files(package):
        if path.parts[0] != "core":
            continue
        room = path.parts[1] if len(path.parts) > 2 else None
        for line, name in imports(path, tree):
            target = name.removeprefix("tokentill.core.").split(".")[0] if name.startswith("tokentill.core.") else None
            may_import = CORE_ROOMS_MAY_IMPORT.get(room, known_rooms()) if room else set()
            if target in known_rooms() - may_import - {room}:
                faults.append(f"{path}:{line}: {room or 'the ground'} may not import {name}")
    return faults


def known_rooms() -> set[str]:
    return set(CORE_ROOMS_MAY_IMPORT)


def reaches(name: str, allowed: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


CORE_MAY_IMPORT = {
    ("core/values.py", "msgspec"): "makes the values of the hot path in C; touches nothing but what it is given",
}


def impure_core_faults(package: Path) -> list[str]:
    """The core imports the standard library's harmless half, errors, and itself."""
    faults = []
    for path, tree in python_files(package):
        for line, name in imports(path, tree) if part_of(path) == "core" else ():
            root = name.split(".")[0]
            if (path.as_posix(), root) in CORE_MAY_IMPORT:
                continue
            if root != "tokentill" and (root not in sys.stdlib_module_names or root in WORLDLY):
                faults.append(f"{path}:{line}: the core may not import {root}")
    return faults


def clock_faults(package: Path) -> list[str]:
    """No clock and no chance below the edges: `at` and ids come in."""
    faults = set()
    for path, tree in python_files(package):
        for line, name in names_used(path, tree) if part_of(path) in {"core", "store", "engine", "services"} else ():
            allowed = (path.as_posix(), name) in CLOCKS_AND_CHANCE_ALLOWED
            if CLOCKS_AND_CHANCE.fullmatch(name) and not allowed:
                faults.add(f"{path}:{line}: {name}; let it come in from the edge, as `at` or `new_id` do")
    return sorted(faults)


def environment_faults(package: Path) -> list[str]:
    """Only settings.py reads the environment."""
    faults = set()
    for path, tree in python_files(package):
        for line, name in names_used(path, tree) if path.as_posix() != "settings.py" else ():
            if re.match(r"os\.(environb?|getenvb?)\b", name):
                faults.add(f"{path}:{line}: {name}; make it a setting")
    return sorted(faults)


def sql_faults(package: Path) -> list[str]:
    """The store is the only place with SQL."""
    return sorted(
        {
            f"{path}:{line}: SQL; its place is a function of the store"
            for path, tree in python_files(package)
            if part_of(path) != "store" and part_of(path) not in SQL_ALLOWED
            for line, text in texts(tree)
            if SQL.search(text)
        }
    )


def error_faults(kinds: list[type[TillError]], reference: str) -> list[str]:
    """Every error has a code of its own, and a heading with its HTTP status in the reference, which has no others."""
    parts = re.split(r"^## (\w+)\n", reference, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    faults = [f"{code}: documented, but no error has it" for code in sections.keys() - {kind.code for kind in kinds}]
    owners: dict[str, type[TillError]] = {}
    for kind in kinds:
        if "code" not in vars(kind):
            faults.append(f"{kind.__name__}: has no code of its own")
            continue
        if kind.code in owners:
            faults.append(f"{kind.code}: is both {owners[kind.code].__name__} and {kind.__name__}")
        owners[kind.code] = kind
        status = next(STATUSES[branch] for branch in kind.__mro__ if branch in STATUSES)
        if kind.code not in sections:
            faults.append(f"{kind.code}: is no heading in docs/reference/errors.md")
        elif f"HTTP {status}." not in sections[kind.code]:
            faults.append(f"{kind.code}: its section does not say HTTP {status}")
    return faults


def address_faults(root: Path, files: list[str]) -> list[str]:
    """No file names a package registry or a path on somebody's machine."""
    faults = []
    for name in files:
        text = (root / name).read_text("utf-8", errors="replace")
        for what, pattern in UNWANTED.items():
            if found := pattern.search(text):
                line = text.count("\n", 0, found.start()) + 1
                faults.append(f"{name}:{line}: names {what}: {found.group().strip()}")
    return faults


def repository_files(root: Path) -> list[str]:
    """What is in git or would be with `git add`; where there is no git, what an archive of the sources holds."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
    else:
        tops = ("src", "tests", "docs", ".ci")
        paths = [*root.glob("[!.]*"), *root.glob(".git*"), *(path for top in tops for path in (root / top).rglob("*"))]
        names = [path.relative_to(root).as_posix() for path in paths if path.suffix != ".pyc"]
    return [name for name in names if (root / name).is_file()]


# --- This repository ---

RULES = [arrow_faults, room_faults, impure_core_faults, clock_faults, environment_faults, sql_faults]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(rule: Callable[[Path], list[str]]) -> None:
    assert rule(PACKAGE) == []


def test_every_error_has_its_own_code_and_is_documented_with_its_status() -> None:
    reference = (REPOSITORY / "docs" / "reference" / "errors.md").read_text("utf-8")

    assert error_faults(every_error(), reference) == []


def test_the_tree_in_errors_py_shows_every_error() -> None:
    drawn = set(re.findall(r"^ *[*x+] (\w+)", errors.__doc__ or "", re.MULTILINE))

    assert drawn == {kind.__name__ for kind in every_error()}


def test_no_file_names_a_registry_or_a_machine() -> None:
    files = repository_files(REPOSITORY)

    assert "pyproject.toml" in files
    assert address_faults(REPOSITORY, files) == []


def every_error() -> list[type[TillError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TillError)]


# --- Planted faults ---


@pytest.mark.parametrize(
    ("rule", "file", "line"),
    [
        (arrow_faults, "core/lots.py", "from tokentill.store import keys"),
        (arrow_faults, "core/lots.py", "from ..store.keys import insert"),
        (arrow_faults, "core/lots.py", "from tokentill import Till"),
        (arrow_faults, "core/lots.py", "def f():\n    import tokentill.engine.lane"),
        (arrow_faults, "store/keys.py", "from tokentill.engine import Engine"),
        (arrow_faults, "engine/lane.py", "from tokentill.services import dripping"),
        (arrow_faults, "services/dripping.py", "from tokentill.http import app"),
        (arrow_faults, "http/usage.py", "from tokentill.store.journal import write"),
        (arrow_faults, "http/usage.py", "from tokentill.store import reports, accounts"),
        (arrow_faults, "client/sync.py", "from tokentill.core.lots import Lot"),
        (arrow_faults, "errors.py", "from tokentill import core"),
        (arrow_faults, "novelty.py", ""),
        (room_faults, "core/ledger/lots.py", "from tokentill.core.plans.catalog import CYCLE"),
        (room_faults, "core/ledger/lots.py", "from tokentill.core import usage"),
        (room_faults, "core/usage/pools.py", "from ..prices import book"),
        (room_faults, "core/keys.py", "from tokentill.core.ledger.lots import Lot"),
        (room_faults, "core/novelty/new.py", ""),
        (impure_core_faults, "core/lots.py", "import psycopg"),
        (impure_core_faults, "core/lots.py", "from os import path"),
        (clock_faults, "core/lots.py", "from datetime import datetime\nNOW = datetime.now()"),
        (clock_faults, "store/keys.py", "import datetime as dt\nNOW = dt.datetime.now(dt.UTC)"),
        (clock_faults, "services/dripping.py", "from time import time"),
        (clock_faults, "engine/lane.py", "import uuid\nnew_id = uuid.uuid4"),
        (clock_faults, "engine/lane.py", "import random\nrandom.shuffle([])"),
        (environment_faults, "store/db.py", "import os\nurl = os.environ['URL']"),
        (environment_faults, "cli/app.py", "from os import getenv"),
        (sql_faults, "services/dripping.py", "def f(conn):\n    conn.execute('SELECT 1 FROM token_lots')"),
        (sql_faults, "http/app.py", "def f(conn, table):\n    conn.execute(f'UPDATE {table} SET balance = 0')"),
        (sql_faults, "engine/lane.py", "SQL = '''\n    INSERT INTO token_keys\n'''"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, rule: Callable[[Path], list[str]], file: str, line: str) -> None:
    plant(tmp_path, file, line)

    assert len(rule(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("http/usage.py", "from tokentill.store import reports\nfrom tokentill.store.reports import balance"),
        ("http/usage.py", "from tokentill import Till, __version__"),
        ("cli/doctor.py", "from tokentill.store import books"),
        ("services/dripping.py", '"""Never writes SELECT 1 FROM anything."""'),
        ("core/lots.py", "from datetime import UTC, datetime\nEND = datetime.max.replace(tzinfo=UTC)"),
        ("core/lots.py", "from . import account\nfrom .account import Account"),
        ("core/stripe/offers.py", "from tokentill.core.plans.catalog import Plan\nfrom tokentill.core.keys import Key"),
        ("engine/lane.py", "import random\njitter = random.Random(0)"),
        ("settings.py", "import os\nurl = os.environ['URL']"),
        ("bench/filling.py", "ROWS = 'SELECT 1 FROM token_usage'"),
    ],
)
def test_what_is_allowed_is_not_called_a_fault(tmp_path: Path, file: str, line: str) -> None:
    plant(tmp_path, file, line)

    assert [fault for rule in RULES for fault in rule(tmp_path)] == []


def plant(package: Path, file: str, text: str) -> None:
    """Make a small package that keeps every rule but for this file."""
    for name in ("__init__.py", "errors.py", "core/account.py"):
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (package / file).parent.mkdir(parents=True, exist_ok=True)
    (package / file).write_text(text, "utf-8")


def test_faults_in_errors_are_found() -> None:
    class Torn(errors.Conflict):
        code = "torn"

    class AlsoTorn(errors.NotFound):
        code = "torn"

    class Nameless(errors.NotFound):
        pass

    right = "# Errors\n\n## torn\n\nHTTP 409. It is torn.\n"
    assert error_faults([Torn], right) == []
    assert error_faults([Torn], "# Errors\n") == ["torn: is no heading in docs/reference/errors.md"]
    assert error_faults([Torn], right.replace("409", "404")) == ["torn: its section does not say HTTP 409"]
    assert error_faults([Torn], right + "## worn\n\nHTTP 409.\n") == ["worn: documented, but no error has it"]
    assert "torn: is both Torn and AlsoTorn" in error_faults([Torn, AlsoTorn], right)
    assert error_faults([Torn, Nameless], right) == ["Nameless: has no code of its own"]


@pytest.mark.parametrize(
    "text",
    [
        "see https://" + "pypi" + ".org/project/x",
        "url = 'https://files.python" + "hosted.org/packages'",
        "get it from https://mirror.example/pypi/" + "simple/x",
        "ok\n--index" + "-url somewhere",
        "open('/ro" + "ot/notes.txt')",
        "cd /wo" + "rk/main",
        "cp x /ho" + "me/ann/x",
    ],
)
def test_an_address_that_should_not_be_there_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.md").write_text(text, "utf-8")

    assert len(address_faults(tmp_path, ["notes.md"])) == 1


def test_ordinary_paths_and_links_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("/var/lib/tokentill, ~/code/x, https://docs.example/code/x, /v1/users", "utf-8")

    assert address_faults(tmp_path, ["notes.md"]) == []


def test_git_lists_what_is_new_and_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("secret\n", "utf-8")
    (tmp_path / "secret").touch()
    (tmp_path / "new.py").touch()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    assert sorted(repository_files(tmp_path)) == [".gitignore", "new.py"]
