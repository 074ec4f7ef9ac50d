"""The root of a log as its entries stream by, some hundred at a time; with roots of earlier sizes on demand."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from .tree import empty_root, node_hash

BLOCK: Final = 256
"""Entries that are hashed together; a power of two."""

_HASH: Final = 32


class BlockHasher:
    """Hashes blocks of exactly 256 entries, the last of which may be shorter.

    Args:
        keep: remember all leaf hashes, 32 bytes an entry, so that `root_at` can answer for any size.
    """

    def __init__(self, *, keep: bool) -> None:
        self.size = 0
        self._keep = keep
        self._stack: list[tuple[int, bytes]] = []
        self._rest: list[bytes] = []
        self._blocks: list[bytes] = []
        self._leaves: list[bytes] = []

    def add(self, entries: Sequence[bytes]) -> None:
        """The next block. Only the last may have fewer than 256 entries."""
        leaves = [sha256(b"\x00" + data).digest() for data in entries]
        self.size += len(leaves)
        if self._keep:
            self._leaves.append(b"".join(leaves))
        if len(leaves) < BLOCK:
            self._rest = leaves
            return
        root = _complete(leaves)
        if self._keep:
            self._blocks.append(root)
        _push(self._stack, root)

    def root(self) -> bytes:
        """The root of everything so far."""
        return _root(self._stack, self._rest)

    def root_within(self, entries: Sequence[bytes]) -> bytes:
        """The root of everything so far and these further entries, fewer than a block, which are not added."""
        return _root(self._stack, [sha256(b"\x00" + data).digest() for data in entries])

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` entries.

        Raises:
            LookupError: leaf hashes were not kept, or there are not so many entries.
        """
        if not self._keep or not 0 <= size <= self.size:
            raise LookupError("there is no such tree")
        full, rest = divmod(size, BLOCK)
        stack: list[tuple[int, bytes]] = []
        for root in self._blocks[:full]:
            _push(stack, root)
        data = self._leaves[full] if rest else b""
        return _root(stack, [data[at * _HASH : (at + 1) * _HASH] for at in range(rest)])


def _complete(hashes: list[bytes]) -> bytes:
    row = hashes
    while len(row) > 1:
        pairs = iter(row)
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return row[0]


def _push(stack: list[tuple[int, bytes]], root: bytes) -> None:
    level = 0
    while stack and stack[-1][0] == level:
        root = node_hash(stack.pop()[1], root)
        level += 1
    stack.append((level, root))


def _root(stack: Sequence[tuple[int, bytes]], rest: Sequence[bytes]) -> bytes:
    parts = [root for _, root in stack]
    at = 0
    while at < len(rest):
        width = 1 << ((len(rest) - at).bit_length() - 1)
        parts.append(_complete(list(rest[at : at + width])))
        at += width
    if not parts:
        return empty_root()
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root
