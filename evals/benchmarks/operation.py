"""What governing costs: a whole operation beside bare pydantic-ai making the same model calls and doing the same work.

Governed: request, plan of three steps, approval, three warranted steps, checks, verdict, ruling; every decision durable
under a signed checkpoint and traced. Bare: four agents with the same prompts, output types and tools, and no record.
Both talk to the same local service that answers at once; runs of both alternate.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.models import Model

from agents.facts import fenced
from agents.minds import Minds
from agents.models import ModelChoice, build_model
from agents.outputs import ExecutionReport, Judgement, Opinion, PlanDraft, PlanRefusal
from evals.benchmarks.row import Row
from evals.benchmarks.stub import STEPS
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.model import Branch, OperationType, Principal, PrincipalKind, Request, Role
from operations.playbook import Arguments, Call, Catalogue, Playbook, Target
from operations.stages import Stage
from operations.systems import CacheFolder, Inventory, SystemKind
from prompts import load
from storage import migrate
from storage.embedded import Embedded
from storage.roles import DatabaseRole
from triad import trace
from triad.assembly import Blueprint, Triad, assembled
from triad.briefing import planner_facts
from triad.home import Home

_ADA: Final = Principal(
    id="ada", kind=PrincipalKind.PERSON, roles=frozenset({Role.REQUESTER, Role.OPERATOR}), person="ada"
)
_REQUEST: Final = Request(type=OperationType.MAINTENANCE, description="Write three files.", systems=("bench",))
_AT_ONCE: Final = 8


class WriteArguments(Arguments):
    """Which file to write."""

    name: str = Field(pattern=r"^[a-z0-9]{1,20}$", description="file name")


class Write(Playbook[WriteArguments]):
    """Writes one small file: as little work as a real step can be."""

    name: ClassVar[str] = "bench.write"
    summary: ClassVar[str] = "Write a small file."
    arguments: ClassVar[type[Arguments]] = WriteArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"cache"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.IDEMPOTENT

    def _path(self, args: WriteArguments, target: Target) -> Path:
        folder: CacheFolder = target.expect(CacheFolder)
        return Path(folder.path) / args.name

    async def preview(self, args: WriteArguments, target: Target) -> Preview:
        """See `Playbook.preview`."""
        return Preview(commands=(f"write {self._path(args, target)}",), blast_radius="One file.")

    async def before(self, args: WriteArguments, target: Target) -> Snapshot:
        """See `Playbook.before`."""
        return Snapshot(summary="whether it is there", facts={"there": self._path(args, target).exists()})

    async def run(self, args: WriteArguments, target: Target, call: Call) -> Outcome:
        """See `Playbook.run`."""
        self._path(args, target).write_text(call.key)
        return Outcome(summary="Written.", changed=True)

    async def checks(self, args: WriteArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """See `Playbook.checks`."""
        del before
        there = self._path(args, target).exists()
        return (Check(name="there", passed=there, expected="a file", observed="a file" if there else "none"),)


class Bare:
    """The same four branches as plain agents: no record, no gate, no checks."""

    def __init__(self, model: Model, prompt: str, target: Target) -> None:
        self._prompt = prompt
        self._target = target
        self._playbook = Write()
        self._planner = Agent[None, PlanDraft | PlanRefusal](
            model,
            output_type=[ToolOutput(PlanDraft, name="propose"), ToolOutput(PlanRefusal, name="refuse")],
            instructions=load("planner").text,
        )
        self._executor = Agent[None, ExecutionReport](
            model, output_type=ToolOutput(ExecutionReport, name="report"), instructions=load("executor").text
        )
        for number in range(1, STEPS + 1):
            self._executor.tool_plain(name=f"step_{number}")(self._tool(number))
        self._evaluator = Agent[None, Judgement](
            model, output_type=ToolOutput(Judgement, name="judge"), instructions=load("evaluator").text
        )
        self._crown = Agent[None, Opinion](
            model, output_type=ToolOutput(Opinion, name="rule"), instructions=load("crown").text
        )

    def _tool(self, number: int) -> Callable[[], Awaitable[str]]:
        async def step() -> str:
            """Run the step."""
            arguments = self._playbook.parse({"name": f"file{number}"})
            return (await self._playbook.run(arguments, self._target, Call(key=f"bare/{number}"))).summary

        return step

    async def run(self) -> None:
        """Plan, execute, evaluate and rule once."""
        await self._planner.run(self._prompt)
        await self._executor.run(self._prompt)
        await self._evaluator.run(self._prompt)
        await self._crown.run(self._prompt)


async def measure(*, quick: bool = False) -> AsyncIterator[Row]:
    """One operation at a time, then eight at once; over HTTP, then with the offline rules for what is Triad's own."""
    rounds = 10 if quick else 60
    async with served_stub() as port, fresh_home() as (home, server):
        choice = stub_model(port)
        async with governing(home, server, minds_of(choice)) as triad:
            gc.collect()
            gc.freeze()  # as the service does once it is up
            bare = _bare(triad, build_model(choice))
            ours = governed(triad)
            for run in (bare.run, ours):
                await _timed(run, 5)
            alone_bare, alone = await _alternating(bare.run, ours, rounds)
            yield Row("operation, bare pydantic-ai", alone_bare * 1e3, "ms p50", note="7 model calls over HTTP")
            ratio = alone / alone_bare
            yield Row("operation, governed and traced", alone * 1e3, "ms p50", ratio, "<= 1.15 x", "durable, sealed")
            crowd_bare, crowd = await _crowded(bare.run, ours, rounds)
            yield Row("operation, bare, 8 at once", crowd_bare, "ops/s")
            yield Row("operation, governed, 8 at once", crowd, "ops/s", crowd_bare / crowd, "<= 1.15 x")


def stub_model(port: int) -> ModelChoice:
    """The service at that port as a model."""
    return ModelChoice(name="openai-chat:stub", base_url=f"http://127.0.0.1:{port}/v1")


def minds_of(choice: ModelChoice) -> Minds:
    """All four branches asking the same model."""
    return Minds.of(dict.fromkeys((Branch.LEGISLATIVE, Branch.EXECUTIVE, Branch.JUDICIAL, Branch.CROWN), choice))


async def _alternating(
    first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]], rounds: int
) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, kept in zip((first, second), times, strict=True):
            kept.extend(await _timed(run, 1))
    return statistics.median(times[0]), statistics.median(times[1])


async def _timed(run: Callable[[], Awaitable[None]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await run()
        times.append(time.perf_counter() - begun)
    return times


async def _crowded(
    first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]], rounds: int
) -> tuple[float, float]:
    """Operations a second with eight under way; medians of five alternating turns each."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for run, kept in zip((first, second), rates, strict=True):
            each = max(1, rounds // 10)
            begun = time.perf_counter()
            await asyncio.gather(*(_timed(run, each) for _ in range(_AT_ONCE)))
            kept.append(_AT_ONCE * each / (time.perf_counter() - begun))
    return statistics.median(rates[0]), statistics.median(rates[1])


def governed(triad: Triad) -> Callable[[], Awaitable[None]]:
    """One whole operation, from the request to the ruling."""

    async def run() -> None:
        op = await triad.petitions.submit(_ADA, _REQUEST)
        ended = await triad.worker.advance(op.id)
        if ended is None or ended.stage is not Stage.COMPLETED:
            raise RuntimeError(f"The operation did not complete: {ended}")

    return run


def _bare(triad: Triad, model: Model) -> Bare:
    facts = planner_facts("op_" + "0" * 26, _REQUEST, triad.statute.in_force(), triad.catalogue, triad.inventory)
    return Bare(model, fenced(facts), Target(triad.inventory.get("bench")))


@asynccontextmanager
async def governing(home: Home, server: Embedded, minds: Minds) -> AsyncIterator[Triad]:
    """A whole Triad with the one playbook of this benchmark."""
    folder = home.path / "bench"
    folder.mkdir()
    trace.configure(home.traces, version="benchmark")
    blueprint = Blueprint(
        home=home,
        dsn=server.dsn(DatabaseRole.APP),
        inventory=Inventory(systems=(CacheFolder(name="bench", path=str(folder)),)),
        catalogue=Catalogue([Write()]),
        minds=minds,
    )
    try:
        async with assembled(blueprint) as triad:
            yield triad
    finally:
        trace.flush()
        trace.configure(None, version="benchmark")


@asynccontextmanager
async def fresh_home() -> AsyncIterator[tuple[Home, Embedded]]:
    """A home of its own and its durable server, migrated."""
    with tempfile.TemporaryDirectory(prefix="triad-bench-") as folder:
        home = Home(Path(folder) / "home")
        await asyncio.to_thread(Path(folder).chmod, 0o711)  # the account that PostgreSQL runs as must pass through
        home.prepare()
        server = await asyncio.to_thread(Embedded.start, home.path)
        try:
            await migrate.upgrade(server.dsn(DatabaseRole.OWNER))
            yield home, server
        finally:
            await asyncio.to_thread(server.stop)


@asynccontextmanager
async def served_stub() -> AsyncIterator[int]:
    """The service that answers for the models, in a process of its own; its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "evals.benchmarks.stub", stdout=asyncio.subprocess.PIPE
    )
    if process.stdout is None:
        raise RuntimeError("the stub has no output")
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()
