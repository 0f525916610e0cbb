"""Who is metered, and for which action: set once for a client, and again for whatever runs inside a block.

openai = meter_openai(OpenAI(), till, action="chat_conversation")
with metering(user=request.user_id):
    openai.chat.completions.create(…)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tokentill.errors import InvalidUserId, UnknownAction


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is said of calls before they are made. None: not said here."""

    user: str | UUID | None = None
    action: str | None = None
    minimum: int | None = None  # Tokens that must be there for a call to be made at all.
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def within(self, outer: "About") -> "About":
        """Return both together; what is said here counts."""
        return About(
            user=outer.user if self.user is None else self.user,
            action=outer.action if self.action is None else self.action,
            minimum=outer.minimum if self.minimum is None else self.minimum,
            metadata={**outer.metadata, **self.metadata},
        )

    def named(self) -> tuple[str | UUID, str]:
        """Return the user and the action. Raises: InvalidUserId, UnknownAction when either was never said."""
        if self.user is None:
            raise InvalidUserId("Nobody to meter: name a user with the client, or around the call by metering(user=…).")
        if self.action is None:
            raise UnknownAction("No action: name one with the client, or around the call by metering(action=…).")
        return self.user, self.action


_about: ContextVar[About] = ContextVar("tokentill_metering", default=About())  # noqa: B039 - it is frozen


@contextmanager
def metering(
    *, user: str | UUID | None = None, action: str | None = None, minimum: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[None]:  # fmt: skip
    """Say whose calls are metered inside the block, and for which action; what is left out stays as it was outside."""
    told = About(user=user, action=action, minimum=minimum, metadata=metadata or {})
    token = _about.set(told.within(_about.get()))
    try:
        yield
    finally:
        _about.reset(token)


def about_now(default: About) -> About:
    """Return what counts for a call made now by a client with this default."""
    return _about.get().within(default)
