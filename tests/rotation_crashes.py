"""Kills a rotation at every system call that changes something, and tells what the next run makes of it.

Run as a program, because it forks: `python tests/rotation_crashes.py FOLDER MODE STRIDE`. Prints one line of JSON
for each moment tried. `MODE` is `rename` or `copytruncate`.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from operations.evidence import Probe, Snapshot
from operations.playbook import Call, Target
from operations.playbooks.logs import Rotate
from operations.systems import LogFolder

CALLS = ("fsync", "rename", "ftruncate", "unlink", "write", "pwrite", "fchmod", "mkdir")
SINCE = b"written after the rotation\n"


def dying(countdown: int) -> None:
    """From here on the `countdown`-th changing system call of this process is not made: it is killed instead."""
    left = [countdown]

    def instead(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, instead(getattr(os, name)))


def apart(work: Callable[[], None]) -> int:
    """Do the work in a forked process; its exit code, negative when it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def done(work: Callable[[], None]) -> None:
    if code := apart(work):
        raise SystemExit(f"a run that nobody killed ended with {code}")


class Case:
    """One folder with two logs and the archive of an earlier rotation."""

    def __init__(self, folder: Path, mode: str, template: "Case | None" = None) -> None:
        self.folder, self.mode = folder, mode
        self.logs = folder / "logs"
        self.target = Target(LogFolder(name="logs", path=str(self.logs)))
        self.args = Rotate().parse({"mode": mode, "keep": 1})
        if template is None:
            self.logs.mkdir(parents=True)
            self.write(b"earlier ")
            done(lambda: self.run("op_0/1/1"))
            self.earlier = self.everything()
            self.write(b"present ")
            self.content = {name: (self.logs / name).read_bytes() for name in ("app.log", "web.log")}
            done(self.note)
        else:
            shutil.copytree(template.folder, folder)
            self.earlier, self.content = template.earlier, template.content
        self.snapshot = Snapshot.model_validate_json((folder / "snapshot").read_bytes())

    def again(self, name: str) -> "Case":
        """The same folder anew, as it is now."""
        return Case(self.folder.parent / name, self.mode, self)

    def write(self, word: bytes) -> None:
        for name in ("app.log", "web.log"):
            text = b"".join(b"%s line %d of %s\n" % (word, number, name.encode()) for number in range(200))
            (self.logs / name).write_bytes(text)

    def note(self) -> None:
        snapshot = asyncio.run(Rotate().before(self.args, self.target))
        (self.folder / "snapshot").write_text(snapshot.model_dump_json())

    def run(self, key: str) -> None:
        asyncio.run(Rotate().run(self.args, self.target, Call(key=key)))

    def again_under_the_same_key(self) -> None:
        happened = asyncio.run(Rotate().probe(self.args, self.target, self.snapshot, "op_1/1/1"))
        if happened is not Probe.HAPPENED:
            self.run("op_1/1/1")
        self.pass_all(Rotate().checks)

    def undo(self, key: str = "op_1/1/2") -> None:
        asyncio.run(Rotate().undo(self.args, self.target, self.snapshot, Call(key=key)))

    def undo_and_check(self) -> None:
        self.undo()
        self.pass_all(Rotate().undone)

    def pass_all(self, checks: Any) -> None:
        failed = [check for check in asyncio.run(checks(self.args, self.target, self.snapshot)) if not check.passed]
        if failed:
            raise AssertionError(failed)

    def everything(self) -> dict[str, bytes]:
        """The bytes of each log: those in archives, oldest first, then those in the log."""
        found = {}
        for log in ("app.log", "web.log"):
            names = sorted(path.name for path in (self.logs / "rotated").glob(f"{log}.*"))
            parts = [self.unpacked(self.logs / "rotated" / name) for name in names]
            found[log] = b"".join([*parts, (self.logs / log).read_bytes() if (self.logs / log).exists() else b""])
        return found

    @staticmethod
    def unpacked(path: Path) -> bytes:
        data = path.read_bytes()
        return zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data

    def now(self) -> dict[str, bytes]:
        return {name: (self.logs / name).read_bytes() for name in self.content}

    def unfinished(self) -> list[str]:
        names = [path.name for path in (self.logs / "rotated").iterdir()]
        return [name for name in names if name.startswith(".") and not name.startswith(".expired-")]


def crash_in_run(template: Case, moment: int) -> tuple[bool, dict[str, bool]]:
    """Kill a rotation at that moment; what came of it by each of the three ways on."""
    verdict, ended = {}, False
    for way in ("same key", "next run", "undo"):
        case = template.again(f"run-{moment}-{way.replace(' ', '-')}")

        def killed(case: Case = case) -> None:
            dying(moment)
            case.run("op_1/1/1")

        ended = apart(killed) == 0
        if way == "same key":
            good = apart(case.again_under_the_same_key) == 0 and case.everything() == case.content
        elif way == "next run":
            good = apart(lambda case=case: case.run("op_2/1/1")) == 0  # type: ignore[misc] # bound now, not later
            good = good and all(case.everything()[name].endswith(case.content[name][-999:]) for name in case.content)
            good = good and all(len(case.everything()[name]) in lengths(case, name) for name in case.content)
        else:
            good = apart(case.undo_and_check) == 0 and case.now() == case.content
        verdict[way] = good and not case.unfinished()
    return ended, verdict


def lengths(case: Case, name: str) -> set[int]:
    """With one archive kept, the next run may still have had the earlier archive to keep, or only the present one."""
    return {len(case.content[name]), len(case.earlier[name]) + len(case.content[name])}


def crash_in_undo(template: Case, moment: int) -> tuple[bool, dict[str, bool]]:
    """Kill an undo at that moment, and undo again."""
    case = template.again(f"undo-{moment}")

    def killed() -> None:
        dying(moment)
        case.undo()

    ended = apart(killed) == 0
    good = apart(case.undo_and_check) == 0
    good = good and case.now() == {name: text + SINCE for name, text in case.content.items()}
    return ended, {"undo again": good and not case.unfinished()}


def main(folder: Path, mode: str, stride: int) -> None:
    """Try every moment, or every `stride`-th one, until the work ends before it comes."""
    before = Case(folder / "before", mode)
    after = before.again("after")
    done(lambda: after.run("op_1/1/1"))
    for name in after.content:
        with (after.logs / name).open("ab") as log:
            log.write(SINCE)
    for crash, template in ((crash_in_run, before), (crash_in_undo, after)):
        for moment in range(1, 400, stride):
            ended, verdict = crash(template, moment)
            sys.stdout.write(json.dumps({"crash": crash.__name__, "moment": moment, "ended": ended, **verdict}) + "\n")
            if ended:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
