"""The ledger from outside: its entries, as they come, and whether all of it verifies."""

from typing import Annotated, Final, get_args

from fastapi import APIRouter, Path, Query
from pydantic import StringConstraints
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, page, unless_known
from api.auth import Caller
from api.routes.operations import known_id
from api.schemas import AuditReport, Entries
from api.service import Doors, Service
from api.stream import DESCRIBED, After, stream
from api.views import V1, entry_view
from operations.canonical import SAFE_INTEGER, sha256
from operations.errors import InvalidRequest
from operations.events import AnyEvent
from operations.model import Principal
from operations.policy import Action, Resource
from storage.proving import prove

_KINDS: Final = frozenset(each.model_fields["kind"].default for each in get_args(get_args(AnyEvent)[0]))
"""Every kind of entry there is."""

router = APIRouter(tags=["ledger"])


async def _may_read(doors: Service, caller: Principal) -> None:
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="ledger", id="ledger")).raise_if_denied()


@router.get(f"{V1}/audit", response_model=Entries)
async def audit(
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    *,
    operation: Annotated[str | None, Query(description="only entries of this operation")] = None,
    kind: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}(\.[a-z_]{1,40})?$")]] | None,
        Query(description="only entries of these kinds"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="items on a page")] = 100,
    after: Annotated[int, Query(alias="cursor", ge=-1, le=SAFE_INTEGER, description="index of the last entry")] = -1,
) -> Response:
    """Entries of the ledger, oldest first."""
    await _may_read(doors, caller)
    ident = known_id(operation) if operation is not None else None
    for number, each in enumerate(kind or ()):
        if each not in _KINDS:
            raise InvalidRequest("invalid-field", f"kind: number {number + 1} is no kind of entry.", field="kind")
    found = await doors.triad.ledger.entries(after=after, operation=ident, kinds=kind, limit=limit)
    shown = tuple(entry_view(entry) for entry in found)
    return page(Entries(items=shown), request, found[-1].index if len(found) == limit else None)


@router.get("/api/verification/audit", response_model=AuditReport)
async def verification(caller: Caller, doors: Doors) -> Response:
    """Verify the whole ledger: root, signature, and what it means. Verified once for each size."""
    await _may_read(doors, caller)
    return answer(await doors.auditor.report())


@router.get("/api/verification/audit/{seq}/proof", response_class=Response)
async def proof(
    caller: Caller,
    doors: Doors,
    request: HttpRequest,
    *,
    seq: Annotated[int, Path(ge=0, le=SAFE_INTEGER, description="index of the entry")],
    size: Annotated[
        int | None, Query(ge=1, le=SAFE_INTEGER, description="of an older checkpoint; without it the newest")
    ] = None,
) -> Response:
    """The proof that an entry is in the log, as C2SP tlog-proof; its `extra` is the entry's bytes."""
    await _may_read(doors, caller)
    made = (await prove(doors.triad.ledger, seq, size)).encode()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{seq}.tlog-proof"',
        "Cache-Control": "private, no-cache",
        "ETag": f'"{sha256(made)[:32]}"',
    }
    return unless_known(request, Response(made, headers=headers))


@router.get("/monitoring/stream", response_class=Response, responses=DESCRIBED)
async def monitoring(caller: Caller, doors: Doors, request: HttpRequest, after: After = None) -> Response:
    """Everything that happens and that the caller may see, as it happens."""
    return await stream(doors, caller, request, after)
