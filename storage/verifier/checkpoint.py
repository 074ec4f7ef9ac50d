"""Checkpoints as the world reads them: C2SP signed-note and tlog-checkpoint, with the log's Ed25519 keys.

Standard library and `cryptography` only. Nothing is lenient: base64 must be what encoding its own bytes gives,
sizes are bounded, a failing signature of a known key rejects the whole note, an unknown one is ignored.
Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .tree import HASH_SIZE

ED25519: Final = b"\x01"
"""The signature type identifier byte of plain Ed25519 signatures."""

MAX_NOTE: Final = 256 * 1024
"""Longest note in bytes that is read: `MAX_SIGNATURES` post-quantum signatures of some 3.3 KB fit."""

MAX_SIGNATURES: Final = 64
"""Most signatures that a note may carry; the specification asks for at least 16."""

MAX_SIZE: Final = 2**63 - 1
"""Largest tree size that a checkpoint may state."""

_PRIME: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)
"""The y-coordinates of the points of order 1, 2, 4 and 8: under such a key anybody can sign (RFC 8032, section 5.1)."""

_KEY_ID_SIZE: Final = 4
_PUBLIC_SIZE: Final = 32
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_MARK: Final = "— "


class NoteMalformed(ValueError):
    """These bytes are not a signed note, a key or a checkpoint."""


class NoteUnverified(ValueError):
    """No known key signed this note, or the signature of a known key does not verify."""


def decode_base64(text: str) -> bytes:
    """The bytes behind standard base64 (RFC 4648, section 4), of which there is exactly one spelling.

    Raises:
        NoteMalformed: anything but the encoding of the decoded bytes.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise NoteMalformed("not base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise NoteMalformed("not canonical base64")
    return data


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def check_name(name: str) -> str:
    """The key name itself.

    Raises:
        NoteMalformed: it is empty or contains a space, a plus sign, a control character or half of a surrogate pair.
    """
    if not name or "+" in name or any(char.isspace() or char < " " or "\ud800" <= char <= "\udfff" for char in name):
        raise NoteMalformed("a key name is not empty and has no space, plus sign or control character")
    return name


def key_id(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """SHA-256(name || 0x0A || signature type || public key), its first four bytes."""
    return sha256(name.encode() + b"\n" + kind + public).digest()[:_KEY_ID_SIZE]


def encode_vkey(name: str, public: bytes, kind: bytes = ED25519) -> str:
    """`name+key id in hexadecimal+base64(signature type || public key)`: a key as other tools take it."""
    return f"{name}+{key_id(name, public, kind).hex()}+{encode_base64(kind + public)}"


def decode_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Name, signature type and public key of a vkey, whose key id is found to be theirs.

    Raises:
        NoteMalformed: not a vkey, a key id that is not this key's, or an Ed25519 key under which anybody can sign.
    """
    name, _, rest = text.partition("+")
    stated, _, encoded = rest.partition("+")
    data = decode_base64(encoded)
    kind, public = data[:1], data[1:]
    if len(public) == _PUBLIC_SIZE:
        _check_point(public)
    if key_id(check_name(name), public, kind).hex() != stated:
        raise NoteMalformed("the key id does not belong to this key")
    return name, kind, public


def _check_point(public: bytes) -> None:
    """Refuse a second spelling of a key, and the few keys that are nobody's."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        raise NoteMalformed("the public key is one of the few under which anybody can sign, or not canonical")


class NoteKey(Protocol):
    """A key that signatures of notes are verified with."""

    @property
    def name(self) -> str:
        """The key name."""
        ...

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key beside its name."""
        ...

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether `signature`, without its key id, is this key's over the note's text."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line as it stands in a note."""
        return f"{_MARK}{self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Somebody's Ed25519 key and the name it signs under; its text is the `vkey` that other tools take.

    Attributes:
        name: the key name.
        public: the 32 bytes of the public key.
    """

    name: str
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != _PUBLIC_SIZE:
            raise NoteMalformed("an Ed25519 public key has 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key beside its name."""
        return key_id(self.name, self.public)

    def text(self) -> str:
        """`name+key id in hexadecimal+base64(0x01 || public key)`."""
        return encode_vkey(self.name, self.public)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `text` spells.

        Raises:
            NoteMalformed: not a vkey, another algorithm than Ed25519, or a key id that is not this key's.
        """
        name, kind, public = decode_vkey(text)
        if kind != ED25519:
            raise NoteMalformed("only Ed25519 keys are known here")
        return cls(name, public)

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether `signature` is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Note:
    """A text ending in a line break, and signatures over it."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()


def parse_note(data: bytes) -> Note:
    """Read a signed note; nothing in it is verified yet.

    Raises:
        NoteMalformed: not in the format, or beyond the bounds of this module.
    """
    if len(data) > MAX_NOTE:
        raise NoteMalformed("the note is too long")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise NoteMalformed("the note is not UTF-8") from error
    if any(char < " " and char != "\n" for char in whole):
        raise NoteMalformed("the note has a control character")
    body, blank, block = whole.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise NoteMalformed("the note has no signatures")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteMalformed("the note has too many signatures")
    return Note(body + "\n", tuple(_parse_signature(line) for line in lines))


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_MARK):
        raise NoteMalformed("a signature line begins with an em dash and a space")
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    data = decode_base64(encoded)
    if len(data) <= _KEY_ID_SIZE:
        raise NoteMalformed("a signature is longer than its key id")
    return Signature(check_name(name), data[:_KEY_ID_SIZE], data[_KEY_ID_SIZE:])


def verify_note(data: bytes, *keys: NoteKey) -> Note:
    """The note with the signatures of known keys only, each of them verified and none there twice.

    Several signatures of one key must all verify; those that differ are all kept, in the order of the note.

    Raises:
        NoteMalformed: not in the format, or two of the keys share name and id.
        NoteUnverified: a known key's signature does not verify, or no known key signed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(keys):
        raise NoteMalformed("two known keys share name and id")
    note = parse_note(data)
    text = note.text.encode()
    verified: dict[Signature, None] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None or signature in verified:
            continue
        if not key.verifies(signature.signature, text):
            raise NoteUnverified(f"the signature of {key.name} does not verify")
        verified[signature] = None
    if not verified:
        raise NoteUnverified("no known key signed this note")
    return Note(note.text, tuple(verified))


def sign(text: str, name: str, private: Ed25519PrivateKey) -> Signature:
    """Sign a note's text, which ends in a line break, under a key name."""
    public = private.public_key().public_bytes_raw()
    return Signature(check_name(name), key_id(name, public), private.sign(text.encode()))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: which log, how many leaves, their root.

    Attributes:
        origin: the log's identity, its first line.
        size: number of leaves.
        root: the 32 bytes of the root.
        extensions: further lines, opaque; Triad writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if any(not line or any(char < " " for char in line) for line in lines):
            raise NoteMalformed("a checkpoint's lines are not empty and have no control character")
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteMalformed("the tree size is out of bounds")
        if len(self.root) != HASH_SIZE:
            raise NoteMalformed("the root is a SHA-256")

    def body(self) -> bytes:
        """The note text that is signed."""
        return self.text().encode()

    def text(self) -> str:
        """The note text as a string."""
        return "\n".join((self.origin, str(self.size), encode_base64(self.root), *self.extensions, ""))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The checkpoint that a note's text states.

        Raises:
            NoteMalformed: not a tlog-checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():  # noqa: PLR2004 - three lines and the end of the third
            raise NoteMalformed("a checkpoint has at least three lines, each ended by a line break")
        origin, size, root, *extensions = lines
        if not _DECIMAL.fullmatch(size):
            raise NoteMalformed("the tree size is not a decimal number without leading zeroes")
        return cls(origin, int(size), decode_base64(root), tuple(extensions))


def cosigned(data: bytes, signatures: Iterable[Signature]) -> bytes:
    """The note with more signature lines after those it has; one of the same name and key id takes the old one's place.

    Raises:
        NoteMalformed: `data` is no note, or would have more signatures than `MAX_SIGNATURES`.
    """
    note = parse_note(data)
    lines = {(each.name, each.key_id): each for each in note.signatures}
    lines.update({(each.name, each.key_id): each for each in signatures})
    if len(lines) > MAX_SIGNATURES:
        raise NoteMalformed("the note would have too many signatures")
    return Note(note.text, tuple(lines.values())).encode()
