"""AI actions: what the app uses AI for, what serves it, and how it is charged."""

from datetime import datetime
from typing import Any

from tokentill.core import checks
from tokentill.core.prices.actions import AiAction
from tokentill.errors import ActionNotFound
from tokentill.services.calls import configuring
from tokentill.services.calls.configuring import ActionEdit
from tokentill.store import actions
from tokentill.till.base import Base


class Actions(Base):
    """Shows and edits the AI actions. No edit grants or takes tokens."""

    def actions(self) -> list[AiAction]:
        """Return every action, those that are switched off among them, by name."""
        with self.context.connection() as conn:
            return list(actions.load(conn).values())

    def action(self, key: str, *, at: datetime | None = None) -> AiAction:
        """Return what an app needs to make the call; with `at`, the rule by which a row written then was charged.

        Raises: ActionNotFound, InvalidTime.
        """
        moment = checks.moment_or_none(at, "at")
        with self.context.connection() as conn:
            # A text that PostgreSQL cannot hold names none.
            named = key if checks.is_storable(key) else ""
            found = actions.in_force_at(conn, named, moment) if moment else actions.load(conn).get(named)
        if found is None:
            when = f" at {moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
            raise ActionNotFound(f"There is no AI action {key[:100]!r}{when}.", action_type=key[:100])
        return found

    def set_action(
        self, key: str, *, created_by: str, revision: int | None = None, dry_run: bool = False, **fields: Any
    ) -> ActionEdit:
        """Change an action, or make a new one; `fields` are those of `prices.action_edits`, what is not given stays.

            till.set_action("essay", model="gpt-5", temperature=0.7, multiplier="1.5", created_by="ann")

        Counts for calls from now on, here at once and in other processes within seconds. Switched off
        (`is_active=False`), it refuses spends and holds; what is held already can be captured. Safe to repeat. With
        `revision`, only an edit of that one (0: of none).

        Raises: InvalidRequest, Conflict when the action is at another revision.
        """
        actor = checks.text(created_by, "created_by", length_max=255)
        edit = configuring.edit_action(self.context, key, fields, actor=actor, revision=revision, is_dry_run=dry_run)
        if not dry_run:
            self.asking.learn()
        return edit
