"""`/docs`: the site that `make docs` has built into the package, and that a wheel built after it carries.

`/docs/errors#<code>`, every problem's `type`, leads to the error's section.
"""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tokentill.http import problems

BUILT = Path(__file__).parents[1] / "site"

# The theme has small scripts and styles within its pages, and searches in a worker. Nothing comes from elsewhere.
_HEADERS = {
    "Cache-Control": "no-cache",  # A browser asks whether the page is still the same: by its ETag, answered with 304.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self';"
    " worker-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class _Pages(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response


def routes(built: Path) -> list[BaseRoute]:
    """Return the routes of the site in the folder `built`; where there is none, `/docs` says how to build it."""
    if not (built / "index.html").is_file():
        return [Route("/docs", _is_not_built), Route("/docs/{page:path}", _is_not_built)]
    return [
        Route("/docs", _to("docs/")),
        Route("/docs/errors", _to("reference/errors/")),  # A browser takes the fragment along.
        Mount("/docs", _Pages(directory=built, html=True)),
    ]


def _to(place: str) -> Any:
    async def redirect(request: Request) -> Response:
        return RedirectResponse(place)  # Relative: the app may be mounted anywhere.

    return redirect


async def _is_not_built(request: Request) -> Response:
    detail = "The documentation is not built here. In a clone of tokentill, `make docs` builds it; then start again."
    return problems.answer(404, problems.NO_ROUTE, "There is no such route", detail, problems.request_id_of(request))
