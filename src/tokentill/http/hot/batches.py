"""`POST /v1/usage/batch`: many AI operations at once, each with its own answer.

The body is read in one go when all is well. When it is not, each event is read alone, so that a bad one costs the
others nothing; only what is no JSON, or no list of events, refuses all, and before anything is done.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool

from tokentill.core.keys import EventKeys
from tokentill.core.ledger.commands import Spend
from tokentill.engine import Answer
from tokentill.errors import MalformedBody, TillError
from tokentill.http import problems
from tokentill.http.hot.answered import AcceptedView, BatchView, encode
from tokentill.http.hot.sent import (
    EVENT,
    EVENTS_MAX,
    NOT_AN_OBJECT,
    UNREADABLE,
    BatchBody,
    UsageEvent,
    are_exact,
    parsed,
    wrong,
)
from tokentill.http.reading import BODY_BYTES_MAX
from tokentill.services.accounts.asking import Asking
from tokentill.store.journal import Receipt
from tokentill.till import Till

BATCH_BYTES_MAX = 16 * BODY_BYTES_MAX
# So many events are read before whoever else waits for this process has a turn.
TURN = 256


class PiecesSent(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of which some event is not as it should be, or oddly written."""

    events: list[msgspec.Raw]


_whole = msgspec.json.Decoder(BatchBody)
_pieces = msgspec.json.Decoder(PiecesSent)

NO_KEY = wrong(("idempotency-key", "is missing"))  # As on `/v1/usage`.

log = logging.getLogger("tokentill.http")


# What became of one event: the row that it wrote or had written before, or why it wrote none.
Outcome = Receipt | Exception
# Makes the command of one event, or raises what is wrong with it.
CommandOf = Callable[[Asking, Any, int], Spend]


async def answer(till: Till, body: bytes, key: str | None) -> tuple[bytes, bool]:
    """Carry out a batch. Return the answer's body, and whether all that it accepts was accepted before.

    `key` is the request's, for events that have none of their own.

    Raises: MalformedBody, InvalidRequest; then nothing was done.
    """
    events = _events(body)  # First of all: where it raises, nothing has been done.
    return answer_of(await carry_out(till, await each(events, _judged), command_of(key)))


async def each(events: Sequence[object], read: Callable[[Any], Any]) -> list[Any]:
    """Return what `read` makes of every event. Others who wait for this process have their turn in between."""
    found = []
    for number, event in enumerate(events):
        if number % TURN == TURN - 1:
            await asyncio.sleep(0)
        found.append(read(event))
    return found


async def carry_out(till: Till, events: Sequence[Any], command_of: CommandOf) -> list[tuple[str, Outcome]]:
    """Ask for what events tell of, all at once. Return the user's name and the outcome of each, in their order.

    An event has an `action_type`, or is an error: its outcome then.

    Raises: nothing; a bug of ours is the outcome of the one event that met it.
    """
    outcomes: list[tuple[str, Outcome] | None] = [None] * len(events)
    asked: list[tuple[int, Any]] = []
    for number, event in enumerate(events):
        if isinstance(event, TillError):
            outcomes[number] = "", event
        else:
            asked.append((number, event))
    if not all(till.asking.knows(event.action_type) for _, event in asked):
        # In the database perhaps, and the loop must not wait for that; once, however many there are.
        await run_in_threadpool(till.asking.learn)

    commands: list[Spend] = []
    places: list[int] = []
    for count, (number, event) in enumerate(asked):
        if count % TURN == TURN - 1:
            await asyncio.sleep(0)
        try:
            command = command_of(till.asking, event, number)
        except TillError as error:
            outcomes[number] = "", error
        else:
            commands.append(command)
            places.append(number)

    answers = till.submit_many(commands)
    await _all(answers)
    for number, command, answered in zip(places, commands, answers, strict=True):
        outcomes[number] = command.user.name, _outcome(answered)
    complete = [outcome for outcome in outcomes if outcome is not None]
    assert len(complete) == len(events)
    return complete


def command_of(key: str | None) -> CommandOf:
    """Return how events sent with the request's key are asked for."""
    keys = None if key is None else EventKeys(key)

    def command(asking: Asking, usage: UsageEvent, number: int) -> Spend:
        return asking.spend_of(
            usage.user_id, usage, on_insufficient=usage.on_insufficient,
            idempotency_key=_key_of(usage, keys, number), may_ask=False,
        )  # fmt: skip

    return command


def answer_of(outcomes: Sequence[tuple[str, Outcome]]) -> tuple[bytes, bool]:
    """Return the answer's body, and whether all that it accepts was accepted before."""
    accepted, repeated = 0, 0
    results: list[AcceptedView | msgspec.Raw] = []
    for name, outcome in outcomes:
        if isinstance(outcome, Receipt):
            accepted += 1
            repeated += outcome.is_replay
            results.append(AcceptedView.of(outcome, name))
        else:
            results.append(_problem(outcome))
    return encode(BatchView(results, accepted, len(outcomes) - accepted)), 0 < accepted == repeated


def _events(body: bytes) -> Sequence[object]:
    """Return the events: as usage where all are well; else each as raw JSON, or as Python's own reader has it.

    Raises: MalformedBody, InvalidRequest.
    """
    try:
        events = _whole.decode(body).events
        if are_exact([event.occurred_at for event in events if event.occurred_at is not None], body):
            return events
    except UNREADABLE:
        pass
    try:
        pieces = _pieces.decode(body).events
        if 1 <= len(pieces) <= EVENTS_MAX:
            return pieces
    except UNREADABLE:
        pass
    return _read_slowly(body)


def _read_slowly(body: bytes) -> Sequence[object]:
    """Return the events of a body that msgspec does not take (Python's own reader knows NaN), or say what is wrong."""
    sent = parsed(body) if body else None
    if not isinstance(sent, dict):
        raise wrong(("body", NOT_AN_OBJECT if body else "a JSON object is missing"))
    complaints = [(str(name), "is not known here") for name in sent if name != "events"]
    events = sent.get("events")
    if "events" not in sent:
        complaints.insert(0, ("events", "is missing"))
    elif not isinstance(events, list):
        complaints.insert(0, ("events", "must be a list"))
    elif not 1 <= len(events) <= EVENTS_MAX:
        complaints.insert(0, ("events", f"must have 1 to {EVENTS_MAX:,} events, not {len(events):,}"))
    if complaints:
        raise wrong(*complaints)
    assert isinstance(events, list)
    return events


def _judged(event: object) -> UsageEvent | TillError:
    """Return one event's usage, or what is wrong with it. Raises: MalformedBody when it is no JSON at all."""
    if isinstance(event, UsageEvent):
        return event
    try:
        return EVENT.read(bytes(event)) if isinstance(event, msgspec.Raw) else EVENT.judge(event)
    except MalformedBody:
        raise
    except TillError as error:
        return error


def _key_of(usage: UsageEvent, keys: EventKeys | None, number: int) -> str:
    if usage.idempotency_key is not None:
        return usage.idempotency_key
    if keys is None:
        raise NO_KEY
    return keys.of(number)


async def _all(answers: Sequence[Answer[Any]]) -> None:
    """Wait until every answer is there."""
    # The last first: what was asked together is mostly answered together, and the others need no waiting then.
    for answer in reversed(answers):
        if not answer.done():
            with contextlib.suppress(Exception):  # Whatever it is: `_outcome` tells it to whom it is for.
                await answer


def _outcome(answer: Answer[Any]) -> Outcome:
    try:
        receipt: Receipt | None = answer.result()
    except TillError as error:
        return error
    except Exception as error:  # A bug of ours. One event's, so the others are answered all the same.
        log.exception("an event of a batch failed")
        return error
    assert receipt is not None
    return receipt


def _problem(error: Exception) -> msgspec.Raw:
    within = problems.within(error) if isinstance(error, TillError) else problems.bug_within()
    return msgspec.Raw(problems.dumped(within))
