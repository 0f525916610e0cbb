"""hold, renew, capture, void, holds: tokens set aside from a command line."""

from tests.cli.conftest import Run
from tests.http.conftest import row_counts


def test_a_hold_is_placed_renewed_and_captured(till: Run) -> None:
    till("grant", "ann", 1000)
    placed = till("hold", "ann", "400", "chat_conversation", "--ttl", 60, "--model", "gpt-5", "--key", "k")
    hold = placed.out.split()[-1]

    assert placed.out.startswith("ann: 400 tokens placed until ")
    assert "nothing was written now" in till("hold", "ann", 400, "chat_conversation", "--ttl", 60, "--model", "gpt-5",
                                             "--key", "k").out  # fmt: skip
    assert till("renew", "ann", hold, "--ttl", 3600).out.startswith("ann: 400 tokens placed until ")
    shown = till("holds", "ann").out
    assert hold in shown and "Held: 400 tokens; available: 600." in shown
    assert "held" in till("balance", "ann").out
    assert till("capture", "ann", hold, 250).out == "Captured 250 tokens. ann: 1,000 → 750 (row 2).\n"
    assert "nothing was written now" in till("capture", "ann", hold).out
    assert "held" not in till("balance", "ann").out
    assert hold not in till("holds", "ann").out
    assert "captured" in till("holds", "ann", "--all").out


def test_each_command_answers_in_json(till: Run) -> None:
    till("grant", "ann", 1000)
    placed = till("hold", "ann", 400, "chat_conversation", "--json").json
    other = till("hold", "ann", 100, "chat_conversation", "--json").json
    renewed = till("renew", "ann", placed["id"], "--ttl", 86400, "--json").json
    listed = till("holds", "ann", "--json").json
    captured = till("capture", "ann", placed["id"], "--input-tokens", 30, "--output-tokens", 12, "--json").json
    voided = till("void", "ann", other["id"], "--json").json

    assert (placed["user_id"], placed["state"], placed["tokens"], placed["replayed"]) == ("ann", "placed", 400, False)
    assert renewed["expires_at"] > placed["expires_at"]
    assert (listed["user_id"], listed["held"]) == ("ann", 500)
    assert [each["id"] for each in listed["holds"]] == [placed["id"], other["id"]]
    assert (captured["tokens_used"], captured["balance_after"], captured["hold_id"]) == (42, 958, placed["id"])
    assert (voided["state"], voided["id"]) == ("voided", other["id"])


def test_what_is_held_cannot_be_taken(till: Run) -> None:
    till("grant", "ann", 1000)
    hold = till("hold", "ann", 400, "chat_conversation", "--json").json["id"]

    for args in (["spend", "ann", 601, "chat_conversation"], ["deduct", "ann", 601]):
        ran = till(*args)
        assert (ran.status, ran.err) == (1, "till: Asked for 601 tokens; 600 are available, 1 too few.\n")
    assert till("capture", "ann", hold, 1001, "--on-insufficient", "refuse").status == 1
    assert till("capture", "ann", hold, 1001).out.endswith("1,000 → -1 (row 2).\n")


def test_what_cannot_be_done_is_one_line_and_writes_nothing(till: Run, database: str) -> None:
    till("grant", "ann", 1000)
    till("grant", "bob", 1000)
    hold = till("hold", "ann", 400, "chat_conversation", "--json").json["id"]
    before = row_counts(database)

    for status, args, words in (
        (2, ["hold", "ann", 0, "chat_conversation"], "tokens must be from 1"),
        (2, ["hold", "ann", 1, "time_travel"], "No AI action"),
        (2, ["hold", "ann", 1, "chat_conversation", "--ttl", 0], "ttl must be from 1 second"),
        (2, ["hold", "ann", 1, "chat_conversation", "--ttl", 86_401], "24 hours"),
        (2, ["renew", "ann", hold, "--ttl", "soon"], "--ttl"),
        (2, ["capture", "ann", hold, "many"], "must be a whole number"),
        (2, ["capture", "ann"], "Missing argument 'HOLD'"),
        (1, ["hold", "eve", 1, "chat_conversation"], "eve has no account"),
        (1, ["holds", "eve"], "eve has no account"),
        (1, ["void", "bob", hold], "bob has no hold"),
        (1, ["void", "ann", "hold_x"], "ann has no hold 'hold_x'"),
        (1, ["capture", "ann", "00000000-0000-7000-8000-000000000000"], "no hold"),
    ):
        ran = till(*args)
        assert (ran.status, ran.out, ran.err.count("\n")) == (status, "", 1), (args, ran)
        assert ran.err.startswith("till: ") and words in ran.err, (args, ran.err)

    assert row_counts(database) == before
