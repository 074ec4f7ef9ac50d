"""Bodies of requests: received within limits of size and time, read strictly, validated by their model."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from api.auth import Caller
from api.problems import Rejection
from api.service import Doors
from api.strict import parse, plain
from operations.canonical import JsonObject, sha256
from operations.errors import InvalidRequest
from operations.model import Principal

M = TypeVar("M", bound=BaseModel)
M_co = TypeVar("M_co", bound=BaseModel, covariant=True)

_JSON: Final = re.compile(r"application/(?:json|[a-z0-9.+-]+\+json)(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_CLOSE: Final = {"Connection": "close"}
_REPEATABLE: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
    "description": "The same request with the same key is carried out once and answered the same for 24 hours.",
}


@dataclass(frozen=True, slots=True)
class Asked(Generic[M_co]):
    """A request with a body, whole.

    Attributes:
        caller: who asks.
        value: the validated body.
        key: the Idempotency-Key, where one was sent.
        fingerprint: SHA-256 over method, path, query and body: what makes a repetition the same request.
    """

    caller: Principal
    value: M_co
    key: str | None
    fingerprint: str


def asked(model: type[M]) -> Callable[[HttpRequest, Caller, Doors], Awaitable[Asked[M]]]:
    """A dependency that reads the body as `model`, after the caller is known.

    Raises, when it is called:
        Rejection: too long, too slow, or not JSON.
        InvalidRequest: with the field that is wrong.
    """

    async def read(request: HttpRequest, caller: Caller, doors: Doors) -> Asked[M]:
        key = _idempotency_key(request)
        server = doors.settings.server
        data = await _receive(request, server.body_limit, server.body_seconds)
        target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
        return Asked(caller=caller, value=_validated(model, data), key=key, fingerprint=sha256(target + data))

    return read


def described(model: type[BaseModel], example: JsonObject, *, repeatable: bool = True) -> dict[str, Any]:
    """The body's place in the OpenAPI document, and the headers that go with it."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": {"plain": {"value": example}}}},
        },
        "parameters": [_REPEATABLE] if repeatable else [],
    }


def _idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Rejection("invalid-header", "1 to 255 visible ASCII characters.", field="Idempotency-Key")
    return key


async def _receive(request: HttpRequest, limit: int, seconds: int) -> bytes:
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise Rejection("unsupported-media-type", "Bodies are application/json in UTF-8.", headers=_CLOSE)
    too_large = Rejection("body-too-large", f"The limit is {limit} bytes.", headers=_CLOSE)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:12]) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_large
    except TimeoutError:
        raise Rejection("body-timeout", f"A body has {seconds} seconds to arrive.", headers=_CLOSE) from None
    except ClientDisconnect:
        raise Rejection("invalid-json", "The body ended early.", headers=_CLOSE) from None
    return bytes(data)


def _validated(model: type[M], data: bytes) -> M:
    value = parse(data)
    try:
        return model.model_validate_json(orjson.dumps(value))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = plain(tuple(first["loc"]))
        raise InvalidRequest("invalid-field", f"{place}: {first['msg']}", field=place) from None
