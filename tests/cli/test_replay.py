"""`till stripe replay`: events from files, as if Stripe sent them again."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.conftest import START
from tests.http.conftest import row_counts
from tokentill.samples.stripe import checkout_pack
from tokentill.stripe.replaying import read


def pack(number: int, *, days: int = 0) -> dict[str, Any]:
    at = START + timedelta(days=days)
    return checkout_pack(session_id=f"cs_test_{number}", at=at, user_id="ann", event_id=f"evt_{number}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Events out of order in files of each kind, with two that are broken."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.json").write_text(json.dumps(pack(1, days=5)))
    (tmp_path / "b.jsonl").write_text(
        json.dumps(pack(2, days=4)) + "\n\n" + "{oops\n" + json.dumps(pack(3, days=1)) + "\n"
    )
    (tmp_path / "sub" / "c.json").write_text(json.dumps([pack(4, days=3), 7, pack(5, days=2)]))
    (tmp_path / "sub" / "d.json").write_text(json.dumps({"object": "list", "data": [pack(6)]}))
    (tmp_path / "notes.txt").write_text("no events here")
    return tmp_path


def test_a_folder_is_told_in_the_order_it_happened(folder: Path) -> None:
    found = list(read([folder]))

    assert [item.event["id"] if item.event else item.place for item in found] == [
        "evt_6", "evt_3", "evt_5", "evt_4", "evt_2", "evt_1", f"{folder}/b.jsonl:3", f"{folder}/sub/c.json:2",
    ]  # fmt: skip


def test_files_are_told_in_the_order_they_are_named(folder: Path) -> None:
    found = list(read([folder / "b.jsonl", folder / "a.json"]))

    assert [item.event and item.event["id"] for item in found] == ["evt_2", None, "evt_3", "evt_1"]


def test_one_broken_line_does_not_stop_the_rest(till: Run, folder: Path) -> None:
    ran = till("stripe", "replay", folder)

    assert ran.status == 1
    lines = ran.out.splitlines()
    assert lines[0] == "handled    evt_6  checkout.session.completed  pack power for ann, $99.00"
    assert lines[6].startswith(f"malformed  {folder}/b.jsonl:3  -  This is not JSON")
    assert lines[7] == f"malformed  {folder}/sub/c.json:2  -  This is JSON, but not an object."
    assert till("balance", "ann", "--json").json["balance"] == 12_000_000


def test_events_happen_once_however_often_they_come(till: Run, folder: Path) -> None:
    first, second = (till("stripe", "replay", folder / "a.json", "--json").json for _ in range(2))

    assert (
        first
        == second
        == [
            {
                "place": str(folder / "a.json"),
                "state": "handled",
                "event_id": "evt_1",
                "type": "checkout.session.completed",
                "detail": "pack power for ann, $99.00",
            }
        ]
    )
    assert till("balance", "ann", "--json").json["balance"] == 2_000_000


def test_a_dry_run_says_what_would_happen_and_touches_nothing(till: Run, database: str, folder: Path) -> None:
    before = row_counts(database)

    ran = till("stripe", "replay", folder / "a.json", "--dry-run")

    assert ran.out == "would do   evt_1  checkout.session.completed  pack power for ann, $99.00\n"
    assert row_counts(database) == before


BAD = {
    "empty.json": b"",
    "text.json": b"hello",
    "number.json": b"7",
    "nul.json": b'{"id": "evt_1", "type": "x", "data": "\\u0000"}',
    "surrogate.json": b'{"id": "evt_1", "type": "x", "data": "\\ud800"}',
    "latin.json": b'{"id": "evt_1", "type": "x", "data": "\xe9"}',
    "infinite.json": b'{"id": "evt_1", "type": "x", "data": 1e999}',
    "deep.json": b"[" * 200_000,
    "no_event.json": b"{}",
    "no_type.json": b'{"id": "evt_1"}',
}


def test_what_is_no_event_is_said_and_not_stored(till: Run, database: str, tmp_path: Path) -> None:
    for name, content in BAD.items():
        (tmp_path / name).write_bytes(content)
    before = row_counts(database)

    ran = till("stripe", "replay", tmp_path, tmp_path / "missing.json", "--json")

    assert ran.status == 1
    assert [outcome["state"] for outcome in ran.json] == ["malformed"] * 11
    assert {Path(outcome["place"]).name for outcome in ran.json} == {*BAD, "missing.json"}
    assert ran.json[-1]["detail"] == "No such file or directory"
    assert row_counts(database) == before


def test_what_failed_is_an_exit_status_of_1(till: Run, tmp_path: Path) -> None:
    (tmp_path / "unclear.json").write_text('{"id": "evt_1", "type": "invoice.paid", "created": 1767614400}')

    ran = till("stripe", "replay", tmp_path)

    assert ran.status == 1
    assert ran.out.startswith("failed     evt_1  invoice.paid  ")
    assert till("doctor").status == 1


def test_an_empty_folder_is_said(till: Run, tmp_path: Path) -> None:
    ran = till("stripe", "replay", tmp_path)

    assert (ran.status, ran.out) == (0, "There is no event in these files.\n")
