"""The pages about the command line and the settings say what there is, no more and no less."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.cli.conftest import Run
from tokentill import settings
from tokentill.cli.app import app
from tokentill.cli.examples import EXAMPLES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def sections(page: str) -> dict[str, str]:
    """The text under each heading of the second level."""
    parts = re.split(r"^## (.+)$", (REFERENCE / page).read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command as it is typed, with its long options."""
    waiting = [("till", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        if below := getattr(command, "commands", None):
            waiting += [(f"{name} {word}", each) for word, each in below.items()]
        if not below or (getattr(command, "invoke_without_command", False) and name != "till"):
            options = [option for param in command.params for option in (*param.opts, *param.secondary_opts)]
            yield name, [option for option in options if option.startswith("--")]


def test_every_command_has_a_section_that_names_its_options() -> None:
    told = {name: text for name, text in sections("cli.md").items() if name.startswith("till ")}

    assert set(told) == {name for name, _ in commands()}
    for name, options in commands():
        for option in options:
            assert option in told[name] or option in ("--json", "--help"), f"{name} {option}"


def test_every_command_has_help_and_json(bare: Run) -> None:
    for name, options in commands():
        assert "--json" in options, name
        ran = bare(*name.split()[1:], "--help")
        assert ran.status == 0
        assert max(map(len, ran.out.splitlines())) <= 80, name
        assert len(ran.out.split("\n\n")[1].strip()) > 10, name


def test_every_command_has_an_example_in_its_help_and_on_its_page(bare: Run) -> None:
    told = sections("cli.md")

    assert set(EXAMPLES) == {name for name, _ in commands()}
    for name, example in EXAMPLES.items():
        assert example.startswith(f"{name}"), name
        assert f"\n{example}\n" in told[name], name
        assert f"Example:\n    {example}\n" in bare(*name.split()[1:], "--help").out, name


# What the examples are about, before they are run; the others make it in their order.
GROUND = "grant alice 5,000", "drip alice sub_0", "prices add my-model --provider own"
NEEDS = {  # Whatever is no question of how the line is written: exit status 1.
    "till stripe show", "till stripe ignore", "till stripe payment", "till stripe preview-refund",
    "till stripe checkout", "till stripe portal", "till stripe sync-catalog", "till findings close",
}  # fmt: skip
ENDLESS = {"till demo", "till serve", "till doctor"}  # Run by tests of their own.


def test_the_examples_work(till: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events").mkdir()
    (tmp_path / "prices.toml").write_text('[packs.mega]\nname = "M"\nprice_cents = 1\ntokens = 1\n', "utf-8")
    for line in GROUND:
        assert till(*line.split()).status == 0, line

    for name, example in EXAMPLES.items():
        if name in ENDLESS or name.startswith("till bench"):
            continue
        words = shlex.split(example)[1:]
        if "HOLD" in words:
            words[words.index("HOLD")] = till("hold", "alice", 400, "chat_conversation", "--json").json["id"]
        ran = till(*words)
        assert ran.status == (1 if name in NEEDS else 0), (example, ran)


def test_the_examples_that_take_long_can_be_read() -> None:
    for name, example in EXAMPLES.items():
        command: Any = typer.main.get_command(app)
        words = shlex.split(example)[1:]
        for word in name.split()[1:]:
            command = command.commands[word]
        command.make_context(name, words[len(name.split()) - 1 :])


def test_every_setting_has_a_section() -> None:
    read = set(re.findall(r"TILL_[A-Z_]+", Path(settings.__file__).read_text("utf-8")))

    assert set(sections("settings.md")) == read


@pytest.mark.parametrize("page", ["cli.md", "settings.md", "http-api.md"])
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([\w-]+\.md)(?:#[\w-]+)?\)", (REFERENCE / page).read_text("utf-8")):
        assert (REFERENCE / target).is_file(), target
