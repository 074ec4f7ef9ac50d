"""The HTTP application: every route, one way to say no, and the service behind them for as long as it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api import problems
from api.boundary import Boundary
from api.opening import Announce, opened
from api.routes import (
    analytics,
    approvals,
    audit,
    catalogue,
    constitution,
    evidence,
    health,
    keys,
    log_keys,
    meta,
    mirror,
    operations,
    people,
    witnesses,
)
from api.schemas import EntryView, ProblemDetails
from api.service import published
from api.settings import VERSION, Settings

OPENAPI_VERSION: Final = "3.2.0"
"""The first version that describes event streams."""

_ROUTERS: Final = (
    operations.router,
    approvals.router,
    constitution.router,
    catalogue.router,
    audit.router,
    analytics.router,
    mirror.router,
    keys.router,
    log_keys.router,
    people.router,
    evidence.router,
    witnesses.router,
    health.router,
    meta.router,
)
_REFS: Final = "#/components/schemas/{model}"


def create_app(settings: Settings, announce: Announce) -> FastAPI:
    """The application. Nothing is opened before its lifespan starts.

    Args:
        settings: of this process.
        announce: is given the first admin's key at the very first start.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, announce) as service:
            with published(app.state, service):
                yield

    app = FastAPI(
        title="Triad",
        version=VERSION,
        summary="LLM agents run operations on real systems without having to be trusted.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Boundary)
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    setattr(app, "openapi", lambda: _document(app))  # noqa: B010 - FastAPI's way to replace the method
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version=OPENAPI_VERSION,
            summary=app.summary,
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        _, extra = models_json_schema(
            [(ProblemDetails, "serialization"), (EntryView, "serialization")], ref_template=_REFS
        )
        schemas.update(extra.get("$defs", {}))
        for path in document["paths"].values():
            for operation in path.values():
                _complete(operation, schemas)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say how a no looks, and move what a body's schema defines to where references look for it."""
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {
        "description": "A no, as problem details (RFC 9457).",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, schema in content["schema"].pop("$defs", {}).items():
            schemas.setdefault(name, schema)
