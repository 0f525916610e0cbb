"""A till that breaks at a chosen step: its database goes away for a moment, or its process dies.

A step is one transaction: what a service does on a connection, or what the engine commits. It breaks before it has
begun, at its end and so is rolled back, or when it is committed and nobody has heard of it yet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from tokentill import Till
from tokentill.core.companions import Companion
from tokentill.engine import Answer, Engine
from tokentill.errors import Unavailable
from tokentill.services.context import Context
from tokentill.store.db import Conn

How = Literal["before", "rolled back", "after"]


class Killed(BaseException):
    """What kill -9 does to whoever is at work: nothing after it is carried out, and nobody catches it."""


class Outage(Unavailable):
    """The database went away."""


class Fault:
    """What breaks, and at which step from now. Sound until it is armed; it breaks once."""

    def __init__(self) -> None:
        self.steps_left = 0
        self.how: How = "before"
        self.kills = False
        self.broken_count = 0

    def arm(self, steps: int, how: How, *, kills: bool) -> None:
        """Break at the `steps`-th step from now."""
        self.steps_left, self.how, self.kills = steps, how, kills

    def disarm(self) -> None:
        self.steps_left = 0

    def takes_step(self) -> How | None:
        """Count a step; return how this one breaks, if it does."""
        if self.steps_left == 0:
            return None
        self.steps_left -= 1
        return self.how if self.steps_left == 0 else None

    def strike(self) -> None:
        self.broken_count += 1
        if self.kills:
            raise Killed
        raise Outage("The database went away.")


class BreakableEngine(Engine):
    """An engine whose answers may be lost on their way."""

    def __init__(self, fault: Fault, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._fault = fault

    def submit(
        self, command: Any, *, at: datetime | None = None, companions: tuple[Companion, ...] = ()
    ) -> Answer[Any]:
        how = self._fault.takes_step()
        if how in ("before", "rolled back"):
            self._fault.strike()
        answer = super().submit(command, at=at, companions=companions)
        if how == "after":
            answer.result()
            self._fault.strike()
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakableContext(Context):
    fault: Fault

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        how = self.fault.takes_step()
        if how == "before":
            self.fault.strike()
        # By its name: a dataclass with slots is another class than the one that `super()` would mean here.
        with Context.connection(self) as conn:
            yield conn
            if how == "rolled back":
                self.fault.strike()
        if how == "after":
            self.fault.strike()


def open_breakable(database: str, fault: Fault, *, clock: Callable[[], datetime], **options: Any) -> Till:
    """Return a till whose work on events and money breaks as `fault` says."""
    till = Till(
        database, clock=clock, engine_of=lambda *given, **more: BreakableEngine(fault, *given, **more), **options
    )
    given = {field.name: getattr(till.context, field.name) for field in fields(Context)}
    till.context = BreakableContext(fault=fault, **given)
    return till
