"""Caches in folders: files that may be lost at any time, removed by age."""

import asyncio
import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Final

from pydantic import Field

from operations.canonical import Json
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.playbooks.folder import failing, failure, opened_folder, to_the_end
from operations.systems import CacheFolder, SystemKind

_DEEPEST: Final = 64
"""Folders below each other; what lies deeper is left alone and reported."""
_WITNESSES: Final = 500
"""Young files named one by one in the snapshot; the digest covers all of them."""


class ClearExpiredArguments(Arguments):
    """What counts as expired, and how much may go at once."""

    older_than_seconds: int = Field(
        default=86_400, ge=60, le=315_360_000, description="seconds since a file's last change from which it is expired"
    )
    max_files: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000,
        description="files; when more are expired nothing is removed and the run is refused",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    folder: int
    name: str
    path: str
    bytes: int
    changed_ns: int


@dataclass(slots=True)
class _Walk:
    """One pass over the tree, depth first; `prune_before_ns` tells which empty folders are old enough to go."""

    root: int
    prune_before_ns: int | None = None
    left_alone: int = 0
    pruned: int = 0
    emptied: set[tuple[int, int]] = field(default_factory=set)

    def files(self) -> Iterator[_Found]:
        """Every regular file, with a descriptor of its folder that is open until the next one is asked for."""
        yield from self._inside(self.root, "", os.fstat(self.root).st_dev, 0)

    def _inside(self, folder: int, prefix: str, device: int, depth: int) -> Iterator[_Found]:
        for name in sorted(os.listdir(folder)):
            with suppress(FileNotFoundError):
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(about.st_mode):
                    yield _Found(folder, name, prefix + name, about.st_size, about.st_mtime_ns)
                elif stat.S_ISDIR(about.st_mode) and about.st_dev == device and depth < _DEEPEST:
                    yield from self._below(folder, name, prefix, about, depth)
                else:
                    self.left_alone += 1

    def _below(self, folder: int, name: str, prefix: str, about: os.stat_result, depth: int) -> Iterator[_Found]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except NotADirectoryError:  # exchanged for a link or a file meanwhile
            self.left_alone += 1
            return
        try:
            yield from self._inside(fd, f"{prefix}{name}/", about.st_dev, depth + 1)
            ours = os.fstat(fd)
        finally:
            os.close(fd)
        if self.prune_before_ns is None:
            return
        identity = (ours.st_dev, ours.st_ino)
        if identity in self.emptied or about.st_mtime_ns < self.prune_before_ns:
            with suppress(OSError):  # not empty, or exchanged meanwhile: it stays
                os.rmdir(name, dir_fd=folder)
                self.pruned += 1
                self.emptied.discard(identity)
                parent = os.fstat(folder)
                self.emptied.add((parent.st_dev, parent.st_ino))

    def remove(self, file: _Found) -> bool:
        """Remove one file of this walk by its name in its own folder; False when somebody else was first."""
        try:
            os.unlink(file.name, dir_fd=file.folder)
        except FileNotFoundError:
            return False
        here = os.fstat(file.folder)
        self.emptied.add((here.st_dev, here.st_ino))
        return True


@dataclass(slots=True)
class _Census:
    expired: int = 0
    expired_bytes: int = 0
    young: int = 0
    young_bytes: int = 0
    left_alone: int = 0
    digest: str = ""
    witnesses: list[str] = field(default_factory=list)


def _take_census(path: str, cutoff_ms: int, young_from_ms: int, until_ms: int | None = None) -> _Census:
    census, digest = _Census(), hashlib.sha256()
    with opened_folder(path) as root, failing("the cache folder"):
        walk = _Walk(root)
        for file in walk.files():
            changed_ms = file.changed_ns // 1_000_000
            if changed_ms < cutoff_ms:
                census.expired += 1
                census.expired_bytes += file.bytes
            elif changed_ms >= young_from_ms:
                census.young += 1
                census.young_bytes += file.bytes
                witness = os.fsencode(f"{file.path}\0{file.bytes}\0{file.changed_ns}")
                if until_ms is None or changed_ms <= until_ms:
                    digest.update(hashlib.sha256(witness).digest())
                if len(census.witnesses) < _WITNESSES and file.path.isprintable():
                    census.witnesses.append(file.path)
        census.left_alone = walk.left_alone
    census.digest = digest.hexdigest()
    return census


def _missing(path: str, witnesses: list[str]) -> int:
    with opened_folder(path) as root:
        return sum(not _there(root, witness) for witness in witnesses)


def _there(root: int, witness: str) -> bool:
    try:
        os.stat(witness, dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ClearExpired(Playbook[ClearExpiredArguments]):
    """Removes the regular files of a cache folder that were last changed before the limit, then folders left empty.

    Links are neither followed nor removed, other file systems mounted inside are not entered, and the folder itself
    stays. There is no undo: a cache may be lost at any time, and what is gone is made again on demand.

    An interruption (even kill -9) leaves some expired files; nothing half-done exists, because a file is there or not.
    The next run removes the rest.
    """

    name: ClassVar[str] = "cache.clear_expired"
    summary: ClassVar[str] = "Remove files from a cache folder that have not changed for a given time."
    keywords: ClassVar[tuple[str, ...]] = ("cache", "clear", "clean", "expired", "cleanup", "stale", "evict", "disk")
    arguments: ClassVar[type[Arguments]] = ClearExpiredArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"cache"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    emergency: ClassVar[bool] = True

    async def preview(self, args: ClearExpiredArguments, target: Target) -> Preview:
        """The rule, and as an estimate what it would remove at this moment."""
        system: CacheFolder = target.expect(CacheFolder)
        cutoff = _now_ms() - args.older_than_seconds * 1000
        census = await asyncio.to_thread(_take_census, system.path, cutoff, cutoff)
        return Preview(
            commands=(
                f"unlink regular files below {system.path} unchanged for {args.older_than_seconds} s",
                "rmdir folders that this leaves empty, and empty folders of the same age",
            ),
            basis={"folder": system.path, "max_files": args.max_files},
            blast_radius=f"At most {args.max_files} files of the cache {system.name}.",
            undo="None: a cache may be lost at any time; what is removed is made again when it is asked for.",
            estimate=f"{census.expired} expired files with {census.expired_bytes} bytes, {census.young} younger ones.",
        )

    async def before(self, args: ClearExpiredArguments, target: Target) -> Snapshot:
        """Count what is expired, and fix which young files must still be there afterwards.

        Young means younger than the limit by the time-out, or by half the limit where that is less: files between the
        two may expire while the step is under way.

        Raises:
            PlaybookFailed: `too-many-files`, or the folder cannot be used.
        """
        system: CacheFolder = target.expect(CacheFolder)
        now = _now_ms()
        cutoff = now - args.older_than_seconds * 1000
        margin = min(int(self.timeout.total_seconds()) * 1000, args.older_than_seconds * 500)
        census = await asyncio.to_thread(_take_census, system.path, cutoff, cutoff + margin)
        if census.expired > args.max_files:
            raise PlaybookFailed(
                "too-many-files", f"{census.expired} files are expired, more than the {args.max_files} allowed."
            )
        witnesses: list[Json] = list(census.witnesses)
        return Snapshot(
            summary=f"{census.expired} expired files ({census.expired_bytes} bytes), {census.young} young ones.",
            facts={
                "taken_ms": now,
                "cutoff_ms": cutoff,
                "young_from_ms": cutoff + margin,
                "expired_files": census.expired,
                "expired_bytes": census.expired_bytes,
                "young_files": census.young,
                "young_bytes": census.young_bytes,
                "young_digest": census.digest,
                "witnesses": witnesses,
                "left_alone": census.left_alone,
            },
        )

    async def run(self, args: ClearExpiredArguments, target: Target, call: Call) -> Outcome:
        """Remove at most `max_files` expired files.

        Raises:
            PlaybookFailed: `permission-denied`, `read-only` and the like; what went before is gone, which is harmless.
        """
        system: CacheFolder = target.expect(CacheFolder)
        await call.progress(0.0, "removing expired files")
        stop = threading.Event()
        outcome = await to_the_end(lambda: _clear(args, system, stop), stop)
        await call.progress(1.0, outcome.summary)
        return outcome

    async def checks(self, args: ClearExpiredArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Nothing that was expired remains; what was young is still there."""
        del args
        system: CacheFolder = target.expect(CacheFolder)
        return await asyncio.to_thread(_check, system.path, before)


def _clear(args: ClearExpiredArguments, system: CacheFolder, stop: threading.Event) -> Outcome:
    cutoff_ns = (_now_ms() - args.older_than_seconds * 1000) * 1_000_000
    removed = size = 0
    with opened_folder(system.path) as root:
        walk = _Walk(root, prune_before_ns=cutoff_ns)
        try:
            for file in walk.files():
                if stop.is_set():
                    break
                if file.changed_ns < cutoff_ns and removed < args.max_files:
                    gone = walk.remove(file)
                    removed, size = removed + gone, size + gone * file.bytes
        except OSError as error:
            raise failure("a cache file", error, changed=removed > 0) from error
    return Outcome(
        summary=f"Removed {removed} expired files ({size} bytes) and {walk.pruned} empty folders.",
        changed=removed > 0 or walk.pruned > 0,
        facts={
            "removed_files": removed,
            "removed_bytes": size,
            "pruned_folders": walk.pruned,
            "left_alone": walk.left_alone,
        },
    )


def _check(path: str, before: Snapshot) -> tuple[Check, ...]:
    cutoff, young_from, taken = (_number(before, key) for key in ("cutoff_ms", "young_from_ms", "taken_ms"))
    census = _take_census(path, cutoff, young_from, taken)
    young, names = _number(before, "young_files"), before.facts["witnesses"]
    missing = _missing(path, [str(name) for name in names]) if isinstance(names, list) else young
    same = census.digest == before.facts["young_digest"]
    return (
        Check(
            name="no-expired-files",
            passed=census.expired == 0,
            expected="0 files older than the limit at the time of the snapshot",
            observed=f"{census.expired} files",
        ),
        Check(
            name="young-files-untouched",
            passed=same or (missing == 0 and census.young >= young),
            expected=f"all {young} young files, digest {before.facts['young_digest']}",
            observed=f"{census.young} young files, digest {census.digest}, {missing} of the noted ones missing",
        ),
    )


def _number(snapshot: Snapshot, key: str) -> int:
    value = snapshot.facts[key]
    if not isinstance(value, int):
        raise PlaybookFailed("snapshot-damaged", f"The snapshot's {key} is not a number.")
    return value
