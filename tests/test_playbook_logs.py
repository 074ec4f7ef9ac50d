"""`logs.rotate` on real files, with real writers and real kills."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import zstandard

from operations.canonical import JsonObject
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Probe
from operations.playbook import Call, Target
from operations.playbooks.folder import writer_holds
from operations.playbooks.logs import Rotate, RotateArguments
from operations.systems import LogFolder

pytestmark = pytest.mark.anyio

KEY = "op_1/1/1"
LINES = b"".join(b"line %d\n" % number for number in range(1000))


def target(folder: Path, pattern: str = "*.log") -> Target:
    return Target(LogFolder(name="logs", path=str(folder), pattern=pattern))


def args(**raw: str | int | bool) -> RotateArguments:
    made: JsonObject = dict(raw)
    return Rotate().parse(made)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_bytes(LINES)
    (folder / "app.log").chmod(0o640)
    return folder


def archives(folder: Path, log: str = "app.log") -> list[Path]:
    return sorted((folder / "rotated").glob(f"{log}.*"))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data


def read(path: Path) -> bytes:
    return path.read_bytes()


async def rotated(folder: Path, wanted: RotateArguments, key: str = KEY) -> None:
    """The whole procedure; every check must have passed."""
    before = await Rotate().before(wanted, target(folder))
    await Rotate().run(wanted, target(folder), Call(key=key))
    checks = await Rotate().checks(wanted, target(folder), before)
    assert all(check.passed for check in checks), checks


@pytest.mark.parametrize("mode", ["rename", "copytruncate"])
@pytest.mark.parametrize("compress", [True, False])
async def test_every_byte_goes_into_the_archive_and_the_log_is_fresh(logs: Path, mode: str, compress: bool) -> None:
    await rotated(logs, args(mode=mode, compress=compress))
    (archive,) = archives(logs)
    assert unpacked(archive) == LINES
    assert (archive.suffix == ".zst") is compress
    live = (logs / "app.log").stat()
    assert (live.st_size, live.st_mode & 0o7777) == (0, 0o640)
    assert archive.stat().st_mode & 0o7777 == 0o640
    assert (logs / "rotated").stat().st_mode & 0o7777 == 0o700


async def test_a_writer_that_keeps_the_log_open_goes_on_in_the_emptied_file(logs: Path) -> None:
    with (logs / "app.log").open("ab", buffering=0) as writer:
        await rotated(logs, args(mode="copytruncate"))
        writer.write(b"after\n")
    assert read(logs / "app.log") == b"after\n"
    assert unpacked(archives(logs)[0]) == LINES


async def test_a_busy_writer_that_reopens_loses_no_line_to_rename(logs: Path) -> None:
    stop, written = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            with (logs / "app.log").open("ab") as log:
                log.write(b"more %d\n" % written[0])
            written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    done = 0
    for attempt in range(200):
        if done == 3:
            break
        try:
            await Rotate().run(args(mode="rename"), target(logs), Call(key=f"op_{attempt}/1/1"))
            done += 1
        except PlaybookFailed as error:
            assert error.code == "writer-holds-file"  # noqa: PT017 - it may or may not be open at that moment
    stop.set()
    writer.join()
    everything = b"".join(unpacked(path) for path in archives(logs)) + read(logs / "app.log")
    assert done == 3
    assert everything == LINES + b"".join(b"more %d\n" % number for number in range(written[0]))


async def test_rename_is_refused_while_somebody_has_the_log_open(logs: Path) -> None:
    with (logs / "app.log").open("ab"):
        with pytest.raises(PlaybookFailed) as caught:
            await Rotate().before(args(mode="rename"), target(logs))
        assert caught.value.code == "writer-holds-file"
        with pytest.raises(PlaybookFailed) as caught:
            await Rotate().run(args(mode="rename"), target(logs), Call(key=KEY))
        assert caught.value.code == "writer-holds-file"
    assert read(logs / "app.log") == LINES
    assert archives(logs) == []


def test_a_process_that_asks_for_a_lease_survives_a_writer_who_comes_meanwhile(logs: Path) -> None:
    script = """
import os, sys, threading
from operations.playbooks.folder import writer_holds
fd = os.open(sys.argv[1], os.O_RDONLY)
stop = threading.Event()
def write():
    while not stop.is_set():
        os.close(os.open(sys.argv[1], os.O_WRONLY))
writer = threading.Thread(target=write)
writer.start()
answers = {writer_holds(fd) for _ in range(3000)}
stop.set()
writer.join()
print(sorted(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(logs / "app.log")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "False" in done.stdout


def test_a_reader_does_not_count_as_a_writer(logs: Path) -> None:
    with (logs / "app.log").open("rb") as reader:
        assert not writer_holds(reader.fileno())
        with (logs / "app.log").open("ab"):
            assert writer_holds(reader.fileno())


async def test_bytes_written_since_come_behind_the_archived_ones_when_undone(logs: Path) -> None:
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    with (logs / "app.log").open("ab", buffering=0) as writer:
        await Rotate().run(wanted, target(logs), Call(key=KEY))
        writer.write(b"since\n")
        assert not all(check.passed for check in await Rotate().undone(wanted, target(logs), before))
        outcome = await Rotate().undo(wanted, target(logs), before, Call(key="op_1/1/2"))
        writer.write(b"later\n")
    assert outcome.changed
    assert read(logs / "app.log") == LINES + b"since\nlater\n"
    assert all(check.passed for check in await Rotate().undone(wanted, target(logs), before))
    assert archives(logs) == []


async def test_undo_loses_no_line_of_a_writer_that_never_stops(logs: Path) -> None:
    wanted, stop, written = args(), threading.Event(), [0]
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))

    def write() -> None:
        with (logs / "app.log").open("ab", buffering=0) as log:
            while not stop.is_set():
                log.write(b"more %d\n" % written[0])
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    await Rotate().undo(wanted, target(logs), before, Call(key="op_1/1/2"))
    stop.set()
    writer.join()
    content = read(logs / "app.log")
    assert content.startswith(LINES)
    assert sorted(content[len(LINES) :].splitlines()) == sorted(b"more %d" % number for number in range(written[0]))


async def test_a_log_that_was_removed_meanwhile_comes_back_with_its_mode(logs: Path) -> None:
    wanted = args(mode="rename")
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    (logs / "app.log").unlink()
    await Rotate().undo(wanted, target(logs), before, Call(key="op_1/1/2"))
    assert read(logs / "app.log") == LINES
    assert (logs / "app.log").stat().st_mode & 0o7777 == 0o640
    assert all(check.passed for check in await Rotate().undone(wanted, target(logs), before))


async def test_archives_beyond_the_number_to_keep_go_and_come_back_when_undone(logs: Path) -> None:
    wanted = args(keep=2)
    for number in range(3):
        (logs / "app.log").write_bytes(b"round %d\n" % number)
        await rotated(logs, wanted, f"op_{number}/1/1")
    assert [unpacked(path) for path in archives(logs)] == [b"round 1\n", b"round 2\n"]
    (logs / "app.log").write_bytes(b"round 3\n")
    before = await Rotate().before(wanted, target(logs))
    kept = [path.name for path in archives(logs)]
    await Rotate().run(wanted, target(logs), Call(key="op_9/1/1"))
    assert [unpacked(path) for path in archives(logs)] == [b"round 2\n", b"round 3\n"]
    await Rotate().undo(wanted, target(logs), before, Call(key="op_9/1/1"))
    assert [path.name for path in archives(logs)] == kept
    assert all(check.passed for check in await Rotate().undone(wanted, target(logs), before))


async def test_what_was_set_aside_is_gone_after_the_next_rotation_and_old_manifests_too(logs: Path) -> None:
    for number in range(6):
        (logs / "app.log").write_bytes(b"round %d\n" % number)
        await rotated(logs, args(keep=1), f"op_{number}/1/1")
    names = entries(logs / "rotated")
    assert sum(name.startswith(".expired-") for name in names) == 1
    assert sum(name.startswith("rotation-") for name in names) <= 3


async def test_one_key_rotates_once_and_the_probe_knows(logs: Path) -> None:
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    assert await Rotate().probe(wanted, target(logs), before, KEY) is Probe.NOT_HAPPENED
    first = await Rotate().run(wanted, target(logs), Call(key=KEY))
    assert await Rotate().probe(wanted, target(logs), before, KEY) is Probe.HAPPENED
    (logs / "app.log").write_bytes(b"new\n")
    second = await Rotate().run(wanted, target(logs), Call(key=KEY))
    assert first.facts == second.facts
    assert read(logs / "app.log") == b"new\n"
    assert await Rotate().probe(wanted, target(logs), before, "op_9/1/1") is Probe.NOT_HAPPENED


async def test_an_undone_rotation_can_be_done_again_under_its_key(logs: Path) -> None:
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    await Rotate().undo(wanted, target(logs), before, Call(key=KEY))
    assert await Rotate().probe(wanted, target(logs), before, KEY) is Probe.NOT_HAPPENED
    await rotated(logs, wanted)
    assert unpacked(archives(logs)[0]) == LINES


async def test_undo_is_refused_after_another_operation_rotated(logs: Path) -> None:
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    (logs / "app.log").write_bytes(b"second\n")
    await Rotate().run(wanted, target(logs), Call(key="op_2/1/1"))
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().undo(wanted, target(logs), before, Call(key="op_1/1/2"))
    assert caught.value.code == "rotated-since"
    assert read(logs / "app.log") == b""
    assert len(archives(logs)) == 2


@pytest.mark.parametrize("damage", [b"", b"\x28\xb5\x2f\xfd broken", LINES])
async def test_a_damaged_archive_fails_the_check_and_is_not_put_back(logs: Path, damage: bytes) -> None:
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    archives(logs)[0].write_bytes(damage)
    checks = {check.name: check.passed for check in await Rotate().checks(wanted, target(logs), before)}
    assert checks["archives-complete"] is False
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().undo(wanted, target(logs), before, Call(key=KEY))
    assert caught.value.code == "archive-damaged"
    assert read(logs / "app.log") == b""


async def test_an_archive_that_agrees_with_its_manifest_but_not_with_the_snapshot_fails_the_check(logs: Path) -> None:
    wanted = args(compress=False)
    before = await Rotate().before(wanted, target(logs))
    (logs / "app.log").write_bytes(b"something else entirely\n")
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    checks = {check.name: check.passed for check in await Rotate().checks(wanted, target(logs), before)}
    assert checks == {
        "every-log-archived": True,
        "archives-complete": False,
        "logs-fresh": True,
        "kept-number": True,
        "nothing-unfinished": True,
    }


async def test_without_a_run_the_checks_fail(logs: Path) -> None:
    before = await Rotate().before(args(), target(logs))
    checks = {check.name: check.passed for check in await Rotate().checks(args(), target(logs), before)}
    assert checks["every-log-archived"] is False
    assert checks["logs-fresh"] is False


async def test_a_writer_that_does_not_append_leaves_a_hole_that_the_check_sees(logs: Path) -> None:
    wanted = args(mode="copytruncate")
    with (logs / "app.log").open("r+b", buffering=0) as writer:
        writer.seek(0, os.SEEK_END)
        before = await Rotate().before(wanted, target(logs))
        await Rotate().run(wanted, target(logs), Call(key=KEY))
        writer.write(b"far behind\n")
    checks = {check.name: check.passed for check in await Rotate().checks(wanted, target(logs), before)}
    assert checks["logs-fresh"] is False


async def test_small_logs_links_and_other_names_are_left_alone(logs: Path, tmp_path: Path) -> None:
    (logs / "small.log").write_bytes(b"x")
    (logs / "other.txt").write_bytes(LINES)
    (tmp_path / "outside").write_bytes(LINES)
    (logs / "link.log").symlink_to(tmp_path / "outside")
    os.mkfifo(logs / "pipe.log")
    await rotated(logs, args(minimum_bytes=2))
    assert len(entries(logs / "rotated")) == 2
    assert read(tmp_path / "outside") == LINES
    assert read(logs / "small.log") == b"x"


async def test_nothing_to_rotate_is_no_change(logs: Path) -> None:
    wanted = args(minimum_bytes=1 << 30)
    before = await Rotate().before(wanted, target(logs))
    outcome = await Rotate().run(wanted, target(logs), Call(key=KEY))
    assert not outcome.changed
    assert all(check.passed for check in await Rotate().checks(wanted, target(logs), before))


async def test_the_preview_names_the_logs_and_stays_the_same_while_they_grow(logs: Path) -> None:
    first = await Rotate().preview(args(), target(logs))
    with (logs / "app.log").open("ab") as log:
        log.write(b"more\n")
    assert first.digest == (await Rotate().preview(args(), target(logs))).digest
    assert first.basis["logs"] == ["app.log"]
    assert first.estimate == f"1 logs with {len(LINES)} bytes are large enough now."
    (logs / "new.log").touch()
    assert first.digest != (await Rotate().preview(args(), target(logs))).digest
    assert not (logs / "rotated").exists()


@pytest.mark.parametrize("linked", ["folder", "archives"])
async def test_linked_folders_are_refused(logs: Path, tmp_path: Path, linked: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = logs
    if linked == "folder":
        folder = tmp_path / "link"
        folder.symlink_to(logs, target_is_directory=True)
    else:
        (logs / "rotated").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().run(args(), target(folder), Call(key=KEY))
    assert caught.value.code in {"symlink-refused", "not-a-folder"}
    assert read(logs / "app.log") == LINES
    assert entries(elsewhere) == []


async def test_a_log_swapped_for_a_link_after_it_was_listed_is_not_followed(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious\n")
    real_open = os.open

    def swapping_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "app.log" and not (logs / "app.log").is_symlink():
            (logs / "app.log").rename(tmp_path / "moved")
            (logs / "app.log").symlink_to(precious)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping_open)
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().run(args(), target(logs), Call(key=KEY))
    assert caught.value.code == "symlink-refused"
    assert read(precious) == b"precious\n"


async def test_a_name_that_is_not_text_is_refused(logs: Path) -> None:
    (logs / os.fsdecode(b"\xff.log")).touch()
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().preview(args(), target(logs))
    assert caught.value.code == "name-not-text"


async def test_two_runs_at_once_do_not_mix(logs: Path) -> None:
    results = await asyncio.gather(
        *(Rotate().run(args(), target(logs), Call(key=f"op_{number}/1/1")) for number in range(3)),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(failure, PlaybookFailed) and failure.code == "busy" for failure in failures)
    assert len(failures) < 3
    assert [unpacked(path) for path in archives(logs)] == [LINES]


async def test_a_damaged_manifest_stops_everything(logs: Path) -> None:
    await rotated(logs, args())
    (logs / "rotated" / "rotation-000001.json").write_text("{}")
    (logs / "app.log").write_bytes(b"new\n")
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().run(args(), target(logs), Call(key="op_2/1/1"))
    assert caught.value.code == "manifest-damaged"
    assert read(logs / "app.log") == b"new\n"


async def test_a_read_only_folder_is_named_as_such(unprivileged: Path) -> None:
    folder = unprivileged / "logs"
    folder.mkdir()
    (folder / "app.log").write_bytes(LINES)
    folder.chmod(0o555)
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().run(args(), target(folder), Call(key=KEY))
    assert caught.value.code == "permission-denied"
    assert read(folder / "app.log") == LINES


async def test_no_room_for_the_archive_leaves_the_log_whole_and_the_folder_clean(logs: Path) -> None:
    script = """
import asyncio, resource, sys
from operations.errors import PlaybookFailed
from operations.playbook import Call, Target
from operations.playbooks.logs import Rotate
from operations.systems import LogFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
target = Target(LogFolder(name="logs", path=sys.argv[1]))
try:
    asyncio.run(Rotate().run(Rotate().parse({}), target, Call(key="op_1/1/1")))
except PlaybookFailed as error:
    sys.exit(error.code)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(logs), stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert error.decode().strip() == "no-space"
    assert read(logs / "app.log") == LINES
    assert entries(logs / "rotated") == ["rotation-000001.json"]
    await rotated(logs, args(), "op_1/1/2")
    assert unpacked(archives(logs)[0]) == LINES


async def test_too_little_room_is_noticed_before_anything_is_touched(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstatvfs

    def full(fd: int) -> os.statvfs_result:
        known = list(real(fd))
        known[4] = 1
        return os.statvfs_result(known)

    monkeypatch.setattr(os, "fstatvfs", full)
    with pytest.raises(PlaybookFailed) as caught:
        await Rotate().before(args(), target(logs))
    assert caught.value.code == "no-space"


async def test_a_large_log_is_streamed_and_never_held_in_memory(logs: Path) -> None:
    size = 300 << 20
    with (logs / "app.log").open("wb") as log:
        log.truncate(size - 4)
        log.seek(0, os.SEEK_END)
        log.write(b"end\n")
    script = """
import asyncio, resource, sys
from operations.playbook import Call, Target
from operations.playbooks.logs import Rotate
from operations.systems import LogFolder
target = Target(LogFolder(name="logs", path=sys.argv[1]))
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
asyncio.run(Rotate().run(Rotate().parse({"mode": "rename"}), target, Call(key="op_1/1/1")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(logs), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert int(out) < 60 << 10
    with archives(logs)[0].open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        assert sum(len(data) for data in iter(lambda: reader.read(1 << 20), b"")) == size


def crashes(folder: Path, mode: str, stride: int) -> list[JsonObject]:
    script = Path(__file__).with_name("rotation_crashes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), mode, str(stride)],
        env={**os.environ, "PYTHONPATH": str(script.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[JsonObject] = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [moment for moment in found if False in [came for key, came in moment.items() if key != "ended"]]
    assert wrong == [], done.stderr
    return found


@pytest.mark.parametrize("mode", ["rename", "copytruncate"])
def test_a_rotation_killed_at_any_of_many_moments_loses_no_byte_whatever_comes_next(tmp_path: Path, mode: str) -> None:
    found = crashes(tmp_path / "crashes", mode, 6)
    assert sum(moment["ended"] is False for moment in found) > 12


@pytest.mark.full
@pytest.mark.parametrize("mode", ["rename", "copytruncate"])
def test_a_rotation_killed_at_every_single_moment_loses_no_byte_whatever_comes_next(tmp_path: Path, mode: str) -> None:
    found = crashes(tmp_path / "crashes", mode, 1)
    assert sum(moment["ended"] is False for moment in found) > 80


@pytest.mark.parametrize("raw", [{"mode": "move"}, {"keep": 0}, {"keep": 366}, {"minimum_bytes": 0}, {"pattern": "*"}])
def test_arguments_out_of_bounds_are_refused(raw: dict[str, str | int]) -> None:
    with pytest.raises(InvalidRequest):
        args(**raw)


async def test_no_descriptor_stays_open(logs: Path) -> None:
    count = psutil.Process().num_fds()
    wanted = args()
    before = await Rotate().before(wanted, target(logs))
    await Rotate().run(wanted, target(logs), Call(key=KEY))
    await Rotate().checks(wanted, target(logs), before)
    await Rotate().undo(wanted, target(logs), before, Call(key=KEY))
    assert psutil.Process().num_fds() == count
