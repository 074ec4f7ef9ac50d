"""Every setting of Triad: flag, then environment, then `triad.toml`, then default. No secret has a default.

Secrets are named by reference (`file:/path` or `env:NAME`), so that this file can be shown, kept and changed by an
operation. `python -m api.settings FILE` says whether a file may be put in the settings file's place.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from operations.evidence import EvidenceClass
from operations.model import RunMode
from operations.systems import SecretRef
from storage.cosignatures import QUORUM, Peer
from storage.verifier.checkpoint import NoteMalformed
from storage.verifier.cosignature import CosignerKey
from storage.verifier.policy import NONE
from triad.analytics.records import Thresholds

VERSION: Final = "0.1.0"
"""The code's version."""

FILE: Final = "triad.toml"
"""The settings file's name, in the home folder and in the working folder."""

_WHERE: Final = re.compile(r"\(at (?:line \d+, column \d+|end of document)\)")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FORM: Final = ConfigDict(frozen=True, extra="forbid")


def default_home() -> Path:
    """`/var/lib/triad` for root; `triad` in the XDG data folder for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/triad")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "triad"


class Server(BaseModel):
    """The HTTP service."""

    model_config = _FORM

    host: str = Field(
        default="127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]{1,253}$",
        description="address to listen on; beyond loopback put a TLS proxy in front",
    )
    port: int = Field(default=8642, ge=1, le=65_535, description="TCP port")
    body_limit: int = Field(default=262_144, ge=1024, le=16_777_216, description="longest request body, in bytes")
    body_seconds: int = Field(default=10, ge=1, le=300, description="time for a request body to arrive")
    streams: int = Field(default=200, ge=1, le=10_000, description="event streams open at once")
    streams_each: int = Field(default=20, ge=1, le=1000, description="event streams open at once for one principal")
    heartbeat_seconds: int = Field(default=15, ge=1, le=300, description="silence after which a stream sends a comment")
    mirror: Literal["auditors", "everybody"] = Field(
        default="auditors",
        description="who reads `/api/v1/ledger`, every entry's bytes: those who may read the ledger, or anybody",
    )
    shutdown_seconds: int = Field(default=10, ge=1, le=300, description="time that open requests get at shutdown")


class Logging(BaseModel):
    """What is written to standard error and to `logs/triad.log` in the home folder."""

    model_config = _FORM

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level written")
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="on standard error; auto: text on a terminal, JSON otherwise. The file is JSON"
    )


class Database(BaseModel):
    """An ordinary PostgreSQL server. Without `url` an embedded one is started in the home folder."""

    model_config = _FORM

    url: SecretRef | None = Field(default=None, description="reference to the DSN of `triad_app`; none: embedded")
    owner_url: SecretRef | None = Field(
        default=None, description="reference to the DSN of `triad_owner`, for `triad migrate` alone"
    )

    @model_validator(mode="after")
    def _owner_needs_a_server(self) -> Self:
        if self.owner_url and not self.url:
            raise ValueError("owner_url needs url")
        return self


class Ledger(BaseModel):
    """The log's own key. Without `key` it is a file in the home folder, made at the first start."""

    model_config = _FORM

    key: SecretRef | None = Field(
        default=None, description="reference to the key that signs checkpoints; none: `secrets/ledger.key` in the home"
    )
    next_key: SecretRef | None = Field(
        default=None, description="reference to the key that the next rotation takes; read when it is needed"
    )


class Model(BaseModel):
    """The model that a branch thinks with."""

    model_config = _FORM

    name: Annotated[
        str,
        StringConstraints(
            pattern=r"^(rules/offline-1|openai-(chat|responses):[A-Za-z0-9][A-Za-z0-9._:/@-]*)$", max_length=200
        ),
    ] = Field(default="rules/offline-1", description="rules/offline-1, openai-chat:NAME or openai-responses:NAME")
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2000)] | None = Field(
        default=None, description="of an OpenAI-compatible service; none: OpenAI's own"
    )
    api_key: SecretRef | None = Field(default=None, description="reference to the service's key")
    timeout_seconds: int = Field(default=60, ge=1, le=600, description="for one attempt at one request")
    retries: int = Field(default=2, ge=0, le=10, description="further attempts at a request after the first")


class Retention(BaseModel):
    """How long evidence is kept, in days. Constitutions, plans and the ledger itself stay for ever."""

    model_config = _FORM

    evidence_days: int | None = Field(
        default=None, ge=1, le=36_500, description="for every class that has no number of its own; none: for ever"
    )
    snapshot_days: int | None = Field(
        default=None, ge=1, le=36_500, description="what a system was like before a step, once its operation has ended"
    )
    step_days: int | None = Field(
        default=None, ge=1, le=36_500, description="what a step did, once its operation has ended"
    )
    report_days: int | None = Field(default=None, ge=1, le=36_500, description="stored analyses of the log")

    @property
    def days(self) -> dict[EvidenceClass, int]:
        """Days by class, for those that do not stay for ever."""
        own = {each: getattr(self, f"{each.value}_days") or self.evidence_days for each in EvidenceClass}
        return {each: days for each, days in own.items() if days is not None}


class Witness(BaseModel):
    """A witness that the log asks to cosign its checkpoints."""

    model_config = _FORM

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$")] = Field(
        description="by which the policy calls it"
    )
    vkey: Annotated[str, StringConstraints(max_length=4000)] = Field(description="its public key, of type 0x04 or 0x06")
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2000)] = Field(
        description="its submission prefix; requests go to `add-checkpoint` below it"
    )

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in {NONE, QUORUM}:
            raise ValueError(f"no witness is called {NONE} or {QUORUM}")
        return name

    @field_validator("vkey")
    @classmethod
    def _of_a_cosigner(cls, text: str) -> str:
        try:
            CosignerKey.parse(text)
        except NoteMalformed as error:
            raise ValueError(str(error)) from None
        return text

    @property
    def peer(self) -> Peer:
        """Whom the log asks."""
        return Peer(self.name, CosignerKey.parse(self.vkey), self.url.rstrip("/"))


class Settings(BaseSettings):
    """All settings, as one frozen value."""

    model_config = SettingsConfigDict(
        env_prefix="TRIAD_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(default_factory=default_home, description="the folder of this installation")
    mode: RunMode = Field(
        default=RunMode.AUTONOMOUS,
        description="autonomous: tiers 0 and 1 run unasked; review: tier 1 asks too; observe: only tier 0 runs",
    )
    origin: str = Field(
        default="triad.local/ledger",
        pattern=r"^[A-Za-z0-9./_-]{1,200}$",
        description="the ledger's name in its checkpoints; fixed from the first start on",
    )
    server: Server = Field(default_factory=Server)
    logging: Logging = Field(default_factory=Logging)
    database: Database = Field(default_factory=Database)
    ledger: Ledger = Field(default_factory=Ledger)
    retention: Retention = Field(default_factory=Retention)
    analytics: Thresholds = Field(default_factory=Thresholds)
    witnesses: tuple[Witness, ...] = Field(
        default=(),
        max_length=16,
        description="tables `[[witnesses]]`, each with `name`, `vkey` and `url`: who is asked to cosign the log, "
        "see [witnesses](witnesses.md)",
    )
    quorum: int | None = Field(
        default=None, ge=0, le=16, description="how many of the witnesses a checkpoint needs; none: all of them"
    )
    planner: Model = Field(default_factory=Model)
    executor: Model = Field(default_factory=Model)
    evaluator: Model = Field(default_factory=Model)
    crown: Model = Field(default_factory=Model)

    @model_validator(mode="after")
    def _witnesses_differ(self) -> Self:
        if len({each.name for each in self.witnesses}) != len(self.witnesses):
            raise ValueError("two witnesses have the same name")
        if len({each.peer.key.public for each in self.witnesses}) != len(self.witnesses):
            raise ValueError("two witnesses have the same key")
        if self.quorum is not None and self.quorum > len(self.witnesses):
            raise ValueError("the quorum is larger than the number of witnesses")
        return self

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The witnesses that the log asks."""
        return tuple(each.peer for each in self.witnesses)

    @property
    def witnesses_needed(self) -> int:
        """How many witnesses a checkpoint needs; 0: none."""
        return len(self.witnesses) if self.quorum is None else self.quorum

    @property
    def url(self) -> str:
        """Where the service answers, seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.server.host, self.server.host)  # noqa: S104 - replaced
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server.port}"


class SettingsInvalid(Exception):
    """Settings that cannot be used; `field` is the dotted name of the first that is wrong. Never holds a value."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def load_settings(
    *, flags: Mapping[str, object] | None = None, config: Path | None = None, folder: Path | None = None
) -> Settings:
    """The settings of this process.

    Args:
        flags: what was given on the command line, nested as the settings are; wins over everything.
        config: read this file alone, instead of `triad.toml` in the working folder and in the home folder.
        folder: the working folder.

    Raises:
        SettingsInvalid: with the first field that is wrong.
    """
    if config is not None:
        return _settle(flags or {}, (_read(config),))
    near = _read((folder or Path.cwd()) / FILE, optional=True)
    home = _settle(flags or {}, (near,)).home
    return _settle(flags or {}, (near, _read(home / FILE, optional=True)))


def check_file(path: Path) -> Settings:
    """The settings as this file alone would make them.

    Raises:
        SettingsInvalid: with the first field that is wrong.
    """
    return _settle({}, (_read(path),), environment=False)


def _settle(
    flags: Mapping[str, object], files: Iterable[Mapping[str, object]], *, environment: bool = True
) -> Settings:
    class Located(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            written = [InitSettingsSource(settings_cls, init_kwargs=dict(file)) for file in files]
            return (init_settings, *([env_settings] if environment else []), *written)

    try:
        found = Located(**dict(flags))  # type: ignore[arg-type] # validated by the model itself
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise SettingsInvalid(_place(first), first["msg"]) from None
    return Settings.model_construct(**{name: getattr(found, name) for name in Settings.model_fields})


def _place(error: ErrorDetails) -> str:
    parts = [str(part) for part in error["loc"]]
    return ".".join(part if _PLAIN.fullmatch(part) else "?" for part in parts) or "settings"


def _read(path: Path, *, optional: bool = False) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise SettingsInvalid(path.name, "there is no such file") from None
    except OSError as error:
        raise SettingsInvalid(path.name, error.strerror or "cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = _WHERE.search(str(error))
        raise SettingsInvalid(path.name, f"not TOML {where[0] if where else ''}".strip()) from None


def main(arguments: list[str]) -> int:
    """Check one file: 0 when it may be used, 1 when not (the field on standard error), 2 for wrong usage."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m api.settings FILE\n")
        return 2
    try:
        check_file(Path(arguments[0]))
    except SettingsInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
