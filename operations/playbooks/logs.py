"""Log files: rotated without losing a byte, compressed, kept in a number, and put back when it is asked for."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Final

from pydantic import Field

from operations.canonical import Json
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Probe, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.playbooks.folder import (
    failing,
    locked,
    measured,
    opened_file,
    opened_folder,
    status,
    to_the_end,
    writer_holds,
)
from operations.playbooks.restoration import restore
from operations.playbooks.rotation import (
    ARCHIVES,
    LogState,
    Mode,
    Rotation,
    advance,
    begin,
    finish,
    log_names,
    recover,
    rotations,
    tidy,
    writer_refusal,
)
from operations.playbooks.rotation_checks import (
    archives_digest,
    check_restoration,
    check_rotation,
    opened,
    rotations_since,
)
from operations.systems import LogFolder, SystemKind

_MOST_LOGS: Final = 1000
_SPARE_BYTES: Final = 1 << 20


class RotateArguments(Arguments):
    """How the logs of a folder are rotated."""

    mode: Mode = Field(
        default="copytruncate",
        description="copytruncate for writers that keep the log open; rename for those that open it for each write",
    )
    compress: bool = Field(default=True, description="whether archives are compressed with zstd")
    keep: int = Field(default=14, ge=1, le=365, description="archives of each log that stay")
    minimum_bytes: int = Field(
        default=1, ge=1, le=1 << 40, description="bytes from which a log is rotated; smaller ones stay as they are"
    )


@contextlib.contextmanager
def _at_work(system: LogFolder) -> Iterator[tuple[int, int]]:
    with opened(system, create=True) as (folder, archives):
        if archives is None:
            raise PlaybookFailed("file-missing", "The archive folder vanished.")
        with locked(archives):
            yield folder, archives


def _due(folder: int, pattern: str, minimum: int) -> list[str]:
    names = log_names(folder, pattern)
    if len(names) > _MOST_LOGS:
        raise PlaybookFailed("too-many-logs", f"{len(names)} logs match, more than {_MOST_LOGS}.")
    return [name for name in names if (about := status(folder, name)) is not None and about.st_size >= minimum]


class Rotate(Playbook[RotateArguments]):
    """Moves the content of every log that is large enough into an archive beside it, in the folder `rotated`.

    With `copytruncate` the log keeps its inode, so a writer that appends goes on in the emptied file; with `rename` a
    fresh file takes its place, which is refused while any process has the log open for writing (the kernel tells).
    Archives beyond `keep` are set aside and removed only when the next rotation starts, so that undo is whole.
    Links that match the pattern are left alone.

    The manifest `rotation-NUMBER.json` carries the idempotency key: `probe` reads it, and no key rotates twice.

    An interruption at any point, kill -9 included, loses no byte. It may leave `.LOG.NUMBER.raw`, `.part`, `.tail` and
    a manifest that says how far it came. Run again under the same key, it is carried on; the next run under another key
    finishes what was taken and leaves alone what was not. An interrupted undo is carried on when it is asked for again.
    """

    name: ClassVar[str] = "logs.rotate"
    summary: ClassVar[str] = "Rotate, compress and keep a number of a folder's logs without losing a byte."
    keywords: ClassVar[tuple[str, ...]] = ("log", "logs", "rotate", "rotation", "compress", "archive", "disk", "space")
    arguments: ClassVar[type[Arguments]] = RotateArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"logs"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.ONCE_PROBE
    emergency: ClassVar[bool] = True
    reversible: ClassVar[bool] = True

    async def preview(self, args: RotateArguments, target: Target) -> Preview:
        """Which logs are concerned, and as an estimate how large they are just now."""
        system: LogFolder = target.expect(LogFolder)
        sizes = await to_the_end(lambda: _sizes(system))
        listed: list[Json] = list(sizes)
        due = [size for size in sizes.values() if size >= args.minimum_bytes]
        how = "rename to" if args.mode == "rename" else "copy to, then truncate,"
        packing = " and compress with zstd" if args.compress else ""
        least = f"{args.minimum_bytes} bytes or more"
        return Preview(
            commands=(
                *(f"{how} {ARCHIVES}/: {name}, if it has {least}{packing}" for name in sizes),
                f"keep {args.keep} archives of each log",
            ),
            basis={"folder": system.path, "pattern": system.pattern, "logs": listed},
            blast_radius=f"{len(sizes)} logs of {system.name} and their archives.",
            undo="The archived bytes are put back in front of what was written since; older archives come back too.",
            estimate=f"{len(due)} logs with {sum(due)} bytes are large enough now.",
        )

    async def before(self, args: RotateArguments, target: Target) -> Snapshot:
        """Measure every log that is due and see that there is room.

        Raises:
            PlaybookFailed: `writer-holds-file`, `no-space`, `too-many-logs`, `name-not-text`, or the folder is refused.
        """
        system: LogFolder = target.expect(LogFolder)
        return await to_the_end(lambda: _before(args, system))

    async def run(self, args: RotateArguments, target: Target, call: Call) -> Outcome:
        """Rotate, one log after the other.

        Raises:
            PlaybookFailed: `busy`, `writer-holds-file` or what the file system says; every byte is in the log or in the
                archive folder.
        """
        system: LogFolder = target.expect(LogFolder)
        with _at_work(system) as (folder, archives):
            rotation = await to_the_end(lambda: _begin(args, system, call.key, folder, archives))
            if rotation is None:
                return Outcome(summary="No log is large enough.", changed=False)
            if rotation.state != "done":
                rotation = await _work(rotation, folder, archives, call)
        await call.progress(1.0, "rotated")
        return _outcome(rotation)

    async def checks(self, args: RotateArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """Every byte that was there is in an intact archive, the logs are fresh, no more archives than to keep."""
        system: LogFolder = target.expect(LogFolder)
        return await to_the_end(lambda: check_rotation(args.keep, system, before))

    async def undo(self, args: RotateArguments, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        """Put the archived bytes in front of what was written since, without stopping the writer.

        Raises:
            PlaybookFailed: `rotated-since` when another operation rotated meanwhile, `archive-damaged`; in both cases
                nothing was changed.
        """
        del args
        system: LogFolder = target.expect(LogFolder)
        outcome = await to_the_end(lambda: _undo(system, snapshot, call.key))
        await call.progress(1.0, outcome.summary)
        return outcome

    async def undone(self, args: RotateArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        """The logs start with the bytes they had, and the archives are those there were."""
        del args
        system: LogFolder = target.expect(LogFolder)
        return await to_the_end(lambda: check_restoration(system, snapshot))

    async def probe(self, args: RotateArguments, target: Target, snapshot: Snapshot, key: str) -> Probe:
        """Happened only when the manifest with this key is closed; run again, an open one is carried on."""
        del args, snapshot
        system: LogFolder = target.expect(LogFolder)
        return await to_the_end(lambda: _probe(system, key))


def _sizes(system: LogFolder) -> dict[str, int]:
    with opened_folder(system.path) as folder:
        names = _due(folder, system.pattern, 0)
        return {name: about.st_size for name in names if (about := status(folder, name)) is not None}


def _before(args: RotateArguments, system: LogFolder) -> Snapshot:
    with opened(system) as (folder, archives):
        past = rotations(archives) if archives is not None else []
        logs: list[Json] = []
        total = 0
        for name in _due(folder, system.pattern, args.minimum_bytes):
            with opened_file(folder, name) as live:
                if args.mode == "rename" and writer_holds(live):
                    raise writer_refusal(name)
                about = os.fstat(live)
                size, digest = measured(live, about.st_size)
            total += size
            logs.append(
                {
                    "log": name,
                    "bytes": size,
                    "sha256": digest,
                    "mode": about.st_mode & 0o7777,
                    "uid": about.st_uid,
                    "gid": about.st_gid,
                }
            )
        room = os.fstatvfs(folder)
        if room.f_bavail * room.f_frsize < 2 * total + _SPARE_BYTES:
            raise PlaybookFailed("no-space", f"Rotating {total} bytes needs twice as much free space.")
        return Snapshot(
            summary=f"{len(logs)} logs with {total} bytes.",
            facts={
                "logs": logs,
                "last_rotation": past[-1].number if past else 0,
                "archives": archives_digest(folder, archives, system.pattern),
            },
        )


def _begin(args: RotateArguments, system: LogFolder, key: str, folder: int, archives: int) -> Rotation | None:
    with failing("the archive folder"):
        tidy(archives)
        for past in rotations(archives):
            if past.key == key and past.state != "undone":
                return past if past.state == "done" else recover(folder, archives, past, resume=True)
            if past.state == "started":
                recover(folder, archives, past, resume=False)
        due = _due(folder, system.pattern, args.minimum_bytes)
        if not due:
            return None
        return begin(archives, due, key=key, mode=args.mode, keep=args.keep, compress=args.compress)


async def _work(rotation: Rotation, folder: int, archives: int, call: Call) -> Rotation:
    try:
        for number, log in enumerate(rotation.logs):
            await call.progress(number / len(rotation.logs), f"rotating {log.log}")
            with failing(log.log, changed=True):
                rotation = await to_the_end(partial(advance, folder, archives, rotation, log))
        with failing("the archive folder", changed=True):
            return await to_the_end(partial(finish, archives, rotation))
    except PlaybookFailed:
        with contextlib.suppress(PlaybookFailed, OSError):  # what cannot be put in order now, the next run will
            await to_the_end(lambda: recover(folder, archives, rotations(archives)[-1], resume=False))
        raise


def _outcome(rotation: Rotation) -> Outcome:
    done = [log for log in rotation.logs if log.state is LogState.ARCHIVED]
    listed: list[Json] = [
        {"log": log.log, "archive": log.archive, "bytes": log.bytes, "sha256": log.sha256} for log in done
    ]
    return Outcome(
        summary=f"Rotated {len(done)} logs with {sum(log.bytes for log in done)} bytes.",
        changed=bool(done),
        facts={"rotation": rotation.number, "logs": listed},
    )


def _undo(system: LogFolder, snapshot: Snapshot, key: str) -> Outcome:
    operation = key.partition("/")[0]
    restored: list[Json] = []
    with _at_work(system) as (folder, archives), failing("the archive folder", changed=True):
        tidy(archives)
        for rotation in rotations_since(archives, snapshot):
            if rotation.state != "undone" and rotation.key.partition("/")[0] != operation:
                raise PlaybookFailed("rotated-since", "Another operation rotated these logs meanwhile.")
        for rotation in reversed(rotations_since(archives, snapshot)):
            if rotation.state == "undone":
                continue
            whole = recover(folder, archives, rotation, resume=False) if rotation.state == "started" else rotation
            back = restore(folder, archives, whole)
            restored += [log.log for log in back.logs if log.state is LogState.RESTORED]
    return Outcome(summary=f"Put back {len(restored)} logs.", changed=bool(restored), facts={"logs": restored})


def _probe(system: LogFolder, key: str) -> Probe:
    with opened(system) as (_, archives):
        found = [past for past in (rotations(archives) if archives is not None else []) if past.key == key]
    return Probe.HAPPENED if any(past.state == "done" for past in found) else Probe.NOT_HAPPENED
