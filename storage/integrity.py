"""Whether the tables beside the entries say what the entries say: hashes, subtrees, heads, warrants, stages.

The verifier reads entries and notes, which are the truth; these tables are what the service works from. Whoever could
write them as a superuser may have changed one without the other.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from operations.errors import LedgerUnavailable
from storage.engine import BROKEN
from storage.nodes import STRIDE
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, parse_note
from storage.verifier.tree import Frontier, leaf_hash

_PAGE: Final = 2048
_ENTRIES: Final = "SELECT idx, entry, hash, operation, kind FROM ledger_leaf ORDER BY idx"
_HEADS: Final = (
    "SELECT size, c.root, c.note, h.frontier FROM ledger_checkpoint c "
    "FULL JOIN ledger_head h USING (size) ORDER BY size"
)
_NODES: Final = (
    "SELECT level, idx, hash FROM ledger_node JOIN unnest($1::smallint[], $2::bigint[]) AS w(level, idx) "
    "USING (level, idx)"
)
_MOST: Final = 100
"""Differences that are told; the others are counted."""


@dataclass(slots=True)
class Differences:
    """What the tables say otherwise than the entries.

    Attributes:
        sentences: the first of them.
        found: how many there are.
    """

    sentences: list[str] = field(default_factory=list)
    found: int = 0

    def add(self, sentence: str) -> None:
        """One more."""
        self.found += 1
        if len(self.sentences) < _MOST:
            self.sentences.append(sentence)


async def check_tables(dsn: str) -> Differences:
    """Compare every row of the ledger's tables with the entries, in one snapshot.

    Args:
        dsn: of a role that may read the ledger.

    Raises:
        LedgerUnavailable: they cannot be read.
    """
    try:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await compare(connection)
        finally:
            await connection.close()
    except BROKEN as error:
        raise LedgerUnavailable(f"The ledger cannot be read: {error}") from error


async def compare(connection: asyncpg.Connection) -> Differences:
    """The same inside a transaction of the caller's, who sees to it that it is one snapshot."""
    return await _Comparison(connection).run()


class _Comparison:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._differences = Differences()
        self._frontier = Frontier()
        self._leaves: list[bytes] = []
        self._inner = 0
        self._last = 0
        self._warrants: set[str] = set()
        self._stages: dict[str, tuple[int, str]] = {}

    async def run(self) -> Differences:
        signed = deque(await self._connection.fetch(_HEADS))
        if not signed:
            self._differences.add("There is no head and no checkpoint.")
        position = 0
        async for row in self._connection.cursor(_ENTRIES, prefetch=_PAGE):
            self._leaf(position, row)
            position += 1
            ended = bool(signed) and signed[0]["size"] == position
            if ended or position % _PAGE == 0:
                await self._grow()
            if ended:
                self._head(signed.popleft())
        await self._grow()
        for row in signed:
            self._differences.add(
                f"There is a head of {row['size']} entries, and entries of that number are not there."
            )
        if self._frontier.size and self._frontier.size != self._last:
            self._differences.add(f"No head covers the newest of the {position} entries.")
        await self._nothing_more()
        return self._differences

    def _leaf(self, position: int, row: asyncpg.Record) -> None:
        index, entry = row["idx"], row["entry"]
        if index != position:
            self._differences.add(f"Entry {position} is missing: row {index} stands in its place.")
        computed = leaf_hash(entry)
        if row["hash"] != computed:
            self._differences.add(f"The stored hash of entry {index} is not that of its bytes.")
        self._leaves.append(computed)
        try:
            found = json.loads(entry)
            if (row["kind"], row["operation"]) != (found["kind"], found.get("operation")):
                self._differences.add(f"Entry {index} stands under another kind or operation than it names.")
            self._meaning(found)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._differences.add(f"Entry {index} cannot be read.")

    def _meaning(self, found: dict[str, Any]) -> None:
        if found["kind"] == "step.intent":
            self._warrants.add(found["event"]["warrant"])
        if "seq" in found:
            self._stages[found["operation"]] = found["seq"], found["after"]

    async def _grow(self) -> None:
        self._frontier, nodes = self._frontier.extend(self._leaves)
        self._leaves.clear()
        kept = {(node.level, node.position): node.hash for node in nodes if node.level % STRIDE == 0}
        if not kept:
            return
        self._inner += len(kept)
        levels, positions = zip(*kept, strict=True)
        stored = await self._connection.fetch(_NODES, levels, positions)
        known = {(row["level"], row["idx"]): row["hash"] for row in stored}
        for place, computed in kept.items():
            if known.get(place) != computed:
                self._differences.add(f"The stored subtree {place[1]} of level {place[0]} is not that of its entries.")

    def _head(self, row: asyncpg.Record) -> None:
        size = self._last = row["size"]
        if row["note"] is None or row["frontier"] is None:
            self._differences.add(f"Of {size} entries there is a head or a checkpoint, and not both.")
            return
        root = self._frontier.root()
        if row["frontier"] != self._frontier.encode():
            self._differences.add(f"The stored head of {size} entries is not theirs.")
        try:
            stated = Checkpoint.parse(parse_note(row["note"]).text)
        except NoteMalformed:
            self._differences.add(f"The checkpoint of {size} entries cannot be read.")
            return
        if (stated.size, stated.root, row["root"]) != (size, root, root):
            self._differences.add(f"The checkpoint of {size} entries is not over them.")

    async def _nothing_more(self) -> None:
        """Rows that no entry accounts for, and those that are missing."""
        if await self._connection.fetchval("SELECT count(*) FROM ledger_node") != self._inner:
            self._differences.add("There are more or fewer stored subtrees than the entries have.")
        used = {
            row["warrant"] async for row in self._connection.cursor("SELECT warrant FROM warrant_use", prefetch=_PAGE)
        }
        for warrant in sorted(self._warrants - used):
            self._differences.add(f"The warrant {warrant} was consumed by an entry and stands as unused.")
        for warrant in sorted(used - self._warrants):
            self._differences.add(f"The warrant {warrant} stands as used, and no entry consumed it.")
        async for row in self._connection.cursor("SELECT id, version, stage FROM operation", prefetch=_PAGE):
            if self._stages.pop(row["id"], None) != (row["version"], row["stage"]):
                self._differences.add(f"The operation {row['id']} stands elsewhere than its entries say.")
        for ident in sorted(self._stages):
            self._differences.add(f"The operation {ident} has entries and no row.")
