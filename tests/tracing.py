"""A process that traces one operation: run by the trace tests, because tracing is set up once a process.

Arguments: application DSN, folder. Prints the operation's id and its trace id.
"""

import asyncio
import sys
from pathlib import Path

from tests.bench import bench
from tests.conftest import Database
from tests.samples import request
from triad import trace


async def main() -> None:
    dsn, folder = sys.argv[1:3]
    database = Database(name="", owner="", app=dsn, observer="", operator="", superuser="")
    trace.configure(Path(folder) / "traces", version="test")
    async with bench(database, Path(folder)) as at:
        op = await at.advance(await at.submit(request(parameters={"name": "note", "text": "break"})))
        sys.stdout.write(f"{op.id} {op.trace} {op.stage.value}\n")
    trace.flush()


if __name__ == "__main__":
    asyncio.run(main())
