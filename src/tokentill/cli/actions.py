"""Commands about the AI actions: which model serves each, and how it is charged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tokentill.cli import show
from tokentill.cli.given import By, actor, moment_of, number_of, tokens_of
from tokentill.cli.show import AsJson
from tokentill.core.prices.action_edits import SYSTEM_PROMPT_BYTES_MAX, as_json, plain
from tokentill.core.prices.actions import AiAction
from tokentill.errors import InvalidRequest, InvalidText
from tokentill.services.calls.configuring import ActionEdit
from tokentill.till import Till

KeyArg = Annotated[str, typer.Argument(metavar="KEY", help="The action's name, like chat_conversation.")]


def list_actions(json: AsJson = False) -> None:
    """Show every AI action: what serves it, and how it is charged."""
    with Till.connect() as till:
        found = till.actions()
    if json:
        show.as_json({"actions": [_plain(action) for action in found]})
        return
    columns = {"action": "left", "model": "left", "charge": "left", "": "left"}
    rows = [[each.key, each.model or "-", _charge(each), "" if each.is_active else "off"] for each in found]
    empty = "There is no AI action: `till actions set KEY` makes one."
    show.table("AI actions", columns, rows, empty=empty)


def show_action(
    key: KeyArg,
    at: Annotated[str | None, typer.Option("--at", help="As it was then: by which rule was a call charged?")] = None,
    json: AsJson = False,
) -> None:
    """Show one AI action."""
    moment = moment_of(at, "--at")
    with Till.connect() as till:
        found = till.action(key, at=moment)
    if json:
        show.as_json(_plain(found))
        return
    rows: dict[str, object] = {name: _value(value) for name, value in as_json(found).items()}
    by = f" by {found.updated_by}" if found.updated_by else ""
    changed = f"{show.moment(found.updated_at, otherwise='as shipped')}{by}, revision {found.revision}"
    show.facts(found.key, {**rows, "charged": _charge(found), "changed": changed})


def set_action(
    key: KeyArg,
    model: Annotated[str | None, typer.Option("--model", help="The model that serves it.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Who serves the model.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="From 0 to 2.")] = None,
    max_tokens: Annotated[
        str | None, typer.Option("--max-tokens", metavar="TOKENS", help="Of the answer, as the model counts.")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt", help="What the model is told first.")] = None,
    system_prompt_file: Annotated[
        Path | None, typer.Option("--system-prompt-file", help="The same from a file, in UTF-8.")
    ] = None,
    charge: Annotated[
        Literal["metered", "fixed", "cost_plus"] | None, typer.Option("--charge", help="How its users pay.")
    ] = None,
    fixed_tokens: Annotated[
        str | None, typer.Option("--fixed-tokens", metavar="TOKENS", help="Of fixed: what each call takes.")
    ] = None,
    multiplier: Annotated[str | None, typer.Option("--multiplier", help="Of metered: on the tokens counted.")] = None,
    model_multiplier: Annotated[
        list[str] | None,
        typer.Option("--model-multiplier", metavar="MODEL=X", help="The same for one model; MODEL= ends it."),
    ] = None,
    markup: Annotated[str | None, typer.Option("--markup", help="Of cost_plus: 1.5 is cost times 1.5.")] = None,
    cents_per_million_tokens: Annotated[
        str | None, typer.Option("--cents-per-million-tokens", help="Of cost_plus: what a user's tokens are worth.")
    ] = None,
    empty: Annotated[
        list[str] | None, typer.Option("--empty", metavar="FIELD", help="Empty a field, like system_prompt.")
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="Switch it on again.")] = False,
    revision: Annotated[int | None, typer.Option("--revision", help="Only if it is at this one; 0: a new one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    by: By = None,
    json: AsJson = False,
) -> None:
    """Change an AI action, or make a new one, and show what that changes. What is not given stays.

    Grants and takes nothing: calls from now on follow it. Safe to repeat.
    """
    if system_prompt is not None and system_prompt_file is not None:
        raise InvalidRequest("Give --system-prompt or --system-prompt-file, not both.", field="system_prompt")
    given: dict[str, Any] = {
        "model": model, "provider": provider, "temperature": temperature,
        "max_tokens": None if max_tokens is None else tokens_of(max_tokens, "--max-tokens"),
        "system_prompt": _read(system_prompt_file) if system_prompt_file else system_prompt, "charge": charge,
        "fixed_tokens": None if fixed_tokens is None else tokens_of(fixed_tokens, "--fixed-tokens"),
        "multiplier": number_of(multiplier, "--multiplier"), "markup": number_of(markup, "--markup"),
        "cents_per_million_tokens": number_of(cents_per_million_tokens, "--cents-per-million-tokens"),
        "is_active": True if active else None,
    }  # fmt: skip
    fields = dict.fromkeys(empty or ()) | {name: value for name, value in given.items() if value is not None}
    with Till.connect() as till:
        if model_multiplier:
            before = {action.key: action for action in till.actions()}.get(key)
            fields["model_multipliers"] = _with(before, model_multiplier)
        edit = till.set_action(key, created_by=actor(by), revision=revision, dry_run=dry_run, **fields)
    _answer(edit, dry_run, json)


def deactivate(key: KeyArg, by: By = None, json: AsJson = False) -> None:
    """Switch an AI action off: spends and holds are refused; what is held already can be captured.

    `till actions set KEY --active` switches it on again.
    """
    with Till.connect() as till:
        till.action(key)  # Or a name that is mistyped would become a new action, switched off.
        edit = till.set_action(key, created_by=actor(by), is_active=False)
    _answer(edit, False, json)


def _with(before: AiAction | None, given: Sequence[str]) -> dict[str, object]:
    """Return the model multipliers as they are to be."""
    found: dict[str, object] = dict(before.model_multipliers) if before else {}
    for each in given:
        model, is_pair, number = each.rpartition("=")
        if not is_pair or not model:
            raise InvalidRequest(f"--model-multiplier takes MODEL=X, like gpt-5=2.5; {each[:60]!r} is not so.")
        if number:
            found[model] = number_of(number, "--model-multiplier")
        else:
            found.pop(model, None)
    return found


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidText(f"{file} cannot be read: {error.strerror or error}.", field="system_prompt") from None
    if len(content) > SYSTEM_PROMPT_BYTES_MAX:
        raise InvalidText(f"{file} has {len(content):,} bytes; at most {SYSTEM_PROMPT_BYTES_MAX:,} are kept.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidText(f"{file} is not UTF-8: {error}.", field="system_prompt") from None


def _answer(edit: ActionEdit, is_dry_run: bool, json: bool) -> None:
    if json:
        show.as_json({"is_dry_run": is_dry_run, "changes": edit.changes, "action": _plain(edit.action)})
        return
    if edit.changes:
        columns = {"field": "left", "before": "left", "after": "left"}
        rows = [[each.field, _value(each.before), _value(each.after)] for each in edit.changes]
        show.table(f"Changes of {edit.action.key}", columns, rows, empty="")
    if not edit.changes:
        show.line(f"The action says so already (revision {edit.action.revision}).")
    elif is_dry_run:
        show.line("Nothing was changed: this was a dry run.")
    else:
        show.line(f"{edit.action.key} is at revision {edit.action.revision} now: {_charge(edit.action)}.")


def _plain(action: AiAction) -> dict[str, object]:
    facts = {"revision": action.revision, "updated_at": action.updated_at, "updated_by": action.updated_by}
    return {"key": action.key, **as_json(action), **facts}


def _charge(action: AiAction) -> str:
    if action.charge == "fixed":
        assert action.fixed_tokens is not None
        return f"{show.counted(action.fixed_tokens, 'token')} a call"
    if action.charge == "cost_plus":
        assert action.markup is not None and action.cents_per_million_tokens is not None
        return f"cost x {plain(action.markup)} at {plain(action.cents_per_million_tokens)} cents a million tokens"
    by_model = "".join(f", {model} x {plain(each)}" for model, each in sorted(action.model_multipliers.items()))
    return f"input and output x {plain(action.multiplier)}{by_model}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{model}={each}" for model, each in value.items()) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and len(value) > 200:  # A prompt.
        return f"{value[:200]}… ({len(value):,} characters)"
    return "-" if value is None else str(value)
