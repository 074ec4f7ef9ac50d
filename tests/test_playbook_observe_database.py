import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from operations.canonical import canonical
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Outcome, Snapshot
from operations.playbook import Call, Target
from operations.playbooks.observe_database import ObserveDatabase, look
from operations.playbooks.postgres_session import until
from operations.systems import Database as DatabaseSystem

pytestmark = pytest.mark.anyio

SYSTEM = DatabaseSystem(name="main-db", act="env:ACT", observe="env:OBSERVE")
OBSERVE = ObserveDatabase()
ALL = OBSERVE.parse({"slow_seconds": 0})
CALL = Call(key="op_01/1/1")


def facts_of(record: Outcome | Snapshot) -> Any:
    return record.facts


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def observing(database: Any) -> Target:
    return Target(SYSTEM, database.observer)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


async def test_every_section_is_there_in_integers_and_was_read_just_now(database: Any, observing: Target) -> None:
    args = OBSERVE.parse({})
    before = await OBSERVE.before(args, observing)
    outcome = await OBSERVE.run(args, observing, CALL)
    assert not outcome.changed
    assert all(value is None or isinstance(value, int | str) for value in leaves(facts_of(outcome)))
    assert canonical(facts_of(outcome))
    assert facts_of(outcome)["server"]["version"] >= 180000
    assert facts_of(outcome)["server"]["sees_all_sessions"] is True
    assert facts_of(outcome)["size"]["database_bytes"] > 1_000_000
    assert (
        facts_of(outcome)["wraparound"]["transaction_age"]
        < facts_of(outcome)["wraparound"]["autovacuum_freeze_max_age"]
    )
    assert facts_of(outcome)["replication"]["standbys"] == 0
    assert 0 <= facts_of(outcome)["activity"]["cache_hit_permille"] <= 1000
    checks = await OBSERVE.checks(args, observing, before)
    assert [(check.name, check.passed) for check in checks] == [("sections-present", True), ("taken-after", True)]


async def test_a_snapshot_from_the_future_fails_the_check(observing: Target) -> None:
    future = Snapshot(summary="later", facts={"taken": "2999-01-01T00:00:00+00:00"})
    checks = {check.name: check.passed for check in await OBSERVE.checks(ALL, observing, future)}
    assert checks == {"sections-present": True, "taken-after": False}


async def test_a_section_that_cannot_be_read_fails_the_check(
    observing: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await OBSERVE.before(ALL, observing)
    monkeypatch.setattr(
        "operations.playbooks.observe_database._ONE",
        {"server": "SELECT 1 AS one WHERE false", "size": "SELECT 1 AS one"},
    )
    (present, _) = await OBSERVE.checks(ALL, observing, before)
    assert (present.passed, present.observed) == (False, "missing: server")


async def test_who_blocks_whom_is_seen_and_no_query_text_is(database: Any, observing: Target) -> None:
    async with connected(database.owner) as holder, connected(database.owner) as waiter:
        await holder.execute("CREATE TABLE public.held (id int)")
        holding, waiting = holder.get_server_pid(), waiter.get_server_pid()
        async with holder.transaction():
            await holder.execute("LOCK TABLE public.held")
            blocked = asyncio.create_task(waiter.execute("SELECT 'hunter2' FROM public.held"))

            async def seen() -> Any:
                return await look(observing.credential, "test", ALL)

            facts = await until(seen, lambda found: bool(found["blocking"]), 10)
            assert not blocked.done()
        await blocked
    (pair,) = facts["blocking"]
    assert (pair["blocked"], pair["blocking"], pair["relation"]) == (waiting, holding, "public.held")
    assert pair["waiting_milliseconds"] >= 0
    assert facts["sessions"]["waiting_for_locks"] == 1
    assert facts["sessions"]["idle_in_transaction"] == 1
    assert [query["pid"] for query in facts["slow_queries"]] == [waiting]
    assert facts["slow_queries"][0]["wait_event_type"] == "Lock"
    assert "hunter2" not in repr(facts)
    assert "1 blocking pairs, 1 slow queries" in (await _outcome_of(facts))


async def _outcome_of(facts: Any) -> str:
    from operations.playbooks.observe_database import _summary  # noqa: PLC0415 - the summary of facts at hand

    return _summary(facts)


async def test_dead_rows_and_invalid_indexes_are_counted_and_the_worst_table_comes_first(
    database: Any, observing: Target
) -> None:
    async with connected(database.owner) as owner:
        for name, dead in (("few", 10), ("many", 900)):
            await owner.execute(f"CREATE TABLE public.{name} (id int) WITH (autovacuum_enabled = off)")
            await owner.execute(f"INSERT INTO public.{name} SELECT generate_series(1, 1000)")
            await owner.execute(f"DELETE FROM public.{name} WHERE id <= {dead}")
        await owner.execute("INSERT INTO public.few VALUES (500)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await owner.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON public.few (id)")
        await owner.execute("SELECT pg_stat_force_next_flush()")
    facts = facts_of(await OBSERVE.run(OBSERVE.parse({"top": 1}), observing, CALL))
    assert facts["deadest_tables"] == [
        {
            "table": "public.many",
            "live": 100,
            "dead": 900,
            "dead_permille": 900,
            "bytes": facts["deadest_tables"][0]["bytes"],
        }
    ]
    assert facts["dead_rows"]["dead"] == 910
    assert facts["dead_rows"]["tables_over_threshold"] == 1
    assert facts["indexes"]["invalid"] == 1


async def test_a_role_that_sees_only_its_own_sessions_says_so(database: Any) -> None:
    facts = facts_of(await OBSERVE.run(ALL, Target(SYSTEM, database.operator), CALL))
    assert facts["server"]["sees_all_sessions"] is False


async def test_it_runs_in_a_read_only_session_that_is_closed(database: Any, observing: Target) -> None:
    await OBSERVE.run(ALL, observing, CALL)
    async with connected(database.observer) as observer:

        async def open_sessions() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'triad op%'"
            return int(await observer.fetchval(query))

        assert await until(open_sessions, lambda count: count == 0, 5) == 0


async def test_the_preview_shows_every_statement_and_never_changes(database: Any, observing: Target) -> None:
    first = await OBSERVE.preview(ALL, observing)
    assert len(first.commands) == 11
    assert first.digest == (await OBSERVE.preview(ALL, Target(SYSTEM, database.operator))).digest
    assert database.observer not in repr(first)


@pytest.mark.parametrize(
    ("raw", "field"), [({"top": 0}, "top"), ({"slow_seconds": "secret"}, "slow_seconds"), ({"x": "secret"}, "x")]
)
async def test_wrong_arguments_name_the_field_and_not_the_value(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        OBSERVE.parse(raw)
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


async def test_a_database_that_is_not_there_is_a_known_failure() -> None:
    with pytest.raises(PlaybookFailed) as caught:
        await OBSERVE.run(ALL, Target(SYSTEM, "postgresql://u:hunter2@127.0.0.1:1/x"), CALL)
    assert caught.value.code == "database-unreachable"
    assert "hunter2" not in str(caught.value)
