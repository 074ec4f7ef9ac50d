"""A copy of a ledger in a folder, made so that it can be carried elsewhere and verified there."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from storage.entry import MAX_ENTRY
from storage.verifier.checkpoint import NoteMalformed, VerifierKey

_LENGTH: Final = 4


class CopyUnreadable(ValueError):
    """A copy of a ledger is incomplete, or not in its format."""


class Copy:
    """The files of a copy.

    `entries` holds each entry with its length before it, four bytes, big-endian; `checkpoint` is the signed note;
    `keys` has a vkey a line. The keys in a copy say which keys to ask for; they prove nothing by themselves, since
    whoever alters a copy can also put other keys into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def note(self) -> bytes:
        """The signed checkpoint.

        Raises:
            CopyUnreadable: there is none.
        """
        return _bytes_of(self._folder / "checkpoint")

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The keys that the copy's maker named.

        Raises:
            CopyUnreadable: there are none, or not in the format.
        """
        try:
            return tuple(VerifierKey.parse(line) for line in _bytes_of(self._folder / "keys").decode().splitlines())
        except (UnicodeDecodeError, NoteMalformed) as error:
            raise CopyUnreadable(f"keys: {error}") from error

    def entries(self) -> Iterator[bytes]:
        """The entries' bytes, as they are read from the file.

        Raises:
            CopyUnreadable: while reading: the file is missing, breaks off, or states a length that no entry has.
        """
        try:
            with (self._folder / "entries").open("rb") as file:
                while prefix := file.read(_LENGTH):
                    yield _entry_of(file, prefix)
        except OSError as error:
            raise CopyUnreadable(f"entries: {error.strerror}") from error


def _entry_of(file: BinaryIO, prefix: bytes) -> bytes:
    length = int.from_bytes(prefix, "big")
    if len(prefix) < _LENGTH or length > MAX_ENTRY:
        raise CopyUnreadable("entries: a length that no entry has")
    data = file.read(length)
    if len(data) < length:
        raise CopyUnreadable("entries: the file breaks off within an entry")
    return data


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CopyUnreadable(f"{path.name}: {error.strerror}") from error


def write_copy(folder: Path, entries: Iterable[bytes], note: bytes, keys: Iterable[VerifierKey]) -> None:
    """Write a copy that `read_copy` reads; the folder is made, and what it held of a copy is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "entries").open("wb") as file:
        for data in entries:
            file.write(len(data).to_bytes(_LENGTH, "big") + data)
    (folder / "checkpoint").write_bytes(note)
    (folder / "keys").write_text("".join(f"{key.text()}\n" for key in keys))


def read_copy(folder: Path) -> Copy:
    """The copy in a folder; nothing of it is read yet."""
    return Copy(folder)
