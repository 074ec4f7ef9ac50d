"""The constitution: read it, propose another text, ratify one; and the halt over everything."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, once, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.governance import Amendments, AmendmentView, ArticleView, ConstitutionView, HaltView
from api.retention import ConstitutionHistory, ConstitutionTerm, ConstitutionText
from api.schemas import Amendment, Reasoned
from api.service import Doors, Service
from api.views import V1
from operations.canonical import Digest
from operations.errors import ConstitutionInvalid, InvalidRequest, NotFound
from operations.events import ConstitutionAmended, ConstitutionProposed
from operations.policy import Action, Resource
from storage.entry import Entry
from triad.annals import Term, history, text_of

router = APIRouter(prefix=V1, tags=["constitution"])

_SCANNED: Final = 10_000


async def _may_read(doors: Service, caller: Caller) -> None:
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="constitution", id="constitution")).raise_if_denied()


@router.get(
    "/constitution",
    response_model=ConstitutionView,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, 304: {"description": "The same."}},
)
async def constitution(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """The constitution in force; as the document itself where `Accept` asks for text/markdown."""
    await _may_read(doors, caller)
    document = doors.triad.law.in_force()
    if "text/markdown" in request.headers.get("accept", ""):
        headers = {"ETag": f'"{document.digest}.md"', "Vary": "Accept"}
        return unless_known(request, Response(document.text, media_type="text/markdown", headers=headers))
    articles = tuple(
        ArticleView(id=each.id, title=each.title, text=each.text, enforced=each.enforced) for each in document.articles
    )
    view = ConstitutionView(digest=document.digest, preamble=document.preamble, articles=articles)
    return unless_known(request, answer(view, etag=document.digest, headers={"Vary": "Accept"}))


@router.post(
    "/constitution/amendments",
    status_code=201,
    response_model=AmendmentView,
    tags=["constitution"],
    openapi_extra=described(Amendment, {"text": "# The constitution\n...", "reason": "Tier 2 needs two approvers."}),
)
async def propose(received: Annotated[Asked[Amendment], Depends(asked(Amendment))], doors: Doors) -> Response:
    """Put a new text forward, as the first of two people. It changes nothing until the second ratifies it."""

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        body = received.value
        try:
            event = await doors.triad.regency.propose(received.caller, body.text, body.reason)
        except ConstitutionInvalid as error:
            doors.triad.law.in_force()  # when it is the one in force that is broken, say that instead
            raise InvalidRequest("amendment-invalid", str(error), field="text") from error
        view = await _amendment(doors, event.amendment)
        return answer(view, status=201, headers={"Location": f"{V1}/constitution/amendments/{event.amendment}"})

    return await once(doors, received, act)


@router.get("/constitution/amendments", response_model=Amendments)
async def amendments(caller: Caller, doors: Doors) -> Response:
    """What was proposed, newest first."""
    await _may_read(doors, caller)
    return answer(Amendments(items=tuple(await _all(doors))))


@router.get("/constitution/amendments/{ident}", response_model=AmendmentView)
async def amendment(ident: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """One proposed text, as a diff against the text in force."""
    await _may_read(doors, caller)
    return unless_known(request, answer(await _amendment(doors, ident)))


@router.post(
    "/constitution/amendments/{ident}/ratify",
    response_model=AmendmentView,
    openapi_extra=described(Reasoned, {"reason": "Read the diff; it only tightens."}),
)
async def ratify(ident: str, received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors) -> Response:
    """Bring a proposed text into force, as the second person. Plans made under the old one are planned again."""

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        await doors.triad.regency.ratify(received.caller, ident, received.value.reason)
        return answer(await _amendment(doors, ident))

    return await once(doors, received, act)


async def _all(doors: Service) -> list[AmendmentView]:
    entries = await doors.triad.ledger.entries(kinds={"constitution.proposed", "constitution.amended"}, limit=_SCANNED)
    in_force = (await doors.triad.ledger.head()).constitution
    enacted = {each.event.amendment for each in entries if isinstance(each.event, ConstitutionAmended)}
    return [
        _view(entry, entry.event, in_force, enacted)
        for entry in reversed(entries)
        if isinstance(entry.event, ConstitutionProposed)
    ]


def _view(entry: Entry, event: ConstitutionProposed, in_force: Digest, enacted: set[str]) -> AmendmentView:
    state: Literal["proposed", "in_force", "enacted", "overtaken"]
    if event.amendment in enacted:
        state = "in_force" if event.proposed == in_force else "enacted"
    else:
        state = "proposed" if entry.constitution == in_force else "overtaken"
    return AmendmentView(
        amendment=event.amendment,
        proposed=event.proposed,
        replaces=entry.constitution,
        by=event.by,
        reason=event.reason,
        at=entry.time,
        state=state,
    )


async def _amendment(doors: Service, ident: str) -> AmendmentView:
    for view in await _all(doors):
        if view.amendment == ident:
            text = (await doors.triad.ledger.evidence(view.proposed)).decode()
            old = (await doors.triad.ledger.evidence(view.replaces)).decode()
            diff = "".join(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), view.replaces, view.proposed)  # noqa: FBT003 - keepends
            )
            return view.model_copy(update={"diff": diff})
    raise NotFound("unknown-amendment", "There is no such proposal.")


@router.get("/constitution/history", response_model=ConstitutionHistory)
async def constitution_history(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """Every constitution that was ever in force: from which entry, proposed and ratified by whom."""
    await _may_read(doors, caller)
    because = {each.amendment: each.reason for each in await _all(doors)}
    items = tuple(_term(term, because) for term in await history(doors.triad.ledger))
    return unless_known(request, answer(ConstitutionHistory(items=items)))


@router.get(
    "/constitution/{digest}",
    response_model=ConstitutionText,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, 304: {"description": "The same."}},
)
async def constitution_text(digest: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """The text of a constitution that is or was in force, or was proposed; it never expires."""
    await _may_read(doors, caller)
    text = await text_of(doors.triad.ledger, digest)
    if "text/markdown" in request.headers.get("accept", ""):
        headers = {"ETag": f'"{digest}.md"', "Vary": "Accept"}
        return unless_known(request, Response(text, media_type="text/markdown", headers=headers))
    return unless_known(
        request, answer(ConstitutionText(digest=digest, text=text), etag=digest, headers={"Vary": "Accept"})
    )


def _term(term: Term, because: Mapping[str, str]) -> ConstitutionTerm:
    amended = term.amendment
    return ConstitutionTerm(
        digest=term.digest,
        first=term.first,
        last=term.last,
        since=term.since,
        amendment=amended.amendment if amended else None,
        proposer=amended.proposer if amended else None,
        ratifier=amended.ratifier if amended else None,
        proposed_because=because.get(amended.amendment) if amended else None,
        reason=amended.reason if amended else None,
        in_force=term.last is None,
    )


@router.post(
    "/halt",
    response_model=HaltView,
    tags=["crown"],
    openapi_extra=described(Reasoned, {"reason": "A playbook behaves oddly on db-3."}),
)
async def halt(received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors) -> Response:
    """Stop everything at once: no warrant is honoured until the release."""

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        index = await doors.triad.regency.halt(received.caller, received.value.reason)
        return answer(HaltView(halted=True, index=index))

    return await once(doors, received, act)


@router.post(
    "/release",
    response_model=HaltView,
    tags=["crown"],
    openapi_extra=described(Reasoned, {"reason": "Understood and fixed."}),
)
async def release(received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors) -> Response:
    """End the halt. Only a person may."""

    async def act(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        index = await doors.triad.regency.release(received.caller, received.value.reason)
        return answer(HaltView(halted=False, index=index))

    return await once(doors, received, act)
