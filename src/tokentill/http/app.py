"""The app: one ASGI application, to serve or to mount into another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokentill import __version__
from tokentill.errors import TillError
from tokentill.http import problems, site
from tokentill.http.auth import AdminKey
from tokentill.http.envelope import Envelope
from tokentill.http.hot import document, door
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
        till, admin_key=app.state.admin_key, webhook_secrets=webhook_secrets, new_id=new_id,
        body_seconds=body_seconds,
    )  # fmt: skip
    for part in (
        holds, users, subscriptions, payments, admin, stripe, inbox, selling, catalog, actions, prices, health,
    ):  # fmt: skip
        app.include_router(part.router)
    for path in door.PATHS:  # For the other methods (405); a POST has been answered at the door.
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
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            found["components"]["schemas"] |= {"Problem": problems.SCHEMA, **document.schemas()}
            for path, methods in document.paths().items():
                found["paths"].setdefault(path, {}).update(methods)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents
