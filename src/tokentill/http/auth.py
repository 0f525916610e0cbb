"""Who may use the API: whoever holds the admin key."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tokentill.errors import SwitchedOff, Unauthorized

_bearer = HTTPBearer(
    auto_error=False, scheme_name="admin_key", description="The key that TILL_ADMIN_KEY holds, as a bearer token."
)


class AdminKey:
    """The key that opens the API. Compared by digest, and in the same time whatever is presented."""

    def __init__(self, key: str | None) -> None:
        self._digest = hashlib.sha256(key.encode()).digest() if key else None

    def check(self, presented: bytes | None) -> None:
        """Let pass who presents the key. Raises: SwitchedOff when none is set, Unauthorized."""
        if self._digest is None:
            raise SwitchedOff("The API is off: set TILL_ADMIN_KEY to a secret of at least 16 characters.")
        if not presented:
            raise Unauthorized("The key is missing: send it as Authorization: Bearer and the key.")
        if not hmac.compare_digest(hashlib.sha256(presented).digest(), self._digest):
            raise Unauthorized("This key is not the till's.")


def presented_in(authorization: bytes | None) -> bytes | None:
    """Return the bearer token that an Authorization header carries, by the rule that FastAPI has for other routes."""
    if authorization is None:
        return None
    if authorization.startswith(b"Bearer "):
        return authorization[7:].strip()
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def require_admin(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Let pass who carries the admin key. Raises: SwitchedOff when none is set, Unauthorized."""
    admin_key: AdminKey = request.app.state.admin_key
    # Headers arrive as latin-1, whatever was sent.
    admin_key.check(None if given is None else given.credentials.encode("latin-1", "replace"))


AdminOnly = Depends(require_admin)
