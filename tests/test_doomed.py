"""What cannot go well ends on the record: nothing spins, nothing hangs, and no failure of a look counts as a yes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from operations.errors import LedgerUnavailable, PlaybookFailed
from operations.evidence import Check, Outcome, Preview, Probe, Snapshot
from operations.operation import Operation
from operations.playbook import Call, Catalogue, Playbook, Target
from operations.stages import Stage
from operations.systems import CacheFolder, Inventory
from operations.systems import Database as DatabaseSystem
from tests.bench import Bench
from tests.conftest import Database
from tests.samples import DANA, OLGA, NoteArguments, PostNote, WriteNote, request, sample_inventory
from triad.assembly import Blueprint, assembled
from triad.evaluation import Evaluation
from triad.home import Home
from triad.runner import Runner

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def built(
    database: Database, folder: Path, *playbooks: Playbook[Any], inventory: Inventory | None = None
) -> AsyncIterator[Bench]:
    """A bench over other playbooks or another inventory than the sample ones."""
    home = Home(folder / "home")
    home.prepare()
    made = sample_inventory(folder)
    async with assembled(
        Blueprint(
            home=home, dsn=database.app, inventory=inventory or made, catalogue=Catalogue(playbooks or (WriteNote(),))
        )
    ) as triad:
        yield Bench(triad, folder)


def without_notes(folder: Path) -> Inventory:
    return Inventory(systems=(CacheFolder(name="other", path=str(folder / "other")),))


async def stopped_before(at: Bench, op: Operation, organ: type, method: str) -> None:
    """Advance up to the moment at which that method is called, where the ledger goes away."""

    async def gone(*_args: object, **_kwargs: object) -> None:
        raise LedgerUnavailable("It is gone.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(organ, method, gone)
        with pytest.raises(LedgerUnavailable):
            await at.triad.worker.advance(op.id)


async def codes(at: Bench, op: Operation) -> list[str]:
    denied = await at.triad.ledger.entries(operation=op.id, kinds={"warrant.denied"})
    return [entry.event.code for entry in denied if entry.event.kind == "warrant.denied"]


class Odd(WriteNote):
    """Raises what no contract knows, wherever it is told to."""

    def __init__(self, *where: str) -> None:
        self.where = set(where)

    def _maybe(self, where: str) -> None:
        if where in self.where:
            raise KeyError(where)

    async def preview(self, args: NoteArguments, target: Target) -> Preview:
        self._maybe("preview")
        return await super().preview(args, target)

    async def before(self, args: NoteArguments, target: Target) -> Snapshot:
        self._maybe("before")
        return await super().before(args, target)

    async def checks(self, args: NoteArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        self._maybe("checks")
        return await super().checks(args, target, before)

    async def undone(self, args: NoteArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        self._maybe("undone")
        return await super().undone(args, target, snapshot)


async def test_a_system_that_is_gone_before_the_step_is_a_refusal_on_the_record(
    database: Database, tmp_path: Path
) -> None:
    async with built(database, tmp_path) as at:
        op = await at.submit(request())
        await stopped_before(at, op, Runner, "step")
    async with built(database, tmp_path, inventory=without_notes(tmp_path)) as at:
        op = await at.advance(op)
        assert (op.stage, await codes(at, op)) == (Stage.FAILED, ["target-unknown"])
        assert (await at.verified()).ok


async def test_a_playbook_that_is_gone_before_the_evaluation_leaves_its_checks_unproven(
    database: Database, tmp_path: Path
) -> None:
    async with built(database, tmp_path) as at:
        op = await at.submit(request())
        await stopped_before(at, op, Evaluation, "evaluate")
    async with built(database, tmp_path, PostNote()) as at:
        op = await at.advance(op)
        assert op.stage is Stage.FAILED
        assert [c.name for c in op.checks if not c.passed] == ["checks-complete"]


async def test_a_system_that_is_gone_before_the_rollback_ends_it_as_not_restored(
    database: Database, tmp_path: Path
) -> None:
    async with built(database, tmp_path) as at:
        op = await at.submit(request(parameters={"name": "note", "text": "break"}))
        await stopped_before(at, op, type(at.triad.flow.rollback), "undo")
    async with built(database, tmp_path, inventory=without_notes(tmp_path)) as at:
        op = await at.advance(op)
        assert (op.stage, (await at.kinds(op))[-1]) == (Stage.FAILED, "rollback.done")


async def test_an_odd_error_before_the_act_is_a_failure_that_changed_nothing(
    database: Database, tmp_path: Path
) -> None:
    async with built(database, tmp_path, Odd("before")) as at:
        op = await at.advance(await at.submit(request()))
        assert op.stage is Stage.FAILED
        assert [(a.status, a.code, a.changed) for a in op.attempts] == [("failed", "unexpected", False)]


async def test_an_odd_error_in_a_check_proves_nothing(database: Database, tmp_path: Path) -> None:
    async with built(database, tmp_path, Odd("checks")) as at:
        op = await at.advance(await at.submit(request()))
        assert op.stage is Stage.ROLLED_BACK
        assert any(c.name == "checks-complete" and not c.passed for c in op.checks)


async def test_an_odd_error_when_the_undo_is_compared_is_no_restoration(database: Database, tmp_path: Path) -> None:
    async with built(database, tmp_path, Odd("undone")) as at:
        op = await at.advance(await at.submit(request(parameters={"name": "note", "text": "break"})))
        assert op.stage is Stage.FAILED
        assert op.checks[-1].name == "undo-proven"


async def test_an_odd_error_while_planning_is_a_refused_plan(database: Database, tmp_path: Path) -> None:
    async with built(database, tmp_path, Odd("preview")) as at:
        op = await at.advance(await at.submit(request()))
        assert (op.stage, op.code) == (Stage.REFUSED, "unexpected")


@pytest.mark.parametrize("hanging", [True, False])
async def test_a_preview_that_hangs_or_breaks_at_the_gate_is_refused_in_time(
    database: Database, tmp_path: Path, hanging: bool
) -> None:
    class Late(Odd):
        timeout = timedelta(milliseconds=200)

        async def preview(self, args: NoteArguments, target: Target) -> Preview:
            if hanging and self.where:
                await asyncio.Event().wait()
            return await super().preview(args, target)

    playbook = Late()
    async with built(database, tmp_path, playbook) as at:
        op = await at.submit(request())
        await stopped_before(at, op, Runner, "step")
        playbook.where = {"preview"}
        async with asyncio.timeout(10):
            op = await at.advance(op)
        assert (op.stage, await codes(at, op)) == (Stage.FAILED, ["preview-impossible"])


@pytest.mark.parametrize("hanging", [True, False])
async def test_a_probe_that_hangs_or_fails_leaves_the_step_in_doubt(
    database: Database, tmp_path: Path, hanging: bool
) -> None:
    class Blind(PostNote):
        timeout = timedelta(milliseconds=500)

        async def run(self, args: NoteArguments, target: Target, call: Call) -> Outcome:
            raise RuntimeError("boom")

        async def probe(self, args: NoteArguments, target: Target, snapshot: Snapshot, key: str) -> Probe:
            if hanging:
                await asyncio.Event().wait()
            raise PlaybookFailed("file-missing", "The folder is gone.")

    async with built(database, tmp_path, Blind()) as at:
        async with asyncio.timeout(10):
            op = await at.advance(await at.submit(request(playbook="note.post")))
        assert op.stage is Stage.IN_DOUBT
        op = await at.triad.petitions.reconcile(OLGA, op.id, happened=False, reason="I looked.")
        assert op.stage is Stage.RUNNING


class Keyed(WriteNote):
    """Works on a database, so that a secret is needed; the act itself is nothing."""

    fits = frozenset({"database"})

    async def preview(self, args: NoteArguments, target: Target) -> Preview:
        del args, target
        return Preview(commands=("nothing",), blast_radius="Nothing.")


async def test_a_secret_that_is_missing_is_refused_before_the_intent(database: Database, tmp_path: Path) -> None:
    act, observe = tmp_path / "act", tmp_path / "observe"
    observe.write_text("postgresql://watcher@localhost/shop")
    act.write_text("postgresql://actor@localhost/shop")
    shop = DatabaseSystem(name="notes", act=f"file:{act}", observe=f"file:{observe}")
    async with built(database, tmp_path, Keyed(), inventory=Inventory(systems=(shop,))) as at:
        op = await at.submit(request())
        await stopped_before(at, op, Runner, "step")
        act.unlink()
        op = await at.advance(op)
        assert (op.stage, op.attempts, await codes(at, op)) == (Stage.FAILED, (), ["secret-missing"])


async def test_a_step_that_stops_its_worker_each_time_fails_after_three_attempts(
    database: Database, tmp_path: Path
) -> None:
    class Died(BaseException):
        pass

    class Deadly(WriteNote):
        async def run(self, args: NoteArguments, target: Target, call: Call) -> Outcome:
            raise Died

    async with built(database, tmp_path, Deadly()) as at:
        op = await at.submit(request())
        for _ in range(3):
            with pytest.raises(Died):
                await at.triad.worker.advance(op.id)
        op = await at.advance(op)
        assert op.stage is Stage.ROLLED_BACK
        assert [a.code for a in op.attempts if a.direction.value == "do"] == ["interrupted"] * 3


class Busy(WriteNote):
    """Fails once without a change, and meanwhile somebody else writes the file."""

    name = "note.busy"
    tier = 2
    meanwhile: str | None = None
    good = True

    async def run(self, args: NoteArguments, target: Target, call: Call) -> Outcome:
        if self.meanwhile is not None:
            self._path(args, target).write_text(self.meanwhile)
            self.meanwhile = None
            raise PlaybookFailed("busy", "Not now.")
        return await super().run(args, target, call)


async def test_what_changed_after_a_failure_without_change_is_not_overwritten(
    database: Database, tmp_path: Path
) -> None:
    playbook = Busy()
    playbook.meanwhile = "somebody else's"
    async with built(database, tmp_path, playbook) as at:
        note = at.notes / "note.txt"
        note.write_text("old")
        op = await at.advance(await at.submit(request(playbook="note.busy", parameters={"text": "break"})))
        op = await at.advance(await at.approve(op, DANA))
        assert (op.stage, await codes(at, op)) == (Stage.FAILED, ["preview-changed"])
        assert note.read_text() == "somebody else's"


async def test_a_second_attempt_after_a_failure_without_change_takes_its_own_snapshot(
    database: Database, tmp_path: Path
) -> None:
    playbook = Busy()
    playbook.meanwhile = "old"
    async with built(database, tmp_path, playbook) as at:
        (at.notes / "note.txt").write_text("old")
        op = await at.advance(await at.submit(request(playbook="note.busy", parameters={"text": "new"})))
        op = await at.advance(await at.approve(op, DANA))
        assert (op.stage, [a.status for a in op.attempts]) == (Stage.COMPLETED, ["failed", "done"])
        assert Runner._first(op, 1) is op.attempts[1]


async def test_what_a_failed_step_left_half_done_is_undone_to_the_first_snapshot(
    database: Database, tmp_path: Path
) -> None:
    class Half(WriteNote):
        async def run(self, args: NoteArguments, target: Target, call: Call) -> Outcome:
            self._path(args, target).write_text("half")
            raise PlaybookFailed("disk-full", "Half written.", changed=True)

    async with built(database, tmp_path, Half()) as at:
        (at.notes / "note.txt").write_text("old")
        op = await at.advance(await at.submit(request()))
        assert (op.stage, (at.notes / "note.txt").read_text()) == (Stage.ROLLED_BACK, "old")
