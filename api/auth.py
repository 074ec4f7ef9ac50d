"""Who asks: an API key behind `Authorization: Bearer`, and nothing else yet."""

from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request as HttpRequest

from api.problems import Rejection
from api.service import Doors
from operations.model import Principal

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="triad"'}

SCHEME: Final = HTTPBearer(auto_error=False, bearerFormat="triad_...", description="An API key.")
"""How a key is sent, as the OpenAPI document says it."""


async def authenticated(
    request: HttpRequest,
    doors: Doors,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(SCHEME)],
) -> Principal:
    """The principal behind the request.

    Raises:
        Rejection: `unauthenticated`; the same answer for a key that is missing, unknown, expired or revoked.
    """
    principal = await doors.keys.find(credentials.credentials) if credentials else None
    if principal is None:
        raise Rejection("unauthenticated", "A valid key is needed.", headers=_CHALLENGE)
    request.state.principal = principal.id
    return principal


Caller = Annotated[Principal, Depends(authenticated)]
"""The principal behind the request, as a route's parameter."""


def bearer(request: HttpRequest) -> str:
    """The key that an authenticated request came with; streams ask again whether it still counts."""
    return request.headers["authorization"].partition(" ")[2]
