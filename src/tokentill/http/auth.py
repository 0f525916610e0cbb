"""Who may use the API: whoever holds the admin key."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tokentill.errors import SwitchedOff, Unauthorized

_bearer = HTTPBearer(
    auto_error=False, scheme_name="admin_key", description="The key that TILL_ADMIN_KEY holds, as a bearer token."
)


def require_admin(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Let pass who carries the admin key. Raises: SwitchedOff when none is set, Unauthorized."""
    admin_key: str | None = request.app.state.admin_key
    if not admin_key:
        raise SwitchedOff("The API is off: set TILL_ADMIN_KEY to a secret of at least 16 characters.")
    if given is None:
        raise Unauthorized("The key is missing: send it as Authorization: Bearer and the key.")
    # Headers arrive as latin-1, whatever was sent.
    if not hmac.compare_digest(given.credentials.encode("latin-1", "replace"), admin_key.encode()):
        raise Unauthorized("This key is not the till's.")


AdminOnly = Depends(require_admin)
