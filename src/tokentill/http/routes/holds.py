"""`/v1/holds/{hold_id}`: a hold, looked at. What changes one is a hot route (`http.hot.holds`)."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tokentill.http.auth import AdminOnly
from tokentill.http.deps import TillDep
from tokentill.http.hot.answered import HoldView, encode
from tokentill.http.hot.document import answer
from tokentill.http.hot.holds import address
from tokentill.http.problems import problems

router = APIRouter(prefix="/v1/holds", tags=["holds"], dependencies=[AdminOnly])


@router.get(
    "/{hold_id}", responses={200: answer("HoldView"), **problems(401, 404, 408, 413, 422, 500, 503)},
    summary="A hold as it stands now", response_class=Response,
)  # fmt: skip
def read_hold(
    hold_id: Annotated[str, Path(description="The id that placing the hold answered.")], till: TillDep
) -> Response:
    """Whether it is open or not."""
    return Response(encode(HoldView.of(till.find_hold(*address(hold_id)))), media_type="application/json")
