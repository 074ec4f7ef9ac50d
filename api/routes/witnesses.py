"""The witnesses that the log asks: what each cosigned, and what it refuses."""

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, unless_known
from api.auth import Caller
from api.governance import Witnesses, WitnessView
from api.service import Doors
from api.views import V1
from operations.policy import Action, Resource
from storage.verifier.checkpoint import Checkpoint, parse_note
from storage.witnessed import Standing

router = APIRouter(prefix=f"{V1}/witnesses", tags=["ledger"])


@router.get("", response_model=Witnesses)
async def witnesses(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """The witnesses of the log, what each cosigned last, and what it refuses."""
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="ledger", id="ledger")).raise_if_denied()
    asked, ledger = doors.witnesses, doors.triad.ledger
    note = await asked.newest()
    shown = Witnesses(
        size=(await ledger.head()).size,
        quorum=asked.quorum,
        cosigned=Checkpoint.parse(parse_note(note).text).size if note else None,
        asking=asked.asking,
        items=tuple([_view(await ledger.standing(peer), asked.trouble.get(peer.name)) for peer in asked.peers]),
    )
    return unless_known(request, answer(shown))


def _view(standing: Standing, trouble: str | None) -> WitnessView:
    refused = standing.refused[-1].event if standing.refused else None
    return WitnessView(
        name=standing.peer.name,
        vkey=standing.peer.key.text(),
        url=standing.peer.url,
        size=standing.size,
        cosigned=datetime.fromtimestamp(standing.at, UTC) if standing.at is not None else None,
        behind_since=standing.since,
        refused=refused.code if refused else None,
        seen=refused.seen if refused else None,
        reasons=refused.reasons if refused else (),
        trouble=trouble,
    )
