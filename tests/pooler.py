"""A real PgBouncer on loopback, before the server that the tests use."""

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

Mode = Literal["session", "transaction"]
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """Takes connections at `url` until the end of the `with` block. It can be killed and started again."""

    def __init__(self, server_url: str, mode: Mode, **settings: object) -> None:
        if PROGRAM is None:
            pytest.skip("no pgbouncer: as root, `make test` installs Debian's package")
        given = conninfo_to_dict(server_url)
        self._folder = Path(tempfile.mkdtemp(prefix="till-pgbouncer-", dir="/tmp"))
        self._folder.chmod(0o777)  # As root, it runs as nobody.
        self._port = _free_port()
        users = self._folder / "users.txt"
        users.write_text(f'"{given.get("user", "postgres")}" ""\n')
        told = {
            "listen_addr": "127.0.0.1", "listen_port": self._port, "unix_socket_dir": "", "pool_mode": mode,
            "auth_type": "trust", "auth_file": users, "max_client_conn": 500, "default_pool_size": 12,
            "query_wait_timeout": 20, **settings,
        }  # fmt: skip
        lines = [f"{name} = {value}" for name, value in told.items()]
        server = f"* = host={given['host']} port={given.get('port', 5432)}"
        self._config = self._folder / "pgbouncer.ini"
        self._config.write_text("\n".join(["[databases]", server, "[pgbouncer]", *lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None
        self._bare_url = f"postgresql://{given.get('user', 'postgres')}@127.0.0.1:{self._port}/postgres"
        self.url = self._bare_url + ("?till_pooler=session" if mode == "session" else "")

    def start(self) -> None:
        # The program runs as root for nobody.
        user = "nobody" if Path("/proc/self").stat().st_uid == 0 else None
        self._process = subprocess.Popen(
            [str(PROGRAM), "-q", str(self._config)], user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            assert self._process.poll() is None, "pgbouncer ended"
            try:
                psycopg.connect(self._bare_url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                continue

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
