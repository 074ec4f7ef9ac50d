"""A configuration file on disk: read, replaced, kept for undo, always relative to its own folder."""

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from operations.canonical import JsonObject, sha256
from operations.errors import PlaybookFailed
from operations.evidence import Snapshot
from operations.playbooks.folder import (
    chunks,
    failing,
    leftovers,
    opened_file,
    opened_folder,
    place,
    remove,
    replace,
    stage,
    status,
)

LIMIT: Final = 1 << 20
"""Bytes that a configuration may have."""
_KEPT: Final = 20
"""Copies of a file's originals that stay for rollbacks still to come, however old."""
_KEPT_SECONDS: Final = 7 * 86_400
"""Age below which a copy stays, however many there are."""


@dataclass(frozen=True, slots=True)
class Current:
    """The file as it was read: its bytes and what must stay the same about it."""

    data: bytes
    mode: int
    uid: int
    gid: int
    inode: int

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return sha256(self.data)

    @property
    def facts(self) -> JsonObject:
        """What a snapshot says of it, apart from the bytes."""
        return {
            "sha256": self.digest,
            "bytes": len(self.data),
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[int, str, int]]:
    """Descriptor of the folder, the file's name, and its descriptor."""
    parent, name = place(path)
    with opened_folder(parent) as folder, opened_file(folder, name) as file:
        yield folder, name, file


def current(file: int) -> Current:
    """What an open configuration holds.

    Raises:
        PlaybookFailed: `too-large`, `hard-linked`.
    """
    about = os.fstat(file)
    if about.st_size > LIMIT:
        raise PlaybookFailed("too-large", f"The configuration is larger than {LIMIT} bytes.")
    if about.st_nlink != 1:
        raise PlaybookFailed("hard-linked", "The file has other names; replacing it would part them.")
    return _as_it_is(file)


def _as_it_is(file: int) -> Current:
    about = os.fstat(file)
    with failing("the configuration"):
        data = b"".join(chunks(file, 0, LIMIT + 1))
    return Current(data, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid, about.st_ino)


def read(path: str) -> Current:
    """What the configuration at `path` holds."""
    with opened(path) as (_, _, file):
        return current(file)


@contextlib.contextmanager
def alone(folder: int, name: str, file: int) -> Iterator[None]:
    """Hold the file's own advisory lock until it is closed, on the file that still has the name.

    Raises:
        PlaybookFailed: `busy`, `changed-underneath`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PlaybookFailed("busy", "Another run is at work on this file.") from error
    _still(folder, name, os.fstat(file).st_ino)
    yield


def _still(folder: int, name: str, inode: int) -> None:
    about = status(folder, name)
    if about is None or about.st_ino != inode:
        raise PlaybookFailed("changed-underneath", "Somebody else replaced the file meanwhile.")


def swap(folder: int, name: str, temporary: str, seen: Current) -> None:
    """Rename the temporary file over `name`, provided that it still holds what was seen.

    Between the comparison and the rename lie microseconds in which an editor that takes no lock could still save.

    Raises:
        PlaybookFailed: `changed-underneath`; nothing was replaced.
    """
    with opened_file(folder, name) as now:
        _still(folder, name, seen.inode)
        if b"".join(chunks(now, 0, LIMIT + 1)) != seen.data:
            raise PlaybookFailed("changed-underneath", "Somebody else changed the file meanwhile.")
        with failing(name):
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    with failing(name, changed=True):
        os.fsync(folder)


def tidy(folder: int, name: str) -> None:
    """Remove the temporary files that interrupted runs left."""
    for leftover in leftovers(folder, name):
        remove(folder, leftover)


def keep(folder: int, name: str, data: bytes) -> str:
    """Keep `data` beside the file, readable by its owner only, and return the copy's name."""
    copy = _copy_name(name, sha256(data))
    with failing(copy):
        replace(folder, copy, data)
        _forget_old(folder, name)
    return copy


def _copy_name(name: str, digest: str) -> str:
    return f".triad-keep-{digest[:16]}.{name}"


def _forget_old(folder: int, name: str) -> None:
    pattern = re.compile(r"(\.triad-[0-9a-f]{16}\.)?\.triad-keep-[0-9a-f]{16}\." + re.escape(name))
    copies = [entry for entry in os.listdir(folder) if pattern.fullmatch(entry)]
    aged = sorted(((about.st_mtime, entry) for entry in copies if (about := status(folder, entry))), reverse=True)
    for changed, entry in aged[_KEPT:]:
        if changed < time.time() - _KEPT_SECONDS:
            remove(folder, entry)


def original(path: str, snapshot: Snapshot) -> bytes:
    """The bytes of which the snapshot says where they are kept.

    Raises:
        PlaybookFailed: `snapshot-damaged`, when they are not there or not the ones.
    """
    parent, name = place(path)
    digest = str(snapshot.facts.get("sha256"))
    data = b""
    if snapshot.facts.get("kept_as") == _copy_name(name, digest):
        with (
            contextlib.suppress(PlaybookFailed),
            opened_folder(parent) as folder,
            opened_file(folder, _copy_name(name, digest)) as file,
        ):
            data = b"".join(chunks(file, 0, LIMIT))
    if not secrets.compare_digest(sha256(data), digest):
        raise PlaybookFailed("snapshot-damaged", "What was kept beside the file is not the original, or is gone.")
    return data


def put_back(path: str, data: bytes, snapshot: Snapshot, made: bytes) -> bool:
    """Make the file what the snapshot says, in one rename; whether its bytes were different.

    Only where the file holds `data`, holds `made`, or is gone: other bytes are somebody else's and stay.

    Raises:
        PlaybookFailed: `changed-since`, `changed-underneath`, `busy`; nothing was replaced.
    """
    parent, name = place(path)
    with opened_folder(parent) as folder, failing(name), contextlib.ExitStack() as stack:
        file, seen = None, None
        if status(folder, name) is not None:
            file = stack.enter_context(opened_file(folder, name))
            stack.enter_context(alone(folder, name, file))
            seen = _as_it_is(file)
            if seen.data not in (data, made):
                raise PlaybookFailed("changed-since", "The file was changed again since; nothing was put back.")
        tidy(folder, name)
        temporary = stage(folder, name, data, like=file)
        try:
            with opened_file(folder, temporary, os.O_WRONLY) as fresh:
                os.fchown(fresh, number(snapshot, "uid"), number(snapshot, "gid"))
                os.fchmod(fresh, number(snapshot, "mode"))
                os.fsync(fresh)
            if seen is None:
                _appear(folder, name, temporary)
            else:
                swap(folder, name, temporary, seen)
        finally:
            remove(folder, temporary)
        os.fsync(folder)
    return seen is None or seen.data != data


def _appear(folder: int, name: str, temporary: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError as error:
        raise PlaybookFailed("changed-underneath", "Somebody else made the file meanwhile.") from error


def number(snapshot: Snapshot, key: str) -> int:
    """A number that a snapshot must hold.

    Raises:
        PlaybookFailed: `snapshot-damaged`.
    """
    value = snapshot.facts.get(key)
    if not isinstance(value, int):
        raise PlaybookFailed("snapshot-damaged", f"The snapshot's {key} is not a number.")
    return value
