"""The log's own keys: which one signed what, and the rotation to a new one."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, once, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.governance import KeyRotation, LogKeys, LogKeyView, RotationMade
from api.service import Doors
from api.views import V1
from operations.policy import Action, Resource

router = APIRouter(prefix=f"{V1}/ledger", tags=["ledger"])


@router.get("/keys", response_model=LogKeys)
async def log_keys(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """Every key the log ever signed with, oldest first, and the entries that carry it."""
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="ledger", id="ledger")).raise_if_denied()
    items = tuple(LogKeyView(**period.model_dump()) for period in await doors.triad.log_keys.history())
    return unless_known(request, answer(LogKeys(items=items)))


@router.post(
    "/key/rotations",
    status_code=201,
    response_model=RotationMade,
    openapi_extra=described(KeyRotation, {"reason": "The yearly rotation.", "compromised": False}),
)
async def rotate(received: Annotated[Asked[KeyRotation], Depends(asked(KeyRotation))], doors: Doors) -> Response:
    """Let the log sign with a new key from the next entry on; the old private key is destroyed."""

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        body = received.value
        report = await doors.triad.log_keys.rotate(received.caller, body.reason, compromised=body.compromised)
        made = RotationMade(**report.rotation.model_dump(), sentences=report.sentences)
        return answer(made, status=201, headers={"Location": f"{V1}/ledger/keys"})

    return await once(doors, received, act)
