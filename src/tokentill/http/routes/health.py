"""`/healthz` and `/readyz`: whether the process lives, and whether it can work."""

import os
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from tokentill import __version__
from tokentill.engine.routing import RoutedEngine
from tokentill.errors import TillError
from tokentill.http import problems
from tokentill.http.bodies import HealthView, JobsView, WorkerView
from tokentill.http.deps import TillDep
from tokentill.store import migrate
from tokentill.till import Till

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model_exclude_none=True, summary="Whether the process lives")
async def read_health(till: TillDep) -> HealthView:
    """Asks nobody: restart the process when this does not answer."""
    return HealthView(version=__version__, worker=_worker(till), jobs=None)


def _worker(till: Till) -> WorkerView | None:
    engine = till.context.engine
    if not isinstance(engine, RoutedEngine):
        return None
    return WorkerView(number=engine.number + 1, of=engine.count, pid=os.getpid(), **asdict(engine.counts))


@router.get(
    "/readyz", response_model=HealthView, response_model_exclude_none=True, responses=problems.problems(503),
    summary="Whether the till can work",
)  # fmt: skip
def read_readiness(request: Request, till: TillDep) -> HealthView | Response:
    """Asks the database whether it is there and has this version's schema: send no requests while it is not.

    Requests are served whether or not the jobs run.
    """
    try:
        with till.context.connection() as conn:
            migrate.require_current(conn)
    except TillError as error:
        return problems.of_error(error, problems.request_id_of(request), status=503)
    return HealthView(version=__version__, worker=_worker(till), jobs=_jobs(request))


def _jobs(request: Request) -> JobsView | None:
    if request.app.state.jobs is None:
        return None
    state = request.app.state.jobs()
    return JobsView(running=state.is_running, error=state.error)
