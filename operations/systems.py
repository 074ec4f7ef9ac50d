"""The inventory: the named systems that operations may touch, and nothing else.

A system names its secrets by reference (`file:/path` or `env:NAME`); the value is read only by the runner (the acting
credential) or by the evaluator's probes (the observing credential), never by a model.
"""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from operations.canonical import Digest, Record, digest_of
from operations.errors import InvalidRequest, NotFound

SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SecretRef = Annotated[str, StringConstraints(pattern=r"^(file:/.+|env:[A-Z][A-Z0-9_]*)$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$", max_length=4096)]


class Environment(StrEnum):
    """Where a system counts: production raises the tier of what changes it."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class _System(Record):
    name: SystemName
    owner: str = Field(default="platform", max_length=100)
    environment: Environment = Environment.DEVELOPMENT
    tier_floor: int = Field(default=0, ge=0, le=3)
    description: str = Field(default="", max_length=500)
    emergency: bool = Field(default=True, description="whether break-glass may touch it other than by reading")

    @property
    def digest(self) -> Digest:
        """SHA-256 over what the inventory says of this system: the target a warrant is bound to."""
        return digest_of(self)


class Database(_System):
    """A PostgreSQL database. `act` and `observe` are DSNs behind secret references, of different roles."""

    kind: Literal["database"] = "database"
    act: SecretRef
    observe: SecretRef


class LogFolder(_System):
    """A folder of log files written by one service."""

    kind: Literal["logs"] = "logs"
    path: AbsolutePath
    pattern: str = Field(default="*.log", pattern=r"^[A-Za-z0-9_.*?-]+$", max_length=100)


class CacheFolder(_System):
    """A folder of cached files that may be lost at any time."""

    kind: Literal["cache"] = "cache"
    path: AbsolutePath


class BackupFolder(_System):
    """A folder that holds backups of one database system."""

    kind: Literal["backups"] = "backups"
    path: AbsolutePath
    database: SystemName


class ConfigFile(_System):
    """A configuration file and the command, fixed here by its owner, that says whether it is valid.

    `validate_with` is an argv; the item `{file}` stands for the file's path. No shell is involved.
    """

    kind: Literal["config"] = "config"
    path: AbsolutePath
    format: Literal["toml", "yaml", "json", "ini", "env"] = "toml"
    validate_with: tuple[str, ...] = ()


class HttpService(_System):
    """Something that answers HTTP. Only this URL is ever asked."""

    kind: Literal["http"] = "http"
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2000)]


class Host(_System):
    """The machine that Triad's worker runs on."""

    kind: Literal["host"] = "host"


System = Annotated[
    Database | LogFolder | CacheFolder | BackupFolder | ConfigFile | HttpService | Host,
    Field(discriminator="kind"),
]
SystemKind = Literal["database", "logs", "cache", "backups", "config", "http", "host"]


class Inventory(Record):
    """All systems, by name."""

    systems: tuple[System, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [system.name for system in self.systems]
        if len(names) != len(set(names)):
            raise ValueError("two systems share a name")
        return self

    def names(self) -> tuple[str, ...]:
        """The names of all systems, in the inventory's order."""
        return tuple(system.name for system in self.systems)

    def get(self, name: str) -> System:
        """The system called `name`.

        Raises:
            NotFound: `unknown-system`.
        """
        for system in self.systems:
            if system.name == name:
                return system
        raise NotFound("unknown-system", "The inventory has no system of that name.")


def load_inventory(path: Path) -> Inventory:
    """Read `systems.toml`: one `[[systems]]` table for each system.

    Raises:
        InvalidRequest: `inventory-invalid`, with the place that is wrong.
    """
    try:
        raw = tomllib.loads(path.read_text())
        return Inventory(systems=TypeAdapter(tuple[System, ...]).validate_python(raw.get("systems", []), strict=False))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest("inventory-invalid", f"{path.name}: {error}") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InvalidRequest("inventory-invalid", f"{path.name}: {error.errors()[0]['msg']}", field=where) from error


def resolve_secret(reference: str) -> str:
    """The value behind a secret reference, stripped of the final line break.

    Raises:
        NotFound: `secret-missing`; the message never contains the value.
    """
    scheme, _, place = reference.partition(":")
    try:
        value = os.environ[place] if scheme == "env" else Path(place).read_text()
    except (KeyError, OSError, UnicodeDecodeError) as error:
        raise NotFound("secret-missing", f"The secret {reference} cannot be read.") from error
    return value.rstrip("\n")
