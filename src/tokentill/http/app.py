"""The app: one ASGI application, to serve or to mount into another."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from tokentill import __version__
from tokentill.errors import TillError
from tokentill.http import admin, health, problems, stripe, usage, users
from tokentill.http.envelope import Envelope
from tokentill.ids import Uuid7s
from tokentill.till import Till


def create_app(till: Till, *, admin_key: str | None, webhook_secrets: tuple[str, ...]) -> FastAPI:
    """Return the JSON API over `till`, which stays the caller's to close.

    Without an `admin_key` only the webhook and health are answered; without `webhook_secrets` the webhook is off.
    """
    # No interactive docs: those pages load their scripts from elsewhere. /openapi.json says it all.
    app = FastAPI(title="tokentill", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.till = till
    app.state.admin_key = admin_key
    app.state.webhook_secrets = webhook_secrets
    for part in (usage, users, admin, stripe, health):
        app.include_router(part.router)
    app.add_exception_handler(TillError, problems.handle_till_error)
    app.add_exception_handler(HTTPException, problems.handle_http_exception)
    app.add_exception_handler(RequestValidationError, problems.handle_validation_error)
    app.add_middleware(Envelope, new_id=Uuid7s())
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Let the OpenAPI document know what a problem looks like."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            document["components"]["schemas"]["Problem"] = problems.SCHEMA
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents
