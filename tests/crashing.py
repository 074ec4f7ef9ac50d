"""A worker that kills itself: run as a process of its own by the crash tests.

Arguments: application DSN, folder, operation id, how many units to record before dying, and whether the kill comes
before or after the last of them is committed.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from storage.ledger import Ledger
from tests.bench import bench
from tests.conftest import Database


def arm(limit: int, *, after: bool) -> None:
    """Kill this process at the unit with that number, before it is queued or once it is committed."""
    record = Ledger.record
    count = 0

    async def counted(self: Ledger, *args: object, **settings: object) -> object:
        nonlocal count
        count += 1
        if count == limit and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = await record(self, *args, **settings)  # type: ignore[arg-type] # handed on as it came
        if count == limit and after:
            await self.settled(done)
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Ledger.record = counted  # type: ignore[method-assign,assignment] # in this process only


async def main() -> None:
    dsn, folder, ident, limit, when = sys.argv[1:6]
    database = Database(name="", owner="", app=dsn, observer="", operator="", superuser="")
    async with bench(database, Path(folder)) as made:
        arm(int(limit), after=when == "after")
        await made.triad.worker.advance(ident)


if __name__ == "__main__":
    asyncio.run(main())
