"""preview, subscription …: from a command line."""

from tests.cli.conftest import Run


def test_a_subscription_is_listed_shown_paused_resumed_and_canceled(till: Run) -> None:
    till("drip", "ann", "gift", "--clock")

    assert "gift" in till("subscription", "list", "ann").out
    assert "by our clock" in till("subscription", "show", "ann", "gift").out
    for act, status in (("pause", "paused"), ("resume", "active"), ("cancel", "canceled")):
        assert status in till("subscription", act, "ann", "gift", "--reason", "asked for", "--by", "eve").out
    listed = till("subscription", "list", "ann", "--json").json
    assert [(one["subscription_id"], one["status"]) for one in listed["subscriptions"]] == [("gift", "canceled")]
    shown = till("subscription", "show", "ann", "gift", "--json").json
    assert (shown["user_id"], shown["status"], shown["cycle_number"]) == ("ann", "canceled", 1)
    for act in ("pause", "cancel"):
        assert till("subscription", act, "ann", "gift", "--json").status == (1 if act == "pause" else 0)


def test_what_cannot_be_done_is_one_line(till: Run) -> None:
    till("drip", "ann", "sub_1")

    refused = till("subscription", "pause", "ann", "sub_1")

    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert till("subscription", "show", "ann", "nothing").err == "till: ann has no subscription 'nothing'.\n"


def test_a_preview_shows_what_is_coming_and_changes_nothing(till: Run) -> None:
    till("drip", "ann", "gift", "--clock")

    assert "1,125,000" in till("preview", "ann", "gift", "--cycles", 2).out
    found = till("preview", "ann", "--json").json
    assert [one["cycle_number"] for one in found["cycles"]] == [2, 3, 4]
    assert till("balance", "ann", "--json").json["balance"] == 375_000
