"""Operations: ask for one, see where it stands, follow it, call it off."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, once, page, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.problems import Rejection
from api.schemas import (
    Demands,
    DryRun,
    Entries,
    Operations,
    OperationView,
    PlanView,
    Reasoned,
    Reconciliation,
    Resolution,
)
from api.service import Doors, Service
from api.stream import DESCRIBED, After, stream
from api.views import V1, entry_view, in_hand, operation_view, plan_view
from operations.canonical import SAFE_INTEGER, JsonObject, canonical, now
from operations.errors import InvalidRequest, NotFound
from operations.events import OperationRequested, PlanRefused
from operations.model import OperationId, Request
from operations.operation import Operation
from operations.stages import Stage
from triad.planning import Drafted

router = APIRouter(prefix=f"{V1}/operations", tags=["operations"])

_OPERATION: Final = re.compile(r"op_[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,3})(?:$|[,;\s])", re.ASCII)
_LONGEST_WAIT: Final = 30
_LOOKED_BACK: Final = 100
"""How many of a principal's newest operations are compared with a key whose first request died."""

_EXAMPLE: Final[JsonObject] = {
    "type": "maintenance",
    "description": "Vacuum and analyze Triad's own database",
    "systems": ["triad-db"],
    "playbook": "postgres.vacuum_analyze",
}

Limit = Annotated[int, Query(ge=1, le=200, description="items on a page")]
Before = Annotated[str | None, Query(alias="cursor", max_length=64, description="from the `Link` of the page before")]


def known_id(ident: str) -> OperationId:
    """The id, if it can be one.

    Raises:
        NotFound: `unknown-operation`.
    """
    if not _OPERATION.fullmatch(ident):
        raise NotFound("unknown-operation", "There is no such operation.")
    return ident


def cursor_of(before: str | None) -> str | None:
    """The place in a list of operations from which to go on.

    Raises:
        Rejection: `bad-cursor`.
    """
    if before is not None and not _OPERATION.fullmatch(before):
        raise Rejection("bad-cursor", "It is the id of an operation.", field="cursor")
    return before


@router.post(
    "",
    status_code=202,
    response_model=OperationView,
    responses={200: {"model": OperationView | DryRun, "description": "Finished within `Prefer: wait`, or a dry run."}},
    openapi_extra=described(Request, _EXAMPLE),
)
async def submit(
    received: Annotated[Asked[Request], Depends(asked(Request))],
    doors: Doors,
    request: HttpRequest,
    *,
    dry_run: Annotated[bool, Query(description="plan and judge only; nothing is recorded as an operation")] = False,
) -> Response:
    """Ask for an operation. It is planned, approved, executed, evaluated and ruled on by itself."""
    _fits(received.value)
    if dry_run:
        return answer(_dry_run(await doors.triad.petitions.preview(received.caller, received.value)))
    doors.demand_sound(emergency=received.value.emergency)
    seconds = _patience(request)

    async def act(again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        op = await _earlier(doors, received) if again else None
        op = op or await doors.triad.petitions.submit(received.caller, received.value, idempotency_key=received.key)
        if seconds:
            op = await _finished(doors, op, seconds)
        headers = {"Location": f"{V1}/operations/{op.id}", "X-Request-ID": op.trace or ""}
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds}"
        return answer(operation_view(op), status=200 if seconds and op.stage.terminal else 202, headers=headers)

    return await once(doors, received, act)


def _fits(request: Request) -> None:
    try:
        canonical([[[request.parameters]]])  # as deep as it will lie in entry, event and request
    except ValueError as error:
        raise InvalidRequest("too-deep", "The parameters are nested too deeply.", field="parameters") from error


def _patience(request: HttpRequest) -> int:
    """Seconds to wait for the end, as `Prefer: wait=n` asks (RFC 7240); 0 not to wait."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(found[1]), _LONGEST_WAIT) if found else 0


async def _earlier(doors: Service, received: Asked[Request]) -> Operation | None:
    """The operation that an earlier request with this key made before its process died."""
    ledger, since = doors.triad.ledger, now() - timedelta(hours=25)
    for op in await ledger.operations(requester=received.caller.id, limit=_LOOKED_BACK):
        first = await ledger.entries(operation=op.id, kinds={"operation.requested"}, limit=1)
        event = first[0].event if first else None
        if op.requested < since:
            return None
        if isinstance(event, OperationRequested) and event.idempotency_key == received.key:
            return op
    return None


async def _finished(doors: Service, op: Operation, seconds: int) -> Operation:
    """The operation as it stands when it ends, or when the time is over."""
    ledger = doors.triad.ledger
    try:
        async with asyncio.timeout(seconds), aclosing(ledger.follow(-1, operation=op.id)) as entries:
            async for entry in entries:
                if entry.after is not None and entry.after.terminal:
                    break
    except TimeoutError:
        pass
    return await ledger.load(op.id)


def _dry_run(drafted: Drafted) -> DryRun:
    thought, found = drafted.thought, drafted.answer
    if isinstance(found, PlanRefused):
        return DryRun(
            allowed=False,
            code=found.code,
            reasons=found.reasons,
            articles=found.articles,
            nearest=found.nearest,
            model=thought.model,
            prompt=thought.prompt,
            degraded=thought.degraded is not None,
        )
    needs = found.requirements
    verdict = Demands(
        tier=needs.tier,
        mode=found.mode,
        quorum=needs.quorum,
        assent=needs.assent,
        reasons=needs.reasons,
        articles=needs.articles,
    )
    return DryRun(
        allowed=True,
        plan=found.plan,
        digest=found.plan.digest,
        demands=verdict,
        reasons=needs.reasons,
        articles=needs.articles,
        model=thought.model,
        prompt=thought.prompt,
        degraded=thought.degraded is not None,
    )


@router.get("", response_model=Operations)
async def operations(
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    *,
    stage: Annotated[list[Stage] | None, Query(description="only those at one of these stages")] = None,
    mine: Annotated[bool, Query(description="only the caller's own")] = False,
    limit: Limit = 50,
    before: Before = None,
) -> Response:
    """The operations that the caller may read, newest first."""
    found = await doors.triad.ledger.operations(
        stages=stage, requester=caller.id if mine else None, before=cursor_of(before), limit=limit
    )
    sight = await doors.sight(caller)
    shown = tuple(operation_view(op) for op in found if sight.sees(op))
    return page(Operations(items=shown), request, found[-1].id if len(found) == limit else None)


@router.get("/{ident}", response_model=OperationView, responses={304: {"description": "Nothing has changed."}})
async def operation(ident: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """One operation."""
    op = await doors.triad.petitions.show(caller, known_id(ident))
    return unless_known(request, answer(operation_view(op)))


@router.get("/{ident}/plan", response_model=PlanView)
async def plan(ident: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """The plan in hand, whole, and its earlier versions."""
    op = await doors.triad.petitions.show(caller, known_id(ident))
    in_hand(op)
    proposals = await doors.triad.ledger.entries(operation=op.id, kinds={"plan.proposed"})
    return unless_known(request, answer(plan_view(op, proposals)))


@router.get("/{ident}/timeline", response_model=Entries)
async def timeline(
    ident: str,
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    *,
    limit: Annotated[int, Query(ge=1, le=1000, description="items on a page")] = 500,
    after: Annotated[int, Query(alias="cursor", ge=-1, le=SAFE_INTEGER, description="index of the last entry")] = -1,
) -> Response:
    """What happened to an operation, oldest first."""
    op = await doors.triad.petitions.show(caller, known_id(ident))
    found = await doors.triad.ledger.entries(after=after, operation=op.id, limit=limit)
    shown = tuple(entry_view(entry) for entry in found)
    return page(Entries(items=shown), request, found[-1].index if len(found) == limit else None)


@router.get("/{ident}/events", response_class=Response, responses=DESCRIBED)
async def events(ident: str, caller: Caller, doors: Doors, request: HttpRequest, after: After = None) -> Response:
    """What happens to an operation, as it happens, from its beginning; ends with it."""
    op = await doors.triad.petitions.show(caller, known_id(ident))
    return await stream(doors, caller, request, after, op.id)


def _act(
    doors: Service, received: "Asked[Any]", act: Callable[[], Awaitable[Operation]], *, status: int = 200
) -> Awaitable[Response]:
    async def shown(_again: bool) -> Response:  # noqa: FBT001 - the signature that `once` asks for
        return answer(operation_view(await act()), status=status)

    return once(doors, received, shown)


_REASON: Final[JsonObject] = {"reason": "The window has been moved to Sunday."}


@router.post(
    "/{ident}/cancel", status_code=202, response_model=OperationView, openapi_extra=described(Reasoned, _REASON)
)
async def cancel(ident: str, received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors) -> Response:
    """Call an operation off. A running one stops after the step in hand and is then evaluated."""
    petitions, reason = doors.triad.petitions, received.value.reason
    return await _act(doors, received, lambda: petitions.cancel(received.caller, known_id(ident), reason), status=202)


@router.post("/{ident}/withdraw", response_model=OperationView, openapi_extra=described(Reasoned, _REASON))
async def withdraw(
    ident: str, received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors
) -> Response:
    """Take one's own approval back, which is possible until the operation starts."""
    petitions, reason = doors.triad.petitions, received.value.reason
    return await _act(doors, received, lambda: petitions.withdraw(received.caller, known_id(ident), reason))


@router.post(
    "/{ident}/reconcile",
    response_model=OperationView,
    openapi_extra=described(Reconciliation, {"happened": True, "reason": "The index is there and valid."}),
)
async def reconcile(
    ident: str, received: Annotated[Asked[Reconciliation], Depends(asked(Reconciliation))], doors: Doors
) -> Response:
    """Say what happened to a step in doubt; the operation goes on from there."""
    petitions, body = doors.triad.petitions, received.value
    return await _act(
        doors,
        received,
        lambda: petitions.reconcile(received.caller, known_id(ident), happened=body.happened, reason=body.reason),
    )


@router.post(
    "/{ident}/resolve",
    response_model=OperationView,
    openapi_extra=described(Resolution, {"ruling": "rollback", "reason": "The evidence is thin; take it back."}),
)
async def resolve(
    ident: str, received: Annotated[Asked[Resolution], Depends(asked(Resolution))], doors: Doors
) -> Response:
    """Decide what the crown escalated."""
    petitions, body = doors.triad.petitions, received.value
    return await _act(
        doors, received, lambda: petitions.resolve(received.caller, known_id(ident), body.ruling, body.reason)
    )


@router.post("/{ident}/ratify", response_model=OperationView, openapi_extra=described(Reasoned, _REASON))
async def ratify(ident: str, received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors) -> Response:
    """Stand, as the second person, behind an emergency that was declared."""
    petitions, reason = doors.triad.petitions, received.value.reason
    return await _act(doors, received, lambda: petitions.ratify(received.caller, known_id(ident), reason))
