"""How what runs beside the recording is stopped: cancelled, and waited for."""

import asyncio
from collections.abc import Iterable
from typing import Final

AGAIN: Final = 2.0
"""Seconds after which a task that was cancelled and goes on is cancelled again."""


async def stopped(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel tasks and wait until every one has ended.

    One that goes on is cancelled again: it may be giving back a connection to a database that no longer answers. That
    is for tasks that may be cut off anywhere.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN)
