"""What an OpenTelemetry exporter sends over OTLP/HTTP in JSON: which AI calls are in it, and how it is answered.

Only spans and logs of model calls count; all else that a service traces is taken and left alone. OTLP has no answer to
each of them: what was not recorded is counted and explained in `partialSuccess`, and an exporter does not send it
again. What can be tried again is therefore never answered so: then the whole request is, and repeats change nothing.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from tokentill.core.usage import telemetry
from tokentill.core.usage.telemetry import Attributes, TelemetryCall
from tokentill.errors import InvalidRequest, TillError
from tokentill.http.hot.sent import UNREADABLE

_REASONS_MAX = 5


# -- What is sent, as far as it is looked at -----------------------------------------------------------------------


class Sent(msgspec.Struct, gc=False, rename="camel"):
    """Part of an export. What has no field here is skipped: a span may have pages of text on it. Null: nothing."""


class ValueSent(Sent):
    """An attribute's value; lists, objects and bytes are none that is of use here."""

    string_value: str | None = None
    int_value: int | float | str | None = None  # A number of 64 bits may be a text.
    double_value: float | str | None = None
    bool_value: bool | None = None


class AttributeSent(Sent):
    key: str = ""
    value: ValueSent | None = None


class ResourceSent(Sent):
    attributes: list[AttributeSent] | None = None


class StatusSent(Sent):
    code: int | str | None = None
    message: str | None = None


class SpanSent(Sent):
    trace_id: str | None = None
    span_id: str | None = None
    end_time_unix_nano: int | float | str | None = None
    attributes: list[AttributeSent] | None = None
    status: StatusSent | None = None


class LogSent(Sent):
    trace_id: str | None = None
    span_id: str | None = None
    time_unix_nano: int | float | str | None = None
    observed_time_unix_nano: int | float | str | None = None
    attributes: list[AttributeSent] | None = None


SpanT = TypeVar("SpanT")
LogT = TypeVar("LogT")


class ScopeSpansSent(Sent, Generic[SpanT]):
    spans: list[SpanT] | None = None


class ScopeLogsSent(Sent, Generic[LogT]):
    log_records: list[LogT] | None = None


class ResourceSpansSent(Sent, Generic[SpanT]):
    resource: ResourceSent | None = None
    scope_spans: list[ScopeSpansSent[SpanT]] | None = None


class ResourceLogsSent(Sent, Generic[LogT]):
    resource: ResourceSent | None = None
    scope_logs: list[ScopeLogsSent[LogT]] | None = None


class ExportSent(Sent, Generic[SpanT, LogT]):
    """An export of either kind. Null: not of this one."""

    resource_spans: list[ResourceSpansSent[SpanT]] | None = None
    resource_logs: list[ResourceLogsSent[LogT]] | None = None


Export = ExportSent[SpanSent, LogSent]
# One of which some record is odd: each is then read alone, so that it costs the others nothing.
OddExport = ExportSent[Any, Any]


# -- What it tells ---------------------------------------------------------------------------------------------------

Signal = Literal["spans", "logs"]


class Record(NamedTuple):
    """A span or a log record, and what its resource says of all that it sends."""

    sent: Any  # A SpanSent or a LogSent; of an OddExport, what may be one.
    resource: Attributes
    signal: Signal


def records_of(sent: Export | OddExport, signal: Signal) -> Iterator[Record]:
    """Yield what an export holds, in its order."""
    if signal == "spans":
        for spans in sent.resource_spans or ():
            resource = _resource(spans.resource)
            for scope in spans.scope_spans or ():
                yield from (Record(span, resource, signal) for span in scope.spans or ())
    else:
        for logs in sent.resource_logs or ():
            resource = _resource(logs.resource)
            for scoped in logs.scope_logs or ():
                yield from (Record(log, resource, signal) for log in scoped.log_records or ())


def call_of(record: Record) -> TelemetryCall | TillError | None:
    """Return the call that a record tells of, what is wrong with it, or None for what is no call of a model."""
    resource = record.resource
    try:
        sent = _read(record)
        attributes = _attributes(sent.attributes)
        if not telemetry.is_call(attributes):
            return None
        trace_id, span_id = (sent.trace_id or "")[:64].lower(), (sent.span_id or "")[:64].lower()
        if isinstance(sent, LogSent):
            at = _number(sent.time_unix_nano) or _number(sent.observed_time_unix_nano)
            return telemetry.call_of_log(
                attributes, resource, trace_id=trace_id, span_id=span_id, occurred_at=telemetry.moment_of(at)
            )
        if not trace_id or not span_id:
            raise InvalidRequest("The span has no traceId or no spanId.", field="spanId")
        return telemetry.call_of_span(
            attributes, resource, trace_id=trace_id, span_id=span_id,
            ended_at=telemetry.moment_of(_number(sent.end_time_unix_nano)), failure=_failure(sent, attributes),
        )  # fmt: skip
    except TillError as error:
        return error


_REJECTED = {"spans": "rejectedSpans", "logs": "rejectedLogRecords"}


def answer_of(rejected: Sequence[Exception], signal: Signal) -> dict[str, dict[str, str]]:
    """Return what an export is answered: nothing, or how many of its records were not recorded, and why."""
    if not rejected:
        return {}
    counts: dict[str, int] = {}
    for error in rejected:
        reason = error.detail if isinstance(error, TillError) else "Something went wrong on our side; it is in the log."
        counts[reason] = counts.get(reason, 0) + 1
    said = [f"{count} × {reason}" for reason, count in list(counts.items())[:_REASONS_MAX]]
    if len(counts) > _REASONS_MAX:
        said.append(f"(Other reasons: {len(counts) - _REASONS_MAX})")
    # A number of 64 bits is a text in the JSON of Protocol Buffers.
    rejected_count = {_REJECTED[signal]: str(len(rejected))}
    return {"partialSuccess": {**rejected_count, "errorMessage": " ".join(said)}}


def _read(record: Record) -> SpanSent | LogSent:
    """Raises: InvalidRequest when it is none."""
    sent = record.sent
    if isinstance(sent, SpanSent | LogSent):
        return sent
    try:
        return msgspec.convert(sent, SpanSent) if record.signal == "spans" else msgspec.convert(sent, LogSent)
    except UNREADABLE as error:
        raise InvalidRequest(f"This is nothing that OTLP has among {record.signal}: {error}.", field="body") from None


def _resource(sent: ResourceSent | None) -> Attributes:
    return {} if sent is None else _attributes(sent.attributes)


def _attributes(sent: Sequence[AttributeSent] | None) -> Attributes:
    """Return attributes by their names."""
    found: dict[str, object] = {}
    for attribute in sent or ():
        value = attribute.value
        if value is None:
            continue
        if value.string_value is not None:
            found[attribute.key] = value.string_value
        elif value.int_value is not None:
            found[attribute.key] = _number_or_text(value.int_value)
        elif value.double_value is not None:
            found[attribute.key] = value.double_value
        elif value.bool_value is not None:
            found[attribute.key] = value.bool_value
    return found


def _failure(span: SpanSent, attributes: Attributes) -> str | None:
    if span.status is None or span.status.code not in (2, "STATUS_CODE_ERROR"):
        return None
    kind = attributes.get(telemetry.ERROR)
    return span.status.message or (kind if isinstance(kind, str) and kind else "it failed")


def _number(value: float | str | None) -> int:
    """Return a whole number of 64 bits, written as one or as a text; 0 for none. Raises: InvalidRequest."""
    number = _number_or_text(value or 0)
    if isinstance(number, int):
        return number
    raise InvalidRequest(f"{str(number)[:30]!r} is no whole number of 64 bits.", field="intValue")


def _number_or_text(value: float | str) -> float | str:
    """Return a number that is written as one or as a text; what is none stays what it is, for nobody may care."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal() and len(value) <= 20:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
