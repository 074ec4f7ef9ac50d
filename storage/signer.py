"""The log's own key: signs checkpoints, remembers the last one, and refuses to sign what does not extend it.

The key is a file of mode 0600 (or a mounted secret), made at the first start. Beside it lies the memory: origin, size
and root of the last checkpoint that was committed. The memory on disk may lag by a moment: an older prefix still
catches every fork before it. Whoever can write both files can lie; a witness elsewhere is what catches that.
"""

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations.errors import LedgerCorrupt, LedgerUnavailable
from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, VerifierKey

_PRIVATE: Final = "PRIVATE+KEY+"
_OTHERS: Final = 0o077


def _write_atomically(path: Path, data: bytes, *, replace: bool) -> None:
    """Write a file of mode 0600 that is there whole or not at all; without `replace` an existing one stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_private(path: Path, name: str) -> Ed25519PrivateKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & _OTHERS:
                raise LedgerUnavailable(f"{path} has mode {mode:04o}: others could read the key. Run: chmod 600 {path}")
            text = file.read(4096).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerUnavailable(f"the log's key {path} cannot be read: {error}") from error
    try:
        if not text.startswith(_PRIVATE):
            raise NoteMalformed("no private key")
        _, stated, encoded = text.removeprefix(_PRIVATE).split("+", 2)
        seed = checkpoint.decode_base64(encoded)
        private = Ed25519PrivateKey.from_private_bytes(seed.removeprefix(checkpoint.ED25519))
        expected = _private_text(name, private)
    except ValueError as error:
        raise LedgerUnavailable(f"{path} is not a key of this log") from error
    if not secrets.compare_digest(text, expected):
        raise LedgerUnavailable(f"{path} is a key of another name than {name}, or its key id {stated} is wrong")
    return private


def _private_text(name: str, private: Ed25519PrivateKey) -> str:
    identity = checkpoint.key_id(name, private.public_key().public_bytes_raw()).hex()
    return f"{_PRIVATE}{name}+{identity}+{checkpoint.encode_base64(checkpoint.ED25519 + private.private_bytes_raw())}"


class Signer:
    """Signs the checkpoints of one log, each an extension of the last.

    `sign` works in memory and is called for each batch inside the transaction; `committed` follows once the
    transaction stands. What was signed and not committed binds nobody: it never left the process.

    Attributes:
        key: the public half and the name it signs under, which is the log's origin.
        head: the last committed checkpoint that this signer knows of.
    """

    def __init__(self, private: Ed25519PrivateKey, head: Checkpoint, memory: Path, *, every: float = 1.0) -> None:
        self.key = VerifierKey(head.origin, private.public_key().public_bytes_raw())
        self.head = head
        self._private = private
        self._identity = self.key.key_id
        self._memory = memory
        self._every = every
        self._written = head
        self._next_write = 0.0
        self._signed: Checkpoint | None = None

    @classmethod
    def load_or_create(cls, path: Path, name: str, *, memory: Path | None = None, every: float = 1.0) -> Self:
        """The signer whose key lies at `path`; at the first start key and memory are made.

        Args:
            path: the key file.
            name: the log's origin, under which the key signs.
            memory: where the last checkpoint is remembered; beside the key unless told.
            every: seconds between two writes of the memory to disk.

        Raises:
            LedgerUnavailable: the key cannot be read, is readable by others, or belongs to another name.
            LedgerCorrupt: the memory is missing although the key is not, or is unreadable.
        """
        checkpoint.check_name(name)
        memory = memory or memory_path(path)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_atomically(memory, Checkpoint(name, 0, tree.empty_root()).body(), replace=False)
            _write_atomically(path, _private_text(name, Ed25519PrivateKey.generate()).encode() + b"\n", replace=False)
        private = _read_private(path, name)
        return cls(private, _read_memory(memory, name), memory, every=every)

    @property
    def key_id(self) -> str:
        """The log key's id, eight hexadecimal digits: what entries carry."""
        return self.key.key_id.hex()

    @property
    def vkey(self) -> str:
        """The public key as other tools take it."""
        return self.key.text()

    def sign(self, size: int, root: bytes, *, after: tuple[int, bytes]) -> bytes:
        """The signed note of the checkpoint `(size, root)`.

        Args:
            size: number of leaves.
            root: their root.
            after: size and root of the head that the batch was appended to. Whoever calls appended to exactly that
                tree, so the new one extends it.

        Raises:
            LedgerCorrupt: `after` is neither the last committed checkpoint nor the last signed one, or the new one
                is smaller. If another process moved the head, prove it with `check_extends` first.
        """
        known = {(self.head.size, self.head.root)}
        if self._signed is not None:
            known.add((self._signed.size, self._signed.root))
        if after not in known:
            self._refuse(*after)
        if size < after[0] or (size == after[0] and root != after[1]):
            raise LedgerCorrupt(f"a checkpoint of {size} entries does not extend one of {after[0]}")
        self._signed = Checkpoint(self.head.origin, size, root)
        return self.sign_checkpoint(self._signed)

    def sign_checkpoint(self, head: Checkpoint) -> bytes:
        """The signed note of a checkpoint of this log, which must not fall behind what is remembered.

        Raises:
            LedgerCorrupt: another origin, fewer entries than remembered, or as many with another root.
        """
        if head.origin != self.head.origin:
            raise LedgerCorrupt(f"this key signs for {self.head.origin}, not for {head.origin}")
        if head.size < self.head.size or (head.size == self.head.size and head.root != self.head.root):
            self._refuse(head.size, head.root)
        text = head.text()
        signature = checkpoint.Signature(self.key.name, self._identity, self._private.sign(text.encode()))
        return checkpoint.Note(text, (signature,)).encode()

    def _refuse(self, size: int, root: bytes) -> None:
        if size < self.head.size:
            raise LedgerCorrupt(f"the log shrank: {size} entries, and {self.head.size} were signed for")
        if size == self.head.size and root != self.head.root:
            raise LedgerCorrupt(f"the log forked: {size} entries with another root than the one signed for")
        if size > self.head.size:
            raise LedgerCorrupt(f"nothing proves that the log of {size} entries extends that of {self.head.size}")

    def committed(self, size: int, root: bytes) -> None:
        """Remember that the checkpoint last signed was committed; written to disk at most every `every` seconds.

        Raises:
            LedgerCorrupt: it is not the checkpoint last signed.
        """
        if self._signed is None or (self._signed.size, self._signed.root) != (size, root):
            raise LedgerCorrupt("only the checkpoint that was last signed can be committed")
        self._remember(self._signed)

    def check_extends(self, size: int, root: bytes, proof: Sequence[bytes]) -> None:
        """Prove that a head found in the store extends what is remembered, and remember it.

        Asked when a ledger is opened, and whenever another process has moved the head.

        Args:
            size: the found head's size.
            root: its root.
            proof: the consistency proof from `head.size` to `size`, made from the stored nodes.

        Raises:
            LedgerCorrupt: the log shrank, forked, or the proof does not hold.
        """
        if size < self.head.size:
            self._refuse(size, root)
        if not tree.verify_consistency(self.head.size, self.head.root, size, root, proof):
            raise LedgerCorrupt(f"the log forked: its {size} entries do not begin with the {self.head.size} signed for")
        self._remember(Checkpoint(self.head.origin, size, root))

    def _remember(self, head: Checkpoint) -> None:
        self.head = head
        self._signed = None
        if time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Write the memory to disk now, unless the disk already remembers a larger log."""
        self._next_write = time.monotonic() + self._every
        if self.head == self._written:
            return
        if _read_memory(self._memory, self.head.origin).size < self.head.size:
            _write_atomically(self._memory, self.head.body(), replace=True)
        self._written = self.head

    def close(self) -> None:
        """Write what is not on disk yet."""
        self.flush()


def memory_path(key: Path) -> Path:
    """Where the memory of the key at that path lies unless told otherwise."""
    return key.with_name(f"{key.name}.head")


def adopt(path: Path, head: Checkpoint) -> None:
    """Set a signer's memory on purpose: for a key that came from elsewhere without it.

    `head` should be a checkpoint that somebody else kept (a witness, an export): the store itself cannot tell
    whether it was rolled back.
    """
    _write_atomically(path, head.body(), replace=True)


def _read_memory(path: Path, name: str) -> Checkpoint:
    try:
        head = Checkpoint.parse(path.read_bytes()[:4096].decode())
    except FileNotFoundError as error:
        raise LedgerCorrupt(
            f"{path} is missing although the log's key is there: it cannot be known whether the log was rolled back. "
            "Restore it from a backup of the home; an older one will do."
        ) from error
    except (OSError, UnicodeDecodeError, NoteMalformed) as error:
        raise LedgerCorrupt(f"{path} does not hold a checkpoint: {error}") from error
    if head.origin != name:
        raise LedgerCorrupt(f"{path} remembers the log {head.origin}, not {name}")
    return head
