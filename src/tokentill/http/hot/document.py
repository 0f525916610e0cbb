"""The hot routes in the OpenAPI document: FastAPI never sees them, and msgspec describes their bodies and answers."""

from collections.abc import Mapping
from typing import Any

from msgspec.json import schema_components

from tokentill.http.hot import door, events
from tokentill.http.hot.answered import AcceptedView, BatchView, CaptureView, HoldsView, HoldView, UsageView
from tokentill.http.hot.sent import BatchBody, CaptureBody, CloudEventBody, HoldBody, RenewBody, UsageBody
from tokentill.http.problems import problems

REF = "#/components/schemas/{name}"
_DESCRIBED = (
    UsageBody, HoldBody, RenewBody, CaptureBody, BatchBody, CloudEventBody, UsageView, AcceptedView, BatchView,
    CaptureView, HoldView, HoldsView,
)  # fmt: skip


def schemas() -> dict[str, Any]:
    """Return the schemas of what the hot routes take and answer, and of holds wherever they are answered."""
    _, described = schema_components(_DESCRIBED, ref_template=REF)
    for body in ("UsageBody", "UsageEvent", "CaptureBody"):
        described[body].get("required", []).sort(key=lambda name: name != "user_id")  # Who comes first.
        # A Decimal is a text for msgspec's schema; its decoder takes a number, too, and keeps all its digits.
        numbers = [{"type": kind} for kind in ("integer", "number", "string", "null")]
        described[body]["properties"]["cost_estimate"]["anyOf"] = numbers
    described["BatchView"]["properties"]["results"]["items"] = {"anyOf": [_ref("AcceptedView"), {"type": "object"}]}
    return described


def paths() -> dict[str, Any]:
    """Return what each path of the hot routes takes and answers."""
    of_hold = f"{door.HOLDS}/{{hold_id}}"
    return {
        path: {"post": operation}
        for path, operation in {
            door.USAGE: _USAGE, door.BATCH: _BATCH, events.EVENTS: _EVENTS, events.TRACES_PATH: _export("spans"),
            events.LOGS_PATH: _export("logs"), door.HOLDS: _PLACE, f"{of_hold}/renew": _RENEW,
            f"{of_hold}/capture": _CAPTURE, f"{of_hold}/void": _VOID,
        }.items()
    }  # fmt: skip


def answer(name: str, description: str = "Successful Response") -> dict[str, Any]:
    """Return what a route's `responses` say of an answer that has one of the schemas."""
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def _body(name: str, *, is_required: bool = True) -> dict[str, Any]:
    return {"required": is_required, "content": {"application/json": {"schema": _ref(name)}}}


def _refusals(*statuses: int) -> dict[str, Any]:
    return {str(status): said for status, said in problems(*statuses).items()}


def _operation(
    tag: str, name: str, summary: str, description: str, responses: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    return {
        "tags": [tag], "summary": summary, "description": description, "operationId": name,
        "security": [{"admin_key": []}], **more, "responses": dict(responses),
    }  # fmt: skip


def _key(description: str, *, is_required: bool) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key", "in": "header", "required": is_required, "description": description,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }  # fmt: skip


_NAMES = "Names the request: repeated with it, it happens once."
_HOLD_ID = {
    "name": "hold_id", "in": "path", "required": True, "schema": {"type": "string"},
    "description": "The id that placing the hold answered.",
}  # fmt: skip

_USAGE = _operation(
    "usage", "track_usage_v1_usage_post", "Spend tokens on an AI operation",
    "Refused with 402 when the account cannot cover it. Safe to repeat with the same Idempotency-Key.",
    {"201": answer("UsageView"), **_refusals(400, 401, 402, 404, 408, 409, 413, 422, 500, 503)},
    parameters=[_key(_NAMES, is_required=True)], requestBody=_body("UsageBody"),
)  # fmt: skip
_BATCH = _operation(
    "usage", "track_usages_v1_usage_batch_post", "Spend tokens on many AI operations",
    "Each event has its own answer, in order; one that is refused leaves the others alone.",
    {"200": answer("BatchView", "One answer to each event."), **_refusals(400, 401, 408, 413, 422, 500, 503)},
    parameters=[
        _key("Names the events that have no key of their own, each by its place.", is_required=False)
    ], requestBody=_body("BatchBody"),
)  # fmt: skip

_PLACE = _operation(
    "holds", "place_hold_v1_holds_post", "Set tokens aside for a call",
    "Refused with 402 when they cannot be reached. Repeated with its key, the hold is answered as it stands.",
    {"201": answer("HoldView"), **_refusals(400, 401, 402, 404, 408, 409, 413, 422, 500, 503)},
    parameters=[_key(_NAMES, is_required=True)], requestBody=_body("HoldBody"),
)  # fmt: skip
_RENEW = _operation(
    "holds", "renew_hold_v1_holds__hold_id__renew_post", "Give an open hold more time",
    "Safe to repeat: it never lives shorter than it would have.",
    {"200": answer("HoldView"), **_refusals(400, 401, 404, 408, 409, 413, 422, 500, 503)},
    parameters=[_HOLD_ID], requestBody=_body("RenewBody", is_required=False),
)  # fmt: skip
_CAPTURE = _operation(
    "holds", "capture_hold_v1_holds__hold_id__capture_post", "Spend what the call took, and free the rest",
    "Safe to repeat, with a key or without: a hold is captured once, and asked again, it answers that.",
    {"200": answer("CaptureView"), **_refusals(400, 401, 402, 404, 408, 409, 413, 422, 500, 503)},
    parameters=[_HOLD_ID, _key(_NAMES, is_required=False)], requestBody=_body("CaptureBody", is_required=False),
)  # fmt: skip
_VOID = _operation(
    "holds", "void_hold_v1_holds__hold_id__void_post", "Free a hold's tokens",
    "Safe to repeat. One that has expired is free already.",
    {"200": answer("HoldView"), **_refusals(401, 404, 408, 409, 413, 422, 500, 503)},
    parameters=[_HOLD_ID],
)  # fmt: skip

_EVENT, _EXPORT = {"$ref": "#/components/schemas/CloudEventBody"}, {"type": "object"}
_TAKEN = {"type": "object", "description": "partialSuccess, where something was not recorded; else nothing."}
_NOT_TAKEN = _refusals(400, 401, 408, 413, 422, 500, 503)
_EVENTS = {
    "tags": ["usage"],
    "summary": "Record usage that CloudEvents or OpenTelemetry tell of",
    "description": "What is sent again changes nothing. Recorded even into debt.",
    "operationId": "take_events_v1_events_post",
    "security": [{"admin_key": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": _EVENT},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _EVENT}},
            "application/json": {"schema": {"anyOf": [_EVENT, {"type": "array", "items": _EVENT}, _EXPORT]}},
        },
    },
    "responses": {
        "200": {
            "description": "One answer to each event of a batch; to an export what OTLP says.",
            "content": {
                "application/json": {"schema": {"anyOf": [{"$ref": "#/components/schemas/BatchView"}, _TAKEN]}}
            },
        },
        "201": answer("UsageView", "The one event is recorded."),
        **_NOT_TAKEN,
        **_refusals(402, 404, 409),
    },
}


def _export(what: str) -> dict[str, Any]:
    return {
        "tags": ["usage"],
        "summary": f"Record usage that OpenTelemetry's {what} tell of (OTLP/HTTP, JSON)",
        "operationId": f"take_{what}",
        "security": [{"admin_key": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _EXPORT}}},
        "responses": {
            "200": {"description": "Taken.", "content": {"application/json": {"schema": _TAKEN}}},
            **_NOT_TAKEN,
        },
    }
