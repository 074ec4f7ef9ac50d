"""Evidence by digest: read it, let it expire, erase a piece that something personal slipped into."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.retention import ErasureView, EvidenceErasure, ExpiredClass, ExpiryRun, ExpiryView
from api.service import Doors
from api.views import V1
from operations.errors import InvalidRequest
from operations.policy import Action, Resource
from triad.expiry import Tally

router = APIRouter(prefix=f"{V1}/evidence", tags=["evidence"])

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def known_digest(text: str) -> str:
    """A digest from a path.

    Raises:
        InvalidRequest: `invalid-field`; it is none.
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidRequest(
            "invalid-field", "digest: send the whole SHA-256, 64 lower-case hex digits.", field="digest"
        )
    return text


@router.post(
    "/expiry",
    response_model=ExpiryView,
    openapi_extra=described(ExpiryRun, {"dry_run": True}, repeatable=False),
)
async def expiry(received: Annotated[Asked[ExpiryRun], Depends(asked(ExpiryRun))], doors: Doors) -> Response:
    """Let evidence expire by the settings' policy now, or say what would. The service does it by itself once a day."""
    organ, caller = doors.expiry, received.caller
    tallies = await (organ.due(caller) if received.value.dry_run else organ.expire_now(caller))
    return answer(_view(tallies, dry_run=received.value.dry_run))


@router.get(
    "/{digest}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def evidence(digest: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """A piece of evidence, byte by byte. Deleted evidence is 410, with when and by which rule."""
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="ledger", id="ledger")).raise_if_denied()
    body = await doors.triad.ledger.stored_evidence(known_digest(digest))
    headers = {"ETag": f'"{digest}"', "Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
    return unless_known(request, Response(body, media_type="application/octet-stream", headers=headers))


@router.post(
    "/{digest}/erasure",
    response_model=ErasureView,
    openapi_extra=described(EvidenceErasure, {"reason": "A customer's address stood in it."}, repeatable=False),
)
async def erase(
    digest: str, received: Annotated[Asked[EvidenceErasure], Depends(asked(EvidenceErasure))], doors: Doors
) -> Response:
    """Erase one piece of evidence for good, unless it is a constitution or its operation has not ended."""
    body = received.value
    done = await doors.privacy.erase_evidence(received.caller, known_digest(digest), body.reason, body.subject)
    view = ErasureView(
        subject=body.subject, evidence=digest, entries=done.entries, commitments=done.commitments, values=done.values
    )
    return answer(view)


def _view(tallies: list[Tally], *, dry_run: bool) -> ExpiryView:
    return ExpiryView(
        dry_run=dry_run,
        pieces=sum(each.pieces for each in tallies),
        bytes=sum(each.bytes for each in tallies),
        classes=tuple(ExpiredClass.model_validate(each._asdict()) for each in tallies),
    )
