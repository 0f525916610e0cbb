"""`/v1/users/…`: what a user holds, and how it came about. Reads only.

A user id may hold slashes: the last segment says what is asked, all before it is the id.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.convertors import Convertor, register_url_convertor

from tokentill.http.auth import AdminOnly
from tokentill.http.bodies import BalanceView, HistoryView, LotsView
from tokentill.http.deps import TillDep, UserId, cursor_of, page_of
from tokentill.http.hot.answered import HoldsView, encode
from tokentill.http.hot.document import answer
from tokentill.http.problems import problems


class _AnyText(Convertor[str]):
    """What `path` takes, and line breaks: whoever can be granted tokens can be asked about."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_text", _AnyText())

PREFIX = "/v1/users/{user_id:any_text}"

router = APIRouter(
    prefix=PREFIX, tags=["users"], dependencies=[AdminOnly],
    responses=problems(401, 404, 408, 413, 422, 500, 503),
)  # fmt: skip


@router.get("/balance", summary="What the account holds now")
def read_balance(user_id: UserId, till: TillDep) -> BalanceView:
    """Tokens whose time is over are not shown, whether or not a sweep has written them off."""
    return BalanceView.of(till.balance(user_id))


@router.get("/history", summary="The account's journal, newest first")
def read_history(
    user_id: UserId,
    till: TillDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(description="The next_cursor of the page before.")] = None,
) -> HistoryView:
    """Page by page: rows that are written meanwhile do not move the pages that follow."""
    entries = till.history(user_id, limit=limit, before_seq=page_of(cursor))
    # An account's seq starts with 1 and has no gaps.
    goes_on = bool(entries) and entries[-1].seq > 1
    return HistoryView.of(entries, user_id, next_cursor=cursor_of(entries[-1].seq) if goes_on else None)


@router.get("/lots", summary="The lots that have tokens left")
def read_lots(user_id: UserId, till: TillDep) -> LotsView:
    """First to burn first."""
    till.balance(user_id)  # For its AccountNotFound: no lots is what a spent account has.
    return LotsView.of(till.lots(user_id), user_id)


@router.get("/holds", summary="The holds that are open", responses={200: answer("HoldsView")}, response_class=Response)
def read_holds(
    user_id: UserId,
    till: TillDep,
    include_closed: Annotated[
        bool, Query(description="Those that were captured, voided or have expired, too.")
    ] = False,
) -> Response:
    """Oldest first. What is held is their sum, and nothing else."""
    held = HoldsView.of(till.holds(user_id, include_closed=include_closed), user_id)
    return Response(encode(held), media_type="application/json")
