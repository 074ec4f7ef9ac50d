"""Approvals that ran out, were renewed or withdrawn; calling off what was stopped; emergencies nobody ratified."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from operations import canonical
from operations.canonical import now
from operations.errors import Conflict
from operations.events import OperationRequested
from operations.evidence import Outcome
from operations.model import OperationType
from operations.operation import Operation
from operations.playbook import Call, Target
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import ADA, CLEO, DANA, EVE, OLGA, NoteArguments, SendNote, WriteNote, person, request
from triad.law import actor_of

pytestmark = pytest.mark.anyio
RUN_OUT = timedelta(minutes=241)
"""Past an approval of tier 3, within the life of its plan."""
BOTH = {"systems": ("notes", "other")}


@pytest.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(database, tmp_path) as made:
        yield made


def later(patch: pytest.MonkeyPatch, by: timedelta) -> None:
    """From here on every clock of this process is ahead by that much."""
    real = canonical.now
    for module in [m for m in sys.modules.values() if m is not canonical and getattr(m, "now", None) is real]:
        patch.setattr(module, "now", lambda: real() + by)


async def royal(at: Bench) -> Operation:
    return await at.advance(await at.submit(request(playbook="note.write_royal")))


async def test_an_approval_that_ran_out_and_was_renewed_counts_once_and_runs(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = await at.approve(await royal(at), DANA)
    later(monkeypatch, RUN_OUT)
    op = await at.approve(op, DANA)
    assert (await at.advance(op)).stage is Stage.PLANNED
    op = await at.advance(await at.approve(op, EVE))
    assert op.stage is Stage.COMPLETED, op.reasons
    given = [a.id for a in op.approvals]
    (approved,) = await at.triad.ledger.entries(operation=op.id, kinds={"operation.approved"})
    assert approved.event.kind == "operation.approved"
    assert set(approved.event.approvals) == set(given[1:])
    report = await at.verified()
    assert report.ok, report.problems


async def test_an_approval_that_ran_out_beside_enough_others_stops_nothing(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = await at.approve(await royal(at), DANA)
    later(monkeypatch, RUN_OUT)
    fay = person("fay", *DANA.roles)
    op = await at.advance(await at.approve(await at.approve(op, EVE), fay))
    assert op.stage is Stage.COMPLETED, op.reasons
    report = await at.verified()
    assert report.ok, report.problems


async def test_a_withdrawal_takes_back_the_renewed_approval_too(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    op = await at.approve(await royal(at), DANA)
    later(monkeypatch, RUN_OUT)
    op = await at.approve(op, DANA)
    op = await at.triad.petitions.withdraw(DANA, op.id, "Changed my mind.")
    assert op.approvals == ()
    op = await at.advance(await at.approve(op, EVE))
    assert op.stage is Stage.PLANNED
    assert not (at.notes / "note.txt").exists()
    report = await at.verified()
    assert report.ok, report.problems


async def test_what_starts_after_an_approval_would_have_ended_cannot_be_approved_yet(at: Bench) -> None:
    far, near = now() + timedelta(days=3), now() + timedelta(minutes=5)
    op = await at.advance(await at.submit(request(playbook="note.write_important", scheduled_time=far)))
    with pytest.raises(Conflict) as caught:
        await at.approve(op, DANA)
    assert caught.value.code == "scheduled-too-late"
    op = await at.advance(await at.submit(request(playbook="note.write_important", scheduled_time=near)))
    assert (await at.advance(await at.approve(op, DANA))).stage is Stage.APPROVED


async def halted_under_way(at: Bench, **parameters: str) -> Operation:
    """An operation of two steps that a halt stopped after the first, or after undoing the first."""
    with pytest.MonkeyPatch.context() as patch:
        name = "undo" if parameters else "run"
        real = getattr(WriteNote, name)

        async def halting(self: WriteNote, *rest: object) -> Outcome:
            await at.triad.regency.halt(CLEO, "Stop.")
            outcome: Outcome = await real(self, *rest)
            return outcome

        patch.setattr(WriteNote, name, halting)
        op = await at.advance(await at.submit(request(parameters=parameters, **BOTH)))
    assert op.stage is Stage.HALTED
    return op


async def test_a_halted_operation_can_be_called_off_and_stops_when_the_halt_ends(at: Bench) -> None:
    op = await halted_under_way(at)
    assert (await at.triad.petitions.cancel(ADA, op.id, "Leave it.")).stage is Stage.HALTED
    await at.triad.regency.release(CLEO, "All clear.")
    op = await at.advance(op)
    assert op.stage is Stage.ROLLED_BACK, op.reasons
    assert {a.step for a in op.attempts} == {1}
    assert not (at.folder / "other" / "note.txt").exists()
    assert (await at.verified()).ok


async def test_a_halted_rollback_is_not_called_off(at: Bench) -> None:
    op = await halted_under_way(at, text="break")
    assert op.rollback is not None
    with pytest.raises(Conflict) as caught:
        await at.triad.petitions.cancel(ADA, op.id, "Leave it.")
    assert caught.value.code == "not-cancellable"
    assert "rolled back" in caught.value.reasons[0]


async def test_an_operation_in_doubt_can_be_called_off_and_goes_no_further_once_settled(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(self: SendNote, args: NoteArguments, target: Target, call: Call) -> Outcome:
        raise RuntimeError(f"{self.name} {args.name} {target.system.name} {call.key}")

    monkeypatch.setattr(SendNote, "run", dies)
    op = await at.advance(await at.submit(request(playbook="note.send", **BOTH)))
    assert op.stage is Stage.IN_DOUBT
    op = await at.triad.petitions.cancel(OLGA, op.id, "Leave it.")
    assert (await at.advance(op)).stage is Stage.IN_DOUBT
    op = await at.triad.petitions.reconcile(OLGA, op.id, happened=False, reason="I looked.")
    op = await at.advance(op)
    assert op.stage is Stage.FAILED, op.reasons
    assert [(a.step, a.status) for a in op.attempts] == [(1, "failed")]


async def test_the_wish_to_call_off_what_was_escalated_is_on_the_record(at: Bench) -> None:
    asked = request(playbook="note.send", parameters={"name": "note", "text": "break"})
    op = await at.advance(await at.submit(asked))
    assert op.stage is Stage.ESCALATED
    assert (await at.triad.petitions.cancel(ADA, op.id, "Leave it.")).stage is Stage.ESCALATED
    assert "cancel.requested" in await at.kinds(op)
    assert (await at.triad.petitions.resolve(CLEO, op.id, "fail", "So be it.")).stage is Stage.FAILED


async def test_an_overdue_ratification_cannot_be_buried_under_harmless_emergencies(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(emergency=True, type=OperationType.EMERGENCY)
    first = await at.advance(await at.submit(asked, CLEO))
    assert first.attempts
    event = OperationRequested(request=asked, requester=CLEO)
    ledger = at.triad.ledger
    await asyncio.gather(*(ledger.submit(event, actor_of(CLEO)) for _ in range(1001)))
    later(monkeypatch, timedelta(days=30))
    assert await at.triad.law.overdue_ratifications(CLEO) == 1
    await at.triad.petitions.ratify(DANA, first.id, "It was right.")
    assert await at.triad.law.overdue_ratifications(CLEO) == 0
