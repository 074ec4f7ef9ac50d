"""A small log as an export has it: checkpoint, policy, tiles, bundles and proofs, cosigned by two witnesses."""

import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from operations.canonical import canonical
from storage.verifier.checkpoint import Checkpoint, Note, VerifierKey, sign
from storage.verifier.cosignature import ED25519_V1, ML_DSA_44, CosignerKey, cosign
from storage.verifier.mirror import Mirror, folder
from storage.verifier.policy import Group, Log, Policy, Witness
from storage.verifier.proof import Proof
from storage.verifier.tiles import WIDTH, Growth, bundles_of, encode_bundle
from storage.verifier.tree import inclusion_proof, leaf_hash

ORIGIN: Final = "triad.example/interop"
SIZE: Final = 700
"""Entries in the sample: full and partial tiles of two levels."""


def write_sample(home: Path, size: int = SIZE) -> None:
    """Write a log of `size` entries with fresh keys into an empty folder."""
    entries = [canonical({"index": at, "kind": "sample", "text": "\u00e9" * (at % 9)}) for at in range(size)]
    growth = Growth()
    for tile, data in growth.add(leaf_hash(entry) for entry in entries) + growth.partial():
        _put(home / tile.path, data)
    for tile in bundles_of(size):
        _put(home / tile.path, encode_bundle(entries[tile.number * WIDTH :][: tile.width]))
    key, classical, post_quantum = (
        Ed25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
        MLDSA44PrivateKey.generate(),
    )
    policy = Policy(
        (Log(VerifierKey(ORIGIN, key.public_key().public_bytes_raw())),),
        (
            Witness("one", CosignerKey("witness.example/one", ED25519_V1, classical.public_key().public_bytes_raw())),
            Witness("two", CosignerKey("witness.example/two", ML_DSA_44, post_quantum.public_key().public_bytes_raw())),
        ),
        (Group("both", 2, ("one", "two")),),
        "both",
    )
    text = Checkpoint(ORIGIN, size, growth.root()).text()
    now = int(time.time())
    lines = (
        sign(text, ORIGIN, key),
        cosign(text, "witness.example/one", classical, now),
        cosign(text, "witness.example/two", post_quantum, now),
    )
    note = Note(text, lines).encode()
    policy.require(note, now)
    _put(home / "policy", policy.encode())
    _put(home / "checkpoint", note)
    mirror = Mirror(folder(home), size)
    for at in {0, 1, WIDTH - 1, WIDTH, size // 2, size - 1}:
        if 0 <= at < size:
            proof = Proof(at, tuple(inclusion_proof(at, size, mirror.get_node)), note, entries[at])
            _put(home / "proofs" / f"{at}.tlog-proof", proof.encode())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
