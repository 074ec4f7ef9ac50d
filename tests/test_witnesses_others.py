"""An independent witness and an independent client of witnesses, if installed: see docs/operations/witnesses.md.

`AICS_WITNESS` names the folder of an environment that has `aics-witness`; it is no dependency of this project.
"""

import asyncio
import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.cosignatures import Peer
from storage.verifier.cosignature import CosignerKey
from tests.conftest import Database
from tests.test_witnesses import ADA, asking, cosigned_all, eventually, log_key, noted, opened
from tests.witnessing import PATIENCE, Log, WitnessProcess

ENVIRONMENT = Path(os.environ.get("AICS_WITNESS", "/nowhere"))
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.full,
    pytest.mark.skipif(not (ENVIRONMENT / "bin" / "aics-witness").exists(), reason="AICS_WITNESS names no environment"),
]

FEEDER = """
import base64, sys
from aics_witness.feeder import WitnessClient
url, vkey, *rest = sys.argv[1:]
client = WitnessClient(url, vkey)
for note, proof in zip(rest[::2], rest[1::2]):
    hashes = [base64.b64decode(each) for each in proof.split(",") if each]
    sys.stdout.write(client.submit(base64.b64decode(note).decode(), lambda old, new: hashes))
"""


@contextmanager
def independent(folder: Path, vkey: str) -> Iterator[Peer]:
    """An `aics-witness` that trusts one log."""
    program, config = ENVIRONMENT / "bin" / "aics-witness", folder / "witness.json"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run: list[str | Path] = [program, "init", "--config", config, "--name", "independent.example/w1"]
    made = subprocess.run([*run, "--listen", f"127.0.0.1:{port}"], check=True, capture_output=True, text=True)
    origin = vkey.partition("+")[0]
    subprocess.run([program, "add-log", "--config", config, "--origin", origin, "--vkey", vkey], check=True)
    process = subprocess.Popen([program, "serve", "--config", config], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        key = CosignerKey.parse(next(line for line in made.stdout.splitlines() if "+" in line).strip())
        yield Peer("independent", key, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _fed(arguments: list[str]) -> str:
    """What the independent client prints: the cosignatures it was given and has verified."""
    run = [str(ENVIRONMENT / "bin" / "python"), "-c", FEEDER, *arguments]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


async def test_an_independent_witness_cosigns_our_log(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "independent"
    await asyncio.to_thread(folder.mkdir)
    with independent(folder, log_key(tmp_path).text()) as peer:
        async with opened(database.app, tmp_path) as ledger, asking(ledger, database.app, peer):
            for number in range(5):
                await ledger.note(noted(number), ADA)
                await eventually(lambda: cosigned_all(ledger, peer), "cosigned")


async def test_an_independent_client_is_cosigned_by_our_witness(tmp_path: Path) -> None:
    log = Log(5)
    running = WitnessProcess(tmp_path / "w", log.key)
    try:
        first = base64.b64encode(log.note()).decode()
        log.grow(7)
        second = base64.b64encode(log.note()).decode()
        proof = ",".join(base64.b64encode(each).decode() for each in log.proof(5, 12))
        arguments = [running.url, running.key.text(), first, "", second, proof]
        said = await asyncio.to_thread(_fed, arguments)
        assert said.count("\u2014 witness.example/w1 ") == 2
        assert running.witness.logs()[0].latest == log.checkpoint()
    finally:
        running.kill()
