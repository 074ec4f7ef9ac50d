"""The worker finds what is to be done by itself, also after others died, and never works on what another holds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from operations.canonical import now
from operations.errors import Conflict, LedgerUnavailable, WarrantRefused
from operations.evidence import Outcome
from operations.model import Direction
from operations.operation import Operation
from operations.playbook import Call, Target
from operations.stages import Stage
from storage.leases import Leases
from storage.ledger import Act, Ledger
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import CLEO, DANA, NoteArguments, WriteNote, request
from triad import worker as worker_module
from triad.evaluation import Evaluation
from triad.recovery import Performed
from triad.runner import Runner
from triad.turn import Turn

pytestmark = pytest.mark.anyio
Run = Callable[[WriteNote, NoteArguments, Target, Call], Awaitable[Outcome]]


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


class Slow:
    """An act in the middle of which the test may do something."""

    def __init__(self, patch: pytest.MonkeyPatch, lease: float) -> None:
        self.begun, self.go, self.stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        patch.setattr(worker_module, "_LEASE_SECONDS", lease)
        patch.setattr(worker_module, "_FENCE_SECONDS", lease / 6)
        patch.setattr(worker_module, "_RETRY_SECONDS", 0.01)
        patch.setattr(WriteNote, "run", self._wrapped(WriteNote.run))

    def _wrapped(self, run: Run) -> Run:
        async def slowly(playbook: WriteNote, args: NoteArguments, target: Target, call: Call) -> Outcome:
            self.begun.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.set()
                raise
            return await run(playbook, args, target, call)

        return slowly


async def test_a_renewal_that_fails_is_tried_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, asked = Leases.renew, 0
    async with bench(database, tmp_path) as at:
        slow = Slow(monkeypatch, 3)

        async def flaky(self: Leases, ident: str, worker: str, epoch: int, seconds: int) -> bool:
            nonlocal asked
            asked += 1
            if asked <= 3:
                raise LedgerUnavailable("It is gone for a moment.")
            held = await renew(self, ident, worker, epoch, seconds)
            slow.go.set()
            return held

        monkeypatch.setattr(Leases, "renew", flaky)
        op = await at.submit(request())
        assert (await at.advance(op)).stage is Stage.COMPLETED
        assert asked == 4


@pytest.mark.parametrize("lost", [True, False])
async def test_a_worker_that_cannot_keep_its_claim_stops_what_it_has_in_hand(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    async with bench(database, tmp_path) as at:
        op = await at.submit(request(playbook="note.post"))
        with monkeypatch.context() as patch:
            slow = Slow(patch, 3)

            async def renew(*_args: object) -> bool:
                await slow.begun.wait()
                if lost:
                    return False
                raise LedgerUnavailable("It is gone.")

            async def release(*_args: object) -> None:
                raise LedgerUnavailable("It is gone.")

            patch.setattr(Leases, "renew", renew)
            patch.setattr(Leases, "release", release)
            async with asyncio.timeout(10):
                with pytest.raises(Conflict, match="lease-lost"):
                    await at.triad.worker.advance(op.id)
            assert slow.begun.is_set()
            assert slow.stopped.is_set()
        assert not (at.notes / "runs").exists()
        assert (await at.kinds(op))[-1] == "step.intent"
        op = await at.advance(op)
        assert (op.stage, [a.status for a in op.attempts]) == (Stage.COMPLETED, ["failed", "done"])
        assert (await at.verified()).ok


async def test_a_worker_that_is_stopped_has_stopped_its_act_before_it_gives_the_claim_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Leases.release
    async with bench(database, tmp_path) as at:
        slow = Slow(monkeypatch, 30)
        given: list[bool] = []

        async def watched(self: Leases, ident: str, worker: str, epoch: int) -> None:
            given.append(slow.stopped.is_set())
            await release(self, ident, worker, epoch)

        monkeypatch.setattr(Leases, "release", watched)
        op = await at.submit(request())
        task = asyncio.create_task(at.triad.worker.advance(op.id))
        await slow.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert given == [True]
        assert await at.triad.ledger.claim(op.id, "wk_other", 60) == 2


async def test_a_claim_is_given_back_only_once_the_outcome_has_landed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, record = Leases.release, Ledger.record
    async with bench(database, tmp_path) as at:
        kinds: list[str] = []

        async def watched(self: Leases, ident: str, worker: str, epoch: int) -> None:
            kinds.extend(entry.kind for entry in await at.triad.ledger.entries(operation=ident))
            await release(self, ident, worker, epoch)

        async def dying(self: Ledger, op: Operation, *acts: Act, **settings: Any) -> Operation:
            after = await record(self, op, *acts, **settings)
            if acts[0].event.kind == "step.done":
                raise RuntimeError("The branch died.")
            return after

        monkeypatch.setattr(Leases, "release", watched)
        monkeypatch.setattr(Ledger, "record", dying)
        op = await at.submit(request())
        await asyncio.gather(at.triad.worker.advance(op.id), return_exceptions=True)
        assert "step.done" in kinds


async def test_the_sweep_finds_all_oldest_first_and_folds_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_PAGE", 2)
    async with bench(database, tmp_path) as at:
        ops = [await at.submit(request()) for _ in range(5)]
        worker = at.triad.worker
        monkeypatch.setattr(Ledger, "_fold", None)
        await worker._find()
        assert [worker._queue.get_nowait() for _ in ops] == sorted(op.id for op in ops)
        assert worker._queue.empty()


async def test_what_is_due_later_rests_until_its_time_or_until_somebody_acts(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(database, tmp_path) as at:
        worker = at.triad.worker
        soon = await at.submit(request(scheduled_time=now() + timedelta(seconds=5)))
        later = await at.submit(request(scheduled_time=now() + timedelta(hours=1)))
        for op in (soon, later):
            assert (await at.advance(op)).stage is Stage.APPROVED
            await at.advance(op)
        await worker._find()
        assert worker.queued == 0
        clock = asyncio.get_running_loop().time
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "time", lambda: clock() + 6)
            await worker._find()
        assert worker._waiting == {soon.id}
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "time", lambda: clock() + worker_module._LONGEST_REST + 1)
            await worker._find()
        assert worker._waiting == {soon.id, later.id}
        worker.poke(later.id)
        assert later.id not in worker._rests
