"""One flipped bit anywhere in an export, a proof or a cosigned note, and it is no longer accepted.

Every byte counts but those of `policy`, which is the maker's claim: whoever verifies brings their own. A signature by a
key that the policy does not know counts for nothing by the format itself, so this policy knows and demands them all.
"""

import asyncio
import importlib
import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from storage.export import export
from storage.verifier import tree
from storage.verifier.checkpoint import NoteMalformed, NoteUnverified, parse_note
from storage.verifier.cosignature import ED25519_V1, HAS_ML_DSA, ML_DSA_44, CosignerKey, cosign
from storage.verifier.mirror import Mirror, TileMissing
from storage.verifier.policy import Judged, Policy, PolicyUnmet
from storage.verifier.proof import NotIncluded, Proof, ProofMalformed, check
from storage.verifier.tiles import Growth, Tile, TileMalformed, parse_bundle
from tests.logs import MadeLog, content

SIZE, EARLIER, ROTATED = 7, 3, 5
NOW = 1_800_000_000
REFUSED = (NoteMalformed, NoteUnverified, PolicyUnmet, ProofMalformed, NotIncluded, TileMalformed, TileMissing)
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
WITNESS_KEY = CosignerKey("witness.test/w", ED25519_V1, WITNESS.public_key().public_bytes_raw())


class Verifier:
    """Somebody who has the policy, an older checkpoint of their own, and verifies file by file."""

    def __init__(self, files: dict[str, bytes], policy: bytes) -> None:
        self.files = files
        self.policy = Policy.parse(policy)
        self.head = self.judge(files["checkpoint"]).checkpoint
        mirror = Mirror(lambda place, _limit: files[place], self.head.size)
        self.entries = list(mirror.entries())
        self.roots = {size: tree.root_of(self.entries[:size]) for size in range(1, self.head.size + 1)}
        growth = Growth()
        leaves = [tree.leaf_hash(entry) for entry in self.entries]
        self.leaves = leaves
        self.tiles = {tile.path: data for tile, data in [*growth.add(leaves), *growth.partial()]}

    def judge(self, note: bytes) -> Judged:
        return self.policy.require(note, NOW)

    def accepts(self, name: str, data: bytes) -> bool:
        """Whether the file is taken for genuine, all others being so."""
        try:
            return self._holds(name, data)
        except REFUSED:
            return False

    def _holds(self, name: str, data: bytes) -> bool:
        kind, _, rest = name.partition("/")
        match kind:
            case "checkpoint":
                head = self.judge(data).checkpoint
                return head.root == self.roots.get(head.size)
            case "checkpoints":
                head = self.judge(data).checkpoint
                return head.size == int(rest) and head.root == self.roots[head.size]
            case "proofs":
                proof = Proof.parse(data)
                judged = check(proof, None, self.policy, NOW)
                return (
                    rest == f"{proof.index}.tlog-proof" and judged.checkpoint.root == self.roots[judged.checkpoint.size]
                )
            case "constitutions" | "plans":
                return rest.partition(".")[0] == sha256(data).hexdigest()
            case _:
                return self._tile_holds(name, data)

    def _tile_holds(self, name: str, data: bytes) -> bool:
        tile = Tile.parse(name)
        if tile.level is not None:
            return data == self.tiles[name]
        first = tile.number * 256
        leaves = [tree.leaf_hash(entry) for entry in parse_bundle(data, tile.width)]
        return leaves == self.leaves[first : first + tile.width]


def flipped(data: bytes, bits: Iterator[int] | range) -> Iterator[tuple[int, bytes]]:
    whole = bytearray(data)
    for bit in bits:
        whole[bit >> 3] ^= 1 << (bit & 7)
        yield bit, bytes(whole)
        whole[bit >> 3] ^= 1 << (bit & 7)


def accepted(
    data: bytes, accepts: Callable[[bytes], bool], bits: range | list[int] | None = None
) -> tuple[int, list[int]]:
    """How many bits were flipped, and which flips were accepted; the genuine bytes must be."""
    assert accepts(data)
    chosen = range(8 * len(data)) if bits is None else bits
    return len(chosen), [bit for bit, changed in flipped(data, iter(chosen)) if accepts(changed)]


def witnessed(log: MadeLog) -> MadeLog:
    """Let a witness, whom the policy demands, cosign the log."""
    text = parse_note(log.note(log.size)).text
    log.witnesses = f"witness w {WITNESS_KEY.text()}\nquorum w\n"
    log.cosignatures = (cosign(text, WITNESS_KEY.name, WITNESS, NOW - 5),)
    return log


def exported(folder: Path, size: int = SIZE) -> Verifier:
    log = MadeLog.of(size)
    log.signed = min(EARLIER, size)
    asyncio.run(export(witnessed(log), folder))
    log.signed, log.cosignatures = None, ()
    asyncio.run(export(witnessed(log), folder))
    files = content(folder)
    return Verifier(files, files.pop("policy"))


def test_no_flipped_bit_of_an_export_is_accepted(tmp_path: Path) -> None:
    verifier = exported(tmp_path)
    kinds = {name.partition("/")[0] for name in verifier.files}
    assert kinds == {"checkpoint", "checkpoints", "constitutions", "proofs", "tile"}
    tried = 0
    for name, data in sorted(verifier.files.items()):
        count, wrong = accepted(data, partial(verifier.accepts, name))
        assert wrong == [], name
        tried += count
    assert tried >= 10_000


@pytest.mark.skipif(not HAS_ML_DSA, reason="the installed cryptography has no ML-DSA")
@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.full)])
def test_no_flipped_bit_of_a_note_with_two_kinds_of_cosignatures_is_accepted(every: int) -> None:
    mldsa = importlib.import_module("cryptography.hazmat.primitives.asymmetric.mldsa")
    log = witnessed(MadeLog.of(SIZE))
    private = mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(range(2, 34)))
    quantum = CosignerKey("witness.test/q", ML_DSA_44, private.public_key().public_bytes_raw())
    text = parse_note(log.note(SIZE)).text
    log.cosignatures = (*log.cosignatures, cosign(text, quantum.name, private, NOW - 7))
    log.witnesses = f"witness w {WITNESS_KEY.text()}\nwitness q {quantum.text()}\ngroup both all w q\nquorum both\n"
    policy = Policy.parse(asyncio.run(log.policy()))

    def accepts(note: bytes) -> bool:
        try:
            return policy.require(note, NOW).checkpoint.root == tree.root_of(log.entries)
        except REFUSED:
            return False

    note = log.note(SIZE)
    count, wrong = accepted(note, accepts, range(0, 8 * len(note), every))
    assert wrong == []
    assert count * every >= 8 * len(note)


@pytest.mark.full
def test_of_a_hundred_thousand_flipped_bits_of_a_larger_export_none_is_accepted(tmp_path: Path) -> None:
    verifier = exported(tmp_path, 300)
    names = sorted(verifier.files)
    ends = list(itertools.accumulate(8 * len(verifier.files[name]) for name in names))
    draw = random.Random(6962)
    chosen: dict[str, list[int]] = {}
    for bit in draw.sample(range(ends[-1]), 100_000):
        at = next(number for number, end in enumerate(ends) if bit < end)
        chosen.setdefault(names[at], []).append(bit - (ends[at - 1] if at else 0))
    for name, bits in chosen.items():
        _, wrong = accepted(verifier.files[name], partial(verifier.accepts, name), bits)
        assert wrong == [], name
