"""The stored subtrees of the log, fetched at once for a proof."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from operations.errors import LedgerCorrupt


@dataclass(frozen=True, slots=True)
class Nodes:
    """Hashes of complete subtrees by `(level, position)`."""

    hashes: dict[tuple[int, int], bytes]

    def get_node(self, level: int, position: int) -> bytes:
        """The hash of one subtree.

        Raises:
            LedgerCorrupt: it is not stored although the tree is large enough to have it.
        """
        try:
            return self.hashes[level, position]
        except KeyError:
            raise LedgerCorrupt(f"The subtree {position} of level {level} is missing.") from None


async def read_nodes(connection: asyncpg.Connection, wanted: Sequence[tuple[int, int]]) -> Nodes:
    """Fetch subtrees; level 0 is the leaves."""
    inner = [pair for pair in wanted if pair[0] > 0]
    leaves = [position for level, position in wanted if level == 0]
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
