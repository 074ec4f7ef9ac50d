"""Cosignatures of witnesses: timestamped Ed25519 and ML-DSA-44 signatures over checkpoints (C2SP tlog-cosignature).

Standard library and `cryptography` only; where that is too old for ML-DSA-44 everything else still works.
Source: https://c2sp.org/tlog-cosignature.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .checkpoint import (
    Checkpoint,
    NoteMalformed,
    NoteUnverified,
    Signature,
    check_name,
    decode_vkey,
    encode_vkey,
    key_id,
)
from .tree import empty_root

try:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

    HAS_ML_DSA = True
except ImportError:  # an older release: cosignatures of type 0x06 are then refused with that reason
    HAS_ML_DSA = False

ED25519_V1: Final = b"\x04"
"""The signature type of timestamped Ed25519 cosignatures (`cosignature/v1`)."""

ML_DSA_44: Final = b"\x06"
"""The signature type of ML-DSA-44 cosignatures (`subtree/v1`)."""

MAX_TIME: Final = 2**63 - 1
"""Latest time in seconds since 1970 that a cosignature may state."""

_PUBLIC_SIZES: Final = {ED25519_V1: 32, ML_DSA_44: 1312}
_SIGNATURE_SIZES: Final = {ED25519_V1: 64, ML_DSA_44: 2420}
_LONGEST_NAME: Final = 255
_TIME: Final = struct.Struct(">Q")


class AlgorithmMissing(NoteUnverified):
    """The installed `cryptography` cannot verify or make ML-DSA-44 signatures."""

    def __init__(self) -> None:
        super().__init__("the installed `cryptography` is too old for ML-DSA-44, or was built without it")


def ed25519_message(text: str, time: int) -> bytes:
    """What an Ed25519 cosigner signs: two lines, then the checkpoint's text with its extension lines."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def ml_dsa_message(name: str, origin: str, size: int, root: bytes, time: int) -> bytes:
    """What an ML-DSA-44 cosigner signs: the structure `cosigned_message` for the whole tree of `size` leaves.

    Raises:
        NoteMalformed: name or origin has more than 255 bytes, or the tree is empty and its root is not.
    """
    if size == 0 and root != empty_root():
        raise NoteMalformed("the empty tree has another root")
    parts = [b"subtree/v1\n\0", _prefixed(name), _TIME.pack(time), _prefixed(origin)]
    return b"".join((*parts, struct.pack(">QQ", 0, size), root))


def _prefixed(text: str) -> bytes:
    data = text.encode()
    if not 1 <= len(data) <= _LONGEST_NAME:
        raise NoteMalformed(f"a cosigner's name and a log's origin have from 1 to {_LONGEST_NAME} bytes")
    return bytes((len(data),)) + data


def _message(kind: bytes, name: str, text: str, time: int) -> bytes:
    """What is signed over a checkpoint's text.

    Raises:
        NoteMalformed: no checkpoint, or one with extension lines that an ML-DSA-44 cosignature would not cover.
    """
    head = Checkpoint.parse(text)
    if kind == ED25519_V1:
        return ed25519_message(text, time)
    if head.extensions:
        raise NoteMalformed("an ML-DSA-44 cosignature does not cover the checkpoint's extension lines")
    return ml_dsa_message(name, head.origin, head.size, head.root, time)


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """A witness's public key and the name it cosigns under; its text is the `vkey` that other tools take.

    Attributes:
        name: the key name.
        kind: the signature type: `ED25519_V1` or `ML_DSA_44`.
        public: the public key: 32 or 1,312 bytes.
    """

    name: str
    kind: bytes
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in _PUBLIC_SIZES:
            raise NoteMalformed("a cosigner's key is of type 0x04 or 0x06")
        if len(self.public) != _PUBLIC_SIZES[self.kind]:
            raise NoteMalformed(f"a public key of this type has {_PUBLIC_SIZES[self.kind]} bytes")
        if self.kind == ML_DSA_44:
            _prefixed(self.name)

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key beside its name."""
        return key_id(self.name, self.public, self.kind)

    def text(self) -> str:
        """`name+key id in hexadecimal+base64(signature type || public key)`."""
        return encode_vkey(self.name, self.public, self.kind)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `text` spells.

        Raises:
            NoteMalformed: not a vkey, not of type 0x04 or 0x06, or a key id that is not this key's.
        """
        return cls(*decode_vkey(text))

    def verify(self, signature: Signature, text: str) -> int:
        """The time that a cosignature states, in seconds since 1970, once it is verified over a checkpoint's text.

        An ML-DSA-44 cosignature of time 0 states none.

        Raises:
            NoteUnverified: it is not this key's over this text. `AlgorithmMissing` where that cannot be known.
        """
        if (signature.name, signature.key_id) != (self.name, self.key_id):
            raise NoteUnverified(f"the cosignature is not one of {self.name}")
        if not self.verifies(signature.signature, text.encode()):
            raise NoteUnverified(f"the cosignature of {self.name} does not verify")
        return stated_time(signature)

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether `signature`, a time and the signature proper, is this key's over a checkpoint's text.

        Raises:
            AlgorithmMissing: it is an ML-DSA-44 one, and `cryptography` has no ML-DSA-44.
        """
        if len(signature) != _TIME.size + _SIGNATURE_SIZES[self.kind]:
            return False
        (time,) = _TIME.unpack_from(signature)
        if time > MAX_TIME:
            return False
        try:
            message = _message(self.kind, self.name, text.decode(), time)
        except ValueError:
            return False
        return self._verifies(signature[_TIME.size :], message)

    def _verifies(self, signature: bytes, message: bytes) -> bool:
        if self.kind == ML_DSA_44 and not HAS_ML_DSA:
            raise AlgorithmMissing
        try:
            if self.kind == ED25519_V1:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
            else:
                MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, message)
        except UnsupportedAlgorithm:
            raise AlgorithmMissing from None
        except (InvalidSignature, ValueError):
            return False
        return True


def stated_time(signature: Signature) -> int:
    """The time that a cosignature states, in seconds since 1970; believe it only once the cosignature is verified.

    Raises:
        NoteMalformed: too short to state one, or later than 2^63-1.
    """
    if len(signature.signature) < _TIME.size:
        raise NoteMalformed("a cosignature begins with its time")
    (time,) = _TIME.unpack_from(signature.signature)
    if time > MAX_TIME:
        raise NoteMalformed("a cosignature's time is at most 2^63-1")
    return int(time)


def cosign(text: str, name: str, private: "Ed25519PrivateKey | MLDSA44PrivateKey", time: int) -> Signature:
    """Cosign a checkpoint.

    Args:
        text: the checkpoint's text, ending in a line break.
        name: the cosigner's name.
        private: its Ed25519 or ML-DSA-44 key; the kind of signature follows from it.
        time: now, in seconds since 1970.

    Raises:
        NoteMalformed: the text is no checkpoint, or has extension lines that an ML-DSA-44 key would not cover.
        ValueError: the time is out of bounds.
    """
    if not 0 <= time <= MAX_TIME:
        raise ValueError(f"a cosignature's time is from 0 to {MAX_TIME}")
    kind = ED25519_V1 if isinstance(private, Ed25519PrivateKey) else ML_DSA_44
    key = CosignerKey(name, kind, private.public_key().public_bytes_raw())
    signed = private.sign(_message(kind, name, text, time))
    return Signature(name, key.key_id, _TIME.pack(time) + signed)
