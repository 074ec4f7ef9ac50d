"""Tiles: the log as files of a fixed place and size, as every mirror and monitor of C2SP tlog-tiles reads it.

Standard library only. A tile holds up to 256 hashes of one level, each over 256 times as many leaves as one of the
level below; a bundle holds the entries under a tile of level 0. Source: https://c2sp.org/tlog-tiles.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Self

from .tree import HASH_SIZE, empty_root, node_hash

HEIGHT: Final = 8
"""Levels of the tree from one level of tiles to the next."""

WIDTH: Final = 1 << HEIGHT
"""Hashes or entries in a full tile or bundle."""

MAX_LEVEL: Final = 63
"""Highest level that a path may name; a tree of 2^63-1 leaves has tiles up to level 7."""

MAX_SIZE: Final = 2**63 - 1
"""Largest tree that is spoken of."""

MAX_ENTRY: Final = 0xFFFF
"""Longest entry in bytes: its length stands before it in two bytes."""

MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
"""Longest bundle in bytes."""

_LEVEL: Final = r"(?P<level>0|[1-9]|[1-5][0-9]|6[0-3])"
_INDEX: Final = r"(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})"
_PART: Final = r"(?:\.p/(?P<width>[1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
_LENGTH: Final = struct.Struct(">H")
_PATH: Final = re.compile(rf"tile/(?:{_LEVEL}|entries)/{_INDEX}{_PART}", re.ASCII)


class TileMalformed(ValueError):
    """These bytes are not the tile or bundle that they should be, or such a tile cannot exist."""


class Tile(NamedTuple):
    """The place of a tile, or of a bundle where `level` is None.

    Attributes:
        level: 0 for leaf hashes; each level above covers 256 times as many leaves with one hash.
        number: its place within the level, from 0.
        width: how many hashes or entries it has; below 256 it is partial.
    """

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def full(self) -> bool:
        """Whether nothing can be added to it."""
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """Where it lies, as `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.

        Raises:
            TileMalformed: there is no such tile.
        """
        check_tile(self)
        place = f"{self.number % 1000:03d}"
        rest = self.number // 1000
        while rest:
            place = f"x{rest % 1000:03d}/{place}"
            rest //= 1000
        kind = "entries" if self.level is None else str(self.level)
        return f"tile/{kind}/{place}" + ("" if self.full else f".p/{self.width}")

    @property
    def end(self) -> int:
        """Size of the smallest tree that has this tile."""
        return (self.number * WIDTH + self.width) << HEIGHT * (self.level or 0)

    @classmethod
    def parse(cls, path: str) -> Self:
        """The tile or bundle that lies at `path`, of which there is exactly one spelling.

        Raises:
            TileMalformed: no such path.
        """
        found = _PATH.fullmatch(path)
        if found is None:
            raise TileMalformed("not the path of a tile or of an entry bundle")
        level, index, width = found["level"], found["index"], found["width"]
        tile = cls(
            None if level is None else int(level),
            int(index.replace("x", "").replace("/", "")),
            WIDTH if width is None else int(width),
        )
        if tile.path != path:
            raise TileMalformed("not the one spelling of a tile's path")
        return tile


def check_tile(tile: Tile) -> None:
    """Nothing, when a tree of at most 2^63-1 leaves can have the tile.

    Raises:
        TileMalformed: its level, number or width is out of bounds.
    """
    if tile.level is not None and not 0 <= tile.level <= MAX_LEVEL:
        raise TileMalformed(f"a tile's level is from 0 to {MAX_LEVEL}")
    if not 1 <= tile.width <= WIDTH:
        raise TileMalformed(f"a tile's width is from 1 to {WIDTH}")
    if tile.number < 0 or tile.end > MAX_SIZE:
        raise TileMalformed("no tree has a tile of that number")


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where the hash tile lies: `tile/<L>/<N>[.p/<W>]`.

    Raises:
        TileMalformed: there is no such tile.
    """
    return Tile(level, index, width).path


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Where the entry bundle lies: `tile/entries/<N>[.p/<W>]`.

    Raises:
        TileMalformed: there is no such bundle.
    """
    return Tile(None, index, width).path


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """The hash tiles of a tree of `size` leaves, level by level; only those that one of `since` leaves has not."""
    level = 0
    while (hashes := size >> HEIGHT * level) > 0:
        yield from _row(level, hashes, since >> HEIGHT * level)
        level += 1


def bundles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """The entry bundles of a tree of `size` leaves; only those that one of `since` leaves has not."""
    return _row(None, size, since)


def _row(level: int | None, count: int, since: int) -> Iterator[Tile]:
    if count <= since:
        return
    for index in range(since // WIDTH, count // WIDTH):
        yield Tile(level, index)
    if count % WIDTH:
        yield Tile(level, count // WIDTH, count % WIDTH)


def parse_tile(data: bytes, width: int) -> list[bytes]:
    """The hashes in a tile.

    Raises:
        TileMalformed: it is not `width` hashes long.
    """
    if len(data) != width * HASH_SIZE:
        raise TileMalformed(f"a tile of {width} hashes has {width * HASH_SIZE} bytes")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """The entries one after the other, each behind its length as two bytes, big-endian.

    Raises:
        TileMalformed: an entry longer than 65,535 bytes, more than 256 entries, or none.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise TileMalformed(f"an entry has at most {MAX_ENTRY} bytes")
        parts += (len(entry).to_bytes(2, "big"), entry)
    if not 1 <= len(parts) // 2 <= WIDTH:
        raise TileMalformed(f"a bundle has from 1 to {WIDTH} entries")
    return b"".join(parts)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """The entries in a bundle.

    Raises:
        TileMalformed: it is not exactly `width` entries.
    """
    entries: list[bytes] = []
    at, end = 0, len(data)
    try:
        for _ in range(width):
            (length,) = _LENGTH.unpack_from(data, at)
            at += 2 + length
            entries.append(data[at - length : at])
    except struct.error:
        raise TileMalformed(f"the bundle ends before its {width} entries do") from None
    if at != end:
        raise TileMalformed(f"the bundle does not end where its {width} entries do")
    return entries


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 1, 2, 4, ... or 256 hashes of complete subtrees of one level."""
    row = hashes
    while len(row) > 1:
        pairs = iter(row)
        row = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
    return row[0]


class Growth:
    """A tree as it grows by leaf hashes: hands out each tile when it is full, and at any time the partial ones.

    It keeps the right edge alone: at most 255 hashes a level.
    """

    __slots__ = ("_rows", "size")

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[list[bytes]] = []

    @classmethod
    def of(cls, size: int, rows: Iterable[Sequence[bytes]]) -> Self:
        """The tree of `size` leaves from the hashes in its partial tiles, level 0 first.

        Raises:
            TileMalformed: a tree of that size has partial tiles of other widths.
        """
        growth = cls()
        growth.size = size
        growth._rows = [list(row) for row in rows]
        for level, row in enumerate(growth._rows):
            if len(row) != (size >> HEIGHT * level) % WIDTH:
                raise TileMalformed(f"a tree of {size} leaves has another edge than this")
        if size >> HEIGHT * len(growth._rows):
            raise TileMalformed(f"a tree of {size} leaves has another edge than this")
        return growth

    def add(self, leaves: Iterable[bytes]) -> list[tuple[Tile, bytes]]:
        """Append leaf hashes; the tiles that became full, lower levels first."""
        done: list[tuple[Tile, bytes]] = []
        coming = iter(leaves)
        while True:
            row = self._row(0)
            before = len(row)
            row.extend(islice(coming, WIDTH - before))
            self.size += len(row) - before
            if len(row) < WIDTH:
                return done
            level = 0
            while len(row) == WIDTH:
                done.append((Tile(level, (self.size >> HEIGHT * (level + 1)) - 1), b"".join(row)))
                above = subtree_root(row)
                row.clear()
                level += 1
                row = self._row(level)
                row.append(above)

    def _row(self, level: int) -> list[bytes]:
        if level == len(self._rows):
            self._rows.append([])
        return self._rows[level]

    def partial(self) -> list[tuple[Tile, bytes]]:
        """The partial tiles of the tree as it stands."""
        return [
            (Tile(level, self.size >> HEIGHT * (level + 1), len(row)), b"".join(row))
            for level, row in enumerate(self._rows)
            if row
        ]

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return root_of_edge(self._rows)


def root_of_edge(rows: Sequence[Sequence[bytes]]) -> bytes:
    """The root of a tree from the hashes in its partial tiles, level 0 first; a level without one is empty."""
    root: bytes | None = None
    for row in rows:
        end = len(row)
        while end:
            start = end & (end - 1)
            part = subtree_root(row[start:end])
            root = part if root is None else node_hash(part, root)
            end = start
    return empty_root() if root is None else root
