"""Migrations from the command line, with the owner's DSN."""

import asyncio
from pathlib import Path

from api.cli.exits import Exit, Stop
from api.cli.ledgers import running, settings_of
from api.cli.occupation import occupying
from operations.errors import Refusal
from operations.systems import resolve_secret
from storage import migrate as migrations
from storage.engine import BROKEN
from storage.roles import DatabaseRole


def migrate(folder: Path | None, config: Path | None) -> tuple[str, ...]:
    """Apply what is missing and say what that was.

    Raises:
        Stop: the database cannot be reached, or the settings do not name the owner's DSN.
    """
    settings = settings_of(folder, config)
    if settings.database.url is None:
        with occupying(settings.home, "migrate"), running(settings.home) as server:
            return _applied(server.dsn(DatabaseRole.OWNER))
    if settings.database.owner_url is None:
        raise Stop(
            Exit.ERROR,
            "The settings do not name the owner's DSN, and only the owner may change tables.",
            "field: database.owner_url",
            following="Give it for this call: TRIAD_DATABASE_OWNER_URL=file:/path triad migrate",
        )
    try:
        return _applied(resolve_secret(settings.database.owner_url))
    except Refusal as error:
        raise Stop(Exit.ERROR, "The owner's DSN cannot be read.", *error.reasons) from error


def _applied(owner: str) -> tuple[str, ...]:
    async def apply() -> tuple[str, ...]:
        missing = await migrations.pending(owner)
        await migrations.upgrade(owner)
        return missing

    try:
        return asyncio.run(apply())
    except BROKEN as error:
        raise Stop(Exit.ERROR, "The database cannot be reached.", str(error), following="triad doctor") from error
