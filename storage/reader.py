"""Reading the ledger: entries, the operations they fold into, evidence, checkpoints and proofs."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Final

import asyncpg

from operations import events as e
from operations.canonical import Digest, Record
from operations.errors import IllegalMove, LedgerCorrupt, LedgerUnavailable, NotFound
from operations.model import Plan
from operations.operation import Operation, apply, begin
from operations.stages import Stage
from storage.cosignatures import read_note
from storage.engine import BROKEN
from storage.entry import Entry
from storage.evidence import read_evidence
from storage.nodes import read_nodes
from storage.succession import KINDS, KeyPeriod, succession
from storage.tiles import bundle as read_bundle
from storage.tiles import tile as read_tile
from storage.verifier import tree

_KEPT_PIECES: Final = 256
_KEPT_BYTES: Final = 64 * 1024


class Head(Record):
    """The newest state of the log."""

    size: int
    root: Digest
    constitution: Digest
    halted: bool


class Reader:
    """What can be read with SELECT alone. Every method raises `LedgerUnavailable` when the database cannot be read."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._kept: dict[str, bytes] = {}

    async def load(self, ident: str) -> Operation:
        """The operation with that id: the fold of its entries.

        Raises:
            NotFound: `unknown-operation`.
        """
        found = await self._fold([ident])
        if not found:
            raise NotFound("unknown-operation", "There is no operation of that id.")
        return found[0]

    async def operations(
        self,
        *,
        stages: Collection[Stage] | None = None,
        requester: str | None = None,
        emergency: bool | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Operation]:
        """Operations, newest first.

        Args:
            stages: only those at one of these stages.
            requester: only those of this principal.
            emergency: only those that were declared an emergency, or that were not.
            before: only those older than the operation with this id: the last one of the page before.
            limit: at most that many.
        """
        rows = await self._fetch(
            "SELECT id FROM operation WHERE ($1::text[] IS NULL OR stage = ANY($1)) "
            "AND ($2::text IS NULL OR requester = $2) AND ($3::text IS NULL OR id < $3) "
            "AND ($5::boolean IS NULL OR emergency = $5) ORDER BY id DESC LIMIT $4",
            [stage.value for stage in stages] if stages is not None else None,
            requester,
            before,
            limit,
            emergency,
        )
        return await self._fold([row["id"] for row in rows])

    async def waiting(self, stages: Collection[Stage], *, after: str | None = None, limit: int = 500) -> list[str]:
        """Ids of operations at one of these stages, oldest first, those above `after`; nothing is folded."""
        rows = await self._fetch(
            "SELECT id FROM operation WHERE stage = ANY($1) AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3",
            [stage.value for stage in stages],
            after,
            limit,
        )
        return [row["id"] for row in rows]

    async def entries(
        self, *, after: int = -1, operation: str | None = None, kinds: Collection[str] | None = None, limit: int = 500
    ) -> list[Entry]:
        """Entries with an index above `after`, oldest first."""
        where = ["idx > $1"]
        arguments: list[object] = [after, limit]
        if operation is not None:
            arguments.append(operation)
            where.append(f"operation = ${len(arguments)}")
        if kinds is not None:
            arguments.append(list(kinds))
            where.append(f"kind = ANY(${len(arguments)})")
        sql = f"SELECT entry FROM ledger_leaf WHERE {' AND '.join(where)} ORDER BY idx LIMIT $2"  # noqa: S608 - fixed parts
        return [_decoded(row["entry"]) for row in await self._fetch(sql, *arguments)]

    async def keys(self) -> tuple[KeyPeriod, ...]:
        """Every key that the log ever signed with, oldest first, and where each is in force.

        Raises:
            LedgerCorrupt: the entries that name them contradict each other.
        """
        found: list[Entry] = []
        while page := await self.entries(after=found[-1].index if found else -1, kinds=KINDS):
            found += page
        return succession(found)

    async def raw(self, *, after: int = -1, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Index and canonical bytes of the entries above `after`, oldest first."""
        rows = await self._fetch(
            "SELECT idx, entry FROM ledger_leaf WHERE idx > $1 ORDER BY idx LIMIT $2", after, limit
        )
        return [(row["idx"], row["entry"]) for row in rows]

    async def evidence(self, digest: str) -> bytes:
        """The piece of evidence with that SHA-256.

        Raises:
            Gone: `evidence-expired` or `evidence-erased`.
            NotFound: `unknown-evidence`.
        """
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        async with self._reading() as connection:
            body = (await read_evidence(connection, [digest]))[digest]
        self._keep([(digest, body)])
        return body

    async def stored_evidence(self, digest: str) -> bytes:
        """The piece of evidence as it is stored now, whatever this process remembers; errors as of `evidence`."""
        async with self._reading() as connection:
            return (await read_evidence(connection, [digest]))[digest]

    def forget(self, digests: Iterable[str]) -> None:
        """Remember these pieces of evidence no longer: they were deleted on the record."""
        for digest in digests:
            self._kept.pop(digest, None)

    def _keep(self, pieces: Iterable[tuple[str, bytes]]) -> None:
        """Remember small pieces: what a digest names never changes."""
        for digest, body in pieces:
            if len(body) <= _KEPT_BYTES:
                self._kept[digest] = body
        while len(self._kept) > _KEPT_PIECES:
            del self._kept[next(iter(self._kept))]

    async def key_in_force(self) -> str:
        """Id of the key that the next entry carries.

        Raises:
            NotFound: `ledger-not-begun`.
        """
        rows = await self._fetch("SELECT key FROM ledger_head ORDER BY size DESC LIMIT 1")
        if not rows:
            raise NotFound("ledger-not-begun", "The ledger has no entry yet.")
        return str(rows[0]["key"])

    async def head(self) -> Head:
        """The newest committed head.

        Raises:
            NotFound: `ledger-not-begun`.
        """
        rows = await self._fetch(
            "SELECT size, root, constitution, halted FROM ledger_head JOIN ledger_checkpoint USING (size) "
            "ORDER BY size DESC LIMIT 1"
        )
        if not rows:
            raise NotFound("ledger-not-begun", "The ledger has no entry yet.")
        row = rows[0]
        return Head(size=row["size"], root=row["root"].hex(), constitution=row["constitution"], halted=row["halted"])

    async def checkpoint(self, size: int | None = None) -> bytes:
        """The signed note of the newest checkpoint, or of the one at `size` entries, with its witnesses' cosignatures.

        Raises:
            NotFound: `unknown-checkpoint`; checkpoints exist where a batch ended.
        """
        async with self._reading() as connection:
            note = await read_note(connection, size)
        if note is None:
            raise NotFound("unknown-checkpoint", "There is no checkpoint of that size.")
        return note

    async def sizes_near(self, size: int) -> tuple[int, ...]:
        """The sizes next below and next above that have a checkpoint, where there are any."""
        rows = await self._fetch(
            "(SELECT size FROM ledger_checkpoint WHERE size < $1 ORDER BY size DESC LIMIT 1) UNION ALL "
            "(SELECT size FROM ledger_checkpoint WHERE size > $1 ORDER BY size LIMIT 1)",
            size,
        )
        return tuple(row["size"] for row in rows)

    async def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of entry `index` in the tree of `size` entries.

        Raises:
            ValueError: there is no such entry in that tree.
            LedgerCorrupt: the tree is not that large, or a subtree is missing.
        """
        async with self._reading() as connection:
            nodes = await read_nodes(connection, tree.inclusion_nodes(index, size))
        return tree.inclusion_proof(index, size, nodes.get_node)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of `new` entries extends the tree of `old`.

        Raises:
            ValueError: `old` is larger than `new`.
            LedgerCorrupt: the tree is not that large, or a subtree is missing.
        """
        async with self._reading() as connection:
            nodes = await read_nodes(connection, tree.consistency_nodes(old, new))
        return tree.consistency_proof(old, new, nodes.get_node)

    async def tile(self, level: int, number: int, width: int) -> bytes:
        """The bytes of a hash tile of tlog-tiles.

        Raises:
            NotFound: `unknown-tile`: the log is not large enough for it.
            LedgerCorrupt: a subtree is missing.
        """
        async with self._reading() as connection:
            return await read_tile(connection, level, number, width)

    async def bundle(self, number: int, width: int) -> bytes:
        """The bytes of an entry bundle; arguments and errors as of `tile`."""
        async with self._reading() as connection:
            return await read_bundle(connection, number, width)

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except BROKEN as error:
            raise LedgerUnavailable(f"The ledger cannot be read: {error}") from error

    async def _fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._reading() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
        return rows

    async def _fold(self, idents: Sequence[str]) -> list[Operation]:
        async with self._reading() as connection:
            rows = await connection.fetch(
                "SELECT entry FROM ledger_leaf WHERE operation = ANY($1) ORDER BY idx", list(idents)
            )
            entries = [_decoded(row["entry"]) for row in rows]
            plans = [entry.event.plan for entry in entries if isinstance(entry.event, e.PlanProposed)]
            bodies = await read_evidence(connection, plans, deleted=True)
        folded: dict[str, Operation] = {}
        for entry in entries:
            if entry.operation is not None and entry.event.moves:
                folded[entry.operation] = _folded(folded.get(entry.operation), entry, bodies)
        return [folded[ident] for ident in idents if ident in folded]


def _folded(op: Operation | None, entry: Entry, bodies: dict[str, bytes]) -> Operation:
    event = entry.event
    if isinstance(event, e.OperationRequested):
        return begin(entry.operation or "", event, entry.time, entry.constitution, entry.trace)
    if op is None:
        raise LedgerCorrupt(f"The operation of entry {entry.index} never began.")
    if isinstance(event, e.PlanProposed):
        body = bodies.get(event.plan)  # none: it was erased after the operation had ended
        event = event.model_copy(update={"body": Plan.model_validate_json(body) if body is not None else None})
    try:
        return apply(op, event, entry.time)
    except IllegalMove as error:
        raise LedgerCorrupt(f"Entry {entry.index} cannot have happened: {error}") from error


def _decoded(data: bytes) -> Entry:
    try:
        return Entry.decode(data)
    except ValueError as error:
        raise LedgerCorrupt(f"A stored entry is not one: {error}") from error
