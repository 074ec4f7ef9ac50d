"""The service runs on uvloop, which takes fewer options than asyncio's own loop: programs must start there too."""

import sys
from pathlib import Path

import pytest
import uvloop

from operations.playbook import Call, Target
from operations.playbooks.backup import CreateBackup
from operations.playbooks.backup_restore import RestoreTest
from operations.playbooks.validator import validate
from operations.systems import BackupFolder
from tests.conftest import Database


@pytest.fixture
def target(database: Database, tmp_path: Path) -> Target:
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o750)
    return Target(BackupFolder(name="backups", path=str(folder), database="orders"), database.operator)


def test_a_backup_is_made_and_restored_on_the_services_loop(target: Target) -> None:
    async def both() -> tuple[str, str]:
        create, restore = CreateBackup(), RestoreTest()
        arguments = create.parse({})
        await create.before(arguments, target)
        made = await create.run(arguments, target, Call(key="op_1/1/1"))
        tested = restore.parse({})
        await restore.before(tested, target)
        proved = await restore.run(tested, target, Call(key="op_1/2/1"))
        return made.summary, proved.summary

    made, proved = uvloop.run(both())
    assert made
    assert "equal the manifest" in proved


def test_an_owners_validation_command_runs_on_the_services_loop() -> None:
    answer = uvloop.run(validate((sys.executable, "-c", "print('fine')"), "/dev/null"))
    assert answer.valid
