"""Row counts and ordered digests of every user table, under one snapshot, the same on any server.

A table's digest is SHA-256 over its rows as text, each ended by a line break, sorted by bytes (collation "C"). What
could make the same row read differently (time zone, date style, search path and so on) is pinned by `PINNED`. Not
covered: large objects, sequences, foreign tables, materialised views, and tables that belong to extensions.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from operations.canonical import SAFE_INTEGER, Digest, Record
from operations.playbooks.postgres_session import quoted

PINNED: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "row_security": "off",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
"""Session settings under which digests are comparable and a long snapshot survives."""

_TABLES: Final = """
    SELECT n.nspname AS space, c.relname AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


class TableDigest(Record):
    """What one table held."""

    space: str = Field(description="the schema")
    name: str
    rows: int = Field(ge=0, le=SAFE_INTEGER)
    digest: Digest

    @property
    def label(self) -> str:
        """`schema.name`, for people."""
        return f"{self.space}.{self.name}"


async def user_tables(connection: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401 - asyncpg has no types of its own
    """Schema and name of every ordinary table that pg_dump dumps with its rows."""
    return tuple((row["space"], row["name"]) for row in await connection.fetch(_TABLES))


async def digests(connection: Any, tables: Sequence[tuple[str, str]]) -> tuple[TableDigest, ...]:  # noqa: ANN401 - asyncpg has no types of its own
    """The digest of each table, as the connection's transaction sees it. Rows stream through; memory stays small."""
    return tuple([await _digest(connection, space, name) for space, name in tables])


async def _digest(connection: Any, space: str, name: str) -> TableDigest:  # noqa: ANN401 - asyncpg has no types of its own
    state, lines = hashlib.sha256(), 0

    async def take(data: bytes) -> None:
        nonlocal lines
        state.update(data)
        lines += data.count(b"\n")  # COPY writes a line break inside a value as \n

    rows = f'SELECT (t.*)::pg_catalog.text COLLATE "C" AS line FROM ONLY {quoted(space, name)} AS t'  # noqa: S608 - quoted
    await connection.copy_from_query(f"SELECT line FROM ({rows}) AS rows ORDER BY line", output=take)  # noqa: S608 - quoted
    return TableDigest(space=space, name=name, rows=lines, digest=state.hexdigest())
