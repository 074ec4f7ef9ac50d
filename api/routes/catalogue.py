"""What may be touched and with what: the inventory's systems and the catalogue's playbooks."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, unless_known
from api.auth import Caller
from api.schemas import Playbooks, PlaybookView, Systems, SystemView
from api.service import Doors, Service
from api.views import V1
from operations.model import Principal
from operations.playbook import Playbook
from operations.policy import Action, Resource
from operations.systems import System

router = APIRouter(prefix=V1, tags=["catalogue"])


@router.get("/systems", response_model=Systems)
async def systems(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """The systems that the caller may read, and the playbooks that fit each."""
    sight = await doors.sight(caller)
    shown = tuple(_system(each, doors) for each in doors.triad.inventory.systems if sight.reads("system", each.name))
    return unless_known(request, answer(Systems(items=shown)))


def _system(system: System, doors: Service) -> SystemView:
    return SystemView(
        name=system.name,
        kind=system.kind,
        owner=system.owner,
        environment=system.environment,
        tier_floor=system.tier_floor,
        description=system.description,
        digest=system.digest,
        playbooks=tuple(sorted(each.name for each in doors.triad.catalogue if system.kind in each.fits)),
    )


async def _may_read(doors: Service, caller: Principal) -> None:
    """The catalogue is read by whoever may read systems."""
    sight = await doors.sight(caller)
    sight.decide(Action.READ, Resource(kind="system", id="catalogue")).raise_if_denied()


@router.get("/playbooks", response_model=Playbooks)
async def playbooks(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """Every playbook of the catalogue."""
    await _may_read(doors, caller)
    shown = tuple(_playbook(each) for each in sorted(doors.triad.catalogue, key=lambda each: each.name))
    return unless_known(request, answer(Playbooks(items=shown)))


@router.get("/playbooks/{name}", response_model=PlaybookView)
async def playbook(name: str, caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """One playbook, with the schema of its arguments."""
    await _may_read(doors, caller)
    return unless_known(request, answer(_playbook(doors.triad.catalogue.get(name))))


def _playbook(playbook: Playbook[Any]) -> PlaybookView:
    return PlaybookView(
        name=playbook.name,
        summary=playbook.summary,
        tier=playbook.tier,
        effect=playbook.effect,
        fits=tuple(sorted(playbook.fits)),
        reversible=playbook.reversible,
        emergency=playbook.emergency,
        timeout_seconds=int(playbook.timeout.total_seconds()),
        sustain_seconds=int(playbook.sustain.total_seconds()),
        keywords=playbook.keywords,
        arguments=playbook.schema(),
        digest=playbook.digest,
    )
