"""`till prices`: looked at, overridden, withdrawn, brought up to date, reckoned with."""

from tests.cli.conftest import Run


def test_a_price_is_set_shown_used_and_withdrawn(till: Run) -> None:
    made = till(
        "prices", "set", "gpt-4o", "--provider", "openai", "--input", "200", "--output", "1,000", "--pool",
        "audio_in=4000", "--from", "2025-01-01", "--note", "our contract", "--json",
    ).json  # fmt: skip
    assert (made["price_id"], made["effective_from"]) == (1_000_001, "2025-01-01T00:00:00Z")
    assert made["prices"] == {"input_uncached": "200", "audio_in": "4000", "output_text": "1000"}

    shown = till("prices", "show", "gpt-4o-2024-08-06")
    assert shown.status == 0
    assert "1000001" in shown.out and "our contract" in shown.out and "input_uncached 250" in shown.out
    used = '{"input_uncached": 1000, "reasoning": 10}'
    assert till("prices", "cost", "gpt-4o", "--pools", used).out == "0.210000 cents, by price 1000001.\n"
    assert till("prices", "list", "--provider", "openai", "--model", "gpt-4o").out.count("override") == 1

    assert till("prices", "withdraw", "gpt-4o", "--provider", "openai").status == 0
    assert till("prices", "cost", "gpt-4o", "--pools", used).out.startswith("0.260000 cents")


def test_a_model_of_ones_own_is_added_and_retired(till: Run) -> None:
    assert till("prices", "add", "our-llama", "--provider", "vllm", "--alias", "llama").out == (
        "vllm our-llama, also called llama (revision 2).\n"
    )
    unknown = till("prices", "cost", "llama", "--pools", '{"input_uncached": 1}')
    assert (unknown.status, unknown.out) == (1, "Not known: no_price.\n")
    assert till("prices", "add", "our-llama", "--provider", "vllm", "--retired").out.endswith(
        "llama, retired (revision 3).\n"
    )


def test_an_update_from_the_same_genai_prices_says_so(till: Run) -> None:
    told = till("prices", "update", "--dry-run", "--json").json

    if told["genai_prices"] == "0.2.3":  # What the first book was seeded from.
        assert (told["rows"], told["changed"], told["revision"]) == (0, [], 1)
        assert till("prices", "update").out == "The book says so already (revision 1).\n"
    assert till("prices", "check").out == "Every call of the last 30 days has its cost.\n"


def test_what_cannot_be_is_one_line(till: Run) -> None:
    for args, status, said in (
        (("show", "nonesuch"), 1, "no model 'nonesuch'; name its --provider"),
        (("set", "gpt-4o", "--provider", "openai"), 2, "at least one pool"),
        (("set", "gpt-4o", "--provider", "openai", "--pool", "x=1"), 2, "--pool is like"),
        (("set", "gpt-4o", "--provider", "openai", "--input", "free"), 2, "cents per million"),
        (("set", "gpt-4o", "--provider", "openai", "--input", "2,50"), 2, "cents per million"),
        (("set", "gpt-4o", "--provider", "openai", "--input", "4", "--pool", "input_uncached=3"), 2, "given twice"),
        (("cost", "gpt-4o", "--pools", "[1]"), 2, "--pools is like"),
        (("cost", "gpt-4o", "--pools", '{"tokens": 1}'), 2, "--pools is like"),
        (("cost", "gpt-4o", "--pools", '{"images": -1}'), 2, "images must be"),
        (("update", "--max-change", "x"), 2, "--max-change"),
    ):
        ran = till("prices", *args)
        assert (ran.status, ran.err.count("\n"), said in ran.err) == (status, 1, True), (args, ran)
