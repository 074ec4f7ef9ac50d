"""What a durable ledger entry costs beside a bare insert-and-commit, on the same durable server in the same run.

An entry brings its leaf, its Merkle nodes, a new head and a signed checkpoint for each batch; the bare insert brings a
row of the same size. Both alternate, entry by entry or round by round, since disks have moods; medians are kept.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg

from evals.benchmarks.row import Row
from operations.events import AccessDenied, Genesis
from operations.model import Actor, Branch
from storage import migrate
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.roles import DatabaseRole
from storage.signer import Signer

ORIGIN: Final = "triad.benchmark/ledger"
WRITERS: Final = 32

_ACTOR: Final = Actor(principal="person:ada", branch=Branch.PEOPLE)
_EVENT: Final = AccessDenied(action="submit", code="not-permitted", reasons=("No article permits it to this role.",))
_BARE: Final = "INSERT INTO bare (entry) VALUES ($1)"

Append = Callable[[], Awaitable[object]]


async def measure(*, quick: bool = False) -> AsyncIterator[Row]:
    """One writer's latency, then many writers' throughput, then two processes'."""
    rounds, single, many = (2, 200, 50) if quick else (5, 1000, 300)
    with tempfile.TemporaryDirectory(prefix="triad-bench-") as folder:
        server = await asyncio.to_thread(_started, Path(folder))
        try:
            async for row in _measured(server, rounds, single, many):
                yield row
        finally:
            await asyncio.to_thread(server.stop)


def _started(home: Path) -> Embedded:
    home.chmod(0o711)  # the account that root's server runs as must pass through
    return Embedded.start(home)


async def _measured(server: Embedded, rounds: int, single: int, many: int) -> AsyncIterator[Row]:
    owner, app = server.dsn(DatabaseRole.OWNER), server.dsn(DatabaseRole.APP)
    await migrate.upgrade(owner)
    key = server.home / "ledger.key"
    async with _opened(app, key) as ledger, _connections(owner, WRITERS) as connections:
        await connections[0].execute("CREATE TABLE bare (id bigserial PRIMARY KEY, entry bytea NOT NULL)")
        await _note(ledger)
        size = len((await ledger.raw(after=0, limit=1))[0][1])
        bare = [_insert(connection, bytes(size)) for connection in connections]
        ours: list[Append] = [lambda: _note(ledger)] * WRITERS

        latencies: dict[str, list[float]] = {"bare": [], "ours": []}
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(rounds):
            for _ in range(single):
                for name, append in (("bare", bare[0]), ("ours", ours[0])):
                    latencies[name].append(await _seconds(append))
            for name, appends in (("bare", bare), ("ours", ours)):
                rates[name].append(await _rate(appends, many))
        two = [await _processes(app, key, 2, many) for _ in range(rounds)]
        one = [await _processes(app, key, 1, many) for _ in range(rounds)]

    slow, fast = statistics.median(latencies["bare"]) * 1e6, statistics.median(rates["bare"])
    mine, rate = statistics.median(latencies["ours"]) * 1e6, statistics.median(rates["ours"])
    yield Row("bare insert, 1 writer, p50", slow, "us", note=f"a row of {size} bytes, committed")
    yield Row("ledger entry, 1 writer, p50", mine, "us", mine / slow, "at most 1.5 x", "durable, under a checkpoint")
    yield Row(f"bare inserts, {WRITERS} writers", fast, "rows/s", note="a connection for each writer")
    yield Row(f"ledger entries, {WRITERS} writers", rate, "entries/s", rate / fast, "at least 2 x", "one process")
    alone, together = statistics.median(one), statistics.median(two)
    yield Row("ledger entries, 1 process apart", alone, "entries/s", note=f"{WRITERS} writers")
    yield Row(
        "ledger entries, 2 processes",
        together,
        "entries/s",
        together / alone,
        "at least 1 x",
        f"{WRITERS} writers each",
    )


@asynccontextmanager
async def _opened(dsn: str, key: Path) -> AsyncIterator[Ledger]:
    signer = Signer.load_or_create(key, ORIGIN)
    ledger = await Ledger.open(dsn, signer, origin=ORIGIN)
    try:
        await ledger.begin(Genesis(policies=(), keys=(signer.vkey,), code_version="benchmark"), b"# No constitution\n")
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def _connections(dsn: str, number: int) -> AsyncIterator[list[asyncpg.Connection]]:
    connections = [await asyncpg.connect(dsn) for _ in range(number)]
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.close()


def _insert(connection: asyncpg.Connection, entry: bytes) -> Append:
    return lambda: connection.execute(_BARE, entry)


async def _note(ledger: Ledger) -> int:
    return await ledger.note(_EVENT, _ACTOR)


async def _seconds(append: Append) -> float:
    start = time.perf_counter()
    await append()
    return time.perf_counter() - start


async def _rate(appends: list[Append], number: int) -> float:
    async def write(append: Append) -> None:
        for _ in range(number):
            await append()

    start = time.perf_counter()
    await asyncio.gather(*(write(append) for append in appends))
    return len(appends) * number / (time.perf_counter() - start)


async def _processes(dsn: str, key: Path, processes: int, number: int) -> float:
    """Entries a second that several processes write together, counted from the first start to the last end."""
    running = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, "write", dsn, str(key), str(number)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    for process in running:
        if process.stdin is None or process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError("a writer did not start")
    start = time.perf_counter()
    for process in running:
        process.stdin.write(b"go\n")  # type: ignore[union-attr] # checked above
    codes = await asyncio.gather(*(process.wait() for process in running))
    if any(codes):
        raise RuntimeError("a writer failed")
    return processes * WRITERS * number / (time.perf_counter() - start)


async def _write(dsn: str, key: str, number: int) -> None:
    async with _opened(dsn, Path(key)) as ledger:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await _rate([lambda: _note(ledger)] * WRITERS, number)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        asyncio.run(_write(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        from evals.benchmarks.__main__ import main

        sys.exit(main(["ledger", *sys.argv[1:]]))
