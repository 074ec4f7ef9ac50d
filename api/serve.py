"""Runs the service: one process, one event loop, the worker inside; streams are closed before anything is awaited."""

import logging
import socket
from collections.abc import Sequence
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.logs import configure_logs
from api.opening import Announce
from api.service import RUNBOOK, Service
from api.settings import VERSION, Settings
from api.stopping import StoppingServer
from operations.errors import LedgerCorrupt, TriadError
from storage.engine import BROKEN
from triad import trace
from triad.home import Home

_LOG: Final = logging.getLogger(__name__)


class _Startup:
    """The application, whose failure to start is told in a sentence; a traceback only at level debug, or of a bug."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def held(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, held)
        except BaseException as error:
            for message in failed:
                expected = isinstance(error, (TriadError, *BROKEN))
                if expected:
                    _LOG.debug("start failed", exc_info=error)
                await send({**message, "message": _told(error)} if expected else message)
            raise


def _told(error: BaseException) -> str:
    said = str(error) or type(error).__name__
    if isinstance(error, LedgerCorrupt) and "docs/runbooks/" not in said:
        return f"{said.removesuffix('.')}. See {RUNBOOK}."
    return said


class HttpServer(StoppingServer):
    """uvicorn, which would wait for open streams at shutdown until its patience ends: they are closed first."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                _Startup(app),
                host=settings.server.host,
                port=settings.server.port,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                lifespan="on",
                ws="none",
                timeout_graceful_shutdown=settings.server.shutdown_seconds,
                timeout_keep_alive=15,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the streams, then everything else."""
        service: Service | None = getattr(self._app.state, "service", None)
        if service is not None:
            service.streams.closing.set()
        await super().shutdown(sockets)


def serve(settings: Settings, announce: Announce, *, sockets: Sequence[socket.socket] | None = None) -> bool:
    """Serve until a signal says stop. False when it could not start; the log says why.

    Args:
        settings: of this process.
        announce: is given the first admin's key at the very first start.
        sockets: already bound; otherwise host and port of the settings are used.
    """
    home = Home(settings.home)
    home.prepare()
    configure_logs(settings.logging, home.logs)
    trace.configure(home.traces, version=VERSION)
    server = HttpServer(create_app(settings, announce), settings)
    try:
        server.run(sockets=list(sockets) if sockets else None)
    finally:
        trace.flush()
    return server.started
