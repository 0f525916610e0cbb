"""What README and the how-tos tell a newcomer to type, typed word for word.

Ports are changed to free ones, and the model is asked on this machine; nothing else is another than on the page.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.meter import providers
from tests.stripe_double import StripeDouble
from tokentill.ids import utc_now

REPOSITORY = Path(__file__).parents[2]
KEY = "choose-a-long-one"


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block(page: str, language: str, holding: str) -> str:
    (found,) = (each for each in blocks(page, language) if holding in each)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(database: str, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TILL_DATABASE_URL": database, **more}


@contextmanager
def running(command: str, ready: str, env: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run a command of a page until the end of the block; lend what it said when it was ready."""
    with subprocess.Popen(
        ["bash", "-c", f"exec env {command}"], env=env, cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            heard = ""
            for line in process.stdout:
                heard += line
                if ready in line:
                    break
            else:
                pytest.fail(f"{command} ended:\n{heard}")
            yield line
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_the_five_lines_of_python_print_what_they_say(database: str, tmp_path: Path) -> None:
    code = block("README.md", "python", "Till.connect()  # starts")

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(database),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    (said,) = re.findall(r"print\(.*\)  # (\d+)", code)
    assert done.stdout == f"{said}\n" and done.stderr == ""


def test_the_service_takes_its_first_spend_on_a_fresh_till(database: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    serve = block("README.md", "sh", "till serve").strip()
    calls = block("README.md", "sh", "curl -X POST localhost:8480/v1/usage").strip().split("\n\n")
    env = environment(database)
    with running(f"{serve} --port 0", "listening on ", env, tmp_path) as said:
        port = said.strip().rsplit(":", 1)[1]
        answers = []
        for call in (*calls, calls[1]):
            ready = call.replace("localhost:8480", f"127.0.0.1:{port}")
            done = subprocess.run(["bash", "-c", f"{ready} -sS"], env=env, capture_output=True, text=True, check=True)
            answers.append(json.loads(done.stdout))

    given, spent, balance, again = answers
    assert given["balance_after"] == 10_000
    assert (spent["tokens_used"], spent["balance_after"]) == (1_250, 8_750)
    assert balance["available"] == 8_750
    assert again == spent


def asked(url: str, path: str, **params: Any) -> httpx2.Response:
    return httpx2.post(url + path, params=params, timeout=60)


@contextmanager
def served(page: str, file: str, database: str, folder: Path, **env: str) -> Iterator[str]:
    """Write a page's app to its file, serve it as the page says, and lend its address."""
    (folder / file).write_text(block(page, "python", f"# {file}\n"))
    port = free_port()
    given = environment(database, TILL_ADMIN_KEY=KEY, **env)
    command = f"uvicorn {file.removesuffix('.py')}:app --port {port}"
    with running(command, "Uvicorn running", given, folder):
        yield f"http://127.0.0.1:{port}"


def test_the_app_in_thirty_lines_meters_and_refuses(database: str, tmp_path: Path) -> None:
    with providers.serving() as openai, served(
        "README.md", "app.py", database, tmp_path, OPENAI_API_KEY="sk-made-up", OPENAI_BASE_URL=f"{openai.url}/v1"
    ) as url:  # fmt: skip
        poor = asked(url, "/ask/carol", question="How are you?")
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"user_id": "carol", "tokens": 100_000, "reason": "welcome"}
        assert httpx2.post(f"{url}/till/api/admin/users/adjust-tokens", json=body, headers=headers).status_code == 200
        rich = asked(url, "/ask/carol", question="How are you?")

    assert poor.status_code in (402, 404), poor.text
    assert poor.json()["code"] in ("insufficient_tokens", "account_not_found")
    assert rich.status_code == 200, rich.text
    assert rich.json()["answer"] and 0 < rich.json()["tokens_left"] < 100_000


def test_the_page_about_mounting_is_an_app_that_works(database: str, tmp_path: Path) -> None:
    page = "docs/how-to/mount-into-your-own-app.md"
    with served(page, "main.py", database, tmp_path, TILL_STRIPE_WEBHOOK_SECRET="whsec_made_up_for_this") as url:
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"user_id": "carol", "tokens": 100, "reason": "welcome"}
        assert httpx2.post(f"{url}/till/api/admin/users/adjust-tokens", json=body, headers=headers).status_code == 200
        assert httpx2.get(f"{url}/me/carol").json() == {"tokens": 100}
        assert asked(url, "/title/carol").json() == {"tokens_left": 75}
        refused = [asked(url, "/title/carol") for _ in range(4)][-1]
        unsigned = httpx2.post(f"{url}/till/api/stripe/webhook", content=b"{}")

    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_tokens")
    assert unsigned.status_code == 400


def test_the_first_hour_from_the_first_tokens_to_proved_books(database: str, tmp_path: Path) -> None:
    """Every block in its order, but for the installation; Stripe and the model are on this machine."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    page, secret = "docs/tutorial/first-hour.md", "whsec_made_up_for_this"
    first, catalog, question, buying, paid, proving = blocks(page, "sh")
    (tmp_path / "prices.toml").write_text(block(page, "toml", "# prices.toml\n"))
    port = free_port()

    with providers.serving() as openai, StripeDouble(clock=utc_now) as stripe:
        env = environment(
            database, TILL_ADMIN_KEY=KEY, TILL_STRIPE_WEBHOOK_SECRET=secret, TILL_STRIPE_API_KEY=stripe.api_key,
            TILL_STRIPE_API_BASE=stripe.url, OPENAI_API_KEY="sk-made-up", OPENAI_BASE_URL=f"{openai.url}/v1",
        )  # fmt: skip

        def typed(commands: str) -> str:
            ready = re.sub(r"localhost:8000", f"127.0.0.1:{port}", commands).replace("curl ", "curl -sS -w '\\n' ")
            done = subprocess.run(
                ["bash", "-ec", ready], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
            return done.stdout

        said = typed(first)
        assert said.count("nothing was written now") == 1 and "750" in said
        assert "small" in typed(catalog)
        (run,) = blocks(page, "sh run")
        command = run.strip().splitlines()[-1].replace("8000", str(port))
        (tmp_path / "shop.py").write_text(block(page, "python", "# shop.py\n"))
        with running(command, "Uvicorn running", env, tmp_path):
            answer, balance = map(json.loads, typed(question).splitlines())
            assert answer["answer"] and 0 <= balance["tokens"] < 750
            assert json.loads(typed(buying))["pay_at"].startswith("https://checkout.stripe.com/")
            (session,) = (each for each in stripe.objects.values() if each["object"] == "checkout.session")
            stripe.pay(session["id"])
            letters = stripe.deliver(f"http://127.0.0.1:{port}/till/api/stripe/webhook", secret)
            assert all(letter.status == 200 for letter in letters)
            assert json.loads(typed(paid))["tokens"] == balance["tokens"] + 50_000
        assert "nothing disagrees" in typed(proving)
