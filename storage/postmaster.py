"""Whether a PostgreSQL server is at work in a data folder, and where it listens."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)  # the protocol's shortest question: may we use TLS?


@dataclass(frozen=True, kw_only=True)
class Postmaster:
    """A live server: `ready` once it says that it takes connections."""

    pid: int
    port: int
    sockets: Path
    ready: bool


def read_pid(lock: Path) -> int | None:
    """The process id in a lock file's first line."""
    try:
        return int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def serves(pid: int, data: Path) -> bool:
    """Whether a process is a PostgreSQL process at work in `data`."""
    try:
        process = psutil.Process(pid)
        return process.name().startswith("postgres") and Path(process.cwd()).resolve() == data.resolve()
    except (psutil.Error, OSError):
        return False


def answers(server: Postmaster) -> bool:
    """Whether a server is at work behind the socket: a connection alone may be to one that is dying."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(server.sockets / f".s.PGSQL.{server.port}"))
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in {b"N", b"S"}
    except OSError:
        return False


def read_postmaster(data: Path) -> Postmaster | None:
    """What postmaster.pid says of a live server (lines: pid, data, start, port, sockets, host, memory, status)."""
    try:
        lines: Sequence[str] = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    if not serves(pid, data):
        return None
    complete = len(lines) >= 8  # noqa: PLR2004 - the file's lines, see above
    return Postmaster(
        pid=pid,
        port=int(lines[3]) if complete else 0,
        sockets=Path(lines[4]) if complete else data,
        ready=complete and lines[7].strip() == "ready",
    )
