"""The commands on a home folder whose service does not run: export, prove, archive, verify."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from operations.events import AccessDenied, Genesis
from operations.model import Actor, Branch
from storage import migrate
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.roles import DATABASE, DatabaseRole
from storage.signer import Signer
from storage.verifier.policy import Policy
from storage.verifier.proof import Proof, check
from tests.terminal import ROOT, Terminal, home_folder

ORIGIN = "triad.local/ledger"
CONSTITUTION = (ROOT / "prompts" / "constitution.md").read_bytes()
MAIN = "import sys; from api.cli import main; sys.exit(main())"
NODE = "SELECT hash FROM ledger_node WHERE (level, idx) = (4, 3)"
MALLORY = Actor(principal="mallory", branch=Branch.PEOPLE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Path]]:
    """A home with a ledger of 300 entries and no service."""
    with home_folder() as folder:
        server = Embedded.start(folder, durable=False)
        try:
            asyncio.run(migrate.upgrade(server.dsn(DatabaseRole.OWNER)))
            asyncio.run(_fill(server.dsn(DatabaseRole.APP), folder))
            (folder / "secrets" / "app.dsn").write_text(server.dsn(DatabaseRole.APP))
        finally:
            server.stop()
        yield Terminal(tmp_path_factory.mktemp("config")), folder


async def _fill(dsn: str, folder: Path) -> None:
    signer = Signer.load_or_create(folder / "secrets" / "ledger.key", ORIGIN)
    ledger = await Ledger.open(dsn, signer, origin=ORIGIN)
    try:
        await ledger.begin(Genesis(policies=("test",), keys=(signer.vkey,), code_version="0"), CONSTITUTION)
        await asyncio.gather(
            *(
                ledger.note(AccessDenied(action="halt", code="forbidden", reasons=(f"No {n}.",)), MALLORY)
                for n in range(299)
            )
        )
    finally:
        await ledger.close()
        signer.close()


def test_an_export_is_written_extended_and_verified(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    said = terminal("audit", "export", str(tmp_path), "--home", str(folder), "--json=size,before,fetched")
    assert said.json == {"size": 300, "before": 0, "fetched": 2}
    assert terminal("audit", "verify", str(tmp_path), "--policy", str(tmp_path / "policy")).code == 0
    again = terminal("audit", "export", str(tmp_path), "--home", str(folder), "--json=before,fetched,written")
    assert again.json == {"before": 300, "fetched": 0, "written": 0}


@pytest.mark.full
def test_progress_is_shown_to_who_watches_and_to_nobody_else(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    said = terminal("audit", "export", str(tmp_path / "quiet"), "--home", str(folder))
    assert "\x1b" not in said.err + said.out
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "audit", "export", str(tmp_path / "shown"), "--home", str(folder)],
            cwd=ROOT,
            env={**terminal.environment(), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # how a terminal says that nobody holds its other end any more
                break
            if not part:
                break
            seen += part
        assert process.wait(timeout=60) == 0, seen
    finally:
        os.close(ours)
    assert b"300/300" in seen


def test_a_folder_that_holds_more_than_the_log_has_is_a_rollback(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    terminal("audit", "export", str(tmp_path), "--home", str(folder))
    note = (tmp_path / "checkpoint").read_text().replace("\n300\n", "\n301\n")
    (tmp_path / "checkpoint").write_text(note)
    said = terminal("audit", "export", str(tmp_path), "--home", str(folder))
    assert said.code == 4
    assert "log-rolled-back" in said.err


def test_where_other_files_lie_nothing_is_written(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    (tmp_path / "letters").write_text("dear")
    said = terminal("audit", "export", str(tmp_path), "--home", str(folder))
    assert (said.code, [path.name for path in tmp_path.iterdir()]) == (6, ["letters"])
    assert terminal("audit", "export", str(tmp_path), "--policy", str(tmp_path / "letters")).code == 6


def test_the_proof_of_an_entry_is_printed_byte_by_byte(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    terminal("audit", "export", str(tmp_path / "x"), "--home", str(folder))
    said = terminal("audit", "prove", "17", "--home", str(folder), "--entry", str(tmp_path / "entry"))
    proof = Proof.parse(said.out.encode())
    assert json.loads((tmp_path / "entry").read_bytes())["index"] == proof.index == 17
    check(proof, (tmp_path / "entry").read_bytes(), Policy.parse((tmp_path / "x" / "policy").read_bytes()))
    assert terminal("audit", "prove", "300", "--home", str(folder)).code == 1
    unknown = terminal(
        "audit", "prove", "op_00000000000000000000000000", "--home", str(folder), "--output", str(tmp_path)
    )
    assert unknown.code == 1
    assert "unknown-operation" in unknown.err


def test_an_archive_is_verified_listed_and_recorded_once(home: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, folder = home
    made = terminal("audit", "archive", str(tmp_path), "--home", str(folder), "--json")
    assert made.code == 0, made.err
    assert (made.json["first"], made.json["end"]) == (0, 256)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    again = terminal("audit", "archive", str(tmp_path), "--home", str(folder))
    assert (again.code, "nothing-closed" in again.err) == (1, True)
    verified = terminal("audit", "verify", "--home", str(folder), "--json=ok,size,found")
    assert verified.json == {"ok": True, "size": 301, "found": 0}


def test_what_the_tables_say_otherwise_than_the_entries_is_found(home: tuple[Terminal, Path]) -> None:
    terminal, folder = home
    change = "UPDATE ledger_node SET hash = sha256(hash) WHERE (level, idx) = (4, 3)"
    back = "UPDATE ledger_node SET hash = $1 WHERE (level, idx) = (4, 3)"
    server = Embedded.start(folder, durable=False)
    try:
        before = asyncio.run(_sql(server.superuser_dsn(DATABASE), NODE))
        asyncio.run(_sql(server.superuser_dsn(DATABASE), change))
    finally:
        server.stop()
    said = terminal("audit", "verify", "--home", str(folder), "--json=ok,code,problems")
    server = Embedded.start(folder, durable=False)
    try:
        asyncio.run(_sql(server.superuser_dsn(DATABASE), back, before))
    finally:
        server.stop()
    assert (said.json["ok"], said.json["code"]) == (False, 5)
    assert [each["rule"] for each in said.json["problems"]] == ["tables"]


async def _sql(dsn: str, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()
