"""Edits: what a change of the catalog, of an AI action or of a price says that it changes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One field of what is edited (`pack power`, `action chat_conversation`). The fields of a new one were None."""

    what: str
    field: str
    before: object
    after: object
