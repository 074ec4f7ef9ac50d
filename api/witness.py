"""The witness's door: `POST /add-checkpoint` as https://c2sp.org/tlog-witness has it, bounded in size, time and number.

Who asks is not known and need not be: what counts is the log's signature. So nothing that is sent may cost much, hang,
or be answered with a server's error; a memory that cannot be used is the only one.
"""

import asyncio
import time
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.stopping import StoppingServer
from operations.errors import LedgerUnavailable
from storage.witness import MAX_REQUEST, Cosigned, Decline, Declined, Witness

SIZE_TYPE: Final = "text/x.tlog.size"
"""Media type of an answer that is the size of the last cosigned checkpoint."""

HEADER_SECONDS: Final = 10.0
"""Time for the whole header of a request, from the first moment of a connection or the first byte of a next request."""

IDLE_SECONDS: Final = 75
"""Time that a connection is kept for a next request."""

BODY_SECONDS: Final = 10.0
"""Time for the body of a request to arrive."""

CONNECTIONS: Final = 256
"""Connections at once; beyond it requests are answered with 503."""

STATUS: Final[dict[Decline, int]] = {
    Decline.MALFORMED: 400,
    Decline.OLD_BEYOND_SIZE: 400,
    Decline.NOT_SIGNED: 403,
    Decline.UNKNOWN_LOG: 404,
    Decline.OTHER_SIZE: 409,
    Decline.FORK: 409,
    Decline.NOT_CONSISTENT: 422,
}
"""The answer to each refusal."""

_LOG: Final = structlog.get_logger("triad.witness")
_CLOSE: Final = {"Connection": "close"}


class _Refused(Exception):
    """The body cannot be read; the connection ends with this answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.answer = PlainTextResponse(f"{sentence}\n", status, _CLOSE)


def witness_app(witness: Witness, *, body_seconds: float = BODY_SECONDS) -> Starlette:
    """The application of one witness.

    Args:
        witness: open.
        body_seconds: time for a body to arrive.
    """

    async def add_checkpoint(request: Request) -> Response:
        try:
            body = await _receive(request, body_seconds)
            answer = await asyncio.to_thread(witness.add_checkpoint, body, int(time.time()))
        except _Refused as refused:
            return refused.answer
        except LedgerUnavailable as error:
            _LOG.error("memory cannot be used", reason=str(error))
            return PlainTextResponse("The witness cannot cosign now.\n", 503, {"Retry-After": "10"})
        _log(answer)
        return _answered(answer)

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [Route("/add-checkpoint", add_checkpoint, methods=["POST"]), Route("/livez", livez, methods=["GET"])]
    return Starlette(routes=routes)


async def _receive(request: Request, seconds: float) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:12]) > MAX_REQUEST:
        raise _Refused(413, f"A request has at most {MAX_REQUEST} bytes.")
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_REQUEST:
                    raise _Refused(413, f"A request has at most {MAX_REQUEST} bytes.")
    except TimeoutError:
        raise _Refused(408, "The request took too long to arrive.") from None
    except ClientDisconnect:
        raise _Refused(400, "The request ended early.") from None
    return bytes(data)


def _answered(answer: Cosigned | Declined) -> Response:
    if isinstance(answer, Cosigned):
        return PlainTextResponse(answer.lines)
    status = STATUS[answer.code]
    if answer.code is Decline.OTHER_SIZE:
        return Response(f"{answer.known}\n", status, headers={"Content-Type": SIZE_TYPE})
    return PlainTextResponse(f"{answer.reason}\n", status)


def _log(answer: Cosigned | Declined) -> None:
    """One line for each request; what is not known to come from a trusted log is not repeated."""
    if isinstance(answer, Cosigned):
        _LOG.info("cosigned", origin=answer.checkpoint.origin, size=answer.checkpoint.size)
        return
    facts = {"code": answer.code.value, "origin": answer.origin, "size": answer.size, "known": answer.known}
    if answer.code in {Decline.FORK, Decline.NOT_CONSISTENT} or answer.kept:
        _LOG.error("refused: the log signed what does not agree", kept=answer.kept, **facts)
    else:
        _LOG.info("declined", **facts)


class _Prompt(H11Protocol):
    """HTTP/1.1 whose connections end when a request's header does not arrive in time."""

    seconds: float = HEADER_SECONDS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the first request's time."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """A request whose header is there is no longer late; what follows an answer is another request."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._wait()

    def on_response_complete(self) -> None:
        """An idle connection is kept; the time of what has arrived of a next request begins."""
        super().on_response_complete()
        if self.cycle.response_complete and self.conn.trailing_data[0]:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(self.seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def witness_server(
    witness: Witness, *, header_seconds: float = HEADER_SECONDS, body_seconds: float = BODY_SECONDS
) -> StoppingServer:
    """The server of one witness; `run(sockets=[...])` serves until a signal says stop.

    Args:
        witness: open.
        header_seconds: time for a request's header.
        body_seconds: time for a request's body.
    """
    protocol = type("Prompt", (_Prompt,), {"seconds": header_seconds})
    return StoppingServer(
        uvicorn.Config(
            witness_app(witness, body_seconds=body_seconds),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )
