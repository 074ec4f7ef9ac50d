"""A worker that dies anywhere: nothing acknowledged is lost, nothing is recorded twice, no unsafe step is repeated."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from operations.errors import NotAllowed
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import ADA, OLGA, request
from triad.runner import Runner

pytestmark = pytest.mark.anyio
_ONCE = ("plan.proposed", "operation.approved", "operation.started", "execution.finished", "verdict.given")


@dataclass(frozen=True)
class Workers:
    """The process that forks workers which die where they are told to."""

    process: asyncio.subprocess.Process

    async def killed(self, ident: str, limit: int, when: str) -> bool:
        """Run a worker that dies at its unit number `limit`; whether it died, or came to the end before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{ident} {limit} {when}\n".encode())
        status = int(await self.process.stdout.readline())
        assert status in {0, -signal.SIGKILL}
        return status == -signal.SIGKILL


@asynccontextmanager
async def crashing(database: Database, folder: Path) -> AsyncIterator[Workers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crashing",
        database.app,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Workers(process)
    finally:
        await process.communicate(b"")
    assert process.returncode == 0


async def lease_over(database: Database, ident: str) -> None:
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("UPDATE operation SET leased_until = now() - interval '1 minute' WHERE id = $1", ident)
    await connection.close()


@pytest.mark.parametrize(("text", "when"), [("good", "after"), ("break", "before")])
async def test_a_kill_at_every_boundary_resumes_to_the_same_end(
    database: Database, tmp_path: Path, text: str, when: str
) -> None:
    end = Stage.COMPLETED if text == "good" else Stage.ROLLED_BACK
    async with crashing(database, tmp_path) as workers:
        limit, died = 0, True
        while died:
            limit += 1
            async with bench(database, tmp_path) as at:
                note = at.notes / "note.txt"
                note.write_text("before")
                op = await at.submit(request(parameters={"name": "note", "text": text}))
            died = await workers.killed(op.id, limit, when)
            if died:
                await lease_over(database, op.id)
            async with bench(database, tmp_path) as at:
                op = await at.advance(op)
                assert op.stage is end, (limit, op.stage, op.reasons)
                assert note.read_text() == (text if end is Stage.COMPLETED else "before")
                counted = Counter(await at.kinds(op))
                assert all(counted[kind] == 1 for kind in _ONCE), (limit, counted)
                assert counted["step.done"] == (1 if end is Stage.COMPLETED else 2)
                report = await at.verified()
                assert report.ok, report.problems
    assert limit > 5


async def interrupted(at: Bench, playbook: str, *, done: bool) -> str:
    """An operation whose worker died between the intent of its only step and the outcome."""
    op = await at.submit(request(playbook=playbook, rollback_plan="None needed."))

    class Died(BaseException):
        pass

    async def die(*_args: object, **_kwargs: object) -> None:
        raise Died

    original = Runner._effect
    with pytest.MonkeyPatch.context() as patch:
        if done:

            async def act_then_die(self: Runner, *args: object, **kwargs: object) -> None:
                patch.setattr(Runner, "_record_success", die)
                await original(self, *args, **kwargs)  # type: ignore[arg-type] # handed on as it came

            patch.setattr(Runner, "_effect", act_then_die)
        else:
            patch.setattr(Runner, "_effect", die)
        with pytest.raises(Died):
            await at.triad.worker.advance(op.id)
    return op.id


def runs(at: Bench) -> list[str]:
    path = at.notes / "runs"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("done", [True, False])
async def test_an_idempotent_step_is_run_again(database: Database, tmp_path: Path, done: bool) -> None:
    async with bench(database, tmp_path) as at:
        ident = await interrupted(at, "note.write", done=done)
        op = await at.advance(await at.triad.ledger.load(ident))
        assert op.stage is Stage.COMPLETED
        assert runs(at) == ([f"{ident}/1/1"] if done else []) + [f"{ident}/1/2"]
        assert (await at.verified()).ok


@pytest.mark.parametrize("done", [True, False])
async def test_a_probe_decides_whether_a_once_only_step_is_run_again(
    database: Database, tmp_path: Path, done: bool
) -> None:
    async with bench(database, tmp_path) as at:
        ident = await interrupted(at, "note.post", done=done)
        op = await at.advance(await at.triad.ledger.load(ident))
        assert op.stage is Stage.COMPLETED
        assert runs(at) == [f"{ident}/1/{1 if done else 2}"]
        assert (await at.verified()).ok


@pytest.mark.parametrize("done", [True, False])
async def test_a_blind_once_only_step_is_in_doubt_and_asks(database: Database, tmp_path: Path, done: bool) -> None:
    async with bench(database, tmp_path) as at:
        ident = await interrupted(at, "note.send", done=done)
        op = await at.advance(await at.triad.ledger.load(ident))
        assert op.stage is Stage.IN_DOUBT
        before = runs(at)
        assert (await at.advance(op)).stage is Stage.IN_DOUBT
        assert runs(at) == before
        with pytest.raises(NotAllowed):
            await at.triad.petitions.reconcile(ADA, op.id, happened=True, reason="I guess.")
        await at.triad.petitions.reconcile(OLGA, op.id, happened=done, reason="I looked.")
        op = await at.advance(op)
        assert op.stage is Stage.COMPLETED
        assert len(runs(at)) == 1  # once by the worker that died, or once after a person said that it had not
        assert (await at.verified()).ok
