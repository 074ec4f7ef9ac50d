"""Log files: rotated without losing a byte, compressed, kept in a number, and put back when it is asked for."""

import contextlib
import os
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from operations.canonical import Json, sha256
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
    RotatedLog,
    Rotation,
    advance,
    archives_of,
    begin,
    finish,
    log_names,
    recover,
    rotations,
    verify,
    writer_refusal,
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
def _opened(system: LogFolder, *, create: bool = False) -> Iterator[tuple[int, int | None]]:
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
            archives = os.open(
                ARCHIVES, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        try:
            yield folder, archives
        finally:
            os.close(archives)


@contextlib.contextmanager
def _at_work(system: LogFolder) -> Iterator[tuple[int, int]]:
    with _opened(system, create=True) as (folder, archives):
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

    An interruption at any point, kill -9 included, loses no byte. It may leave `.LOG.NUMBER.raw`, `.part`, `.tail` and a
    manifest that says how far it came. Run again under the same key, it is carried on; the next run under another key
    finishes what was taken and leaves alone what was not. The same holds for an interrupted undo, which starts again.
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
        """Which logs are concerned. Sizes grow all the time, so they stand in the snapshot and not here."""
        system: LogFolder = target.expect(LogFolder)
        names = await to_the_end(lambda: _names(system))
        listed: list[Json] = list(names)
        how = "rename to" if args.mode == "rename" else "copy to, then truncate,"
        packing = " and compress with zstd" if args.compress else ""
        return Preview(
            commands=(
                *(f"{how} {ARCHIVES}/: {name}, if it has {args.minimum_bytes} bytes or more{packing}" for name in names),
                f"keep {args.keep} archives of each log",
            ),
            basis={"folder": system.path, "pattern": system.pattern, "logs": listed},
            blast_radius=f"{len(names)} logs of {system.name} and their archives.",
            undo="The archived bytes are put back in front of what was written since; older archives come back too.",
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
            if rotation.state == "done":
                return _outcome(rotation, "Already rotated under this key: ")
            for number, log in enumerate(rotation.logs):
                await call.progress(number / len(rotation.logs), f"rotating {log.log}")
                rotation = await to_the_end(_Advance(folder, archives, rotation, log.log))
            rotation = await to_the_end(_Finish(archives, rotation))
        await call.progress(1.0, "rotated")
        return _outcome(rotation, "")
