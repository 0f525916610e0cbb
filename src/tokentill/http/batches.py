"""`POST /v1/usage/batch`: many AI operations at once, each with its own answer.

The body is read in one go when all is well. When it is not, each event is read alone, so that a bad one costs the
others nothing; only what is no JSON, or no list of events, refuses all, and before anything is done.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool

from tokentill.core.commands import Spend
from tokentill.core.keys import EventKeys
from tokentill.engine import Answer
from tokentill.errors import InvalidRequest, MalformedBody, TillError
from tokentill.http import problems
from tokentill.http.answered import AcceptedAnswer, BatchAnswer
from tokentill.http.bodies import EVENTS_MAX, Body
from tokentill.http.sent import UNREADABLE, BatchSent, EventSent, RawBatchSent, Usage, judged, usage_of
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


async def answer(till: Till, body: bytes, key: str | None) -> tuple[bytes, bool]:
    """Carry out a batch. Return the answer's body, and whether all that it accepts was accepted before.

    `key` is the request's, for events that have none of their own.

    Raises: MalformedBody, InvalidRequest; then nothing was done.
    """
    events = _events(body)  # First of all: where it raises, nothing has been done.
    results: list[AcceptedAnswer | msgspec.Raw | None] = [None] * len(events)
    usages: list[tuple[int, Usage]] = []
    for number, event in enumerate(events):
        if number % TURN == TURN - 1:
            await asyncio.sleep(0)
        read = _judged(event)
        if isinstance(read, Usage):
            usages.append((number, read))
        else:
            results[number] = _problem(read)
    if not all(till.asking.knows(usage.action_type) for _, usage in usages):
        # In the database perhaps, and the loop must not wait for that; once, however many there are.
        await run_in_threadpool(till.asking.learn_actions)

    asking = till.asking.from_memory()
    keys = None if key is None else EventKeys(key)
    commands: list[Spend] = []
    places: list[int] = []
    for count, (number, usage) in enumerate(usages):
        if count % TURN == TURN - 1:
            await asyncio.sleep(0)
        try:
            command = asking.spend(
                usage.user_id, usage.tokens, usage.action_type, idempotency_key=_key_of(usage, keys, number),
                **usage.details,
            )  # fmt: skip
        except TillError as error:
            results[number] = _problem(error)
        else:
            commands.append(command)
            places.append(number)

    answers = till.submit_many(commands)
    await _all(answers)
    accepted, repeated = 0, 0
    for number, command, answered in zip(places, commands, answers, strict=True):
        receipt = _outcome(answered)
        if isinstance(receipt, Receipt):
            accepted += 1
            repeated += receipt.is_replay
            results[number] = AcceptedAnswer.of(receipt, command.user.name)
        else:
            results[number] = receipt
    complete = [result for result in results if result is not None]
    assert len(complete) == len(events)
    written = _encoder.encode(BatchAnswer(complete, accepted, len(events) - accepted))
    return written, 0 < accepted == repeated


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
    sent = _parsed(body) if body else None
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
    return judged(_parsed(bytes(event)))


def _parsed(body: bytes) -> object:
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


def _outcome(answer: Answer[Any]) -> Receipt | msgspec.Raw:
    try:
        receipt: Receipt | None = answer.result()
    except TillError as error:
        return _problem(error)
    except Exception:  # A bug of ours. One event's, so the others are answered all the same.
        log.exception("an event of a batch failed")
        return msgspec.Raw(problems.dumped(problems.bug_within()))
    assert receipt is not None
    return receipt


def _problem(error: TillError) -> msgspec.Raw:
    return msgspec.Raw(problems.dumped(problems.within(error)))
