"""Server-sent events straight from the ledger: an event's id is its entry's index, so nothing is missed or invented.

A client that comes back with `Last-Event-ID` (or `?after=`) goes on where it was, after a restart too.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth import bearer
from api.problems import Rejection
from api.schemas import EntryView
from api.service import Service, Sight
from api.views import entry_view
from operations.canonical import SAFE_INTEGER
from operations.errors import TriadError
from operations.model import Principal
from operations.policy import Kind
from storage.entry import Entry

RETRY_MILLISECONDS: Final = 2000

After = Annotated[
    int | None,
    Query(ge=-1, le=SAFE_INTEGER, description="index of the last entry that is known; -1 for everything"),
]

_REMEMBERED: Final = 10_000
_NUMBER: Final = re.compile(r"\d{1,15}", re.ASCII)
_HEADERS: Final = {"X-Accel-Buffering": "no"}
_KIND_OF: Final[dict[str, Kind]] = {"constitution": "constitution", "auth": "keys"}

DESCRIBED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "`id` is the entry's index, `event` its kind, `data` the entry.",
        "content": {"text/event-stream": {"itemSchema": {"$ref": "#/components/schemas/EntryView"}}},
    },
    429: {"description": "Too many streams are open."},
}
"""A stream's place in the OpenAPI document."""


class Visible:
    """Which entries one principal may see. Remembers its answer for each operation until the operation is planned."""

    def __init__(self, service: Service, sight: Sight) -> None:
        self._service = service
        self._sight = sight
        self._operations: dict[str, bool] = {}

    async def allows(self, entry: Entry) -> bool:
        """Whether an entry may be seen: as its operation, or as what it speaks about."""
        if entry.operation is None:
            narrower = _KIND_OF.get(entry.kind.partition(".")[0])
            return self._sight.reads("ledger") or (narrower is not None and self._sight.reads(narrower))
        if entry.kind in {"plan.proposed", "constitution.amended"} or len(self._operations) > _REMEMBERED:
            self._operations.clear()
        known = self._operations.get(entry.operation)
        if known is None:
            op = await self._service.triad.ledger.load(entry.operation)
            known = self._operations[entry.operation] = self._sight.sees(op)
        return known


class EventStream(StreamingResponse):
    """A stream that keeps its place among the open ones for exactly as long as it lives."""

    media_type = "text/event-stream"

    def __init__(self, service: Service, principal: Principal, frames: AsyncGenerator[bytes]) -> None:
        super().__init__(frames, headers=_HEADERS)
        self._service = service
        self._principal = principal
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client leaves, the service stops or the key stops counting."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._frames.aclose()
            self._service.streams.leave(self._principal.id)


async def stream(
    service: Service, caller: Principal, request: HttpRequest, after: int | None, operation: str | None = None
) -> Response:
    """Everything the caller may see, from `after` on; of one operation only until that has ended.

    Raises:
        Rejection: `bad-cursor`, `too-many-streams`.
    """
    known = _resume(request, after)
    head = await service.triad.ledger.head()
    lost = known is not None and known >= head.size
    start = head.size - 1 if lost else known if known is not None else -1 if operation else head.size - 1
    if operation and await _over(service, operation, start):
        return Response(status_code=204)  # tells an EventSource not to come back
    sight = await service.sight(caller)
    service.streams.enter(caller.id)
    frames = _frames(service, Visible(service, sight), start, operation, bearer(request), resync=lost)
    return EventStream(service, caller, frames)


def _resume(request: HttpRequest, after: int | None) -> int | None:
    last = request.headers.get("last-event-id")
    if last is None or last == "":
        return after
    if not _NUMBER.fullmatch(last):
        raise Rejection("bad-cursor", "It is the id of an event: a number.", field="Last-Event-ID")
    return max(int(last), -1 if after is None else after)


async def _over(service: Service, operation: str, after: int) -> bool:
    op = await service.triad.ledger.load(operation)
    return op.stage.terminal and not await service.triad.ledger.entries(after=after, operation=operation, limit=1)


async def _frames(
    service: Service, visible: Visible, after: int, operation: str | None, key: str, *, resync: bool
) -> AsyncGenerator[bytes]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    if resync:
        yield f"id: {after}\nevent: resync\ndata: {{}}\n\n".encode()
    silence = service.settings.server.heartbeat_seconds
    checked = time.monotonic()
    with contextlib.suppress(TriadError):
        async with contextlib.aclosing(_paced(service, after, operation, silence)) as paced:
            async for entry in paced:
                if time.monotonic() - checked > silence:
                    checked = time.monotonic()
                    if await service.keys.find(key) is None:
                        return
                if entry is None:
                    yield b": still here\n\n"
                elif await visible.allows(entry):
                    yield frame(entry_view(entry))
                if operation and entry is not None and entry.after is not None and entry.after.terminal:
                    return


async def _paced(service: Service, after: int, operation: str | None, silence: float) -> AsyncGenerator[Entry | None]:
    """Entries as they come, None after each silence; ends when the service stops.

    Raises:
        TriadError: the ledger cannot be read.
    """
    source = service.triad.ledger.follow(after, operation=operation)
    closing = asyncio.ensure_future(service.streams.closing.wait())
    pending = asyncio.ensure_future(_next(source))
    try:
        while True:
            done, _ = await asyncio.wait({pending, closing}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
            if closing in done:
                return
            if pending in done:
                entry = pending.result()
                pending = asyncio.ensure_future(_next(source))
                yield entry
            else:
                yield None
    finally:
        pending.cancel()
        closing.cancel()
        await asyncio.gather(pending, closing, return_exceptions=True)


async def _next(source: AsyncIterator[Entry]) -> Entry:
    return await anext(source)


def frame(view: EntryView) -> bytes:
    """One event on the wire. JSON has no line breaks, so one `data` line is enough."""
    return f"id: {view.index}\nevent: {view.kind}\ndata: {view.model_dump_json(exclude_none=True)}\n\n".encode()
