"""File work inside one folder that no link can lead out of.

The folder is opened once without following a link in its last part; every file is then reached relative to that
descriptor with `O_NOFOLLOW`, so that exchanging a file or the folder for a link in between has no effect.
Parents above the folder may be links (`/var/run`): they belong to the host's owner.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final, TypeVar

from operations.errors import PlaybookFailed

CHUNK: Final = 1 << 20
"""Bytes read at a time: what a file of any size costs in memory."""

_CODES: Final = {
    errno.ENOENT: "file-missing",
    errno.ELOOP: "symlink-refused",
    errno.ENOTDIR: "not-a-folder",
    errno.EACCES: "permission-denied",
    errno.EPERM: "permission-denied",
    errno.EROFS: "read-only",
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EFBIG: "no-space",
    errno.EXDEV: "other-file-system",
}


def failure(what: str, error: OSError, *, changed: bool = False) -> PlaybookFailed:
    """The operating system's refusal as `PlaybookFailed` with a code of its own; `what` names the file."""
    return PlaybookFailed(_CODES.get(error.errno or 0, "io-error"), f"{what}: {error.strerror}", changed=changed)


@contextlib.contextmanager
def failing(what: str, *, changed: bool = False) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into `failure`."""
    try:
        yield
    except OSError as error:
        raise failure(what, error, changed=changed) from error


def place(path: str) -> tuple[str, str]:
    """Folder and name of a file path, without a trailing slash that would make the kernel follow a link.

    Raises:
        PlaybookFailed: `unsafe-path` for paths with `..` or without a name.
    """
    pure = PurePosixPath(path)
    if ".." in pure.parts or not pure.name:
        raise PlaybookFailed("unsafe-path", "A path must be absolute, name something and hold no '..'.")
    return str(pure.parent), pure.name


@contextlib.contextmanager
def opened_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder at `path`, which must not be a link.

    Raises:
        PlaybookFailed: `symlink-refused`, `not-a-folder`, `file-missing`, `permission-denied`.
    """
    parent, name = place(path)
    clean = os.path.join(parent, name)  # noqa: PTH118 - text for os.open, not a path object
    with failing(name):
        try:
            fd = os.open(clean, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError as error:
            if stat.S_ISLNK(os.lstat(clean).st_mode):
                raise OSError(errno.ELOOP, "is a symbolic link") from error
            raise
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_file(folder: int, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of the regular file `name` in `folder`; links, devices and pipes are refused, and never waited for.

    Raises:
        PlaybookFailed: `symlink-refused`, `not-a-file`, `file-missing`, `permission-denied`.
    """
    with failing(name):
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PlaybookFailed("not-a-file", f"{name} is not a regular file.")
        yield fd
    finally:
        os.close(fd)


def status(folder: int, name: str) -> os.stat_result | None:
    """What the folder says about `name` itself, links not followed; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def chunks(fd: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of an open file from `start` up to `stop`, or to its end, a chunk at a time."""
    while stop is None or start < stop:
        data = os.pread(fd, CHUNK if stop is None else min(CHUNK, stop - start), start)
        if not data:
            return
        start += len(data)
        yield data


def measured(fd: int, stop: int | None = None) -> tuple[int, str]:
    """Size in bytes and SHA-256 of an open file, or of its first `stop` bytes."""
    size, digest = 0, hashlib.sha256()
    for data in chunks(fd, 0, stop):
        size += len(data)
        digest.update(data)
    return size, digest.hexdigest()


def write_all(fd: int, data: bytes) -> None:
    """Write every byte at the descriptor's position, however often the kernel takes less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, data: bytes, position: int) -> int:
    """Write every byte at `position` and return the position behind them."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written
    return position


def remove(folder: int, name: str) -> None:
    """Remove `name` if it is there; a link is removed itself, never what it points to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def keep_likeness(fd: int, like: int) -> None:
    """Give one open file the owner, mode and extended attributes (ACLs, labels) of another.

    Raises:
        OSError: they cannot be kept; a file that others could read than before is no replacement.
    """
    mine, theirs = os.fstat(fd), os.fstat(like)
    if (mine.st_uid, mine.st_gid) != (theirs.st_uid, theirs.st_gid):
        os.fchown(fd, theirs.st_uid, theirs.st_gid)
    if hasattr(os, "listxattr"):
        for name in os.listxattr(like):
            os.setxattr(fd, name, os.getxattr(like, name))
    os.fchmod(fd, stat.S_IMODE(theirs.st_mode))


def stage(folder: int, name: str, data: bytes, *, mode: int = 0o600, like: int | None = None) -> str:
    """Write `data` durably into a temporary file beside `name` and return what that is called.

    With `like`, an open file, it takes over that one's owner, mode and extended attributes before anybody else could
    read it. The caller renames or removes it; an interruption leaves this one file, which `leftovers` finds.

    Raises:
        OSError: nothing is left.
    """
    temporary = f".triad-{secrets.token_hex(8)}.{name}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        write_all(fd, data)
        if like is None:
            os.fchmod(fd, mode)
        else:
            keep_likeness(fd, like)
        os.fsync(fd)
    except BaseException:
        remove(folder, temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def replace(folder: int, name: str, data: bytes, *, mode: int = 0o600) -> None:
    """Make `name` hold `data`, wholly or not at all, and durably: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: nothing was replaced.
    """
    temporary = stage(folder, name, data, mode=mode)
    try:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        remove(folder, temporary)
        raise
    os.fsync(folder)


def leftovers(folder: int, name: str) -> list[str]:
    """Temporary files for `name` that an interrupted `stage` left."""
    pattern = re.compile(r"\.triad-[0-9a-f]{16}\." + re.escape(name))
    return sorted(entry for entry in os.listdir(folder) if pattern.fullmatch(entry))


@contextlib.contextmanager
def locked(folder: int) -> Iterator[None]:
    """Hold the folder's advisory lock, so that two runs on one folder cannot mix. The kernel frees it with the process.

    Raises:
        PlaybookFailed: `busy`, when another run holds it.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PlaybookFailed("busy", "Another run is at work in this folder.") from error
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def writer_holds(fd: int) -> bool:
    """Whether any process has the open file open for writing, or this cannot be told.

    The kernel grants a read lease only on a file that nobody has open for writing (fcntl(2), "Leases"), whichever user
    that would be. The signal for a writer who comes during the question is one that is ignored by default, where the
    usual SIGIO would end the process.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return True
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


R = TypeVar("R")


async def to_the_end(function: Callable[[], R], stop: threading.Event | None = None) -> R:
    """Run blocking work in a thread and wait for its end even when cancelled, then be cancelled.

    Otherwise a time-out would close descriptors that the thread goes on using, whose numbers the next file gets. Work
    that takes long looks at `stop`, which is set on cancellation, between two whole things.
    """
    task = asyncio.create_task(asyncio.to_thread(function))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
