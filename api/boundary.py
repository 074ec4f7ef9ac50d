"""The outermost layer: an id for each request, the constitution's digest on each answer, and no answer without them.

What a request pins (`X-Constitutional-Hash`) is compared before anything else looks at it.
"""

import re
import time
from collections.abc import Iterator
from typing import Final

import asyncpg
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import RETRY_AFTER, problem
from api.service import Service
from operations.canonical import Digest
from triad.trace import new_trace_id

HASH: Final = "X-Constitutional-Hash"
REQUEST_ID: Final = "X-Request-ID"

_LOG: Final = structlog.get_logger("triad.api")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOST: Final = (OSError, TimeoutError, asyncpg.InterfaceError)
_LOST_CLASSES: Final = frozenset({"08", "53", "57"})
"""SQLSTATE classes: connection exception, insufficient resources, operator intervention."""


class Boundary:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of ours becomes a problem, never a torn connection without a word."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        try:
            wrong = visit.pinned_elsewhere()
            await (wrong or self._app)(scope, receive, visit.send)
        except Exception as error:  # noqa: BLE001 - the outermost place: it is logged and answered
            await visit.failed(error, receive)
        finally:
            visit.log()


class _Visit:
    """One request and what becomes of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.monotonic()
        self._status = 0
        self._ident = new_trace_id()
        service: Service | None = getattr(scope["app"].state, "service", None)
        self._digest: Digest | None = service.constitution() if service else None

    def pinned_elsewhere(self) -> ASGIApp | None:
        """The answer to a request that pins another constitution than the one in force."""
        pinned = Headers(scope=self._scope).get(HASH)
        if pinned is None or pinned == self._digest:
            return None
        if not _DIGEST.fullmatch(pinned):
            return problem("invalid-header", "A SHA-256 in lower-case hexadecimal.", field=HASH)
        return problem(
            "constitution-mismatch",
            "The request is pinned to another constitution than the one in force.",
            in_force=self._digest,
            pinned=pinned,
        )

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.setdefault(REQUEST_ID, self._ident)
            if self._digest:
                headers[HASH] = self._digest
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def failed(self, error: Exception, receive: Receive) -> None:
        """Log a defect, or a lost database, and say so where an answer can still be given."""
        if isinstance(error, ClientDisconnect):
            return
        lost = any(_is_lost(each) for each in _chain(error))
        if lost:
            _LOG.warning("database lost", request=self._ident, error=type(error).__name__)
        else:
            _LOG.error("defect", request=self._ident, exc_info=error)
        if self._status == 0:
            answer = problem("ledger-unavailable", headers=RETRY_AFTER) if lost else problem("internal")
            await answer(self._scope, receive, self.send)

    def log(self) -> None:
        """One line for each request. The path is the route's, so that no id and nothing that was sent is logged."""
        route = self._scope.get("route")
        state = self._scope.get("state", {})
        _LOG.info(
            "request",
            method=self._scope["method"] if self._scope["method"].isalpha() else "?",
            path=getattr(route, "path", "?"),
            status=self._status,
            milliseconds=round((time.monotonic() - self._started) * 1000, 1),
            request=self._ident,
            principal=state.get("principal"),
        )


def _is_lost(error: BaseException) -> bool:
    """Whether the database cannot be reached or used now, which is nobody's defect."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate)[:2] in _LOST_CLASSES
    return isinstance(error, _LOST)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
