"""Where the log's private keys lie: the key in force, the one that follows it, and how one takes the other's place.

A key is a file of mode 0600 that Triad makes, or a secret reference that Triad only reads. Which of several keys is in
force is never decided here: the head of the stored log says it. So a rotation may be cut off at any moment; whoever
opens the log next finds the key that the head names, and finishes what is unfinished.

Files beside `ledger.key`: `.next-ID` made for a rotation and perhaps never used, `.retired-ID` about to be destroyed,
`.history` the public keys that were in force before, `.rotating.lock` the lock of who rotates.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations.errors import Conflict, LedgerUnavailable, NotFound
from operations.systems import resolve_secret
from storage.verifier import checkpoint
from storage.verifier.checkpoint import NoteMalformed, Signature, VerifierKey

_PRIVATE: Final = "PRIVATE+KEY+"
_OTHERS: Final = 0o077
_LONGEST: Final = 4096


class KeyExposed(LedgerUnavailable):
    """Others than its owner can read the key's file, so it is not used."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of the log and its public half.

    Attributes:
        public: what verifies its signatures; its name is the log's origin.
        id: the key's id, eight hexadecimal digits.
    """

    public: VerifierKey
    id: str
    _private: Ed25519PrivateKey = field(repr=False)
    _identity: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey) -> "SigningKey":
        """The key that signs as `name`."""
        public = VerifierKey(name, private.public_key().public_bytes_raw())
        return cls(public, public.key_id.hex(), private, public.key_id)

    @classmethod
    def parse(cls, name: str, text: str, place: str) -> "SigningKey":
        """The key that `text`, found at `place`, spells: `PRIVATE+KEY+name+id+base64`.

        Raises:
            LedgerUnavailable: it spells none, or one of another name. The text is never shown.
        """
        text = text.strip()
        try:
            if not text.startswith(_PRIVATE):
                raise NoteMalformed("no private key")
            _, _, encoded = text.removeprefix(_PRIVATE).split("+", 2)
            seed = checkpoint.decode_base64(encoded)
            key = cls.of(name, Ed25519PrivateKey.from_private_bytes(seed.removeprefix(checkpoint.ED25519)))
            expected = key.text()
        except ValueError as error:
            raise LedgerUnavailable(f"{place} is not a key of this log") from error
        if not secrets.compare_digest(text.encode(), expected.encode()):
            raise LedgerUnavailable(f"{place} is a key of another name than {name}, or its key id is wrong")
        return key

    def text(self) -> str:
        """The private key as it lies in a file: a secret."""
        seed = checkpoint.encode_base64(checkpoint.ED25519 + self._private.private_bytes_raw())
        return f"{_PRIVATE}{self.public.name}+{self.id}+{seed}"

    def sign(self, text: bytes) -> Signature:
        """Its signature line over a note's text."""
        return Signature(self.public.name, self._identity, self._private.sign(text))


class Keyring:
    """The keys of one log that this process can reach.

    Args:
        path: the key file, and the beginning of the names of the files beside it.
        name: the log's origin, under which every key signs.
        current: reference to the key in force; None: the file.
        following: reference to the key that the next rotation takes; None: one is made beside the file.
    """

    def __init__(self, path: Path, name: str, *, current: str | None = None, following: str | None = None) -> None:
        self.path = path
        self.name = checkpoint.check_name(name)
        self._current = current
        self._following = following

    def exists(self) -> bool:
        """Whether there is a key to begin with."""
        return self._current is not None or self.path.exists() or self._referred(self._following) is not None

    def make(self) -> None:
        """Make the first key; one that is there stays."""
        key = SigningKey.of(self.name, Ed25519PrivateKey.generate())
        write_atomically(self.path, key.text().encode() + b"\n", replace=False)

    def first(self) -> SigningKey:
        """The key that is in force as far as can be told without the log.

        Raises:
            LedgerUnavailable: it cannot be read, is readable by others, or belongs to another name.
        """
        if self._current is not None:
            key = self._referred(self._current)
            if key is None:
                raise LedgerUnavailable("the log's key cannot be read where the setting ledger.key refers to")
            return key
        if not self.path.exists() and (key := self._referred(self._following)) is not None:
            return key
        return self._read(self.path)

    def find(self, identity: str) -> SigningKey:
        """The key with that id, which the head of the log names.

        Raises:
            LedgerUnavailable: no key here has that id.
        """
        for _attempt in range(2):  # another process may be moving the file into place
            for path in (self.path, self._next(identity)):
                with contextlib.suppress(FileNotFoundError):
                    key = self._opened(path)
                    if key.id == identity:
                        return key
        for reference in (self._current, self._following):
            referred = self._referred(reference)
            if referred is not None and referred.id == identity:
                return referred
        raise LedgerUnavailable(
            f"the log signs with the key {identity}, and no key here is that one: {self.path} was restored from before "
            "a rotation, or the rotation was done elsewhere. See docs/runbooks/log-key.md."
        )

    def following(self, previous: SigningKey) -> SigningKey:
        """The key that is to follow `previous`: what the reference names, or a new file.

        Raises:
            Conflict: `no-next-key`: keys are references, and none names another key than the one in force.
            LedgerUnavailable: the new file cannot be written.
        """
        if self._following is not None or self._current is not None:
            for reference in (self._following, self._current):
                key = self._referred(reference)
                if key is not None and key.id != previous.id:
                    return key
            raise Conflict(
                "no-next-key",
                "The log's key is a secret reference, and no setting names another key. "
                "Let `ledger.next_key` refer to the new one.",
                field="ledger.next_key",
            )
        key = SigningKey.of(self.name, Ed25519PrivateKey.generate())
        try:
            write_atomically(self._next(key.id), key.text().encode() + b"\n", replace=False)
        except OSError as error:
            raise LedgerUnavailable(f"the next key cannot be written: {error}") from error
        return key

    def install(self, key: SigningKey, *, previous: VerifierKey | None = None) -> None:
        """Put the key in force in its place and destroy the private half of the one before; repeating is harmless.

        The lock is held meanwhile. A file made for a rotation that was cut off is destroyed only with `previous`, after
        a rotation that stands: before that, nobody can tell whether the log will name it.

        Args:
            key: what the head of the log names.
            previous: the key that it has just followed.

        Raises:
            OSError: a file cannot be written.
        """
        if previous is not None:
            self._note(previous)
        old = self._read(self.path) if self.path.exists() else None
        if old is not None and old.id != key.id:
            self._note(old.public)
            retired = self._beside(f"retired-{old.id}")
            try:
                retired.hardlink_to(self.path)
            except FileExistsError:
                if not retired.samefile(self.path):
                    raise
            if self._next(key.id).exists():
                self._next(key.id).replace(self.path)
            else:
                self.path.unlink()  # the new key is a reference
            sync_folder(self.path.parent)
        doomed = self._all("retired-")
        if previous is not None:
            doomed += [*self._all("next-"), *self._all("next-", draft=True)]
        for path in doomed:
            _destroy(path)
        if doomed:
            sync_folder(self.path.parent)

    def unfinished(self, key: SigningKey) -> bool:
        """Whether a rotation to `key` left something to do."""
        if any(self._all("retired-")):
            return True
        with contextlib.suppress(FileNotFoundError):
            return self._opened(self.path).id != key.id
        return False

    @contextlib.contextmanager
    def rotating(self) -> Iterator[None]:
        """Hold the lock of this home's rotations.

        Raises:
            Conflict: `rotation-under-way`: another process holds it.
            LedgerUnavailable: the lock cannot be made.
        """
        try:
            lock = locked(self._beside("rotating.lock"))
        except OSError as error:
            raise LedgerUnavailable(f"the lock of rotations cannot be made: {error}") from error
        if lock is None:
            raise Conflict("rotation-under-way", "The log's key is being rotated already.")
        try:
            yield
        finally:
            os.close(lock)

    def past(self) -> tuple[VerifierKey, ...]:
        """The public keys that were in force before, oldest first, as far as this home knows.

        Raises:
            LedgerUnavailable: the history cannot be read.
        """
        try:
            lines = self._history.read_text().splitlines()
            return tuple(dict.fromkeys(VerifierKey.parse(line) for line in lines))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise LedgerUnavailable(f"{self._history} cannot be read: {error}") from error

    def known(self) -> tuple[VerifierKey, ...]:
        """The public half of every key of the log that this home knows, those of a rotation under way last.

        Raises:
            LedgerUnavailable: a key or the history cannot be read.
        """
        under_way = [self._read(path).public for path in self._all("next-")]
        referred = [key.public for key in (self._referred(self._following),) if key is not None]
        return tuple(dict.fromkeys((*self.past(), self.first().public, *under_way, *referred)))

    @property
    def _history(self) -> Path:
        return self._beside("history")

    def _note(self, key: VerifierKey) -> None:
        past = self.past()
        if key not in past:
            lines = "".join(f"{known.text()}\n" for known in (*past, key))
            write_atomically(self._history, lines.encode(), replace=True)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def _next(self, identity: str) -> Path:
        return self._beside(f"next-{identity}")

    def _all(self, kind: str, *, draft: bool = False) -> list[Path]:
        beginning = f"{'.' if draft else ''}{self.path.name}.{kind}"
        try:
            return sorted(path for path in self.path.parent.iterdir() if path.name.startswith(beginning))
        except FileNotFoundError:
            return []

    def _referred(self, reference: str | None) -> SigningKey | None:
        """The key behind a reference; None while there is none."""
        if reference is None:
            return None
        try:
            text = resolve_secret(reference)
        except NotFound:
            return None
        return SigningKey.parse(self.name, text[:_LONGEST], reference)

    def _opened(self, path: Path) -> SigningKey:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & _OTHERS:
                raise KeyExposed(f"{path} has mode {mode:04o}: others could read the key. Run: chmod 600 {path}")
            text = file.read(_LONGEST).decode("ascii", "replace")
        return SigningKey.parse(self.name, text, str(path))

    def _read(self, path: Path) -> SigningKey:
        try:
            return self._opened(path)
        except OSError as error:
            raise LedgerUnavailable(f"the log's key {path} cannot be read: {error}") from error


def write_atomically(path: Path, data: bytes, *, replace: bool) -> None:
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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in the folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(path: Path) -> int | None:
    """A descriptor that holds the advisory lock at `path` until it is closed; None: another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _destroy(path: Path) -> None:
    """Overwrite and remove. What a disk, a snapshot or a backup keeps of it elsewhere is out of reach."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, bytes(os.fstat(descriptor).st_size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()
