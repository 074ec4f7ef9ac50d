"""The log's own key: signs checkpoints, remembers the last one, and refuses to sign what does not extend it.

Beside the key lies the memory: origin, size and root of the last checkpoint that was committed. The memory on disk may
lag by a moment: an older prefix still catches every fork before it. Whoever can write both files can lie; a witness
elsewhere is what catches that. Which key is in force is what the head of the log says: `sign` is told.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from operations.errors import LedgerCorrupt
from storage.keyring import Keyring, SigningKey, locked, write_atomically
from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import Checkpoint, NoteMalformed, VerifierKey

_PATIENCE: Final = 2.0
"""Seconds that a closing signer waits for another process to have written the memory."""

_PAUSE: Final = 0.01


class Signer:
    """Signs the checkpoints of one log, each an extension of the last.

    `sign` works in memory and is called for each batch inside the transaction; `committed` follows once the
    transaction stands. What was signed and not committed binds nobody: it never left the process.

    Attributes:
        head: the last committed checkpoint that this signer knows of.
    """

    def __init__(
        self, keyring: Keyring, key: SigningKey, head: Checkpoint, memory: Path, *, every: float = 1.0
    ) -> None:
        self.head = head
        self._keyring = keyring
        self._key = key
        self._following: SigningKey | None = None
        self._memory = memory
        self._every = every
        self._written = head
        self._next_write = 0.0
        self._signed: list[Checkpoint] = []

    @classmethod
    def load_or_create(
        cls,
        path: Path,
        name: str,
        *,
        memory: Path | None = None,
        every: float = 1.0,
        current: str | None = None,
        following: str | None = None,
    ) -> Self:
        """The signer whose key lies at `path` or behind a reference; at the first start key and memory are made.

        Args:
            path: the key file.
            name: the log's origin, under which the key signs.
            memory: where the last checkpoint is remembered; beside the key unless told.
            every: seconds between two writes of the memory to disk.
            current: secret reference to the key, where it is no file of Triad's; only the memory is written then.
            following: secret reference to the key that the next rotation takes.

        Raises:
            LedgerUnavailable: the key cannot be read, is readable by others, or belongs to another name.
            LedgerCorrupt: the memory is missing although the key is not, or is unreadable; or the key is missing
                although a log was signed.
        """
        keyring = Keyring(path, name, current=current, following=following)
        memory = memory or memory_path(path)
        if not keyring.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(memory, Checkpoint(name, 0, tree.empty_root()).body(), replace=False)
            if _read_memory(memory, name).size:
                raise LedgerCorrupt(
                    f"{path} is missing, and a log was signed with it. Restore it; see docs/runbooks/log-key.md."
                )
            keyring.make()
        elif current is not None and not memory.exists() and not path.exists() and not keyring.past():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(memory, Checkpoint(name, 0, tree.empty_root()).body(), replace=False)
        key = keyring.first()
        return cls(keyring, key, _read_memory(memory, name), memory, every=every)

    @property
    def key(self) -> VerifierKey:
        """The public half of the key in force, as far as this process has seen the log."""
        return self._key.public

    @property
    def key_id(self) -> str:
        """The log key's id, eight hexadecimal digits: what entries carry."""
        return self._key.id

    @property
    def vkey(self) -> str:
        """The public key as other tools take it."""
        return self.key.text()

    def trusted(self) -> tuple[VerifierKey, ...]:
        """Every key of the log that this home knows by itself, without asking the log.

        Raises:
            LedgerUnavailable: one of them cannot be read.
        """
        return tuple(dict.fromkeys((*self._keyring.known(), self.key)))

    def use(self, identity: str) -> None:
        """Sign with the key of that id from now on: the head of the log names it.

        Raises:
            LedgerUnavailable: this process cannot reach that key.
        """
        if identity == self._key.id:
            return
        if self._following is not None and identity == self._following.id:
            self._key, self._following = self._following, None
        else:
            self._key = self._keyring.find(identity)

    @contextmanager
    def rotating(self) -> Iterator[None]:
        """Hold the lock of this home's rotations; see `prepare` and `finish`.

        Raises:
            Conflict: `rotation-under-way`.
            LedgerUnavailable: the lock cannot be made.
        """
        with self._keyring.rotating():
            try:
                yield
            finally:
                self._following = None

    def prepare(self) -> VerifierKey:
        """Have the next key ready, so that the batch that names it can be signed by both.

        Raises:
            Conflict: `no-next-key`.
            LedgerUnavailable: it cannot be made.
        """
        self._following = self._keyring.following(self._key)
        return self._following.public

    def finish(self, previous: VerifierKey | None = None) -> None:
        """Put the key in force in its place and destroy the one before. `previous`: after a rotation that stands.

        Raises:
            OSError: a file cannot be written.
        """
        self._keyring.install(self._key, previous=previous)

    def unfinished(self) -> bool:
        """Whether a rotation that stands left files behind."""
        return self._keyring.unfinished(self._key)

    def sign(
        self, size: int, root: bytes, *, after: tuple[int, bytes], key: str | None = None, following: str | None = None
    ) -> bytes:
        """The signed note of the checkpoint `(size, root)`.

        Args:
            size: number of leaves.
            root: their root.
            after: size and root of the head that the batch was appended to. Whoever calls appended to exactly that
                tree, so the new one extends it.
            key: id of the key in force at that head; None: at the empty one.
            following: id of the key that the batch names as the next one; it signs too.

        Raises:
            LedgerCorrupt: `after` is neither the last committed checkpoint nor the last signed one, or the new one
                is smaller. If another process moved the head, prove it with `check_extends` first.
            LedgerUnavailable: one of the keys cannot be reached.
        """
        known = [(self.head.size, self.head.root), *((each.size, each.root) for each in self._signed)]
        if after not in known:
            self._refuse(*after)
        if size < after[0] or (size == after[0] and root != after[1]):
            raise LedgerCorrupt(f"a checkpoint of {size} entries does not extend one of {after[0]}")
        if key is not None:
            self.use(key)
        second = None
        if following is not None:
            second = self._following if self._following and self._following.id == following else None
            second = second or self._keyring.find(following)
        signed = Checkpoint(self.head.origin, size, root)
        self._signed[known.index(after) :] = [signed]  # what was signed upon the same head before cannot stand any more
        return self._sign(signed, second)

    def sign_checkpoint(self, head: Checkpoint) -> bytes:
        """The signed note of a checkpoint of this log, which must not fall behind what is remembered.

        Raises:
            LedgerCorrupt: another origin, fewer entries than remembered, or as many with another root.
        """
        return self._sign(head, None)

    def _sign(self, head: Checkpoint, second: SigningKey | None) -> bytes:
        if head.origin != self.head.origin:
            raise LedgerCorrupt(f"this key signs for {self.head.origin}, not for {head.origin}")
        if head.size < self.head.size or (head.size == self.head.size and head.root != self.head.root):
            self._refuse(head.size, head.root)
        text = head.text()
        body = text.encode()
        signatures = (self._key.sign(body), *((second.sign(body),) if second is not None else ()))
        return checkpoint.Note(text, signatures).encode()

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
            LedgerCorrupt: it was not signed, or something else was signed in its place since.
        """
        for number, signed in enumerate(self._signed):
            if (signed.size, signed.root) == (size, root):
                following = self._signed[number + 1 :]
                self._remember(signed)
                self._signed = following
                return
        raise LedgerCorrupt("only a checkpoint that was last signed can be committed")

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

    def follow(self, base: tree.Frontier, leaves: Sequence[bytes], size: int, root: bytes) -> None:
        """Prove by the leaf hashes between that a found head extends what is remembered, and remember it.

        Args:
            base: the right edge of the tree that is remembered.
            leaves: the leaf hashes that were added to it.
            size: the found head's size.
            root: its root.

        Raises:
            LedgerCorrupt: the log shrank, or forked.
        """
        if size < self.head.size:
            self._refuse(size, root)
        grown, _ = base.extend(leaves)
        known = (base.size, base.root()) == (self.head.size, self.head.root)
        if not known or (grown.size, grown.root()) != (size, root):
            raise LedgerCorrupt(f"the log forked: its {size} entries do not begin with the {self.head.size} signed for")
        self._remember(Checkpoint(self.head.origin, size, root))

    def _remember(self, head: Checkpoint) -> None:
        self.head = head
        self._signed = []
        if time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Write the memory to disk now, unless the disk already remembers a larger log or another process is writing.

        Raises:
            LedgerCorrupt: the disk remembers as many entries with another root, or is unreadable.
            OSError: it cannot be written.
        """
        self._flush()

    def _flush(self) -> bool:
        self._next_write = time.monotonic() + self._every
        if self.head == self._written:
            return True
        lock = locked(self._memory.with_name(f"{self._memory.name}.lock"))
        if lock is None:
            return False
        try:
            kept = _read_memory(self._memory, self.head.origin)
            if kept.size == self.head.size and kept.root != self.head.root:
                raise LedgerCorrupt(f"{self._memory} remembers {kept.size} entries with another root")
            if kept.size < self.head.size:
                write_atomically(self._memory, self.head.body(), replace=True)
        finally:
            os.close(lock)
        self._written = self.head
        return True

    def close(self) -> None:
        """Write what is not on disk yet. Gives up after a moment while another process keeps the memory locked."""
        deadline = time.monotonic() + _PATIENCE
        while not self._flush() and time.monotonic() < deadline:
            time.sleep(_PAUSE)


def memory_path(key: Path) -> Path:
    """Where the memory of the key at that path lies unless told otherwise."""
    return key.with_name(f"{key.name}.head")


def adopt(path: Path, head: Checkpoint) -> None:
    """Set a signer's memory on purpose: for a key that came from elsewhere without it.

    `head` should be a checkpoint that somebody else kept (a witness, an export): the store itself cannot tell
    whether it was rolled back.
    """
    write_atomically(path, head.body(), replace=True)


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
