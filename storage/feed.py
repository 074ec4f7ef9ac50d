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
    """Wakes followers. A call may be lost, which costs at most `POLL` seconds, never an entry.

    The connection belongs to a task of the feed's own: a follower that is cancelled takes nothing with it, and one that
    waits does so for `POLL` seconds however long a connection takes.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._grown = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    def mark(self) -> asyncio.Event:
        """What to wait on; taken before reading, so that growth during the reading counts."""
        return self._grown

    def grew(self) -> None:
        """Wake everybody who waits."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def wait(self, mark: asyncio.Event) -> None:
        """Return when the ledger may have grown since `mark` was taken."""
        self._listen()
        # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes together with the mark.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await mark.wait()

    def _listen(self) -> None:
        """Have a connection that listens, soon."""
        listening = self._connection is not None and not self._connection.is_closed()
        under_way = self._connecting is not None and not self._connecting.done()
        if not (listening or under_way or self._closed):
            self._connecting = asyncio.create_task(self._open(), name="ledger-feed")

    async def _open(self) -> None:
        try:
            connection = await self._connect()
        except BROKEN:
            return  # the poll goes on; reading tells the follower what is wrong
        try:
            await connection.add_listener(CHANNEL, lambda *_call: self.grew())
        except BROKEN:
            connection.terminate()
            return
        except BaseException:  # cancelled
            connection.terminate()
            raise
        self._connection = connection
        self.grew()  # what happened while nobody listened

    async def close(self) -> None:
        """Stop listening and let every follower look a last time."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        self.grew()
