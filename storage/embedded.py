"""A PostgreSQL server of our own, from a wheel: initialised, started, reused and stopped without any system install.

Only the wheel's programs are used. The server listens on a Unix socket in a private folder, and on loopback when asked;
every role, the superuser too, logs in with a random password (scram-sha-256) kept in `HOME/secrets/*.dsn`, mode 0600.
Starting blocks: from a coroutine call it in a thread.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psutil

from storage.binaries import Account, EmbeddedFailed, find_binaries, server_account
from storage.postmaster import Postmaster, answers, read_pid, read_postmaster, serves
from storage.roles import (
    DATABASE,
    SUPERUSER,
    DatabaseRole,
    database_statements,
    role_statements,
    scram_verifier,
)

SHARED: Final = Path("/var/lib/triad")
"""Where root's servers keep what the server's account could not reach in the home folder."""

_SOCKET_PATH_MAX: Final = 103
"""Longest path of a Unix socket that every supported system accepts (`sun_path` less its final zero)."""

_DEFAULT_PORT: Final = 5432
_START_SECONDS: Final = 60
_LOG_TAIL: Final = 4000


@dataclass(kw_only=True)
class Embedded:
    """A running embedded server.

    Attributes:
        home: Triad's home folder; `home/secrets` holds the DSNs.
        data: the server's data folder.
        sockets: the folder with the Unix socket.
        binaries: the folder with `pg_dump`, `psql` and the others, of the server's own version.
        port: the port on loopback, and the number in the socket's name.
        started: whether this object started the server; only then does `stop` stop it.
    """

    home: Path
    data: Path
    sockets: Path
    binaries: Path
    port: int
    started: bool
    account: Account | None = None
    _passwords: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def start(
        cls, home: Path, *, tcp_port: int | None = None, durable: bool = True, shared: Path = SHARED
    ) -> "Embedded":
        """Start the server of `home`, or join the one that runs already. Creates everything at the first call.

        Args:
            home: Triad's home folder; made with mode 0700 (0711 for root) when it is missing.
            tcp_port: also listen on 127.0.0.1 at this port.
            durable: False only in tests: commits are not flushed to the disk.
            shared: replaces `/var/lib/triad` as root's place for what the server's account cannot reach in `home`.

        Raises:
            EmbeddedFailed: with the tail of the server's log.
        """
        account = server_account()
        home = home.absolute()
        home.mkdir(mode=0o711 if account else 0o700, parents=True, exist_ok=True)
        binaries = find_binaries(account, shared)
        data = _data_folder(home, account, shared)
        sockets = _socket_folder(home, data, account)
        server = cls(
            home=home,
            data=data,
            sockets=sockets,
            binaries=binaries,
            port=tcp_port or _DEFAULT_PORT,
            started=False,
            account=account,
        )
        with server._locked():
            server._passwords = server._load_or_create_passwords()
            if not (data / "PG_VERSION").exists():
                server._initialise()
            running = server._running()
            if running is None:
                server._configure(listen=tcp_port is not None, durable=durable)
                server._launch()
                server.started = True
            else:
                server.port, server.sockets = running.port, running.sockets
            server._bootstrap()
            server._write_dsns()
        return server

    def stop(self, *, anyway: bool = False) -> None:
        """Stop the server when this object started it, or `anyway`. Open connections are ended, nothing is lost.

        Raises:
            EmbeddedFailed: the server did not stop.
        """
        if not (self.started or anyway):
            return
        with self._locked():
            if self._running() is not None:
                self._run("pg_ctl", "stop", "-w", "-m", "fast", "-t", str(_START_SECONDS), "-D", str(self.data))
            self.started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def dsn(self, role: DatabaseRole, database: str = DATABASE) -> str:
        """The connection URI of a role; asyncpg, libpq and `storage.engine.make_engine` take it."""
        return self._uri(role, database)

    def superuser_dsn(self, database: str = SUPERUSER) -> str:
        """The superuser's connection URI: for bootstrap and rescue alone."""
        return self._uri(SUPERUSER, database)

    def secret_file(self, role: DatabaseRole) -> Path:
        """The file (mode 0600) with the DSN of a role, for `file:` references in the inventory."""
        return self._secrets / f"{role.removeprefix('triad_')}.dsn"

    @property
    def _secrets(self) -> Path:
        return self.home / "secrets"

    def _uri(self, user: str, database: str) -> str:
        host = quote(str(self.sockets), safe="")
        return f"postgresql://{user}:{self._passwords[user]}@/{quote(database)}?host={host}&port={self.port}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.home / "embedded.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _load_or_create_passwords(self) -> dict[str, str]:
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        self._secrets.chmod(0o700)
        passwords: dict[str, str] = {}
        for user in (SUPERUSER, *DatabaseRole):
            path = self._secrets / f"{user}.password"
            if not path.exists():
                if (self.data / "PG_VERSION").exists():
                    raise EmbeddedFailed(f"{self.data} is initialised but its secret {path} is gone; restore it.")
                _write_secret(path, secrets.token_urlsafe(32))
            passwords[user] = path.read_text().strip()
        return passwords

    def _write_dsns(self) -> None:
        for role in DatabaseRole:
            path, text = self.secret_file(role), self.dsn(role) + "\n"
            if not path.exists() or path.read_text() != text:
                _write_secret(path, text)

    def _initialise(self) -> None:
        fresh = self.data.with_name(self.data.name + ".new")
        if fresh.exists():  # an initialisation was interrupted; it never served anything
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=self.sockets, prefix="init-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._passwords[SUPERUSER])
            if self.account:
                os.chown(fresh, self.account.uid, self.account.gid)
                os.chown(name, self.account.uid, self.account.gid)
            self._run(
                "initdb",
                *("-D", str(fresh), "-U", SUPERUSER, f"--pwfile={name}", "--data-checksums", "--encoding=UTF8"),
                *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--no-instructions"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            )
        finally:
            Path(name).unlink()
        with (fresh / "postgresql.conf").open("a") as file:
            file.write("\ninclude = 'triad.conf'\n")
        fresh.rename(self.data)

    def _configure(self, *, listen: bool, durable: bool) -> None:
        settings = {
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "listen_addresses": "127.0.0.1" if listen else "",
            "port": str(self.port),
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "password_encryption": "scram-sha-256",
            "fsync": "on" if durable else "off",
            "synchronous_commit": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "logging_collector": "on",
            "log_directory": "log",
            "log_filename": "postgresql-%a.log",
            "log_truncate_on_rotation": "on",
            "log_rotation_age": "1d",
        }
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        path = self.data / "triad.conf"
        path.write_text("".join(lines))
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)

    def _launch(self) -> None:
        self._clear_stale_lock()
        log = self.data / "start.log"
        for attempt in range(20):
            try:
                self._run("pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-D", str(self.data), "-l", str(log))
            except EmbeddedFailed as error:
                # After kill -9 the old server's children need a moment to notice and leave.
                if attempt == 19 or "shared memory block" not in str(error):  # noqa: PLR2004 - the last attempt
                    raise
                time.sleep(0.25)
            else:
                return

    def _clear_stale_lock(self) -> None:
        """Remove lock files whose process is another program or a zombie by now, over which PostgreSQL would refuse."""
        for lock in (self.data / "postmaster.pid", self.sockets / f".s.PGSQL.{self.port}.lock"):
            pid = read_pid(lock)
            if pid is None or not psutil.pid_exists(pid):
                continue
            if not any(serves(process.pid, self.data) for process in psutil.process_iter()):
                lock.unlink()

    def _running(self) -> Postmaster | None:
        """The server at work in the data folder, once it answers; None when there is none.

        A process that was just killed, one that starts and one that recovers are waited for.
        """
        deadline = time.monotonic() + _START_SECONDS
        while (found := read_postmaster(self.data)) is not None:
            if found.ready and answers(found):
                return found
            if time.monotonic() > deadline:
                raise EmbeddedFailed(f"The server {found.pid} runs in {self.data} but does not answer.")
            time.sleep(0.05)
        return None

    def _bootstrap(self) -> None:
        """Create the roles and the database that do not exist yet."""
        have = set(self._psql("SELECT rolname FROM pg_roles UNION ALL SELECT '/' || datname FROM pg_database").split())
        missing = {role: scram_verifier(self._passwords[role]) for role in DatabaseRole if role.value not in have}
        statements = list(role_statements(missing))
        if f"/{DATABASE}" not in have:
            statements += database_statements(DATABASE)
        if statements:
            self._psql(";\n".join(statements))

    def _psql(self, sql: str) -> str:
        argv = [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]
        address = f"postgresql://{SUPERUSER}@/{SUPERUSER}?host={quote(str(self.sockets), safe='')}&port={self.port}"
        environment = {"PGPASSWORD": self._passwords[SUPERUSER], "PATH": os.environ.get("PATH", "")}
        done = subprocess.run(  # noqa: S603 - argv built by code
            [*argv, address], input=sql, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode != 0:
            raise EmbeddedFailed(f"The superuser could not set up roles: {done.stderr.strip()}")
        return done.stdout

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self.binaries / program), *arguments]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        user = self.account.uid if self.account else None
        group = self.account.gid if self.account else None
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603 - argv built by code
                argv,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                user=user,
                group=group,
                extra_groups=[] if self.account else None,
                umask=0o077,
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if done.returncode != 0:
            raise EmbeddedFailed(f"{program} failed: {said.strip()}\n{self._log_tail()}".rstrip())

    def _log_tail(self) -> str:
        logs = [self.data / "start.log", *self.data.glob("log/*.log")]
        newest = sorted((path for path in logs if path.exists()), key=lambda path: path.stat().st_mtime)[-2:]
        return "\n".join(f"{path}:\n{path.read_text(errors='replace')[-_LOG_TAIL:]}" for path in newest)


def _data_folder(home: Path, account: Account | None, shared: Path) -> Path:
    if account is None or account.reaches(home / "pg"):
        return home / "pg"
    shared.mkdir(mode=0o755, parents=True, exist_ok=True)
    place = shared / hashlib.sha256(str(home).encode()).hexdigest()[:16]
    if not account.reaches(place):
        raise EmbeddedFailed(f"The account {account.name} can reach neither {home} nor {shared}.")
    return place


def _socket_folder(home: Path, data: Path, account: Account | None) -> Path:
    name = f"/.s.PGSQL.{_DEFAULT_PORT}0"
    folder = home / "run"
    if len(str(folder) + name) > _SOCKET_PATH_MAX or (account and not account.reaches(folder)):
        mark = hashlib.sha256(str(data).encode()).hexdigest()[:16]
        folder = Path("/tmp") / f"triad-{os.geteuid()}-{mark}"  # noqa: S108 - short by need; owner and mode checked below
    owner = account.uid if account else os.geteuid()
    try:
        folder.mkdir(mode=0o700)
        if account:
            os.chown(folder, account.uid, account.gid)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or stat.S_IMODE(status.st_mode) & 0o022:
            raise EmbeddedFailed(f"{folder} is not ours; the socket cannot be put there.") from None
    return folder


def _write_secret(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
