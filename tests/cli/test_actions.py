"""`till actions`: what serves an action and how it is charged; and a spend with all that is known of its call."""

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_actions_are_shown_set_and_switched_off(till: Run, tmp_path: Path) -> None:
    listed = till("actions", "list")
    assert "25 tokens a call" in listed.out and "input and output x 1" in listed.out
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Be kind. ✓", "utf-8")
    given = ("actions", "set", "chat_conversation", "--model", "gpt-5", "--provider", "openai", "--temperature", 0.7,
             "--max-tokens", 2_000, "--system-prompt-file", prompt, "--model-multiplier", "o3=2.50")  # fmt: skip

    planned, done, again = till(*given, "--dry-run"), till(*given, "--by", "ann"), till(*given)

    assert "Nothing was changed: this was a dry run." in planned.out and "o3=2.5" in planned.out
    assert "chat_conversation is at revision 2 now: input and output x 1, o3 x 2.5." in done.out
    assert again.out == "The action says so already (revision 2).\n"
    shown = till("actions", "show", "chat_conversation")
    assert "Be kind. ✓" in shown.out and "by ann, revision 2" in shown.out
    assert till("actions", "show", "chat_conversation", "--at", "2026-01-01", "--json").json["model"] is None

    by_cost = till("actions", "set", "chat_conversation", "--charge", "cost_plus", "--markup", "1.5",
                   "--cents-per-million-tokens", 5_000, "--model-multiplier", "o3=", "--empty", "system_prompt",
                   "--json").json  # fmt: skip
    assert [change["field"] for change in by_cost["changes"]] == [
        "system_prompt", "charge", "model_multipliers", "markup", "cents_per_million_tokens",
    ]  # fmt: skip
    assert "cost x 1.5 at 5000 cents a million tokens" in till("actions", "show", "chat_conversation").out

    till("grant", "ann", "100")
    off = till("actions", "deactivate", "chat_conversation", "--json").json
    assert [(change["field"], change["after"]) for change in off["changes"]] == [("is_active", False)]
    assert "is switched off" in till("spend", "ann", "1", "chat_conversation").err
    assert " off\n" in till("actions", "list").out
    till("actions", "set", "chat_conversation", "--active")
    assert till("spend", "ann", "1", "chat_conversation").status == 0


def test_a_wrong_action_is_one_clear_line(till: Run, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xe9")
    for args, status, words in (
        (("show", "no_such"), 1, "There is no AI action 'no_such'."),
        (("deactivate", "no_such"), 1, "There is no AI action 'no_such'."),
        (("set", "No"), 2, "An action's key is of a-z"),
        (("set", "essay", "--charge", "cost_plus"), 2, "needs markup: 1.5 charges"),
        (("set", "essay", "--model-multiplier", "o3"), 2, "takes MODEL=X"),
        (("set", "essay", "--model-multiplier", "o3=much"), 2, "model_multipliers.o3 must be a number"),
        (("set", "essay", "--empty", "colour"), 2, "'colour' is not known"),
        (("set", "essay", "--system-prompt", "a", "--system-prompt-file", "b"), 2, "not both"),
        (("set", "essay", "--system-prompt-file", tmp_path / "none"), 2, "cannot be read: No such file"),
        (("set", "essay", "--system-prompt-file", tmp_path / "latin"), 2, "is not UTF-8"),
        (("set", "chat_conversation", "--revision", 7), 1, "it is at revision 1"),
        (("set", "essay", "--charge", "free"), 2, "'--charge': 'free' is not one of 'metered'"),
    ):
        ran = till("actions", *args)
        assert (ran.status, ran.out) == (status, ""), args
        assert words in ran.err and ran.err.count("\n") == 1, ran.err


def test_a_spend_keeps_all_that_is_said_of_its_call(till: Run) -> None:
    till("grant", "ann", "1000")
    metadata = json.dumps({"chat": 7})

    by_rule = till(
        "spend", "ann", "-", "chat_conversation", "--model", "gpt-5", "--input-tokens", 60, "--output-tokens", 40,
        "--pools", '{"input_uncached": 60, "output_text": 40}', "--cost", "0.3", "--provider", "openai",
        "--service-tier", "flex", "--request-id", "req_1", "--occurred-at", "2026-01-01T09:30", "--metadata", metadata,
        "--estimated", "--on-insufficient", "record",
    )  # fmt: skip
    failed = till("spend", "ann", "-", "chat_conversation", "--error", "timeout", "--input-tokens", 60)

    assert by_rule.out.startswith("Spent 100 tokens") and failed.out.startswith("Spent 0 tokens")
    newest, older = till("history", "ann", "--json").json["entries"][:2]
    assert (newest["detail"]["success"], newest["detail"]["error_message"]) == (False, "timeout")
    assert older["effective_at"] == "2026-01-01T09:30:00Z"
    assert older["detail"] == {
        "model_used": "gpt-5", "input_tokens": 60, "output_tokens": 40, "cost_estimate": "0.300000", "success": True,
        "pools": {"input_uncached": 60, "output_text": 40}, "estimated": True, "provider_request_id": "req_1",
        "provider": "openai", "service_tier": "flex", "metadata": {"chat": 7}, "late": True,
    }  # fmt: skip
    assert till("spend", "ann", "-", "image_generation").out.startswith("Spent 25 tokens")
    assert "--metadata must be a JSON object" in till("spend", "ann", "1", "chat_conversation", "--metadata", "7").err
