"""Triad's home folder: where everything of one installation lies, and the systems it governs when nobody says others.

Without an inventory of its own, the first run governs real things with no set-up: the home's own PostgreSQL, its logs,
its cache, its configuration, its backups, its own service and the host.
"""

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from operations.errors import LedgerUnavailable
from operations.systems import (
    BackupFolder,
    CacheFolder,
    ConfigFile,
    Database,
    Host,
    HttpService,
    Inventory,
    LogFolder,
    load_inventory,
)
from prompts import load


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one installation."""

    path: Path

    @property
    def secrets(self) -> Path:
        """Keys and DSNs, mode 0700."""
        return self.path / "secrets"

    @property
    def constitution(self) -> Path:
        """The constitution in force; the first is copied from `prompts/constitution.md`."""
        return self.path / "constitution.md"

    @property
    def inventory(self) -> Path:
        """`systems.toml`; where it is missing, the default inventory applies."""
        return self.path / "systems.toml"

    @property
    def config(self) -> Path:
        """Triad's own settings file, itself a governed system."""
        return self.path / "triad.toml"

    @property
    def logs(self) -> Path:
        """Triad's own logs."""
        return self.path / "logs"

    @property
    def cache(self) -> Path:
        """Files that may be lost."""
        return self.path / "cache"

    @property
    def backups(self) -> Path:
        """Backups of the home's database."""
        return self.path / "backups"

    @property
    def traces(self) -> Path:
        """Spans as JSON lines, one file a trace."""
        return self.path / "traces"

    def prepare(self) -> None:
        """Make what is missing; never replaces anything."""
        through = 0o711 if os.geteuid() == 0 else 0o700  # root's database runs as an account that must pass through
        self.path.mkdir(mode=through, parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.logs, self.cache, self.backups, self.traces):
            folder.mkdir(mode=0o750, exist_ok=True)
        _create(self.constitution, load("constitution").text, 0o644)
        _create(self.config, _FIRST_CONFIG, 0o640)


_FIRST_CONFIG = """\
# Triad's settings. Change them by an operation (playbook config.apply_change on triad-config), not by hand.

[server]
host = "127.0.0.1"
port = 8642

[logging]
level = "info"
"""


def _create(path: Path, text: str, mode: int) -> None:
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def default_inventory(home: Home, url: str) -> Inventory:
    """The systems that a home consists of. `url` is where its own service answers.

    The settings file is validated where the service reads it, so after a change: what does not hold is rolled back.
    A command with `{file}` would be asked before the file is in place. Break-glass does not touch it.
    """
    dsn = home.secrets
    return Inventory(
        systems=(
            Database(
                name="triad-db",
                description="Triad's own PostgreSQL database",
                act=f"file:{dsn / 'operator.dsn'}",
                observe=f"file:{dsn / 'observer.dsn'}",
            ),
            LogFolder(name="triad-logs", description="Triad's own log files", path=str(home.logs)),
            CacheFolder(name="triad-cache", description="Files that Triad can make again", path=str(home.cache)),
            BackupFolder(
                name="triad-backups",
                description="Backups of Triad's database",
                path=str(home.backups),
                database="triad-db",
            ),
            ConfigFile(
                name="triad-config",
                tier_floor=2,
                emergency=False,
                description="Triad's settings file",
                path=str(home.config),
                format="toml",
                validate_with=(sys.executable, "-m", "api.settings", str(home.config)),
            ),
            HttpService(name="triad-api", description="Triad's own HTTP service", url=f"{url}/livez"),
            Host(name="host", description="The machine that Triad's worker runs on"),
        )
    )


def inventory_of(home: Home, url: str) -> Inventory:
    """The home's `systems.toml`, or the default inventory where there is none.

    Raises:
        InvalidRequest: `inventory-invalid`.
    """
    return load_inventory(home.inventory) if home.inventory.exists() else default_inventory(home, url)


def warrant_key(home: Home) -> Ed25519PrivateKey:
    """The key that warrants are signed with: made at first start, mode 0600.

    Raises:
        LedgerUnavailable: others could read it, or it is no such key.
    """
    path = home.secrets / "warrant.key"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _create(path, pem.decode(), 0o600)
    if path.stat().st_mode & 0o077:
        raise LedgerUnavailable(f"Others could read {path}. Run: chmod 600 {path}")
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerUnavailable(f"{path} is not an Ed25519 key.")
    return key
