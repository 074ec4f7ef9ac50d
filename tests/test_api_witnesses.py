"""The service and its witness, seen through the doors: the routes, health, the doctor and the command line."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from operations.canonical import now
from storage.embedded import Embedded
from storage.keyring import SigningKey
from storage.verifier.checkpoint import Checkpoint, Note
from storage.verifier.policy import Policy
from storage.witness import AddCheckpoint
from tests.doors import VACUUM, World, world
from tests.terminal import Terminal
from tests.witnessing import PATIENCE, WitnessThread


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)  # commands of this process share its output
    structlog.configure(wrapper_class=silent)
    try:
        yield
    finally:
        structlog.reset_defaults()


@pytest.fixture
def watched(cluster: Embedded, tmp_path: Path) -> Iterator[tuple[World, WitnessThread]]:
    running = WitnessThread(tmp_path / "w1")
    table = f'[[witnesses]]\nname = "w1"\nvkey = "{running.key.text()}"\nurl = "{running.url}"\n'
    (tmp_path / "triad.toml").write_text(table)
    try:
        with world(cluster, tmp_path) as doors:
            auditor = doors.key("aron", "auditor")
            (key,) = doors.get("/api/v1/ledger/keys", auditor).json()["items"]
            added = Terminal(tmp_path)("witness", "add-log", key["vkey"], "--home", str(tmp_path / "w1"))
            assert added.code == 0, added.err
            yield doors, running
    finally:
        running.stop()


def until_cosigned(doors: World, key: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found: dict[str, Any] = doors.get("/api/v1/witnesses", key).json()
        if found["cosigned"] == found["size"]:
            return found
    raise AssertionError(f"never cosigned: {found}")


def test_the_doors_show_the_witnesses_and_the_checkpoint_that_they_cosigned(
    watched: tuple[World, WitnessThread], tmp_path: Path
) -> None:
    doors, running = watched
    rita, aron = doors.key("rita", "requester"), doors.key("aron", "auditor")
    doors.submit(rita, VACUUM, Prefer="wait=25")
    found = until_cosigned(doors, aron)
    assert (found["quorum"], found["asking"]) == (1, True)
    (item,) = found["items"]
    assert (item["name"], item["refused"], item["behind_since"], item["trouble"]) == ("w1", None, None, None)
    assert doors.get("/api/v1/witnesses", rita).status_code == 403

    note = doors.get("/api/v1/ledger/cosigned-checkpoint", aron).content
    policy = doors.get("/api/v1/ledger/policy", aron).content
    assert Policy.parse(policy).judge(note, int(now().timestamp())).quorum_met
    assert doors.get("/health").json()["checks"]["witnesses"] == {"status": "pass", "output": "The witnesses cosign."}

    terminal = Terminal(tmp_path, doors.settings.url, aron)
    said = terminal("witness", "status")
    assert (said.code, "w1" in said.out) == (0, True)
    assert "are cosigned by a quorum of 1 witness." in said.err
    assert json.loads(terminal("witness", "status", "--json").out)[0]["vkey"] == running.key.text()
    assert terminal("audit", "policy").out.encode() == policy
    assert terminal("witness", "checkpoint").out.encode() == note
    doctor = terminal("doctor", "--home", str(doors.home), "--config", str(tmp_path / "doctor.toml"))
    assert doctor.code != 0  # there is no such settings file
    (tmp_path / "doctor.toml").write_text(
        f'home = "{doors.home}"\n[database]\nurl = "file:{tmp_path / "app.dsn"}"\n'
        + (tmp_path / "triad.toml").read_text()
    )
    doctor = terminal("doctor", "--config", str(tmp_path / "doctor.toml"), "--json")
    (row,) = [each for each in json.loads(doctor.out) if each["name"] == "witnesses"]
    assert row["status"] == "ok"
    assert "under the same user that is the log's own trust domain" in row["found"]


def test_a_witness_that_cosigned_more_than_the_log_has_fails_health_status_and_the_doctor(
    cluster: Embedded, tmp_path: Path
) -> None:
    running = WitnessThread(tmp_path / "w1")
    table = f'[[witnesses]]\nname = "w1"\nvkey = "{running.key.text()}"\nurl = "{running.url}"\n'
    (tmp_path / "triad.toml").write_text(table)
    try:
        with world(cluster, tmp_path) as doors:
            aron = doors.key("aron", "auditor")
            terminal = Terminal(tmp_path, doors.settings.url, aron)
            doors.stop()
            path = doors.home / "secrets" / "ledger.key"
            key = SigningKey.parse(doors.settings.origin, path.read_text(), "the test")
            lost = Checkpoint(doors.settings.origin, 10_000, bytes(32)).text()
            assert running.witness.trust(key.public)
            request = AddCheckpoint(0, (), Note(lost, (key.sign(lost.encode()),)).encode()).encode()
            assert httpx2.post(f"{running.url}/add-checkpoint", content=request).status_code == 200
            doors.start()
            deadline = time.monotonic() + PATIENCE
            while doors.get("/health").status_code != 503:
                assert time.monotonic() < deadline
            found = doors.get("/health").json()
            assert (found["status"], found["checks"]["witnesses"]["status"]) == ("fail", "fail")
            assert "ledger-does-not-verify.md" in found["summary"]
            assert doors.get("/readyz").status_code == 200
            said = terminal("witness", "status")
            assert said.code == 1
            assert "w1 cosigned 10000 entries" in said.err
            assert terminal("status").code == 1
            (tmp_path / "doctor.toml").write_text(
                f'home = "{doors.home}"\n[database]\nurl = "file:{tmp_path / "app.dsn"}"\n{table}'
            )
            doctor = terminal("doctor", "--config", str(tmp_path / "doctor.toml"), "--json")
            (row,) = [each for each in json.loads(doctor.out) if each["name"] == "witnesses"]
            assert (doctor.code, row["status"]) == (1, "fail")
            assert row["next"] == "docs/runbooks/ledger-does-not-verify.md"
    finally:
        running.stop()


def test_a_log_without_witnesses_says_that_it_asks_none(cluster: Embedded, tmp_path: Path) -> None:
    with world(cluster, tmp_path) as doors:
        aron = doors.key("aron", "auditor")
        found = doors.get("/api/v1/witnesses", aron).json()
        assert (found["quorum"], found["cosigned"], found["items"]) == (0, None, [])
        assert b"\n" in doors.get("/api/v1/ledger/cosigned-checkpoint", aron).content
        assert doors.get("/health").json()["checks"]["witnesses"]["output"] == "No witness is asked."
        said = Terminal(tmp_path, doors.settings.url, aron)("witness", "status")
        assert said.code == 0
        assert "No witness is asked" in said.err
        assert httpx2.get(f"{doors.settings.url}/api/v1/witnesses").status_code == 401
