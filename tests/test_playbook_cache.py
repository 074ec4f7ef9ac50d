"""`cache.clear_expired` on real folders."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from operations.errors import InvalidRequest, PlaybookFailed
from operations.playbook import Call, Target
from operations.playbooks.cache import ClearExpired, ClearExpiredArguments
from operations.systems import CacheFolder, HttpService

pytestmark = pytest.mark.anyio

DAY = 86_400
ARGS = ClearExpiredArguments(older_than_seconds=DAY)
CALL = Call(key="op_1/1/1")


def target(folder: Path) -> Target:
    return Target(CacheFolder(name="cache", path=str(folder)))


def make(folder: Path, name: str, age: int, text: str = "x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


async def test_expired_files_go_young_ones_stay_and_empty_folders_are_pruned(cache: Path) -> None:
    old = make(cache, "a/b/old", 2 * DAY, "12345")
    young = make(cache, "a/young", 60)
    playbook = ClearExpired()
    before = await playbook.before(ARGS, target(cache))
    outcome = await playbook.run(ARGS, target(cache), CALL)
    assert outcome.changed
    assert outcome.facts == {"removed_files": 1, "removed_bytes": 5, "pruned_folders": 1, "left_alone": 0}
    assert not old.exists()
    assert not old.parent.exists()
    assert young.exists()
    checks = await playbook.checks(ARGS, target(cache), before)
    assert [check.passed for check in checks] == [True, True]


async def test_a_second_run_finds_nothing_to_do(cache: Path) -> None:
    make(cache, "old", 2 * DAY)
    await ClearExpired().run(ARGS, target(cache), CALL)
    assert not (await ClearExpired().run(ARGS, target(cache), CALL)).changed


async def test_a_file_that_expired_before_and_remains_fails_the_check(cache: Path) -> None:
    make(cache, "old", 2 * DAY)
    before = await ClearExpired().before(ARGS, target(cache))
    checks = {check.name: check for check in await ClearExpired().checks(ARGS, target(cache), before)}
    assert not checks["no-expired-files"].passed
    assert checks["no-expired-files"].observed == "1 files"


async def test_a_young_file_that_is_missing_afterwards_fails_the_check(cache: Path) -> None:
    young = make(cache, "young", 60)
    make(cache, "other", 60)
    before = await ClearExpired().before(ARGS, target(cache))
    young.unlink()
    checks = {check.name: check for check in await ClearExpired().checks(ARGS, target(cache), before)}
    assert not checks["young-files-untouched"].passed


async def test_a_young_file_that_its_service_rewrote_meanwhile_passes_the_check(cache: Path) -> None:
    young = make(cache, "young", 60)
    before = await ClearExpired().before(ARGS, target(cache))
    young.write_text("newer")
    make(cache, "another", 0)
    checks = await ClearExpired().checks(ARGS, target(cache), before)
    assert all(check.passed for check in checks)


async def test_links_are_neither_followed_nor_removed(cache: Path, tmp_path: Path) -> None:
    outside = make(tmp_path, "outside/precious", 2 * DAY)
    (cache / "to-file").symlink_to(outside)
    (cache / "to-folder").symlink_to(outside.parent, target_is_directory=True)
    outcome = await ClearExpired().run(ARGS, target(cache), CALL)
    assert outcome.facts["left_alone"] == 2
    assert outside.exists()
    assert (cache / "to-file").is_symlink()


async def test_pipes_and_sockets_are_left_alone(cache: Path) -> None:
    os.mkfifo(cache / "pipe")
    os.utime(cache / "pipe", (1, 1))
    outcome = await ClearExpired().run(ARGS, target(cache), CALL)
    assert outcome.facts["left_alone"] == 1
    assert (cache / "pipe").exists()


async def test_a_cache_folder_that_is_a_link_is_refused_even_with_a_trailing_slash(cache: Path, tmp_path: Path) -> None:
    make(cache, "old", 2 * DAY)
    link = tmp_path / "link"
    link.symlink_to(cache, target_is_directory=True)
    for path in (str(link), f"{link}/", f"{link}/."):
        with pytest.raises(PlaybookFailed) as caught:
            await ClearExpired().run(ARGS, Target(CacheFolder(name="cache", path=path)), CALL)
        assert caught.value.code == "symlink-refused"
    assert (cache / "old").exists()


async def test_a_path_that_climbs_is_refused(cache: Path) -> None:
    climbing = Target(CacheFolder(name="cache", path=f"{cache}/../cache"))
    with pytest.raises(PlaybookFailed) as caught:
        await ClearExpired().preview(ARGS, climbing)
    assert caught.value.code == "unsafe-path"


async def test_a_folder_swapped_for_a_link_during_the_walk_is_not_entered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cache, "inner/old", 2 * DAY)
    outside = make(tmp_path, "outside/old", 2 * DAY)
    real_open = os.open

    def swapping_open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "inner":
            (cache / "inner").rename(tmp_path / "moved")
            (cache / "inner").symlink_to(outside.parent, target_is_directory=True)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping_open)
    outcome = await ClearExpired().run(ARGS, target(cache), CALL)
    assert outcome.facts["removed_files"] == 0
    assert outside.exists()


async def test_more_expired_files_than_allowed_are_refused_before_anything_is_removed(cache: Path) -> None:
    for number in range(3):
        make(cache, f"old-{number}", 2 * DAY)
    args = ClearExpiredArguments(older_than_seconds=DAY, max_files=2)
    with pytest.raises(PlaybookFailed) as caught:
        await ClearExpired().before(args, target(cache))
    assert caught.value.code == "too-many-files"
    assert len(names(cache)) == 3


async def test_the_run_itself_never_removes_more_than_allowed(cache: Path) -> None:
    for number in range(5):
        make(cache, f"old-{number}", 2 * DAY)
    await ClearExpired().run(ClearExpiredArguments(older_than_seconds=DAY, max_files=2), target(cache), CALL)
    assert len(names(cache)) == 3


async def test_the_preview_stays_the_same_under_ordinary_traffic_and_says_why_there_is_no_undo(cache: Path) -> None:
    make(cache, "old", 2 * DAY)
    first = await ClearExpired().preview(ARGS, target(cache))
    make(cache, "older", 3 * DAY)
    make(cache, "young", 1)
    second = await ClearExpired().preview(ARGS, target(cache))
    assert first.digest == second.digest
    assert first.estimate == "1 expired files with 1 bytes, 0 younger ones."
    assert second.estimate == "2 expired files with 2 bytes, 1 younger ones."
    assert "may be lost" in first.undo


async def test_a_fresh_empty_folder_stays(cache: Path) -> None:
    (cache / "new").mkdir()
    (cache / "stale").mkdir()
    os.utime(cache / "stale", (1, 1))
    await ClearExpired().run(ARGS, target(cache), CALL)
    assert entries(cache) == ["new"]


async def test_a_read_only_folder_is_named_as_such(unprivileged: Path) -> None:
    make(unprivileged, "cache/old", 2 * DAY)
    (unprivileged / "cache").chmod(0o555)
    with pytest.raises(PlaybookFailed) as caught:
        await ClearExpired().run(ARGS, target(unprivileged / "cache"), CALL)
    assert caught.value.code == "permission-denied"
    assert not caught.value.changed
    assert (unprivileged / "cache" / "old").exists()


async def test_a_missing_folder_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(PlaybookFailed) as caught:
        await ClearExpired().preview(ARGS, target(tmp_path / "absent"))
    assert caught.value.code == "file-missing"


async def test_another_kind_of_system_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await ClearExpired().preview(ARGS, Target(HttpService(name="web", url="http://localhost/")))


async def test_cancellation_stops_the_removal_and_returns_only_when_the_thread_has_ended(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        make(cache, f"old-{number:02}", 2 * DAY)
    removed: list[str] = []
    loop, running = asyncio.get_running_loop(), asyncio.Event()
    real_unlink = os.unlink

    def slow_unlink(path: str, *, dir_fd: int | None = None) -> None:
        loop.call_soon_threadsafe(running.set)
        time.sleep(0.01)
        real_unlink(path, dir_fd=dir_fd)
        removed.append(path)

    monkeypatch.setattr(os, "unlink", slow_unlink)
    task = asyncio.create_task(ClearExpired().run(ARGS, target(cache), CALL))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone = len(removed)
    assert 0 < gone < 50
    assert len(names(cache)) == 50 - gone


async def test_a_killed_run_leaves_only_whole_files_and_the_next_one_finishes(cache: Path) -> None:
    for number in range(20):
        make(cache, f"{number % 4}/old-{number}", 2 * DAY)
    script = f"""
import asyncio, os, signal
from operations.playbook import Call, Target
from operations.playbooks.cache import ClearExpired, ClearExpiredArguments
from operations.systems import CacheFolder
left, unlink = [7], os.unlink
def dying(name, *, dir_fd=None):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    unlink(name, dir_fd=dir_fd)
os.unlink = dying
target = Target(CacheFolder(name="cache", path={str(cache)!r}))
asyncio.run(ClearExpired().run(ClearExpiredArguments(older_than_seconds={DAY}), target, Call(key="k")))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=subprocess.DEVNULL)
    assert await process.wait() == -9
    assert len(names(cache)) == 14
    outcome = await ClearExpired().run(ARGS, target(cache), CALL)
    assert outcome.facts["removed_files"] == 14
    assert entries(cache) == []


@pytest.mark.parametrize(
    "raw", [{"older_than_seconds": 1}, {"max_files": 0}, {"path": "/etc"}, {"older_than_seconds": True}]
)
def test_arguments_out_of_bounds_are_refused(raw: dict[str, int | str | bool]) -> None:
    with pytest.raises(InvalidRequest):
        ClearExpired().parse(dict(raw))
