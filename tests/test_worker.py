"""The worker finds what is to be done by itself, also after others died, and never works on what another holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from operations.errors import WarrantRefused
from operations.model import Direction
from operations.operation import Operation
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import CLEO, DANA, request
from triad.evaluation import Evaluation
from triad.runner import Performed, Runner
from triad.turn import Turn

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def working(at: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(at.triad.worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reaches(at: Bench, op: Operation, stage: Stage) -> Operation:
    """The operation once it has got to the stage, as the ledger tells."""
    async with asyncio.timeout(20):
        async for entry in at.triad.ledger.follow(-1, operation=op.id):
            if entry.after is stage:
                return await at.triad.ledger.load(op.id)
    raise AssertionError("the ledger ended")


async def replaced(at: Bench, op: Operation) -> None:
    """Another worker takes the operation over, as if this one's lease had run out."""
    await at.triad.ledger.settled(op)
    await at.triad.ledger.release(op.id, at.triad.worker.name, op.epoch)
    assert await at.triad.ledger.claim(op.id, "wk_other", 60) == op.epoch + 1


async def test_a_request_is_taken_up_without_anybody_saying_so(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at, working(at):
        op = await at.submit(request())
        await reaches(at, op, Stage.COMPLETED)


async def test_an_approval_lets_the_operation_go_on_by_itself(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at, working(at):
        op = await reaches(at, await at.submit(request(playbook="note.write_important")), Stage.PLANNED)
        await at.approve(op, DANA)
        await reaches(at, op, Stage.COMPLETED)


async def test_what_was_left_before_the_start_is_found_by_the_sweep(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at:
        op = await at.submit(request())
    async with bench(database, tmp_path) as at, working(at):
        await reaches(at, op, Stage.COMPLETED)


async def test_a_release_lets_waiting_operations_go_on(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at, working(at):
        await at.triad.regency.halt(CLEO, "Wait.")
        op = await reaches(at, await at.submit(request()), Stage.APPROVED)
        await at.triad.regency.release(CLEO, "Go.")
        await reaches(at, op, Stage.COMPLETED)


async def test_what_another_worker_holds_is_left_alone(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at:
        op = await at.submit(request())
        assert await at.triad.ledger.claim(op.id, "wk_other", 60) == 1
        assert await at.triad.worker.advance(op.id) is None
        await at.triad.ledger.release(op.id, "wk_other", 1)
        assert (await at.advance(op)).stage is Stage.COMPLETED


async def test_many_requests_at_once_all_complete_and_verify(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as at, working(at):
        asked = [request(parameters={"name": name}) for name in ("a", "b", "c", "d", "e", "f")]
        ops = await asyncio.gather(*(at.submit(each) for each in asked))
        for op in ops:
            await reaches(at, op, Stage.COMPLETED)
        assert (await at.verified()).ok


async def test_a_worker_that_was_replaced_decides_nothing_more(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Evaluation.evaluate
    async with bench(database, tmp_path) as at:

        async def slowly(self: Evaluation, op: Operation) -> Turn:
            turn = await evaluate(self, op)
            await replaced(at, op)
            return turn

        op = await at.submit(request())
        with monkeypatch.context() as patch:
            patch.setattr(Evaluation, "evaluate", slowly)
            with pytest.raises(WarrantRefused, match="epoch-stale"):
                await at.advance(op)
        op = await at.triad.ledger.load(op.id)
        assert (op.stage, op.checks) == (Stage.EXECUTED, ())
        await at.triad.ledger.release(op.id, "wk_other", 2)
        assert (await at.advance(op)).stage is Stage.COMPLETED


async def test_a_worker_that_was_replaced_does_not_end_the_rollback_of_its_successor(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Runner.step
    async with bench(database, tmp_path) as at:

        async def overtaken(self: Runner, op: Operation, number: int, direction: Direction) -> Performed:
            if direction is Direction.UNDO:
                await replaced(at, op)
            return await step(self, op, number, direction)

        op = await at.submit(request(parameters={"name": "note", "text": "break"}))
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "step", overtaken)
            op = await at.advance(op)
        assert (op.stage, op.rollback) == (Stage.ROLLING_BACK, (1,))
        await at.triad.ledger.release(op.id, "wk_other", 2)
        assert (await at.advance(op)).stage is Stage.ROLLED_BACK
        assert (await at.verified()).ok
