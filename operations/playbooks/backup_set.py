"""A folder of backups: one folder for each, holding the archive, its manifest and proofs of restoring it.

    DATABASE-20261120T180000000Z-0123456789ab/
        database.dump                what pg_dump wrote (custom format)
        manifest.json                digest and size of the archive, and what every table held
        proof-0123456789ab.json      one for each successful restore test

A backup appears by one rename of a finished, flushed folder and disappears by one rename; while it is being made or
removed it is called `.partial-NAME`. Nothing here touches a file that these rules do not name.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from pydantic import Field, ValidationError

from operations.canonical import SAFE_INTEGER, Digest, Instant, Record, canonical_record, sha256
from operations.errors import PlaybookFailed
from operations.playbooks import folder as files
from operations.playbooks.postgres_digests import TableDigest

ARCHIVE: Final = "database.dump"
MANIFEST: Final = "manifest.json"
NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,62}-[0-9]{8}T[0-9]{9}Z-[0-9a-f]{12}$"
"""What every backup is called: database system, time of the start (UTC), mark of the step that made it."""

_PROOF: Final = re.compile(r"proof-[0-9a-f]{12}\.json")
_STAGED: Final = re.compile(r"\.triad-[0-9a-f]{16}\.(manifest|proof-[0-9a-f]{12})\.json")
_PARTIAL: Final = ".partial-"
_TAIL: Final = len("-20261120T180000000Z-0123456789ab")
_LARGEST_DOCUMENT: Final = 64 * 1024 * 1024


class Manifest(Record):
    """What is known of one backup, under the snapshot that it was dumped from."""

    version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    key: str = Field(description="idempotency key of the step that made it")
    system: str = Field(description="the database's name in the inventory")
    database: str
    database_oid: int = Field(ge=1)
    cluster: str = Field(description="the server's system identifier, from initdb")
    server: int = Field(description="server_version_num")
    started: Instant
    finished: Instant
    archive: Literal["database.dump"] = ARCHIVE
    bytes: int = Field(ge=1, le=SAFE_INTEGER)
    sha256: Digest
    encoding: str
    locale_provider: Literal["b", "c", "i"]
    collate: str
    ctype: str
    locale: str | None = None
    tables: tuple[TableDigest, ...]

    @property
    def rows(self) -> int:
        """Rows in all tables."""
        return sum(table.rows for table in self.tables)


class Proof(Record):
    """That a backup was restored and every table held what its manifest says."""

    version: Literal[1] = 1
    key: str = Field(description="idempotency key of the step that restored it")
    backup: str = Field(pattern=NAME_PATTERN)
    sha256: Digest = Field(description="of the archive that was restored")
    manifest: Digest = Field(description="of the manifest it was compared with")
    tested: Instant
    server: int
    tables: int
    rows: int


def stem(key: str) -> str:
    """The part of an idempotency key that all attempts at a step, and its undo, share: `operation/step`."""
    return "/".join(key.split("/")[:2])


def mark(key: str) -> str:
    """Twelve hexadecimal digits that stand for a step."""
    return sha256(stem(key).encode())[:12]


def name_for(system: str, key: str, at: datetime) -> str:
    """What a backup of `system` is called that the step with this key begins at `at`."""
    return f"{system}-{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z-{mark(key)}"


def partial(name: str) -> str:
    """What a backup is called while it is not whole."""
    return _PARTIAL + name


def proof_name(key: str) -> str:
    """The file of a step's proof."""
    return f"proof-{mark(key)}.json"


def free_bytes(folder: int) -> int:
    """Bytes that may still be written to the folder's file system."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def names(folder: int, system: str) -> tuple[str, ...]:
    """The backups of one database, oldest first."""
    return tuple(sorted(entry for entry in os.listdir(folder) if _is_of(entry, system)))


def _is_of(entry: str, system: str) -> bool:
    return re.fullmatch(NAME_PATTERN, entry) is not None and entry[:-_TAIL] == system


@contextlib.contextmanager
def opened(folder: int, name: str, lock: int | None = None) -> Iterator[int]:
    """A descriptor of one backup's folder, holding `lock` (`LOCK_SH`, `LOCK_EX`) on it where one is asked for.

    Raises:
        PlaybookFailed: `unknown-backup`, `foreign-file`, `busy`.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise PlaybookFailed("unknown-backup", "The folder has no backup of that name.") from None
    except OSError:
        raise PlaybookFailed("foreign-file", f"{name} is not a backup of ours.") from None
    try:
        if lock is not None:
            _hold(fd, lock)
        yield fd
    finally:
        os.close(fd)


def _hold(fd: int, lock: int) -> None:
    try:
        fcntl.flock(fd, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PlaybookFailed("busy", "Another run is using this backup.") from None


def _document(backup: int, name: str) -> bytes:
    with files.opened_file(backup, name) as fd:
        if os.fstat(fd).st_size > _LARGEST_DOCUMENT:
            raise PlaybookFailed("foreign-file", f"{name} is too large to be ours.")
        return b"".join(files.chunks(fd))


def manifest(folder: int, name: str, system: str) -> Manifest:
    """The manifest of a backup.

    Raises:
        PlaybookFailed: `unknown-backup`; `foreign-file` for a folder that is not a backup of this database made by us.
    """
    with opened(folder, name) as backup:
        return manifest_in(backup, name, system)


def manifest_in(backup: int, name: str, system: str) -> Manifest:
    """The manifest in the open folder of the backup called `name`.

    Raises:
        PlaybookFailed: `foreign-file`.
    """
    try:
        found = Manifest.model_validate_json(_document(backup, MANIFEST))
    except (ValidationError, PlaybookFailed):
        raise PlaybookFailed("foreign-file", f"{name} has no manifest of ours.") from None
    if found.name != name or found.system != system:
        raise PlaybookFailed("foreign-file", f"The manifest of {name} speaks of another backup.")
    return found


def made_by(folder: int, system: str, key: str) -> Manifest | None:
    """The backup that the step with exactly this key made.

    Raises:
        PlaybookFailed: `foreign-file`; there is one that may be it, but its manifest cannot be read.
    """
    for name in names(folder, system):
        if name.endswith(mark(key)):
            found = manifest(folder, name, system)
            if found.key == key:
                return found
    return None


@contextlib.contextmanager
def begun(folder: int, name: str) -> Iterator[int]:
    """Make the folder in which a backup is put together, and a descriptor of its new, empty archive.

    Raises:
        PlaybookFailed: the operating system refuses.
    """
    with files.failing("The new backup"):
        os.mkdir(partial(name), 0o700, dir_fd=folder)
    with (
        opened(folder, partial(name)) as backup,
        files.opened_file(backup, ARCHIVE, os.O_RDWR | os.O_CREAT | os.O_EXCL) as archive,
    ):
        yield archive


def flushed(archive: int) -> tuple[int, str]:
    """Size and SHA-256 of a new archive, after it is safe on the disk.

    Raises:
        PlaybookFailed: the operating system refuses.
    """
    with files.failing("The new archive"):
        os.fsync(archive)
        return files.measured(archive)


def publish(folder: int, found: Manifest) -> None:
    """Put the manifest beside the archive and give the backup its name: from then on it is whole.

    Raises:
        PlaybookFailed: the operating system refuses; there is no backup of that name.
    """
    with files.failing("The new backup"):
        with opened(folder, partial(found.name)) as backup:
            files.replace(backup, MANIFEST, canonical_record(found) + b"\n")
        os.rename(partial(found.name), found.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def discard(folder: int, name: str) -> None:
    """Remove one backup: archive, manifest and proofs.

    Raises:
        PlaybookFailed: `foreign-file` when anything else is in it, `busy` while it is being restored; then all stays.
    """
    with files.failing("The backup"), opened(folder, name, fcntl.LOCK_EX) as backup:
        _only_ours(backup, name)
        os.rename(name, partial(name), src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        _empty(folder, backup, partial(name))


def sweep(folder: int, system: str) -> int:
    """Remove what interrupted runs left half made or half removed; how many. The folder's lock must be held."""
    swept = 0
    for entry in sorted(os.listdir(folder)):
        name = entry.removeprefix(_PARTIAL)
        if name == entry or not _is_of(name, system):
            continue
        with contextlib.suppress(PlaybookFailed), files.failing("The leftover"), opened(folder, entry) as backup:
            _only_ours(backup, entry)
            _empty(folder, backup, entry)
            swept += 1
    return swept


def _only_ours(backup: int, name: str) -> None:
    for entry in os.listdir(backup):
        ours = entry in {ARCHIVE, MANIFEST} or _PROOF.fullmatch(entry) or _STAGED.fullmatch(entry)
        if not ours or not stat.S_ISREG(os.stat(entry, dir_fd=backup, follow_symlinks=False).st_mode):
            raise PlaybookFailed("foreign-file", f"{name} holds something that is not part of a backup; left alone.")


def _empty(folder: int, backup: int, name: str) -> None:
    for entry in os.listdir(backup):
        os.unlink(entry, dir_fd=backup)
    os.rmdir(name, dir_fd=folder)
    os.fsync(folder)


def proofs(folder: int, name: str) -> tuple[Proof, ...]:
    """The readable proofs of one backup; none for a backup that does not exist."""
    found: list[Proof] = []
    with contextlib.suppress(PlaybookFailed), opened(folder, name) as backup:
        entries = sorted(os.listdir(backup))  # noqa: PTH208 - a descriptor, not a path
        for entry in entries:
            if _PROOF.fullmatch(entry):
                with contextlib.suppress(ValidationError, PlaybookFailed):
                    found.append(Proof.model_validate_json(_document(backup, entry)))
    return tuple(proof for proof in found if proof.backup == name)


def prove(folder: int, proof: Proof) -> None:
    """Put a proof beside the archive.

    Raises:
        PlaybookFailed: the operating system refuses.
    """
    with files.failing("The proof"), opened(folder, proof.backup) as backup:
        files.replace(backup, proof_name(proof.key), canonical_record(proof) + b"\n")


def disprove(folder: int, name: str, key: str) -> bool:
    """Remove the proof that the step with this key wrote; whether there was one.

    Raises:
        PlaybookFailed: the operating system refuses.
    """
    with files.failing("The proof"), opened(folder, name) as backup:
        there = files.status(backup, proof_name(key)) is not None
        files.remove(backup, proof_name(key))
        os.fsync(backup)
    return there
