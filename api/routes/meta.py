"""About the service itself: its version, who the caller is, and what each problem means."""

import html

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer
from api.auth import Caller
from api.codes import CODES
from api.governance import Me, VersionView
from api.problems import Rejection
from api.service import Doors
from api.settings import VERSION
from api.views import V1

router = APIRouter(tags=["service"])


@router.get(f"{V1}/version", response_model=VersionView)
async def version() -> Response:
    """What runs here."""
    return answer(VersionView(name="triad", version=VERSION, api="v1"))


@router.get(f"{V1}/me", response_model=Me)
async def me(caller: Caller, doors: Doors) -> Response:
    """Who the key says you are."""
    view = Me(
        id=caller.id,
        kind=caller.kind,
        person=caller.person,
        roles=tuple(sorted(caller.roles)),
        constitution=doors.triad.law.in_force().digest,
    )
    return answer(view)


@router.get("/problems/{code}", responses={200: {"content": {"text/html": {}, "text/markdown": {}}}})
async def problem_page(code: str, request: HttpRequest) -> Response:
    """What a problem's code means and what to do next."""
    known = CODES.get(code)
    if known is None:
        raise Rejection("not-found", "There is no such problem.")
    if "text/html" in request.headers.get("accept", ""):
        title, following = html.escape(known.title), html.escape(known.next)
        page = f"<!doctype html><html lang=en><title>{code}</title><h1>{title}</h1><p>HTTP {known.status}, {code}</p>"
        return Response(f"{page}<p>{following}</p></html>\n", media_type="text/html")
    text = f"# {known.title}\n\nHTTP {known.status}, `{code}`\n\n{known.next}\n"
    return Response(text, media_type="text/markdown")
