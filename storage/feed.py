"""How followers of the ledger learn that it grew: LISTEN on a connection of its own, the local writer, and a poll."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from storage.engine import BROKEN

CHANNEL: Final = "ledger"

POLL: Final = 2.0
"""Seconds after which a follower looks again even when nobody called."""


class Feed:
    """Wakes followers. A call may be lost, which costs at most `POLL` seconds, never an entry."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._grown = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._connecting = asyncio.Lock()

    def mark(self) -> asyncio.Event:
        """What to wait on; taken before reading, so that growth during the reading counts."""
        return self._grown

    def grew(self) -> None:
        """Wake everybody who waits."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def wait(self, mark: asyncio.Event) -> None:
        """Return when the ledger may have grown since `mark` was taken."""
        await self._listen()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(mark.wait(), POLL)

    async def _listen(self) -> None:
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return
            try:
                connection = await self._connect()
            except BROKEN:
                return  # the poll goes on; reading tells the follower what is wrong
            try:
                await connection.add_listener(CHANNEL, lambda *_call: self.grew())
            except BROKEN:
                connection.terminate()
                return
            except BaseException:  # the follower was cancelled
                connection.terminate()
                raise
            self._connection = connection
        self.grew()  # what happened while nobody listened

    async def close(self) -> None:
        """Stop listening and let every follower look a last time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        self.grew()
