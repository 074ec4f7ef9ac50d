"""What runs in the background stops when it is told to, whatever it is doing, and holds up nobody's shutdown."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api import service
from operations.errors import LedgerUnavailable
from storage import ledger as ledger_module
from storage.engine import make_engine
from storage.expiry import Archive
from storage.ledger import Ledger
from storage.signer import Signer
from storage.witnessed import Turn
from tests.conftest import ORIGIN, Database
from triad import stopping
from triad.stopping import stopped

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


class Deaf:
    """Something that a number of cancellations do not stop."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.began = asyncio.Event()

    async def run(self) -> None:
        while True:
            self.began.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if not self.left:
                    raise
                self.left -= 1


async def test_what_a_first_cancellation_does_not_stop_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN", 0.01)
    deaf = [Deaf(0), Deaf(2)]
    tasks = [asyncio.create_task(each.run()) for each in deaf]
    await asyncio.gather(*(each.began.wait() for each in deaf))
    async with asyncio.timeout(PATIENCE):
        await stopped(tasks)
    assert all(task.cancelled() for task in tasks)
    await stopped([])


async def test_who_does_not_stop_is_left_behind_by_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_LETTING_GO", 0.01)
    deaf = Deaf(1)
    task = asyncio.create_task(deaf.run())
    async with asyncio.timeout(PATIENCE):
        async with service.working(task):
            await deaf.began.wait()
    assert not task.done()
    await stopped([task])


async def test_a_closing_ledger_does_not_wait_for_a_reader_without_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_GRACE", 0.01)
    signer = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN)
    opened = await Ledger.open(database.app, signer, origin=ORIGIN)
    begun = asyncio.Event()

    async def read() -> None:
        async with opened._reading() as connection:
            begun.set()
            await connection.execute("SELECT pg_sleep(600)")

    reading = asyncio.create_task(read())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        await opened.close()
        with pytest.raises(LedgerUnavailable):
            await reading


async def test_a_turn_that_is_cancelled_while_it_is_taken_gives_its_connection_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(database.app)
    archive, begun = Archive(engine), asyncio.Event()

    async def execute(*_arguments: object) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def take() -> None:
        async with archive.turn():
            raise AssertionError("never taken")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(AsyncConnection, "execute", execute)
            task = asyncio.create_task(take())
            await begun.wait()
            assert engine.pool.checkedout() == 1  # type: ignore[attr-defined] # of the pool that engines have
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # see above
        async with archive.turn() as mine:
            assert mine
    finally:
        await engine.dispose()


async def test_the_right_to_ask_is_free_again_when_taking_it_is_cancelled(database: Database) -> None:
    for turns in range(0, 60, 3):
        turn, other = Turn(database.app), Turn(database.app)
        task = asyncio.create_task(turn.take())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        await turn.give_back()
        assert not turn.held()
        async with asyncio.timeout(PATIENCE):
            while not await other.take():  # noqa: ASYNC110 - the server notices when it does
                await asyncio.sleep(0.01)
        await other.give_back()
