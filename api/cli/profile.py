"""Where the service is and with which key: flag, then environment, then `config.toml` in the configuration folder."""

import ipaddress
import json
import os
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from cyclopts import Parameter

from api.cli.exits import Exit, Stop

DEFAULT_URL: Final = "http://127.0.0.1:8642"
TOKEN: Final = re.compile(r"triad_[A-Za-z0-9_-]{43}", re.ASCII)

_OTHERS: Final = 0o077

HomeFolder = Annotated[Path | None, Parameter(name="--home", metavar="DIR", env_var="TRIAD_HOME")]
"""The folder of an installation, for commands that work on it."""

SettingsFile = Annotated[Path | None, Parameter(name="--config", metavar="FILE")]
"""A settings file, instead of those that are looked for."""


@Parameter(name="*", group="Service")
@dataclass(frozen=True, kw_only=True)
class Reach:
    """The service that is asked."""

    url: Annotated[str | None, Parameter(name="--url", env_var="TRIAD_URL", metavar="URL")] = None
    """address of the service; otherwise that of `triad login`, otherwise http://127.0.0.1:8642"""


REACH: Final = Reach()


@dataclass(frozen=True, slots=True)
class Profile:
    """Address and key; `source` says where the key came from."""

    url: str
    token: str | None
    source: str


@dataclass(frozen=True, slots=True)
class _Stored:
    url: str | None = None
    token: str | None = None


def config_file() -> Path:
    """The file that `triad login` writes."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "triad" / "config.toml"


def profile(reach: Reach) -> Profile:
    """The profile of this call. A stored key goes only to the address that it was stored for.

    Raises:
        Stop: an address or a key that cannot be one, a file that others can read, or a key that would travel in clear.
    """
    stored = _read(config_file())
    url = checked_url(reach.url or stored.url or DEFAULT_URL)
    token, source = os.environ.get("TRIAD_TOKEN"), "TRIAD_TOKEN"
    if not token and stored.token and stored.url == url:
        token, source = stored.token, str(config_file())
    if not token:
        return Profile(url, None, "nowhere")
    if not TOKEN.fullmatch(token):
        raise Stop(
            Exit.NOT_ALLOWED,
            f"The key from {source} is not one of Triad's.",
            following="A key is `triad_` and 43 characters after it.",
        )
    _not_in_clear(url)
    return Profile(url, token, source)


def checked_url(text: str) -> str:
    """An http or https address without its final slash.

    Raises:
        Stop: it is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        raise Stop(Exit.USAGE, "That is no address of a service.", following=f"Write it as {DEFAULT_URL}.")
    return text.rstrip("/")


def on_this_machine(url: str) -> bool:
    """Whether the address is a loopback address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _not_in_clear(url: str) -> None:
    if urlsplit(url).scheme == "http" and not on_this_machine(url) and not os.environ.get("TRIAD_PLAIN_HTTP"):
        raise Stop(
            Exit.USAGE,
            "Your key would travel in clear over http to another machine.",
            following="Use https. TRIAD_PLAIN_HTTP=1 allows it, where the network itself is trusted.",
        )


def store(url: str, token: str) -> Path:
    """Keep address and key for later calls, in a file of mode 0600."""
    path = config_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"url = {json.dumps(url)}\ntoken = {json.dumps(token)}\n")
    draft.replace(path)
    return path


def forget() -> bool:
    """Remove the stored key; False when there is none."""
    try:
        config_file().unlink()
    except FileNotFoundError:
        return False
    return True


def _read(path: Path) -> _Stored:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = tomllib.load(file)
    except FileNotFoundError:
        return _Stored()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Stop(
            Exit.ERROR, f"{path} cannot be read.", following="`triad logout` and `triad login` make it anew."
        ) from error
    url, token = found.get("url"), found.get("token")
    if token is not None and mode & _OTHERS:
        raise Stop(Exit.ERROR, f"Others can read the key in {path}.", following=f"Run: chmod 600 {path}")
    return _Stored(url if isinstance(url, str) else None, token if isinstance(token, str) else None)
