"""The commands that need no service: demonstration, doctor, verification, and how a service starts and stops."""

import hashlib
import json
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terminal import Terminal, home_folder, serve


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Path, str]]:
    """A home on which the demonstration was played, and what it said."""
    terminal = Terminal(tmp_path_factory.mktemp("config"))
    with home_folder() as home:
        process = terminal.start("demo", "--home", str(home))
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, out + err
        yield terminal, home, out


def test_the_demonstration_plays_its_acts_and_says_where_to_look_next(played: tuple[Terminal, Path, str]) -> None:
    _, home, out = played
    assert [line[:5] for line in out.splitlines() if line.startswith("[")] == [f"[{n}/6]" for n in range(1, 7)]
    assert "rules, not an LLM" in out
    assert f"triad audit verify --home {home}" in out
    assert "\033[" not in out


def test_the_demonstration_leaves_spans_that_trace_prints(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, out = played
    ident = out.partition("triad trace ")[2].split()[0]
    said = terminal("trace", ident, "--home", str(home))
    assert said.code == 0, said.err
    assert {"operation", "advance", "planner", "gate"} & {
        line.strip("├└│─ ").split()[0] for line in said.out.splitlines()
    }
    spans = terminal("trace", ident, "--home", str(home), "--json=name,start_ns").json
    assert [each["start_ns"] for each in spans] == sorted(each["start_ns"] for each in spans)
    missing = terminal("trace", "op_00000000000000000000000000", "--home", str(home))
    assert missing.code == 1
    assert "--home" in missing.err


def test_the_ledger_verifies_and_a_flipped_bit_of_its_export_does_not(
    played: tuple[Terminal, Path, str], tmp_path: Path
) -> None:
    terminal, home, _ = played
    verified = terminal("audit", "verify", "--home", str(home), "--json=ok,size,code")
    assert verified.code == 0
    assert verified.json["ok"]
    assert terminal("audit", "export", str(tmp_path), "--home", str(home)).code == 0
    key = (tmp_path / "policy").read_text().split()[1]
    assert terminal("audit", "verify", str(tmp_path), "--key", key).code == 0
    other = "triad.local/ledger+00000000+" + key.rpartition("+")[2]
    assert terminal("audit", "verify", str(tmp_path), "--key", other).code == 2
    path = next(path for path in sorted((tmp_path / "tile" / "entries").rglob("*")) if path.is_file())
    entries = bytearray(path.read_bytes())
    entries[len(entries) // 2] ^= 1
    path.write_bytes(entries)
    broken = terminal("audit", "verify", str(tmp_path), "--key", key)
    assert broken.code == 3
    assert "NOT INTACT" in broken.out
    (tmp_path / "checkpoint").unlink()
    assert terminal("audit", "verify", str(tmp_path), "--key", key).code == 6


def test_a_ledger_that_is_older_than_its_signer_remembers_was_rolled_back(
    played: tuple[Terminal, Path, str], tmp_path: Path
) -> None:
    terminal, home, _ = played
    memory = home / "secrets" / "ledger.key.head"
    kept = memory.read_text()
    lines = kept.splitlines()
    memory.write_text("\n".join([lines[0], str(int(lines[1]) + 1), lines[2], ""]))
    try:
        said = terminal("audit", "verify", "--home", str(home))
    finally:
        memory.write_text(kept)
    assert said.code == 4
    assert "remembers" in said.out


def test_an_older_checkpoint_of_another_history_is_a_fork(played: tuple[Terminal, Path, str], tmp_path: Path) -> None:
    terminal, home, _ = played
    assert terminal("audit", "verify", "--home", str(home), "--older", str(tmp_path / "none")).code == 6
    terminal("audit", "export", str(tmp_path), "--home", str(home))
    same = terminal("audit", "verify", "--home", str(home), "--older", str(tmp_path / "checkpoint"), "--json=compared")
    assert (same.code, same.json) == (0, {"compared": 1})


def test_where_there_is_no_ledger_there_is_nothing_to_verify(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    said = terminal("audit", "verify", "--home", str(tmp_path / "nothing"))
    assert said.code == 6
    assert "--home" in said.err
    assert not (tmp_path / "nothing").exists()


def test_the_doctor_finds_nothing_broken_and_changes_nothing(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    before = _digests(home)
    said = terminal("doctor", "--home", str(home), "--json")
    assert said.code == 0, said.out
    assert {each["name"]: each["status"] for each in said.json} == {
        "python": "ok",
        "settings": "ok",
        "home": "ok",
        "secrets": "ok",
        "models": "ok",
        "postgresql": "ok",
        "database": "ok",
        "clock": "ok",
        "constitution": "ok",
        "halt": "ok",
        "ledger": "ok",
        "witnesses": "warn",
        "service": "warn",
    }
    assert _digests(home) == before


def _digests(home: Path) -> dict[str, str]:
    """What a person may have put there, and the keys: everything but the database's own files and the lock."""
    kept = [home / "constitution.md", home / "triad.toml", *sorted((home / "secrets").iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def _found(terminal: Terminal, home: Path, name: str, **variables: str) -> tuple[int, str, str]:
    said = terminal("doctor", "--home", str(home), "--json", **variables)
    check = next(each for each in said.json if each["name"] == name)
    return said.code, check["status"], f"{check['found']} {check['next']}"


def test_the_doctor_names_a_changed_constitution(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    path = home / "constitution.md"
    kept = path.read_text()
    path.write_text(kept.replace("bind the code", "bend the code", 1))
    try:
        code, status, found = _found(terminal, home, "constitution")
    finally:
        path.write_text(kept)
    assert (code, status) == (1, "fail")
    assert "constitution-changed.md" in found


def test_the_doctor_names_a_secret_that_others_can_read(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    path = home / "secrets" / "operator.dsn"
    path.chmod(0o644)
    try:
        code, status, found = _found(terminal, home, "secrets")
    finally:
        path.chmod(0o600)
    assert (code, status) == (1, "fail")
    assert f"chmod go= {path}" in found


def test_the_doctor_names_a_log_key_that_others_can_read_with_one_command(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    path = home / "secrets" / "ledger.key"
    path.chmod(0o644)
    try:
        said = terminal("doctor", "--home", str(home))
    finally:
        path.chmod(0o600)
    assert said.code == 1
    assert said.out.count("chmod") == 1
    assert f"chmod go= {path}" in said.out


def test_the_doctor_names_a_setting_a_model_without_its_key_and_a_home_that_is_not_there(
    played: tuple[Terminal, Path, str], tmp_path: Path
) -> None:
    terminal, home, _ = played
    assert "server.port" in _found(terminal, home, "settings", TRIAD_SERVER_PORT="99999")[2]
    code, status, found = _found(
        terminal, home, "models", TRIAD_PLANNER_NAME="openai-chat:big", TRIAD_PLANNER_API_KEY="env:NONE"
    )
    assert (code, status) == (1, "fail")
    assert "planner" in found
    said = terminal("doctor", "--home", str(tmp_path / "nothing"))
    assert said.code == 1
    assert "does not exist" in said.out
    assert not (tmp_path / "nothing").exists()


def test_the_doctor_names_entries_that_do_not_verify(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    path = home / "secrets" / "ledger.key"
    kept = path.read_bytes()
    shutil.copy2(path, path.with_suffix(".kept"))
    path.write_bytes(b"PRIVATE+KEY+nonsense\n")
    try:
        code, status, _ = _found(terminal, home, "ledger")
    finally:
        path.write_bytes(kept)
        path.with_suffix(".kept").unlink()
    assert (code, status) == (1, "fail")


def test_the_doctor_and_a_refused_start_name_a_ledger_that_is_older_than_its_signer_remembers(
    played: tuple[Terminal, Path, str],
) -> None:
    terminal, home, _ = played
    memory = home / "secrets" / "ledger.key.head"
    kept = memory.read_text()
    origin, size, root = kept.splitlines()
    try:
        memory.write_text("\n".join([origin, str(int(size) + 1), root, ""]))
        code, status, found = _found(terminal, home, "ledger")
        assert (code, status, "code 4" in found) == (1, "fail", True), found
        assert "ledger-does-not-verify.md" in found
        refused = terminal.start("up", "--home", str(home), "--port", "0")
        _, err = refused.communicate(timeout=100)
        assert (refused.returncode, "the log shrank" in err, "ledger-does-not-verify.md" in err) == (1, True, True), err
    finally:
        memory.write_text(kept)


def test_the_doctor_names_a_ledger_that_does_not_begin_with_what_its_signer_remembers(
    played: tuple[Terminal, Path, str],
) -> None:
    terminal, home, _ = played
    memory = home / "secrets" / "ledger.key.head"
    kept = memory.read_text()
    origin, size, root = kept.splitlines()
    try:
        memory.write_text("\n".join([origin, str(int(size) - 1), root, ""]))
        code, status, found = _found(terminal, home, "ledger")
        assert (code, status, "code 4" in found) == (1, "fail", True), found
        memory.unlink()
        code, status, found = _found(terminal, home, "ledger")
        assert (code, status, "ledger.key.head is missing" in found) == (1, "fail", True), found
    finally:
        memory.write_text(kept)


def test_migrate_applies_nothing_where_everything_is_applied(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    said = terminal("migrate", "--home", str(home))
    assert (said.code, said.out) == (0, "")
    assert "Nothing to do." in said.err


def test_the_first_key_is_shown_once_and_a_signal_ends_the_service_in_order(
    played: tuple[Terminal, Path, str],
) -> None:
    terminal, home, _ = played
    first = serve(terminal, home, first=True)
    ended = first.stop(signal.SIGTERM)
    assert ended.code == 0, ended.err
    assert first.first_key.startswith("triad_")
    assert "Traceback" not in ended.err
    again = serve(terminal, home, first=False)
    ended = again.stop(signal.SIGINT)
    assert (ended.code, ended.out) == (0, ""), ended.err
    assert "shown this once" not in ended.err
    assert stat.S_IMODE((home / "in-use.lock").stat().st_mode) == 0o600
    assert first.first_key not in "".join(path.read_text(errors="replace") for path in (home / "logs").iterdir())


def test_the_service_does_not_start_under_a_changed_constitution(played: tuple[Terminal, Path, str]) -> None:
    terminal, home, _ = played
    path = home / "constitution.md"
    kept = path.read_text()
    path.write_text(kept.replace("bind the code", "bend the code", 1))
    try:
        process = terminal.start("up", "--home", str(home), "--port", "0")
        _, err = process.communicate(timeout=60)
        demo = terminal.start("demo", "--home", str(home))
        _, told = demo.communicate(timeout=60)
    finally:
        path.write_text(kept)
    assert process.returncode == 1
    assert "triad doctor" in err
    assert "Traceback" not in err
    assert demo.returncode == 1
    assert "Traceback" not in told
    assert "constitution" in told


def test_a_demonstration_that_does_not_go_as_promised_says_so(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    with home_folder() as home:
        home.mkdir(mode=0o711)
        inventory = {"name": "triad-db", "kind": "host", "description": "no database"}
        rows = "".join(f"{name} = {json.dumps(value)}\n" for name, value in inventory.items())
        (home / "systems.toml").write_text(f"[[systems]]\n{rows}")
        process = terminal.start("demo", "--home", str(home))
        out, err = process.communicate(timeout=100)
        assert process.returncode == 5, out + err
        assert "Traceback" not in err
        assert not (home / "pg" / "postmaster.pid").exists()
