"""The log's own time: it never runs back, whatever clocks do and however late the writer is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from operations import events as e
from operations.canonical import now
from operations.errors import Conflict, StageConflict, WarrantRefused
from operations.operation import Operation
from operations.stages import Stage
from storage import ledger as ledger_module
from storage.draft import Draft
from storage.entry import Entry
from storage.ledger import Act, Ledger
from storage.signer import Signer
from storage.verifier.policy import Policy
from storage.verifier.report import Report
from storage.verifier.verification import verify
from tests.conftest import ORIGIN, Database
from tests.steps import BY_ANA, BY_CODE, denied, intent, issued, planned, running, submitted

pytestmark = pytest.mark.anyio


class Clock:
    """This host's clock, set as the test likes."""

    def __init__(self) -> None:
        self.off = timedelta()

    def __call__(self) -> datetime:
        return now() + self.off


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ledger_module, "now", clock)
    return clock


async def verified(ledger: Ledger, folder: Path) -> Report:
    key = Signer.load_or_create(folder / "ledger.key", ORIGIN).key
    return verify((data for _, data in await ledger.raw(limit=1000)), await ledger.checkpoint(), Policy.of([key]))


async def times(ledger: Ledger) -> list[datetime]:
    return [entry.time for entry in await ledger.entries()]


async def test_a_clock_that_is_set_back_does_not_take_the_log_along(
    ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    clock.off = timedelta(hours=1)
    await ledger.note(denied(), BY_ANA)
    clock.off = timedelta()
    op = await submitted(ledger)
    await ledger.note(denied(), BY_ANA)
    found = await times(ledger)
    assert found == sorted(found)
    assert found[-1] == found[-3] > now() + timedelta(minutes=59)
    assert ledger.clock() == found[-1]
    assert await ledger.load(op.id) == op
    assert (await verified(ledger, tmp_path)).problems == ()


async def test_a_process_whose_clock_is_behind_anothers_writes_no_earlier_time(
    ledger: Ledger, database: Database, clock: Clock, tmp_path: Path
) -> None:
    other = await Ledger.open(database.app, Signer.load_or_create(tmp_path / "ledger.key", ORIGIN), origin=ORIGIN)
    try:
        for _ in range(3):
            clock.off = timedelta(minutes=5)
            await other.note(denied(), BY_ANA)
            clock.off = timedelta()
            await ledger.note(denied(), BY_ANA)
        found = await times(other)
    finally:
        await other.close()
    assert found == sorted(found)
    assert (await verified(ledger, tmp_path)).ok


async def test_a_process_that_starts_goes_on_with_the_logs_time(
    ledger: Ledger, database: Database, clock: Clock, tmp_path: Path
) -> None:
    clock.off = timedelta(minutes=5)
    await ledger.note(denied(), BY_ANA)
    clock.off = timedelta()
    again = await Ledger.open(database.app, Signer.load_or_create(tmp_path / "ledger.key", ORIGIN), origin=ORIGIN)
    try:
        assert again.clock() == (await times(again))[-1]
    finally:
        await again.close()


async def test_a_warrant_that_expired_by_the_logs_time_is_not_used(ledger: Ledger, clock: Clock) -> None:
    op = await running(ledger)
    warrant = issued(op)
    clock.off = warrant.expires - now()
    await ledger.note(denied(), BY_ANA)
    clock.off = timedelta()
    with pytest.raises(WarrantRefused, match="expired"):
        await ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)
    assert await ledger.entries(kinds=["step.intent"]) == []


async def approval(op: Operation, ledger: Ledger, expires: datetime) -> Operation:
    given = e.ApprovalGiven(
        approval="ap_1",
        plan=op.bound_plan().digest,
        approver="dana",
        person="dana",
        reason="Fine.",
        expires=expires,
        channel="test",
    )
    return await ledger.record(op, Act(given, BY_ANA))


def needing_one(op: Operation) -> Operation:
    """The operation with a plan in hand that one person has to approve."""
    assert op.proposal is not None
    return op.model_copy(update={"proposal": op.proposal.model_copy(update={"quorum": 1})})


async def test_an_approval_that_expired_by_the_logs_time_approves_nothing(ledger: Ledger, clock: Clock) -> None:
    op = needing_one(await approval(await planned(ledger), ledger, now() + timedelta(minutes=5)))
    clock.off = timedelta(minutes=6)
    await ledger.note(denied(), BY_ANA)
    clock.off = timedelta()
    approved = e.OperationApproved(plan=op.bound_plan().digest, approvals=("ap_1",), reasons=(), articles=())
    with pytest.raises(Conflict, match="expired"):
        await ledger.record(op, Act(approved, BY_CODE))
    assert (await ledger.load(op.id)).stage is Stage.PLANNED


async def test_an_operation_is_halted_only_while_the_halt_is_on(ledger: Ledger) -> None:
    op = await running(ledger)
    halted = Act(e.OperationHalted(reasons=("Halt.",)), BY_CODE)
    with pytest.raises(StageConflict):
        await ledger.record(op, halted)
    await ledger.note(e.CrownHalted(by="ana", reason="Stop."), BY_ANA)
    assert (await ledger.record(op, halted)).stage is Stage.HALTED


async def test_a_halt_that_another_process_ordered_counts_at_once(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    op = await running(ledger)
    other = await Ledger.open(database.app, Signer.load_or_create(tmp_path / "ledger.key", ORIGIN), origin=ORIGIN)
    try:
        await other.note(e.CrownHalted(by="ana", reason="Stop."), BY_ANA)
    finally:
        await other.close()
    assert (await ledger.record(op, Act(e.OperationHalted(reasons=()), BY_CODE))).stage is Stage.HALTED


def test_a_draft_takes_the_time_that_it_is_given_and_no_text_inside_is_mistaken_for_it() -> None:
    draft = Draft(
        denied('","time":"2020-01-01T00:00:00.000Z"'),
        BY_ANA,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        origin=ORIGIN,
        mission='","key":"00000000","time":"2020-01-01T00:00:00.000Z"',
    )
    entry = Entry.decode(draft.encode(7, b"c" * 64, b"89abcdef", b"2027-02-03T04:05:06.007Z"))
    assert (entry.index, entry.constitution, entry.key) == (7, "c" * 64, "89abcdef")
    assert entry.time == datetime(2027, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)
    assert draft.at == datetime(2026, 1, 1, tzinfo=UTC)
