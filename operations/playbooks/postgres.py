"""Maintenance of PostgreSQL: VACUUM with ANALYZE, and REINDEX CONCURRENTLY.

Both act as a role with `pg_maintain` (PostgreSQL 17 or newer) and need no ownership. What they rest on is read from the
catalogue, names are quoted by code, and every session is named `triad KEY` and bounded.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal, Self

import asyncpg
from pydantic import Field, model_validator

from operations.canonical import Json
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Call, Playbook, Target
from operations.playbooks.postgres_indexes import (
    Index,
    Rebuild,
    dropping,
    holders,
    indexes_of,
    rebuild_of,
    rebuilding,
    totals,
)
from operations.playbooks.postgres_relations import (
    RelationName,
    Table,
    TableRows,
    known,
    number,
    objects,
    rows_of,
    some,
    tables_named,
)
from operations.playbooks.postgres_session import Session, Timeouts, failure, session, to_the_end, until
from operations.systems import Database, SystemKind

STATISTICS_SECONDS: Final = 2
"""How long a check waits for PostgreSQL's statistics, which sessions report up to a second late."""


class VacuumArguments(Timeouts):
    """Which tables to vacuum and analyse, and how long to wait."""

    tables: tuple[RelationName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="`schema.table` each; left out: every table of the database that the acting role may maintain",
    )


class VacuumAnalyze(Playbook[VacuumArguments]):
    """VACUUM (ANALYZE), one table after the other.

    Effect: idempotent. An interruption leaves some tables done and the others as they were; PostgreSQL undoes what an
    unfinished VACUUM began. Nothing needs cleaning: the next run does all of them.
    """

    name: ClassVar[str] = "postgres.vacuum_analyze"
    summary: ClassVar[str] = "Free dead rows of PostgreSQL tables and refresh the planner's statistics."
    keywords: ClassVar[tuple[str, ...]] = (
        "vacuum",
        "analyze",
        "bloat",
        "dead tuples",
        "statistics",
        "optimize",
        "optimization",
        "database",
        "postgres",
        "postgresql",
        "maintenance",
    )
    arguments: ClassVar[type[VacuumArguments]] = VacuumArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"database"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    timeout: ClassVar[timedelta] = timedelta(hours=2)

    async def preview(self, args: VacuumArguments, target: Target) -> Preview:
        """One statement for each table there is now."""
        target.expect(Database)
        async with session(target.credential, "preview") as opened:
            tables = await tables_named(opened.connection, args.tables)
            rows = await rows_of(opened.connection, [table.oid for table in tables])
        return Preview(
            commands=tuple(f"VACUUM (ANALYZE) {table.sql}" for table in tables),
            basis={"tables": len(tables), "lock_timeout_seconds": args.lock_timeout_seconds},
            blast_radius=(
                f"{len(tables)} tables: reads and writes go on, schema changes wait; more disk reads and writes while "
                "it runs. Tables that the acting role may not maintain are left out when none are named."
            ),
            undo="Not needed: no row changes.",
            estimate=f"{_sum(rows, 'dead')} dead and {_sum(rows, 'live')} live rows.",
        )

    async def before(self, args: VacuumArguments, target: Target) -> Snapshot:
        """The tables to be vacuumed, their row counts, and the server's clock."""
        target.expect(Database)
        async with session(target.credential, "before") as opened:
            tables = await _maintainable(opened.connection, args)
            taken = await opened.connection.fetchval("SELECT pg_catalog.clock_timestamp()")
            rows = await rows_of(opened.connection, [table.oid for table in tables])
        return Snapshot(
            summary=f"{len(tables)} tables with {_sum(rows, 'dead')} dead rows.",
            facts={"taken": taken.isoformat(), "tables": [row.facts() for row in rows.values()]},
        )

    async def run(self, args: VacuumArguments, target: Target, call: Call) -> Outcome:
        """VACUUM each table, outside any transaction."""
        target.expect(Database)
        done: list[Json] = []
        async with session(target.credential, call.key, args) as opened:
            tables = await _maintainable(opened.connection, args)
            for number, table in enumerate(tables):
                await call.progress(number / len(tables), f"VACUUM (ANALYZE) {table.label}")
                began = time.monotonic()
                try:
                    await opened.connection.execute(f"VACUUM (ANALYZE) {table.sql}")
                except asyncpg.UndefinedTableError:
                    if args.tables is not None:
                        raise
                    continue  # dropped since it was listed
                opened.changed = True
                done.append({"table": table.label, "milliseconds": int((time.monotonic() - began) * 1000)})
        await call.progress(1.0, f"{len(done)} tables")
        return Outcome(
            summary=f"Vacuumed and analysed {len(done)} tables.",
            changed=bool(done),
            facts={"tables": done},
        )

    async def checks(self, args: VacuumArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Every table was vacuumed and analysed after the snapshot; its dead rows did not grow past the threshold."""
        del args
        target.expect(Database)
        taken = datetime.fromisoformat(str(before.facts["taken"]))
        old = {row.oid: row for row in map(TableRows.of, objects(before.facts["tables"]))}

        async with session(target.credential, "check") as opened:
            connection = opened.connection
            found = await until(
                lambda: rows_of(connection, list(old)),
                lambda rows: not any(_unfinished(old, rows, taken)),
                STATISTICS_SECONDS,
            )
        vacuumed, analyzed, grown = _unfinished(old, found, taken)
        return (
            _none_of("vacuumed-since", f"{len(old)} tables vacuumed after the snapshot", "not vacuumed", vacuumed),
            _none_of("analyzed-since", f"{len(old)} tables analysed after the snapshot", "not analysed", analyzed),
            _none_of("dead-rows-bounded", "dead rows not grown, or at most 50 + 20 % of live rows", "over it", grown),
        )


def _sum(rows: Mapping[int, TableRows], what: Literal["live", "dead"]) -> int:
    return sum(getattr(row, what) for row in rows.values())


def _unfinished(
    old: Mapping[int, TableRows], found: Mapping[int, TableRows], taken: datetime
) -> tuple[list[str], list[str], list[str]]:
    """The tables that are not vacuumed, not analysed, or have more dead rows than they may."""
    pairs = [(row, found.get(oid, TableRows(oid=oid, label=row.label, live=0, dead=0))) for oid, row in old.items()]
    return (
        [row.label for row, now in pairs if now.vacuumed is None or now.vacuumed <= taken],
        [row.label for row, now in pairs if now.analyzed is None or now.analyzed <= taken],
        [row.label for row, now in pairs if now.dead > max(row.dead, 50 + now.live // 5)],
    )


def _none_of(name: str, expected: str, verb: str, culprits: Sequence[str]) -> Check:
    return Check(
        name=name,
        passed=not culprits,
        expected=expected,
        observed=f"{verb}: {some(culprits)}" if culprits else "all of them",
    )


async def _maintainable(connection: Any, args: VacuumArguments) -> tuple[Table, ...]:  # noqa: ANN401 - asyncpg has no types of its own
    with known():
        tables = await tables_named(connection, args.tables)
    refused = [table.label for table in tables if not table.maintainable]
    if refused and args.tables is not None:
        raise PlaybookFailed("not-permitted", f"The acting role may not maintain {some(refused)}.")
    return tuple(table for table in tables if table.maintainable)


class ReindexArguments(Timeouts):
    """Which index, or which table with all its indexes."""

    index: RelationName | None = Field(default=None, description="`schema.index`; this or `table`")
    table: RelationName | None = Field(default=None, description="`schema.table`: all of its indexes; this or `index`")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.index is None) == (self.table is None):
            raise ValueError("name either an index or a table")
        return self


class ReindexConcurrently(Playbook[ReindexArguments]):
    """REINDEX CONCURRENTLY, one index after the other, while reads and writes go on.

    Effect: idempotent. An interruption leaves at worst one invalid index called `..._ccnew` or `..._ccold` beside the
    old, still valid one. Where the acting role owns the table, the step drops it at once, and so does the next run;
    otherwise the next run refuses with `invalid-leftover` until the owner has dropped it. To make that rare, the step
    first outwaits the transactions that hold locks on the table, with nothing begun.
    """

    name: ClassVar[str] = "postgres.reindex_concurrently"
    summary: ClassVar[str] = "Rebuild PostgreSQL indexes without blocking reads or writes."
    keywords: ClassVar[tuple[str, ...]] = (
        "reindex",
        "index",
        "indexes",
        "index bloat",
        "rebuild",
        "database",
        "postgres",
        "postgresql",
    )
    arguments: ClassVar[type[ReindexArguments]] = ReindexArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"database"})
    tier: ClassVar[int] = 2
    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    timeout: ClassVar[timedelta] = timedelta(hours=4)

    async def preview(self, args: ReindexArguments, target: Target) -> Preview:
        """The statements, with the dropping of leftovers in front where there are some."""
        target.expect(Database)
        async with session(target.credential, "preview") as opened:
            rebuild = await rebuild_of(opened.connection, index=args.index, table=args.table)
        return Preview(
            commands=rebuild.commands,
            basis={"indexes": len(rebuild.chosen), "leftovers": len(rebuild.leftovers)},
            blast_radius=(
                f"{len(rebuild.chosen)} indexes of one table: reads and writes go on, schema changes wait, disk use "
                "grows by the largest index while it is rebuilt."
            ),
            undo="Not needed: an index holds nothing that its table does not. An invalid index that an interrupted "
            "attempt left behind is dropped.",
            estimate=f"{totals(rebuild.chosen)} bytes of indexes.",
        )

    async def before(self, args: ReindexArguments, target: Target) -> Snapshot:
        """Oid and size of each index; refuses over leftovers that the acting role cannot drop."""
        target.expect(Database)
        async with session(target.credential, "before") as opened:
            rebuild = await _allowed(opened, args)
        return Snapshot(
            summary=f"{len(rebuild.chosen)} indexes of {totals(rebuild.chosen)} bytes.",
            facts={"table": rebuild.table, "indexes": [index.facts() for index in rebuild.chosen]},
        )

    async def run(self, args: ReindexArguments, target: Target, call: Call) -> Outcome:
        """Outwait who holds the table, drop leftovers, rebuild; whatever happens, try to leave no invalid index."""
        target.expect(Database)
        async with session(target.credential, call.key, args) as opened:
            rebuild = await _allowed(opened, args)
            await _outwait(opened, rebuild.table, args.lock_timeout_seconds)
            for leftover in rebuild.leftovers:
                await opened.connection.execute(dropping(leftover))
                opened.changed = True
            for number, index in enumerate(rebuild.chosen):
                await call.progress(number / len(rebuild.chosen), f"REINDEX {index.label}")
                try:
                    await opened.connection.execute(rebuilding(index))
                except BaseException as error:
                    opened.changed = opened.changed or bool(await to_the_end(_clear(target, call, rebuild.table)))
                    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | ConnectionError):
                        raise failure(error, changed=opened.changed) from None
                    raise
                opened.changed = True
            after = {index.label: index for index in await indexes_of(opened.connection, rebuild.table)}
        return _rebuilt(rebuild, after)

    async def checks(self, args: ReindexArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Each index is valid and another object than before, and no leftover stands beside it."""
        del args
        target.expect(Database)
        old = [Index.of(item) for item in objects(before.facts["indexes"])]
        async with session(target.credential, "check") as opened:
            found = await indexes_of(opened.connection, number(before.facts["table"]))
        now = {index.label: index for index in found}
        invalid = [index.label for index in old if index.label not in now or not now[index.label].valid]
        same = [index.label for index in old if index.label in now and now[index.label].oid == index.oid]
        left = [index.label for index in found if index.leftover]
        return (
            _none_of("indexes-valid", f"{len(old)} indexes valid and ready", "invalid or gone", invalid),
            _none_of("indexes-rebuilt", f"{len(old)} indexes are new objects", "still the old one", same),
            _none_of("no-leftovers", "no invalid index of an interrupted rebuild", "left", left),
        )


async def _allowed(opened: Session, args: ReindexArguments) -> Rebuild:
    with known():
        rebuild = await rebuild_of(opened.connection, index=args.index, table=args.table)
    if not all(index.maintainable for index in rebuild.chosen):
        raise PlaybookFailed("not-permitted", "The acting role may not maintain this table.")
    stuck = [index.label for index in rebuild.leftovers if not index.droppable]
    if stuck:
        raise PlaybookFailed(
            "invalid-leftover", f"An interrupted rebuild left {some(stuck)}; only the table's owner can drop it."
        )
    return rebuild


async def _outwait(opened: Session, table: int, seconds: int) -> None:
    """Wait, with nothing begun, for the transactions that hold the table now, as REINDEX CONCURRENTLY would later."""
    first = await holders(opened.connection, table)
    left = await until(lambda: holders(opened.connection, table), lambda now: not first & now, seconds)
    if first & left:
        raise PlaybookFailed("lock-timeout", "Another transaction held the table for too long; nothing was begun.")


async def _clear(target: Target, call: Call, table: int) -> tuple[str, ...]:
    """Drop what an interrupted rebuild left, on a fresh connection; the leftovers that could not be dropped."""
    stuck: list[str] = []
    try:
        async with session(target.credential, call.key) as opened:
            for index in await indexes_of(opened.connection, table):
                if index.leftover and index.droppable:
                    await opened.connection.execute(dropping(index))
                elif index.leftover:
                    stuck.append(index.label)
    except PlaybookFailed:
        stuck.append("unknown")
    return tuple(stuck)


def _rebuilt(rebuild: Rebuild, after: Mapping[str, Index]) -> Outcome:
    bad = [index.label for index in rebuild.chosen if index.label not in after or not after[index.label].valid]
    if bad:
        raise PlaybookFailed("index-invalid", f"Not valid after the rebuild: {some(bad)}.", changed=True)
    now = [after[index.label] for index in rebuild.chosen]
    return Outcome(
        summary=f"Rebuilt {len(now)} indexes: {totals(rebuild.chosen)} bytes before, {totals(now)} after.",
        changed=True,
        facts={
            "bytes_before": totals(rebuild.chosen),
            "bytes_after": totals(now),
            "leftovers_dropped": [index.label for index in rebuild.leftovers],
            "indexes": [
                {"index": new.label, "bytes_before": old.bytes, "bytes_after": new.bytes}
                for old, new in zip(rebuild.chosen, now, strict=True)
            ],
        },
    )
