"""A proxy that speaks enough of PostgreSQL's protocol to cut a connection exactly where it hurts.

It sits between the engine and the server, passes bytes on message by message, and knows for each connection where its
transaction is: it sees a write or a COMMIT whether that comes as a simple query, prepared and bound, or in a pipeline.
At the chosen point of every few batches it cuts both sides. A batch is a transaction that writes.

Source: PostgreSQL's documentation, "Frontend/Backend Protocol".
"""

import contextlib
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict

from tests.conftest import url_of


class Point(StrEnum):
    """Where in a batch the connection is cut."""

    BEFORE_SENDING = "before sending"  # None of its writes has reached the server.
    AFTER_SENDING = "after sending"  # The first write has, the others have not; of a single one, not all its bytes.
    BEFORE_COMMIT = "before COMMIT"  # All of them have, COMMIT has not.
    AFTER_COMMIT = "after COMMIT"  # It is committed, and nothing of that has come back.
    DURING_THE_ANSWER = "during the answer"  # Half of "it is committed" has come back.


_WRITE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|MERGE|COPY|WITH\b.*\b(INSERT|UPDATE|DELETE))\b", re.IGNORECASE | re.DOTALL
)
_BEGIN = re.compile(r"\s*(BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE)
_COMMIT = re.compile(r"(^|;)\s*(COMMIT|END)\b", re.IGNORECASE)
_DONE = re.compile(r"(^|;)\s*(COMMIT|END|ROLLBACK|ABORT)\b(?!\s+TO)", re.IGNORECASE)
_CANCEL = 80877102


class _Cut(Exception):
    """Both sides of this connection are to be closed now, after these last bytes."""

    def __init__(self, last: bytes = b"") -> None:
        self.last = last


class Proxy:
    """Listens in a folder of its own; `url` leads through it to the same database.

    Cuts nothing until `point` is set. `cuts` counts what was cut, point by point.
    """

    def __init__(self, url: str, *, every: int = 3) -> None:
        self._target = conninfo_to_dict(url)
        self._every = every
        self._lock = threading.Lock()
        self._batches: Counter[Point] = Counter()
        self.point: Point | None = None
        self.cuts: Counter[Point] = Counter()
        self._folder = Path(tempfile.mkdtemp(prefix="till-proxy-", dir="/tmp"))
        port = str(self._target.get("port") or "5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / f".s.PGSQL.{port}"))
        self._listener.listen(128)
        rest = {name: str(value) for name, value in self._target.items() if name not in ("host", "hostaddr", "dbname")}
        via = " ".join(f"{name}={value}" for name, value in {"host": str(self._folder), **rest}.items())
        self.url = url_of(via, str(self._target["dbname"]))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_due(self, point: Point) -> bool:
        """Say, once per batch that gets there, whether it is to be cut at this point."""
        with self._lock:
            if self.point is not point:
                return False
            self._batches[point] += 1
            if self._batches[point] % self._every:
                return False
            self.cuts[point] += 1
            return True

    def not_cut(self, point: Point | None) -> None:
        """Take back one that was due: there was nothing to cut after all."""
        with self._lock:
            if point is not None:
                self.cuts[point] -= 1

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # Closed.
                return
            _Connection(self, client, self._reach()).start()

    def _reach(self) -> socket.socket:
        host, port = str(self._target.get("host") or "localhost"), int(str(self._target.get("port") or 5432))
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


class _Connection:
    """One client's connection: two threads, one for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._ended = threading.Lock()
        self._open_ends = 2
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._is_explicit = False  # Between BEGIN and COMMIT; otherwise each Sync, or simple query, commits.
        self._writes = 0  # Of the transaction that is open.
        self._committing: Point | None = None  # Its COMMIT is on its way, and the answer shall not get through whole.
        self._held = b""  # What came back meanwhile,
        self._has_failed = False  # and whether that is an error.

    def start(self) -> None:
        for pump in (self._to_server, self._to_client):
            threading.Thread(target=self._run, args=(pump,), daemon=True).start()

    def _run(self, pump: Callable[[], None]) -> None:
        # However one direction ends, the other has nobody to talk to any more.
        with contextlib.suppress(OSError, _Cut):
            pump()
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._ended:
            self._open_ends -= 1
            is_last = not self._open_ends
        if is_last:
            self._client.close()
            self._server.close()

    # -- from the client --------------------------------------------------------------------------------------------

    def _to_server(self) -> None:
        reader = _Reader(self._client)
        hello = reader.startup()
        if hello is None:
            return
        self._server.sendall(hello)
        if struct.unpack("!i", hello[4:8])[0] == _CANCEL:
            return
        # What arrived together goes on together, unless the cut falls into it.
        passed: list[bytes] = []
        while True:
            message = reader.message(wait=not passed)
            if message is None:
                if not passed:
                    return
                self._server.sendall(b"".join(passed))
                passed = []
                continue
            try:
                self._look_at(message)
            except _Cut as cut:
                self._server.sendall(b"".join(passed) + cut.last)
                raise
            passed.append(message)

    def _look_at(self, message: bytes) -> None:
        """Follow the transaction; raise _Cut if this message must not get through."""
        kind, payload = message[:1], message[5:]
        if kind == b"P":
            name, query = payload.split(b"\0", 2)[:2]
            self._statements[name] = query.decode(errors="replace")
        elif kind == b"B":
            portal, name = payload.split(b"\0", 2)[:2]
            self._portals[portal] = self._statements.get(name, "")
        elif kind == b"E":
            self._about_to_run(self._portals.get(payload.split(b"\0", 1)[0], ""), message)
        elif kind == b"Q":
            self._about_to_run(payload.rstrip(b"\0").decode(errors="replace"), message)
        elif kind == b"S" and not self._is_explicit:
            self._about_to_commit()

    def _about_to_run(self, query: str, message: bytes) -> None:
        is_due, half = self._proxy.is_due, message[: len(message) // 2]
        if _BEGIN.match(query):
            self._is_explicit = True
        if _WRITE.match(query):
            self._writes += 1
            if self._writes == 1 and is_due(Point.BEFORE_SENDING):
                raise _Cut
            if self._is_explicit:
                if self._writes == 2 and is_due(Point.AFTER_SENDING):
                    raise _Cut
            elif is_due(Point.AFTER_SENDING):
                raise _Cut(half)
            elif message[:1] == b"Q":
                if is_due(Point.BEFORE_COMMIT):  # It commits by itself: before that is before it is whole.
                    raise _Cut(half)
                self._about_to_commit()
        elif _COMMIT.search(query):
            if self._writes == 1 and is_due(Point.AFTER_SENDING):  # One statement wrote it all.
                raise _Cut
            self._about_to_commit()
        if _DONE.search(query):
            self._is_explicit, self._writes = False, 0

    def _about_to_commit(self) -> None:
        is_due = self._proxy.is_due
        if self._writes:
            if is_due(Point.BEFORE_COMMIT):
                raise _Cut
            for point in (Point.AFTER_COMMIT, Point.DURING_THE_ANSWER):
                if is_due(point):
                    self._committing = point
        self._writes = 0

    # -- from the server --------------------------------------------------------------------------------------------

    def _to_client(self) -> None:
        reader = _Reader(self._server)
        passed: list[bytes] = []
        while True:
            message = reader.message(wait=not passed)
            if message is None:
                if not passed:
                    return
                self._client.sendall(b"".join(passed))
                passed = []
            elif self._committing is None:
                passed.append(message)
            else:
                self._client.sendall(b"".join(passed))
                passed = []
                self._hold(message)

    def _hold(self, message: bytes) -> None:
        """Once COMMIT was sent, nothing comes back until it has happened; then as much as the point says."""
        self._held += message
        self._has_failed |= message[:1] == b"E" or message[:14] == b"C\0\0\0\x0dROLLBACK\0"
        if message[:1] != b"Z" or message[5:] == b"T":  # Not the end of the transaction yet.
            return
        if self._has_failed:  # The client may know.
            self._proxy.not_cut(self._committing)
            self._committing, self._has_failed = None, False
            self._client.sendall(self._held)
            self._held = b""
            return
        if self._committing is Point.DURING_THE_ANSWER:
            # By turns: half of it, and all but the end of the "ready" that concludes it.
            is_odd = self._proxy.cuts[Point.DURING_THE_ANSWER] % 2
            self._client.sendall(self._held[: len(self._held) // 2] if is_odd else self._held[:-3])
        raise _Cut


class _Reader:
    """Splits what a socket sends into messages: a type of one byte, a length of four that counts itself, the rest."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._bytes = bytearray()

    def startup(self) -> bytes | None:
        """Return the first message, which has no type; None: the other side has gone."""
        return self._take(0) if self._fill(4) and self._fill(self._length(0)) else None

    def message(self, *, wait: bool) -> bytes | None:
        """Return the next message; None: there is none whole (`wait` false), or the other side has gone."""
        if wait:
            if not self._fill(5) or not self._fill(1 + self._length(1)):
                return None
        elif len(self._bytes) < 5 or len(self._bytes) < 1 + self._length(1):
            return None
        return self._take(1)

    def _length(self, at: int) -> int:
        return int.from_bytes(self._bytes[at : at + 4])

    def _fill(self, count: int) -> bool:
        while len(self._bytes) < count:
            chunk = self._end.recv(262_144)
            if not chunk:
                return False
            self._bytes += chunk
        return True

    def _take(self, at: int) -> bytes:
        end = at + self._length(at)
        taken = bytes(self._bytes[:end])
        del self._bytes[:end]
        return taken
