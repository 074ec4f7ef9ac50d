"""What there is to know about indexes before and after they are rebuilt concurrently."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from operations.canonical import JsonObject
from operations.errors import InvalidRequest
from operations.playbooks.postgres_relations import number, split
from operations.playbooks.postgres_session import quoted

_CHOSEN_TABLE: Final = """
    SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_CHOSEN_INDEX: Final = """
    SELECT i.indrelid::bigint
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'i' AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_INDEXES: Final = """
    SELECT c.oid::bigint AS oid, n.nspname AS space, c.relname AS name, i.indisvalid AND i.indisready AS valid,
           i.indisexclusion AS exclusion, pg_catalog.pg_relation_size(c.oid) AS bytes,
           NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
           pg_catalog.pg_has_role(c.relowner, 'USAGE') AS droppable,
           pg_catalog.has_table_privilege($1::bigint::oid, 'MAINTAIN') AS maintainable
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = $1::bigint::oid
    WHERE i.indrelid IN (t.oid, t.reltoastrelid)
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
_HOLDERS: Final = """
    SELECT virtualtransaction, pid FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND granted AND relation = $1::bigint::oid AND pid <> pg_catalog.pg_backend_pid()
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a table, or of its TOAST table.

    Attributes:
        leftover: invalid, and named as an interrupted REINDEX CONCURRENTLY leaves it.
        droppable: the session's role counts as its owner.
        maintainable: the session's role may rebuild it.
    """

    oid: int
    space: str
    name: str
    bytes: int
    valid: bool = True
    exclusion: bool = False
    leftover: bool = False
    droppable: bool = False
    maintainable: bool = False

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.space, self.name)

    @property
    def label(self) -> str:
        """`schema.name`, for people."""
        return f"{self.space}.{self.name}"

    def facts(self) -> JsonObject:
        """What a snapshot keeps."""
        return {"oid": self.oid, "schema": self.space, "index": self.name, "bytes": self.bytes}

    @classmethod
    def of(cls, facts: JsonObject) -> Self:
        """Back from a snapshot."""
        return cls(
            oid=number(facts["oid"]), space=str(facts["schema"]), name=str(facts["index"]), bytes=number(facts["bytes"])
        )


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The indexes of one table: `chosen` to be rebuilt, `leftovers` to be dropped first, `all` there are."""

    table: int
    chosen: tuple[Index, ...]
    leftovers: tuple[Index, ...]
    all: tuple[Index, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """The statements, in order."""
        return (*map(dropping, self.leftovers), *map(rebuilding, self.chosen))


def dropping(index: Index) -> str:
    """The statement that removes a leftover."""
    return f"DROP INDEX CONCURRENTLY {index.sql}"


def rebuilding(index: Index) -> str:
    """The statement that rebuilds an index while reads and writes go on."""
    return f"REINDEX INDEX CONCURRENTLY {index.sql}"


async def indexes_of(connection: Any, table: int) -> tuple[Index, ...]:  # noqa: ANN401 - asyncpg has no types of its own
    """All indexes of a table and of its TOAST table."""
    return tuple(Index(**dict(row)) for row in await connection.fetch(_INDEXES, table))


async def rebuild_of(connection: Any, *, index: str | None, table: str | None) -> Rebuild:  # noqa: ANN401 - asyncpg has no types of its own
    """What rebuilding the named index, or all indexes of the named table, comes to.

    Raises:
        InvalidRequest: `unknown-index`, `unknown-table`, or `not-supported` for what cannot be rebuilt concurrently.
    """
    name, query = (index, _CHOSEN_INDEX) if index is not None else (table or "", _CHOSEN_TABLE)
    field = "index" if index is not None else "table"
    oid = await connection.fetchval(query, *split(str(name)))
    if oid is None:
        raise InvalidRequest(f"unknown-{field}", f"The database has no {field} of that name.", field=field)
    found = await indexes_of(connection, oid)
    leftovers = tuple(item for item in found if item.leftover)
    usable = [item for item in found if not item.leftover and (index is None or item.label == index)]
    chosen = tuple(item for item in usable if not item.exclusion and (item.valid or index is not None))
    if not chosen:
        raise InvalidRequest("not-supported", "There is no index here that can be rebuilt concurrently.", field=field)
    return Rebuild(table=oid, chosen=chosen, leftovers=leftovers, all=found)


async def holders(connection: Any, table: int) -> frozenset[tuple[str, int]]:  # noqa: ANN401 - asyncpg has no types of its own
    """Transactions of others that hold any lock on the table: REINDEX CONCURRENTLY would have to outwait them."""
    return frozenset((row["virtualtransaction"], row["pid"]) for row in await connection.fetch(_HOLDERS, table))


def totals(indexes: Sequence[Index]) -> int:
    """Bytes of all."""
    return sum(item.bytes for item in indexes)
