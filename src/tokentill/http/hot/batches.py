"""`POST /v1/usage/batch`: many AI operations at once, each with its own answer.

The body is read in one go when all is well. When it is not, each event is read alone, so that a bad one costs the
others nothing; only what is no JSON, or no list of events, refuses all, and before anything is done.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool

from tokentill.core.keys import EventKeys
from tokentill.core.ledger.commands import Spend
from tokentill.engine import Answer
from tokentill.errors import InvalidRequest, MalformedBody, TillError
from tokentill.http import problems
from tokentill.http.bodies import EVENTS_MAX, Body
from tokentill.http.hot.answered import AcceptedAnswer, BatchAnswer
from tokentill.http.hot.sent import UNREADABLE, BatchSent, EventSent, RawBatchSent, Usage, judged, usage_of
from tokentill.services.accounts.asking import Asking
from tokentill.store.journal import Receipt
from tokentill.till import Till

BATCH_BYTES_MAX = 16 * 1_048_576
# So many events are read before whoever else waits for this process has a turn.
TURN = 256

_whole = msgspec.json.Decoder(BatchSent)
_pieces = msgspec.json.Decoder(RawBatchSent)
_piece = msgspec.json.Decoder(EventSent)
_encoder = msgspec.json.Encoder()

# What a missing header is told on `/v1/usage`.
NO_KEY = problems.of_shape([{"type": "missing", "loc": ("header", "idempotency-key"), "msg": ""}])

log = logging.getLogger("tokentill.http")


class _Envelope(Body):
    """A batch as far as it must be right as a whole."""

    events: list[Any] = Field(min_length=1, max_length=EVENTS_MAX)


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

    An event has a `call`, or is an error: its outcome then.

    Raises: nothing; a bug of ours is the outcome of the one event that met it.
    """
    outcomes: list[tuple[str, Outcome] | None] = [None] * len(events)
    asked: list[tuple[int, Any]] = []
    for number, event in enumerate(events):
        if isinstance(event, TillError):
            outcomes[number] = "", event
        else:
            asked.append((number, event))
    if any(till.asking.must_read(event.call) for _, event in asked):
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

    def command(asking: Asking, usage: Usage, number: int) -> Spend:
        return asking.spend_of(
            usage.user_id, usage.call, on_insufficient=usage.on_insufficient,
            idempotency_key=_key_of(usage, keys, number), may_ask=False,
        )  # fmt: skip

    return command


def answer_of(outcomes: Sequence[tuple[str, Outcome]]) -> tuple[bytes, bool]:
    """Return the answer's body, and whether all that it accepts was accepted before."""
    accepted, repeated = 0, 0
    results: list[AcceptedAnswer | msgspec.Raw] = []
    for name, outcome in outcomes:
        if isinstance(outcome, Receipt):
            accepted += 1
            repeated += outcome.is_replay
            results.append(AcceptedAnswer.of(outcome, name))
        else:
            results.append(_problem(outcome))
    return _encoder.encode(BatchAnswer(results, accepted, len(outcomes) - accepted)), 0 < accepted == repeated


def _events(body: bytes) -> Sequence[object]:
    """Return the events: as usage where all are well; else each as raw JSON, or as Python's own reader has it.

    Raises: MalformedBody, InvalidRequest.
    """
    try:
        usages = [usage_of(event, event.idempotency_key) for event in _whole.decode(body).events]
        if 1 <= len(usages) <= EVENTS_MAX and None not in usages:
            return usages
        events = _pieces.decode(body).events
        if 1 <= len(events) <= EVENTS_MAX:
            return events
    except UNREADABLE:
        pass
    return _read_slowly(body)


def _read_slowly(body: bytes) -> Sequence[object]:
    """Return the events of a body that msgspec does not take (Python's own reader knows NaN), or say what is wrong."""
    sent = parsed(body) if body else None
    if not isinstance(sent, dict):
        said = "must be a JSON object" if body else "a JSON object is missing"
        raise InvalidRequest(f"body: {said}", errors=[{"field": "body", "message": said}])
    try:
        return _Envelope.model_validate(sent).events
    except ValidationError as error:
        raise problems.of_shape([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def _judged(event: object) -> Usage | TillError:
    """Return one event's usage, or what is wrong with it. Raises: MalformedBody when it is no JSON at all."""
    if isinstance(event, Usage):
        return event
    if not isinstance(event, msgspec.Raw):
        return judged(event)
    try:
        sent = _piece.decode(event)
        if usage := usage_of(sent, sent.idempotency_key):
            return usage
    except UNREADABLE:
        pass
    return judged(parsed(bytes(event)))


def parsed(body: bytes) -> object:
    """Return a body as Python's own reader has it. Raises: MalformedBody."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"The body is not JSON: {error.msg} (character {error.pos}).") from None
    except (ValueError, RecursionError):
        raise MalformedBody("The body is no JSON that can be read.") from None


def _key_of(usage: Usage, keys: EventKeys | None, number: int) -> str:
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
