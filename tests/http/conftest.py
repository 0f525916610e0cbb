"""An app over a till on a fresh database, and a client that carries its admin key."""

from collections.abc import Iterator

import psycopg
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tokentill import Till
from tokentill.http.app import create_app

ADMIN_KEY = "an-admin-key-for-tests"
SECRET = "whsec_for_tests"


@pytest.fixture
def app(till: Till) -> FastAPI:
    return create_app(till, admin_key=ADMIN_KEY, webhook_secrets=("whsec_older", SECRET))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        yield client


def told(
    client: TestClient, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, object, dict[str, str]]:
    """What is answered, but for what differs from request to request: status, body, headers."""
    answer = client.request(method, path, content=body, headers=headers)
    said = answer.json() if answer.content else None
    if isinstance(said, dict):
        said.pop("request_id", None)
        assert answer.headers["x-request-id"].startswith("req_")
    heads = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    return answer.status_code, said, heads


def row_counts(url: str) -> dict[str, int]:
    """How many rows each table has: equal before and after means that nothing was written."""
    with psycopg.connect(url) as conn:
        sql = """
            SELECT oid::regclass::text FROM pg_class
             WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
        """
        tables = [name for (name,) in conn.execute(sql).fetchall()]
        found = {}
        for name in tables:
            row = conn.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()
            assert row is not None
            found[name] = row[0]
        return found
