"""The app: one ASGI application, to serve or to mount into another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokentill import __version__
from tokentill.errors import TillError
from tokentill.http import problems, site
from tokentill.http.auth import AdminKey
from tokentill.http.bodies import BatchBody, BatchView, CloudEventBody
from tokentill.http.envelope import Envelope
from tokentill.http.hot import door, events
from tokentill.http.reading import BODY_SECONDS
from tokentill.http.routes import (
    actions,
    admin,
    catalog,
    health,
    holds,
    inbox,
    payments,
    prices,
    selling,
    stripe,
    subscriptions,
    usage,
    users,
)
from tokentill.ids import Uuid7s
from tokentill.till import Till
from tokentill.worker.running import WorkerState


class TillApp(FastAPI):
    """FastAPI with the hot routes taken out at the door. Middleware that a host adds does not see those."""

    hot: door.HotRoutes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path, root = scope["path"], scope.get("root_path", "")
            if root and path.startswith(root + "/"):  # Where the app is mounted.
                path = path[len(root) :]
            route = door.route_of(path)
            if route is not None:
                await self.hot.answer(*route, scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def answer_rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as FastAPI does, whatever the route."""
        await super().__call__(scope, receive, send)


def create_app(
    till: Till,
    *,
    admin_key: str | None,
    webhook_secrets: tuple[str, ...],
    body_seconds: float = BODY_SECONDS,
    jobs: Callable[[], WorkerState] | None = None,
    docs: Path = site.BUILT,
) -> TillApp:
    """Return the JSON API over `till`, which stays the caller's to close.

    Without an `admin_key` only the webhook and health are answered; without `webhook_secrets` the webhook is off. A
    body may take `body_seconds` to arrive. `jobs` says how the worker in this process fares, where there is one. The
    folder `docs` has the site for /docs, if it has been built.
    """
    # /docs is our own site. FastAPI's interactive pages load their scripts from elsewhere; /openapi.json says it all.
    app = TillApp(title="tokentill", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    new_id = Uuid7s()
    app.state.till = till
    app.state.admin_key = AdminKey(admin_key)
    app.state.webhook_secrets = webhook_secrets
    app.state.jobs = jobs
    app.hot = door.HotRoutes(
        till, admin_key=app.state.admin_key, webhook_secrets=webhook_secrets, new_id=new_id, rest=app.answer_rest,
        body_seconds=body_seconds,
    )  # fmt: skip
    for part in (
        usage, holds, users, subscriptions, payments, admin, stripe, inbox, selling, catalog, actions, prices, health,
    ):  # fmt: skip
        app.include_router(part.router)
    for path in door.IN_FULL:  # For the other methods (405); a POST has been answered at the door.
        app.router.routes.append(Route(path, app, methods=["POST"], include_in_schema=False))
    app.router.routes.extend(site.routes(docs))
    app.add_exception_handler(TillError, problems.handle_till_error)
    app.add_exception_handler(HTTPException, problems.handle_http_exception)
    app.add_exception_handler(RequestValidationError, problems.handle_validation_error)
    app.add_middleware(Envelope, new_id=new_id, body_seconds=body_seconds)
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Let the OpenAPI document know what a problem looks like, and the routes that FastAPI never sees."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = document["components"]["schemas"]
            schemas["Problem"] = problems.SCHEMA
            _, batch = models_json_schema(
                [(BatchBody, "validation"), (BatchView, "serialization"), (CloudEventBody, "validation")],
                ref_template="#/components/schemas/{model}",
            )
            schemas |= batch["$defs"]
            document["paths"][door.BATCH] = {"post": _BATCH}
            document["paths"][events.EVENTS] = {"post": _EVENTS}
            document["paths"][events.TRACES_PATH] = {"post": _export("spans")}
            document["paths"][events.LOGS_PATH] = {"post": _export("logs")}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


_BATCH = {
    "tags": ["usage"],
    "summary": "Spend tokens on many AI operations",
    "description": "Each event has its own answer, in order; one that is refused leaves the others alone.",
    "operationId": "track_usages_v1_usage_batch_post",
    "security": [{"admin_key": []}],
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "Names the events that have no key of their own, each by its place.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchBody"}}},
    },
    "responses": {
        "200": {
            "description": "One answer to each event.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchView"}}},
        },
        **{str(status): said for status, said in problems.problems(400, 401, 408, 413, 422, 500, 503).items()},
    },
}

_EVENT, _EXPORT = {"$ref": "#/components/schemas/CloudEventBody"}, {"type": "object"}
_TAKEN = {"type": "object", "description": "partialSuccess, where something was not recorded; else nothing."}
_NOT_TAKEN = {str(status): said for status, said in problems.problems(400, 401, 408, 413, 422, 500, 503).items()}
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
        "201": {
            "description": "The one event is recorded.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UsageView"}}},
        },
        **_NOT_TAKEN,
        **{str(status): said for status, said in problems.problems(402, 404, 409).items()},
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
