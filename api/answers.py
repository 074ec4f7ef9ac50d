"""Answers: one JSON value with its ETag, conditional reading, pages, and the kept answer of a repeated request."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.body import Asked
from api.problems import Rejection
from api.service import Service
from operations.canonical import sha256
from operations.errors import ConstitutionChanged, ConstitutionInvalid, Refusal
from storage.idempotency import Fresh, Replay

_NOTHING_CHANGED: Final = (Refusal, Rejection, ConstitutionChanged, ConstitutionInvalid)
_KEPT: Final = frozenset({"content-type", "location", "etag", "link", "preference-applied", "x-request-id"})
"""Headers that belong to an answer; the others are made for each response."""

_REPEATED: Final = ("etag", "cache-control", "vary")
"""Headers that 304 repeats, since it renews those of the kept answer (RFC 9110, 15.4.5)."""


def answer(
    model: BaseModel, *, status: int = 200, etag: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer. Without `etag` its ETag is made of its bytes."""
    body = model.model_dump_json().encode()
    tag = etag or sha256(body)[:32]
    return Response(
        body, status_code=status, media_type="application/json", headers={"ETag": f'"{tag}"', **dict(headers or {})}
    )


def unless_known(request: HttpRequest, response: Response) -> Response:
    """304 without a body when `If-None-Match` names the answer's ETag (RFC 9110, 13.1.2)."""
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if response.headers["etag"] in known or "*" in known:
        kept = {name: response.headers[name] for name in _REPEATED if name in response.headers}
        return Response(status_code=304, headers=kept)
    return response


def page(model: BaseModel, request: HttpRequest, following: str | int | None) -> Response:
    """A page of a list. `Link` leads to the next one where there is one."""
    headers = {}
    if following is not None:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        query.append(("cursor", str(following)))
        headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return answer(model, headers=headers)


async def once(service: Service, asked: Asked[BaseModel], act: Callable[[bool], Awaitable[Response]]) -> Response:
    """Carry out a request at most once for its Idempotency-Key, and give every repetition the same answer.

    A refusal keeps no answer: nothing was changed, so the same key may be sent again. When it is not known whether
    something was changed, the key stays taken for a minute, and `act` then looks for what an earlier request left.

    Args:
        service: the running service.
        asked: the request.
        act: does it; its argument says that an earlier request with this key died without an answer.

    Raises:
        Conflict: `idempotency-in-progress`.
        InvalidRequest: `idempotency-key-reused`.
    """
    if asked.key is None:
        return await act(False)  # noqa: FBT003 - see the signature
    begun = await service.idempotency.begin(asked.caller.id, asked.key, asked.fingerprint)
    if isinstance(begun, Replay):
        headers = {**begun.headers, "Idempotency-Replayed": "true"}
        return Response(begun.body, status_code=begun.status, headers=headers)
    return await _carried_out(service, begun, act)


async def _carried_out(service: Service, fresh: Fresh, act: Callable[[bool], Awaitable[Response]]) -> Response:
    try:
        response = await act(fresh.again)
    except _NOTHING_CHANGED:
        await service.idempotency.abandon(fresh)
        raise
    headers = {name: value for name, value in response.headers.items() if name in _KEPT}
    await service.idempotency.finish(fresh, response.status_code, headers, bytes(response.body))
    return response
