"""Workers that kill themselves: forked by a process of their own, which has everything imported, for the crash tests.

Arguments: application DSN and folder. Each line of the input asks for one worker: the operation's id, how many units to
record before dying, and whether the kill comes before or after the last of them is committed; the answer is its exit
status, negative for a signal.
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


async def work(dsn: str, folder: str, ident: str, limit: str, when: str) -> None:
    """Advance the operation until the end, or until death."""
    database = Database(name="", owner="", app=dsn, observer="", operator="", superuser="")
    async with bench(database, Path(folder)) as made:
        arm(int(limit), after=when == "after")
        await made.triad.worker.advance(ident)


def main() -> None:
    """Answer each line with the end of a forked worker."""
    for line in sys.stdin:
        worker = os.fork()
        if worker == 0:
            asyncio.run(work(*sys.argv[1:3], *line.split()))
            os._exit(0)
        _, status = os.waitpid(worker, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
