"""`till catalog` and the commands of `till stripe` that sell."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import Clock
from tests.stripe_double import StripeDouble

PRICES = """
[trial]
tokens = 500
days = 14

[plans.vision_pro_28day]
name = "Vision Pro 28-Day"
kind = "drip"
price_cents = 9_900
tokens = 375_000

[packs.mega]
name = "Mega Pack"
price_cents = 24_900
tokens = 5_000_000
"""
THANKS = "https://app.example/thanks"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.toml"
    file.write_text(PRICES, "utf-8")
    return file


@pytest.fixture
def double(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeDouble]:
    with StripeDouble(clock=clock) as double:
        monkeypatch.setenv("TILL_STRIPE_API_KEY", double.api_key)
        monkeypatch.setenv("TILL_STRIPE_API_BASE", double.url)
        yield double


def test_the_catalog_is_shown(till: Run) -> None:
    ran = till("catalog", "show")

    assert ran.status == 0
    for words in ("revision 1", "vision_pro_annual", "drip plan", "$99.00", "12,000,000", "3 cycles"):
        assert words in ran.out
    assert "1,000,000 tokens for 56 days" in ran.out
    assert till("catalog", "show", "--json").json["packs"]["mega"]["price_cents"] == 19_900


def test_a_price_list_is_loaded_once_and_shows_what_it_changes(till: Run, prices: Path) -> None:
    planned = till("catalog", "load", prices, "--dry-run")
    assert planned.status == 0
    assert (
        "pack mega" in planned.out
        and "24,900" in planned.out
        and "true" in planned.out
        and "this was a dry run" in planned.out
    )
    assert till("catalog", "show", "--json").json["revision"] == 1

    loaded, again = till("catalog", "load", prices, "--by", "ann"), till("catalog", "load", prices)
    assert "pack mega" in loaded.out and "The catalog is at revision 2 now." in loaded.out
    assert again.out == "The catalog says so already (revision 2).\n"
    assert "retired" in till("catalog", "show").out

    told = till("catalog", "load", prices, "--json").json
    assert told == {"is_dry_run": False, "revision": 2, "changes": []}


def test_what_is_shown_can_be_loaded_again(till: Run, tmp_path: Path) -> None:
    """JSON is no TOML, but says the same: a list made of the one shown changes nothing."""
    shown = till("catalog", "show", "--json").json
    lines = []
    for kind in ("plans", "packs"):
        for key, offer in shown[kind].items():
            lines += [f"[{kind}.{key}]", *(f"{name} = {json.dumps(value)}" for name, value in offer.items()
                                           if value is not None)]  # fmt: skip
    file = tmp_path / "shown.toml"
    file.write_text("\n".join(lines), "utf-8")

    assert till("catalog", "load", file, "--json").json["changes"] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[packs.mega", "is no TOML: "),
        ('[packs.mega]\nname = "M"\nprice_cents = 1.5\ntokens = 1', "packs.mega.price_cents must be a whole number"),
        ('[packs.mega]\nname = "M"\ntokens = 1', "packs.mega.price_cents is missing."),
        ("[pakcs.mega]", "'pakcs' is not known"),
        ("# Cut off.\n", "is empty: a price list has plans and packs."),
    ],
)
def test_a_wrong_price_list_is_one_clear_line(till: Run, tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(content, "utf-8")

    ran = till("catalog", "load", file)

    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err and ran.err.startswith("till: ") and ran.err.count("\n") == 1


def test_a_price_list_that_is_not_there_is_one_clear_line(till: Run, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in till("catalog", "load", tmp_path / "none.toml").err


def test_a_checkout_prints_where_to_pay(till: Run, double: StripeDouble) -> None:
    pack = till("stripe", "checkout", "ann", "mega", "--success-url", THANKS, "--quantity", 2, "--key", "k")
    plan = till("stripe", "checkout", "ann", "vision_pro_28day", "--success-url", THANKS, "--json").json

    newest, oldest = double.of_kind("checkout.session")
    assert pack.out == f"{oldest['url']}\n"
    assert (oldest["mode"], oldest["amount_total"]) == ("payment", 39_800)
    assert (newest["mode"], newest["id"], plan["url"]) == ("subscription", plan["session_id"], newest["url"])


def test_the_portal_prints_its_address(till: Run, double: StripeDouble, tmp_path: Path) -> None:
    assert "ann is no customer in Stripe yet" in till("stripe", "portal", "ann", "--return-url", THANKS).err

    made = till("stripe", "checkout", "ann", "mega", "--success-url", THANKS, "--json").json
    double.pay(made["session_id"])
    (tmp_path / "events.json").write_text(json.dumps(double.new_events()), "utf-8")
    till("stripe", "replay", tmp_path / "events.json")

    assert till("stripe", "portal", "ann", "--return-url", THANKS).out.startswith("https://billing.stripe.com/")
    assert set(till("stripe", "portal", "ann", "--return-url", THANKS, "--json").json) == {"url"}


def test_syncing_twice_changes_nothing_and_a_dry_run_neither(till: Run, double: StripeDouble) -> None:
    planned = till("stripe", "sync-catalog", "--dry-run")
    assert "would make" in planned.out
    assert "10 would be made in Stripe, 5 would be noted in the catalog (revision 1)." in planned.out
    assert double.objects == {}

    made, again = till("stripe", "sync-catalog"), till("stripe", "sync-catalog", "--json").json
    assert "10 made in Stripe, 5 noted in the catalog (revision 2)." in made.out
    assert again["revision"] == 2
    assert [(step["is_new"], step["is_change"]) for step in again["steps"]] == [(False, False)] * 5


def test_without_a_key_each_of_them_says_what_to_set(till: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILL_STRIPE_API_KEY", raising=False)
    for args in (("checkout", "ann", "mega", "--success-url", THANKS), ("portal", "ann", "--return-url", THANKS),
                 ("sync-catalog",)):  # fmt: skip
        ran = till("stripe", *args)
        assert ran.status == 1
        assert "set TILL_STRIPE_API_KEY" in ran.err
