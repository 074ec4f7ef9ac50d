"""Rotations of the logs in one folder, each with a manifest, so that any interruption can be carried on or taken back.

Beside the logs stands the folder `rotated`. It holds archives `LOG.TIME.NUMBER[.zst]`, one manifest for each rotation
`rotation-NUMBER.json`, and while a rotation is under way `.LOG.NUMBER.raw`, `.part` and `.tail`. Archives beyond the
number to keep are first set aside as `.expired-NUMBER.ARCHIVE`, so that the rotation can still be undone, and removed
when the next one starts.

The rule: bytes leave the log only after they are durable elsewhere, and the manifest says so first.
"""

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, Literal

import zstandard
from pydantic import Field, ValidationError

from operations.canonical import Digest, Record, canonical_record
from operations.errors import PlaybookFailed
from operations.playbooks.folder import (
    CHUNK,
    chunks,
    keep_likeness,
    measured,
    opened_file,
    remove,
    replace,
    stage,
    status,
    write_all,
    writer_holds,
)

ARCHIVES: Final = "rotated"
"""Name of the folder beside the logs."""
_MANIFEST: Final = re.compile(r"rotation-(\d{6})\.json")
_HALF_WRITTEN: Final = re.compile(r"\.triad-[0-9a-f]{16}\..+")
_CATCH_UPS: Final = 50
"""How often a log that grows while it is copied is caught up with durably before it is truncated all the same."""
_MANIFEST_LIMIT: Final = 4 << 20
Mode = Literal["rename", "copytruncate"]


class LogState(StrEnum):
    """How far one log of a rotation has come."""

    PENDING = "pending"
    TRUNCATING = "truncating"
    """Its copy is durable; the log may or may not be empty yet."""
    TAKEN = "taken"
    """All its bytes are in `.raw`, and no longer in the log."""
    ARCHIVED = "archived"
    RESTORING = "restoring"
    """Its `.tail` is durable; the log may or may not hold the archived bytes again."""
    RESTORED = "restored"
    LEFT = "left"
    """Its rotation was interrupted before it was touched."""


class RotatedLog(Record):
    """One log in a rotation."""

    log: str
    archive: str
    state: LogState = LogState.PENDING
    bytes: int = Field(default=0, ge=0)
    sha256: Digest | None = None
    held: bool = False
    """A writer still had the renamed file open, so it stays uncompressed and may hold more than was measured."""

    @property
    def compressed(self) -> bool:
        """Whether the archive is zstd."""
        return self.archive.endswith(".zst")


class Rotation(Record):
    """One rotation's manifest."""

    number: int = Field(ge=1, le=999_999)
    key: str
    mode: Mode
    keep: int
    state: Literal["started", "done", "undone"] = "started"
    logs: tuple[RotatedLog, ...]

    def with_log(self, log: RotatedLog) -> "Rotation":
        """The rotation with that log's entry replaced."""
        return self.model_copy(update={"logs": tuple(log if each.log == log.log else each for each in self.logs)})


def log_names(folder: int, pattern: str) -> list[str]:
    """Names of the regular files that the pattern matches, sorted; links and other things are not logs.

    Raises:
        PlaybookFailed: `name-not-text`.
    """
    names = []
    for name in sorted(os.listdir(folder)):
        about = status(folder, name)
        if fnmatchcase(name, pattern) and about is not None and stat.S_ISREG(about.st_mode):
            if not name.isprintable():
                raise PlaybookFailed("name-not-text", "A log's name is not printable text.")
            names.append(name)
    return names


def rotations(archives: int) -> list[Rotation]:
    """All manifests, oldest first.

    Raises:
        PlaybookFailed: `manifest-damaged`; somebody has to look before anything moves.
    """
    found = []
    for name in sorted(os.listdir(archives)):
        if _MANIFEST.fullmatch(name):
            with opened_file(archives, name) as file:
                data = b"".join(chunks(file, 0, _MANIFEST_LIMIT))
            try:
                found.append(Rotation.model_validate_json(data))
            except ValidationError as error:
                raise PlaybookFailed("manifest-damaged", f"{name} is not a manifest.") from error
    return found


def tidy(archives: int) -> None:
    """Remove files that an interruption left half-written."""
    for name in os.listdir(archives):
        if _HALF_WRITTEN.fullmatch(name):
            remove(archives, name)


def save(archives: int, rotation: Rotation) -> Rotation:
    """Write the manifest durably."""
    replace(archives, f"rotation-{rotation.number:06d}.json", canonical_record(rotation))
    return rotation


def archives_of(archives: int, log: str) -> list[str]:
    """Archives of one log, oldest first."""
    pattern = re.compile(re.escape(log) + r"\.\d{8}T\d{6}Z\.(\d{6})(\.zst)?")
    numbered = [(match[1], name) for name in os.listdir(archives) if (match := pattern.fullmatch(name))]
    return [name for _, name in sorted(numbered)]


def begin(archives: int, logs: list[str], *, key: str, mode: Mode, keep: int, compress: bool) -> Rotation:
    """Make room and write the manifest of a new rotation; nothing is moved yet."""
    past = rotations(archives)
    number = past[-1].number + 1 if past else 1
    for name in os.listdir(archives):
        if name.startswith(".expired-"):
            remove(archives, name)
    for old in past[:-1]:
        if all(status(archives, log.archive) is None for log in old.logs):
            remove(archives, f"rotation-{old.number:06d}.json")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    entries = tuple(
        RotatedLog(log=log, archive=f"{log}.{stamp}.{number:06d}{'.zst' if compress else ''}") for log in logs
    )
    return save(archives, Rotation(number=number, key=key, mode=mode, keep=keep, logs=entries))


def advance(folder: int, archives: int, rotation: Rotation, log: RotatedLog) -> Rotation:
    """Take one log and archive it."""
    if log.state is LogState.PENDING:
        rotation = _take(folder, archives, rotation, log)
        log = entry(rotation, log.log)
    if log.state is LogState.TAKEN:
        rotation = _archive(archives, rotation, log)
    return rotation


def finish(archives: int, rotation: Rotation) -> Rotation:
    """Set aside what is beyond the number to keep, and close the manifest."""
    for log in rotation.logs:
        for name in archives_of(archives, log.log)[: -rotation.keep]:
            os.rename(name, f".expired-{rotation.number:06d}.{name}", src_dir_fd=archives, dst_dir_fd=archives)
    os.fsync(archives)
    return save(archives, rotation.model_copy(update={"state": "done"}))


def recover(folder: int, archives: int, rotation: Rotation, *, resume: bool) -> Rotation:
    """Clean up an interrupted rotation: what was taken is archived; the rest is pending, or left alone."""
    for log in rotation.logs:
        raw = _raw(rotation, log)
        there = status(archives, raw) is not None
        found = log
        if log.state is LogState.PENDING and there and rotation.mode == "rename":
            found = _measured_raw(folder, archives, rotation, log)
        elif (log.state is LogState.PENDING and there) or (
            log.state is LogState.TRUNCATING and not _truncated(folder, archives, log, raw)
        ):
            remove(archives, raw)
            found = log.model_copy(update={"state": LogState.PENDING})
        elif log.state is LogState.TRUNCATING:
            found = _measured_raw(folder, archives, rotation, log)
        if found.state is LogState.PENDING and not resume:
            found = found.model_copy(update={"state": LogState.LEFT})
        if found is not log:
            rotation = save(archives, rotation.with_log(found))
        if found.state is LogState.TAKEN:
            rotation = _archive(archives, rotation, found)
    return rotation if resume else finish(archives, rotation)


def entry(rotation: Rotation, log: str) -> RotatedLog:
    """That log's entry in the rotation."""
    return next(each for each in rotation.logs if each.log == log)


def _raw(rotation: Rotation, log: RotatedLog) -> str:
    return f".{log.log}.{rotation.number:06d}.raw"


def _take(folder: int, archives: int, rotation: Rotation, log: RotatedLog) -> Rotation:
    raw = _raw(rotation, log)
    if rotation.mode == "rename":
        with opened_file(folder, log.log) as live:
            if writer_holds(live):
                raise writer_refusal(log.log)
        os.rename(log.log, raw, src_dir_fd=folder, dst_dir_fd=archives)
        os.fsync(archives)
    else:
        with opened_file(folder, log.log, os.O_RDWR) as live:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            with opened_file(archives, raw, flags) as copy:
                keep_likeness(copy, live)
                done = _copy(live, copy, 0)
                os.fsync(copy)
                os.fsync(archives)
                rotation = save(archives, rotation.with_log(log.model_copy(update={"state": LogState.TRUNCATING})))
                _empty(live, copy, done)
    return save(archives, rotation.with_log(_measured_raw(folder, archives, rotation, log)))


def _copy(source: int, copy: int, position: int) -> int:
    for data in chunks(source, position):
        write_all(copy, data)
        position += len(data)
    return position


def _empty(live: int, copy: int, done: int) -> None:
    """Truncate the log as soon as the copy has caught up with it.

    Between the last read, which found nothing, and the truncation lie microseconds in which a writer's bytes would be
    lost: that is what copytruncate means, here as elsewhere. Writers that reopen their log use `rename` and lose none.
    """
    for _ in range(_CATCH_UPS):
        caught_up = _copy(live, copy, done)
        if caught_up == done:
            break
        os.fsync(copy)
        done = caught_up
    _copy(live, copy, done)
    os.ftruncate(live, 0)
    os.fsync(live)
    os.fsync(copy)


def _measured_raw(folder: int, archives: int, rotation: Rotation, log: RotatedLog) -> RotatedLog:
    """The entry of a log whose bytes are all in `.raw`; with `rename`, a fresh log takes its place."""
    raw = _raw(rotation, log)
    with opened_file(archives, raw) as copy:
        held = False
        if rotation.mode == "rename":
            make_fresh(folder, archives, log.log, copy)
            held = writer_holds(copy)
        size, digest = measured(copy)
    archive = log.archive.removesuffix(".zst") if held else log.archive
    update = {"state": LogState.TAKEN, "bytes": size, "sha256": digest, "held": held, "archive": archive}
    return log.model_copy(update=update)


def make_fresh(folder: int, archives: int, name: str, like: int) -> None:
    """Make an empty log with the likeness of an open file, at once or not at all, unless its writer was first."""
    temporary = stage(archives, name, b"", like=like)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, name, src_dir_fd=archives, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        remove(archives, temporary)
    os.fsync(folder)


def _truncated(folder: int, archives: int, log: RotatedLog, raw: str) -> bool:
    """Whether the log no longer starts with the bytes of its copy. One that wrote them all anew looks untruncated."""
    if status(folder, log.log) is None:
        return True
    with opened_file(archives, raw) as copy, opened_file(folder, log.log) as live:
        size, digest = measured(copy)
        return measured(live, size) != (size, digest)


def _archive(archives: int, rotation: Rotation, log: RotatedLog) -> Rotation:
    raw = _raw(rotation, log)
    if log.compressed and status(archives, raw) is not None:
        part = f".{log.log}.{rotation.number:06d}.part"
        remove(archives, part)
        created = os.O_RDWR | os.O_CREAT | os.O_EXCL
        with opened_file(archives, raw) as source, opened_file(archives, part, created) as packed:
            keep_likeness(packed, source)
            _compress(source, packed, log.bytes)
            os.fsync(packed)
            verify(packed, log)
        os.rename(part, log.archive, src_dir_fd=archives, dst_dir_fd=archives)
        os.fsync(archives)
        remove(archives, raw)
    elif status(archives, raw) is not None:
        os.rename(raw, log.archive, src_dir_fd=archives, dst_dir_fd=archives)
    os.fsync(archives)
    return save(archives, rotation.with_log(log.model_copy(update={"state": LogState.ARCHIVED})))


def _compress(source: int, packed: int, size: int) -> None:
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj(size=size)
    for data in chunks(source, 0, size):
        write_all(packed, compressor.compress(data))
    write_all(packed, compressor.flush())


def contents(file: int, *, compressed: bool, stop: int | None = None) -> Iterator[bytes]:
    """The bytes that an open archive holds, at most `stop` of them, a chunk at a time.

    Raises:
        PlaybookFailed: `archive-damaged`.
    """
    if not compressed:
        yield from chunks(file, 0, stop)
        return
    left = stop
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        reader = zstandard.ZstdDecompressor().stream_reader(stream, closefd=False)
        try:
            while left is None or left > 0:
                data = reader.read(CHUNK if left is None else min(CHUNK, left))
                if not data:
                    return
                left = None if left is None else left - len(data)
                yield data
        except zstandard.ZstdError as error:
            raise PlaybookFailed("archive-damaged", "An archive cannot be decompressed.") from error


def verify(file: int, log: RotatedLog) -> None:
    """Prove that an open archive holds exactly the bytes that were rotated (of a held one: starts with them).

    Raises:
        PlaybookFailed: `archive-damaged`.
    """
    size, digest = 0, hashlib.sha256()
    for data in contents(file, compressed=log.compressed, stop=log.bytes if log.held else None):
        size += len(data)
        digest.update(data)
    if (size, digest.hexdigest()) != (log.bytes, log.sha256):
        raise PlaybookFailed("archive-damaged", f"The archive of {log.log} does not hold what was rotated.")


def begins_with(file: int, log: RotatedLog, size: int, digest: str) -> bool:
    """Whether the first `size` bytes that an open archive holds have that SHA-256."""
    found, content = 0, hashlib.sha256()
    for data in contents(file, compressed=log.compressed, stop=size):
        found += len(data)
        content.update(data)
    return (found, content.hexdigest()) == (size, digest)


def writer_refusal(log: str) -> PlaybookFailed:
    """Why a log that somebody has open is not renamed."""
    return PlaybookFailed(
        "writer-holds-file", f"A writer may have {log} open; renaming would leave it behind: use copytruncate."
    )
