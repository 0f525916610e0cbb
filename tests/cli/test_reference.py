"""The pages about the command line and the settings say what there is, no more and no less."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from tests.cli.conftest import Run
from tokentill import settings
from tokentill.cli.app import app

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
    told = sections("cli.md")

    assert set(told) == {name for name, _ in commands()}
    for name, options in commands():
        for option in options:
            assert option in told[name] or option in ("--json", "--help"), f"{name} {option}"


def test_every_command_has_help_and_json(bare: Run) -> None:
    for name, options in commands():
        assert "--json" in options, name
        ran = bare(*name.split()[1:], "--help")
        assert ran.status == 0
        assert len(ran.out.split("\n\n")[1].strip()) > 10, name


def test_every_setting_has_a_section() -> None:
    read = set(re.findall(r"TILL_[A-Z_]+", Path(settings.__file__).read_text("utf-8")))

    assert set(sections("settings.md")) == read


@pytest.mark.parametrize("page", ["cli.md", "settings.md", "http-api.md"])
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([\w-]+\.md)(?:#[\w-]+)?\)", (REFERENCE / page).read_text("utf-8")):
        assert (REFERENCE / target).is_file(), target
