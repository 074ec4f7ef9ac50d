"""Writers that are killed at any moment leave a log that verifies and keeps every acknowledged entry."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from operations import events as e
from storage.ledger import Ledger
from storage.signer import Signer
from storage.verifier.checkpoint import Checkpoint, verify_note
from storage.verifier.policy import Policy
from storage.verifier.verification import verify
from tests.conftest import ORIGIN, Database

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent


async def acknowledged(process: asyncio.subprocess.Process, lines: int) -> list[str]:
    """Let a writer go on until it acknowledged that many entries, kill it, and read what it said to the end."""
    assert process.stdout is not None
    said = [await process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest = await process.stdout.read()
    await process.wait()
    complete = [*said, *rest.splitlines(keepends=True)]
    return [line.decode().strip() for line in complete if line.endswith(b"\n")]


async def test_writers_killed_in_a_loop_lose_nothing_they_acknowledged(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    said: list[str] = []
    for turn in range(3):
        writers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.endless_writer"),
                *(database.app, str(tmp_path / "ledger.key"), ORIGIN, f"{turn}{name}"),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            for name in "ab"
        ]
        for told in await asyncio.gather(*(acknowledged(writer, 40 * (turn + 1)) for writer in writers)):
            said.extend(told)

    raw = [data for _, data in await ledger.raw(limit=100_000)]
    note = await ledger.checkpoint()
    key = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN).key
    report = verify(raw, note, Policy.of([key]))
    assert report.ok, report.problems
    assert Checkpoint.parse(verify_note(note, key).text).size == len(raw)
    entries = await ledger.entries(kinds=["auth.denied"], limit=100_000)
    found = Counter(entry.event.code for entry in entries if isinstance(entry.event, e.AccessDenied))
    assert set(said) <= set(found)
    assert set(found.values()) == {1}
    created = await ledger.operations(limit=100_000)
    assert len(created) == len(await ledger.entries(kinds=["operation.requested"], limit=100_000))
