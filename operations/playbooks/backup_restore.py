"""The proof that a backup can be restored: into a scratch database, compared table by table, dropped again."""

import contextlib
import fcntl
import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from operations.canonical import canonical_record, instant_text, now, sha256
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Call, Playbook, Target
from operations.playbooks import backup_set as backups
from operations.playbooks import folder as files
from operations.playbooks.backup_checks import archive_checks, names_in
from operations.playbooks.backup_set import Manifest, Proof
from operations.playbooks.postgres_digests import PINNED, TableDigest, digests, user_tables
from operations.playbooks.postgres_programs import environment, execute, handed, program
from operations.playbooks.postgres_relations import some
from operations.playbooks.postgres_scratch import scratch, standing, sweep
from operations.playbooks.postgres_session import Timeouts, required, session
from operations.systems import BackupFolder, SystemKind


class RestoreArguments(Timeouts):
    """Which backup, and how long to wait."""

    backup: Annotated[str, StringConstraints(pattern=backups.NAME_PATTERN)] | None = Field(
        default=None, description="name of a backup in the folder; left out: the newest"
    )


class RestoreTest(Playbook[RestoreArguments]):
    """pg_restore into a scratch database; row counts and ordered digests of all tables must equal the manifest's.

    Owners, privileges, comments, publications and subscriptions are not restored: they need rights that the acting role
    does not have. Nor is a database with event triggers or untrusted extensions: the step fails and says so.

    Effect: idempotent. An interruption leaves at most a scratch database that nobody else can enter; the next run drops
    it. What stays after success is a small proof file beside the archive; undo removes it.
    """

    name: ClassVar[str] = "backup.restore_test"
    summary: ClassVar[str] = "Prove that a database backup can be restored, in a scratch database."
    keywords: ClassVar[tuple[str, ...]] = (
        "restore",
        "restore test",
        "recovery",
        "recovery test",
        "verify backup",
        "backup",
        "validate",
        "disaster",
    )
    arguments: ClassVar[type[RestoreArguments]] = RestoreArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"backups"})
    tier: ClassVar[int] = 1
    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    reversible: ClassVar[bool] = True
    only_tests: ClassVar[bool] = True
    timeout: ClassVar[timedelta] = timedelta(hours=4)

    async def preview(self, args: RestoreArguments, target: Target) -> Preview:
        """The statements and the command. SCRATCH is chosen when it runs, and so is the newest backup."""
        system = _system(target)
        with files.opened_folder(system.path) as folder:
            there = await files.to_the_end(partial(backups.names, folder, system.database))
        if args.backup is not None and args.backup not in there:
            raise InvalidRequest("unknown-backup", "The folder has no backup of that name.", field="backup")
        name = args.backup or "NEWEST"
        argv = ["pg_restore", *_restore_options("SCRATCH"), f"{system.path}/{name}/{backups.ARCHIVE}"]
        return Preview(
            commands=(
                "DROP DATABASE of every scratch that a killed run left",
                'CREATE DATABASE "SCRATCH" TEMPLATE template0',
                'REVOKE ALL ON DATABASE "SCRATCH" FROM PUBLIC',
                shlex.join(argv),
                'COPY (every row of every table in "SCRATCH") TO STDOUT, counted and digested',
                'DROP DATABASE "SCRATCH" WITH (FORCE)',
                f"write {system.path}/{name}/proof-MARK.json",
            ),
            basis={"folder": system.path, "database": system.database, "backup": name},
            blast_radius="A scratch database on the same server for as long as it takes: its disk space, reads and "
            "writes. No existing database and no backup is changed.",
            undo="The proof file is removed; the scratch database is gone already.",
        )

    async def before(self, args: RestoreArguments, target: Target) -> Snapshot:
        """The backup that would be restored, if it is one of ours and not damaged."""
        system = _system(target)
        program("pg_restore")
        with files.opened_folder(system.path) as folder:
            name = await files.to_the_end(partial(_chosen, folder, system, args))
            manifest = await files.to_the_end(partial(_whole, folder, name, system))
            there = await files.to_the_end(partial(backups.names, folder, system.database))
            proven = [
                str(p.tested) for item in there for p in await files.to_the_end(partial(backups.proofs, folder, item))
            ]
        return Snapshot(
            summary=f"{name}: {len(manifest.tables)} tables, {manifest.rows} rows.",
            facts={"taken": instant_text(now()), "backup": name, "backups": list(there), "proofs": len(proven)},
        )

    async def run(self, args: RestoreArguments, target: Target, call: Call) -> Outcome:
        """Restore, compare, drop, and write the proof."""
        system, dsn = _system(target), required(target.credential)
        with files.opened_folder(system.path) as folder:
            name = await files.to_the_end(partial(_chosen, folder, system, args))
            with (
                backups.opened(folder, name, fcntl.LOCK_SH) as backup,
                contextlib.ExitStack() as stack,
            ):
                manifest = await files.to_the_end(partial(backups.manifest_in, backup, name, system.database))
                archive = stack.enter_context(files.opened_file(backup, backups.ARCHIVE))
                await files.to_the_end(partial(_unchanged, archive, manifest))
                async with session(dsn, call.key, args, {"idle_session_timeout": "0"}) as opened:
                    swept = await sweep(opened.connection)
                    server = opened.connection.get_server_version().major
                    async with scratch(opened.connection, dsn, call.key, manifest) as database:
                        await call.progress(0.2, f"pg_restore of {name}")
                        await _restore(archive, dsn, call.key, database)
                        await call.progress(0.6, f"comparing {len(manifest.tables)} tables")
                        async with session(dsn, call.key, args, PINNED, database=database) as inside:
                            found = await digests(inside.connection, await user_tables(inside.connection))
                await files.to_the_end(partial(_unchanged, archive, manifest))
                _same(manifest, found)
                proof = Proof(
                    key=call.key,
                    backup=name,
                    sha256=manifest.sha256,
                    manifest=sha256(canonical_record(manifest)),
                    tested=now(),
                    server=server,
                    tables=len(found),
                    rows=sum(table.rows for table in found),
                )
                await files.to_the_end(partial(backups.prove, folder, proof))
        await call.progress(1.0, f"{name} can be restored")
        return Outcome(
            summary=f"{name} restored: {proof.tables} tables with {proof.rows} rows equal the manifest.",
            changed=True,
            facts={
                "backup": name,
                "sha256": proof.sha256,
                "tables": proof.tables,
                "rows": proof.rows,
                "scratches_of_killed_runs": swept,
            },
        )

    async def checks(self, args: RestoreArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """A proof newer than the snapshot agrees with manifest and archive as they are now, and no scratch is left."""
        system = _system(target)
        taken = datetime.fromisoformat(str(before.facts["taken"]))
        with files.opened_folder(system.path) as folder:
            there = (
                [args.backup]
                if args.backup
                else await files.to_the_end(partial(backups.names, folder, system.database))
            )
            proofs = [
                proof for name in there for proof in await files.to_the_end(partial(backups.proofs, folder, name))
            ]
            proof = max((p for p in proofs if p.tested >= taken), key=lambda p: p.tested, default=None)
            agreed = proof is not None and await files.to_the_end(partial(_agrees, folder, system, proof))
            archive = await archive_checks(folder, proof.backup, target) if proof else ()
        async with session(target.credential, "check") as opened:
            left = await standing(opened.connection)
        return (
            Check(
                name="restored-and-equal",
                passed=agreed,
                expected="a proof from after the snapshot that agrees with the manifest",
                observed=f"{proof.tables} tables, {proof.rows} rows of {proof.backup}" if proof else "no proof",
            ),
            *archive,
            Check(name="scratch-gone", passed=left == 0, expected="no scratch database", observed=f"{left} left"),
        )

    async def undo(self, args: RestoreArguments, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        """Remove the proof that this step wrote."""
        del args, snapshot
        system, removed = _system(target), 0
        with files.opened_folder(system.path) as folder:
            for name in await files.to_the_end(partial(backups.names, folder, system.database)):
                removed += await files.to_the_end(partial(backups.disprove, folder, name, call.key))
        return Outcome(summary=f"Removed {removed} proofs.", changed=bool(removed), facts={"removed": removed})

    async def undone(self, args: RestoreArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        """The backups carry as many proofs as before."""
        del args
        system = _system(target)
        with files.opened_folder(system.path) as folder:
            old = [await files.to_the_end(partial(backups.proofs, folder, name)) for name in names_in(snapshot)]
        count, expected = sum(map(len, old)), snapshot.facts.get("proofs")
        return (
            Check(
                name="proofs-as-before",
                passed=count == expected,
                expected=f"{expected} proofs",
                observed=f"{count} proofs",
            ),
        )


def _system(target: Target) -> BackupFolder:
    system: BackupFolder = target.expect(BackupFolder)
    return system


def _chosen(folder: int, system: BackupFolder, args: RestoreArguments) -> str:
    there = backups.names(folder, system.database)
    if args.backup is not None and args.backup not in there:
        raise PlaybookFailed("unknown-backup", "The folder has no backup of that name of this database.")
    if not there:
        raise PlaybookFailed("no-backup", "The folder has no backup of this database yet.")
    return args.backup or there[-1]


def _whole(folder: int, name: str, system: BackupFolder) -> Manifest:
    manifest = backups.manifest(folder, name, system.database)
    with backups.opened(folder, name) as backup, files.opened_file(backup, backups.ARCHIVE) as archive:
        _unchanged(archive, manifest)
    return manifest


def _unchanged(archive: int, manifest: Manifest) -> None:
    if files.measured(archive) != (manifest.bytes, manifest.sha256):
        raise PlaybookFailed("archive-corrupt", f"The archive of {manifest.name} is not what its manifest says.")


def _agrees(folder: int, system: BackupFolder, proof: Proof) -> bool:
    try:
        manifest = _whole(folder, proof.backup, system)
    except PlaybookFailed:
        return False
    said = (proof.sha256, proof.manifest, proof.tables, proof.rows)
    return said == (manifest.sha256, sha256(canonical_record(manifest)), len(manifest.tables), manifest.rows)


def _same(manifest: Manifest, found: Sequence[TableDigest]) -> None:
    wanted, got = ({table.label: table for table in tables} for tables in (manifest.tables, found))
    differing = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if differing:
        raise PlaybookFailed("restore-differs", f"Not as the manifest says after the restore: {some(differing)}.")


def _restore_options(database: str) -> tuple[str, ...]:
    return (
        f"--dbname={database}",
        "--exit-on-error",
        "--no-password",
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        "--no-publications",
        "--no-subscriptions",
        "--no-security-labels",
        "--no-tablespaces",
    )


async def _restore(archive: int, dsn: str, key: str, database: str) -> None:
    argv = [program("pg_restore"), *_restore_options(database), handed(archive)]
    seconds = RestoreTest.timeout.total_seconds()
    finished = await execute(argv, environment(dsn, key), seconds, files=(archive,))
    if finished.code != 0:
        raise PlaybookFailed("restore-failed", f"pg_restore ended with {finished.code}: {finished.complaint}")
