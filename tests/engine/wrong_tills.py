"""Two tills as people write them by hand, both wrong. A test of exactness that passes them proves nothing.

    python -m tests.engine.wrong_tills check_then_decrement URL     serves POST /v1/usage, as wrong as it is

Both are right as long as nobody else asks at the same time, and both use transactions: that is why they get written.
"""

import json
import sys
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import psycopg
from psycopg_pool import ConnectionPool

CONNECTIONS = 20


class WrongTill(ABC):
    """One account in two tables of its own. `spend` says whether it sold the tokens."""

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, timeout=60, open=True)
        self._pool.wait()

    @staticmethod
    def set_up(url: str, balance: int) -> None:
        with psycopg.connect(url) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS wrong_account (balance bigint NOT NULL)")
            conn.execute("CREATE TABLE IF NOT EXISTS wrong_usage (tokens bigint NOT NULL)")
            conn.execute("TRUNCATE wrong_account, wrong_usage")
            conn.execute("INSERT INTO wrong_account VALUES (%s)", [balance])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    @abstractmethod
    def spend(self, tokens: int) -> bool: ...


class CheckThenDecrement(WrongTill):
    """Reads the balance, and takes from it if there is enough: two who read before either writes both may."""

    def spend(self, tokens: int) -> bool:
        with self._pool.connection() as conn:
            (balance,) = conn.execute("SELECT balance FROM wrong_account").fetchone() or (0,)
            if balance < tokens:
                return False
            conn.execute("UPDATE wrong_account SET balance = balance - %s", [tokens])
            conn.execute("INSERT INTO wrong_usage VALUES (%s)", [tokens])
            return True


class InsertThenCheck(WrongTill):
    """Writes first and rolls back when the sum is too much: what others have not committed is in nobody's sum."""

    def spend(self, tokens: int) -> bool:
        with self._pool.connection() as conn:
            conn.execute("INSERT INTO wrong_usage VALUES (%s)", [tokens])
            sql = "SELECT (SELECT balance FROM wrong_account) - (SELECT sum(tokens) FROM wrong_usage)"
            (left,) = conn.execute(sql).fetchone() or (0,)
            if left < 0:
                conn.rollback()
                return False
            return True


WRONG_TILLS: dict[str, type[WrongTill]] = {
    "check_then_decrement": CheckThenDecrement,
    "insert_then_check": InsertThenCheck,
}


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


def _serve(till: WrongTill) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_sold = till.spend(asked["tokens"])
            body = json.dumps({"seq": 0} if is_sold else {"code": "insufficient_tokens"}).encode()
            self.send_response(201 if is_sold else 402)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the base class
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201  whoever started us reads it
    server.serve_forever()


if __name__ == "__main__":
    with WRONG_TILLS[sys.argv[1]](sys.argv[2]) as opened:
        _serve(opened)
