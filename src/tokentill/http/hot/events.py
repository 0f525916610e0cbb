"""`POST /v1/events`: usage that others tell of, as CloudEvents 1.0 or as OpenTelemetry's spans and logs.

What is told has happened: it is recorded even into debt, at the price of when it occurred, from the lots of today. Each
event names itself (a CloudEvent by source and id, a span by its ids, a call by its response's id), so that no
`Idempotency-Key` is needed and whatever is sent again changes nothing.

| Sent | Answered |
| --- | --- |
| one CloudEvent, structured or binary | as `POST /v1/usage` would |
| a batch of CloudEvents | each event for itself, as `POST /v1/usage/batch` would |
| `resourceSpans`, `resourceLogs` | OTLP's partial success (`http.hot.otlp`); also on `/v1/traces` and `/v1/logs` |
"""

import logging
import zlib
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote

import msgspec

from tokentill.core.ledger.commands import Spend
from tokentill.core.usage.telemetry import TelemetryCall, action_of_type, name_of_event
from tokentill.core.values import replace
from tokentill.errors import BodyTooLarge, MalformedBody, TillError
from tokentill.http.hot import batches, otlp
from tokentill.http.hot.answered import UsageView, encode
from tokentill.http.hot.asked import Answered, Asked
from tokentill.http.hot.batches import BATCH_BYTES_MAX, CommandOf
from tokentill.http.hot.otlp import Export, OddExport, Signal
from tokentill.http.hot.sent import CLOUD_EVENT, EVENT, EVENTS_MAX, UNREADABLE, UsageEvent, parsed, wrong
from tokentill.http.reading import is_json
from tokentill.services.accounts.asking import Asking
from tokentill.store.journal import Receipt
from tokentill.till import Till

EVENTS, TRACES_PATH, LOGS_PATH = "/v1/events", "/v1/traces", "/v1/logs"

_any = msgspec.json.Decoder()
_export = msgspec.json.Decoder(Export)
_GZIP = 16 + zlib.MAX_WBITS

log = logging.getLogger("tokentill.http")


async def take(till: Till, asked: Asked, body: bytes) -> Answered:
    """Take whatever of these was sent: its shape says which. Raises: InvalidRequest, MalformedBody, BodyTooLarge."""
    body = _unpacked(asked, body)
    is_binary = any(name == b"ce-specversion" for name, _ in asked.scope["headers"])
    if not is_binary and (export := _export_in(body)) is not None:
        return await _take_export(till, export, "spans" if export.resource_spans is not None else "logs")
    sent = _parsed(body)
    if is_binary:
        return await _take_one(till, {**_attributes_in(asked), "data": sent})
    if isinstance(sent, list):
        return await _take_many(till, sent)
    if isinstance(sent, dict) and ("resourceSpans" in sent or "resourceLogs" in sent):
        return await _take_export(till, _converted(sent), "spans" if "resourceSpans" in sent else "logs")
    return await _take_one(till, sent)


async def take_traces(till: Till, asked: Asked, body: bytes) -> Answered:
    """Take an export of spans. Raises: InvalidRequest, MalformedBody, BodyTooLarge, Unavailable."""
    return await _take_export(till, _exported(asked, body), "spans")


async def take_logs(till: Till, asked: Asked, body: bytes) -> Answered:
    """Take an export of log records. Raises: InvalidRequest, MalformedBody, BodyTooLarge, Unavailable."""
    return await _take_export(till, _exported(asked, body), "logs")


# -- CloudEvents -------------------------------------------------------------------------------------------------------


async def _take_one(till: Till, event: object) -> Answered:
    usage = usage_of_event(event)
    ((name, outcome),) = await batches.carry_out(till, [usage], batches.command_of(None))
    if not isinstance(outcome, Receipt):
        raise outcome
    return Answered(201, encode(UsageView.of(outcome, name)), outcome.is_replay)


async def _take_many(till: Till, events: Sequence[object]) -> Answered:
    if len(events) > EVENTS_MAX:
        raise wrong(("body", f"must have at most {EVENTS_MAX:,} events"))
    usages = await batches.each(events, usage_of_event)
    written, is_replay = batches.answer_of(await batches.carry_out(till, usages, batches.command_of(None)))
    return Answered(200, written, is_replay)


def usage_of_event(event: object) -> UsageEvent | TillError:
    """Return the usage that a CloudEvent tells of, or what is wrong with it."""
    try:
        sent = CLOUD_EVENT.take(event)
        usage = sent.data.copy()
        if "idempotency_key" in usage:
            raise wrong(("data.idempotency_key", "is not known here: an event is named by its source and id"))
        usage["idempotency_key"] = name_of_event(sent.source, sent.id)
        if "user_id" not in usage and "userId" not in usage:
            if sent.subject is None:
                raise wrong(("subject", "is missing: it names the user, or data.user_id does"))
            usage["user_id"] = sent.subject
        usage.setdefault("action_type", action_of_type(sent.type))
        usage.setdefault("on_insufficient", "record")
        if sent.time is not None:
            usage.setdefault("occurred_at", sent.time)
        return EVENT.take(usage)
    except TillError as error:
        return error


def _attributes_in(asked: Asked) -> dict[str, str]:
    """Return the attributes of an event that has them in its headers (`ce-…`). Raises: InvalidRequest."""
    found = {}
    for header, value in asked.scope["headers"]:
        if header.startswith(b"ce-"):
            name = header[3:].decode("latin-1")
            try:
                # Strictly: with U+FFFD for what is no UTF-8, two broken names would be one event.
                found[name] = unquote(value.decode("latin-1"), errors="strict")
            except UnicodeDecodeError:
                raise wrong((name, "is not UTF-8, percent-encoded")) from None
    return found


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------


async def _take_export(till: Till, sent: Export | OddExport, signal: Signal) -> Answered:
    """Record the calls of an export. Raises: Unavailable when any of them must be sent again: then all are to be."""
    if sent.resource_logs if signal == "spans" else sent.resource_spans:
        raise wrong(("body", f"must hold {signal} only: an export is of one kind, and nothing of it may be lost"))
    records = list(otlp.records_of(sent, signal))
    calls = [call for call in await batches.each(records, otlp.call_of) if call is not None]
    command_of = _command_of(till.clock())
    rejected: list[Exception] = []
    # However many there are, none may be lost; so many at a time, because the engine's queue has an end.
    for first in range(0, len(calls), EVENTS_MAX):
        outcomes = await batches.carry_out(till, calls[first : first + EVENTS_MAX], command_of)
        errors = [outcome for _, outcome in outcomes if not isinstance(outcome, Receipt)]
        again = next((error for error in errors if isinstance(error, TillError) and error.retryable), None)
        if again is not None:
            raise again
        rejected += errors
    said = otlp.answer_of(rejected, signal)
    if rejected:
        # An exporter's owner may never look at what it is answered.
        log.warning("not recorded of what %s tell: %s", signal, said["partialSuccess"]["errorMessage"])
    return Answered(200, encode(said))


def _command_of(now: datetime) -> CommandOf:
    def command(asking: Asking, told: TelemetryCall, _: int) -> Spend:
        call = told.call
        if call.occurred_at is not None and call.occurred_at > now:
            # The exporter's clock is ahead: no reason to lose what has happened, and nobody there to put it right.
            call = replace(call, occurred_at=now)
        spend = asking.spend_of(told.user, call, on_insufficient="record", may_ask=False)
        return replace(spend, key=told.keys[0], aliases=told.keys[1:])

    return command


def _export_in(body: bytes) -> Export | None:
    """Return the export that a body is, or None when it is none, or not surely."""
    try:
        sent = _export.decode(body)
    except UNREADABLE:
        return None
    return None if sent.resource_spans is None and sent.resource_logs is None else sent


def _exported(asked: Asked, body: bytes) -> Export | OddExport:
    body = _unpacked(asked, body)
    try:
        return _export.decode(body)
    except UNREADABLE:
        return _converted(_parsed(body))


def _converted(sent: object) -> OddExport:
    """Return what is an export in another encoding or with odd records. Raises: InvalidRequest."""
    try:
        return msgspec.convert(sent, OddExport)
    except UNREADABLE as error:
        raise wrong(("body", f"is no export of OTLP: {error}")) from None


# -- Bodies ------------------------------------------------------------------------------------------------------------


def _parsed(body: bytes) -> object:
    """Return the JSON that was sent. Raises: MalformedBody."""
    try:
        return _any.decode(body)
    except UNREADABLE:
        return parsed(body)


def _unpacked(asked: Asked, body: bytes) -> bytes:
    """Return a body that says it is JSON, unpacked, and never more of it than may be sent.

    Raises: InvalidRequest, MalformedBody, BodyTooLarge.
    """
    if not is_json(asked.content_type):
        raise wrong(
            ("body", "must be JSON, sent as application/json (OTLP: http/json) or application/cloudevents+json")
        )
    encoding = next((value for name, value in asked.scope["headers"] if name == b"content-encoding"), b"identity")
    if encoding.lower() == b"identity":
        return body
    if encoding.lower() != b"gzip":
        raise wrong(("content-encoding", "must be gzip or left out"))
    unpacking = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacking.decompress(body, BATCH_BYTES_MAX + 1)
    except zlib.error:
        raise MalformedBody("The body is not what gzip makes.") from None
    if len(unpacked) > BATCH_BYTES_MAX:
        raise BodyTooLarge(f"The body is larger than {BATCH_BYTES_MAX:,} bytes.", bytes_max=BATCH_BYTES_MAX)
    if not unpacking.eof:
        raise MalformedBody("The body ends in the middle of what gzip made.")
    if unpacking.unused_data:  # To leave it alone could lose a second piece.
        raise MalformedBody("The body goes on behind what gzip made.")
    return unpacked
