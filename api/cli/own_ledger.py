"""A home's own ledger, judged: what the verifier says, what its tables say, and what its own signer remembers."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from api.cli.ledgers import ask_ledger, entries_of, kept_pieces, remembered
from api.settings import Settings
from operations.errors import LedgerCorrupt, LedgerUnavailable, NotFound
from storage.integrity import check_tables
from storage.reader import Reader
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, parse_note
from storage.verifier.policy import Policy
from storage.verifier.report import Code, Report
from storage.verifier.tree import Frontier, leaf_hash
from storage.verifier.verification import EntriesUnreadable, verify
from triad.home import Home

_EVERYTHING: Final = 10**9
_PAGE: Final = 1024


def own_report(
    settings: Settings,
    dsn: str,
    policy: Policy,
    *,
    older: tuple[bytes, ...] = (),
    semantics: bool = True,
    texts: bool = True,
) -> Report:
    """Verify a home's ledger from its bytes, and compare it with its tables and with what its signer remembers.

    Args:
        settings: of the home.
        dsn: of its database.
        policy: whose signatures count.
        older: checkpoints that somebody kept.
        semantics: also replay what the entries mean.
        texts: the plans and constitutions are there, and a missing one is a breach.

    Raises:
        LedgerUnavailable: it cannot be read.
    """
    before = remembered(Home(settings.home))
    signed, rotations = ask_ledger(dsn, _notes)
    size = _size_of(signed)
    watched = _Watched(_readable(dsn, size), before.size if before else 0)
    with kept_pieces(dsn) as kept:
        pieces = _Readable(kept) if texts else None
        report = verify(
            watched.entries(),
            signed,
            policy,
            older=older,
            rotations=rotations,
            plans=pieces,
            constitutions=pieces,
            complete=texts,
            semantics=semantics,
        )
    report = asyncio.run(check_tables(dsn)).onto(report)  # an export does not have these tables
    if before is None:
        return report
    if before.size > size:
        sentence = (
            f"The log's own signer remembers {before.size} entries; the log has {size}: it was rolled back, or "
            "an older copy was restored under newer secrets."
        )
        return report.broken(Code.FORK, "rollback", sentence)
    if watched.root is not None and watched.root != before.root:
        sentence = f"The log's own signer remembers {before.size} entries with another head."
        return report.broken(Code.FORK, "fork", sentence)
    return report


class _Watched:
    """Entries on their way to the verifier, and the root of the first `size` of them once they have passed."""

    def __init__(self, entries: Iterator[bytes], size: int) -> None:
        self._entries = entries
        self._size = size
        self.root: bytes | None = None

    def entries(self) -> Iterator[bytes]:
        """The same entries."""
        frontier, leaves = Frontier(), list[bytes]()
        for data in self._entries:
            if self.root is None:
                leaves.append(leaf_hash(data))
                whole = frontier.size + len(leaves) == self._size
                if whole or len(leaves) == _PAGE:
                    frontier, _ = frontier.extend(leaves)
                    leaves.clear()
                if whole:
                    self.root = frontier.root()
            yield data


class _Readable(Mapping[str, bytes]):
    """Pieces of evidence, of which one that cannot be read makes the input unreadable."""

    def __init__(self, kept: Mapping[str, bytes]) -> None:
        self._kept = kept

    def __getitem__(self, digest: str) -> bytes:
        try:
            return self._kept[digest]
        except (LedgerUnavailable, LedgerCorrupt) as error:
            raise EntriesUnreadable(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


async def _notes(reader: Reader) -> tuple[bytes, tuple[bytes, ...]]:
    """The newest checkpoint, and those over rotations of the log's key."""
    rotations = []
    for entry in await reader.entries(kinds={"key.rotated"}, limit=_EVERYTHING):
        try:
            rotations.append(await reader.checkpoint(entry.index + 1))
        except NotFound:
            continue
    return await reader.checkpoint(), tuple(rotations)


def _readable(dsn: str, size: int) -> Iterator[bytes]:
    try:
        yield from entries_of(dsn, size)
    except (LedgerUnavailable, LedgerCorrupt) as error:
        raise EntriesUnreadable(str(error)) from error


def _size_of(signed: bytes) -> int:
    try:
        return Checkpoint.parse(parse_note(signed).text).size
    except NoteMalformed:
        return 0
