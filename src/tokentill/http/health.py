"""`/healthz` and `/readyz`: whether the process lives, and whether it can work."""

from fastapi import APIRouter, Request, Response

from tokentill import __version__
from tokentill.errors import TillError
from tokentill.http import problems
from tokentill.http.bodies import HealthView
from tokentill.http.deps import TillDep
from tokentill.store import migrate

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives")
async def read_health() -> HealthView:
    """Asks nobody: restart the process when this does not answer."""
    return HealthView(version=__version__)


@router.get("/readyz", response_model=HealthView, responses=problems.problems(503), summary="Whether the till can work")
def read_readiness(request: Request, till: TillDep) -> HealthView | Response:
    """Asks the database whether it is there and has this version's schema: send no requests while it is not."""
    try:
        with till.context.connection() as conn:
            migrate.require_current(conn)
    except TillError as error:
        return problems.of_error(error, problems.request_id_of(request), status=503)
    return HealthView(version=__version__)
