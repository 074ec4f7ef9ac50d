"""Cosignatures of both kinds: the specification's examples, a published ML-DSA-44 vector, and what is none."""

import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from storage.verifier import checkpoint, cosignature
from storage.verifier.checkpoint import Checkpoint, Note, NoteMalformed, NoteUnverified, Signature, VerifierKey
from storage.verifier.cosignature import (
    ED25519_V1,
    MAX_TIME,
    ML_DSA_44,
    AlgorithmMissing,
    CosignerKey,
    cosign,
    ed25519_message,
    ml_dsa_message,
    stated_time,
)
from storage.verifier.tree import empty_root
from tests.vectors import ML_DSA_NOTE, ML_DSA_VKEY

# The example of c2sp.org/tlog-cosignature: a checkpoint and the cosignature of a witness whose key is not published.
SPEC_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
SPEC_LINE = (
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

TEXT = Checkpoint("triad.example/log", 12, bytes(range(32))).text()
NAME = "witness.example/w"
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ML_DSA = MLDSA44PrivateKey.from_seed_bytes(bytes(range(32)))
ED25519_KEY = CosignerKey(NAME, ED25519_V1, ED25519.public_key().public_bytes_raw())
ML_DSA_KEY = CosignerKey(NAME, ML_DSA_44, ML_DSA.public_key().public_bytes_raw())
NOW = 1_800_000_000
KEYS = pytest.mark.parametrize(("private", "key"), [(ED25519, ED25519_KEY), (ML_DSA, ML_DSA_KEY)], ids=["04", "06"])


def of_time(signature: Signature, time: int) -> Signature:
    return replace(signature, signature=struct.pack(">Q", time) + signature.signature[8:])


def test_the_specifications_example_is_read_and_its_message_is_the_one_it_shows() -> None:
    note = checkpoint.parse_note((SPEC_TEXT + "\n" + SPEC_LINE).encode())
    (line,) = note.signatures
    assert line.line() == SPEC_LINE
    assert (line.name, line.key_id.hex(), len(line.signature)) == ("witness.example.com/w1", "8d66cf3f", 72)
    assert stated_time(line) == 1679315147
    assert ed25519_message(note.text, stated_time(line)) == b"cosignature/v1\ntime 1679315147\n" + SPEC_TEXT.encode()


def test_a_published_ml_dsa_signature_of_another_implementation_verifies() -> None:
    key = CosignerKey.parse(ML_DSA_VKEY)
    assert key.text() == ML_DSA_VKEY
    note = checkpoint.verify_note(ML_DSA_NOTE, key)
    assert Checkpoint.parse(note.text).origin == "example.com/mldsa-log"
    assert key.verify(note.signatures[0], note.text) == 0
    with pytest.raises(NoteUnverified):
        checkpoint.verify_note(ML_DSA_NOTE.replace(b"\n1\n", b"\n2\n"), key)


def test_the_ml_dsa_message_is_the_structure_of_the_specification() -> None:
    message = ml_dsa_message("w", "log", 258, bytes(range(32)), 7)
    assert message == (
        b"subtree/v1\n\x00" + b"\x01w" + bytes(7) + b"\x07" + b"\x03log" + bytes(8) + bytes(6) + b"\x01\x02"
    ) + bytes(range(32))
    assert len(message) == 12 + 2 + 8 + 4 + 16 + 32


@KEYS
def test_a_cosignature_verifies_and_tells_its_time(private: Ed25519PrivateKey, key: CosignerKey) -> None:
    for time in (0, 1, NOW, MAX_TIME):
        assert key.verify(cosign(TEXT, NAME, private, time), TEXT) == time
    assert CosignerKey.parse(key.text()) == key
    note = Note(TEXT, (cosign(TEXT, NAME, private, NOW),))
    assert len(note.encode()) < 3600
    assert checkpoint.verify_note(note.encode(), key) == note


@KEYS
def test_a_cosignature_holds_for_nothing_else(private: Ed25519PrivateKey, key: CosignerKey) -> None:
    made = cosign(TEXT, NAME, private, NOW)
    other = Checkpoint("triad.example/log", 13, bytes(range(32))).text()
    elsewhere = Checkpoint("triad.example/lag", 12, bytes(range(32))).text()
    root = Checkpoint("triad.example/log", 12, bytes(32)).text()
    for text in (other, elsewhere, root, TEXT + "extension\n", TEXT[:-1], "", "no checkpoint\n"):
        with pytest.raises(NoteUnverified):
            key.verify(made, text)
    for wrong in (
        of_time(made, NOW + 1),
        of_time(made, 0),
        of_time(made, MAX_TIME + 1),
        of_time(made, 2**64 - 1),
        replace(made, signature=made.signature[:-1]),
        replace(made, signature=made.signature + b"\0"),
        replace(made, signature=made.signature[:8]),
        replace(made, signature=b""),
        replace(made, name="witness.example/v"),
        replace(made, key_id=bytes(4)),
    ):
        with pytest.raises(NoteUnverified):
            key.verify(wrong, TEXT)


@KEYS
def test_one_flipped_bit_of_a_cosignature_is_refused(private: Ed25519PrivateKey, key: CosignerKey) -> None:
    made = cosign(TEXT, NAME, private, NOW).signature
    step = 1 if len(made) < 100 else 61
    for bit in range(0, len(made) * 8, step):
        changed = bytearray(made)
        changed[bit // 8] ^= 1 << bit % 8
        assert not key.verifies(bytes(changed), TEXT.encode())


def test_a_plain_signature_of_the_same_key_is_no_cosignature() -> None:
    plain = checkpoint.sign(TEXT, NAME, ED25519)
    assert plain.key_id != ED25519_KEY.key_id
    assert not ED25519_KEY.verifies(bytes(8) + plain.signature, TEXT.encode())
    assert not VerifierKey(NAME, ED25519_KEY.public).verifies(cosign(TEXT, NAME, ED25519, 1).signature, TEXT.encode())


def test_an_ml_dsa_cosignature_commits_to_the_cosigners_name() -> None:
    other = CosignerKey("witness.example/v", ML_DSA_44, ML_DSA_KEY.public)
    assert not other.verifies(cosign(TEXT, NAME, ML_DSA, NOW).signature, TEXT.encode())
    same = CosignerKey("witness.example/v", ED25519_V1, ED25519_KEY.public)
    assert same.verifies(cosign(TEXT, NAME, ED25519, NOW).signature, TEXT.encode())


def test_extension_lines_are_covered_by_ed25519_and_refused_by_ml_dsa() -> None:
    text = TEXT + "extension\n"
    made = cosign(text, NAME, ED25519, NOW)
    assert ED25519_KEY.verify(made, text) == NOW
    with pytest.raises(NoteUnverified):
        ED25519_KEY.verify(made, TEXT)
    with pytest.raises(NoteMalformed, match="does not cover"):
        cosign(text, NAME, ML_DSA, NOW)
    with pytest.raises(NoteUnverified):
        ML_DSA_KEY.verify(cosign(TEXT, NAME, ML_DSA, NOW), text)


def test_an_empty_tree_has_the_empty_root_or_is_not_cosigned() -> None:
    empty = Checkpoint("log", 0, empty_root()).text()
    assert ML_DSA_KEY.verify(cosign(empty, NAME, ML_DSA, 5), empty) == 5
    with pytest.raises(NoteMalformed, match="empty tree"):
        cosign(Checkpoint("log", 0, bytes(32)).text(), NAME, ML_DSA, 5)


def test_names_too_long_for_the_ml_dsa_structure_are_refused() -> None:
    CosignerKey("n" * 255, ML_DSA_44, ML_DSA_KEY.public)
    CosignerKey("n" * 256, ED25519_V1, ED25519_KEY.public)
    with pytest.raises(NoteMalformed, match="255"):
        CosignerKey("\u00e9" * 128, ML_DSA_44, ML_DSA_KEY.public)
    with pytest.raises(NoteMalformed, match="255"):
        cosign(Checkpoint("o" * 256, 12, bytes(32)).text(), NAME, ML_DSA, NOW)


@pytest.mark.parametrize("time", [-1, MAX_TIME + 1, 2**64])
def test_a_time_out_of_bounds_is_never_cosigned(time: int) -> None:
    with pytest.raises(ValueError, match="from 0 to"):
        cosign(TEXT, NAME, ED25519, time)


def test_what_is_no_checkpoint_is_never_cosigned() -> None:
    for text in ("", "a\n", "a\n1\n", TEXT[:-1], TEXT + "\n"):
        for private in (ED25519, ML_DSA):
            with pytest.raises(NoteMalformed):
                cosign(text, NAME, private, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "w",
        ED25519_KEY.text() + "A",
        ED25519_KEY.text() + "\n",
        ED25519_KEY.text().upper(),
        ED25519_KEY.text().replace(NAME, "witness.example/v"),
        VerifierKey(NAME, ED25519_KEY.public).text(),
        checkpoint.encode_vkey(NAME, ED25519_KEY.public, ML_DSA_44),
        checkpoint.encode_vkey(NAME, ML_DSA_KEY.public, ED25519_V1),
        checkpoint.encode_vkey(NAME, ED25519_KEY.public, b"\x05"),
        checkpoint.encode_vkey(NAME, b"", b""),
        checkpoint.encode_vkey(NAME, ML_DSA_KEY.public[:-1], ML_DSA_44),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_cosigners_key_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        CosignerKey.parse(text)


def test_a_time_is_read_only_where_one_can_be() -> None:
    with pytest.raises(NoteMalformed):
        stated_time(Signature(NAME, bytes(4), bytes(7)))
    with pytest.raises(NoteMalformed):
        stated_time(Signature(NAME, bytes(4), b"\x80" + bytes(71)))


def test_without_ml_dsa_everything_else_works_and_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = cosign(TEXT, NAME, ED25519, NOW), cosign(TEXT, NAME, ML_DSA, NOW)
    monkeypatch.setattr(cosignature, "HAS_ML_DSA", False)
    assert ED25519_KEY.verify(ours, TEXT) == NOW
    assert CosignerKey.parse(ML_DSA_KEY.text()) == ML_DSA_KEY
    with pytest.raises(AlgorithmMissing, match="too old for ML-DSA-44"):
        ML_DSA_KEY.verify(theirs, TEXT)
    both = Note(TEXT, (ours, theirs)).encode()
    assert checkpoint.verify_note(both, ED25519_KEY).signatures == (ours,)
    with pytest.raises(AlgorithmMissing):
        checkpoint.verify_note(both, ED25519_KEY, ML_DSA_KEY)


def test_of_several_cosignatures_of_one_key_all_must_verify_and_all_are_kept() -> None:
    first, second = cosign(TEXT, NAME, ED25519, NOW), cosign(TEXT, NAME, ED25519, NOW + 5)
    note = checkpoint.verify_note(Note(TEXT, (first, second, first)).encode(), ED25519_KEY)
    assert note.signatures == (first, second)
    for order in ((first, of_time(second, NOW)), (of_time(second, NOW), first)):
        with pytest.raises(NoteUnverified, match="does not verify"):
            checkpoint.verify_note(Note(TEXT, order).encode(), ED25519_KEY)


def test_a_newer_cosignature_takes_the_place_of_the_older_one() -> None:
    log = checkpoint.sign(TEXT, "triad.example/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    first, second = cosign(TEXT, NAME, ED25519, NOW), cosign(TEXT, NAME, ED25519, NOW + 5)
    post_quantum = cosign(TEXT, NAME, ML_DSA, NOW)
    note = Note(TEXT, (log, first)).encode()
    assert checkpoint.parse_note(checkpoint.cosigned(note, [post_quantum, second])).signatures == (
        log,
        second,
        post_quantum,
    )
    many = [Signature(f"w{at}", bytes(4), b"x") for at in range(checkpoint.MAX_SIGNATURES)]
    with pytest.raises(NoteMalformed, match="too many"):
        checkpoint.cosigned(note, many)


def test_a_note_of_as_many_post_quantum_cosignatures_as_are_allowed_is_read() -> None:
    line = cosign(TEXT, NAME, ML_DSA, NOW)
    lines = tuple(replace(line, name=f"witness.example/{at:03d}") for at in range(checkpoint.MAX_SIGNATURES))
    assert len(checkpoint.parse_note(Note(TEXT, lines).encode()).signatures) == checkpoint.MAX_SIGNATURES
