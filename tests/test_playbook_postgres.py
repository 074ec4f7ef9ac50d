import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Check, Outcome, Snapshot
from operations.playbook import Call, Target
from operations.playbooks.postgres import ReindexConcurrently, VacuumAnalyze
from operations.playbooks.postgres_session import session, to_the_end, until
from operations.systems import BackupFolder
from operations.systems import Database as DatabaseSystem

pytestmark = pytest.mark.anyio

SYSTEM = DatabaseSystem(name="main-db", act="env:ACT", observe="env:OBSERVE")
VACUUM = VacuumAnalyze()
REINDEX = ReindexConcurrently()
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


async def prepared(database: Any, *statements: str) -> None:
    async with connected(database.owner) as owner:
        for statement in statements:
            await owner.execute(statement)
        await owner.execute("SELECT pg_stat_force_next_flush()")


@pytest.fixture
def acting(database: Any) -> Target:
    return Target(SYSTEM, database.operator)


@pytest.fixture
def observing(database: Any) -> Target:
    return Target(SYSTEM, database.observer)


def passed(checks: tuple[Check, ...]) -> dict[str, bool]:
    return {check.name: check.passed for check in checks}


async def ours(database: Any) -> list[str]:
    """Sessions that playbooks have open, once those that were just closed are gone."""

    async def read() -> list[str]:
        async with connected(database.observer) as observer:
            query = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'triad op%'"
            return [row[0] for row in await observer.fetch(query)]

    return await until(read, lambda found: not found, 5)


DIRTY = (
    "CREATE TABLE public.dirty (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)",
    "INSERT INTO public.dirty SELECT n, 'note' FROM generate_series(1, 2000) AS n",
    "DELETE FROM public.dirty WHERE id > 500",
)


async def test_vacuum_frees_dead_rows_and_its_checks_hold_only_afterwards(
    database: Any, acting: Target, observing: Target
) -> None:
    await prepared(database, *DIRTY)
    args = VACUUM.parse({"tables": ["public.dirty"]})
    before = await VACUUM.before(args, acting)
    assert facts_of(before)["tables"] == [
        {"oid": facts_of(before)["tables"][0]["oid"], "table": "public.dirty", "live": 500, "dead": 1500}
    ]
    assert passed(await VACUUM.checks(args, observing, before)) == {
        "vacuumed-since": False,
        "analyzed-since": False,
        "dead-rows-bounded": True,
    }
    outcome = await VACUUM.run(args, acting, CALL)
    assert outcome.changed
    assert [table["table"] for table in facts_of(outcome)["tables"]] == ["public.dirty"]
    assert all(passed(await VACUUM.checks(args, observing, before)).values())
    async with connected(database.observer) as observer:
        dead = await observer.fetchval("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'dirty'")
    assert dead == 0


async def test_vacuum_checks_notice_dead_rows_that_grew(database: Any, acting: Target, observing: Target) -> None:
    await prepared(database, *DIRTY[:2])
    args = VACUUM.parse({"tables": ["public.dirty"]})
    before = await VACUUM.before(args, acting)
    await VACUUM.run(args, acting, CALL)
    await prepared(database, "DELETE FROM public.dirty")
    assert not passed(await VACUUM.checks(args, observing, before))["dead-rows-bounded"]


async def test_vacuum_checks_fail_for_a_table_that_is_gone(database: Any, acting: Target, observing: Target) -> None:
    await prepared(database, *DIRTY)
    args = VACUUM.parse({"tables": ["public.dirty"]})
    before = await VACUUM.before(args, acting)
    await VACUUM.run(args, acting, CALL)
    await prepared(database, "DROP TABLE public.dirty")
    assert not passed(await VACUUM.checks(args, observing, before))["vacuumed-since"]


async def test_without_names_every_user_table_is_vacuumed_and_nothing_else(
    database: Any, acting: Target, observing: Target
) -> None:
    await prepared(database, 'CREATE SCHEMA "Odd One"', 'CREATE TABLE "Odd One"."select" (id int)', *DIRTY)
    args = VACUUM.parse({})
    before = await VACUUM.before(args, acting)
    outcome = await VACUUM.run(args, acting, CALL)
    done = {table["table"] for table in facts_of(outcome)["tables"]}
    assert {"Odd One.select", "public.dirty"} <= done
    assert not any(name.startswith(("pg_", "information_schema")) for name in done)
    assert all(passed(await VACUUM.checks(args, observing, before)).values())


async def test_a_partitioned_table_is_vacuumed_as_its_leaves(database: Any, acting: Target) -> None:
    await prepared(
        database,
        "CREATE TABLE public.parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE public.low PARTITION OF public.parted FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE public.high PARTITION OF public.parted FOR VALUES FROM (10) TO (20)",
    )
    preview = await VACUUM.preview(VACUUM.parse({"tables": ["public.parted"]}), acting)
    assert preview.commands == ('VACUUM (ANALYZE) "public"."high"', 'VACUUM (ANALYZE) "public"."low"')


@pytest.mark.parametrize("playbook", [VACUUM, REINDEX])
async def test_the_preview_is_the_same_for_both_roles_and_does_not_move_with_the_data(
    database: Any, acting: Target, observing: Target, playbook: Any
) -> None:
    await prepared(database, *DIRTY[:1])
    args = playbook.parse({"tables": ["public.dirty"]} if playbook is VACUUM else {"table": "public.dirty"})
    first = await playbook.preview(args, observing)
    await prepared(database, *DIRTY[1:])
    second = await playbook.preview(args, acting)
    assert first.digest == second.digest
    assert first.estimate != second.estimate


@pytest.mark.parametrize(
    ("playbook", "raw", "field"),
    [
        (VACUUM, {"tables": ["public.x", 'evil"; DROP TABLE secret']}, "tables.1"),
        (VACUUM, {"tables": ["unqualified-secret"]}, "tables.0"),
        (VACUUM, {"tables": []}, "tables"),
        (VACUUM, {"lock_timeout_seconds": 0}, "lock_timeout_seconds"),
        (VACUUM, {"statement_timeout_seconds": "secret"}, "statement_timeout_seconds"),
        (VACUUM, {"secret": 1}, "secret"),
        (REINDEX, {"index": "a.b.secret"}, "index"),
        (REINDEX, {}, "arguments"),
        (REINDEX, {"index": "public.i", "table": "public.t"}, "arguments"),
    ],
)
async def test_wrong_arguments_name_the_field_and_not_the_value(playbook: Any, raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        playbook.parse(raw)
    assert (caught.value.code, caught.value.field) == ("invalid-arguments", field)
    if field != "secret":
        assert "secret" not in str(caught.value)


async def test_a_table_that_does_not_exist_is_refused_by_its_place(acting: Target) -> None:
    args = VACUUM.parse({"tables": ["pg_catalog.pg_class"]})
    with pytest.raises(InvalidRequest) as caught:
        await VACUUM.preview(args, acting)
    assert (caught.value.code, caught.value.field) == ("unknown-table", "tables.0")
    with pytest.raises(PlaybookFailed) as failed:
        await VACUUM.run(args, acting, CALL)
    assert (failed.value.code, failed.value.changed) == ("unknown-table", False)


async def test_a_role_that_may_not_maintain_a_named_table_is_refused_before_anything_happens(
    database: Any, observing: Target
) -> None:
    await prepared(database, *DIRTY)
    with pytest.raises(PlaybookFailed) as vacuum:
        await VACUUM.before(VACUUM.parse({"tables": ["public.dirty"]}), observing)
    with pytest.raises(PlaybookFailed) as reindex:
        await REINDEX.before(REINDEX.parse({"table": "public.dirty"}), observing)
    assert (vacuum.value.code, reindex.value.code) == ("not-permitted", "not-permitted")


async def test_a_session_that_holds_the_lock_makes_vacuum_fail_in_time_and_it_says_what_was_done(
    database: Any, acting: Target
) -> None:
    await prepared(database, *DIRTY, "CREATE TABLE public.free (id int)")
    args = VACUUM.parse({"tables": ["public.free", "public.dirty"], "lock_timeout_seconds": 1})
    only = VACUUM.parse({"tables": ["public.dirty"], "lock_timeout_seconds": 1})
    async with connected(database.owner) as owner, owner.transaction():
        await owner.execute("LOCK TABLE public.dirty IN ACCESS EXCLUSIVE MODE")
        first, second = await asyncio.gather(
            VACUUM.run(args, acting, CALL), VACUUM.run(only, acting, CALL), return_exceptions=True
        )
    assert isinstance(first, PlaybookFailed)
    assert isinstance(second, PlaybookFailed)
    assert (first.code, first.changed) == ("lock-timeout", True)
    assert (second.code, second.changed) == ("lock-timeout", False)
    assert await ours(database) == []


async def test_a_cancelled_vacuum_leaves_no_session_and_was_called_by_its_key(database: Any, acting: Target) -> None:
    await prepared(database, *DIRTY)
    args = VACUUM.parse({"tables": ["public.dirty"], "lock_timeout_seconds": 60})
    async with connected(database.owner) as owner, owner.transaction():
        await owner.execute("LOCK TABLE public.dirty IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(VACUUM.run(args, acting, CALL))

        async def waiting() -> list[str]:
            query = "SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
            async with connected(database.observer) as observer:
                return [row[0] for row in await observer.fetch(query, database.name)]

        assert await until(waiting, bool, 10) == ["triad op_01/1/1"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ours(database) == []


async def test_an_unreachable_database_is_a_known_failure_that_tells_no_secret(database: Any) -> None:
    wrong = database.operator.replace("triad_operator:", "triad_operator:hunter2")
    for dsn in (wrong, "postgresql://u:hunter2@127.0.0.1:1/x", "nonsense hunter2"):
        with pytest.raises(PlaybookFailed) as caught:
            await VACUUM.before(VACUUM.parse({}), Target(SYSTEM, dsn))
        assert caught.value.code == "database-unreachable"
        assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}"
    with pytest.raises(PlaybookFailed, match="without a credential"):
        await VACUUM.before(VACUUM.parse({}), Target(SYSTEM))


async def test_another_kind_of_system_is_refused() -> None:
    folder = Target(BackupFolder(name="b", path="/nowhere", database="main-db"))
    with pytest.raises(InvalidRequest, match="wrong-system-kind"):
        await VACUUM.preview(VACUUM.parse({}), folder)
    with pytest.raises(InvalidRequest, match="wrong-system-kind"):
        await REINDEX.preview(REINDEX.parse({"table": "a.b"}), folder)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT pg_sleep(5)", "statement-timeout"),
        ("SELECT 1/0", "database-error"),
        ("CREATE TABLE public.never (id int)", "not-permitted"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "connection-lost"),
    ],
)
async def test_what_postgresql_refuses_gets_a_code(database: Any, statement: str, code: str) -> None:
    bounds = VACUUM.parse({"statement_timeout_seconds": 1})

    async def attempt() -> None:
        async with session(database.operator, "op_01/2/1", bounds) as opened:
            opened.changed = True
            await opened.connection.execute(statement)

    with pytest.raises(PlaybookFailed) as caught:
        await attempt()
    assert (caught.value.code, caught.value.changed) == (code, True)


async def test_cleaning_goes_on_while_its_caller_is_cancelled_again_and_again() -> None:
    entered, go, done = asyncio.Event(), asyncio.Event(), []

    async def clean() -> None:
        entered.set()
        await go.wait()
        done.append("clean")

    task = asyncio.create_task(to_the_end(clean()))
    await entered.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["clean"]


INDEXED = (
    "CREATE TABLE public.book (id int PRIMARY KEY, title text, span int4range, EXCLUDE USING gist (span WITH &&))",
    "ALTER TABLE public.book SET (autovacuum_enabled = off)",
    "CREATE INDEX by_title ON public.book (title)",
    "INSERT INTO public.book SELECT n, repeat('t', 100) || n FROM generate_series(1, 3000) AS n",
    "DELETE FROM public.book WHERE id > 100",
    "VACUUM public.book",
)


async def test_reindex_makes_a_new_smaller_valid_index_and_its_checks_hold_only_afterwards(
    database: Any, acting: Target, observing: Target
) -> None:
    await prepared(database, *INDEXED)
    args = REINDEX.parse({"index": "public.by_title"})
    preview = await REINDEX.preview(args, observing)
    assert preview.commands == ('REINDEX INDEX CONCURRENTLY "public"."by_title"',)
    before = await REINDEX.before(args, acting)
    assert passed(await REINDEX.checks(args, observing, before)) == {
        "indexes-valid": True,
        "indexes-rebuilt": False,
        "no-leftovers": True,
    }
    outcome = await REINDEX.run(args, acting, CALL)
    assert 0 < facts_of(outcome)["bytes_after"] < facts_of(outcome)["bytes_before"]
    assert all(passed(await REINDEX.checks(args, observing, before)).values())


async def test_reindex_of_a_table_takes_all_its_indexes_but_those_that_cannot_be_rebuilt_concurrently(
    database: Any, acting: Target, observing: Target
) -> None:
    await prepared(database, *INDEXED)
    args = REINDEX.parse({"table": "public.book"})
    before = await REINDEX.before(args, acting)
    outcome = await REINDEX.run(args, acting, CALL)
    rebuilt = [item["index"] for item in facts_of(outcome)["indexes"]]
    assert [name for name in rebuilt if name.startswith("public.")] == ["public.book_pkey", "public.by_title"]
    assert sum(name.startswith("pg_toast.") for name in rebuilt) == 1
    assert all(passed(await REINDEX.checks(args, observing, before)).values())
    with pytest.raises(InvalidRequest, match="not-supported"):
        await REINDEX.preview(REINDEX.parse({"index": "public.book_span_excl"}), acting)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"index": "public.nothing"}, "unknown-index"),
        ({"table": "public.nothing"}, "unknown-table"),
        ({"table": "pg_catalog.pg_class"}, "unknown-table"),
        ({"index": "pg_catalog.pg_class_oid_index"}, "unknown-index"),
    ],
)
async def test_an_index_or_table_that_does_not_exist_is_refused(acting: Target, raw: dict[str, Any], code: str) -> None:
    args = REINDEX.parse(raw)
    with pytest.raises(InvalidRequest) as caught:
        await REINDEX.preview(args, acting)
    assert (caught.value.code, caught.value.field) == (code, next(iter(raw)))
    with pytest.raises(PlaybookFailed, match="no "):
        await REINDEX.before(args, acting)


async def leftovers(database: Any) -> list[str]:
    async with connected(database.observer) as observer:
        query = "SELECT relname FROM pg_class WHERE relname ~ '_cc(new|old)' ORDER BY 1"
        return [row[0] for row in await observer.fetch(query)]


async def test_reindex_outwaits_who_holds_the_table_with_nothing_begun(database: Any, acting: Target) -> None:
    await prepared(database, *INDEXED)
    args = REINDEX.parse({"table": "public.book", "lock_timeout_seconds": 1})
    async with connected(database.owner) as writer, writer.transaction():
        await writer.execute("UPDATE public.book SET title = 'x' WHERE id = 1")
        with pytest.raises(PlaybookFailed) as caught:
            await REINDEX.run(args, acting, CALL)
    assert (caught.value.code, caught.value.changed) == ("lock-timeout", False)
    assert await leftovers(database) == []
    assert await ours(database) == []


async def interrupted_rebuild(database: Any) -> None:
    """What PostgreSQL itself leaves when REINDEX CONCURRENTLY is stopped while it waits."""
    async with connected(database.owner) as writer, connected(database.owner) as builder, writer.transaction():
        await writer.execute("UPDATE public.book SET title = 'x' WHERE id = 1")
        await builder.execute("SET statement_timeout = '300ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await builder.execute("REINDEX INDEX CONCURRENTLY public.by_title")


async def test_a_leftover_that_the_role_cannot_drop_is_refused_and_one_that_it_owns_is_dropped(
    database: Any, acting: Target, observing: Target
) -> None:
    await prepared(database, *INDEXED)
    await interrupted_rebuild(database)
    assert await leftovers(database) == ["by_title_ccnew"]
    args = REINDEX.parse({"index": "public.by_title"})
    with pytest.raises(PlaybookFailed) as caught:
        await REINDEX.before(args, acting)
    assert caught.value.code == "invalid-leftover"
    assert (await REINDEX.preview(args, observing)).commands == (
        'DROP INDEX CONCURRENTLY "public"."by_title_ccnew"',
        'REINDEX INDEX CONCURRENTLY "public"."by_title"',
    )
    owning = Target(SYSTEM, database.owner)
    before = await REINDEX.before(args, owning)
    assert not passed(await REINDEX.checks(args, observing, before))["no-leftovers"]
    outcome = await REINDEX.run(args, owning, CALL)
    assert facts_of(outcome)["leftovers_dropped"] == ["public.by_title_ccnew"]
    assert await leftovers(database) == []
    assert all(passed(await REINDEX.checks(args, observing, before)).values())


async def test_a_rebuild_that_is_cancelled_half_way_drops_what_it_began_where_it_may(database: Any) -> None:
    await prepared(database, *INDEXED)
    args = REINDEX.parse({"index": "public.by_title", "lock_timeout_seconds": 60})
    async with connected(database.owner) as reader, reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT count(*) FROM pg_class")  # its snapshot makes the rebuild wait half way
        task = asyncio.create_task(REINDEX.run(args, Target(SYSTEM, database.owner), CALL))
        assert await until(lambda: leftovers(database), bool, 10) == ["by_title_ccnew"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await leftovers(database) == []
    assert await ours(database) == []


async def test_a_rebuild_that_times_out_half_way_says_that_something_is_left(database: Any, acting: Target) -> None:
    await prepared(database, *INDEXED)
    args = REINDEX.parse({"index": "public.by_title", "lock_timeout_seconds": 1})
    async with connected(database.owner) as reader, reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT count(*) FROM pg_class")
        with pytest.raises(PlaybookFailed) as caught:
            await REINDEX.run(args, acting, CALL)
    assert (caught.value.code, caught.value.changed) == ("lock-timeout", True)
    assert await leftovers(database) == ["by_title_ccnew"]
    with pytest.raises(PlaybookFailed, match="owner can drop"):
        await REINDEX.run(args, acting, CALL)
