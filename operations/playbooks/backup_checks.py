"""What is looked at to believe in a backup: read-only, with the observing credential."""

from functools import partial
from typing import Final

from operations.errors import PlaybookFailed
from operations.evidence import Check, Snapshot
from operations.playbook import Target
from operations.playbooks import backup_set as backups
from operations.playbooks import folder as files
from operations.playbooks.postgres_programs import execute, handed, program
from operations.playbooks.postgres_session import session
from operations.systems import BackupFolder

LIST_SECONDS: Final = 600
"""How long pg_restore may take to list an archive."""

_IDENTITY: Final = """
    SELECT datname, oid::bigint AS oid, (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS cluster
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
"""


def names_in(snapshot: Snapshot) -> tuple[str, ...]:
    """The backups that a snapshot lists."""
    listed = snapshot.facts.get("backups")
    return tuple(str(name) for name in listed) if isinstance(listed, list) else ()


async def archive_checks(folder: int, name: str, target: Target) -> tuple[Check, ...]:
    """Whether a backup's manifest is ours and of this database, its archive unchanged, and readable to its end."""
    system: BackupFolder = target.expect(BackupFolder)
    try:
        with backups.opened(folder, name) as backup, files.opened_file(backup, backups.ARCHIVE) as archive:
            manifest = await files.to_the_end(partial(backups.manifest_in, backup, name, system.database))
            size, digest = await files.to_the_end(partial(files.measured, archive))
            listed = await tables_listed(archive)
    except PlaybookFailed as error:
        return (
            Check(name="archive-matches-manifest", passed=False, expected="manifest and archive", observed=str(error)),
        )
    async with session(target.credential, "check") as opened:
        row = await opened.connection.fetchrow(_IDENTITY)
    return (
        Check(
            name="archive-matches-manifest",
            passed=(size, digest) == (manifest.bytes, manifest.sha256),
            expected=f"{manifest.bytes} bytes, SHA-256 {manifest.sha256}",
            observed=f"{size} bytes, SHA-256 {digest}",
        ),
        Check(
            name="backup-of-this-database",
            passed=tuple(row) == (manifest.database, manifest.database_oid, manifest.cluster),
            expected=f"database {row['datname']} with oid {row['oid']} of cluster {row['cluster']}",
            observed=f"database {manifest.database} with oid {manifest.database_oid} of cluster {manifest.cluster}",
        ),
        Check(
            name="archive-readable",
            passed=listed is not None and listed >= len(manifest.tables),
            expected=f"pg_restore lists at least {len(manifest.tables)} tables with data",
            observed="pg_restore cannot read it" if listed is None else f"{listed} tables with data",
        ),
    )


async def tables_listed(archive: int) -> int | None:
    """How many tables with data pg_restore lists in an open archive; None when it cannot read it."""
    argv = [program("pg_restore"), "--list", handed(archive)]
    finished = await execute(argv, {"LC_ALL": "C"}, LIST_SECONDS, files=(archive,))
    if finished.code != 0:
        return None
    entries = [line for line in finished.output.decode(errors="replace").splitlines() if not line.startswith(";")]
    return sum(" TABLE DATA " in entry for entry in entries)
