"""A folder that is written so that it is whole after any crash: each file atomically, one writer at a time.

A file is written beside its place under a name that begins with `.new-`, flushed to the disk and renamed; a group of
files is flushed together, so that many small files cost little more than one. What a killed writer left behind is
removed by the next one.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Self

from operations.errors import Conflict
from storage.verifier.mirror import TileMissing, read_bounded
from storage.verifier.tiles import TileMalformed

_DRAFT: Final = ".new-"
_GROUP: Final = 256
_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
"""Entries name people and systems: not for everybody on the machine. The umask takes away more."""


class Folder:
    """One folder while it is written. Use it as a context: it is this process's alone until the context ends.

    Attributes:
        path: where it lies.
        written: how many files were put into it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._lock = -1
        self._drafts: list[tuple[Path, Path]] = []
        self._touched: set[Path] = set()

    def __enter__(self) -> Self:
        """Take the folder, which is made where it is missing.

        Raises:
            Conflict: `export-in-progress`: another process writes into it.
            OSError: it cannot be made or entered.
        """
        self.path.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Conflict("export-in-progress", "Another process writes into this folder.") from None
        return self

    def __exit__(self, *_: object) -> None:
        for draft, _place in self._drafts:
            with contextlib.suppress(OSError):
                draft.unlink()
        self._drafts.clear()
        os.close(self._lock)

    def put(self, name: str, data: bytes) -> None:
        """Write a file; it stands under its name at the latest after `settle`. An equal one is left as it is."""
        place = self.path / name
        if self.holds(name, data):
            return
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, "A folder lies where a file belongs", str(place))
        if not place.parent.is_dir():
            self._make(place.parent)
        draft = place.with_name(f"{_DRAFT}{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        self._drafts.append((draft, place))
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if len(self._drafts) >= _GROUP:
            self.settle()

    def settle(self) -> None:
        """Bring everything that was put to the disk and under its name."""
        for draft, _place in self._drafts:
            _flush(draft, os.O_WRONLY)
        for draft, place in self._drafts:
            draft.replace(place)
            self._touched.add(place.parent)
            self.written += 1
        self._drafts.clear()
        for folder in self._touched:
            _flush(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._touched.clear()

    def read(self, name: str, limit: int) -> bytes | None:
        """The bytes of a file, None where there is none or no ordinary one of at most `limit` bytes."""
        try:
            return read_bounded(self.path / name, limit)
        except (TileMissing, TileMalformed, IsADirectoryError):
            return None

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the file is there with these bytes."""
        return self.read(name, len(data)) == data

    def remove(self, name: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        place = self.path / name
        place.unlink(missing_ok=True)
        for parent in place.parents:
            if parent == self.path:
                return
            try:
                parent.rmdir()
            except OSError:
                return

    def files(self, name: str = "") -> Iterator[str]:
        """Names of all files below a folder of it, in no particular order; drafts are left out."""
        for path in _walk(self.path / name):
            if not path.name.startswith(_DRAFT):
                yield str(PurePosixPath(path.relative_to(self.path)))

    def sweep(self) -> None:
        """Remove what a killed writer left behind."""
        for path in list(_walk(self.path)):
            if path.name.startswith(_DRAFT):
                path.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, each entered into its parent for good."""
        missing = [folder, *(parent for parent in folder.parents if parent.is_relative_to(self.path))]
        for each in reversed(missing):
            if not each.is_dir():
                each.mkdir(_FOLDER_MODE)
                self._touched.add(each.parent)


def _walk(folder: Path) -> Iterator[Path]:
    """Every ordinary file below a folder; links are not followed."""
    try:
        found = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for each in found:
        if each.is_dir(follow_symlinks=False):
            yield from _walk(Path(each.path))
        elif each.is_file(follow_symlinks=False):
            yield Path(each.path)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
