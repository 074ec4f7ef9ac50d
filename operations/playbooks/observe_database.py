"""What a PostgreSQL database is doing right now, as numbers: never the text of a query, never a row.

A role with `pg_monitor` sees every session; another sees only durations of its own, and the facts say so in
`sees_all_sessions`. Meant for the observing credential, and it works with either.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from pydantic import Field

from operations.canonical import SAFE_INTEGER, Json, JsonObject
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.playbooks.postgres_session import session
from operations.systems import Database, SystemKind

_CLOCK: Final = "SELECT pg_catalog.clock_timestamp()"

_ONE: Final[Mapping[str, str]] = {
    "server": """
        SELECT current_setting('server_version_num')::int AS version,
               extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::bigint AS uptime_seconds,
               pg_is_in_recovery() AS in_recovery,
               pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all_sessions
    """,
    "size": """
        SELECT pg_database_size(current_database()::name) AS database_bytes,
               count(*) FILTER (WHERE relkind IN ('r', 'm')) AS tables,
               count(*) FILTER (WHERE relkind = 'i') AS indexes
        FROM pg_class WHERE relnamespace NOT IN (
            SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')
    """,
    "sessions": """
        SELECT count(*) AS total, current_setting('max_connections')::int AS allowed,
               count(*) FILTER (WHERE state = 'active') AS active,
               count(*) FILTER (WHERE state = 'idle') AS idle,
               count(*) FILTER (WHERE state ~ '^idle in transaction') AS idle_in_transaction,
               count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting_for_locks,
               coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::bigint
                   AS longest_transaction_seconds,
               coalesce(max(extract(epoch FROM clock_timestamp() - state_change))
                   FILTER (WHERE state ~ '^idle in transaction'), 0)::bigint AS longest_idle_in_transaction_seconds
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
    """,
    "activity": """
        SELECT xact_commit AS commits, xact_rollback AS rollbacks, deadlocks, conflicts,
               temp_bytes, blks_hit AS blocks_hit, blks_read AS blocks_read,
               CASE WHEN blks_hit + blks_read > 0
                    THEN (1000 * blks_hit::numeric / (blks_hit + blks_read))::int END AS cache_hit_permille
        FROM pg_stat_database WHERE datname = current_database()
    """,
    "wraparound": """
        SELECT age(datfrozenxid)::bigint AS transaction_age, mxid_age(datminmxid)::bigint AS multixact_age,
               current_setting('autovacuum_freeze_max_age')::bigint AS autovacuum_freeze_max_age
        FROM pg_database WHERE datname = current_database()
    """,
    "dead_rows": """
        SELECT coalesce(sum(n_live_tup), 0)::bigint AS live, coalesce(sum(n_dead_tup), 0)::bigint AS dead,
               count(*) FILTER (WHERE n_dead_tup > 50 + n_live_tup / 5) AS tables_over_threshold,
               count(*) FILTER (WHERE last_vacuum IS NULL AND last_autovacuum IS NULL) AS tables_never_vacuumed,
               count(*) FILTER (WHERE last_analyze IS NULL AND last_autoanalyze IS NULL) AS tables_never_analyzed
        FROM pg_stat_user_tables
    """,
    "indexes": """
        SELECT count(*) FILTER (WHERE NOT i.indisvalid) AS invalid,
               count(*) FILTER (WHERE s.idx_scan = 0 AND NOT i.indisunique) AS never_used
        FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
    """,
    "replication": """
        SELECT (SELECT count(*) FROM pg_stat_replication) AS standbys,
               (SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::bigint FROM pg_stat_replication)
                   AS longest_replay_lag_seconds,
               count(*) AS slots, count(*) FILTER (WHERE NOT active) AS inactive_slots,
               count(*) FILTER (WHERE wal_status IN ('lost', 'unreserved')) AS slots_losing_wal,
               CASE WHEN pg_is_in_recovery()
                    THEN coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::bigint
               END AS standby_delay_seconds
        FROM pg_replication_slots
    """,
}
"""Sections that are one row each. Every value is an integer, a truth value, or NULL where it does not apply."""

_MANY: Final[Mapping[str, str]] = {
    "blocking": """
        SELECT w.pid AS blocked, b.pid AS blocking, l.locktype AS lock, c.oid::regclass::text AS relation,
               (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::bigint AS waiting_milliseconds
        FROM pg_locks l
        JOIN pg_stat_activity w ON w.pid = l.pid AND w.datname = current_database()
        CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS b(pid)
        LEFT JOIN pg_class c ON c.oid = l.relation AND l.database = w.datid
        WHERE NOT l.granted ORDER BY l.waitstart NULLS LAST, w.pid, b.pid LIMIT $1
    """,
    "slow_queries": """
        SELECT pid, query_id::text AS query_id, wait_event_type,
               (extract(epoch FROM clock_timestamp() - query_start) * 1000)::bigint AS running_milliseconds
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname = current_database() AND state = 'active'
          AND pid <> pg_backend_pid() AND query_start < clock_timestamp() - make_interval(secs => $2)
        ORDER BY query_start LIMIT $1
    """,
    "deadest_tables": """
        SELECT schemaname || '.' || relname AS "table", n_live_tup AS live, n_dead_tup AS dead,
               (1000 * n_dead_tup / greatest(n_live_tup + n_dead_tup, 1))::int AS dead_permille,
               pg_total_relation_size(relid) AS bytes
        FROM pg_stat_user_tables WHERE n_dead_tup > 0 ORDER BY n_dead_tup DESC, relid LIMIT $1
    """,
}
"""Sections that are lists, each cut at `top`."""


class ObserveArguments(Arguments):
    """Where to draw the lines."""

    slow_seconds: int = Field(default=5, ge=0, le=86_400, description="a running query counts as slow from here, in s")
    top: int = Field(default=10, ge=1, le=50, description="how many of each list to keep")


class ObserveDatabase(Playbook[ObserveArguments]):
    """Sessions, locks, dead rows, slow queries, cache, size, replication and transaction age of one database.

    Effect: read. An interruption leaves nothing.
    """

    name: ClassVar[str] = "observe.database"
    summary: ClassVar[str] = "Look at a PostgreSQL database: sessions, locks, dead rows, slow queries, replication."
    keywords: ClassVar[tuple[str, ...]] = (
        "observe",
        "monitor",
        "monitoring",
        "status",
        "sessions",
        "locks",
        "bloat",
        "slow queries",
        "replication",
        "performance",
        "analysis",
        "database",
        "postgres",
        "postgresql",
    )
    arguments: ClassVar[type[ObserveArguments]] = ObserveArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"database"})
    tier: ClassVar[int] = 0
    effect: ClassVar[Effect] = Effect.READ
    emergency: ClassVar[bool] = True
    timeout: ClassVar[timedelta] = timedelta(minutes=2)

    async def preview(self, args: ObserveArguments, target: Target) -> Preview:
        """The statements."""
        target.expect(Database)
        sections = {**_ONE, **_MANY}
        return Preview(
            commands=tuple(" ".join(query.split()) for query in sections.values()),
            basis={"slow_seconds": args.slow_seconds, "top": args.top},
            blast_radius="None: statistics are read in one short session.",
            undo="Not needed: nothing changes.",
        )

    async def before(self, args: ObserveArguments, target: Target) -> Snapshot:
        """The server's clock."""
        del args
        target.expect(Database)
        async with session(target.credential, "before") as opened:
            taken = await opened.connection.fetchval(_CLOCK)
        return Snapshot(summary="The time before looking.", facts={"taken": taken.isoformat()})

    async def run(self, args: ObserveArguments, target: Target, call: Call) -> Outcome:
        """Read every section."""
        target.expect(Database)
        facts = await look(target.credential, call.key, args)
        return Outcome(summary=_summary(facts), changed=False, facts=facts)

    async def checks(self, args: ObserveArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Every section can be read, by the observing role too, at a time after the snapshot."""
        target.expect(Database)
        facts = await look(target.credential, "check", args)
        missing = sorted(name for name in (*_ONE, *_MANY) if not _present(name, facts.get(name)))
        taken, since = str(facts["taken"]), str(before.facts["taken"])
        return (
            Check(
                name="sections-present",
                passed=not missing,
                expected=f"{len(_ONE) + len(_MANY)} sections with values",
                observed=f"missing: {', '.join(missing)}" if missing else "all of them",
            ),
            Check(
                name="taken-after",
                passed=datetime.fromisoformat(taken) > datetime.fromisoformat(since),
                expected=f"read after {since}",
                observed=taken,
            ),
        )


async def look(dsn: str | None, key: str, args: ObserveArguments) -> JsonObject:
    """All sections, in one read-only transaction.

    Raises:
        PlaybookFailed: the database cannot be reached, or refuses.
    """
    settings = {"search_path": "pg_catalog", "default_transaction_read_only": "on"}
    async with session(dsn, key, settings=settings) as opened:
        connection = opened.connection
        facts: JsonObject = {"taken": (await connection.fetchval(_CLOCK)).isoformat()}
        for name, query in _ONE.items():
            row = await connection.fetchrow(query)
            facts[name] = _plain(row) if row is not None else None
        for name, query in _MANY.items():
            bounds = (args.top, args.slow_seconds) if "$2" in query else (args.top,)
            facts[name] = [_plain(row) for row in await connection.fetch(query, *bounds)]
    return facts


def _plain(row: Any) -> JsonObject:  # noqa: ANN401 - an asyncpg.Record
    return {str(name): _value(value) for name, value in row.items()}


def _value(value: Any) -> Json:  # noqa: ANN401 - whatever PostgreSQL answered
    if value is None or isinstance(value, bool | str):
        return value
    return max(-SAFE_INTEGER, min(SAFE_INTEGER, int(value)))


def _present(name: str, section: Json | None) -> bool:
    return isinstance(section, list) if name in _MANY else isinstance(section, dict) and bool(section)


def _summary(facts: JsonObject) -> str:
    sessions, dead, blocking, slow = (facts[name] for name in ("sessions", "dead_rows", "blocking", "slow_queries"))
    total = sessions["total"] if isinstance(sessions, dict) else 0
    rows = dead["dead"] if isinstance(dead, dict) else 0
    waits = len(blocking) if isinstance(blocking, list) else 0
    late = len(slow) if isinstance(slow, list) else 0
    return f"{total} other sessions, {waits} blocking pairs, {late} slow queries, {rows} dead rows."
