"""Many writers and several processes: halves that follow upon each other, turns, and a queue that is bounded."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from operations import events as e
from operations.errors import LedgerCorrupt, LedgerUnavailable, StageConflict
from storage import writer
from storage.ledger import Act, Ledger
from storage.waiting import CAPACITY
from tests.conftest import Database
from tests.steps import BY_ANA, BY_CODE, denied, door, plan_for, proposed, submitted
from tests.test_ledger_writer import codes, opened

pytestmark = pytest.mark.anyio

CANCELLED = Act(e.OperationCancelled(by="ana", reason="Enough."), BY_ANA)


@pytest.fixture(autouse=True)
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast this machine commits, who waits in numbers is written in halves."""
    monkeypatch.setattr(writer, "UNIT_SECONDS", 1.0)


@pytest.fixture
async def other(ledger: Ledger, database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    """Another process's ledger."""
    await ledger.note(denied("first"), BY_ANA)
    async with opened(database.app, tmp_path, patience=2.0) as second:
        yield second


async def crowd(ledger: Ledger, writers: int, times: int) -> list[str]:
    """What so many writers recorded, each of them so often, one after the other."""

    async def write(number: int) -> list[str]:
        mine = [f"{number}-{time}" for time in range(times)]
        for code in mine:
            await ledger.note(denied(code), BY_ANA)
        return mine

    return [code for mine in await asyncio.gather(*(write(number) for number in range(writers))) for code in mine]


async def test_a_crowd_is_written_in_halves_in_order_and_exactly_once(ledger: Ledger, database: Database) -> None:
    written = await crowd(ledger, 64, 10)
    found = await codes(ledger)
    assert sorted(found) == sorted(written)
    for number in range(64):
        mine = [code for code in found if code.startswith(f"{number}-")]
        assert mine == [f"{number}-{time}" for time in range(10)]
    connection = await asyncpg.connect(database.app)
    sizes = [row["size"] for row in await connection.fetch("SELECT size FROM ledger_head ORDER BY size")]
    await connection.close()
    batches = [after - before for before, after in pairwise(sizes)]
    assert max(batches) < 64
    assert len(batches) < 320


async def test_a_connection_lost_between_halves_costs_nothing_and_doubles_nothing(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    async with door(database.app, folder) as made, opened(made.dsn, tmp_path, patience=5.0) as second:
        for round_ in range(3):
            made.slam_after = 8_000
            written = await crowd(second, 64, 4)
            assert made.slammed.is_set()
            made.slammed.clear()
            assert sorted(await codes(ledger)) == sorted(written * (round_ + 1))


async def test_a_loser_in_one_half_takes_nobody_along(ledger: Ledger) -> None:
    op = await submitted(ledger)
    await ledger.record(op, Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    answers = await asyncio.gather(
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(20)),
        ledger.record(op, CANCELLED),
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(20, 80)),
        return_exceptions=True,
    )
    assert [answer for answer in answers if not isinstance(answer, int)] == [answers[20]]
    assert isinstance(answers[20], StageConflict)
    assert sorted(await codes(ledger), key=int) == [str(number) for number in range(80)]


async def test_a_chain_of_records_may_span_both_halves(ledger: Ledger) -> None:
    ops = [await submitted(ledger) for _ in range(10)]

    async def walk(number: int) -> None:
        op = await ledger.record(ops[number], Act(proposed(plan_for(ops[number])), BY_CODE), settle=False)
        op = await ledger.record(op, CANCELLED, settle=False)
        await ledger.settled(op)
        assert await ledger.load(op.id) == op

    await asyncio.gather(
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(30)),
        *(walk(number) for number in range(10)),
        *(ledger.note(denied(str(number)), BY_ANA) for number in range(30, 60)),
    )
    assert len(await codes(ledger)) == 60


async def test_two_crowds_in_two_processes_take_turns(ledger: Ledger, other: Ledger) -> None:
    written = await asyncio.gather(crowd(ledger, 40, 5), crowd(other, 40, 5))
    assert sorted(await codes(other)) == sorted(["first", *written[0], *written[1]])


async def test_a_crowd_that_never_ends_keeps_no_other_process_from_its_turn(ledger: Ledger, other: Ledger) -> None:
    over = asyncio.Event()

    async def endless(number: int) -> int:
        times = 0
        while not over.is_set():
            await ledger.note(denied(f"{number}-{times}"), BY_ANA)
            times += 1
        return times

    running = asyncio.gather(*(endless(number) for number in range(64)))
    try:
        async with asyncio.timeout(60):
            for number in range(20):
                await other.note(denied(f"other {number}"), BY_ANA)
    finally:
        over.set()
        counts = await running
    found = await codes(other)
    assert [code for code in found if code.startswith("other")] == [f"other {number}" for number in range(20)]
    assert len(found) == 1 + 20 + sum(counts)


async def test_a_connection_lost_in_a_turn_ends_the_turn_and_doubles_nothing(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    async with door(database.app, folder) as made, opened(made.dsn, tmp_path, patience=5.0) as second:
        await asyncio.gather(crowd(ledger, 40, 1), crowd(second, 40, 1))
        made.slam_after = 8_000
        written = await asyncio.gather(crowd(ledger, 40, 4), crowd(second, 40, 4))
        assert made.slammed.is_set()
    found = await codes(ledger)
    assert sorted(found[80:]) == sorted([*written[0], *written[1]])


async def test_a_turn_that_was_lost_or_refused_is_given_up(ledger: Ledger, other: Ledger, database: Database) -> None:
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("ALTER TABLE ledger_leaf ADD CHECK (kind <> 'auth.key_revoked')")
    op = await submitted(ledger)
    await ledger.record(op, CANCELLED)
    for number in range(2):  # the first finds the head moved, the second waits for its turn at once
        await other.note(denied(f"other {number}"), BY_ANA)
        await ledger.note(denied(f"ledger {number}"), BY_ANA)
    with pytest.raises(StageConflict):
        await other.record(op, CANCELLED)
    await ledger.note(denied("after one that lost"), BY_ANA)
    with pytest.raises(LedgerUnavailable, match="refused"):
        await other.note(e.KeyRevoked(subject="ana", fingerprint="0" * 16), BY_ANA)
    await ledger.note(denied("after one that was refused"), BY_ANA)
    held = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    await connection.close()
    assert held == 0
    assert len(await codes(other)) == 7


async def test_in_its_turn_a_process_refuses_a_head_that_its_leaves_do_not_make(
    ledger: Ledger, other: Ledger, database: Database
) -> None:
    await ledger.note(denied("forged"), BY_ANA)
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("UPDATE ledger_leaf SET hash = sha256('another') WHERE idx = 2")
    with pytest.raises(LedgerCorrupt, match="forked"):
        await other.note(denied("upon it"), BY_ANA)
    assert await connection.fetchval("SELECT max(size) FROM ledger_head") == 3
    await connection.close()


async def test_more_than_may_wait_wait_for_room_and_none_is_dropped(ledger: Ledger) -> None:
    number, seen = CAPACITY + 600, 0

    async def write(code: str) -> None:
        nonlocal seen
        await ledger.note(denied(code), BY_ANA)
        seen = max(seen, ledger.queued())

    await asyncio.gather(*(write(str(each)) for each in range(number)))
    assert 0 < seen <= CAPACITY
    assert ledger.queued() == 0
    assert (await ledger.head()).size == 1 + number
