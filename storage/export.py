"""The log as files that anybody can verify: tlog-tiles, and beside them what the entries' meaning needs.

The folder is a consistent log at any moment, of the size it had or of the size it gets: `checkpoint` is replaced last,
after everything under it lies on the disk and was read back. An export only ever extends what the folder holds; a
source that shrank or forked is refused and the folder stays as it was. Full tiles are fetched and written once.
Layout: https://c2sp.org/tlog-tiles and docs/operations/export.md.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import lru_cache
from pathlib import Path
from typing import Final

from operations.canonical import Digest, Record, sha256
from operations.errors import Conflict, Gone, LedgerCorrupt, NotFound
from storage.extent import compare, edge, held_in, leads, parsed, partial_paths, same
from storage.folder import Folder
from storage.meaning import Meaning
from storage.source import ExportRefused, Source, Trust, root_at
from storage.verifier.checkpoint import MAX_NOTE, Checkpoint
from storage.verifier.mirror import Mirror, TileMissing
from storage.verifier.mirror import folder as reading
from storage.verifier.policy import Policy
from storage.verifier.proof import Proof
from storage.verifier.tiles import (
    MAX_BUNDLE,
    WIDTH,
    Growth,
    Tile,
    TileMalformed,
    bundles_of,
    parse_bundle,
)
from storage.verifier.tree import inclusion_proof, leaf_hash

CHECKPOINT: Final = "checkpoint"
POLICY: Final = "policy"

_NODES: Final = 4096
"""Subtrees that proofs of neighbours share and that are kept while proofs are made."""

_UNKNOWN: Final = "No entry of the log says that it was deleted."

AHEAD: Final = 4
"""Bundles that are asked for before they are needed; so many are held in memory."""

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and how much there is of it."""


class Missing(Record):
    """A constitution or a plan that the source does not have any more, and why as far as it says."""

    digest: Digest
    kind: str
    why: str


class Exported(Record):
    """What an export did.

    Attributes:
        missing: what the entries name and the source does not have any more.
        quorum: whether the witnesses that the policy asks for cosigned the checkpoint; None: it asks for none.
        cosigned: the witnesses that did, by the policy's names.
        witnesses: how many the policy knows.
        lacking: what is missing for the quorum, as sentences.
    """

    origin: str
    before: int
    size: int
    root: Digest
    fetched: int
    written: int
    proofs: int
    missing: tuple[Missing, ...]
    quorum: bool | None
    cosigned: tuple[str, ...]
    witnesses: int
    lacking: tuple[str, ...]


def quiet(_what: str, _done: int, _of: int) -> None:
    """Progress that nobody watches."""


def proof_name(index: int) -> str:
    """Where the proof of a decision lies."""
    return f"proofs/{index}.tlog-proof"


async def export(
    source: Source, path: Path, *, trust: Policy | None = None, end: int | None = None, progress: Progress = quiet
) -> Exported:
    """Bring a folder to the source's newest checkpoint.

    Args:
        source: the log.
        path: the folder; it is made where it is missing.
        trust: whom the caller trusts, known from elsewhere; without it the source's own policy, which shows only that
            the source agrees with itself and with what the folder holds.
        end: export the log as it was at this size, for which the source has a checkpoint.
        progress: is told how far it is.

    Raises:
        ExportRefused: the source does not extend the folder, or does not hold together; the folder is as it was.
        Conflict: `export-in-progress`, or `export-is-newer`: the folder holds more than the `end` that was asked for.
        NotFound: `ledger-not-begun` or `unknown-checkpoint`.
        LedgerUnavailable: the source cannot be read. Run it again: it goes on where it stopped.
        OSError: the folder cannot be written; as above.
    """
    with Folder(path) as folder:
        folder.sweep()
        try:
            return await _Export(source, folder, trust, progress).run(end)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            place = error.filename2 or error.filename
            raise ExportRefused(
                "copy-damaged", f"{place} is not what an export puts there: {error.strerror}."
            ) from error


class _Export:
    """One run."""

    def __init__(self, source: Source, folder: Folder, trust: Policy | None, progress: Progress) -> None:
        self._source = source
        self._folder = folder
        self._trust = trust
        self._progress = progress
        self._fetched = 0
        self._missing: list[Missing] = []

    async def run(self, end: int | None) -> Exported:
        policy = await self._source.policy()
        trust = Trust(policy, self._trust)
        note = await self._source.checkpoint(end)
        judged = trust.judge(note)
        quorum, head = judged.quorum_met, judged.checkpoint
        held = self._folder.read(CHECKPOINT, MAX_NOTE)
        old = held_in(held, self._folder)
        if end is not None and head.size < old.size:
            raise Conflict(
                "export-is-newer", f"The folder holds {old.size} entries already, and {head.size} were asked for."
            )
        compare(old, head)
        start = old.size // WIDTH * WIDTH
        if head.size > old.size:
            try:
                await self._fetch(old, head, start, reuse=True)
            except _LeftoversDiffer:
                self._folder.settle()
                await self._fetch(old, head, start, reuse=False)
        self._folder.settle()
        first = 0 if held is None else self._first_unproven(trust, held, old, quorum=quorum)
        meaning = self._read_back(old, head, start, first)
        await self._keep(meaning, trust)
        proofs = self._prove(meaning, note, head)
        if held is not None and old.size < head.size:
            self._keep_note(old.size, held)
        self._folder.put(POLICY, policy)
        self._folder.settle()
        self._folder.put(CHECKPOINT, note)
        self._folder.settle()
        self._drop(head, first, {proof_name(index) for index in meaning.decisions})
        return Exported(
            origin=head.origin,
            before=old.size,
            size=head.size,
            root=head.root.hex(),
            fetched=self._fetched,
            written=self._folder.written,
            proofs=proofs,
            missing=tuple(self._missing),
            quorum=quorum if trust.asks else None,
            cosigned=tuple(each.witness.name for each in judged.witnesses if not each.ahead),
            witnesses=trust.witnesses,
            lacking=judged.missing,
        )

    async def _fetch(self, old: Checkpoint, head: Checkpoint, start: int, *, reuse: bool) -> None:
        """Fetch the bundles from `start` on, write them and the hash tiles over them, and prove that they extend."""
        growth = self._growth(old, start)
        reused = False
        async with aclosing(self._bundles(head.size, start, reuse=reuse)) as bundles:
            async for tile, data, again in bundles:
                reused = reused or again
                leaves = [leaf_hash(entry) for entry in parsed(tile, data)]
                known = max(0, old.size - growth.size)
                if known:
                    self._grow(growth, leaves[:known])
                    if growth.root() != old.root:
                        await self._differs(old, head, old, reused=reused)
                self._grow(growth, leaves[known:])
                self._folder.put(tile.path, data)
                self._progress("entries", growth.size, head.size)
        if growth.root() != head.root:
            await self._differs(old, head, head, reused=reused)
        for tile, hashes in growth.partial():
            self._folder.put(tile.path, hashes)

    def _grow(self, growth: Growth, leaves: list[bytes]) -> None:
        for tile, hashes in growth.add(leaves):
            self._folder.put(tile.path, hashes)

    def _growth(self, old: Checkpoint, start: int) -> Growth:
        """The tree of the folder's first `start` entries, of which the folder's own checkpoint is the witness.

        Raises:
            ExportRefused: `copy-damaged`.
        """
        mirror = Mirror(reading(self._folder.path), old.size)
        try:
            leads(mirror.root() if old.size else old.root, old)
            rows = [mirror.hashes(tile) if tile else [] for tile in edge(start)]
        except (TileMissing, TileMalformed, OSError) as error:
            raise ExportRefused(
                "copy-damaged", f"What the folder holds is damaged: {error}.", "Export into an empty folder."
            ) from error
        return Growth.of(start, rows)

    async def _bundles(self, size: int, start: int, *, reuse: bool) -> AsyncGenerator[tuple[Tile, bytes, bool]]:
        """The bundles from `start` on; what an interrupted run left is not fetched again where `reuse` allows it."""
        waiting: deque[asyncio.Task[tuple[Tile, bytes, bool]]] = deque()
        try:
            for tile in bundles_of(size, since=start):
                waiting.append(asyncio.create_task(self._bundle(tile, reuse=reuse)))
                if len(waiting) >= AHEAD:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _bundle(self, tile: Tile, *, reuse: bool) -> tuple[Tile, bytes, bool]:
        left = self._folder.read(tile.path, MAX_BUNDLE) if reuse else None
        if left is not None and _is_bundle(tile, left):
            return tile, left, True
        try:
            data = await self._source.bundle(tile.number, tile.width)
        except LedgerCorrupt as error:
            raise ExportRefused("source-corrupt", str(error)) from error
        except NotFound as error:
            raise ExportRefused(
                "source-corrupt", f"The log has no {tile.path}, which its checkpoint covers."
            ) from error
        self._fetched += 1
        return tile, data, False

    async def _differs(self, old: Checkpoint, head: Checkpoint, at: Checkpoint, *, reused: bool) -> None:
        """The entries do not lead to the root that was signed `at` a size: say whose fault that is.

        Raises:
            _LeftoversDiffer: perhaps that of what an interrupted run left in the folder.
            ExportRefused: `log-forked` or `source-corrupt`.
        """
        if reused:
            raise _LeftoversDiffer
        if old.size and await root_at(self._source, old.size, head.size) != old.root:
            raise ExportRefused(
                "log-forked", f"The log's first {old.size} entries are not those that this folder's checkpoint covers."
            )
        raise ExportRefused(
            "source-corrupt", f"The log's first {at.size} entries do not hash to the root that was signed for them."
        )

    def _first_unproven(self, trust: Trust, held: bytes, old: Checkpoint, *, quorum: bool) -> int:
        """Index from which on proofs are made: with the witnesses' word now, those that were made without it too."""
        if not quorum or trust.meets(held):
            return old.size
        sizes = [int(name.rpartition("/")[2]) for name in self._folder.files("checkpoints") if name[12:].isdecimal()]
        backed = (size for size in sizes if trust.meets(self._folder.read(f"checkpoints/{size}", MAX_NOTE) or b""))
        return max(backed, default=0)

    def _read_back(self, old: Checkpoint, head: Checkpoint, start: int, first: int) -> Meaning:
        """Read what is on the disk now: it must lead to the signed root, and says what else is to be kept.

        Raises:
            ExportRefused: `copy-damaged`.
        """
        meaning = Meaning()
        growth = self._growth(old, start)
        mirror = Mirror(reading(self._folder.path), head.size)
        try:
            for tile in bundles_of(head.size, since=min(start, first)):
                entries = mirror.bundle(tile)
                if tile.number * WIDTH >= start:
                    same(mirror, growth.add([leaf_hash(entry) for entry in entries]))
                for index, entry in enumerate(entries, tile.number * WIDTH):
                    if index >= first:
                        meaning.add(index, entry)
                self._progress("check", tile.number * WIDTH + tile.width, head.size)
            same(mirror, growth.partial())
            leads(growth.root(), head)
        except (TileMissing, TileMalformed, OSError) as error:
            raise ExportRefused("copy-damaged", f"The folder does not hold what was written: {error}.") from error
        return meaning

    async def _keep(self, meaning: Meaning, trust: Trust) -> None:
        """Store constitutions, plans and the checkpoints at which keys changed hands."""
        for digest in meaning.constitutions:
            await self._blob(f"constitutions/{digest}.md", digest, self._source.constitution)
        for digest in meaning.plans:
            await self._blob(f"plans/{digest}.json", digest, self._source.plan, meaning.deleted.get(digest))
        for index in meaning.rotations:
            try:
                note = await self._source.checkpoint(index + 1)
            except NotFound:
                continue
            trust.judge(note)
            self._keep_note(index + 1, note)

    def _keep_note(self, size: int, note: bytes) -> None:
        """Store an older checkpoint; one that is there stays, since somebody may have listed its digest."""
        name = f"checkpoints/{size}"
        if not (self._folder.path / name).is_file():
            self._folder.put(name, note)

    async def _blob(
        self, name: str, digest: Digest, fetch: Callable[[Digest], Awaitable[bytes]], deleted: str | None = None
    ) -> None:
        if (self._folder.path / name).is_file():
            return
        try:
            data = await fetch(digest)
        except (NotFound, Gone) as error:
            why = deleted or (" ".join(error.reasons) if isinstance(error, Gone) else _UNKNOWN)
            self._missing.append(Missing(digest=digest, kind=name.partition("s/")[0], why=why))
            return
        except LedgerCorrupt as error:
            raise ExportRefused("source-corrupt", str(error)) from error
        if sha256(data) != digest:
            raise ExportRefused("source-corrupt", f"The log's {name} is not what its name says.")
        self._folder.put(name, data)

    def _prove(self, meaning: Meaning, note: bytes, head: Checkpoint) -> int:
        mirror = Mirror(reading(self._folder.path), head.size)
        get_node = lru_cache(_NODES)(mirror.get_node)
        bundle, entries = -1, list[bytes]()
        for done, index in enumerate(meaning.decisions, 1):
            if index // WIDTH != bundle:
                bundle = index // WIDTH
                entries = mirror.bundle(Tile(None, bundle, min(WIDTH, head.size - bundle * WIDTH)))
            hashes = tuple(inclusion_proof(index, head.size, get_node))
            proof = Proof(index, hashes, note, entries[index % WIDTH])
            self._folder.put(proof_name(index), proof.encode())
            self._progress("proofs", done, len(meaning.decisions))
        return len(meaning.decisions)

    def _drop(self, head: Checkpoint, first: int, proofs: set[str]) -> None:
        """Remove what the new checkpoint supersedes: partial tiles of other sizes, and remains of interrupted runs."""
        wanted = set(partial_paths(head.size))
        for name in self._folder.files("tile"):
            try:
                tile = Tile.parse(name)
            except TileMalformed:
                continue
            if (not tile.full and name not in wanted) or tile.end > head.size:
                self._folder.remove(name)
        for name in self._folder.files("proofs"):
            index = name.removeprefix("proofs/").removesuffix(".tlog-proof")
            if index.isdecimal() and int(index) >= first and name not in proofs:
                self._folder.remove(name)


def _is_bundle(tile: Tile, data: bytes) -> bool:
    """Whether what an interrupted run, or somebody else, left at a bundle's place is a bundle at all."""
    try:
        parse_bundle(data, tile.width)
    except TileMalformed:
        return False
    return True


class _LeftoversDiffer(Exception):
    """What an interrupted run left does not lead to the signed root; the source itself may."""
