"""Reads an exported log with PyPI's `aics-tlog`, and its post-quantum cosignatures with `dilithium-py`.

Usage: aics.py DIR, in an environment that has the two. Nothing of Triad is imported. It exits with 1 and a sentence
when anything does not hold. `aics.py --sign DIR` writes a checkpoint that they signed and cosigned, and its policy.
"""

import base64
import hashlib
import struct
import sys
import time
from pathlib import Path

import aics_tlog
from aics_tlog.tiles import parse_entry_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dilithium_py.ml_dsa import ML_DSA_44

_TYPE_ED25519, _TYPE_ML_DSA = 4, 6
_WIDTH = 256


class Refused(Exception):
    """Something does not hold."""


def _must(holds: bool, sentence: str) -> None:  # noqa: FBT001 - one question, asked in words beside it
    if not holds:
        raise Refused(sentence)


def _cosigned_message(name: str, moment: bytes, head: aics_tlog.Checkpoint) -> bytes:
    parts = [b"subtree/v1\n\x00", bytes([len(name)]), name.encode(), moment]
    parts += [bytes([len(head.origin)]), head.origin.encode(), struct.pack(">QQ", 0, head.size), head.root]
    return b"".join(parts)


class Trust:
    """What the policy of the export names."""

    def __init__(self, text: str) -> None:
        self.logs: list[aics_tlog.VKey] = []
        self.witnesses: list[aics_tlog.VKey] = []
        self.post_quantum: list[tuple[str, bytes, bytes]] = []
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["log"]:
                self.logs.append(aics_tlog.parse_vkey(words[1]))
            elif words[:1] == ["witness"]:
                self._witness(words[2])

    def _witness(self, vkey: str) -> None:
        name, ident, encoded = vkey.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        if data[0] == _TYPE_ED25519:
            self.witnesses.append(aics_tlog.parse_vkey(vkey))
        elif data[0] == _TYPE_ML_DSA:
            expected = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
            _must(expected.hex() == ident, "the key id is not the witness key's")
            self.post_quantum.append((name, expected, data[1:]))

    def open(self, data: bytes, quorum: int) -> aics_tlog.Checkpoint:
        """The checkpoint, once a log signed it and `quorum` witnesses with Ed25519 keys cosigned."""
        note = aics_tlog.parse_note(data)
        found = None
        for key in self.logs:
            result = aics_tlog.verify_checkpoint(note, key, self.witnesses, quorum, expected_origin=key.name)
            if result.ok:
                found = aics_tlog.parse_checkpoint(note.text)
        _must(found is not None, "no log signed, or a cosignature does not hold")
        self._post_quantum(note, found)
        return found

    def _post_quantum(self, note: aics_tlog.Note, head: aics_tlog.Checkpoint) -> None:
        for name, ident, public in self.post_quantum:
            for line in note.signatures:
                if (line.name, line.key_id) == (name, ident):
                    blob = line.signature
                    message = _cosigned_message(name, blob[:8], head)
                    _must(ML_DSA_44.verify(public, message, blob[8:]), "an ML-DSA-44 cosignature does not verify")


def _proof(data: bytes) -> tuple[bytes, int, list[bytes], bytes]:
    head, _, note = data.partition(b"\n\n")
    header, extra, index, *hashes = head.decode("ascii").split("\n")
    _must(header == "c2sp.org/tlog-proof@v1", "not a proof")
    _must(extra.startswith("extra ") and index.startswith("index "), "not a proof with its entry")
    decode = [base64.b64decode(line, validate=True) for line in hashes]
    return base64.b64decode(extra[6:], validate=True), int(index[6:]), decode, note


def read(folder: Path) -> str:
    """Read the whole export; what was found, in words."""
    trust = Trust((folder / "policy").read_text())
    head = trust.open((folder / "checkpoint").read_bytes(), len(trust.witnesses))
    reader = aics_tlog.FileSystemTileReader(folder)
    _must(aics_tlog.tree_root_from_tiles(reader, head.size) == head.root, "the tiles have another root")
    entries: list[bytes] = []
    for number in range(-(-head.size // _WIDTH)):
        width = min(_WIDTH, head.size - number * _WIDTH)
        bundle = reader.read_entry_bundle(number, width if width < _WIDTH else None)
        _must(bundle is not None, "a bundle is missing")
        entries += parse_entry_bundle(bundle)
    tree = aics_tlog.MerkleTree(entries)
    _must((tree.size, tree.root()) == (head.size, head.root), "the entries have another root")
    for at in range(0, head.size, 1 + head.size // 97):
        path = aics_tlog.inclusion_proof_from_tiles(reader, at, head.size)
        _must(aics_tlog.verify_leaf_inclusion(entries[at], at, head.size, path, head.root), "an entry is not included")
    for old in range(1, head.size, 1 + head.size // 37):
        path = aics_tlog.consistency_proof_from_tiles(reader, old, head.size)
        was = aics_tlog.MerkleTree(entries[:old]).root()
        _must(aics_tlog.verify_consistency(old, head.size, was, head.root, path), "the log is not consistent")
    proofs = sorted((folder / "proofs").glob("*.tlog-proof"))
    for place in proofs:
        entry, index, path, note = _proof(place.read_bytes())
        signed = trust.open(note, 0)
        _must(aics_tlog.verify_leaf_inclusion(entry, index, signed.size, path, signed.root), "a proof does not hold")
    counts = f"{len(trust.witnesses)} cosignatures and {len(trust.post_quantum)} of ML-DSA-44"
    return f"aics-tlog and dilithium-py: checkpoint, {counts}, {head.size} entries, {len(proofs)} proofs"


def sign(folder: Path) -> str:
    """Write a checkpoint of theirs with its policy; what was written, in words."""
    log, classical = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public, secret = ML_DSA_44.keygen()
    root = aics_tlog.MerkleTree([b"theirs"]).root()
    head = aics_tlog.Checkpoint(origin="theirs.example/log", size=1, root=root)
    now = int(time.time())
    _, cosigned = aics_tlog.sign_cosignature(classical, "theirs.example/one", now, head.origin, head.size, head.root)
    moment, name = now.to_bytes(8, "big"), "theirs.example/two"
    ident = hashlib.sha256(name.encode() + b"\n\x06" + public).digest()[:4]
    blob = moment + ML_DSA_44.sign(secret, _cosigned_message(name, moment, head))
    third = aics_tlog.SignatureLine(name=name, key_id=ident, signature=blob)
    note = aics_tlog.sign_checkpoint(head, log, head.origin)
    signed = aics_tlog.Note(text=note.text, signatures=(*note.signatures, cosigned, third))
    (folder / "checkpoint").write_bytes(signed.to_bytes())
    vkey = aics_tlog.format_vkey(aics_tlog.vkey_from_ed25519(head.origin, log.public_key().public_bytes_raw()))
    witness = aics_tlog.format_vkey(aics_tlog.cosignature_vkey("theirs.example/one", classical.public_key()))
    quantum = f"{name}+{ident.hex()}+{base64.b64encode(bytes([_TYPE_ML_DSA]) + public).decode()}"
    lines = [f"log {vkey}", f"witness one {witness}", f"witness two {quantum}", "group both all one two", "quorum both"]
    (folder / "policy").write_text("".join(f"{line}\n" for line in lines))
    return "aics-tlog and dilithium-py: signed and cosigned"


def main() -> int:
    """Print what was found, or why it is refused."""
    try:
        act = sign if sys.argv[1] == "--sign" else read
        print(act(Path(sys.argv[-1])))  # noqa: T201 - its output is its result
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises over a tampered log is a refusal
        print(f"refused: {type(error).__name__}: {error}")  # noqa: T201 - its output is its result
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
