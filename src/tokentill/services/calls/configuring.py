"""Configuring: which model serves each AI action, and how it is charged. Grants nothing and takes nothing.

A call that was charged stays charged as it was; the next one follows the rule that is in force then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tokentill.core.edits import Change
from tokentill.core.prices.action_edits import changes, read
from tokentill.core.prices.actions import AiAction
from tokentill.errors import Conflict
from tokentill.services.context import Context
from tokentill.store import actions, ai_edits


@dataclass(frozen=True, slots=True)
class ActionEdit:
    """What an edit of an action changed, or would change."""

    action: AiAction  # As it is afterwards.
    changes: tuple[Change, ...]


def edit_action(
    context: Context,
    key: str,
    raw: Mapping[str, object],
    *,
    actor: str,
    revision: int | None = None,
    is_dry_run: bool = False,
) -> ActionEdit:
    """Change an action, or make one. An edit that changes nothing writes nothing.

    With `revision`, only if the action is at that one (0: only if there is none): whoever edits by hand must not undo
    what another has written since.

    Raises: InvalidRequest, Conflict (nothing was written).
    """
    while True:
        with context.connection() as conn:
            number = ai_edits.revision(conn)  # Before the actions: what is edited meanwhile takes the number after it.
            before = actions.load(conn).get(key)
            _require_at(key, before, revision)
            after = read(key, raw, before)
            found = tuple(changes(before, after))
            if before is not None and not found:
                return ActionEdit(before, ())
            if is_dry_run:
                return ActionEdit(after, found)
            now = context.clock()
            taken = ai_edits.begin(conn, number, created_by=actor, now=now)
            if taken is not None:
                after = replace(after, revision=taken, updated_at=now, updated_by=actor)
                actions.write(conn, after)
                actions.write_audit(conn, context.new_id(), before, after, actor=actor, now=now)
                return ActionEdit(after, found)


def _require_at(key: str, before: AiAction | None, revision: int | None) -> None:
    number = before.revision if before else 0
    if revision is not None and revision != number:
        there = f"has been edited meanwhile: it is at revision {number}" if before else "does not exist"
        raise Conflict(f"The action {key!r} {there}. Look at it and edit that one.", revision=number)
