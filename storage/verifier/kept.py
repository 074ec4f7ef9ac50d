"""What lies beside a log's entries: kept checkpoints and texts, read one at a time when they are asked for.

A file that is missing and one that cannot be read are two findings: the first may be lawful, the second never is.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, overload

from .checkpoint import MAX_NOTE, Checkpoint, NoteMalformed, parse_note
from .mirror import TileMissing, read_bounded
from .tiles import TileMalformed

MAX_KEPT: Final = 10_000
"""Most kept checkpoints that are compared; of more, as many as this are taken at even distances, and every rotation."""

MAX_NAMES: Final = 1_000_000
"""Most files in the folder of kept checkpoints."""

MAX_READ: Final = 4 * 1024**3
"""Most bytes that are read of kept checkpoints to find those of rotations among too many."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Unreadable(ValueError):
    """Something is there and cannot be read: no ordinary file, too long, or not ours to read. The message names it."""


def read_named(place: Path, name: str, limit: int) -> bytes:
    """The bytes of a file of an export.

    Args:
        place: the export.
        name: the file's path in it.
        limit: the longest file in bytes that is read.

    Raises:
        TileMissing: there is no such file.
        Unreadable: it is there and cannot be read.
    """
    try:
        return read_bounded(place / name, limit)
    except TileMissing:
        raise TileMissing(f"{name} is missing") from None
    except TileMalformed:
        raise Unreadable(f"{name} is no ordinary file, or longer than {limit} bytes") from None
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror or 'it cannot be read'}") from None


class Files(Mapping[str, bytes]):
    """The texts of an export by their digest.

    `[digest]` raises `Unreadable` where a file is there and cannot be read; `KeyError` means that there is none.

    Args:
        place: the export.
        folder: the folder in it.
        suffix: what follows the digest in a name.
        limit: the longest file in bytes that is read.
    """

    def __init__(self, place: Path, folder: str, suffix: str, limit: int) -> None:
        self._place = place
        self._folder = folder
        self._suffix = suffix
        self._limit = limit

    def __getitem__(self, digest: str) -> bytes:
        if not _DIGEST.fullmatch(digest):
            raise KeyError(digest)
        try:
            return read_named(self._place, f"{self._folder}/{digest}{self._suffix}", self._limit)
        except TileMissing:
            raise KeyError(digest) from None

    def __iter__(self) -> Iterator[str]:
        for name in _names(self._place, self._folder):
            if name.endswith(self._suffix):
                yield name.removesuffix(self._suffix)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class KeptNotes(Sequence[bytes]):
    """The checkpoints that an export keeps: one is in memory at a time, and `[at]` reads it anew.

    Attributes:
        names: their files, in the order of the sizes that they are named by.
        found: how many there are; more than are here if they were thinned.

    Args:
        place: the export.
        most: how many are taken, beside those of rotations.

    Raises:
        Unreadable: the folder cannot be listed, or is beyond the bounds of this module.
    """

    def __init__(self, place: Path, most: int = MAX_KEPT) -> None:
        self._place = place
        self._looked = 0
        names = [f"checkpoints/{name}" for name in _names(place, "checkpoints")]
        self.found = len(names)
        names.sort(key=_by_size)
        self.names: tuple[str, ...] = tuple(names if len(names) <= most else self._thinned(names, most))

    def _thinned(self, names: Sequence[str], most: int) -> Iterator[str]:
        taken = {len(names) - 1 - at * len(names) // most for at in range(most)}
        rotations = 0
        for at, name in enumerate(names):
            if at in taken:
                yield name
            elif self._rotation(name):
                rotations += 1
                if rotations > most:
                    raise Unreadable(f"checkpoints: more than {most} of them are signed twice by the log")
                yield name

    def _rotation(self, name: str) -> bool:
        """Whether two keys of the log's own name signed it; what cannot be read is no rotation."""
        try:
            data = read_named(self._place, name, MAX_NOTE)
        except (Unreadable, TileMissing):
            return False
        self._looked += len(data)
        if self._looked > MAX_READ:
            raise Unreadable(f"checkpoints: more than {MAX_READ} bytes")
        try:
            note = parse_note(data)
            origin = Checkpoint.parse(note.text).origin
        except NoteMalformed:
            return False
        return sum(signature.name == origin for signature in note.signatures) > 1

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        """The note, or notes; raises as `read_named`."""
        if isinstance(at, slice):
            return [read_named(self._place, name, MAX_NOTE) for name in self.names[at]]
        return read_named(self._place, self.names[at], MAX_NOTE)

    def __len__(self) -> int:
        return len(self.names)


def _names(place: Path, folder: str) -> list[str]:
    """The names in a folder, hidden ones left out; none where there is no folder.

    Raises:
        Unreadable: it is there and cannot be listed, or holds too much.
    """
    found: list[str] = []
    try:
        with os.scandir(place / folder) as listing:
            for each in listing:
                if not each.name.startswith("."):
                    found.append(each.name)
                if len(found) > MAX_NAMES:
                    raise Unreadable(f"{folder}: more than {MAX_NAMES} files")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unreadable(f"{folder}: {error.strerror or 'it cannot be listed'}") from None
    return sorted(found)


def _by_size(name: str) -> tuple[int, int, str]:
    size = name.rpartition("/")[2]
    plain = size.isascii() and size.isdecimal()
    return (0, len(size), size) if plain else (1, 0, size)
