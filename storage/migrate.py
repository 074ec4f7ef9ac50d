"""Migrations, run by the program itself: there is no alembic.ini and no command to install.

They run as the owner, under an advisory lock, each call in one transaction: applied whole or not at all.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from operations.errors import TriadError
from storage.engine import make_engine
from storage.roles import DatabaseRole

_LOCK: Final = 0x7472696164  # "triad"; two processes that start together migrate one after the other
_FOLDER: Final = Path(__file__).parent / "migrations"


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, with the connection that the migrations use."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


class MigrationRefused(TriadError):
    """The database refused a migration; nothing of it was applied."""


async def upgrade(owner_dsn: str) -> None:
    """Bring the database to the newest revision; nothing happens when it is there already.

    Args:
        owner_dsn: the DSN of `triad_owner`.

    Raises:
        MigrationRefused: with the first line of what the database says.
    """
    engine = make_engine(owner_dsn, pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    except DBAPIError as error:
        raise MigrationRefused(str(error.orig).partition("\n")[0]) from error
    finally:
        await engine.dispose()


async def missing_roles(dsn: str) -> tuple[str, ...]:
    """The roles that the migrations grant something to and the server does not have."""
    engine = make_engine(dsn, pool_size=1)
    wanted = [role.value for role in (DatabaseRole.APP, DatabaseRole.OBSERVER, DatabaseRole.OPERATOR)]
    try:
        async with engine.connect() as connection:
            rows = await connection.execute(text("SELECT rolname FROM pg_roles"))
            there = set(rows.scalars())
    finally:
        await engine.dispose()
    return tuple(role for role in wanted if role not in there)


def _upgrade(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    command.upgrade(configuration(connection), "head")


async def pending(dsn: str) -> tuple[str, ...]:
    """The revisions that the database lacks, oldest first; the service's own role may ask."""
    engine = make_engine(dsn, pool_size=1)
    try:
        async with engine.connect() as connection:
            current = await connection.run_sync(_current)
    finally:
        await engine.dispose()
    script = ScriptDirectory.from_config(configuration())
    missing = script.iterate_revisions("head", current or "base")
    return tuple(reversed([revision.revision for revision in missing]))


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
