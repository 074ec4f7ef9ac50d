"""`triad up`, `migrate` and `demo`: what works on a home folder. The server's libraries are loaded only by them."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Final, Literal, NoReturn

from cyclopts import Parameter

from api.cli.exits import Exit, Stop
from api.cli.output import coloured, note, out
from api.cli.profile import HomeFolder, SettingsFile

_KEY_NOTE: Final = """
First start: this is the key of `admin`. It is shown this once, and only its SHA-256 is stored.
An admin makes keys for others and decides on nothing else."""
_KEY_USE: Final = """
In another terminal:
  triad login                                          paste the key
  triad key create ada -r requester -r operator        a key for whoever asks
  triad key create dana -r approver -r auditor         a key for whoever approves
"""


class _Told(BaseException):
    """A signal said stop."""


def up(
    *,
    host: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    port: Annotated[int | None, Parameter(metavar="PORT")] = None,
    mode: Annotated[Literal["autonomous", "review", "observe"] | None, Parameter(metavar="MODE")] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, Parameter(metavar="LEVEL")] = None,
    home: HomeFolder = None,
    config: SettingsFile = None,
) -> int:
    """Run the service in the foreground: HTTP, the worker, and a PostgreSQL of its own unless the settings name one.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        mode: how much goes on without a person.
        log_level: least level that is written.
        home: the installation's folder.
        config: settings file, instead of triad.toml here and in the home folder.
    """
    from api.cli.ledgers import settings_of  # noqa: PLC0415 - only who serves pays for it
    from api.cli.occupation import occupying  # noqa: PLC0415 - see above
    from api.serve import serve  # noqa: PLC0415 - see above

    flags: dict[str, object] = {}
    if mode:
        flags["mode"] = mode
    if log_level:
        flags["logging"] = {"level": log_level}
    server: dict[str, object] = {"host": host} if host else {}
    if port:
        server["port"] = port
    settings = settings_of(home, config, **flags, server=server)
    with listening(settings.server.host, 0 if port == 0 else settings.server.port) as listener:
        settings = settings_of(home, config, **flags, server={**server, "port": listener.getsockname()[1]})
        with occupying(settings.home, "up"), _stoppable():
            note(f"Triad serves {settings.home} at {settings.url} once it is ready. Ctrl-C stops it.")
            try:
                started = serve(settings, _announce, sockets=[listener])
            except (_Told, KeyboardInterrupt):
                note("Stopped.")
                return Exit.OK
            except SystemExit:  # uvicorn's way to say that it could not start
                started = False
    if not started:
        raise Stop(Exit.ERROR, "It did not start; the log above says why.", following="`triad doctor` looks further.")
    return Exit.OK


def migrate(*, home: HomeFolder = None, config: SettingsFile = None) -> int:
    """Bring the database to this version's tables; nothing happens where it is there already.

    Args:
        home: the installation's folder.
        config: settings file, instead of triad.toml here and in the home folder.
    """
    from api.cli import migration  # noqa: PLC0415 - see `up`

    applied = migration.migrate(home, config)
    for revision in applied:
        out(revision)
    note(f"{len(applied)} migrations applied." if applied else "Nothing to do.")
    return Exit.OK


def demo(*, home: HomeFolder = None) -> int:
    """Play five governed operations on the home's own systems, two of them under attack, and prove the record.

    Args:
        home: the installation's folder; what it holds is kept.
    """
    from api.cli import stage  # noqa: PLC0415 - see `up`

    return stage.play(home, _bold)


def _bold(line: str) -> None:
    title = line.startswith("[")
    out(f"\033[1m{line}\033[0m" if title and coloured(sys.stdout) else line)


def _announce(key: str) -> None:
    note(_KEY_NOTE)
    out(key)
    note(_KEY_USE)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket for the time of the context.

    Raises:
        Stop: the port cannot be taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise Stop(
                Exit.ERROR,
                f"Port {port} at {host} cannot be taken: {error.strerror}.",
                following="Name another with --port.",
            ) from error
        except OverflowError as error:
            raise Stop(Exit.USAGE, "A port is a number from 0 to 65535.", following="Name one with --port.") from error
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the context like an exception, so that everything is closed on the way."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Told

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
