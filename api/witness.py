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

from api.stopping import StoppingServer
from api.witness_connections import Bounds, bounded
from operations.errors import LedgerUnavailable
from storage.witness import MAX_REQUEST, Cosigned, Decline, Declined, Witness

SIZE_TYPE: Final = "text/x.tlog.size"
"""Media type of an answer that is the size of the last cosigned checkpoint."""

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


def witness_app(witness: Witness, *, body_seconds: float) -> Starlette:
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
        if answer.forked:
            _LOG.error(
                "the log signed another root of a size that is cosigned now",
                origin=answer.checkpoint.origin,
                size=answer.checkpoint.size,
            )
        return
    facts = {"code": answer.code.value, "origin": answer.origin, "size": answer.size, "known": answer.known}
    if answer.forked:
        _LOG.error("refused: the log signed two roots of one size", kept=answer.kept, **facts)
    elif answer.kept:
        _LOG.warning("refused: nothing shows that it extends what was cosigned", **facts)
    else:
        _LOG.info("declined", **facts)


def witness_server(witness: Witness, bounds: Bounds | None = None) -> StoppingServer:
    """The server of one witness; `run(sockets=[...])` serves until a signal says stop.

    Args:
        witness: open.
        bounds: how long and how many; None: those of this project.
    """
    found = bounds or Bounds()
    return StoppingServer(
        uvicorn.Config(
            witness_app(witness, body_seconds=found.body),
            http=bounded(found),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=found.idle,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )
