"""What a durable ledger entry costs beside a bare insert-and-commit, on the same durable server in the same run.

An entry brings its leaf, its Merkle nodes, a new head and a signed checkpoint for each batch; the bare insert brings a
row of the same size. Both alternate, entry by entry or round by round, since disks have moods; medians are kept.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from evals.benchmarks.loop import new_loop
from evals.benchmarks.row import Row
from operations.events import AccessDenied, Genesis
from operations.model import Actor, Branch
from storage import migrate
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.roles import DatabaseRole
from storage.signer import Signer
from storage.waiting import CAPACITY

ORIGIN: Final = "triad.benchmark/ledger"
WIDTHS: Final = (1, 8, 32, 128)
WRITERS: Final = 32
"""The width that the target speaks of."""

_ACTOR: Final = Actor(principal="person:ada", branch=Branch.PEOPLE)
_EVENT: Final = AccessDenied(action="submit", code="not-permitted", reasons=("No article permits it to this role.",))
_BARE: Final = "INSERT INTO bare (entry) VALUES ($1)"

Append = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Run:
    """What one run of some writers showed; times in seconds."""

    rate: float
    p50: float
    p99: float
    queued: int = 0

    @classmethod
    def median(cls, runs: Sequence["Run"]) -> "Run":
        """The medians of several runs; of the queue the longest."""
        rate, p50, p99 = (
            statistics.median(column) for column in zip(*((r.rate, r.p50, r.p99) for r in runs), strict=True)
        )
        return cls(rate, p50, p99, max(run.queued for run in runs))

    def note(self) -> str:
        """The latencies in words."""
        return f"p50 {self.p50 * 1e3:.2f} ms, p99 {self.p99 * 1e3:.2f} ms"


async def measure(*, quick: bool = False) -> AsyncIterator[Row]:
    """One writer's latency, then the throughput of ever more writers, of a flood, and of two processes."""
    rounds, single, each = (2, 200, 3_000) if quick else (5, 1_000, 12_000)
    with tempfile.TemporaryDirectory(prefix="triad-bench-") as folder:
        server = await asyncio.to_thread(_started, Path(folder))
        try:
            async for row in _measured(server, rounds, single, each):
                yield row
        finally:
            await asyncio.to_thread(server.stop)


def _started(home: Path) -> Embedded:
    home.chmod(0o711)  # the account that root's server runs as must pass through
    return Embedded.start(home)


async def _measured(server: Embedded, rounds: int, single: int, each: int) -> AsyncIterator[Row]:
    owner, app = server.dsn(DatabaseRole.OWNER), server.dsn(DatabaseRole.APP)
    await migrate.upgrade(owner)
    key = server.home / "ledger.key"
    async with _opened(app, key) as ledger, _connections(owner, max(WIDTHS)) as connections:
        await connections[0].execute("CREATE TABLE bare (id bigserial PRIMARY KEY, entry bytea NOT NULL)")
        await _note(ledger)
        size = len((await ledger.raw(after=0, limit=1))[0][1])
        bare = [_insert(connection, bytes(size)) for connection in connections]
        ours: list[Append] = [lambda: _note(ledger)] * max(WIDTHS)
        gc.collect()
        gc.freeze()  # as the service does once it is up
        async for row in _one(bare[0], ours[0], rounds * single, size):
            yield row
        for writers in WIDTHS:
            number = min(each, writers * single)
            runs: tuple[list[Run], list[Run]] = ([], [])
            batches, entries = 0, 0
            for _ in range(rounds):
                runs[0].append(await _run(bare[:writers], number))
                before = await _counted(connections[0])
                runs[1].append(await _run(ours[:writers], number, ledger))
                after = await _counted(connections[0])
                batches, entries = batches + after[0] - before[0], entries + after[1] - before[1]
            floor, mine = Run.median(runs[0]), Run.median(runs[1])
            yield Row(f"bare inserts, {_writers(writers)}", floor.rate, "rows/s", note=floor.note())
            yield Row(
                f"ledger entries, {_writers(writers)}",
                mine.rate,
                "entries/s",
                mine.rate / floor.rate,
                "at least 2 x" if writers == WRITERS else "",
                f"{mine.note()}, {entries / batches:.0f} a commit, queue at most {mine.queued}",
            )
        yield await _flooded(ledger, connections[0], each)
    async for row in _beside(app, key, rounds, each):
        yield row


def _writers(number: int) -> str:
    return f"{number} writer" if number == 1 else f"{number} writers"


async def _one(bare: Append, ours: Append, times: int, size: int) -> AsyncIterator[Row]:
    """One writer: an insert and an entry by turns."""
    latencies: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for append, kept in zip((bare, ours), latencies, strict=True):
            kept.append(await _seconds(append))
    floor, mine = (statistics.median(kept) * 1e6 for kept in latencies)
    yield Row("bare insert, by turns, p50", floor, "us", note=f"a row of {size} bytes, committed")
    yield Row("ledger entry, by turns, p50", mine, "us", mine / floor, "at most 1.5 x", "durable, under a checkpoint")


async def _flooded(ledger: Ledger, connection: asyncpg.Connection, number: int) -> Row:
    """More at once than may wait: whoever comes when the queue is full waits for room, and nothing is dropped."""
    _, before = await _counted(connection)
    run = await _run([lambda: _note(ledger)] * number, number, ledger)
    _, after = await _counted(connection)
    if after - before != number:
        raise RuntimeError(f"of {number} entries {after - before} were recorded")
    return Row(
        f"ledger entries, {number:,} at once",
        run.rate,
        "entries/s",
        note=f"{run.note()}, queue at most {run.queued:,} of {CAPACITY:,}, none dropped",
    )


async def _beside(app: str, key: Path, rounds: int, each: int) -> AsyncIterator[Row]:
    """One process and two of them by turns."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for processes, kept in zip((1, 2), rates, strict=True):
            kept.append(await _processes(app, key, processes, each))
    alone, together = (statistics.median(kept) for kept in rates)
    yield Row("ledger entries, 1 process apart", alone, "entries/s", note=f"{WRITERS} writers")
    note = f"{WRITERS} writers each"
    yield Row("ledger entries, 2 processes", together, "entries/s", together / alone, "at least 1 x", note)


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


async def _counted(connection: asyncpg.Connection) -> tuple[int, int]:
    """Batches and entries so far."""
    row = await connection.fetchrow("SELECT count(*), max(size) FROM ledger_head")
    return row[0], row[1]


async def _run(appends: Sequence[Append], total: int, ledger: Ledger | None = None) -> Run:
    """All of them at once, each again as soon as it has its answer, until there are about `total` rows."""
    latencies: list[float] = []
    queued = 0
    clock = time.perf_counter

    async def write(append: Append) -> None:
        nonlocal queued
        for _ in range(max(1, total // len(appends))):
            begun = clock()
            await append()
            latencies.append(clock() - begun)
            if ledger is not None:
                queued = max(queued, ledger.queued())

    begun = clock()
    await asyncio.gather(*(write(append) for append in appends))
    rate = len(latencies) / (clock() - begun)
    latencies.sort()
    return Run(rate, latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100], queued)


async def _processes(dsn: str, key: Path, processes: int, number: int) -> float:
    """Entries a second that several processes write together, counted from the first start to the last answer."""
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
    for process in running:
        process.stdin.write(b"go\n")  # type: ignore[union-attr] # checked above
    said = await asyncio.gather(*(process.communicate() for process in running))
    if any(process.returncode for process in running):
        raise RuntimeError("a writer failed")
    spans = [[float(word) for word in output.split()] for output, _ in said]
    return processes * number / (max(end for _, end in spans) - min(begun for begun, _ in spans))


async def _write(dsn: str, key: str, number: int) -> None:
    async with _opened(dsn, Path(key)) as ledger:
        await _note(ledger)
        gc.collect()
        gc.freeze()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        begun = time.monotonic()  # one clock for all processes of a machine
        await _run([lambda: _note(ledger)] * WRITERS, number)
        print(begun, time.monotonic())


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_write(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        from evals.benchmarks.__main__ import main

        sys.exit(main(["ledger", *sys.argv[1:]]))
