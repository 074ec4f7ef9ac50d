"""`observe.host` on the machine the test runs on."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from operations.canonical import Json, canonical
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Snapshot
from operations.playbook import Call, Target
from operations.playbooks.host import ObserveHost, ObserveHostArguments
from operations.systems import Host, HttpService

pytestmark = pytest.mark.anyio

CALL = Call(key="op_1/1/1")
TARGET = Target(Host(name="here"))


def holds_a_float(value: Json) -> bool:
    if isinstance(value, dict):
        return any(holds_a_float(item) for item in value.values())
    if isinstance(value, list):
        return any(holds_a_float(item) for item in value)
    return isinstance(value, float)


async def test_the_facts_agree_with_the_kernel_and_hold_whole_numbers_only(tmp_path: Path) -> None:
    outcome = await ObserveHost(tmp_path).run(ObserveHostArguments(), TARGET, CALL)
    facts = outcome.facts
    disk = os.statvfs(tmp_path)
    assert not outcome.changed
    assert facts["memory_total_bytes"] == psutil.virtual_memory().total
    assert facts["disk_total_bytes"] == disk.f_blocks * disk.f_frsize
    assert facts["cpu_count"] == os.cpu_count()
    assert not holds_a_float(facts)
    assert canonical(facts)


async def test_the_largest_processes_are_listed_by_resident_memory_and_nothing_of_their_command_line() -> None:
    script = "import sys; held = bytearray(64 << 20); print(flush=True); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, "--password=hunter2", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    await process.stdout.readline()
    outcome = await ObserveHost().run(ObserveHostArguments(top=20), TARGET, CALL)
    process.stdin.close()
    await process.wait()
    listed = outcome.facts["processes"]
    assert isinstance(listed, list)
    sizes = [entry["rss_bytes"] for entry in listed if isinstance(entry, dict)]
    assert sizes == sorted(sizes, key=lambda size: -int(str(size)))
    assert len(listed) <= 20
    assert "hunter2" not in outcome.model_dump_json()


async def test_no_process_is_listed_when_none_is_asked_for() -> None:
    outcome = await ObserveHost().run(ObserveHostArguments(top=0), TARGET, CALL)
    assert outcome.facts["processes"] == []
    assert int(str(outcome.facts["process_count"])) > 0


async def test_the_same_machine_passes_the_check_and_one_booted_at_another_time_fails_it() -> None:
    playbook = ObserveHost()
    before = await playbook.before(ObserveHostArguments(), TARGET)
    assert [check.passed for check in await playbook.checks(ObserveHostArguments(), TARGET, before)] == [True]
    other = Snapshot(summary="", facts={"boot_time_seconds": int(psutil.boot_time()) - 3600})
    assert [check.passed for check in await playbook.checks(ObserveHostArguments(), TARGET, other)] == [False]
    assert [check.passed for check in await playbook.checks(ObserveHostArguments(), TARGET, Snapshot(summary=""))] == [
        False
    ]


async def test_limits_that_are_given_are_compared() -> None:
    playbook = ObserveHost()
    before = await playbook.before(ObserveHostArguments(), TARGET)
    args = ObserveHostArguments(max_memory_percent=1, max_disk_percent=100)
    checks = {check.name: check.passed for check in await playbook.checks(args, TARGET, before)}
    assert checks == {"same-machine": True, "memory-within-limit": False, "disk-within-limit": True}


async def test_a_home_that_is_not_there_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(PlaybookFailed) as caught:
        await ObserveHost(tmp_path / "absent").run(ObserveHostArguments(), TARGET, CALL)
    assert caught.value.code == "home-unreadable"


async def test_the_preview_is_the_same_every_time(tmp_path: Path) -> None:
    playbook = ObserveHost(tmp_path)
    first, second = [await playbook.preview(ObserveHostArguments(), TARGET) for _ in range(2)]
    assert first.digest == second.digest
    assert str(tmp_path) in " ".join(first.commands)


async def test_another_kind_of_system_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await ObserveHost().run(ObserveHostArguments(), Target(HttpService(name="web", url="http://localhost/")), CALL)
