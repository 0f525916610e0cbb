"""grant, deduct, spend, drip, balance, history: tokens from a command line."""

import psycopg

from tests.cli.conftest import Run
from tests.http.conftest import row_counts


def test_tokens_are_granted_and_shown(till: Run) -> None:
    assert till("grant", "ann", "1,000,000", "--reason", "welcome").out == (
        "Granted 1,000,000 tokens. ann: 0 → 1,000,000 (row 1).\n"
    )
    till("grant", "ann", "500", "--expires", "2126-12-31")

    shown = till("balance", "ann")
    assert shown.status == 0
    assert "1,000,500" in shown.out
    assert "500 on 2126-12-31 00:00 UTC" in shown.out
    found = till("balance", "ann", "--json").json
    assert (found["user_id"], found["balance"], found["next_expiry_at"]) == ("ann", 1_000_500, "2126-12-31T00:00:00Z")
    assert [lot["lot"] for lot in found["lots"]] == [2, 1]


def test_each_command_answers_in_json(till: Run) -> None:
    granted = till("grant", "ann", 1000, "--json").json
    deducted = till("deduct", "ann", 100, "--reason", "oops", "--json").json
    spent = till("spend", "ann", 50, "chat_conversation", "--model", "gpt-5", "--json").json
    dripped = till("drip", "ann", "sub_1", "--json").json
    entries = till("history", "ann", "--json").json["entries"]

    assert [row["tokens"] for row in (granted, deducted, dripped)] == [1000, -100, 375_000]
    assert spent["tokens_used"] == 50
    assert [entry["tokens"] for entry in entries] == [375_000, -50, -100, 1000]
    assert granted["id"].endswith("-1") and granted["user_id"] == "ann" and granted["created_at"].endswith("Z")
    assert till("drip", "--due", "--json").json == {"cycles": 0, "tokens": 0, "receipts": [], "failures": []}


def test_an_admin_is_named_in_the_audit_log(till: Run, database: str) -> None:
    till("grant", "ann", 10, "--by", "eve")
    till("deduct", "ann", 1)

    with psycopg.connect(database) as conn:
        actors = [actor for (actor,) in conn.execute("SELECT actor FROM audit_log ORDER BY seq")]
    assert actors[0] == "eve"
    assert actors[1].startswith("cli:")


def test_a_key_makes_it_happen_once(till: Run) -> None:
    till("grant", "ann", 10, "--key", "k")
    again = till("grant", "ann", 10, "--key", "k")
    other = till("grant", "ann", 11, "--key", "k")

    assert again.status == 0
    assert "nothing was written now" in again.out
    assert till("grant", "ann", 10, "--key", "k", "--json").json["replayed"] is True
    assert (other.status, other.err.count("\n")) == (1, 1)


def test_force_takes_more_than_there_is(till: Run) -> None:
    till("grant", "ann", 10)

    refused = till("deduct", "ann", 30)
    forced = till("deduct", "ann", 30, "--force")

    assert (refused.status, refused.err) == (1, "till: Asked for 30 tokens; 10 are available, 20 too few.\n")
    assert (forced.status, forced.out) == (0, "Deducted 30 tokens. ann: 10 → -20 (row 2).\n")
    assert "debt" in till("balance", "ann").out


def test_a_cycle_is_dripped_once(till: Run) -> None:
    first, second = till("drip", "ann", "sub_1"), till("drip", "ann", "sub_1", "--cycle", 1)

    assert first.out == "Dripped 375,000 tokens. ann: 0 → 375,000 (row 1).\n"
    assert "nothing was written now" in second.out
    assert "wait for that" in till("drip", "ann", "sub_1", "--cycle", 2).err


def test_the_journal_is_shown_in_pages(till: Run) -> None:
    for tokens in (1, 2, 3):
        till("grant", "ann", tokens, "--reason", f"gift {tokens}")

    page = till("history", "ann", "--limit", 2).out
    assert "gift 3" in page and "gift 2" in page and "gift 1" not in page
    assert "1 earlier row: --before 2" in page
    assert "gift 1" in till("history", "ann", "--limit", 2, "--before", 2).out


def test_what_a_user_wrote_cannot_drive_the_terminal(till: Run) -> None:
    till("grant", "a\x1b[2Jb", 1, "--reason", "[red]x[/red]\x1b[31m")

    shown = till("history", "a\x1b[2Jb").out
    assert "\x1b" not in shown
    assert "[red]x[/red]\\x1b[31m" in shown


BAD = [
    (["grant", "ann", "-5"], "No such option"),
    (["grant", "ann", "0"], "tokens must be from 1"),
    (["grant", "ann", "1.5"], "must be a whole number"),
    (["grant", "ann", "1e3"], "must be a whole number"),
    (["grant", "ann", "many"], "must be a whole number"),
    (["grant", "ann", "9007199254740992"], "tokens must be from"),
    (["grant", "ann", "1" * 5000], "must be a whole number"),
    (["grant", "", "5"], "1 to 255 characters"),
    (["grant", "x" * 256, "5"], "this one has 256"),
    (["grant", "a\x00b", "5"], "NUL"),
    (["grant", "ann", "5", "--expires", "soon"], "must be a date or time"),
    (["grant", "ann", "5", "--expires", "2020-01-01"], "lies in the past"),
    (["grant", "ann", "5", "--expires", "0001-01-01T00:00+14:00"], "exists in UTC"),
    (["grant", "ann", "5", "--reason", "x" * 2001], "at most 2,000"),
    (["grant", "ann", "5", "--key", ""], "1 to 255 characters"),
    (["grant", "ann", "5", "--by", ""], "--by is missing"),
    (["grant", "ann"], "Missing argument 'TOKENS'"),
    (["spend", "ann", "5", "time_travel"], "No AI action 'time_travel'"),
    (["spend", "ann", "5", "chat_conversation", "--on-insufficient", "ignore"], "--on-insufficient"),
    (["spend", "ann", "5", "chat_conversation", "--input-tokens", "x"], "--input-tokens"),
    (["drip"], "Name a USER and a SUBSCRIPTION"),
    (["drip", "ann"], "Name a USER and a SUBSCRIPTION"),
    (["drip", "ann", "sub", "--due"], "--due is for everybody"),
    (["drip", "ann", "sub", "--cycle", "0"], "cycle_number must be from 1"),
    (["history", "ann", "--limit", "0"], "limit must be from 1"),
    (["serve", "--port", "99999"], "--port"),
    (["nonsense"], "No such command"),
]


def test_what_can_never_work_is_one_line_and_writes_nothing(till: Run, database: str) -> None:
    till("grant", "ann", 10)
    before = row_counts(database)

    for args, words in BAD:
        ran = till(*args)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), (args, ran)
        assert ran.err.startswith("till: ") and words in ran.err, (args, ran.err)
    for what in ("balance", "history"):
        ran = till(what, "nobody")
        assert (ran.status, ran.err) == (1, "till: nobody has no account.\n")

    assert row_counts(database) == before
