"""Proof files: one spelling, bounds, and everything that must make one worthless."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import MAX_SIZE, Checkpoint, Note, NoteMalformed, NoteUnverified, VerifierKey
from storage.verifier.cosignature import ED25519_V1, CosignerKey, cosign
from storage.verifier.policy import Log, Policy, PolicyUnmet, Witness
from storage.verifier.proof import HEADER, MAX_HASHES, MAX_PROOF, NotIncluded, Proof, ProofMalformed, check
from storage.verifier.tree import Frontier, leaf_hash

LOG = "triad.example/log"
SIZE = 70
ENTRIES = [b'{"index":%d}' % at for at in range(SIZE)]
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
WITNESS = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
KEY = VerifierKey(LOG, PRIVATE.public_key().public_bytes_raw())
COSIGNER = CosignerKey("witness.example/w", ED25519_V1, WITNESS.public_key().public_bytes_raw())
PLAIN = Policy.of([KEY])
WITNESSED = Policy((Log(KEY),), (Witness("w", COSIGNER),), (), "w")
NOW = 1_800_000_000

FRONTIER, _COMPLETED = Frontier().extend(leaf_hash(entry) for entry in ENTRIES)
NODES = {(0, at): leaf_hash(entry) for at, entry in enumerate(ENTRIES)}
NODES.update({(node.level, node.position): node.hash for node in _COMPLETED})
TEXT = Checkpoint(LOG, SIZE, FRONTIER.root()).text()
NOTE = Note(TEXT, (checkpoint.sign(TEXT, LOG, PRIVATE), cosign(TEXT, COSIGNER.name, WITNESS, NOW))).encode()


def path_of(index: int) -> tuple[bytes, ...]:
    return tuple(tree.inclusion_proof(index, SIZE, lambda level, position: NODES[level, position]))


def proof_of(index: int, *, extra: bool = True) -> Proof:
    return Proof(index, path_of(index), NOTE, ENTRIES[index] if extra else None)


GOOD = proof_of(41)
LINES = GOOD.encode().split(b"\n")


def with_line(number: int, line: bytes) -> bytes:
    return b"\n".join([*LINES[:number], line, *LINES[number + 1 :]])


def test_every_entry_of_the_log_has_a_proof_that_comes_back_and_holds() -> None:
    for index in range(SIZE):
        for extra in (True, False):
            proof = proof_of(index, extra=extra)
            assert Proof.parse(proof.encode()) == proof
            judged = check(proof, ENTRIES[index], WITNESSED, NOW)
            assert (judged.checkpoint.size, judged.quorum_met, judged.witnesses[0].time) == (SIZE, True, NOW)
    assert check(GOOD, None, PLAIN).checkpoint.root == FRONTIER.root()


def test_a_proof_has_the_shape_of_the_specification() -> None:
    data = proof_of(0).encode().decode()
    assert data.startswith(f"{HEADER}\nextra {checkpoint.encode_base64(ENTRIES[0])}\nindex 0\n")
    head, _, note = data.partition("\n\n")
    assert note.encode() == NOTE
    assert [checkpoint.decode_base64(line) for line in head.split("\n")[3:]] == list(path_of(0))
    assert proof_of(0, extra=False).encode().decode().split("\n")[1] == "index 0"


def test_the_only_entry_of_a_log_has_an_empty_path() -> None:
    text = Checkpoint(LOG, 1, leaf_hash(b"one")).text()
    data = f"{HEADER}\nindex 0\n\n".encode() + Note(text, (checkpoint.sign(text, LOG, PRIVATE),)).encode()
    proof = Proof.parse(data)
    assert (proof.hashes, proof.encode()) == ((), data)
    check(proof, b"one", PLAIN)
    with pytest.raises(NotIncluded):
        check(proof, b"two", PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        GOOD.encode()[:-1],
        GOOD.encode() + b"\n",
        GOOD.encode() + b"x",
        GOOD.encode().replace(b"\n", b"\r\n"),
        b"\n" + GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        with_line(0, b"c2sp.org/tlog-proof@v2"),
        with_line(0, b"C2SP.org/tlog-proof@v1"),
        with_line(0, HEADER.encode() + b" "),
        with_line(1, b"extra"),
        with_line(1, b"extra "),
        with_line(1, b"extra  " + LINES[1][6:]),
        with_line(1, b"extra QQ"),
        with_line(1, b"extra QQ="),
        with_line(1, b"extra QR=="),
        with_line(1, b"extra -_-_"),
        with_line(1, LINES[1] + b"\n" + LINES[1]),
        with_line(1, LINES[2] + b"\n" + LINES[1]),
        with_line(1, b""),
        with_line(2, b"index"),
        with_line(2, b"index "),
        with_line(2, b"index 041"),
        with_line(2, b"index +41"),
        with_line(2, b"index -1"),
        with_line(2, b"index 4_1"),
        with_line(2, b"index 41 "),
        with_line(2, b"index  41"),
        with_line(2, "index \u0664\u0661".encode()),
        with_line(2, b"Index 41"),
        with_line(2, b"index 9223372036854775807"),
        with_line(2, b"index " + b"9" * 5000),
        with_line(2, LINES[2] + b"\n" + LINES[2]),
        with_line(3, LINES[3] + b" "),
        with_line(3, b" " + LINES[3]),
        with_line(3, LINES[3][:-4]),
        with_line(3, LINES[3] + b"AAAA"),
        with_line(3, LINES[3][:-2] + b"9="),
        with_line(3, b""),
        with_line(3, b"\xff"),
        f"{HEADER}\nindex 1\n".encode() + (LINES[3] + b"\n") * (MAX_HASHES + 1) + b"\n" + NOTE,
        f"{HEADER}\nindex 1\n\n".encode(),
        f"{HEADER}\nindex 1\n\n".encode() + TEXT.encode(),
        f"{HEADER}\nindex 1\n\n".encode() + NOTE.replace(b"\n70\n", b"\n070\n"),
        f"{HEADER}\nindex 1\n\n".encode() + NOTE.replace("— ".encode(), b"-- "),
        f"{HEADER}\nextra ".encode() + b"A" * MAX_PROOF + b"\nindex 1\n\n" + NOTE,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_any_other_spelling_is_no_proof(data: bytes) -> None:
    with pytest.raises(ProofMalformed):
        Proof.parse(data)


def test_as_many_hashes_as_a_tree_can_need_are_read() -> None:
    data = f"{HEADER}\nindex 1\n".encode() + (LINES[3] + b"\n") * MAX_HASHES + b"\n" + NOTE
    assert len(Proof.parse(data).hashes) == MAX_HASHES


def test_a_proof_out_of_bounds_cannot_be_made() -> None:
    for index, hashes, extra in (
        (-1, (), b"x"),
        (MAX_SIZE, (), b"x"),
        (0, (bytes(31),), b"x"),
        (0, (bytes(32),) * 64, b"x"),
        (0, (), b""),
    ):
        with pytest.raises(ProofMalformed):
            Proof(index, hashes, NOTE, extra)
    with pytest.raises(ProofMalformed, match="checkpoint"):
        Proof(0, (), b"nothing")
    with pytest.raises(ProofMalformed, match="at most"):
        Proof(0, (), NOTE, bytes(MAX_PROOF)).encode()


@given(st.integers(0, len(GOOD.encode()) * 8 - 1))
def test_no_single_flipped_bit_of_a_proof_is_accepted(bit: int) -> None:
    data = bytearray(GOOD.encode())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((ProofMalformed, NotIncluded, NoteMalformed, NoteUnverified, PolicyUnmet)):
        check(Proof.parse(bytes(data)), None, WITNESSED, NOW)


def test_an_entry_elsewhere_or_another_entry_is_not_included() -> None:
    for index in (0, 40, 42, 69):
        with pytest.raises(NotIncluded, match="does not lead"):
            check(Proof(index, GOOD.hashes, NOTE), ENTRIES[41], PLAIN)
    with pytest.raises(NotIncluded, match="there is no entry 70"):
        check(Proof(SIZE, GOOD.hashes, NOTE), ENTRIES[41], PLAIN)
    with pytest.raises(NotIncluded, match="does not lead"):
        check(GOOD, ENTRIES[40], PLAIN)
    with pytest.raises(NotIncluded, match="none was given"):
        check(proof_of(41, extra=False), None, PLAIN)


def test_extra_data_is_not_believed_beside_the_entry_itself() -> None:
    lying = Proof(41, GOOD.hashes, NOTE, b"another entry")
    assert check(lying, ENTRIES[41], PLAIN).checkpoint.size == SIZE
    with pytest.raises(NotIncluded):
        check(lying, None, PLAIN)


def test_swapped_hashes_or_one_more_or_less_prove_nothing() -> None:
    first, second, *rest = GOOD.hashes
    for hashes in ((second, first, *rest), (first, *rest), (*GOOD.hashes, first), GOOD.hashes[:-1], GOOD.hashes[::-1]):
        with pytest.raises(NotIncluded):
            check(Proof(41, tuple(hashes), NOTE, ENTRIES[41]), None, PLAIN)


def test_a_proof_is_only_worth_what_its_checkpoint_is() -> None:
    stranger = VerifierKey(LOG, COSIGNER.public)
    with pytest.raises(NoteUnverified, match="no known key"):
        check(GOOD, None, Policy.of([stranger]))
    unwitnessed = Note(TEXT, (checkpoint.sign(TEXT, LOG, PRIVATE),)).encode()
    with pytest.raises(PolicyUnmet, match="The witness w did not cosign"):
        check(Proof(41, GOOD.hashes, unwitnessed, ENTRIES[41]), None, WITNESSED, NOW)
    with pytest.raises(PolicyUnmet, match="in the future"):
        check(GOOD, None, WITNESSED, NOW - 10_000)
    check(GOOD, None, WITNESSED, NOW - 10_000, tolerance=10_000)
