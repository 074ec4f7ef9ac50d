"""Signed notes and checkpoints against published vectors, and everything that is not one of them."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from storage.verifier import checkpoint
from storage.verifier.checkpoint import Checkpoint, Note, NoteMalformed, NoteUnverified, Signature, VerifierKey

# The example of the Go reference implementation, golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
GO_NOTE = (GO_TEXT + "\n" + GO_SIGNATURE).encode()

# The example of c2sp.org/tlog-checkpoint.
SPEC_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
).encode()

# The example of c2sp.org/signed-note: a text with an empty line and letters beyond ASCII.
SPEC_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

LOG = "triad.example/log"


def key_of(seed: int, name: str = LOG) -> tuple[Ed25519PrivateKey, VerifierKey]:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return private, VerifierKey(name, private.public_key().public_bytes_raw())


def note_of(text: str, *signatures: Signature) -> bytes:
    return Note(text, signatures).encode()


HEAD = Checkpoint(LOG, 12, bytes(range(32)))
PRIVATE, KEY = key_of(1)
SIGNED = note_of(HEAD.text(), checkpoint.sign(HEAD.text(), LOG, PRIVATE))


def test_the_reference_note_verifies_and_is_reproduced_to_the_byte() -> None:
    key = VerifierKey.parse(GO_VKEY)
    assert checkpoint.verify_note(GO_NOTE, key).text == GO_TEXT
    assert key.text() == GO_VKEY
    private = Ed25519PrivateKey.from_private_bytes(checkpoint.decode_base64(GO_SEED)[1:])
    assert note_of(GO_TEXT, checkpoint.sign(GO_TEXT, "PeterNeumann", private)) == GO_NOTE


def test_the_specifications_examples_are_read_and_written_back_to_the_byte() -> None:
    note = checkpoint.parse_note(SPEC_CHECKPOINT)
    head = Checkpoint.parse(note.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert head.text() == note.text
    assert note.encode() == SPEC_CHECKPOINT
    assert note.signatures[0].key_id.hex() == "033de0ae"
    poem = checkpoint.parse_note(SPEC_NOTE)
    assert poem.text.count("\n") == 4
    assert poem.encode() == SPEC_NOTE


def test_a_checkpoint_of_the_go_checksum_database_verifies() -> None:
    """A real log's real signature: the one the specification's example was made from."""
    key = VerifierKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    data = SPEC_CHECKPOINT.replace(b"example.com/behind-the-sofa\n", b"go.sum database tree\n")
    data = data.replace(b"example.com/behind-the-sofa ", b"sum.golang.org ")
    assert Checkpoint.parse(checkpoint.verify_note(data, key).text).size == 20852163


def test_a_checkpoint_comes_back_from_its_signed_note() -> None:
    assert Checkpoint.parse(checkpoint.verify_note(SIGNED, KEY).text) == HEAD
    assert HEAD.body() == f"{LOG}\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n".encode()


def test_no_single_flipped_bit_of_a_signed_checkpoint_is_accepted() -> None:
    for at in range(len(SIGNED)):
        for bit in range(8):
            changed = bytearray(SIGNED)
            changed[at] ^= 1 << bit
            with pytest.raises((NoteMalformed, NoteUnverified)):
                checkpoint.verify_note(bytes(changed), KEY)


def test_a_signature_of_an_unknown_key_is_ignored_beside_a_known_one() -> None:
    stranger, _ = key_of(2, "witness.example/w")
    data = checkpoint.cosigned(SIGNED, [checkpoint.sign(HEAD.text(), "witness.example/w", stranger)])
    assert len(checkpoint.parse_note(data).signatures) == 2
    assert [s.name for s in checkpoint.verify_note(data, KEY).signatures] == [LOG]


def test_an_unknown_key_of_the_same_name_or_the_same_id_is_ignored() -> None:
    namesake, _ = key_of(2)
    text = HEAD.text()
    same_name = checkpoint.sign(text, LOG, namesake)
    same_id = Signature("other.example/log", KEY.key_id, bytes(64))
    ours = checkpoint.sign(text, LOG, PRIVATE)
    assert len(checkpoint.verify_note(note_of(text, same_name, same_id, ours), KEY).signatures) == 1
    with pytest.raises(NoteUnverified, match="no known key"):
        checkpoint.verify_note(note_of(text, same_name, same_id), KEY)


def test_a_broken_signature_of_a_known_key_rejects_the_note_although_another_verifies() -> None:
    second_private, second = key_of(2, "witness.example/w")
    text = HEAD.text()
    broken = Signature(second.name, second.key_id, bytes(64))
    data = note_of(text, checkpoint.sign(text, LOG, PRIVATE), broken)
    with pytest.raises(NoteUnverified, match="does not verify"):
        checkpoint.verify_note(data, KEY, second)
    good = note_of(text, checkpoint.sign(text, LOG, PRIVATE), checkpoint.sign(text, second.name, second_private))
    assert {s.name for s in checkpoint.verify_note(good, KEY, second).signatures} == {LOG, second.name}


def test_a_signature_that_is_there_twice_counts_once() -> None:
    signature = checkpoint.sign(HEAD.text(), LOG, PRIVATE)
    assert len(checkpoint.verify_note(note_of(HEAD.text(), signature, signature), KEY).signatures) == 1


def test_nobody_is_trusted_when_no_key_is_known() -> None:
    with pytest.raises(NoteUnverified):
        checkpoint.verify_note(SIGNED)


def test_the_same_key_twice_among_the_known_is_refused() -> None:
    with pytest.raises(NoteMalformed, match="share"):
        checkpoint.verify_note(SIGNED, KEY, KEY)


@pytest.mark.parametrize(
    "text",
    [
        "QQ",
        "QQ=",
        "QR==",
        "QUJ=",
        "QUJD=",
        "QQ==QQ==",
        "QQ==\n",
        " QQ==",
        "Q Q=",
        "-_-_",
        "QQ==é",
        "====",
        "QQ===",
    ],
)
def test_base64_has_exactly_one_spelling(text: str) -> None:
    with pytest.raises(NoteMalformed):
        checkpoint.decode_base64(text)


@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert checkpoint.decode_base64(checkpoint.encode_base64(data)) == data


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b", "a\u2003b", "a\u2028b", "\x01", "\ud800"], ids=ascii
)
def test_a_key_name_has_no_space_plus_or_control_character(name: str) -> None:
    with pytest.raises(NoteMalformed):
        VerifierKey(name, bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+0c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWAA==",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW ",
    ],
)
def test_a_mangled_vkey_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "encoded",
    [
        "00" * 32,
        "00" * 31 + "80",
        "01" + "00" * 31,
        "01" + "00" * 30 + "80",
        "ec" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "ff" * 32,
    ],
)
@pytest.mark.parametrize("kind", [b"\x01", b"\x04"])
def test_a_vkey_under_which_anybody_could_sign_or_with_a_second_spelling_is_refused(encoded: str, kind: bytes) -> None:
    text = checkpoint.encode_vkey(LOG, bytes.fromhex(encoded), kind)
    with pytest.raises(NoteMalformed, match="anybody can sign"):
        checkpoint.decode_vkey(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        GO_TEXT.encode(),
        GO_NOTE[:-1],
        GO_NOTE + b"\n",
        GO_NOTE + b"x",
        GO_NOTE.replace(b"\n\n", b"\n"),
        GO_NOTE.replace("— ".encode(), b"-- "),
        GO_NOTE.replace("— ".encode(), "—".encode()),
        GO_NOTE.replace(b"PeterNeumann x08", b"PeterNeumann  x08"),
        GO_NOTE.replace(b"PeterNeumann x08", b"Peter+Neumann x08"),
        GO_NOTE.replace(b"PeterNeumann x08", b" x08"),
        GO_NOTE.replace(b"nAM=", b"nAN="),
        GO_NOTE.replace(b"If you", b"If\tyou"),
        GO_NOTE.replace(b"If you", b"If\ryou"),
        GO_NOTE.replace(b"If you", b"If\xffyou"),
        GO_TEXT.encode() + "\n— PeterNeumann x08gow==\n".encode(),
        GO_TEXT.encode() + "\n— PeterNeumann\n".encode(),
        GO_NOTE + GO_SIGNATURE.encode() * checkpoint.MAX_SIGNATURES,
        b"x" * checkpoint.MAX_NOTE + GO_NOTE,
    ],
)
def test_what_is_not_a_signed_note_is_malformed(data: bytes) -> None:
    with pytest.raises(NoteMalformed):
        checkpoint.verify_note(data, VerifierKey.parse(GO_VKEY))


def test_sixteen_signatures_are_accepted() -> None:
    data = GO_TEXT.encode() + b"\n" + GO_SIGNATURE.encode() * 16
    assert len(checkpoint.parse_note(data).signatures) == 16


ROOT_LINE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{LOG}\n12\n",
        f"{LOG}\n12\n{ROOT_LINE}",
        f"\n12\n{ROOT_LINE}\n",
        f"{LOG}\n012\n{ROOT_LINE}\n",
        f"{LOG}\n+12\n{ROOT_LINE}\n",
        f"{LOG}\n-1\n{ROOT_LINE}\n",
        f"{LOG}\n1_2\n{ROOT_LINE}\n",
        f"{LOG}\n\N{ARABIC-INDIC DIGIT ONE}2\n{ROOT_LINE}\n",
        f"{LOG}\n 12\n{ROOT_LINE}\n",
        f"{LOG}\n9223372036854775808\n{ROOT_LINE}\n",
        f"{LOG}\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"{LOG}\n12\n{ROOT_LINE[:-4]}\n",
        f"{LOG}\n12\n{ROOT_LINE}AAAA\n",
        f"{LOG}\n12\n{ROOT_LINE[:-2]}9=\n",
        f"{LOG}\n12\n{ROOT_LINE}\n\n",
        f"{LOG}\n12\n{ROOT_LINE}\n\nextension\n",
    ],
)
def test_what_is_not_a_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(NoteMalformed):
        Checkpoint.parse(text)


def test_extension_lines_are_kept() -> None:
    head = Checkpoint.parse(f"{LOG}\n12\n{ROOT_LINE}\nextension one\ntwo\n")
    assert head.extensions == ("extension one", "two")
    assert head.text().endswith("\nextension one\ntwo\n")


def test_a_checkpoint_out_of_bounds_cannot_be_made() -> None:
    for origin, size, root in (("", 1, bytes(32)), ("a\nb", 1, bytes(32)), (LOG, -1, bytes(32)), (LOG, 1, bytes(31))):
        with pytest.raises(NoteMalformed):
            Checkpoint(origin, size, root)
