"""Proof that a head found in the store extends the last checkpoint that this process knows of."""

from typing import Final

import asyncpg

from storage.batch import HeadRow
from storage.nodes import read_nodes
from storage.signer import Signer
from storage.verifier import tree

_TURN: Final = "SELECT * FROM ledger_turn($1)"


async def prove(connection: asyncpg.Connection, signer: Signer, head: HeadRow) -> None:
    """Prove it by the stored subtrees.

    Raises:
        LedgerCorrupt: the log shrank or forked, or a subtree is missing.
    """
    known = signer.head
    if (known.size, known.root) == (head.size, head.root):
        return
    wanted = tree.consistency_nodes(known.size, head.size) if known.size <= head.size else []
    nodes = await read_nodes(connection, wanted)
    proof = tree.consistency_proof(known.size, head.size, nodes.get_node) if wanted else []
    signer.check_extends(head.size, head.root, proof)


async def await_turn(connection: asyncpg.Connection, signer: Signer, known: HeadRow, seconds: float) -> HeadRow:
    """Wait for the session's turn at the lock; the head as it is then, proven by the leaf hashes since `known`.

    Raises:
        LedgerCorrupt: the log shrank or forked. It is the session's turn all the same.
        TimeoutError: it was not its turn within so many seconds.
    """
    row = await connection.fetchrow(_TURN, known.size, timeout=seconds)
    head, joined = HeadRow.of(row), row["o_leaves"]
    if joined is None:
        await prove(connection, signer, head)
        return head
    leaves = [joined[at : at + tree.HASH_SIZE] for at in range(0, len(joined), tree.HASH_SIZE)]
    signer.follow(known.frontier, leaves, head.size, head.root)
    return head
