"""Who works in a home folder: one process at a time may run its database and its worker."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.cli.exits import Exit, Stop

_FILE: Final = "in-use.lock"


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who holds a home folder."""

    command: str
    pid: int


class HomeInUse(Stop):
    """Somebody else works in the home folder."""

    def __init__(self, home: Path, occupant: Occupant) -> None:
        super().__init__(
            Exit.ERROR,
            f"`triad {occupant.command}` (process {occupant.pid}) works in {home}.",
            following=f"Stop it first (kill {occupant.pid}), or use another folder with --home.",
        )
        self.occupant = occupant


@contextmanager
def occupying(home: Path, command: str) -> Iterator[None]:
    """Hold a home folder for the time of the context; the operating system lets go of it when the process dies.

    Raises:
        HomeInUse: somebody else holds it.
    """
    home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / _FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(home, _read(home)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"command": command, "pid": os.getpid()}).encode())
        yield
    finally:
        os.close(descriptor)


def occupant_of(home: Path) -> Occupant | None:
    """Who holds a home folder; None when nobody does."""
    try:
        descriptor = os.open(home / _FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(home)
    finally:
        os.close(descriptor)
    return None


def _read(home: Path) -> Occupant:
    try:
        found = json.loads((home / _FILE).read_text())
        return Occupant(str(found["command"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Occupant("something", 0)
