"""How a no looks over HTTP: problem details (RFC 9457) with a stable code, never with a value that was sent."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.codes import CODES
from api.schemas import ProblemDetails
from api.strict import plain
from operations.errors import (
    Conflict,
    ConstitutionChanged,
    ConstitutionInvalid,
    Gone,
    IllegalMove,
    InvalidRequest,
    LedgerCorrupt,
    LedgerUnavailable,
    NotAllowed,
    NotFound,
    Refusal,
    TriadError,
    WarrantRefused,
)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = {"Retry-After": "5"}

STATUS_OF: Final[tuple[tuple[type[Refusal], int], ...]] = (
    (NotAllowed, 403),
    (WarrantRefused, 403),
    (Gone, 410),
    (NotFound, 404),
    (Conflict, 409),
    (InvalidRequest, 422),
)
"""The status of a refusal whose code has none of its own in `CODES`."""

_CLOSED: Final[tuple[tuple[type[TriadError], str], ...]] = (
    (ConstitutionChanged, "constitution-invalid"),
    (ConstitutionInvalid, "constitution-invalid"),
    (LedgerUnavailable, "ledger-unavailable"),
    (LedgerCorrupt, "ledger-corrupt"),
    (IllegalMove, "stage-conflict"),
)


class Rejection(Exception):
    """A no of the door itself, before anything inside was asked."""

    def __init__(
        self, code: str, *reasons: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.reasons = reasons
        self.field = field
        self.headers = dict(headers or {})


def problem(
    code: str,
    *reasons: str,
    status: int | None = None,
    articles: Sequence[str] = (),
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
    in_force: str | None = None,
    pinned: str | None = None,
) -> Response:
    """An answer that says no."""
    known = CODES.get(code)
    found = status or (known.status if known else 500)
    details = ProblemDetails(
        type=f"/problems/{code}",
        title=known.title if known else HTTPStatus(found).phrase,
        status=found,
        detail=" ".join(reasons) or (known.next if known else HTTPStatus(found).description),
        code=code,
        reasons=tuple(reasons),
        articles=tuple(articles),
        field=field,
        in_force=in_force,
        pinned=pinned,
    )
    return Response(
        details.model_dump_json(exclude_none=True),
        status_code=found,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


def refusal(error: Refusal) -> Response:
    """The answer to a refusal from inside."""
    known = CODES.get(error.code)
    status = known.status if known else next(status for kind, status in STATUS_OF if isinstance(error, kind))
    if isinstance(error, NotFound) and not isinstance(error, Gone) and error.field is None:
        status = 404
    return problem(error.code, *error.reasons, status=status, articles=error.articles, field=error.field)


def invalid(error: ValidationError | RequestValidationError, *, skip: int = 0) -> Response:
    """The answer to a field that its model refuses."""
    raw = error.errors(include_input=False, include_url=False) if isinstance(error, ValidationError) else error.errors()
    first: ErrorDetails = raw[0]
    place = plain(tuple(first["loc"])[skip:])
    return problem("invalid-field", f"{place}: {first['msg']}", field=place)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""

    async def on_refusal(_request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, Refusal)  # noqa: S101 - registered for this type
        return refusal(error)

    async def on_closed(_request: HttpRequest, error: Exception) -> Response:
        code = next((code for kind, code in _CLOSED if isinstance(error, kind)), "internal")
        return problem(code, headers=RETRY_AFTER if code == "ledger-unavailable" else None)

    async def on_rejection(_request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, Rejection)  # noqa: S101 - registered for this type
        return problem(error.code, *error.reasons, field=error.field, headers=error.headers)

    async def on_parameter(_request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
        return invalid(error, skip=1)

    async def on_http(_request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "invalid-json")
        return problem(code, status=error.status_code, headers=error.headers)

    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(TriadError, on_closed)
    app.add_exception_handler(Rejection, on_rejection)
    app.add_exception_handler(RequestValidationError, on_parameter)
    app.add_exception_handler(HTTPException, on_http)
