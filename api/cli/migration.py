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


async def _demand_roles(owner: str) -> None:
    """Stop before the first statement where a role is missing that the migrations grant something to."""
    missing = await migrations.missing_roles(owner)
    if missing:
        raise Stop(
            Exit.ERROR,
            f"The server lacks the role{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            following="docs/operations/own-postgresql.md has the SQL that makes them.",
        )


def _applied(owner: str) -> tuple[str, ...]:
    async def apply() -> tuple[str, ...]:
        await _demand_roles(owner)
        missing = await migrations.pending(owner)
        await migrations.upgrade(owner)
        return missing

    try:
        return asyncio.run(apply())
    except migrations.MigrationRefused as error:
        raise Stop(
            Exit.ERROR,
            f"The migrations cannot be applied: {error}",
            following="docs/operations/own-postgresql.md has the SQL that prepares a database.",
        ) from error
    except BROKEN as error:
        raise Stop(Exit.ERROR, "The database cannot be reached.", str(error), following="triad doctor") from error
