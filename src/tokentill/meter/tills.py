"""The tills that a meter works with: one in this process or one over HTTP, asked from sync or from async code.

The meter says what to ask as steps (`Ask`), and here they are asked. So a rule is written once, and only how to wait
for an answer differs.
"""

import asyncio
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from tokentill.errors import InvalidRequest


class AnyTill(Protocol):
    """What `tokentill.Till` and the two clients have in common, with the same arguments.

    The answers of `AsyncTillClient` are awaited.
    """

    @property
    def hold(self) -> Callable[..., Any]: ...
    @property
    def renew(self) -> Callable[..., Any]: ...
    @property
    def capture(self) -> Callable[..., Any]: ...
    @property
    def void(self) -> Callable[..., Any]: ...
    @property
    def spend(self) -> Callable[..., Any]: ...
    @property
    def tokens_for(self) -> Callable[..., Any]: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a till: the method's name and its arguments."""

    method: str
    args: tuple[Any, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


T = TypeVar("T")
Steps = Generator[Ask, Any, T]


def is_async(till: AnyTill) -> bool:
    return inspect.iscoroutinefunction(till.hold)


def code_of(error: BaseException) -> str | None:
    """Return the error's code, of the library's classes and of the client's alike; None: none of either."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and hasattr(error, "retryable") else None


def run(steps: Steps[T], till: AnyTill) -> T:
    """Ask every step and return what they come to. Raises: what a step does not handle."""
    if is_async(till):
        raise InvalidRequest("An AsyncTillClient meters async calls only: use `async with`, or a TillClient.")
    answer: Any = None
    failure: Exception | None = None
    while True:
        try:
            ask = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as done:
            value: T = done.value
            return value
        try:
            answer, failure = getattr(till, ask.method)(*ask.args, **ask.details), None
        except Exception as error:  # noqa: BLE001 - the steps are told, and raise what they do not handle
            failure = error


async def run_async(steps: Steps[T], till: AnyTill) -> T:
    """The same, without making the loop wait."""
    answer: Any = None
    failure: Exception | None = None
    while True:
        try:
            ask = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as done:
            value: T = done.value
            return value
        try:
            answer, failure = await _asked(till, ask), None
        except Exception as error:  # noqa: BLE001 - as above
            failure = error


async def _asked(till: Any, ask: Ask) -> Any:
    method: Callable[..., Any] = getattr(till, ask.method)
    if is_async(till):
        return await method(*ask.args, **ask.details)
    asking = getattr(till, "asking", None)
    if asking is None:
        return await asyncio.to_thread(partial(method, *ask.args, **ask.details))
    if ask.method == "tokens_for":
        if asking.knows(ask.args[0]) and asking.has_prices:
            return method(*ask.args, **ask.details)
        # What the call costs is asked when it is over; by then the prices must be here.
        await asyncio.to_thread(asking.warm_up)
        return await asyncio.to_thread(partial(method, *ask.args, **ask.details))
    build = partial(getattr(asking, ask.method), *ask.args, **ask.details)
    # An action that is not known yet is looked up in the database, and the loop must not wait for that.
    action = ask.args[2] if ask.method in ("hold", "spend") else ask.details.get("action_type")
    command = build() if action is None or asking.knows(action) else await asyncio.to_thread(build)
    return await till.submit(command)


def reachable(error: Exception) -> int | None:
    """Return how many tokens could have been had, where that is why it was refused."""
    if code_of(error) != "insufficient_tokens":
        return None
    asked, short = getattr(error, "requested_tokens", None), getattr(error, "shortfall_tokens", None)
    return asked - short if isinstance(asked, int) and isinstance(short, int) else None


def is_invalid(error: Exception) -> bool:
    """Whether the till refused what it was told, by either of the two classes of that name."""
    return any(kind.__name__ == "InvalidRequest" for kind in type(error).__mro__)
