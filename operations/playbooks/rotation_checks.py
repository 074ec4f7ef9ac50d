"""What must be true of a log folder after a rotation, and after one was taken back; read-only."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

from operations.canonical import Json, sha256
from operations.errors import PlaybookFailed
from operations.evidence import Check, Snapshot
from operations.playbooks.folder import failing, measured, opened_file, opened_folder, status
from operations.playbooks.rotation import (
    ARCHIVES,
    LogState,
    RotatedLog,
    Rotation,
    archives_of,
    begins_with,
    log_names,
    rotations,
    verify,
)
from operations.systems import LogFolder

_UNFINISHED: Final = re.compile(r"\..+\.\d{6}\.(raw|part|tail)|\.triad-.+")


@contextlib.contextmanager
def opened(system: LogFolder, *, create: bool = False) -> Iterator[tuple[int, int | None]]:
    """Descriptors of the log folder and of the archive folder in it, which may not be there yet."""
    with opened_folder(system.path) as folder:
        if create and status(folder, ARCHIVES) is None:
            with failing(ARCHIVES), contextlib.suppress(FileExistsError):
                os.mkdir(ARCHIVES, 0o700, dir_fd=folder)
                os.fsync(folder)
        if status(folder, ARCHIVES) is None:
            yield folder, None
            return
        with failing(ARCHIVES):
            archives = os.open(ARCHIVES, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            yield folder, archives
        finally:
            os.close(archives)


def archives_digest(folder: int, archives: int | None, pattern: str) -> str:
    """SHA-256 over the names of all archives of the matching logs."""
    names = log_names(folder, pattern) if archives is not None else []
    found = [] if archives is None else [archive for name in names for archive in archives_of(archives, name)]
    return sha256("\n".join(sorted(found)).encode())


def _noted(snapshot: Snapshot) -> list[dict[str, Json]]:
    logs = snapshot.facts.get("logs")
    if not isinstance(logs, list):
        raise PlaybookFailed("snapshot-damaged", "The snapshot lists no logs.")
    return [log for log in logs if isinstance(log, dict)]


def rotations_since(archives: int | None, snapshot: Snapshot) -> list[Rotation]:
    """The rotations that came after the snapshot, oldest first."""
    last = snapshot.facts.get("last_rotation")
    if not isinstance(last, int):
        raise PlaybookFailed("snapshot-damaged", "The snapshot names no rotation.")
    return [] if archives is None else [past for past in rotations(archives) if past.number > last]


def check_rotation(keep: int, system: LogFolder, before: Snapshot) -> tuple[Check, ...]:
    """Post-conditions of a rotation, against the snapshot taken before it."""
    with opened(system) as (folder, archives):
        noted = _noted(before)
        archived = [
            log
            for rotation in rotations_since(archives, before)
            if rotation.state == "done"
            for log in rotation.logs
            if log.state is LogState.ARCHIVED
        ]
        missing = {str(log["log"]) for log in noted} - {log.log for log in archived}
        damaged = [log.archive for log in archived if archives is None or not _intact(archives, log, noted)]
        stale = [str(log["log"]) for log in noted if not _is_fresh(folder, log)]
        counts = {log.log: len(archives_of(archives, log.log)) for log in archived if archives is not None}
        entries = os.listdir(archives) if archives is not None else []  # noqa: PTH208 - a descriptor, not a path
        unfinished = [name for name in entries if _UNFINISHED.fullmatch(name)]
    return (
        Check(
            name="every-log-archived",
            passed=not missing,
            expected=f"{len(noted)} logs in a closed rotation",
            observed=f"missing: {_listed(missing)}",
        ),
        Check(
            name="archives-complete",
            passed=not damaged,
            expected=f"{len(archived)} archives with the size and SHA-256 of what was rotated",
            observed=f"damaged: {_listed(damaged)}",
        ),
        Check(
            name="logs-fresh",
            passed=not stale,
            expected="every log without its old content, without a hole, with its owner and mode",
            observed=f"not so: {_listed(stale)}",
        ),
        Check(
            name="kept-number",
            passed=all(count <= keep for count in counts.values()),
            expected=f"at most {keep} archives of each log",
            observed=f"most: {max(counts.values(), default=0)}",
        ),
        Check(
            name="nothing-unfinished",
            passed=not unfinished,
            expected="no file of an unfinished rotation",
            observed=_listed(unfinished),
        ),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"


def _intact(archives: int, log: RotatedLog, noted: list[dict[str, Json]]) -> bool:
    """Whether the archive is what the manifest says, and begins with what the snapshot, taken before, had measured."""
    seen = next((each for each in noted if each["log"] == log.log), None)
    try:
        with opened_file(archives, log.archive) as archive:
            verify(archive, log)
            return seen is None or begins_with(archive, log, int(str(seen["bytes"])), str(seen["sha256"]))
    except PlaybookFailed:
        return False


def _is_fresh(folder: int, seen: dict[str, Json]) -> bool:
    name, size = str(seen["log"]), int(str(seen["bytes"]))
    try:
        with opened_file(folder, name) as live:
            about = os.fstat(live)
            alike = (about.st_mode & 0o7777, about.st_uid, about.st_gid) == (seen["mode"], seen["uid"], seen["gid"])
            return alike and os.pread(live, 1, 0) != b"\0" and measured(live, size) != (size, seen["sha256"])
    except PlaybookFailed:
        return False


def check_restoration(system: LogFolder, snapshot: Snapshot) -> tuple[Check, ...]:
    """Post-conditions of an undo, against the same snapshot."""
    with opened(system) as (folder, archives):
        different = []
        for seen in _noted(snapshot):
            name, size = str(seen["log"]), int(str(seen["bytes"]))
            if status(folder, name) is None:
                different.append(name)
                continue
            with opened_file(folder, name) as live:
                if measured(live, size) != (size, seen["sha256"]):
                    different.append(name)
        digest = archives_digest(folder, archives, system.pattern)
    return (
        Check(
            name="original-bytes-first",
            passed=not different,
            expected="every log starts with the bytes it had",
            observed=f"different: {_listed(different)}",
        ),
        Check(
            name="archives-as-before",
            passed=digest == snapshot.facts.get("archives"),
            expected=f"names' digest {snapshot.facts.get('archives')}",
            observed=f"names' digest {digest}",
        ),
    )
