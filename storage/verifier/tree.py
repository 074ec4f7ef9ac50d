"""The Merkle tree of RFC 6962 (and 9162): hashes, the growing right edge, proofs and their verification.

Standard library only, plain loops over bytes: whoever checks an exported ledger needs nothing else of ours.
A complete subtree is named by `(level, position)`: it covers the leaves from `position << level` up to, not including,
`(position + 1) << level`. Level 0 is the leaf hashes themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, Self

HASH_SIZE: Final = 32
"""Bytes in a SHA-256."""

GetNode = Callable[[int, int], bytes]
"""The hash of the complete subtree `(level, position)`."""


class Node(NamedTuple):
    """A complete subtree and its hash."""

    level: int
    position: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): the hash of one entry (RFC 6962, section 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): the hash of an inner node (RFC 6962, section 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def empty_root() -> bytes:
    """The root of the tree without leaves: SHA-256 of nothing."""
    return sha256().digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: enough to append and to know the root.

    Attributes:
        size: number of leaves.
        hashes: the complete subtrees that cover them, largest first: one for each bit set in `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"a frontier of {self.size} leaves has other subtrees than these")
        if any(len(part) != HASH_SIZE for part in self.hashes):
            raise ValueError("a frontier is made of SHA-256 hashes")

    def append(self, leaf: bytes) -> tuple[Self, list[Node]]:
        """The frontier with one more leaf hash, and the subtrees (level 1 and up) that it completed."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> tuple[Self, list[Node]]:
        """The frontier with more leaf hashes, in order, and the subtrees (level 1 and up) that they completed.

        The nodes come in the order in which they were completed. Level 0 is the leaves and is not repeated.
        """
        stack = list(self.hashes)
        size = self.size
        nodes: list[Node] = []
        for leaf in leaves:
            current, level, index = leaf, 0, size
            while index & 1:
                current = sha256(b"\x01" + stack.pop() + current).digest()
                level += 1
                index >>= 1
                nodes.append(Node(level, index, current))
            stack.append(current)
            size += 1
        return type(self)(size, tuple(stack)), nodes

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves so far."""
        if not self.hashes:
            return empty_root()
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def encode(self) -> bytes:
        """The subtree hashes one after the other; the size is kept beside them."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> Self:
        """The frontier that `encode` wrote.

        Raises:
            ValueError: `data` does not have one hash for each bit set in `size`.
        """
        if size < 0 or len(data) != size.bit_count() * HASH_SIZE:
            raise ValueError(f"{len(data)} bytes are not the frontier of {size} leaves")
        return cls(size, tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)))


class RootHasher:
    """Recomputes a root from entry bytes as they stream by; keeps nothing but the right edge."""

    __slots__ = ("_stack", "size")

    def __init__(self) -> None:
        self.size = 0
        self._stack: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Append the entry `data`."""
        current = sha256(b"\x00" + data).digest()
        index = self.size
        self.size = index + 1
        stack = self._stack
        while index & 1:
            current = sha256(b"\x01" + stack.pop() + current).digest()
            index >>= 1
        stack.append(current)

    def frontier(self) -> Frontier:
        """The right edge as it stands."""
        return Frontier(self.size, tuple(self._stack))

    def root(self) -> bytes:
        """The root of everything added so far."""
        return self.frontier().root()


def root_of(entries: Iterable[bytes]) -> bytes:
    """The root of a tree whose leaves are `entries`."""
    hasher = RootHasher()
    for data in entries:
        hasher.add(data)
    return hasher.root()


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (RFC 6962's k); `size` is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _cover(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees, left to right, that make up leaves `start` to `end`; `start` begins a subtree."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose roots are the audit path PATH(index, D[size]), from the leaf up."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def _consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose roots are PROOF(old, D[new]), from the smallest subtree up."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not extend one of {old}")
    if old in {0, new}:
        return []
    ranges: list[tuple[int, int]] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_nodes(index: int, size: int) -> list[tuple[int, int]]:
    """The subtrees `(level, position)` that `inclusion_proof` will ask for, so that they can be fetched at once."""
    return [node for span in _inclusion_ranges(index, size) for node in _cover(*span)]


def consistency_nodes(old: int, new: int) -> list[tuple[int, int]]:
    """The subtrees `(level, position)` that `consistency_proof` will ask for, so that they can be fetched at once."""
    return [node for span in _consistency_ranges(old, new) for node in _cover(*span)]


def _range_root(span: tuple[int, int], get_node: GetNode) -> bytes:
    parts = [get_node(level, index) for level, index in _cover(*span)]
    root = parts[-1]
    for left in reversed(parts[:-1]):
        root = node_hash(left, root)
    return root


def inclusion_proof(index: int, size: int, get_node: GetNode) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962, section 2.1.1: the audit path from leaf `index` up.

    Raises:
        ValueError: the tree has no such leaf.
    """
    return [_range_root(span, get_node) for span in _inclusion_ranges(index, size)]


def consistency_proof(old: int, new: int, get_node: GetNode) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962, section 2.1.2; empty when `old` is 0 or equals `new`.

    Raises:
        ValueError: `old` is larger than `new`.
    """
    return [_range_root(span, get_node) for span in _consistency_ranges(old, new)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the leaf hash stands at `index` in the tree of that size and root.

    The algorithm is that of RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size or any(len(part) != HASH_SIZE for part in (leaf, root, *proof)):
        return False
    fn, sn, current = index, size - 1, leaf
    for part in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            current = node_hash(part, current)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            current = node_hash(current, part)
        fn >>= 1
        sn >>= 1
    return sn == 0 and current == root


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of size `new` begins with exactly the tree of size `old`.

    The algorithm is that of RFC 9162, section 2.1.4.2. Every tree extends the empty one, whose root must be
    the empty root; a tree extends itself, by an empty proof.
    """
    if not 0 <= old <= new or any(len(part) != HASH_SIZE for part in (old_root, new_root, *proof)):
        return False
    if old in {0, new}:
        return not proof and old_root == (new_root if old == new else empty_root())
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = path[0]
    for part in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first = node_hash(part, first)
            second = node_hash(part, second)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, part)
        fn >>= 1
        sn >>= 1
    return sn == 0 and first == old_root and second == new_root
