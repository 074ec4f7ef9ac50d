"""A copy of the log as files: entries, hashes and proofs read from tiles, and tiles that lie found out.

Standard library only. Nothing read is trusted: not a file's size, not that it is an ordinary file, not a hash in it.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from .tiles import (
    HEIGHT,
    MAX_BUNDLE,
    WIDTH,
    Growth,
    Tile,
    TileMalformed,
    bundles_of,
    parse_bundle,
    parse_tile,
    root_of_edge,
    subtree_root,
)
from .tree import HASH_SIZE, leaf_hash

Read = Callable[[str, int], bytes]
"""The bytes at a path of tlog-tiles, never more than the limit; raises `TileMissing`, `TileMalformed` or `OSError`."""

_KEPT: Final = 64


class TileMissing(LookupError):
    """There is no file that the tree's size asks for."""


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of an ordinary file, and never more than `limit` of them.

    Raises:
        TileMissing: there is no such file.
        TileMalformed: it is no ordinary file, or longer than `limit` bytes.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise TileMissing(f"{path.name} is missing") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TileMalformed(f"{path.name} is no ordinary file")
        data = b"" if status.st_size > limit else file.read(limit + 1)
    if max(status.st_size, len(data)) > limit:
        raise TileMalformed(f"{path.name} is longer than {limit} bytes")
    return data


def folder(path: Path) -> Read:
    """How to read the tiles below a folder; what is wrong with one is said with its whole path in there."""

    def read(place: str, limit: int) -> bytes:
        try:
            return read_bounded(path / place, limit)
        except TileMissing:
            raise TileMissing(f"{place} is missing") from None
        except TileMalformed:
            raise TileMalformed(f"{place} is no ordinary file, or longer than {limit} bytes") from None

    return read


class Mirror:
    """The tree of `size` leaves as its tiles and bundles say; whether they say the truth, `Audit` finds out."""

    def __init__(self, read: Read, size: int) -> None:
        self.size = size
        self._read = read
        self._kept: dict[Tile, list[bytes]] = {}

    def hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile; of a partial one that was replaced by the full one since, its part of that.

        Raises:
            TileMissing: neither is there.
            TileMalformed: it has another length than it should.
            OSError: it cannot be read.
        """
        kept = self._kept.get(tile)
        if kept is None:
            data, width = self._fetch(tile, tile.width * HASH_SIZE, WIDTH * HASH_SIZE)
            try:
                kept = parse_tile(data, width)[: tile.width]
            except TileMalformed as error:
                raise TileMalformed(f"{tile.path}: {error}") from None
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[tile] = kept
        return kept

    def bundle(self, tile: Tile) -> list[bytes]:
        """The entries of a bundle; raises as `hashes`."""
        data, width = self._fetch(tile, MAX_BUNDLE, MAX_BUNDLE)
        try:
            return parse_bundle(data, width)[: tile.width]
        except TileMalformed as error:
            raise TileMalformed(f"{tile.path}: {error}") from None

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """The entries from index `start` on, in order; raises as `hashes`."""
        for tile in bundles_of(self.size, since=start):
            yield from self.bundle(tile)[max(0, start - tile.number * WIDTH) :]

    def entry(self, index: int) -> bytes:
        """The entry at one index.

        Raises:
            IndexError: the tree has no such entry.
            TileMissing: see `hashes`, also for the rest.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"a tree of {self.size} entries has no entry {index}")
        return self.bundle(self._tile(None, index // WIDTH))[index % WIDTH]

    def get_node(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree, as `tree.inclusion_proof` and `tree.consistency_proof` ask for it.

        Raises:
            TileMissing: see `hashes`, also for the rest; `LookupError` too where the tree has no such subtree.
        """
        if level < 0 or position < 0 or (position + 1) << level > self.size:
            raise LookupError(f"a tree of {self.size} leaves has no such subtree")
        row, within = divmod(level, HEIGHT)
        first = position << within
        hashes = self.hashes(self._tile(row, first // WIDTH))
        return subtree_root(hashes[first % WIDTH : first % WIDTH + (1 << within)])

    def root(self) -> bytes:
        """The root as the tiles of the right edge have it; raises as `hashes`."""
        rows: list[Sequence[bytes]] = []
        level = 0
        while (count := self.size >> HEIGHT * level) > 0:
            rows.append(self.hashes(self._tile(level, count // WIDTH)) if count % WIDTH else ())
            level += 1
        return root_of_edge(rows)

    def _tile(self, level: int | None, index: int) -> Tile:
        count = self.size >> HEIGHT * (level or 0)
        return Tile(level, index, min(WIDTH, count - index * WIDTH))

    def _fetch(self, tile: Tile, limit: int, full_limit: int) -> tuple[bytes, int]:
        try:
            return self._read(tile.path, limit), tile.width
        except TileMissing:
            if tile.full:
                raise
        try:
            return self._read(tile._replace(width=WIDTH).path, full_limit), WIDTH
        except TileMissing:
            raise TileMissing(f"{tile.path} is missing") from None


class Lie(NamedTuple):
    """A tile that is not what the entries make it, and what is wrong with it in words."""

    path: str
    sentence: str


@dataclass(slots=True)
class Audit:
    """Holds every hash tile of a mirror against its entries as they stream by.

    Attributes:
        mirror: whose tiles.
        lies: the first of the tiles that differ, at most `keep`.
        found: how many differ.
        keep: how many are kept.
    """

    mirror: Mirror
    lies: list[Lie] = field(default_factory=list)
    found: int = 0
    keep: int = 100
    _growth: Growth = field(default_factory=Growth)

    @property
    def size(self) -> int:
        """How many entries went by."""
        return self._growth.size

    def add(self, entries: Iterable[bytes]) -> None:
        """The next entries, in order; best some hundred at once."""
        for tile, data in self._growth.add([leaf_hash(entry) for entry in entries]):
            self._compare(tile, data)

    def finish(self) -> bytes:
        """After the last entry: compare the partial tiles too. The root of the entries."""
        for tile, data in self._growth.partial():
            self._compare(tile, data)
        return self._growth.root()

    def _compare(self, tile: Tile, data: bytes) -> None:
        try:
            stated = b"".join(self.mirror.hashes(tile))
        except (TileMissing, TileMalformed, OSError) as error:
            sentence = error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
            self._lie(tile, f"The tile cannot be used: {sentence}.")
            return
        if stated != data:
            size = HASH_SIZE
            first = next(
                at
                for at in range(tile.width)
                if stated[at * size : at * size + size] != data[at * size : at * size + size]
            )
            self._lie(tile, f"Hash {first} of {tile.width} is not the one that the entries below it have.")

    def _lie(self, tile: Tile, sentence: str) -> None:
        self.found += 1
        if len(self.lies) < self.keep:
            self.lies.append(Lie(tile.path, sentence))


def audit_tiles(mirror: Mirror) -> Audit:
    """Read every entry of the mirror and hold every hash tile against them; `mirror.root()` is then the entries' own.

    Raises:
        TileMissing: an entry bundle is not there.
        TileMalformed: an entry bundle is malformed.
        OSError: an entry bundle cannot be read.
    """
    audit = Audit(mirror)
    for tile in bundles_of(mirror.size):
        audit.add(mirror.bundle(tile))
    audit.finish()
    return audit
