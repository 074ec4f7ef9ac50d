"""Whether the tables beside the entries say what the entries say: hashes, subtrees, heads, warrants, stages, evidence.

The verifier reads entries and notes, which are the truth; these tables are what the service works from. Whoever could
write them may have changed one without the other. What the newest checkpoint does not cover says nothing here.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import asyncpg

from operations.errors import LedgerUnavailable
from storage.engine import BROKEN
from storage.holdings import Holdings
from storage.nodes import STRIDE
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, parse_note
from storage.verifier.report import Code, Report
from storage.verifier.tree import Frontier, leaf_hash

_PAGE: Final = 2048
_ENTRIES: Final = "SELECT idx, entry, hash, operation, kind FROM ledger_leaf ORDER BY idx"
_COVERED: Final = "SELECT coalesce(max(size), 0) FROM ledger_checkpoint"
_HEADS: Final = (
    "SELECT size, c.root, c.note, h.frontier, h.constitution, h.key, h.halted FROM ledger_checkpoint c "
    "FULL JOIN ledger_head h USING (size) ORDER BY size"
)
_NODES: Final = (
    "SELECT level, idx, hash FROM ledger_node JOIN unnest($1::smallint[], $2::bigint[]) AS w(level, idx) "
    "USING (level, idx)"
)
_MOST: Final = 100
"""Differences that are told; the others are counted."""


class Rule(StrEnum):
    """What the tables must keep to."""

    ENTRIES = "table-entries"
    """One row for each entry under the newest checkpoint, under its kind and operation, and no row more."""
    HASHES = "table-hashes"
    """An entry's stored hash is that of its bytes."""
    SUBTREES = "table-subtrees"
    """Every complete subtree that is stored is that of its entries, and none is missing or invented."""
    HEADS = "table-heads"
    """Every checkpoint has a head and every head a checkpoint; it states what its entries lead to."""
    CHECKPOINTS = "table-checkpoints"
    """Every checkpoint can be read and is over the entries that are there."""
    OPERATIONS = "table-operations"
    """Every operation stands at the stage and version that its entries lead to."""
    WARRANTS = "table-warrants"
    """A warrant is used exactly when an intent names it."""
    MISSING = "evidence-missing"
    """What entries name is there, unless an entry says that it was deleted, and it could be deleted."""
    RETURNED = "evidence-returned"
    """What was deleted is not there again, unless a later entry names it again."""
    BODIES = "evidence-bodies"
    """A piece of evidence has the SHA-256 that it is stored under."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the tables say otherwise than the entries."""

    rule: Rule
    sentence: str
    index: int | None = None


@dataclass(slots=True)
class Differences:
    """What the tables say otherwise than the entries.

    Attributes:
        told: the first of them.
        found: how many there are.
    """

    told: list[Difference] = field(default_factory=list)
    found: int = 0

    def add(self, rule: Rule, sentence: str, index: int | None = None) -> None:
        """One more, of one entry where an index is given."""
        self.found += 1
        if len(self.told) < _MOST:
            self.told.append(Difference(rule, sentence, index))

    def onto(self, report: Report) -> Report:
        """The verifier's report with these findings before its own."""
        for each in reversed(self.told):
            report = report.broken(Code.SEMANTICS, each.rule.value, each.sentence, each.index)
        return report


async def check_tables(dsn: str) -> Differences:
    """Compare every row of the ledger's tables, and the evidence, with the entries, in one snapshot.

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


@dataclass(slots=True)
class _Standing:
    """What the entries so far lead to, as far as a head states it."""

    constitution: str = ""
    key: str = ""
    halted: bool = False

    def follow(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "genesis":
            self.constitution, self.key = entry["constitution"], entry["key"]
        elif entry["kind"] == "constitution.amended":
            self.constitution = entry["event"]["enacted"]
        elif entry["kind"] == "key.rotated":
            self.key = entry["event"]["key"].split("+")[1]
        elif entry["kind"] in {"crown.halted", "crown.released"}:
            self.halted = entry["kind"] == "crown.halted"


class _Comparison:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._differences = Differences()
        self._frontier = Frontier()
        self._standing = _Standing()
        self._holdings = Holdings(connection)
        self._leaves: list[bytes] = []
        self._covered = 0
        self._inner = 0
        self._warrants: set[str] = set()
        self._gap = 0
        self._stages: dict[str, tuple[int, str]] = {}

    async def run(self) -> Differences:
        self._covered = await self._connection.fetchval(_COVERED)
        signed = deque(await self._connection.fetch(_HEADS))
        if not signed:
            self._differences.add(Rule.HEADS, "There is no head and no checkpoint.")
        position = 0
        async for row in self._connection.cursor(_ENTRIES, prefetch=_PAGE):
            self._leaf(position, row)
            position += 1
            ended = bool(signed) and signed[0]["size"] == position
            if ended or position % _PAGE == 0:
                await self._grow()
            if position % _PAGE == 0:
                await self._holdings.look_up()
            if ended:
                self._head(signed.popleft())
        await self._grow()
        await self._holdings.look_up()
        for row in signed:
            self._beyond(row)
        await self._subtrees()
        await self._used()
        await self._operations()
        await self._evidence()
        return self._differences

    def _leaf(self, position: int, row: asyncpg.Record) -> None:
        index, entry = row["idx"], row["entry"]
        if index >= self._covered:
            self._differences.add(
                Rule.ENTRIES, f"Entry {index} lies beyond the newest checkpoint, of {self._covered} entries.", index
            )
        if index != position + self._gap:
            expected, self._gap = position + self._gap, index - position
            self._differences.add(
                Rule.ENTRIES, f"Entry {expected} is missing: row {index} stands in its place.", expected
            )
        computed = leaf_hash(entry)
        if row["hash"] != computed:
            self._differences.add(Rule.HASHES, f"The stored hash of entry {index} is not that of its bytes.", index)
        self._leaves.append(computed)
        if not 0 <= index < self._covered:
            return
        try:
            found = json.loads(entry)
            if (row["kind"], row["operation"]) != (found["kind"], found.get("operation")):
                self._differences.add(
                    Rule.ENTRIES, f"Entry {index} stands under another kind or operation than it names.", index
                )
            self._meaning(index, found)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            self._differences.add(Rule.ENTRIES, f"Entry {index} cannot be read.", index)

    def _meaning(self, index: int, found: dict[str, Any]) -> None:
        self._standing.follow(found)
        if found["kind"] == "step.intent":
            self._warrants.add(found["event"]["warrant"])
        if "seq" in found:
            self._stages[found["operation"]] = found["seq"], found["after"]
        self._holdings.read(index, found)

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
                self._differences.add(
                    Rule.SUBTREES, f"The stored subtree {place[1]} of level {place[0]} is not that of its entries."
                )

    def _head(self, row: asyncpg.Record) -> None:
        size = row["size"]
        if row["frontier"] is None:
            self._differences.add(Rule.HEADS, f"The checkpoint of {size} entries has no head.")
            return
        if row["note"] is None:
            self._differences.add(Rule.HEADS, f"The head of {size} entries has no checkpoint.")
            return
        root = self._frontier.root()
        if row["frontier"] != self._frontier.encode():
            self._differences.add(Rule.HEADS, f"The stored head of {size} entries is not theirs.")
        if _Standing(row["constitution"], row["key"], row["halted"]) != self._standing:
            self._differences.add(
                Rule.HEADS,
                f"The stored head of {size} entries states another constitution, key or halt than they lead to.",
            )
        try:
            stated = Checkpoint.parse(parse_note(row["note"]).text)
        except NoteMalformed:
            self._differences.add(Rule.CHECKPOINTS, f"The checkpoint of {size} entries cannot be read.")
            return
        if (stated.size, stated.root, row["root"]) != (size, root, root):
            self._differences.add(Rule.CHECKPOINTS, f"The checkpoint of {size} entries is not over them.")

    def _beyond(self, row: asyncpg.Record) -> None:
        what = "head" if row["note"] is None else "checkpoint"
        rule = Rule.HEADS if row["note"] is None else Rule.CHECKPOINTS
        self._differences.add(
            rule, f"There is a {what} of {row['size']} entries, and entries of that number are not there."
        )

    async def _subtrees(self) -> None:
        if await self._connection.fetchval("SELECT count(*) FROM ledger_node") != self._inner:
            self._differences.add(Rule.SUBTREES, "There are more or fewer stored subtrees than the entries have.")

    async def _used(self) -> None:
        used = {
            row["warrant"] async for row in self._connection.cursor("SELECT warrant FROM warrant_use", prefetch=_PAGE)
        }
        for warrant in sorted(self._warrants - used):
            self._differences.add(
                Rule.WARRANTS, f"The warrant {warrant} was consumed by an entry and stands as unused."
            )
        for warrant in sorted(used - self._warrants):
            self._differences.add(Rule.WARRANTS, f"The warrant {warrant} stands as used, and no entry consumed it.")

    async def _operations(self) -> None:
        seen = set()
        async for row in self._connection.cursor("SELECT id, version, stage FROM operation", prefetch=_PAGE):
            seen.add(row["id"])
            if self._stages.get(row["id"]) != (row["version"], row["stage"]):
                self._differences.add(
                    Rule.OPERATIONS, f"The operation {row['id']} stands elsewhere than its entries say."
                )
        for ident in sorted(self._stages.keys() - seen):
            self._differences.add(Rule.OPERATIONS, f"The operation {ident} has entries and no row.")

    async def _evidence(self) -> None:
        stages = {ident: stage for ident, (_, stage) in self._stages.items()}
        for sentence in self._holdings.missing(stages):
            self._differences.add(Rule.MISSING, sentence)
        async for sentence in self._holdings.returned():
            self._differences.add(Rule.RETURNED, sentence)
        async for sentence in self._holdings.spoilt():
            self._differences.add(Rule.BODIES, sentence)
