"""Backups of a PostgreSQL database into a folder, and the proof that they can be restored.

The target is a `BackupFolder`. Its credential is the DSN of the database that the folder's `database` names: the acting
one when the runner acts, the observing one in probes. What a backup consists of stands in `backup_set`.
"""

import asyncio
import shlex
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import Any, ClassVar, Final, TypeVar

from pydantic import Field

from operations.canonical import JsonObject, now
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Probe, Snapshot
from operations.playbook import Call, Playbook, Target
from operations.playbooks import backup_set as backups
from operations.playbooks import folder as files
from operations.playbooks.backup_checks import LIST_SECONDS, archive_checks, names_in
from operations.playbooks.backup_set import Manifest
from operations.playbooks.postgres_digests import PINNED, digests, user_tables
from operations.playbooks.postgres_programs import environment, execute, handed, program
from operations.playbooks.postgres_session import Timeouts, quoted, required, session, to_the_end
from operations.systems import BackupFolder, SystemKind

T = TypeVar("T")

_MEBIBYTE: Final = 1024 * 1024
_ABOUT: Final = """
    SELECT datname AS database, oid::bigint AS database_oid, pg_catalog.pg_encoding_to_char(encoding) AS encoding,
           datlocprovider::text AS locale_provider, datcollate AS collate, datctype AS ctype, datlocale AS locale,
           pg_catalog.current_setting('server_version_num')::int AS server,
           (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS cluster
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
"""


class CreateArguments(Timeouts):
    """How much room to leave on the disk, and how long to wait."""

    keep_free_mebibytes: int = Field(
        default=256, ge=0, le=1_048_576, description="space that must stay free beyond the database's size, in MiB"
    )


class CreateBackup(Playbook[CreateArguments]):
    """pg_dump in custom format, with the digest of every table under the dump's own snapshot in the manifest.

    Effect: once, and `probe` tells by the idempotency key in the manifest. An interruption leaves at most a folder
    `.partial-NAME`, which is not a backup to anybody; the next backup or undo in the folder removes it, and `probe`
    answers that nothing happened, or that it cannot know while the interrupted run still holds the folder's lock.
    An interrupted undo leaves the backup whole or a `.partial-NAME`; repeating it finishes it.
    """

    name: ClassVar[str] = "backup.create"
    summary: ClassVar[str] = "Back up a PostgreSQL database with pg_dump, with a digest of every table."
    keywords: ClassVar[tuple[str, ...]] = ("backup", "back up", "dump", "pg_dump", "save", "archive", "database")
    arguments: ClassVar[type[CreateArguments]] = CreateArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"backups"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.ONCE_PROBE
    emergency: ClassVar[bool] = True
    reversible: ClassVar[bool] = True
    timeout: ClassVar[timedelta] = timedelta(hours=4)

    async def preview(self, args: CreateArguments, target: Target) -> Preview:
        """The command, and the files that it leads to. NAME and SNAPSHOT are chosen when it runs."""
        system = _system(target)
        size = await _database_size(target, "preview")
        room = await asyncio.to_thread(_room, system)
        place = PurePosixPath(system.path) / "NAME"
        argv = ["pg_dump", *_dump_options(args, "SNAPSHOT"), f"--file={system.path}/.partial-NAME/{backups.ARCHIVE}"]
        return Preview(
            commands=(
                shlex.join(argv),
                f"write {place.with_name('.partial-NAME')}/{backups.MANIFEST}",
                f"rename {place.with_name('.partial-NAME')} {place}",
            ),
            basis={"folder": system.path, "database": system.database, "name": f"{system.database}-TIME-MARK"},
            blast_radius="One new folder with two files; the database is read under one snapshot, and schema changes "
            "wait until the dump is done.",
            undo="The new folder with its files is removed, nothing else.",
            estimate=f"The database has {size} bytes (the dump is compressed); {room} bytes are free.",
        )

    async def before(self, args: CreateArguments, target: Target) -> Snapshot:
        """The backups there are now. Refuses without enough free space, or without the program."""
        system = _system(target)
        program("pg_dump")
        size = await _database_size(target, "before")
        with files.opened_folder(system.path) as folder:
            _enough(folder, size, args)
            there = await files.to_the_end(partial(backups.names, folder, system.database))
        return Snapshot(summary=f"{len(there)} backups.", facts={"backups": list(there)})

    async def run(self, args: CreateArguments, target: Target, call: Call) -> Outcome:
        """Dump and digest under one snapshot, flush, check that the archive can be read, give it its name."""
        system = _system(target)
        with files.opened_folder(system.path) as folder, files.locked(folder):
            made = await files.to_the_end(partial(backups.made_by, folder, system.database, call.key))
            if made is not None:
                return _made(made)
            await files.to_the_end(partial(backups.sweep, folder, system.database))
            _enough(folder, await _database_size(target, call.key), args)
            name = backups.name_for(system.database, call.key, now())
            try:
                made = await self._make(args, target, call, folder, name)
                await files.to_the_end(partial(backups.publish, folder, made))
            except BaseException:
                await files.to_the_end(partial(backups.sweep, folder, system.database))
                raise
        await call.progress(1.0, f"{made.name} is whole")
        return _made(made)

    async def _make(self, args: CreateArguments, target: Target, call: Call, folder: int, name: str) -> Manifest:
        system, started = _system(target), now()
        with backups.begun(folder, name) as archive:
            async with session(target.credential, call.key, args, PINNED) as opened:
                connection = opened.connection
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    tables = await user_tables(connection)
                    if tables:
                        locked = ", ".join(f"ONLY {quoted(*table)}" for table in tables)
                        await connection.execute(f"LOCK TABLE {locked} IN ACCESS SHARE MODE")
                    snapshot = await connection.fetchval("SELECT pg_catalog.pg_export_snapshot()")
                    about = await connection.fetchrow(_ABOUT)
                    await call.progress(0.1, f"pg_dump of {len(tables)} tables")
                    _, found = await together(
                        _dump(archive, snapshot, args, target, call.key),
                        digests(connection, tables),
                    )
            await call.progress(0.8, "flushing and reading back")
            size, digest = await files.to_the_end(partial(backups.flushed, archive))
            await _readable(archive)
        return Manifest(
            name=name,
            key=call.key,
            system=system.database,
            started=started,
            finished=now(),
            bytes=size,
            sha256=digest,
            tables=found,
            **dict(about),
        )

    async def checks(self, args: CreateArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """There is a new backup, of this database, its archive is what the manifest says, and pg_restore reads it."""
        del args
        system = _system(target)
        with files.opened_folder(system.path) as folder:
            there = await files.to_the_end(partial(backups.names, folder, system.database))
            new = [name for name in there if name not in names_in(before)]
            exists = Check(
                name="backup-exists",
                passed=bool(new),
                expected="a backup that was not there before",
                observed=", ".join(new[-3:]) or "none",
            )
            return (exists, *[check for name in new for check in await archive_checks(folder, name, target)])

    async def undo(self, args: CreateArguments, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        """Remove the backups that attempts at this very step made, and what they left half made."""
        del args
        system, removed = _system(target), list[str]()
        with files.opened_folder(system.path) as folder, files.locked(folder):
            swept = await files.to_the_end(partial(backups.sweep, folder, system.database))
            for name in await files.to_the_end(partial(backups.names, folder, system.database)):
                if name in names_in(snapshot) or not name.endswith(backups.mark(call.key)):
                    continue
                made = await files.to_the_end(partial(backups.manifest, folder, name, system.database))
                if backups.stem(made.key) == backups.stem(call.key):
                    await files.to_the_end(partial(backups.discard, folder, name))
                    removed.append(name)
        return Outcome(
            summary=f"Removed {len(removed)} backups that this step had made.",
            changed=bool(removed or swept),
            facts={"removed": [*removed], "leftovers": swept},
        )

    async def undone(self, args: CreateArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        """The folder holds the backups that it held before, and no other."""
        del args
        system = _system(target)
        with files.opened_folder(system.path) as folder:
            there = await files.to_the_end(partial(backups.names, folder, system.database))
        old = names_in(snapshot)
        new, gone = [name for name in there if name not in old], [name for name in old if name not in there]
        return (
            Check(
                name="backups-as-before",
                passed=not new and not gone,
                expected=f"the {len(old)} backups from before",
                observed=f"{len(there)} backups, {len(new)} new, {len(gone)} gone",
            ),
        )

    async def probe(self, args: CreateArguments, target: Target, snapshot: Snapshot, key: str) -> Probe:
        """Whether a backup carries this key; unknown while a run holds the folder or a manifest cannot be read."""
        del args, snapshot
        system = _system(target)
        try:
            with files.opened_folder(system.path) as folder, files.locked(folder):
                made = await files.to_the_end(partial(backups.made_by, folder, system.database, key))
        except PlaybookFailed:
            return Probe.UNKNOWN
        return Probe.NOT_HAPPENED if made is None else Probe.HAPPENED


async def together(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, T]) -> tuple[None, T]:
    """Both results; when one fails or the caller is cancelled, the other is cancelled and awaited."""
    tasks = (asyncio.ensure_future(first), asyncio.ensure_future(second))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ended = await to_the_end(asyncio.gather(*tasks, return_exceptions=True))
    for result in sorted(ended, key=lambda item: isinstance(item, asyncio.CancelledError)):
        if isinstance(result, BaseException):
            raise result
    return tasks[0].result(), tasks[1].result()


def _system(target: Target) -> BackupFolder:
    system: BackupFolder = target.expect(BackupFolder)
    return system


def _room(system: BackupFolder) -> int:
    with files.opened_folder(system.path) as folder:
        return backups.free_bytes(folder)


async def _database_size(target: Target, key: str) -> int:
    async with session(target.credential, key) as opened:
        size = await opened.connection.fetchval(
            "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()::pg_catalog.name)"
        )
    return int(size)


def _enough(folder: int, size: int, args: CreateArguments) -> None:
    free = backups.free_bytes(folder)
    needed = size + args.keep_free_mebibytes * _MEBIBYTE
    if free < needed:
        raise PlaybookFailed("disk-space", f"{needed} bytes are needed and {free} are free; nothing was written.")


def _dump_options(args: Timeouts, snapshot: str) -> tuple[str, ...]:
    return (
        "--format=custom",
        "--compress=gzip:6",
        "--no-password",
        f"--lock-wait-timeout={args.lock_timeout_seconds * 1000}",
        f"--snapshot={snapshot}",
    )


async def _dump(archive: int, snapshot: str, args: Timeouts, target: Target, key: str) -> None:
    argv = [program("pg_dump"), *_dump_options(args, snapshot), f"--file={handed(archive)}"]
    seconds = CreateBackup.timeout.total_seconds()
    finished = await execute(argv, environment(required(target.credential), key), seconds, files=(archive,))
    if finished.code != 0:
        raise PlaybookFailed("dump-failed", f"pg_dump ended with {finished.code}: {finished.complaint}")


async def _readable(archive: int) -> None:
    argv = [program("pg_restore"), "--list", handed(archive)]
    finished = await execute(argv, {"LC_ALL": "C"}, LIST_SECONDS, files=(archive,))
    if finished.code != 0:
        raise PlaybookFailed("archive-unreadable", f"pg_restore cannot read the new archive: {finished.complaint}")


def _made(made: Manifest) -> Outcome:
    facts: JsonObject = {
        "backup": made.name,
        "bytes": made.bytes,
        "sha256": made.sha256,
        "tables": len(made.tables),
        "rows": made.rows,
        "milliseconds": int((made.finished - made.started).total_seconds() * 1000),
    }
    return Outcome(summary=f"{made.name}: {len(made.tables)} tables in {made.bytes} bytes.", changed=True, facts=facts)
