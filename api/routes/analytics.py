"""What the ledger's entries say about the work: computed when asked for, and stored on the record on request."""

import asyncio
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, once, page, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.service import Doors, Service
from api.views import V1
from operations.canonical import SAFE_INTEGER, Digest, sha256
from operations.errors import Conflict, NotFound
from operations.model import Principal
from operations.policy import Action, Resource
from triad.analytics.analysis import Analyst, store
from triad.analytics.markdown import document
from triad.analytics.records import Analysis, Question, Report, StoredReport, StoredReports
from triad.analytics.report import digest_of

router = APIRouter(prefix=f"{V1}/audit", tags=["ledger"])

_LEDGER: Final = Resource(kind="ledger", id="ledger")
_MARKDOWN: Final = "text/markdown"
_BOTH: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {_MARKDOWN: {"schema": {"type": "string"}}}},
    304: {"description": "The same."},
}
_PATIENCE: Final = 30
"""Seconds that a question waits for the analyses before it."""


@router.get("/analytics", response_model=Analysis, responses={200: _BOTH[200]})
async def analytics(
    caller: Caller, doors: Doors, request: HttpRequest, question: Annotated[Question, Query()]
) -> Response:
    """Counts, durations, refusals, gaps and insights of a time range, 24 hours unless another is asked for."""
    await _may_read(doors, caller)
    analyst, begun = doors.analyst, time.monotonic()
    report = await _computed(analyst, question)
    digest = digest_of(report)
    if _MARKDOWN in request.headers.get("accept", ""):
        return _as_markdown(report, digest)
    found = Analysis(
        digest=digest,
        report=report,
        live=await analyst.live(report),
        milliseconds=round((time.monotonic() - begun) * 1000),
    )
    return answer(found, headers={"Vary": "Accept"})


@router.post(
    "/reports",
    status_code=201,
    response_model=StoredReport,
    openapi_extra=described(Question, {"since": "24h"}),
)
async def store_report(received: Annotated[Asked[Question], Depends(asked(Question))], doors: Doors) -> Response:
    """Compute a report and keep it: evidence under its digest, and an entry `report.stored` that names it."""
    await doors.triad.law.demand(received.caller, Action.READ, _LEDGER)

    async def act(_again: bool) -> Response:  # noqa: FBT001 - see `once`; a second entry for the same digest is harmless
        report = await _computed(doors.analyst, received.value)
        stored = await store(doors.triad.ledger, received.caller, report)
        return answer(stored, status=201, headers={"Location": f"{V1}/audit/reports/{stored.digest}"})

    return await once(doors, received, act)


@router.get("/reports", response_model=StoredReports)
async def reports(
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    limit: Annotated[int, Query(ge=1, le=500, description="items on a page")] = 50,
    cursor: Annotated[int | None, Query(ge=0, le=SAFE_INTEGER, description="index of the last entry")] = None,
) -> Response:
    """Stored reports, newest first."""
    await _may_read(doors, caller)
    found = await doors.analyst.stored(before=cursor, limit=limit)
    return page(found, request, found.items[-1].index if len(found.items) == limit else None)


@router.get("/reports/{digest}", response_model=Report, responses=_BOTH)
async def stored_report(digest: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """A stored report: its canonical bytes, or a document for people where `Accept` asks for text/markdown."""
    await _may_read(doors, caller)
    if not _is_digest(digest):
        raise NotFound("unknown-report", "No report was stored under that digest.")
    report, body = await doors.analyst.load(digest)
    if _MARKDOWN in request.headers.get("accept", ""):
        return unless_known(request, _as_markdown(report, digest))
    headers = {"ETag": f'"{digest}"', "Vary": "Accept"}
    return unless_known(request, Response(body, media_type="application/json", headers=headers))


async def _may_read(doors: Service, caller: Principal) -> None:
    sight = await doors.sight(caller)
    sight.decide(Action.READ, _LEDGER).raise_if_denied()


async def _computed(analyst: Analyst, question: Question) -> Report:
    try:
        async with asyncio.timeout(_PATIENCE):
            await analyst.turn.acquire()
    except TimeoutError:
        raise Conflict("analysis-busy", "Another analysis is under way.") from None
    try:
        return await analyst.report(await analyst.scope(question))
    finally:
        analyst.turn.release()


def _as_markdown(report: Report, digest: Digest) -> Response:
    text = document(report, digest)
    headers = {"ETag": f'"{sha256(text.encode())[:32]}"', "Vary": "Accept"}
    return Response(text, media_type=_MARKDOWN, headers=headers)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(each in "0123456789abcdef" for each in text)  # noqa: PLR2004 - SHA-256 in hexadecimal
