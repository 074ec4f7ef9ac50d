"""Followers of the ledger are woken, and whoever is cancelled while it grows ends, with nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from storage.feed import CHANNEL, Feed
from tests.conftest import Database

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def unreachable() -> asyncpg.Connection:
    raise ConnectionRefusedError


@asynccontextmanager
async def following(feed: Feed) -> AsyncIterator[tuple["asyncio.Task[None]", list[asyncio.Event]]]:
    """A follower and the marks that it took."""
    marks: list[asyncio.Event] = []

    async def follow() -> None:
        while True:
            marks.append(feed.mark())
            await feed.wait(marks[-1])

    task = asyncio.create_task(follow())
    try:
        yield task, marks
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)
        await feed.close()


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("between", range(8))
async def test_a_follower_that_is_cancelled_just_as_the_log_grows_ends(between: int) -> None:
    feed = Feed(unreachable)
    async with following(feed) as (task, marks):
        await turns(10)
        assert len(marks) == 1
        feed.grew()
        await turns(between)  # the follower has yet to hear of it, is about to, or waits again
        task.cancel()
        await turns(20)
        assert task.cancelled()


async def test_growth_before_the_wait_wakes_at_once() -> None:
    feed = Feed(unreachable)
    mark = feed.mark()
    feed.grew()
    await feed.wait(mark)
    assert mark.is_set()
    assert not feed.mark().is_set()
    await feed.close()


async def test_a_connection_that_is_never_made_holds_up_nobody() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def connect() -> asyncpg.Connection:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    feed = Feed(connect)
    async with following(feed) as (task, marks):
        await begun.wait()
        feed.grew()
        await turns(10)
        assert len(marks) == 2
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        assert not ended.is_set()
        await asyncio.wait_for(feed.close(), PATIENCE)
        assert ended.is_set()
        await feed.wait(marks[0])
        assert feed._connecting is not None
        assert feed._connecting.cancelled()


async def test_whoever_is_cancelled_takes_no_connection_with_it(database: Database) -> None:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.app)

    observer = await asyncpg.connect(database.superuser)
    feed = Feed(connect)
    try:
        async with following(feed) as (task, marks):
            await asyncio.sleep(0)  # the feed connects
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            async with asyncio.timeout(PATIENCE), following(feed) as (_, others):
                while feed._connection is None:  # noqa: ASYNC110 - the server answers when it does
                    await asyncio.sleep(0.01)
                assert await observer.fetchval(LISTENERS) == 1
                before = len(others)
                while len(others) < before + 2:
                    await observer.execute("SELECT pg_notify($1, '')", CHANNEL)
                    await asyncio.sleep(0.01)
            assert len(marks) == 1
        async with asyncio.timeout(PATIENCE):
            while await observer.fetchval(LISTENERS):  # noqa: ASYNC110 - the server notices when it does
                await asyncio.sleep(0.01)
    finally:
        await observer.close()
