"""SQLAlchemy engines over asyncpg for the ordinary tables. The ledger's hot path uses asyncpg itself."""

from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

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
