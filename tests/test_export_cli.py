"""The commands on a home folder whose service does not run: export, prove, archive, verify."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from api.cli.exits import EXPORT_MEANINGS
from operations.events import AccessDenied, Genesis
from operations.model import Actor, Branch
from storage.embedded import Embedded
from storage.ledger import Ledger
from storage.signer import Signer
from storage.source import WHY
from storage.verifier.policy import Policy
from storage.verifier.proof import Proof, check
from tests.conftest import Database, fresh
from tests.terminal import ROOT, Said, Terminal

ORIGIN = "triad.local/ledger"
CONSTITUTION = (ROOT / "prompts" / "constitution.md").read_bytes()
MAIN = "import sys; from api.cli import main; sys.exit(main())"
NODE = "SELECT hash FROM ledger_node WHERE (level, idx) = (4, 3)"
MALLORY = Actor(principal="mallory", branch=Branch.PEOPLE)
ABSENT = "op_00000000000000000000000000"


@dataclass(frozen=True)
class Home:
    """A home with a ledger of 300 entries and no service, whose database is one of this process's cluster."""

    path: Path
    database: Database
    terminal: Terminal

    @property
    def variables(self) -> dict[str, str]:
        return {"TRIAD_HOME": str(self.path), "TRIAD_DATABASE_URL": f"file:{self.path / 'secrets' / 'app.dsn'}"}

    def __call__(self, *arguments: str) -> Said:
        return self.terminal("audit", *arguments, **self.variables)

    def sql(self, query: str, *arguments: object) -> object:
        """One query by somebody whom no grant and no trigger stops."""
        return asyncio.run(_sql(self.database.superuser, query, *arguments))


@pytest.fixture(scope="module")
def home(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("home")
    (path / "secrets").mkdir(mode=0o700)
    database = asyncio.run(_filled(cluster, path))
    (path / "secrets" / "app.dsn").write_text(database.app)
    (path / "secrets" / "app.dsn").chmod(0o600)
    return Home(path, database, Terminal(tmp_path_factory.mktemp("config")))


async def _filled(cluster: Embedded, path: Path) -> Database:
    database = await fresh(cluster)
    signer = Signer.load_or_create(path / "secrets" / "ledger.key", ORIGIN)
    ledger = await Ledger.open(database.app, signer, origin=ORIGIN)
    try:
        await ledger.begin(Genesis(policies=("test",), keys=(signer.vkey,), code_version="0"), CONSTITUTION)
        denied = (AccessDenied(action="halt", code="forbidden", reasons=(f"No {n}.",)) for n in range(299))
        await asyncio.gather(*(ledger.note(event, MALLORY) for event in denied))
    finally:
        await ledger.close()
        signer.close()
    return database


async def _sql(dsn: str, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


@pytest.fixture
def without_entry_17(home: Home) -> Iterator[None]:
    home.sql("CREATE TABLE taken AS SELECT * FROM ledger_leaf WHERE idx = 17")
    home.sql("DELETE FROM ledger_leaf WHERE idx = 17")
    try:
        yield
    finally:
        home.sql("INSERT INTO ledger_leaf SELECT * FROM taken")
        home.sql("DROP TABLE taken")


@pytest.fixture
def with_entry_31_altered(home: Home) -> Iterator[None]:
    before = home.sql("SELECT entry FROM ledger_leaf WHERE idx = 31")
    home.sql("UPDATE ledger_leaf SET entry = entry || ' '::bytea WHERE idx = 31")
    try:
        yield
    finally:
        home.sql("UPDATE ledger_leaf SET entry = $1 WHERE idx = 31", before)


def test_an_export_is_written_extended_and_verified(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    said = home("export", str(folder))
    assert said.code == 0, said.err
    assert re.search(r"^witnesses +none asked for$", said.out, re.MULTILINE)
    assert re.search(r"^fetched +2 bundles$", said.out, re.MULTILINE)
    assert f"python verifier.pyz {folder} --policy FILE" in said.err
    assert (folder.stat().st_mode & 0o027, (folder / "checkpoint").stat().st_mode & 0o137) == (0, 0)
    assert home("verify", str(folder), "--policy", str(folder / "policy")).code == 0
    again = home("export", str(folder), "--json=before,fetched,written,quorum")
    assert again.json == {"before": 300, "fetched": 0, "written": 0, "quorum": None}
    refused = home("export", str(folder), "--witnessed")
    assert (refused.code, "asks for no witness" in refused.err) == (2, True)


@pytest.mark.full
def test_progress_is_shown_to_who_watches_and_to_nobody_else(home: Home, tmp_path: Path) -> None:
    said = home("export", str(tmp_path / "quiet"))
    assert "\x1b" not in said.err + said.out
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "audit", "export", str(tmp_path / "shown")],
            cwd=ROOT,
            env={**home.terminal.environment(), **home.variables, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
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


def test_a_folder_that_holds_more_than_the_log_has_is_a_rollback(home: Home, tmp_path: Path) -> None:
    home("export", str(tmp_path))
    note = (tmp_path / "checkpoint").read_text().replace("\n300\n", "\n301\n")
    (tmp_path / "checkpoint").write_text(note)
    said = home("export", str(tmp_path))
    assert said.code == 4
    assert "log-rolled-back" in said.err


def test_where_other_files_lie_nothing_is_written(home: Home, tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    said = home("export", str(tmp_path))
    assert (said.code, [path.name for path in tmp_path.iterdir()]) == (6, ["letters"])
    assert home("export", str(tmp_path), "--policy", str(tmp_path / "letters")).code == 6


def test_the_proof_of_an_entry_is_printed_byte_by_byte(home: Home, tmp_path: Path) -> None:
    home("export", str(tmp_path / "x"))
    said = home("prove", "17", "--entry", str(tmp_path / "entry"))
    proof = Proof.parse(said.out.encode())
    assert json.loads((tmp_path / "entry").read_bytes())["index"] == proof.index == 17
    check(proof, (tmp_path / "entry").read_bytes(), Policy.parse((tmp_path / "x" / "policy").read_bytes()))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hello",), 2, "neither an index nor an operation's id"),
        (("017",), 2, "neither an index nor an operation's id"),
        (("300",), 1, "unknown-entry"),
        ((ABSENT, "--folder", "x"), 1, "unknown-operation"),
        ((ABSENT,), 2, "--folder DIR"),
        (("17", "--folder", "x"), 2, "--folder is for an operation"),
        (("17", "--size", "999999"), 1, "Near it are checkpoints of 300 entries."),
    ],
)
def test_what_cannot_be_proved_is_said(home: Home, arguments: tuple[str, ...], code: int, said: str) -> None:
    found = home("prove", *arguments)
    assert (found.code, said in found.err) == (code, True), found.err


@pytest.mark.usefixtures("without_entry_17")
def test_an_entry_that_is_missing_has_no_proof_and_no_export(home: Home, tmp_path: Path) -> None:
    proof = home("prove", "17")
    assert (proof.code, proof.out) == (3, "")
    assert "error: Refused (ledger-corrupt)." in proof.err
    assert "Entry 17 is missing" in proof.err
    export = home("export", str(tmp_path))
    assert (export.code, "error: Refused (source-corrupt)" in export.err) == (3, True), export.err
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.usefixtures("with_entry_31_altered")
def test_an_entry_that_was_altered_has_no_proof(home: Home) -> None:
    said = home("prove", "31")
    assert (said.code, said.out, "does not hold" in said.err) == (3, "", True), said.err
    assert home("prove", "30").code == 0


def test_an_archive_is_verified_listed_recorded_once_and_written_anew(home: Home, tmp_path: Path) -> None:
    made = home("archive", str(tmp_path / "one"), "--json")
    assert made.code == 0, made.err
    assert (made.json["first"], made.json["end"]) == (0, 256)
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(sums, cwd=tmp_path / "one", check=True)
    lost = home("archive", str(tmp_path / "two"))
    assert (lost.code, "nothing-closed" in lost.err, "--again" in lost.err) == (1, True, True)
    anew = home("archive", str(tmp_path / "two"), "--again")
    assert (anew.code, "SHA-256 of SHA256SUMS" in anew.out) == (0, True)
    subprocess.run(sums, cwd=tmp_path / "two", check=True)
    verified = home("verify", "--json=ok,size,found")
    assert verified.json == {"ok": True, "size": 302, "found": 0}


def test_what_the_tables_say_otherwise_than_the_entries_is_found(home: Home) -> None:
    before = home.sql(NODE)
    home.sql("UPDATE ledger_node SET hash = sha256(hash) WHERE (level, idx) = (4, 3)")
    said = home("verify", "--json=ok,code,problems")
    home.sql("UPDATE ledger_node SET hash = $1 WHERE (level, idx) = (4, 3)", before)
    assert (said.json["ok"], said.json["code"]) == (False, 5)
    assert [each["rule"] for each in said.json["problems"]] == ["table-subtrees"]


def test_a_filter_that_matches_nothing_says_so(home: Home) -> None:
    said = home("analyse", "--since", "begin", "--principal", "nobody")
    assert (said.code, "Nothing matches: no entry of that time is of this --principal." in said.err) == (0, True)
    assert "Nothing matches" not in home("analyse", "--since", "begin", "--principal", "mallory").err


def test_every_refusal_of_an_export_has_an_exit_code_that_the_help_explains(home: Home) -> None:
    said = home.terminal("help", "exit-codes").out
    assert set(WHY.values()) <= set(EXPORT_MEANINGS)
    assert all(f"{code} " in said and meaning in said for code, meaning in EXPORT_MEANINGS.items())
