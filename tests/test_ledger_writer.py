"""Many at once, across processes, over a connection that fails: everything exactly once, or a clear no."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from operations import events as e
from operations.errors import LedgerCorrupt, LedgerUnavailable, StageConflict, WarrantRefused
from operations.stages import Stage
from storage.entry import Entry
from storage.ledger import Act, Ledger
from storage.signer import Signer
from storage.verifier import tree
from tests.conftest import ORIGIN, Database
from tests.steps import (
    BY_ANA,
    BY_CODE,
    Door,
    denied,
    door,
    intent,
    issued,
    plan_for,
    planned,
    proposed,
    running,
    submitted,
)

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def opened(dsn: str, folder: Path, **options: float) -> AsyncIterator[Ledger]:
    """Another process's ledger: the same key, a memory of its own."""
    signer = Signer.load_or_create(folder / "ledger.key", ORIGIN)
    ledger = await Ledger.open(dsn, signer, origin=ORIGIN, **options)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def through(database: Database, ledger: Ledger, tmp_path: Path) -> AsyncIterator[tuple[Door, Ledger]]:
    """A second ledger on the same database whose connections go through a door."""
    folder = tmp_path / "d"
    folder.mkdir()
    async with door(database.app, folder) as made, opened(made.dsn, tmp_path, patience=0.5) as second:
        yield made, second


async def codes(ledger: Ledger) -> list[str]:
    """The codes of the annotations that tests count by, in order; the whole log is verified on the way."""
    raw = await ledger.raw(limit=100_000)
    assert [index for index, _ in raw] == list(range(len(raw)))
    entries = [Entry.decode(data) for _, data in raw]
    assert [entry.index for entry in entries] == list(range(len(raw)))
    head = await ledger.head()
    assert (head.size, head.root) == (len(raw), tree.root_of(data for _, data in raw).hex())
    return [entry.event.code for entry in entries if isinstance(entry.event, e.AccessDenied)]


async def test_what_32_writers_record_at_once_is_there_exactly_once_in_few_batches(
    ledger: Ledger, database: Database
) -> None:
    async def write(writer: int) -> None:
        for number in range(20):
            await ledger.note(denied(f"{writer}-{number}"), BY_ANA)

    await asyncio.gather(*(write(writer) for writer in range(32)))
    found = await codes(ledger)
    assert sorted(found) == sorted(f"{writer}-{number}" for writer in range(32) for number in range(20))
    for writer in range(32):
        mine = [code for code in found if code.startswith(f"{writer}-")]
        assert mine == [f"{writer}-{number}" for number in range(20)]
    connection = await asyncpg.connect(database.app)
    batches = await connection.fetchval("SELECT count(*) FROM ledger_head")
    await connection.close()
    assert batches < 320


async def test_two_processes_interleave_into_one_log(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    async with opened(database.app, tmp_path) as other:

        async def write(name: str, through: Ledger, number: int) -> None:
            await through.note(denied(f"{name}{number}"), BY_ANA)

        for number in range(5):
            await write("a", ledger, number)
            await write("b", other, number)
        await asyncio.gather(
            *(write(name, each, number) for number in range(5, 100) for name, each in (("a", ledger), ("b", other)))
        )
        found = await codes(other)
    assert sorted(found) == sorted(f"{name}{number}" for name in "ab" for number in range(100))


async def test_of_two_processes_that_record_upon_the_same_state_one_wins(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    async with opened(database.app, tmp_path) as other:
        op = await submitted(ledger)
        event = e.OperationCancelled(by="ana", reason="Enough.")
        answers = await asyncio.gather(
            *(each.record(op, Act(event, BY_ANA)) for each in (ledger, other) for _ in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, StageConflict) for answer in answers) == 15
        assert (await other.load(op.id)).stage is Stage.CANCELLED
        assert len(await other.entries(kinds=["operation.cancelled"])) == 1


async def test_a_warrant_that_two_processes_use_at_once_is_used_once(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    op, twin = await running(ledger), await running(ledger)
    warrant = issued(op)
    again = issued(twin, warrant.warrant)
    async with opened(database.app, tmp_path) as other:
        answers = await asyncio.gather(
            ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant),
            other.record(twin, Act(again, BY_CODE), Act(intent(again), BY_CODE), consume=warrant.warrant),
            return_exceptions=True,
        )
    refused = [answer for answer in answers if isinstance(answer, WarrantRefused)]
    assert [answer.code for answer in refused] == ["warrant-used"]
    assert len(await ledger.entries(kinds=["step.intent"])) == 1


async def test_a_loser_does_not_take_the_others_of_its_batch_along(ledger: Ledger) -> None:
    op = await submitted(ledger)
    await ledger.record(op, Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    event = Act(e.OperationCancelled(by="ana", reason="Enough."), BY_ANA)
    answers = await asyncio.gather(
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(20)),
        ledger.record(op, event),
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(20, 40)),
        return_exceptions=True,
    )
    assert [answer for answer in answers if not isinstance(answer, int)] == [answers[20]]
    assert isinstance(answers[20], StageConflict)
    assert await codes(ledger) == [str(number) for number in range(40)]


async def test_after_a_halt_in_the_same_moment_no_warrant_is_used(ledger: Ledger) -> None:
    op = await running(ledger)
    warrant = issued(op)
    halt = asyncio.create_task(ledger.note(e.CrownHalted(by="cleo", reason="Stop."), BY_ANA))
    use = asyncio.create_task(
        ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)
    )
    await asyncio.wait([halt, use])
    assert isinstance(use.exception(), WarrantRefused)
    assert await ledger.entries(kinds=["step.intent"]) == []


async def test_pipelined_records_build_upon_each_other_and_are_settled_at_the_end(ledger: Ledger) -> None:
    op = await submitted(ledger)
    op = await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE), settle=False)
    plan = op.bound_plan().digest
    approved = e.OperationApproved(plan=plan, approvals=(), reasons=(), articles=())
    op = await ledger.record(op, Act(approved, BY_CODE), settle=False)
    op = await ledger.record(op, Act(e.OperationStarted(plan=plan, epoch=0), BY_CODE), settle=False)
    await ledger.settled(op)
    assert await ledger.load(op.id) == op
    await ledger.settled(op)


async def test_what_was_built_on_a_pipelined_record_that_lost_is_lost_with_it(ledger: Ledger) -> None:
    op = await submitted(ledger)
    await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE))
    stale = await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE), settle=False)
    with pytest.raises(StageConflict):
        await ledger.settled(stale)
    # The store now holds an operation of the same version, which must not be mistaken for the one this builds on.
    assert (await ledger.load(op.id)).version == stale.version
    approved = e.OperationApproved(plan=stale.bound_plan().digest, approvals=(), reasons=(), articles=())
    with pytest.raises(StageConflict):
        await ledger.record(stale, Act(approved, BY_CODE))
    assert (await ledger.load(op.id)).stage is Stage.PLANNED


async def test_a_chain_that_loses_at_its_first_link_adds_nothing_even_where_the_next_would_fit(ledger: Ledger) -> None:
    op = await submitted(ledger)
    winner = await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE))
    link = await ledger.record(op, Act(proposed(plan_for(op)), BY_CODE), settle=False)
    assert link.version == winner.version
    approved = e.OperationApproved(plan=link.bound_plan().digest, approvals=(), reasons=(), articles=())
    # Another fence than its predecessor's puts it into a transaction of its own, where its version would be right.
    end = await ledger.record(link, Act(approved, BY_CODE), epoch=0, settle=False)
    with pytest.raises(StageConflict):
        await ledger.settled(end)
    assert await ledger.load(op.id) == winner


async def test_a_caller_that_is_cancelled_does_not_disturb_the_others(ledger: Ledger) -> None:
    tasks = [asyncio.create_task(ledger.note(denied(str(number)), BY_ANA)) for number in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {str(number) for number, answer in enumerate(answers) if isinstance(answer, int)}
    found = await codes(ledger)
    assert kept <= set(found)
    assert len(found) == len(set(found))
    assert len(kept) == 20


async def test_a_follower_misses_nothing_that_several_processes_write(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    async with opened(database.app, tmp_path) as other:

        async def collect(after: int, upto: int) -> list[int]:
            seen = []
            async with contextlib.aclosing(other.follow(after)) as entries:
                async for entry in entries:
                    seen.append(entry.index)
                    if entry.index == upto:
                        return seen
            raise AssertionError

        followers = [asyncio.create_task(collect(after, 200)) for after in (-1, 0, 50)]
        await asyncio.gather(
            *((ledger if number % 2 else other).note(denied(str(number)), BY_ANA) for number in range(200))
        )
        for follower, first in zip(followers, (0, 1, 51), strict=True):
            assert await follower == list(range(first, 201))


async def test_a_follower_of_one_operation_sees_only_it(ledger: Ledger) -> None:
    op, other = await submitted(ledger), await submitted(ledger)
    follower = ledger.follow(-1, operation=op.id)
    assert (await anext(follower)).kind == "operation.requested"
    waiting = asyncio.ensure_future(anext(follower))
    await ledger.record(other, Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    await ledger.record(op, Act(e.OperationCancelled(by="ana", reason="Enough."), BY_ANA))
    assert (await waiting).kind == "operation.cancelled"
    await follower.aclose()


async def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_written_twice(
    through: tuple[Door, Ledger],
) -> None:
    made, second = through
    for number in range(5):
        made.slam_after = 300
        assert await second.note(denied(str(number)), BY_ANA) == 1 + number
        assert made.slammed.is_set()
        made.slammed.clear()
    assert await codes(second) == [str(number) for number in range(5)]


async def test_a_lost_answer_is_told_apart_from_another_process_having_been_faster(
    through: tuple[Door, Ledger], ledger: Ledger
) -> None:
    made, second = through
    op = await planned(second)
    await ledger.note(denied("between"), BY_ANA)
    made.slam_after = 300
    approved = e.OperationApproved(plan=op.bound_plan().digest, approvals=(), reasons=(), articles=())
    op = await second.record(op, Act(approved, BY_CODE))
    assert await ledger.load(op.id) == op
    assert await codes(ledger) == ["between"]


async def test_a_connection_that_is_cut_between_batches_is_opened_again(through: tuple[Door, Ledger]) -> None:
    made, second = through
    await second.note(denied("before"), BY_ANA)
    made.cut()
    await second.note(denied("after"), BY_ANA)
    assert await codes(second) == ["before", "after"]


async def test_without_a_database_callers_are_told_no_and_later_ones_are_served_again(
    through: tuple[Door, Ledger],
) -> None:
    made, second = through
    made.shut = True
    made.cut()
    answers = await asyncio.gather(
        *(second.note(denied(str(number)), BY_ANA) for number in range(10)), return_exceptions=True
    )
    assert all(isinstance(answer, LedgerUnavailable) for answer in answers)
    made.shut = False
    assert await second.note(denied("later"), BY_ANA) == 1
    assert await codes(second) == ["later"]


async def test_a_killed_backend_costs_nobody_an_entry(ledger: Ledger, database: Database) -> None:
    connection = await asyncpg.connect(database.superuser)

    async def kill() -> None:
        for _ in range(5):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'triad-ledger' AND datname = current_database()"
            )

    async def write(writer: int) -> None:
        for number in range(20):
            await ledger.note(denied(f"{writer}-{number}"), BY_ANA)

    await asyncio.gather(kill(), *(write(writer) for writer in range(8)))
    await connection.close()
    found = await codes(ledger)
    assert sorted(found) == sorted(f"{writer}-{number}" for writer in range(8) for number in range(20))


async def test_a_closed_ledger_writes_what_was_queued_and_then_says_no(database: Database, tmp_path: Path) -> None:
    signer = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN)
    ledger = await Ledger.open(database.app, signer, origin=ORIGIN)
    await ledger.begin(e.Genesis(policies=(), keys=(), code_version="0"), b"text")
    tasks = [asyncio.create_task(ledger.note(denied(str(number)), BY_ANA)) for number in range(10)]
    await asyncio.sleep(0)
    await ledger.close()
    assert sorted(await asyncio.gather(*tasks)) == list(range(1, 11))
    with pytest.raises(LedgerUnavailable):
        await ledger.note(denied(), BY_ANA)


async def test_a_store_that_was_rolled_back_is_not_written_to(ledger: Ledger, database: Database) -> None:
    for number in range(4):
        await ledger.note(denied(str(number)), BY_ANA)
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("DELETE FROM ledger_head WHERE size > 3; DELETE FROM ledger_leaf WHERE idx >= 3")
    await connection.execute("DELETE FROM ledger_node")
    await connection.execute("DELETE FROM ledger_checkpoint WHERE size > 3")
    with pytest.raises(LedgerCorrupt, match="shrank"):
        await ledger.note(denied("after"), BY_ANA)
    assert await connection.fetchval("SELECT max(size) FROM ledger_head") == 3
    await connection.close()


async def test_a_store_whose_past_was_rewritten_is_not_opened(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    for number in range(4):
        await ledger.note(denied(str(number)), BY_ANA)
    await ledger.close()
    other = tmp_path / "other"
    connection = await asyncpg.connect(database.superuser)
    await connection.execute(
        "TRUNCATE ledger_leaf, ledger_node, ledger_head, ledger_checkpoint, warrant_use, operation CASCADE"
    )
    await connection.close()
    forger = await Ledger.open(database.app, Signer.load_or_create(other, ORIGIN), origin=ORIGIN)
    await forger.begin(e.Genesis(policies=(), keys=(), code_version="0"), b"text")
    for number in range(9):
        await forger.note(denied(f"forged {number}"), BY_ANA)
    await forger.close()
    with pytest.raises(LedgerCorrupt, match="forked"):
        await Ledger.open(database.app, Signer.load_or_create(tmp_path / "ledger.key", ORIGIN), origin=ORIGIN)


async def test_a_signer_that_cannot_remember_for_a_while_costs_no_entry_and_doubles_none(
    database: Database, tmp_path: Path
) -> None:
    signer = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN, every=0)
    ledger = await Ledger.open(database.app, signer, origin=ORIGIN)
    await ledger.begin(e.Genesis(policies=(), keys=(), code_version="0"), b"text")
    memory = tmp_path / "ledger.key.head"
    kept = memory.read_bytes()
    memory.unlink()
    for number in range(3):
        assert await ledger.note(denied(str(number)), BY_ANA) == number + 1
    memory.write_bytes(kept)
    await ledger.note(denied("3"), BY_ANA)
    assert await codes(ledger) == ["0", "1", "2", "3"]
    await ledger.close()
    assert b"\n5\n" in memory.read_bytes()


async def test_an_unreachable_database_cannot_be_opened(database: Database, tmp_path: Path) -> None:
    signer = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN)
    with pytest.raises(LedgerUnavailable):
        await Ledger.open(f"postgresql://x@/y?host={tmp_path}", signer, origin=ORIGIN, patience=0.1)
