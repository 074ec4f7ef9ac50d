"""Kills a rotation of the log's key at one moment after the other, and tells what the next process finds.

Run as a program, because it forks: `python -m tests.key_rotation_crashes DSN KEY ORIGIN`. Prints one line of JSON for
each moment, written by the process that comes after the killed one.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from operations.model import Actor, Branch
from storage.ledger import Ledger
from storage.signer import Signer
from tests.steps import BY_ANA, denied

ADA: Final = Actor(principal="ada", branch=Branch.PEOPLE)

MOMENTS: Final = (
    ("os.link", "key.next-"),  # the new key is not there yet
    ("os.remove", ".key.next-"),  # it is there, and nothing is recorded
    ("os.rename", "key.history"),  # it is recorded, and the old one is not in the history
    ("os.link", "key.retired-"),
    ("os.rename", "key.next-"),  # the old one has a second name, and the new one is not in its place
    ("open", "key.retired-"),  # it is, and the old one is not overwritten
    ("os.remove", "key.retired-"),  # the old one is overwritten, and not removed
)


def die_at(event: str, name: str) -> None:
    """Let the process be killed just before it does `event` to a file whose name contains `name`."""

    def hook(happening: str, arguments: tuple[Any, ...]) -> None:
        if happening == event and any(isinstance(each, str | Path) and name in str(each) for each in arguments):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


async def rotate(dsn: str, key: Path, origin: str, moment: tuple[str, str] | None) -> None:
    signer = Signer.load_or_create(key, origin)
    ledger = await Ledger.open(dsn, signer, origin=origin)
    await ledger.note(denied("after"), BY_ANA)
    found = {
        "in_force": await ledger.key_in_force(),
        "file": Signer.load_or_create(key, origin).key_id,
        "keys": [period.id for period in await ledger.keys()],
        "retired": [path.name for path in key.parent.iterdir() if "retired" in path.name],
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    if moment is not None:
        die_at(*moment)
    await ledger.rotate_key(ADA, person="ada", reason="Routine.")
    await ledger.close()
    signer.close()


def main(dsn: str, key: str, origin: str) -> None:
    for moment in (*MOMENTS, None):
        child = os.fork()
        if not child:
            asyncio.run(rotate(dsn, Path(key), origin, moment))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if died == (moment is None):
            raise SystemExit(f"{moment} ended with {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
