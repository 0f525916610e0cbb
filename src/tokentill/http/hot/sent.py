"""What the hot routes are sent: one description of each body, which decodes it, checks it and documents it.

A body is decoded in one go where it is as it should be. What msgspec does not take is looked at once more, field by
field, with Python's own JSON reader: it may be right all the same (another name of a field, another way to write a
time, a NaN), and if not, all that is wrong with it is said, each field in our words.

Whether a number is in range is the till's to say (`core.checks`), so that every edge refuses it with the same words.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, inspect

from tokentill.core.calls import Call, Count, OnInsufficient
from tokentill.core.checks import TOKENS_MAX
from tokentill.core.keys import KEY_LENGTH_MAX
from tokentill.core.ledger.holds import TTL_DEFAULT, TTL_MAX
from tokentill.errors import InvalidRequest, MalformedBody
from tokentill.http.hot.asked import Asked
from tokentill.http.reading import is_json

EVENTS_MAX = 10_000

# What msgspec raises: its own errors, and Python's for bad UTF-8 and for depth.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

TTL_SECONDS_DEFAULT = int(TTL_DEFAULT.total_seconds())
_TTL_RANGE: dict[str, Any] = {"minimum": 1, "maximum": int(TTL_MAX.total_seconds())}


# -- Bodies ------------------------------------------------------------------------------------------------------------


class UsageBody(Call, kw_only=True, frozen=True):
    user_id: str
    action_type: str
    on_insufficient: Annotated[
        OnInsufficient, Meta(description="record: it has happened already, so it is written even into debt.")
    ] = "refuse"


class UsageEvent(UsageBody, kw_only=True, frozen=True):
    """One of many: what `POST /v1/usage` takes, and its own key."""

    idempotency_key: Annotated[
        str | None,
        Meta(description="Names this event; else it is named by the request's Idempotency-Key and its place in it."),
    ] = None


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[UsageEvent], Meta(min_length=1, max_length=EVENTS_MAX)]


class HoldBody(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    user_id: str
    tokens: Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": TOKENS_MAX})]
    action_type: str
    ttl_seconds: Annotated[int, Meta(description="After so long it frees itself.", extra_json_schema=_TTL_RANGE)] = (
        TTL_SECONDS_DEFAULT
    )
    model: str | None = None
    provider: Annotated[str | None, Meta(description="Who will serve the call.")] = None
    metadata: dict[str, Any] | None = None


class RenewBody(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    ttl_seconds: Annotated[
        int,
        Meta(description="From now on; never shorter than it would have lived.", extra_json_schema=_TTL_RANGE),
    ] = TTL_SECONDS_DEFAULT


class CaptureBody(Call, kw_only=True, frozen=True):
    action_type: Annotated[str | None, Meta(description="The hold's, unless given.")] = None
    tokens: Annotated[
        Count | None,
        Meta(
            description="What the call took. Without it the counts decide, and without counts it is all that was held."
        ),
    ] = None
    on_insufficient: Annotated[
        OnInsufficient, Meta(description="refuse: what exceeds the hold must be there, or nothing is captured.")
    ] = "record"


class CloudEventBody(msgspec.Struct, kw_only=True, frozen=True):
    """A CloudEvent 1.0 as JSON. What it has beside these (extensions, a schema) is left alone."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1, description="Names the event, together with its source.")]
    source: Annotated[str, Meta(min_length=1)]
    type: Annotated[str, Meta(min_length=1, description="What comes after its last dot is the action.")]
    subject: Annotated[str | None, Meta(description="The user, unless data names one.")] = None
    time: Annotated[str | None, Meta(description="When it occurred, unless data says.")] = None
    data: Annotated[
        dict[str, Any], Meta(description="The fields of POST /v1/usage, as far as the event does not say them.")
    ]


# -- Field by field ----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """What is wrong with a field, and where in it."""

    def __init__(self, said: str, where: str = "") -> None:
        self.said, self.where = said, where


_Read = Callable[[Any], Any]
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_WORDS: dict[type, str] = {str: "string", int: "integer", bool: "boolean", dict: "dictionary", list: "list"}


def _reader_of(described: inspect.Type) -> _Read:
    """Return what reads a value of this type from parsed JSON, or raises _Wrong."""
    match described:
        case inspect.Metadata(type=inner):
            return _reader_of(inner)
        case inspect.UnionType(types=types):
            (inner,) = [each for each in types if not isinstance(each, inspect.NoneType)]
            read = _reader_of(inner)
            return lambda value: None if value is None else read(value)
        case inspect.StrType(min_length=shortest):
            return lambda value: _text(value, shortest or 0)
        case inspect.IntType():
            return lambda value: _of_type(value, int)
        case inspect.BoolType():
            return lambda value: _of_type(value, bool)
        case inspect.DecimalType():
            return _cents
        case inspect.DateTimeType():
            return _moment
        case inspect.LiteralType(values=values):
            return lambda value: _one_of(value, values)
        case inspect.DictType(value_type=inspect.AnyType()):
            return lambda value: _of_type(value, dict)
        case inspect.DictType(value_type=inner):
            read = _reader_of(inner)
            return lambda value: _each(value, read)
        case _:
            raise AssertionError(described)


def _of_type(value: object, kind: type) -> object:
    if type(value) is not kind:
        raise _Wrong(f"input should be a valid {_WORDS[kind]}")
    return value


def _text(value: object, shortest: int) -> object:
    _of_type(value, str)
    if len(str(value)) < shortest:
        raise _Wrong(f"must have at least {shortest} character")
    return value


def _one_of(value: object, values: tuple[Any, ...]) -> object:
    if not isinstance(value, str) or value not in values:
        raise _Wrong(f"input should be {' or '.join(map(repr, sorted(values, reverse=True)))}")
    return value


def _each(value: object, read: _Read) -> object:
    _of_type(value, dict)
    assert isinstance(value, dict)
    for name, each in value.items():
        try:
            read(each)
        except _Wrong as error:
            raise _Wrong(error.said, f".{name}") from None
    return value


def _cents(value: object) -> object:
    # What number it is, the till checks.
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise _Wrong("must be a number of cents, or a text with one")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, str) or not _TIME.match(value):
        raise _Wrong("must be a time like 2026-01-05T12:00:00Z")
    try:
        found = datetime.fromisoformat(value.upper())
    except ValueError:
        raise _Wrong("must be a time like 2026-01-05T12:00:00Z, and one that exists") from None
    if found.tzinfo is None:
        raise _Wrong("input should have timezone info")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise _Wrong("must be a time that exists in UTC") from None


# -- Reading them ------------------------------------------------------------------------------------------------------

_OF_A_CALL = {"tokens_used": "tokens", "model": "model_used"}
_FINER = re.compile(rb"\.\d{7,}")  # Than a microsecond: msgspec rounds a time, and we have always cut it off.

B = TypeVar("B", bound=msgspec.Struct)


class Reader(Generic[B]):
    """Reads bodies of one kind. `other_names` are the fields' second names: either may be sent, but not both."""

    def __init__(self, kind: type[B], other_names: Mapping[str, str] | None = None) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind)
        self._other_names = other_names or {}
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        # Who comes first.
        fields = sorted(described.fields, key=lambda field: field.encode_name != "user_id")
        self._fields = [(field.encode_name, field.required, _reader_of(field.type)) for field in fields]
        self._is_open = not described.forbid_unknown_fields

    def read(self, body: bytes) -> B:
        """Return a body that was sent. Raises: InvalidRequest, MalformedBody."""
        found = self.at_once(body)
        return self.judge(parsed(body)) if found is None else found

    def at_once(self, body: bytes) -> B | None:
        """Return a body that msgspec takes and is sure of; None: it needs another look."""
        try:
            found = self._decoder.decode(body)
        except UNREADABLE:
            return None
        return found if _is_sure(found, body) else None

    def take(self, sent: object) -> B:
        """Return what was parsed already. Raises: InvalidRequest."""
        try:
            found = msgspec.convert(sent, self._kind)
            if _is_sure(found, str(sent.get("occurred_at", "")).encode() if isinstance(sent, dict) else b""):
                return found
        except UNREADABLE:
            pass
        return self.judge(sent)

    def judge(self, sent: object) -> B:
        """Return what was parsed already, looked at field by field. Raises: InvalidRequest, with all that is wrong."""
        if not isinstance(sent, dict):
            raise wrong(("body", NOT_AN_OBJECT))
        left = dict(sent)
        for other, name in self._other_names.items():
            if other in left and name not in left:
                left[name] = left.pop(other)
        said: dict[str, Any] = {}
        complaints: list[tuple[str, str]] = []
        for name, is_required, read in self._fields:
            if name not in left:
                if is_required:
                    complaints.append((name, "is missing"))
                continue
            try:
                said[name] = read(left.pop(name))
            except _Wrong as error:
                complaints.append((f"{name}{error.where}", error.said))
        if not self._is_open:
            complaints += [(str(name), "is not known here") for name in left]
        if complaints:
            raise wrong(*complaints)
        return self._kind(**said)


USAGE = Reader(UsageBody, {"userId": "user_id", **_OF_A_CALL})
EVENT = Reader(UsageEvent, {"userId": "user_id", **_OF_A_CALL})
HOLD = Reader(HoldBody, {"userId": "user_id", "model_used": "model"})
RENEW = Reader(RenewBody)
CAPTURE = Reader(CaptureBody, _OF_A_CALL)
CLOUD_EVENT = Reader(CloudEventBody)

UseOfKey = Literal["needed", "taken", "ignored"]

NOT_AN_OBJECT = "must be a JSON object, sent as Content-Type: application/json"


def read_request(asked: Asked, body: bytes, reader: Reader[B], *, key: UseOfKey, default: B | None = None) -> B:
    """Return the body of a request whose key is as it should be, or `default` where none was sent.

    Raises: InvalidRequest, with all that is wrong, the header's faults first; MalformedBody.
    """
    if asked.content_type == b"application/json" and asked.key is not None and 1 <= len(asked.key) <= KEY_LENGTH_MAX:
        at_once = reader.at_once(body)  # What nearly all are.
        if at_once is not None:
            return at_once
    complaints = [] if key == "ignored" else key_complaints(asked.key, is_needed=key == "needed")
    found = default
    if not body:
        if default is None:
            complaints.append(("body", "a JSON object is missing"))
    elif not is_json(asked.content_type):
        complaints.append(("body", NOT_AN_OBJECT))
    elif default is None or body.strip() != b"null":
        try:
            found = reader.read(body)
        except InvalidRequest as error:
            if not complaints:
                raise
            complaints += [(each["field"], each["message"]) for each in error.fields["errors"]]  # type: ignore[attr-defined]
    if complaints:
        raise wrong(*complaints)
    assert found is not None
    return found


def key_complaints(key: str | None, *, is_needed: bool) -> list[tuple[str, str]]:
    """Return what is wrong with a request's key."""
    if key is None:
        return [("idempotency-key", "is missing")] if is_needed else []
    if 1 <= len(key) <= KEY_LENGTH_MAX:
        return []
    return [("idempotency-key", f"must have 1 to {KEY_LENGTH_MAX} characters")]


def wrong(*complaints: tuple[str, str]) -> InvalidRequest:
    """Return the error that says which fields are wrong, and how."""
    said = [{"field": field, "message": message} for field, message in complaints]
    return InvalidRequest("; ".join(f"{field}: {message}" for field, message in complaints[:5]), errors=said)


def parsed(body: bytes) -> object:
    """Return a body as Python's own reader has it. Raises: MalformedBody."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"The body is not JSON: {error.msg} (character {error.pos}).") from None
    except (ValueError, RecursionError):
        raise MalformedBody("The body is no JSON that can be read.") from None


def are_exact(times: Collection[datetime], sent: bytes) -> bool:
    """Whether times that msgspec has read in `sent` are those that were meant, and exist in UTC."""
    return all(MINYEAR < at.year < MAXYEAR for at in times) and not (times and _FINER.search(sent))


def _is_sure(found: object, sent: bytes) -> bool:
    at = found.occurred_at if isinstance(found, Call) else None
    return at is None or are_exact((at,), sent)
