"""Small real playbooks on a real folder, for tests of the flow and the gate, and values to build operations from."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Probe, Snapshot
from operations.model import OperationType, Principal, PrincipalKind, Request, Role
from operations.playbook import Arguments, Call, Catalogue, Playbook, Target
from operations.systems import CacheFolder, Inventory


class NoteArguments(Arguments):
    name: str = Field(default="note", pattern=r"^[a-z]{1,20}$", description="file name without ending")
    text: str = Field(default="hello", max_length=100, description="what the file is to hold")


class WriteNote(Playbook[NoteArguments]):
    """Writes one small file; undo brings back what was there."""

    name = "note.write"
    summary = "Write a note into a folder."
    keywords: ClassVar[tuple[str, ...]] = ("note", "write")
    arguments = NoteArguments
    fits = frozenset({"cache"})
    tier = 1
    effect = Effect.IDEMPOTENT
    reversible = True
    emergency = True
    timeout = timedelta(seconds=10)
    fail_check: ClassVar[bool] = False

    def _path(self, args: NoteArguments, target: Target) -> Path:
        folder: CacheFolder = target.expect(CacheFolder)
        return Path(folder.path) / f"{args.name}.txt"

    async def preview(self, args: NoteArguments, target: Target) -> Preview:
        path = self._path(args, target)
        basis = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"
        return Preview(
            commands=(f"write {path.name}",),
            diff=f"+{args.text}",
            basis={"before": basis},
            blast_radius="One file.",
            undo="The earlier file is written back.",
        )

    async def before(self, args: NoteArguments, target: Target) -> Snapshot:
        path = self._path(args, target)
        return Snapshot(summary="the file", facts={"text": path.read_text() if path.exists() else None})

    async def run(self, args: NoteArguments, target: Target, call: Call) -> Outcome:
        path = self._path(args, target)
        if args.text == "fail":
            raise PlaybookFailed("told-to-fail", "It was told to fail.")
        changed = not path.exists() or path.read_text() != args.text
        path.write_text(args.text)
        with (path.parent / "runs").open("a") as log:
            log.write(f"{call.key}\n")
        return Outcome(summary="written", changed=changed, facts={"key": call.key})

    async def checks(self, args: NoteArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        path = self._path(args, target)
        held = path.read_text() if path.exists() else ""
        good = held == args.text and args.text != "break"
        return (
            Check(name="note-holds", passed=good, expected="the text", observed="it" if good else "something else"),
        )

    async def undo(self, args: NoteArguments, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        path = self._path(args, target)
        text = snapshot.facts["text"]
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(str(text))
        return Outcome(summary="written back", changed=True)

    async def undone(self, args: NoteArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        path = self._path(args, target)
        held = path.read_text() if path.exists() else None
        same = held == snapshot.facts["text"]
        return (Check(name="note-back", passed=same, expected="as before", observed="as before" if same else "not"),)


class WriteImportantNote(WriteNote):
    """The same, but people have to approve it."""

    name = "note.write_important"
    summary = "Write an important note into a folder."
    keywords = ("important",)
    tier = 2


class WriteRoyalNote(WriteNote):
    """The same at the highest tier."""

    name = "note.write_royal"
    summary = "Write a royal note into a folder."
    keywords = ("royal",)
    tier = 3


class SendNote(WriteNote):
    """An act that must happen at most once and cannot be asked about afterwards."""

    name = "note.send"
    summary = "Send a note, once."
    keywords = ("send",)
    effect = Effect.ONCE_BLIND
    reversible = False


class PostNote(WriteNote):
    """An act that must happen at most once and leaves a trace that a probe finds."""

    name = "note.post"
    summary = "Post a note, once."
    keywords = ("post",)
    effect = Effect.ONCE_PROBE
    reversible = False

    async def probe(self, args: NoteArguments, target: Target, snapshot: Snapshot, key: str) -> Probe:
        runs = self._path(args, target).parent / "runs"
        happened = runs.exists() and key in runs.read_text().splitlines()
        return Probe.HAPPENED if happened else Probe.NOT_HAPPENED


def sample_catalogue() -> Catalogue:
    return Catalogue([WriteNote(), WriteImportantNote(), WriteRoyalNote(), SendNote(), PostNote()])


def sample_inventory(folder: Path) -> Inventory:
    notes, other = folder / "notes", folder / "other"
    for each in (notes, other):
        each.mkdir(exist_ok=True)
    return Inventory(systems=(CacheFolder(name="notes", path=str(notes)), CacheFolder(name="other", path=str(other))))


def person(name: str, *roles: Role, alias_of: str | None = None) -> Principal:
    return Principal(id=name, kind=PrincipalKind.PERSON, roles=frozenset(roles), person=alias_of or name)


ADA = person("ada", Role.REQUESTER, Role.APPROVER)
DANA = person("dana", Role.APPROVER)
EVE = person("eve", Role.APPROVER)
OLGA = person("olga", Role.OPERATOR)
CLEO = person("cleo", Role.CROWN_OFFICER)
ROOT = person("root", Role.ADMIN)


def request(**changes: object) -> Request:
    fields: dict[str, object] = {
        "type": OperationType.MAINTENANCE,
        "description": "Write a note.",
        "systems": ("notes",),
        "playbook": "note.write",
        "rollback_plan": "Write the old text back.",
    }
    return Request.model_validate(fields | changes)
