"""The ledger as C2SP tlog-tiles, for monitors and mirrors that are not ours; what a path names never changes.

The paths are those of an export folder, so that one client reads both. Source: https://c2sp.org/tlog-tiles.
"""

import asyncio
import gzip
import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Security
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import ValidationError
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import unless_known
from api.auth import SCHEME, authenticated
from api.service import Doors, Service
from api.views import V1
from operations.canonical import SAFE_INTEGER, sha256
from operations.constitution import Constitution
from operations.errors import ConstitutionInvalid, NotFound
from operations.model import Plan
from operations.policy import Action, Resource
from storage.verifier.tiles import Tile, TileMalformed

PREFIX: Final = f"{V1}/ledger"

_FOREVER: Final = "max-age=31536000, immutable"
_NOW: Final = "no-cache"
_TEXT: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"
_WORTH: Final = 1024
"""Bytes from which on compressing is worth its time."""
_LEVEL: Final = 6
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CANONICAL_SIZE: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)


async def _may_mirror(
    request: HttpRequest,
    doors: Doors,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(SCHEME)],
) -> Service:
    """The service, for whoever may read the ledger; for everybody where the settings say so."""
    if doors.settings.server.mirror == "auditors":
        caller = await authenticated(request, doors, credentials)
        sight = await doors.sight(caller)
        sight.decide(Action.READ, Resource(kind="ledger", id="ledger")).raise_if_denied()
    return doors


Open = Annotated[Service, Depends(_may_mirror)]
router = APIRouter(tags=["ledger"], prefix=PREFIX, default_response_class=Response)


@router.get("/checkpoint")
async def checkpoint(doors: Open, request: HttpRequest) -> Response:
    """The newest checkpoint, a signed note, with the cosignatures of the witnesses that answered."""
    return _served(request, doors, await doors.triad.ledger.checkpoint(), _TEXT, changes=True)


@router.get("/cosigned-checkpoint")
async def cosigned_checkpoint(doors: Open, request: HttpRequest) -> Response:
    """The newest checkpoint that meets the policy's quorum of witnesses: what a monitor goes by.

    A policy that asks for no witness is met by the newest checkpoint.
    """
    return _served(request, doors, await doors.source.cosigned(), _TEXT, changes=True)


@router.get("/checkpoints/{size}")
async def older_checkpoint(
    doors: Open, request: HttpRequest, size: Annotated[str, Path(description="number of entries")]
) -> Response:
    """The checkpoint at a size where a batch ended; cosignatures may be added to it."""
    if not _CANONICAL_SIZE.fullmatch(size) or int(size) > SAFE_INTEGER or not _exact(request, f"checkpoints/{size}"):
        raise NotFound("unknown-checkpoint", "There is no checkpoint of that size.")
    return _served(request, doors, await doors.triad.ledger.checkpoint(int(size)), _TEXT, changes=True)


@router.get("/policy")
async def policy(doors: Open, request: HttpRequest) -> Response:
    """The log's keys, witnesses and quorum as a tlog-policy. Whoever verifies brings their own."""
    return _served(request, doors, await doors.source.policy(), _TEXT, changes=True)


@router.get("/tile/{place:path}")
async def tile(
    doors: Open, request: HttpRequest, place: Annotated[str, Path(description="L/N[.p/W] or entries/N[.p/W]")]
) -> Response:
    """A tile of hashes, or a bundle of entries, of the committed log."""
    try:
        found = Tile.parse(f"tile/{place}")
    except TileMalformed:
        found = None
    if found is None or not _exact(request, found.path):
        raise NotFound("unknown-tile", "No tile has such a path.")
    if found.level is not None:
        data = await doors.source.tile(found.level, found.number, found.width)
        return _served(request, doors, data, _BYTES)
    data = await doors.source.bundle(found.number, found.width)
    if len(data) < _WORTH or not _takes_gzip(request):
        return _served(request, doors, data, _BYTES, vary=True)
    packed = await asyncio.to_thread(gzip.compress, data, _LEVEL, mtime=0)
    return _served(request, doors, packed, _BYTES, vary=True, encoding="gzip")


@router.get("/constitutions/{name}")
async def constitution(
    doors: Open, request: HttpRequest, name: Annotated[str, Path(description="its SHA-256, and `.md`")]
) -> Response:
    """The text of a constitution by its digest."""
    text = await _evidence(doors, request, "constitutions", name, ".md")
    try:
        Constitution.parse(text.decode())
    except (ConstitutionInvalid, UnicodeDecodeError):
        raise NotFound("unknown-evidence", "There is no constitution of that digest.") from None
    return _served(request, doors, text, "text/markdown; charset=utf-8")


@router.get("/plans/{name}")
async def plan(
    doors: Open, request: HttpRequest, name: Annotated[str, Path(description="its SHA-256, and `.json`")]
) -> Response:
    """The canonical bytes of a plan by its digest."""
    body = await _evidence(doors, request, "plans", name, ".json")
    try:
        Plan.model_validate_json(body)
    except ValidationError:
        raise NotFound("unknown-evidence", "There is no plan of that digest.") from None
    return _served(request, doors, body, "application/json")


async def _evidence(doors: Service, request: HttpRequest, folder: str, name: str, ending: str) -> bytes:
    digest = name.removesuffix(ending)
    if not _DIGEST.fullmatch(digest) or not _exact(request, f"{folder}/{digest}{ending}"):
        raise NotFound("unknown-evidence", "There is nothing under that name.")
    return await doors.triad.ledger.evidence(digest)


def _exact(request: HttpRequest, place: str) -> bool:
    """Whether the path was sent in its one spelling: nothing percent-encoded, no slash too many."""
    raw: bytes | None = request.scope.get("raw_path")
    return raw is None or raw.partition(b"?")[0] == f"{PREFIX}/{place}".encode()


def _takes_gzip(request: HttpRequest) -> bool:
    """Whether the client said that it reads gzip; a weight of 0 says that it does not (RFC 9110, 12.5.3)."""
    for offer in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = offer.replace(" ", "").partition(";q=")
        if name.lower() == "gzip":
            return weight.strip("0.") != "" or not weight
    return False


def _served(
    request: HttpRequest,
    doors: Service,
    data: bytes,
    media: str,
    *,
    changes: bool = False,
    vary: bool = False,
    encoding: str | None = None,
) -> Response:
    """The bytes, or 304; kept for good by whoever may keep them, unless they can change."""
    who = "public" if doors.settings.server.mirror == "everybody" else "private"
    headers = {
        "Cache-Control": f"{who}, {_NOW if changes else _FOREVER}",
        "ETag": f'"{sha256(data)[:32]}"',
        "Content-Type": media,
    }
    if vary:
        headers["Vary"] = "Accept-Encoding"
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    return unless_known(request, Response(data, headers=headers))
