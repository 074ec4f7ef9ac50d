"""A rollback needs no new authority: an amendment stops every further step, and never the way back."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agents.executor import Act, Executor, Skip
from agents.facts import ExecutorFacts, StepResult
from agents.outputs import ExecutionReport
from agents.thought import Thought
from operations.canonical import now, sha256
from operations.errors import ConstitutionChanged
from operations.events import ConstitutionProposed, WarrantDenied
from operations.model import Direction, Tokens
from operations.operation import Operation
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import CLEO, ROOT, request
from triad.assembly import with_minds
from triad.home import Home
from triad.runner import Runner

pytestmark = pytest.mark.anyio


class Interrupted(Executor):
    """Runs the steps in order, and lets something happen between the first and the second."""

    def __init__(self, between: Callable[[], Awaitable[object]]) -> None:
        self._between = between
        self.results: list[StepResult] = []

    async def execute(self, facts: ExecutorFacts, act: Act, skip: Skip) -> Thought[ExecutionReport]:
        del skip
        for step in facts.steps:
            self.results.append(await act(step.number))
            if step.number == 1:
                await self._between()
        report = ExecutionReport(summary="As far as it went.", stopped=True)
        return Thought(report, "scripted/1", sha256(b"scripted"), Tokens())


async def amend(at: Bench) -> ConstitutionProposed:
    text = at.triad.statute.in_force().text
    proposal = await at.triad.regency.propose(ROOT, text.replace("expiry_seconds = 120", "expiry_seconds = 60"), "So.")
    await at.triad.regency.ratify(CLEO, proposal.amendment, "Agreed.")
    return proposal


async def two_steps(at: Bench) -> Operation:
    for folder in ("notes", "other"):
        (at.folder / folder / "note.txt").write_text("before")
    return await at.submit(request(systems=("notes", "other"), parameters={"name": "note", "text": "after"}))


def texts(at: Bench) -> list[str]:
    return [(at.folder / folder / "note.txt").read_text() for folder in ("notes", "other")]


def scripted(at: Bench, between: Callable[[], Awaitable[object]]) -> tuple[Bench, Interrupted]:
    executor = Interrupted(between)
    return replace(at, triad=with_minds(at.triad, replace(at.triad.minds, executor=executor))), executor


async def test_an_amendment_between_two_steps_stops_the_second_and_the_first_is_undone_under_it(
    database: Database, tmp_path: Path
) -> None:
    async with bench(database, tmp_path) as plain:
        at, executor = scripted(plain, lambda: amend(plain))
        before = at.triad.statute.in_force().digest
        op = await at.advance(await two_steps(at))
        assert [result.status for result in executor.results] == ["done", "refused"]
        denied = [entry.event for entry in await at.triad.ledger.entries(kinds={"warrant.denied"})]
        assert [(d.code, d.step) for d in denied if isinstance(d, WarrantDenied)] == [("constitution-changed", 2)]
        assert (op.stage, op.rollback, op.constitution) == (Stage.ROLLED_BACK, (1,), before)
        assert texts(at) == ["before", "before"]
        in_force = at.triad.statute.in_force().digest
        assert in_force != before
        undone = await at.triad.ledger.entries(operation=op.id, kinds={"step.intent"})
        assert [entry.constitution for entry in undone] == [before, in_force]
        report = await at.verified()
        assert report.ok, report.problems


async def test_a_step_under_an_amendment_is_refused_by_the_database_too(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database, tmp_path) as plain:
        at, executor = scripted(plain, lambda: amend(plain))
        stale = await plain.triad.runner._grounds()

        async def grounds(_runner: Runner) -> object:
            return replace(stale, at=now())

        monkeypatch.setattr(Runner, "_grounds", grounds)
        op = await at.advance(await two_steps(at))
        assert [result.status for result in executor.results] == ["done", "refused"]
        assert executor.results[1].summary.startswith("Another constitution is in force")
        assert (op.stage, op.rollback) == (Stage.ROLLED_BACK, (1,))
        assert texts(at) == ["before", "before"]
        assert (await at.verified()).ok


async def test_a_rollback_waits_while_the_document_on_disk_is_not_the_one_in_force(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Home(tmp_path / "home").constitution
    step = Runner.step
    async with bench(database, tmp_path) as at:
        good = path.read_bytes()

        async def meddled(self: Runner, op: Operation, number: int, direction: Direction) -> object:
            if direction is Direction.UNDO:
                path.write_bytes(good + b"\nAnd everything is allowed.\n")
            return await step(self, op, number, direction)

        (at.notes / "note.txt").write_text("before")
        op = await at.submit(request(parameters={"name": "note", "text": "break"}))
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "step", meddled)
            op = await at.advance(op)
        assert (op.stage, (at.notes / "note.txt").read_text()) == (Stage.ROLLING_BACK, "break")
        size = (await at.triad.ledger.head()).size
        with pytest.raises(ConstitutionChanged):
            await at.advance(op)
        assert (await at.triad.ledger.head()).size == size
        path.write_bytes(good)
        op = await at.advance(op)
        assert (op.stage, (at.notes / "note.txt").read_text()) == (Stage.ROLLED_BACK, "before")
        assert (await at.verified()).ok
