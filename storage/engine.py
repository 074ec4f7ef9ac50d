"""SQLAlchemy engines over asyncpg for the ordinary tables. The ledger's hot path uses asyncpg itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from operations.errors import LedgerUnavailable

BROKEN: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server ended while it was idle
)
"""What asyncpg raises when the database cannot be reached or does not answer as it should."""


def make_engine(dsn: str, *, pool_size: int = 5) -> AsyncEngine:
    """An engine with its own pool; `await engine.dispose()` closes it.

    Args:
        dsn: a `postgresql://` URI as libpq and asyncpg take it: asyncpg itself reads it, socket folders included.
        pool_size: connections kept open; as many again may be opened for a moment.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end of the context.

    Raises:
        LedgerUnavailable: the database cannot be used; the message holds nothing that was sent to it.
    """
    try:
        async with engine.begin() as connection:
            yield connection
    except (DBAPIError, *BROKEN) as error:
        # neither error goes further: the one repeats parameters, the other the failing row, and both may be personal
        cause = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(cause, "sqlstate", None) or type(cause).__name__
        raise LedgerUnavailable(f"The database cannot be used now ({state}).") from None


_CONNECTION_LOST: Final = ("08", "57")  # SQLSTATE classes: connection exceptions, operator intervention


def is_lost(error: BaseException) -> bool:
    """Whether the error leaves open what the server did with the last statement."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_CONNECTION_LOST)
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)
