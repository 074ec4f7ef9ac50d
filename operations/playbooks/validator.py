"""The command by which a system's owner says whether a file is valid: an argv from the inventory, never a shell."""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = 30
_TAIL_BYTES: Final = 2000
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""All that the command inherits: Triad's own environment may hold secrets."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended: its exit code, or a failure in words, and the last whole lines of what it wrote."""

    code: int
    tail: str
    failure: str = ""

    @property
    def valid(self) -> bool:
        """Whether it said yes: exit code 0, in time."""
        return not self.failure and self.code == 0


def names_file(argv: tuple[str, ...]) -> bool:
    """Whether the command can be asked about a file that is not in place yet."""
    return any("{file}" in item for item in argv)


async def validate(argv: tuple[str, ...], file: str, seconds: int = _SECONDS) -> Answer:
    """Run the command for `file` with empty input; after `seconds` it and all its children are killed."""
    argv = tuple(item.replace("{file}", file) for item in argv)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return Answer(-1, "", f"it cannot be started: {error.strerror}")
    tail = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await _read_tail(process.stdout, tail)
            code = await process.wait()
    except TimeoutError:
        return Answer(-1, _lines(tail, ended=False), f"it did not end within {seconds} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Answer(code, _lines(tail, ended=True))


async def _read_tail(stream: asyncio.StreamReader | None, tail: bytearray) -> None:
    while stream is not None and (data := await stream.read(1 << 16)):
        tail += data
        del tail[: -_TAIL_BYTES - 1]


def _lines(tail: bytearray, *, ended: bool) -> str:
    """The whole lines of a tail: half a secret would not be recognised as one."""
    start = tail.find(b"\n") + 1 or len(tail) if len(tail) > _TAIL_BYTES else 0
    stop = len(tail) if ended else tail.rfind(b"\n") + 1
    return tail[start:stop].decode(errors="replace")
