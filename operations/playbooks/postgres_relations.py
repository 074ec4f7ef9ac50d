"""Names of tables and indexes as arguments, looked up before anything is done to them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import StringConstraints

from operations.canonical import Json, JsonObject
from operations.errors import InvalidRequest, PlaybookFailed
from operations.playbooks.postgres_session import quoted

RelationName = Annotated[
    str, StringConstraints(pattern=r'^[^."\x00-\x1f\x7f]{1,63}\.[^."\x00-\x1f\x7f]{1,63}$', max_length=127)
]
"""`schema.name`, without quotes; neither part contains a dot or a quote."""

_TABLES: Final = """
    SELECT c.oid::bigint AS oid, n.nspname AS space, c.relname AS name, c.relkind::text AS kind,
           pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') AS maintainable
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_ALL: Final = _TABLES + " AND c.relkind IN ('r', 'm') ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
_NAMED: Final = _TABLES + " AND c.relkind IN ('r', 'm', 'p') AND n.nspname = $1 AND c.relname = $2"
_LEAVES: Final = f"""{_TABLES}
    AND c.relkind = 'r' AND c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::bigint::oid) WHERE isleaf)
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""  # noqa: S608 - put together from constants
_ROWS: Final = """
    SELECT relid::bigint AS oid, schemaname || '.' || relname AS label, n_live_tup AS live, n_dead_tup AS dead,
           last_vacuum AS vacuumed, last_analyze AS analyzed
    FROM pg_catalog.pg_stat_all_tables WHERE relid::bigint = ANY($1::bigint[])
    ORDER BY schemaname COLLATE "C", relname COLLATE "C"
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or materialised view that exists; `maintainable` says whether the session's role may VACUUM it."""

    oid: int
    space: str
    name: str
    maintainable: bool

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.space, self.name)

    @property
    def label(self) -> str:
        """`schema.name`, for people."""
        return f"{self.space}.{self.name}"


@dataclass(frozen=True, slots=True)
class TableRows:
    """What PostgreSQL's statistics say of one table; the times are of manual runs, not of autovacuum's."""

    oid: int
    label: str
    live: int
    dead: int
    vacuumed: datetime | None = None
    analyzed: datetime | None = None

    def facts(self) -> JsonObject:
        """What a snapshot keeps."""
        return {"oid": self.oid, "table": self.label, "live": self.live, "dead": self.dead}

    @classmethod
    def of(cls, facts: JsonObject) -> Self:
        """Back from a snapshot."""
        return cls(
            oid=number(facts["oid"]), label=str(facts["table"]), live=number(facts["live"]), dead=number(facts["dead"])
        )


def number(value: Json) -> int:
    """An integer of a snapshot.

    Raises:
        PlaybookFailed: `snapshot-unreadable`.
    """
    if not isinstance(value, int):
        raise PlaybookFailed("snapshot-unreadable", "The snapshot does not hold what this playbook wrote.")
    return value


def objects(value: Json) -> list[JsonObject]:
    """The objects of a snapshot's list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@contextmanager
def known() -> Iterator[None]:
    """Turn an unknown name into a failed pre-condition: once a step is under way there is nobody to ask."""
    try:
        yield
    except InvalidRequest as error:
        raise PlaybookFailed(error.code, " ".join(error.reasons)) from error


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def split(name: str) -> tuple[str, str]:
    """Schema and name of a `RelationName`."""
    space, _, rest = name.partition(".")
    return space, rest


async def tables_named(connection: Any, names: Sequence[str] | None, field: str = "tables") -> tuple[Table, ...]:  # noqa: ANN401 - asyncpg has no types of its own
    """The tables called `names`, a partitioned one as its leaves; all tables outside the system schemas for None.

    Raises:
        InvalidRequest: `unknown-table` naming the argument's place, never its value.
    """
    if names is None:
        return tuple(_table(row) for row in await connection.fetch(_ALL))
    found: dict[int, Table] = {}
    for place, name in enumerate(names):
        row = await connection.fetchrow(_NAMED, *split(name))
        if row is None:
            raise InvalidRequest("unknown-table", "The database has no table of that name.", field=f"{field}.{place}")
        rows = await connection.fetch(_LEAVES, row["oid"]) if row["kind"] == "p" else [row]
        found.update((item["oid"], _table(item)) for item in rows)
    return tuple(found.values())


def _table(row: Any) -> Table:  # noqa: ANN401 - an asyncpg.Record
    return Table(oid=row["oid"], space=row["space"], name=row["name"], maintainable=row["maintainable"])


async def rows_of(connection: Any, oids: Sequence[int]) -> Mapping[int, TableRows]:  # noqa: ANN401 - asyncpg has no types of its own
    """Row counts and last manual runs by table oid; every role may read them."""
    found = await connection.fetch(_ROWS, list(oids))
    return {row["oid"]: TableRows(**dict(row)) for row in found}
