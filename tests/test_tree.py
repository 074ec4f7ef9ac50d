"""The Merkle tree against RFC 6962's definition, written down naively, and against the CT reference tree."""

import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.verifier import tree
from storage.verifier.tree import Frontier

REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots that the Certificate Transparency reference implementations publish for these leaves."""

LARGEST = 130


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(m: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF of RFC 6962, section 2.1.2, word for word."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_proof(m, leaves[:k], whole=whole), naive_root(leaves[k:])]
    return [*naive_proof(m - k, leaves[k:], whole=False), naive_root(leaves[:k])]


class Grown:
    """A tree with its complete subtrees, as the ledger stores them."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.nodes = {(0, at): leaf for at, leaf in enumerate(leaves)}
        self.roots = [tree.empty_root()]
        frontier = Frontier()
        for leaf in leaves:
            frontier, completed = frontier.append(leaf)
            for level, position, value in completed:
                assert (level, position) not in self.nodes
                self.nodes[level, position] = value
            self.roots.append(frontier.root())
        self.frontier = frontier

    def get(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]


GROWN = Grown([tree.leaf_hash(at.to_bytes(2, "big")) for at in range(LARGEST)])


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_reference_tree_has_its_published_roots() -> None:
    frontier = Frontier()
    for data, root in zip(REFERENCE_LEAVES, REFERENCE_ROOTS, strict=True):
        frontier, _ = frontier.append(tree.leaf_hash(data))
        assert frontier.root().hex() == root
        assert tree.root_of(REFERENCE_LEAVES[: frontier.size]).hex() == root


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert tree.root_of([]) == tree.empty_root()


@pytest.mark.parametrize(
    ("leaf", "size", "proof"),
    [
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            [
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_the_reference_tree_has_its_published_audit_paths(leaf: int, size: int, proof: list[str]) -> None:
    grown = Grown([tree.leaf_hash(data) for data in REFERENCE_LEAVES])
    made = tree.inclusion_proof(leaf, size, grown.get)
    assert [part.hex() for part in made] == proof
    assert tree.verify_inclusion(
        tree.leaf_hash(REFERENCE_LEAVES[leaf]), leaf, size, made, bytes.fromhex(REFERENCE_ROOTS[size - 1])
    )


@pytest.mark.parametrize(
    ("old", "new", "proof"),
    [
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            6,
            7,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ],
)
def test_the_reference_tree_has_its_published_consistency_proofs(old: int, new: int, proof: list[str]) -> None:
    grown = Grown([tree.leaf_hash(data) for data in REFERENCE_LEAVES])
    made = tree.consistency_proof(old, new, grown.get)
    assert [part.hex() for part in made] == proof
    old_root, new_root = bytes.fromhex(REFERENCE_ROOTS[old - 1]), bytes.fromhex(REFERENCE_ROOTS[new - 1])
    assert tree.verify_consistency(old, old_root, new, new_root, made)


def test_every_root_up_to_130_leaves_is_the_one_the_rfc_defines() -> None:
    for size in range(LARGEST + 1):
        assert GROWN.roots[size] == naive_root(GROWN.leaves[:size])


def test_every_audit_path_up_to_130_leaves_is_the_one_the_rfc_defines_and_verifies() -> None:
    for size in range(1, LARGEST + 1):
        for at in range(size):
            proof = tree.inclusion_proof(at, size, GROWN.get)
            assert tree.verify_inclusion(GROWN.leaves[at], at, size, proof, GROWN.roots[size])
            if size % 10 == 7 or size & (size - 1) == 0:
                assert proof == naive_path(at, GROWN.leaves[:size])


def test_every_consistency_proof_up_to_130_leaves_is_the_one_the_rfc_defines_and_verifies() -> None:
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = tree.consistency_proof(old, new, GROWN.get)
            assert tree.verify_consistency(old, GROWN.roots[old], new, GROWN.roots[new], proof)
            if old and (new % 10 == 7 or new & (new - 1) == 0):
                assert proof == naive_proof(old, GROWN.leaves[:new])


def test_a_proof_asks_for_exactly_the_nodes_that_were_announced() -> None:
    for new in (1, 2, 7, 64, 100, 130):
        for old in range(new):
            asked: list[tuple[int, int]] = []

            def get(level: int, position: int, asked: list[tuple[int, int]] = asked) -> bytes:
                asked.append((level, position))
                return GROWN.get(level, position)

            tree.inclusion_proof(old, new, get)
            assert asked == tree.inclusion_nodes(old, new)
            asked.clear()
            tree.consistency_proof(old, new, get)
            assert asked == tree.consistency_nodes(old, new)


@given(st.lists(st.binary(max_size=40), max_size=300), st.integers(0, 300))
def test_extending_in_batches_equals_the_naive_root(entries: list[bytes], cut: int) -> None:
    leaves = [tree.leaf_hash(data) for data in entries]
    first, early = Frontier().extend(leaves[:cut])
    whole, late = Frontier.decode(first.size, first.encode()).extend(leaves[cut:])
    at_once, nodes = Frontier().extend(leaves)
    assert whole == at_once
    assert early + late == nodes
    assert whole.root() == naive_root(leaves) == tree.root_of(entries)


@given(st.data())
def test_one_flipped_bit_anywhere_refutes_an_inclusion_proof(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGEST))
    at = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion_proof(at, size, GROWN.get)
    parts = [GROWN.leaves[at], GROWN.roots[size], *proof]
    chosen, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[chosen] = flip(parts[chosen], bit)
    assert not tree.verify_inclusion(parts[0], at, size, parts[2:], parts[1])


@given(st.data())
def test_one_flipped_bit_anywhere_refutes_a_consistency_proof(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, LARGEST))
    old = data.draw(st.integers(0, new))
    proof = tree.consistency_proof(old, new, GROWN.get)
    parts = [GROWN.roots[old], GROWN.roots[new], *proof]
    # Every tree extends the empty one, so there the new root is not part of what the proof claims.
    choices = [0] if old == 0 else range(len(parts))
    chosen, bit = data.draw(st.sampled_from(choices)), data.draw(st.integers(0, 255))
    parts[chosen] = flip(parts[chosen], bit)
    assert not tree.verify_consistency(old, parts[0], new, parts[1], parts[2:])


@given(st.data())
def test_a_proof_with_a_part_more_or_less_is_refuted(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, LARGEST))
    at = data.draw(st.integers(0, size - 1))
    path = tree.inclusion_proof(at, size, GROWN.get)
    place = data.draw(st.integers(0, len(path)))
    longer = [*path[:place], data.draw(st.sampled_from([*path, GROWN.roots[size]])), *path[place:]]
    shorter = path[:place] + path[place + 1 :] if place < len(path) else path[:-1]
    for wrong in (longer, shorter, [*path, b""], [*path[:-1], path[-1][:31]]):
        assert not tree.verify_inclusion(GROWN.leaves[at], at, size, wrong, GROWN.roots[size])
    old = data.draw(st.integers(1, size - 1))
    proof = tree.consistency_proof(old, size, GROWN.get)
    for wrong in (proof[1:], proof[:-1], [*proof, proof[-1]], [proof[0], *proof], [*proof, b""]):
        assert not tree.verify_consistency(old, GROWN.roots[old], size, GROWN.roots[size], wrong)


def test_a_leaf_at_another_index_is_refuted() -> None:
    size = 45
    for at in range(size):
        proof = tree.inclusion_proof(at, size, GROWN.get)
        for other in range(-1, size + 2):
            assert tree.verify_inclusion(GROWN.leaves[at], other, size, proof, GROWN.roots[size]) is (other == at)


def test_a_smaller_tree_never_extends_a_larger_one() -> None:
    assert not tree.verify_consistency(5, GROWN.roots[5], 4, GROWN.roots[4], [])
    assert not tree.verify_consistency(5, GROWN.roots[5], 5, GROWN.roots[4], [])
    assert not tree.verify_consistency(1, GROWN.roots[1], 2, GROWN.roots[2], [])
    assert not tree.verify_consistency(0, tree.empty_root(), 4, GROWN.roots[4], [GROWN.roots[4]])


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="no leaf 4"):
        tree.inclusion_proof(4, 4, GROWN.get)
    with pytest.raises(ValueError, match="no leaf -1"):
        tree.inclusion_proof(-1, 4, GROWN.get)
    with pytest.raises(ValueError, match="does not extend"):
        tree.consistency_proof(5, 4, GROWN.get)


def test_a_frontier_with_a_missing_or_crooked_hash_is_refused() -> None:
    encoded = GROWN.frontier.encode()
    with pytest.raises(ValueError, match="are not the frontier of 130 leaves"):
        Frontier.decode(LARGEST, encoded[:-1])
    with pytest.raises(ValueError, match="are not the frontier of 131 leaves"):
        Frontier.decode(LARGEST + 1, encoded)
    with pytest.raises(ValueError, match="has other subtrees"):
        Frontier(3, (bytes(32),))
    with pytest.raises(ValueError, match="SHA-256"):
        Frontier(1, (bytes(31),))


def test_the_root_hasher_is_fast_enough_for_whole_logs() -> None:
    """The target is 200,000 entries/s on a quiet machine; a fifth of it is the floor on a busy one."""
    entries = [bytes(700)] * 20_000
    started = time.process_time()
    tree.root_of(entries)
    assert len(entries) / (time.process_time() - started) > 40_000


BORDERS = (255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537)


def test_proofs_hold_around_the_borders_of_tiles() -> None:
    """Leaf hashes are synthetic: what is hashed below them plays no part in a proof."""
    nodes: dict[tuple[int, int], bytes] = {}
    frontier, roots = Frontier(), {}
    for size in BORDERS:
        leaves = [sha256(at.to_bytes(4, "big")).digest() for at in range(frontier.size, size)]
        nodes.update({(0, frontier.size + at): leaf for at, leaf in enumerate(leaves)})
        frontier, completed = frontier.extend(leaves)
        nodes.update({(level, position): value for level, position, value in completed})
        roots[size] = frontier.root()

    def get(level: int, position: int) -> bytes:
        return nodes[level, position]

    for new in BORDERS:
        for at in {0, 1, 254, new // 2, *(border for border in BORDERS if border < new), new - 1}:
            proof = tree.inclusion_proof(at, new, get)
            assert tree.verify_inclusion(nodes[0, at], at, new, proof, roots[new])
            for wrong in {at ^ 1, at - 1, at + 256, new}:
                assert not tree.verify_inclusion(nodes[0, at], wrong, new, proof, roots[new])
            if proof:
                assert not tree.verify_inclusion(
                    nodes[0, at], at, new, [*proof[:-1], flip(proof[-1], at % 256)], roots[new]
                )
        for old in BORDERS:
            if old > new:
                continue
            proof = tree.consistency_proof(old, new, get)
            assert tree.verify_consistency(old, roots[old], new, roots[new], proof)
            assert not tree.verify_consistency(old, flip(roots[old], 7), new, roots[new], proof)
            if old < new:
                assert not tree.verify_consistency(old, roots[old], new, roots[new], proof[::-1][:-1])
