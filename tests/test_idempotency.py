import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from operations.errors import Conflict, InvalidRequest
from storage.engine import make_engine
from storage.idempotency import Fresh, Idempotency, Replay
from tests.conftest import Database

pytestmark = pytest.mark.anyio

BODY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
async def kept(database: Database) -> AsyncIterator[Idempotency]:
    engine = make_engine(database.app)
    yield Idempotency(engine)
    await engine.dispose()


async def begin(kept: Idempotency, *, principal: str = "ana", key: str = "k1", body: str = BODY) -> Fresh:
    fresh = await kept.begin(principal, key, body)
    assert isinstance(fresh, Fresh)
    return fresh


async def test_a_repetition_gets_the_first_answer(kept: Idempotency) -> None:
    fresh = await begin(kept)
    assert await kept.finish(fresh, 201, {"Location": "/x"}, b"made")
    assert await kept.begin("ana", "k1", BODY) == Replay(status=201, headers={"Location": "/x"}, body=b"made")


async def test_a_repetition_while_the_first_is_under_way_is_refused(kept: Idempotency) -> None:
    await begin(kept)
    with pytest.raises(Conflict, match="idempotency-in-progress"):
        await kept.begin("ana", "k1", BODY)


async def test_the_same_key_with_another_body_is_refused_before_and_after_the_answer(kept: Idempotency) -> None:
    fresh = await begin(kept)
    with pytest.raises(InvalidRequest, match="idempotency-key-reused"):
        await kept.begin("ana", "k1", OTHER)
    await kept.finish(fresh, 200, {}, b"")
    with pytest.raises(InvalidRequest, match="idempotency-key-reused"):
        await kept.begin("ana", "k1", OTHER)


async def test_keys_of_two_principals_have_nothing_to_do_with_each_other(kept: Idempotency) -> None:
    await begin(kept)
    await begin(kept, principal="ben", body=OTHER)


async def test_an_abandoned_key_is_free_again(kept: Idempotency) -> None:
    assert await kept.abandon(await begin(kept))
    await begin(kept, body=OTHER)


async def test_an_answer_that_was_kept_cannot_be_abandoned_or_replaced(kept: Idempotency) -> None:
    fresh = await begin(kept)
    await kept.finish(fresh, 200, {}, b"one")
    assert not await kept.abandon(fresh)
    assert not await kept.finish(fresh, 500, {}, b"two")
    answer = await kept.begin("ana", "k1", BODY)
    assert isinstance(answer, Replay)
    assert answer.body == b"one"


async def test_of_many_at_once_exactly_one_is_carried_out(kept: Idempotency) -> None:
    answers = await asyncio.gather(*(kept.begin("ana", "k1", BODY) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, Fresh) for answer in answers) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7


async def test_a_key_whose_process_died_is_taken_over_once_and_the_dead_one_has_no_say(
    kept: Idempotency, database: Database
) -> None:
    dead = await begin(kept)
    engine = make_engine(database.app)
    later = Idempotency(engine, stale=timedelta(0))
    taken = await begin(later)
    assert not await kept.finish(dead, 200, {}, b"late")
    assert await later.finish(taken, 201, {}, b"now")
    await engine.dispose()


async def test_answers_survive_another_process(kept: Idempotency, database: Database) -> None:
    await kept.finish(await begin(kept), 200, {}, b"kept")
    engine = make_engine(database.app)
    assert isinstance(await Idempotency(engine).begin("ana", "k1", BODY), Replay)
    await engine.dispose()


async def test_old_answers_are_forgotten(kept: Idempotency) -> None:
    await kept.finish(await begin(kept), 200, {}, b"")
    assert await kept.forget() == 0
    assert await kept.forget(kept=timedelta(0)) == 1
    await begin(kept, body=OTHER)
