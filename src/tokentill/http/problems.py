"""Problems: every error as problem+json (RFC 9457), and which branch of the errors' tree has which status.

A body holds `type` (where the error is documented), `title`, `status`, `detail`, `code`, the error's own fields and the
`request_id`. `code` is for programs and never changes; `detail` is for people and may.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tokentill import errors
from tokentill.errors import TillError

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[TillError], int] = {
    errors.InvalidRequest: 422,
    errors.BadSignature: 400,
    errors.MalformedBody: 400,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.Unauthorized: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    # 402 and not 409: clients built like Stripe's retry a 409.
    errors.Insufficient: 402,
    errors.Unavailable: 503,
    errors.Misconfigured: 500,
}

TITLES: Mapping[type[TillError], str] = {
    errors.InvalidRequest: "The request can never work",
    errors.BadSignature: "The signature cannot be believed",
    errors.MalformedBody: "The body cannot be read",
    errors.BodyTooLarge: "The body is too large",
    errors.BodyTooSlow: "The body does not arrive",
    errors.Unauthorized: "The request carries no valid key",
    errors.NotFound: "What the request is about does not exist",
    errors.Conflict: "The request contradicts what is recorded",
    errors.Insufficient: "The account cannot cover it",
    errors.Unavailable: "Not now",
    errors.Misconfigured: "The till is not set up to work",
}

# Codes of answers that no error of the till causes.
NO_ROUTE, NO_METHOD, INTERNAL = "route_not_found", "method_not_allowed", "internal_error"

RETRY_AFTER_SECONDS = 5
REQUEST_ID = "tokentill.request_id"  # Where the envelope leaves it in the request's scope.
_RESERVED = {"type", "title", "status", "detail", "code", "request_id"}

log = logging.getLogger("tokentill.http")


def branch_of(error: TillError) -> type[TillError]:
    """Return the branch of the errors' tree that `error` is on."""
    return next(branch for branch in STATUS if isinstance(error, branch))


def of_error(error: TillError, request_id: str, *, status: int | None = None) -> Response:
    """Return the answer to an error of the till; its status is the branch's unless one is given."""
    branch = branch_of(error)
    status = status or STATUS[branch]
    if branch is errors.Misconfigured:
        log.error("%s: %s (request %s)", error.code, error.detail, request_id)
    headers = {}
    if error.retryable:
        headers["Retry-After"] = str(error.fields.get("retry_after", RETRY_AFTER_SECONDS))
    if branch is errors.Unauthorized:
        headers["WWW-Authenticate"] = 'Bearer realm="tokentill"'
    if branch is errors.BodyTooSlow:
        headers["Connection"] = "close"  # What is still to come of the body would be taken for the next request.
    return answer(status, error.code, TITLES[branch], error.detail, request_id, fields=error.fields, headers=headers)


def within(error: TillError) -> dict[str, object]:
    """Return the problem as one of many in an answer: what would have been the header is the field `retry_after`."""
    branch = branch_of(error)
    if branch is errors.Misconfigured:
        log.error("%s: %s", error.code, error.detail)
    fields = {"retry_after": RETRY_AFTER_SECONDS, **error.fields} if error.retryable else error.fields
    return _body(STATUS[branch], error.code, TITLES[branch], error.detail, fields)


def bug_within() -> dict[str, object]:
    """Return the same for what nobody expected."""
    return _body(500, INTERNAL, "An error of ours", "Something went wrong on our side; it is in the log.", {})


def of_bug(request_id: str) -> Response:
    """Return the answer to what nobody expected. What it was is in the log, under the same id."""
    detail = "Something went wrong on our side; it is in the log under this request's id."
    return answer(500, INTERNAL, "An error of ours", detail, request_id)


def answer(
    status: int,
    code: str,
    title: str,
    detail: str,
    request_id: str,
    *,
    fields: Mapping[str, object] = {},
    headers: Mapping[str, str] = {},
) -> Response:
    body = _body(status, code, title, detail, fields) | {"request_id": request_id}
    return Response(dumped(body), status, dict(headers), MEDIA_TYPE)


def dumped(problem: Mapping[str, object]) -> bytes:
    """Return a problem as JSON, in ASCII: a caller's half of a surrogate pair may be quoted, and has no UTF-8."""
    return json.dumps(problem, ensure_ascii=True, default=str).encode()


def _body(status: int, code: str, title: str, detail: str, fields: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **{name: value for name, value in fields.items() if name not in _RESERVED},
    }


def of_shape(found: Sequence[Mapping[str, Any]]) -> TillError:
    """Return the error that pydantic's complaints amount to; each place starts with "body", "path", "header" …"""
    for each in found:
        if each["type"] == "json_invalid":
            return errors.MalformedBody(f"The body is not JSON: {each['ctx']['error']} (character {each['loc'][-1]}).")
    said = [{"field": _field(each["loc"]), "message": _message(each)} for each in found]
    return errors.InvalidRequest("; ".join(f"{each['field']}: {each['message']}" for each in said[:5]), errors=said)


# --- As FastAPI's exception handlers ---


async def handle_till_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TillError)
    return of_error(error, request_id_of(request))


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself answers: no such route, no such method, a body that is no JSON."""
    assert isinstance(error, HTTPException)
    request_id = request_id_of(request)
    if error.status_code == 404:
        return answer(404, NO_ROUTE, "There is no such route", f"Nothing is at {_path(request)}.", request_id)
    if error.status_code == 405:
        detail = f"{request.method} is not what {_path(request)} answers to."
        headers = error.headers or {}
        return answer(405, NO_METHOD, "This route has no such method", detail, request_id, headers=headers)
    if error.status_code == 400:
        return of_error(errors.MalformedBody("The body is no JSON that can be read."), request_id)
    return answer(
        error.status_code, f"http_{error.status_code}", HTTPStatus(error.status_code).phrase, str(error.detail),
        request_id, headers=error.headers or {},
    )  # fmt: skip


async def handle_validation_error(request: Request, error: Exception) -> Response:
    """The body, path, query or headers have another shape than the route takes."""
    assert isinstance(error, RequestValidationError)
    return of_error(of_shape(error.errors()), request_id_of(request))


def request_id_of(request: Request) -> str:
    """Return the id that `http.envelope` gave this request."""
    return str(request.scope.get(REQUEST_ID, ""))


def _path(request: Request) -> str:
    return ascii(str(request.scope.get("path", "")))[1:-1][:200]


def _field(place: Sequence[object]) -> str:
    """Return "tokens" for ("body", "tokens"), and "body" for the body as a whole."""
    return ".".join(str(part) for part in place[1:]) or str(place[0])


def _message(found: Mapping[str, Any]) -> str:
    if tuple(found["loc"]) == ("body",):
        if found["type"] == "missing":
            return "a JSON object is missing"
        return "must be a JSON object, sent as Content-Type: application/json"
    if found["type"] == "extra_forbidden":
        return "is not known here"
    if found["type"] == "missing":
        return "is missing"
    message = str(found["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


# --- As OpenAPI documents them ---

SCHEMA: Mapping[str, object] = {
    "type": "object",
    "description": "What went wrong (RFC 9457), with the error's own fields beside these.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Where the error is documented."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, for people."},
        "code": {"type": "string", "description": "What happened, for programs: never changes."},
        "errors": {
            "type": "array",
            "description": "Which fields have the wrong shape, where that is the problem.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "request_id": {"type": "string"},
    },
    "additionalProperties": True,
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route's `responses` say about the problems it may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _describe(status), "content": content} for status in statuses}


def _describe(status: int) -> str:
    titles = [TITLES[branch] for branch, branch_status in STATUS.items() if branch_status == status]
    return "; ".join(titles) + "."
