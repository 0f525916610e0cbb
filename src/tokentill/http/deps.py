"""What routes are handed: the till, and the parts of a request that several of them read."""

from typing import Annotated

from fastapi import Depends, Header, Path, Request

from tokentill.errors import InvalidRequest, InvalidUserId
from tokentill.till import Till


def _till(request: Request) -> Till:
    till: Till = request.app.state.till
    return till


TillDep = Annotated[Till, Depends(_till)]


def _required_key(
    idempotency_key: Annotated[
        str, Header(min_length=1, max_length=255, description="Names the request: repeated with it, it happens once.")
    ],
) -> str:
    return idempotency_key


IdempotencyKey = Annotated[str, Depends(_required_key)]
OptionalIdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255,
        description="Names the request: repeated with it, it happens once.",
    ),
]  # fmt: skip


def _user_id(
    request: Request,
    user_id: Annotated[
        str, Path(description="The caller's own id of the user, percent-encoded.", examples=["auth0%7C42"])
    ],
) -> str:
    # A server decodes a path and puts U+FFFD for what is no UTF-8: two broken ids would then be one user.
    if "\ufffd" in user_id and b"%EF%BF%BD" not in request.scope.get("raw_path", b"").upper():
        raise InvalidUserId("The user id in the path is not UTF-8.")
    return user_id


UserId = Annotated[str, Depends(_user_id)]

Actor = Annotated[
    str | None, Header(alias="X-Admin", max_length=255, description="Who does it, for the audit log.")
]  # fmt: skip

REPLAYED = "Idempotency-Replayed"


def page_of(cursor: str | None) -> int | None:
    """Return the seq that a cursor stands for. Raises: InvalidRequest."""
    if cursor is None:
        return None
    seq = cursor.removeprefix("seq_")
    if seq == cursor or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
        raise InvalidRequest("This is no cursor of ours: pass on the next_cursor of the page before.", field="cursor")
    return int(seq)


def cursor_of(seq: int) -> str:
    return f"seq_{seq}"
