"""migrate, serve, reconcile, doctor and the ways in which a database can be wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest

import tokentill
from tests.cli.conftest import Run
from tests.http.conftest import row_counts
from tokentill import Till
from tokentill.cli.doctor import masked
from tokentill.settings import Settings

MANY = ("balance", "ann"), ("grant", "ann", "5"), ("reconcile",), ("stripe", "replay", "."), ("drip", "--due")


def test_the_version_is_said(bare: Run) -> None:
    assert bare("--version").out == f"till {tokentill.__version__}\n"


def test_nothing_at_all_is_answered_with_help(bare: Run) -> None:
    for args in ([], ["stripe"]):
        ran = bare(*args)
        assert (ran.status, ran.out) == (2, "")
        assert "Commands:" in ran.err


def test_a_database_is_migrated_once(bare: Run, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_DATABASE_URL", empty_database)

    before = bare("balance", "ann")
    first, second = bare("migrate"), bare("migrate")

    assert (before.status, before.err) == (
        1, "till: The database has no tokentill schema yet: run `till migrate`.\n"
    )  # fmt: skip
    assert first.out.startswith("applied 0001_accounts\n")
    assert second.out == "The schema is up to date.\n"
    assert bare("migrate", "--json").json == {"applied": [], "profiles": None}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://here/db", "TILL_DATABASE_URL must be a URL like"),
        ("postgresql://nobody@127.0.0.1:1/none", "PostgreSQL does not answer"),
        ("postgresql://u:sw0rdfish@127.0.0.1:1/none", "PostgreSQL does not answer"),
        ("postgresql://[", "TILL_DATABASE_URL"),
    ],
)
def test_a_wrong_url_is_one_clear_line(bare: Run, monkeypatch: pytest.MonkeyPatch, url: str, words: str) -> None:
    monkeypatch.setenv("TILL_DATABASE_URL", url)

    for args in (*MANY, ("migrate",), ("serve", "--port", "0")):
        ran = bare(*args)
        assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1), (args, ran)
        assert ran.err.startswith("till: ") and words in ran.err
        assert "sw0rdfish" not in ran.err
    doctor = bare("doctor")
    assert doctor.status == 1
    assert words in doctor.out and "sw0rdfish" not in doctor.out


def test_a_database_of_a_newer_version_is_left_alone(till: Run, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("INSERT INTO till_migrations (number, name, checksum) VALUES (9999, '9999_future', '')")
    before = row_counts(database)

    for args in (*MANY, ("migrate",)):
        ran = till(*args)
        assert (ran.status, ran.err.count("\n")) == (1, 1), args
        assert "migrated by a newer tokentill (it has 9999_future)" in ran.err
    assert "newer tokentill" in till("doctor").out

    assert row_counts(database) == before


def test_right_books_are_proved(till: Run) -> None:
    till("grant", "ann", 10)

    assert till("reconcile").out == (
        "The books are proved: 1 account, 1 lot, 1 transaction, 0 drips, 0 usage rows, 0 holds; nothing disagrees.\n"
    )
    assert till("reconcile", "--json").json["is_proved"] is True


def test_wrong_books_are_shown(till: Run, database: str) -> None:
    till("grant", "ann", 10)
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE token_accounts SET balance = balance + 1")

    ran = till("reconcile")
    found = till("reconcile", "--json")

    assert ran.status == found.status == 1
    assert "Findings" in ran.out and "balance 11" in ran.out
    assert found.json["is_proved"] is False
    assert {"sum", "end"} <= {finding["check"] for finding in found.json["findings"]}
    doctor = till("doctor", "--json")
    assert doctor.status == 1
    assert [check["name"] for check in doctor.json["checks"] if check["state"] == "red"] == ["books"]


def test_the_doctor_finds_a_healthy_till_well(till: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_ADMIN_KEY", "a-secret-admin-key-xyz")
    monkeypatch.setenv("TILL_STRIPE_WEBHOOK_SECRET", "whsec_hidden,whsec_other")
    monkeypatch.setenv("TILL_STRIPE_API_KEY", "sk_test_hidden")
    till("grant", "ann", 10)

    shown, found = till("doctor"), till("doctor", "--json")

    assert shown.status == 0
    assert "secret-admin" not in shown.out + found.out and "hidden" not in shown.out + found.out
    assert found.json["is_well"] is True
    states = {check["name"]: check["state"] for check in found.json["checks"]}
    assert set(states) == {
        "database setting", "admin key", "webhook secret", "Stripe API key", "database", "durability", "schema",
        "Stripe inbox", "Stripe mode", "price book", "findings", "jobs", "books",
    }  # fmt: skip
    assert states["books"] == states["schema"] == states["Stripe API key"] == "green"
    assert "test, by the settings" in shown.out  # The key says so: TILL_STRIPE_MODE is not set.


def test_the_doctor_knows_whether_the_fallback_has_a_price(till: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_UNKNOWN_MODEL", "fallback")

    def price_book(fallback: str) -> tuple[str, str]:
        monkeypatch.setenv("TILL_FALLBACK_MODEL", fallback)
        [check] = [check for check in till("doctor", "--json").json["checks"] if check["name"] == "price book"]
        return check["state"], check["found"]

    assert price_book("openai/gpt-4o")[0] == "green"
    assert price_book("openai/gtp-4o")[0] == "red"


def test_the_doctor_reads_bad_settings(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_ADMIN_KEY", "short")

    ran = bare("doctor", "--json")

    assert ran.status == 1
    assert "TILL_ADMIN_KEY" in ran.json["checks"][0]["found"] and "short" not in ran.out.replace("shorter", "")


@pytest.mark.parametrize("hours", ["23", "0", "-72", "72.5", "three days", "1e3", "9999999"])
def test_keys_of_usage_cannot_be_kept_for_less_than_a_day(
    till: Run, monkeypatch: pytest.MonkeyPatch, hours: str
) -> None:
    monkeypatch.setenv("TILL_USAGE_KEY_HOURS", hours)

    ran = till("worker", "--once")

    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "TILL_USAGE_KEY_HOURS is a whole number of hours, at least 24" in ran.err


def test_keys_of_usage_are_kept_as_the_setting_says(database: str) -> None:
    for environ, hours in (({}, 72), ({"TILL_USAGE_KEY_HOURS": "24"}, 24), ({"TILL_USAGE_KEY_HOURS": ""}, 72)):
        with Till.connect(settings=Settings.read({"TILL_DATABASE_URL": database, **environ})) as opened:
            assert opened.context.usage_keys_kept == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d?sslmode=require&password=pw", "postgresql://u@h/d?sslmode=require&password=***"),
        ("postgresql://u:p%40w:x@h/d", "postgresql://u:***@h/d"),
        ("postgresql:///d?host=/run/pg&sslpassword=pw", "postgresql:///d?host=/run/pg&sslpassword=***"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


def serve(database: str, *args: str, **environ: str) -> "subprocess.Popen[str]":
    src = str(Path(tokentill.__file__).parents[1])
    env = {**os.environ, "TILL_DATABASE_URL": database, "PYTHONPATH": src, **environ}
    return subprocess.Popen(
        [sys.executable, "-m", "tokentill.cli", "serve", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_says_where_it_listens_and_stops_when_told(database: str, stop: signal.Signals) -> None:
    with serve(database, "--port", "0", TILL_ADMIN_KEY="an-admin-key-for-tests") as server:
        assert server.stdout is not None and server.stderr is not None
        said = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", server.stdout.readline())
        assert said is not None
        headers = {"Authorization": "Bearer an-admin-key-for-tests"}
        with httpx2.Client(base_url=said[1], headers=headers) as client:
            ready = client.get("/readyz")
            body = {"user_id": "ann", "tokens": 5, "reason": "hello"}
            granted = client.post("/api/admin/users/adjust-tokens", json=body)
        server.send_signal(stop)
        assert server.wait(timeout=20) == 0
        complaints = server.stderr.read()

    assert (ready.status_code, granted.status_code) == (200, 200)
    assert "Traceback" not in complaints


def test_a_port_that_is_taken_is_one_clear_line(till: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = till("serve", "--port", taken.getsockname()[1])

    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "Cannot listen on 127.0.0.1:" in ran.err


def test_every_answer_of_json_is_one_document(till: Run) -> None:
    till("grant", "ann", 10)
    for args in ["balance", "ann"], ["history", "ann"], ["reconcile"], ["doctor"], ["migrate"], ["drip", "--due"]:
        json.loads(till(*args, "--json").out)
