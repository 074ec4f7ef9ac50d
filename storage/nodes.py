"""The stored subtrees of the log: every fourth level is kept, what lies between is hashed again when a proof needs it.

That is one row for fifteen entries instead of one for each, and at most eight hashes to fetch for a subtree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from operations.errors import LedgerCorrupt
from storage.verifier.tree import node_hash

STRIDE: Final = 4
"""Levels from one that is stored to the next; level 0 is the leaves."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Hashes of stored subtrees by `(level, position)`."""

    hashes: dict[tuple[int, int], bytes]

    def get_node(self, level: int, position: int) -> bytes:
        """The hash of one subtree.

        Raises:
            LedgerCorrupt: it is not stored although the tree is large enough to have it.
        """
        if level % STRIDE:
            left = self.get_node(level - 1, 2 * position)
            return node_hash(left, self.get_node(level - 1, 2 * position + 1))
        try:
            return self.hashes[level, position]
        except KeyError:
            raise LedgerCorrupt(f"The subtree {position} of level {level} is missing.") from None


async def read_nodes(connection: asyncpg.Connection, wanted: Sequence[tuple[int, int]]) -> Nodes:
    """Fetch what the subtrees `(level, position)` are made of, in at most two queries."""
    inner: list[tuple[int, int]] = []
    leaves: list[int] = []
    for level, position in wanted:
        above = level % STRIDE
        stored = range(position << above, (position + 1) << above)
        if level < STRIDE:
            leaves.extend(stored)
        else:
            inner.extend((level - above, each) for each in stored)
    hashes: dict[tuple[int, int], bytes] = {}
    if inner:
        levels, positions = zip(*inner, strict=True)
        rows = await connection.fetch(
            "SELECT level, idx, hash FROM ledger_node JOIN unnest($1::smallint[], $2::bigint[]) AS w(level, idx) "
            "USING (level, idx)",
            levels,
            positions,
        )
        hashes.update({(row["level"], row["idx"]): row["hash"] for row in rows})
    if leaves:
        rows = await connection.fetch("SELECT idx, hash FROM ledger_leaf WHERE idx = ANY($1)", leaves)
        hashes.update({(0, row["idx"]): row["hash"] for row in rows})
    return Nodes(hashes)
