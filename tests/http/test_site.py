"""/docs: the site is built from docs/ as `make docs` does, served whole, and every problem's `type` leads into it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.http.conftest import ADMIN_KEY
from tests.test_house_rules import every_error
from tokentill import Till
from tokentill.http import problems
from tokentill.http.app import create_app

REPOSITORY = Path(__file__).parents[2]
OWN = [problems.NO_ROUTE, problems.NO_METHOD, problems.INTERNAL]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    # A proxy where nothing listens: whoever would fetch something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    env = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def client(till: Till, built: Path) -> Iterator[TestClient]:
    with TestClient(create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(), docs=built)) as client:
        yield client


class Page(HTMLParser):
    """What a page loads by itself, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag in ("script", "img", "iframe", "source"):
            self.loads.append(given.get("src", ""))
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href", ""))


@pytest.mark.parametrize("code", [*(kind.code for kind in every_error()), *OWN])
def test_the_type_of_every_problem_leads_to_its_section(client: TestClient, code: str) -> None:
    link = problems._body(500, code, "", "", {})["type"]
    path, _, anchor = str(link).partition("#")

    page = client.get(path)

    assert page.status_code == 200 and page.history
    assert anchor == code and code in Page(page.text).ids


def test_the_type_is_what_an_answer_says(client: TestClient) -> None:
    assert client.get("/nowhere").json()["type"] == "/docs/errors#route_not_found"


def test_every_page_is_in_the_site_and_in_the_navigation(client: TestClient) -> None:
    front = client.get("/docs/").text
    links = {urljoin("/docs/", link) for link in re.findall(r'href="([^"#]+)"', front)}
    for source in (REPOSITORY / "docs").rglob("*.md"):
        page = source.relative_to(REPOSITORY / "docs").with_suffix("").as_posix()
        path = "/docs/" + re.sub(
            r"(^|/)(index|README)$", r"\1", page + "/" if not page.endswith(("index", "README")) else page
        )
        assert client.get(path).status_code == 200, path
        assert path == "/docs/" or path in links, path


def test_no_page_loads_anything_from_elsewhere(client: TestClient, built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > 30
    for file in pages:
        for link in Page(file.read_text("utf-8")).loads:
            assert not re.match(r"(\w+:)?//", link), f"{file.name} loads {link}"
    for file in built.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", file.read_text("utf-8")), file


def test_pages_come_with_headers_and_are_not_sent_twice(client: TestClient) -> None:
    page = client.get("/docs/")

    assert page.headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/docs/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/docs/..%2fapp.py", "/docs/%2e%2e/%2e%2e/pyproject.toml", "/docs//etc/passwd"])
def test_nothing_outside_the_site_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_reference_knows_what_a_program_uses(client: TestClient) -> None:
    ids = Page(client.get("/docs/reference/python/").text).ids

    assert {"tokentill.Till", "tokentill.Till.connect", "tokentill.Till.reconcile"} <= ids


def test_search_has_an_index(client: TestClient) -> None:
    found = client.get("/docs/search/search_index.json").json()["docs"]

    assert any(entry["location"] == "reference/errors/#insufficient_tokens" for entry in found)


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
def test_a_site_that_is_not_built_says_how_to_build_it(till: Till, tmp_path: Path, path: str) -> None:
    client = TestClient(create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(), docs=tmp_path))

    answer = client.get(path)

    assert answer.status_code == 404 and "make docs" in answer.json()["detail"]


def test_the_site_works_where_the_app_is_mounted(till: Till, built: Path) -> None:
    host = FastAPI()
    host.mount("/till", create_app(till, admin_key=ADMIN_KEY, webhook_secrets=(), docs=built))

    assert TestClient(host).get("/till/docs").url.path == "/till/docs/"
    assert TestClient(host).get("/till/docs/errors").url.path == "/till/docs/reference/errors/"
